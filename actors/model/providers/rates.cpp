#include "actors/model/providers/rates.hpp"

#include <curl/curl.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>

#include "events/codec/json.hpp"

namespace onboarding::model {
namespace {

using std::chrono::milliseconds;

constexpr double kLongestHintMs = 24 * 3'600'000.0;

std::optional<double> number(std::string_view& s) {
  double value = 0;
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), value, std::chars_format::fixed);
  if (error != std::errc() || value < 0 || !std::isfinite(value)) return std::nullopt;
  s.remove_prefix(static_cast<std::size_t>(end - s.data()));
  return value;
}

milliseconds rounded_up(double ms) { return milliseconds(static_cast<std::int64_t>(std::ceil(std::min(ms, kLongestHintMs)))); }

std::optional<std::chrono::sys_seconds> http_date(std::string_view s) {
  const auto seconds = s.empty() ? -1 : curl_getdate(std::string(s).c_str(), nullptr);
  if (seconds < 0) return std::nullopt;
  return std::chrono::sys_seconds(std::chrono::seconds(seconds));
}

template <class Time>
milliseconds from_date(const HttpReply& reply, Time until) {
  const auto date = http_date(reply.header("date"));
  if (!date || until <= *date) return {};
  return rounded_up(static_cast<double>(std::chrono::duration_cast<milliseconds>(until - *date).count()));
}

// United States: from the second Sunday of March to the first of November, changing at two in the morning.
bool is_daylight_saving(std::chrono::sys_seconds utc) {
  using namespace std::chrono;
  const auto year = year_month_day(floor<days>(utc - hours(8))).year();
  const sys_seconds begins = sys_days(year / March / Sunday[2]) + hours(2 + 8);
  const sys_seconds ends = sys_days(year / November / Sunday[1]) + hours(2 + 7);
  return begins <= utc && utc < ends;
}

void read_reset(const HttpReply& reply, std::string_view value, const std::string& limit, CallResult& result) {
  auto reset = parse_go_duration(value);
  if (!reset)
    if (const auto time = codec::parse_time(value)) reset = from_date(reply, *time);
  if (!reset) return;
  auto& kept = result.reset[limit];
  kept = std::max(kept, *reset);
}

void read_count(std::string_view value, const std::string& limit, std::map<std::string, std::int64_t>& into) {
  std::int64_t n = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), n);
  if (error != std::errc() || end != value.data() + value.size() || n < 0) return;
  const auto [kept, is_new] = into.emplace(limit, n);
  if (!is_new) kept->second = std::min(kept->second, n);
}

}  // namespace

std::optional<milliseconds> parse_go_duration(std::string_view s) {
  static constexpr std::pair<std::string_view, double> kUnits[] = {{"ms", 1},  {"us", 1e-3}, {"µs", 1e-3}, {"ns", 1e-6},
                                                                   {"s", 1e3}, {"m", 6e4},   {"h", 3.6e6}};
  double ms = 0;
  if (s.empty()) return std::nullopt;
  while (!s.empty()) {
    const auto value = number(s);
    const auto unit =
        std::find_if(std::begin(kUnits), std::end(kUnits), [&](const auto& u) { return s.substr(0, u.first.size()) == u.first; });
    if (!value || unit == std::end(kUnits)) return std::nullopt;
    s.remove_prefix(unit->first.size());
    ms += *value * unit->second;
  }
  return rounded_up(ms);
}

milliseconds retry_hint(const HttpReply& reply, std::string_view text) {
  static constexpr std::pair<std::string_view, double> kHeaders[] = {{"retry-after-ms", 1}, {"retry-after", 1000}};
  for (const auto& [name, unit] : kHeaders) {
    auto value = reply.header(name);
    const auto n = number(value);
    if (n && value.empty()) return rounded_up(*n * unit);
  }
  if (const auto date = http_date(reply.header("retry-after"))) return from_date(reply, *date);
  for (const std::string_view words : {"try again in ", "retry in "}) {
    const auto at = text.find(words);
    if (at == text.npos) continue;
    auto rest = text.substr(at + words.size());
    rest = rest.substr(0, std::min(rest.find_first_of(" ,;"), rest.size()));
    while (!rest.empty() && rest.back() == '.') rest.remove_suffix(1);
    if (const auto duration = parse_go_duration(rest)) return *duration;
  }
  return {};
}

milliseconds until_pacific_midnight(const HttpReply& reply) {
  using namespace std::chrono;
  const auto date = http_date(reply.header("date"));
  if (!date) return hours(1);
  const auto offset = hours(is_daylight_saving(*date) ? 7 : 8);
  sys_seconds midnight = ceil<days>(*date - offset + seconds(1)) + offset;
  if (is_daylight_saving(midnight) != is_daylight_saving(*date)) midnight += is_daylight_saving(*date) ? hours(1) : -hours(1);
  return midnight - *date;
}

void read_rate_headers(const HttpReply& reply, CallResult& result) {
  constexpr std::string_view kOpenAi = "x-ratelimit-", kAnthropic = "anthropic-ratelimit-";
  for (const auto& [name, value] : reply.headers) {
    std::string_view what, limit = name;
    if (name.compare(0, kOpenAi.size(), kOpenAi) == 0) {  // x-ratelimit-remaining-tokens
      limit.remove_prefix(kOpenAi.size());
      const auto dash = limit.find('-');
      what = limit.substr(0, dash);
      limit = dash == limit.npos ? std::string_view() : limit.substr(dash + 1);
      if (limit == "project-tokens") limit = "tokens";
    } else if (name.compare(0, kAnthropic.size(), kAnthropic) == 0) {  // anthropic-ratelimit-input-tokens-remaining
      limit.remove_prefix(kAnthropic.size());
      const auto dash = limit.rfind('-');
      what = dash == limit.npos ? std::string_view() : limit.substr(dash + 1);
      limit = limit.substr(0, dash);
    }
    if (limit != "requests" && limit != "tokens" && limit != "input-tokens" && limit != "output-tokens") continue;
    if (what == "remaining") read_count(value, std::string(limit), result.remaining);
    if (what == "limit") read_count(value, std::string(limit), result.limits);
    if (what == "reset") read_reset(reply, value, std::string(limit), result);
  }
}

}  // namespace onboarding::model
