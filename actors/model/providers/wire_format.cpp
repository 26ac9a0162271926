#include "actors/model/providers/wire_format.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>

namespace onboarding::model {
namespace {

constexpr double kLongestHintMs = 24 * 3'600'000.0;

std::optional<double> number(std::string_view& s) {
  double value = 0;
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), value, std::chars_format::fixed);
  if (error != std::errc() || value < 0 || !std::isfinite(value)) return std::nullopt;
  s.remove_prefix(static_cast<std::size_t>(end - s.data()));
  return value;
}

std::chrono::milliseconds rounded_up(double ms) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(std::ceil(std::min(ms, kLongestHintMs))));
}

}  // namespace

std::optional<std::chrono::milliseconds> parse_go_duration(std::string_view s) {
  static constexpr std::pair<std::string_view, double> kUnits[] = {
      {"ms", 1}, {"us", 1e-3}, {"µs", 1e-3}, {"ns", 1e-6}, {"s", 1e3}, {"m", 6e4}, {"h", 3.6e6}};
  double ms = 0;
  if (s.empty()) return std::nullopt;
  while (!s.empty()) {
    const auto value = number(s);
    const auto unit = std::find_if(std::begin(kUnits), std::end(kUnits), [&](const auto& u) { return s.substr(0, u.first.size()) == u.first; });
    if (!value || unit == std::end(kUnits)) return std::nullopt;
    s.remove_prefix(unit->first.size());
    ms += *value * unit->second;
  }
  return rounded_up(ms);
}

std::chrono::milliseconds retry_hint(const HttpReply& reply, std::string_view text, std::string_view words) {
  static constexpr std::pair<std::string_view, double> kHeaders[] = {{"retry-after-ms", 1}, {"retry-after", 1000}};
  for (const auto& [name, unit] : kHeaders) {
    auto value = reply.header(name);
    const auto n = number(value);
    if (n && value.empty()) return rounded_up(*n * unit);
  }
  const auto at = text.find(words);
  if (at == text.npos) return {};
  auto rest = text.substr(at + words.size());
  rest = rest.substr(0, std::min(rest.find_first_of(" ,;"), rest.size()));
  while (!rest.empty() && rest.back() == '.') rest.remove_suffix(1);
  return parse_go_duration(rest).value_or(std::chrono::milliseconds(0));
}

std::string loggable_code(std::string_view code) {
  std::string out;
  for (const unsigned char c : code.substr(0, 64))
    if (std::isalnum(c) || c == '_' || c == '.' || c == '-') out += static_cast<char>(c);
  return out;
}

}  // namespace onboarding::model
