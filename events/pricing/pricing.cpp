#include "events/pricing/pricing.hpp"

#include <algorithm>
#include <charconv>

#include "events/codec/codec.hpp"
#include "events/codec/json.hpp"
#include "events/domain/assertion.hpp"

namespace onboarding::pricing {

namespace {

using codec::find_member;
using codec::string_member;
using rapidjson::Value;

// No call uses more, none costs more: what one costs fits in 63 bits of picodollars.
constexpr std::int64_t max_tokens = 1'000'000'000;
constexpr std::int64_t max_picodollars = 1'000'000'000;  // a token: 1,000 dollars a million

tl::unexpected<Failure> wrong(std::string what) {
  return tl::unexpected(Failure{codec::Errc::malformed, "prices: " + std::move(what)});
}

/// "0.125" dollars a million tokens are 125,000 picodollars a token: six places are exact, more are refused.
std::optional<std::int64_t> picodollars(std::string_view dollars) {
  const std::size_t point = std::min(dollars.find('.'), dollars.size());
  std::string digits(dollars.substr(0, point));
  std::string places(point < dollars.size() ? dollars.substr(point + 1) : "");
  if (digits.empty() || places.size() > 6) return std::nullopt;
  places.resize(6, '0');
  digits += places;
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size() || value < 0 || value > max_picodollars) return std::nullopt;
  return value;
}

std::optional<std::chrono::sys_days> day_of(std::string_view text) {
  const auto time = codec::parse_time(std::string(text) + "T00:00:00Z");
  if (!time) return std::nullopt;
  return std::chrono::floor<std::chrono::days>(*time);
}

/// Providers name a model's state of a day with digits after it: claude-haiku-4-5-20251001.
bool is_dated_name(std::string_view name, std::string_view model) {
  if (!name.starts_with(model) || name.size() < model.size() + 4 || name[model.size()] != '-') return false;
  const auto rest = name.substr(model.size() + 1);
  return std::all_of(rest.begin(), rest.end(), [](char c) { return c == '-' || (c >= '0' && c <= '9'); });
}

/// Of Anthropic's usage object: the cached tokens that were written to stay for an hour.
std::int64_t written_for_an_hour(const std::string& raw) {
  if (raw.find("ephemeral_1h_input_tokens") == std::string::npos) return 0;
  const auto usage = codec::parse_json(raw);
  const Value* creation = usage && usage->IsObject() ? find_member(*usage, "cache_creation") : nullptr;
  return creation != nullptr && creation->IsObject() ? codec::int_member(*creation, "ephemeral_1h_input_tokens") : 0;
}

}  // namespace

struct PriceTable::Reader {
  PriceTable table;

  result<void> band(const std::string& name, const Value& value) {
    Band band;
    if (!value.IsObject()) return wrong("a band is no object");
    const Value *weekdays = find_member(value, "weekdays"), *hours = find_member(value, "hours_utc"),
                *except = find_member(value, "except_dates");
    if (weekdays == nullptr || !weekdays->IsArray() || hours == nullptr || !hours->IsArray())
      return wrong("a band without weekdays or hours");
    for (const Value& day : weekdays->GetArray()) {
      if (!day.IsInt() || day.GetInt() < 1 || day.GetInt() > 7) return wrong("a weekday is 1 to 7");
      band.weekdays |= 1U << day.GetInt();
    }
    for (const Value& pair : hours->GetArray()) {
      if (!pair.IsArray() || pair.Size() != 2 || !pair[0].IsInt() || !pair[1].IsInt()) return wrong("hours are pairs");
      band.hours.emplace_back(pair[0].GetInt(), pair[1].GetInt());
    }
    if (except != nullptr && !except->IsArray()) return wrong("except_dates are no list");
    for (rapidjson::SizeType i = 0; except != nullptr && i < except->Size(); ++i) {
      const auto day = (*except)[i].IsString() ? day_of((*except)[i].GetString()) : std::nullopt;
      if (!day) return wrong("an exception is no date");
      band.except.push_back(*day);
    }
    table.bands_.emplace(name, std::move(band));
    return {};
  }

  result<Price> price(const Value& value) const {
    if (!value.IsObject()) return wrong("a price is no object");
    Price price;
    price.above_prompt_tokens = codec::int_member(value, "above_prompt_tokens", -1);
    price.band = string_member(value, "band");
    if (!price.band.empty() && !table.bands_.contains(price.band)) return wrong("an unknown band");
    const auto read = [&](const char* member, std::int64_t& to, std::optional<std::int64_t> otherwise) {
      const Value* text = find_member(value, member);
      const auto amount = text == nullptr ? otherwise : text->IsString() ? picodollars(text->GetString()) : std::nullopt;
      to = amount.value_or(0);
      return amount.has_value();
    };
    // What has no price of its own costs what plain input costs.
    if (!read("input", price.input, std::nullopt) || !read("output", price.output, std::nullopt) ||
        !read("cached", price.cached, price.input) || !read("write", price.write, price.input) ||
        !read("write_1h", price.write_1h, price.write)) {
      return wrong("a price is missing, or is no amount with at most six places");
    }
    return price;
  }

  result<void> model(const Value& value) {
    if (!value.IsObject()) return wrong("a model is no object");
    Entry entry{std::string(string_member(value, "provider")), std::string(string_member(value, "model")), {}, {}};
    const auto from = day_of(string_member(value, "from", "1970-01-01"));
    const Value *prices = find_member(value, "prices"), *also = find_member(value, "also");
    if (entry.provider.empty() || entry.model.empty() || !from)
      return wrong("a model without a name, or from a day that is no date");
    entry.from = *from;
    if (prices == nullptr || !prices->IsArray() || prices->Empty()) return wrong(entry.model + " has no prices");
    for (const Value& one : prices->GetArray()) {
      auto read = price(one);
      if (!read) return wrong(entry.model + ": " + read.error().detail);
      entry.prices.push_back(std::move(*read));
    }
    const Price& first = entry.prices.front();
    if (first.above_prompt_tokens >= 0 || !first.band.empty()) return wrong(entry.model + ": the first price applies always");
    if (also != nullptr && !also->IsArray()) return wrong(entry.model + ": also is no list");
    for (rapidjson::SizeType i = 0; also != nullptr && i < also->Size(); ++i) {
      if (!(*also)[i].IsString()) return wrong(entry.model + ": another name is no text");
      table.entries_.push_back(entry);
      table.entries_.back().model = (*also)[i].GetString();
    }
    table.entries_.push_back(std::move(entry));
    return {};
  }
};

result<PriceTable> PriceTable::parse(std::string_view json) {
  const auto document = codec::parse_json(json);
  if (!document) return tl::unexpected(document.error());
  if (!document->IsObject()) return wrong("not an object");
  Reader reader;
  reader.table.version_ = string_member(*document, "version");
  const Value *bands = find_member(*document, "bands"), *models = find_member(*document, "models");
  if (!day_of(reader.table.version_)) return wrong("the version is no date");
  if (bands != nullptr && !bands->IsObject()) return wrong("bands are no object");
  if (models == nullptr || !models->IsArray() || models->Empty()) return wrong("no models");
  if (bands != nullptr) {
    for (const auto& [name, value] : bands->GetObject()) {
      if (auto read = reader.band(name.GetString(), value); !read) return tl::unexpected(read.error());
    }
  }
  for (const Value& model : models->GetArray()) {
    if (auto read = reader.model(model); !read) return tl::unexpected(read.error());
  }
  return std::move(reader.table);
}

const PriceTable::Entry* PriceTable::find(std::string_view provider, std::string_view model, Day day) const {
  const Entry* best = nullptr;
  const auto better = [&](const Entry& entry) {
    if (best == nullptr) return true;
    const bool exact = entry.model == model, best_exact = best->model == model;
    return exact != best_exact                        ? exact
           : entry.model.size() != best->model.size() ? entry.model.size() > best->model.size()
                                                      : entry.from > best->from;
  };
  for (const Entry& entry : entries_) {
    const bool named = entry.model == model || entry.model == "*" || is_dated_name(model, entry.model);
    if (entry.provider == provider && named && entry.from <= day && better(entry)) best = &entry;
  }
  return best;
}

bool PriceTable::applies(const Price& price, std::int64_t prompt_tokens, domain::Timestamp at) const {
  if (prompt_tokens <= price.above_prompt_tokens) return false;
  if (price.band.empty()) return true;
  const Band& band = bands_.find(price.band)->second;
  const Day day = std::chrono::floor<std::chrono::days>(at);
  const auto hour = std::chrono::floor<std::chrono::hours>(at - day).count();
  return (band.weekdays >> std::chrono::weekday(day).iso_encoding() & 1U) != 0 &&
         std::find(band.except.begin(), band.except.end(), day) == band.except.end() &&
         std::any_of(band.hours.begin(), band.hours.end(),
                     [&](const auto& hours) { return hour >= hours.first && hour < hours.second; });
}

std::optional<std::int64_t> PriceTable::cost_nanodollars(std::string_view provider, std::string_view model,
                                                         const domain::Usage& usage, domain::Timestamp at) const {
  const Entry* entry = find(provider, model, std::chrono::floor<std::chrono::days>(at));
  if (entry == nullptr) return std::nullopt;
  if (entry->model == "*" && usage.input_tokens < 0 && usage.output_tokens < 0) return 0;  // nobody counts what is ours
  if (usage.input_tokens < 0 || usage.output_tokens < 0 || usage.input_tokens > max_tokens || usage.output_tokens > max_tokens)
    return std::nullopt;
  const Price* price = nullptr;
  for (const Price& candidate : entry->prices) {
    if (applies(candidate, usage.input_tokens, at)) price = &candidate;
  }
  ONBOARDING_ASSERT(price != nullptr, "an entry's first price applies always");
  // Parts are never more than the whole, whatever a provider says.
  const std::int64_t cached = std::clamp<std::int64_t>(usage.cached_input_tokens, 0, usage.input_tokens);
  const std::int64_t written = std::clamp<std::int64_t>(usage.cache_write_tokens, 0, usage.input_tokens - cached);
  const std::int64_t for_an_hour = std::clamp<std::int64_t>(written_for_an_hour(usage.raw), 0, written);
  const std::int64_t pico = (usage.input_tokens - cached - written) * price->input + cached * price->cached +
                            (written - for_an_hour) * price->write + for_an_hour * price->write_1h +
                            usage.output_tokens * price->output;
  return (pico + 500) / 1000;
}

}  // namespace onboarding::pricing
