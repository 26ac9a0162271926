// What a model call cost, from a dated table (prices.json, list prices). Pure, integers only: the same call costs the same
// whoever asks and however often a history is replayed; a newer table re-costs an old history.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "events/domain/events.hpp"
#include "events/domain/result.hpp"

namespace onboarding::pricing {

/// Immutable once parsed; any thread.
class PriceTable {
 public:
  /// The format of prices.json (README.md); the detail of an error says which entry.
  static result<PriceTable> parse(std::string_view json);

  /// Nullopt: the model is not in the table at that time, or the provider did not say what the call used.
  /// Cached and written tokens are parts of `input_tokens`; how many were written for an hour is read from `usage.raw`.
  std::optional<std::int64_t> cost_nanodollars(std::string_view provider, std::string_view model, const domain::Usage&,
                                               domain::Timestamp at) const;
  /// The date of the table.
  const std::string& version() const { return version_; }

 private:
  using Day = std::chrono::sys_days;
  struct Band {                              // UTC
    unsigned weekdays = 0;                   // bit of the ISO weekday: 1 Monday … 7 Sunday
    std::vector<std::pair<int, int>> hours;  // from, before
    std::vector<Day> except;
  };
  /// Picodollars a token.
  struct Price {
    std::int64_t above_prompt_tokens = -1;
    std::string band;  // empty: always
    std::int64_t input = 0, cached = 0, write = 0, write_1h = 0, output = 0;
  };
  struct Entry {
    std::string provider, model;  // "*": any model
    Day from;
    std::vector<Price> prices;  // the last one that applies is the price
  };
  struct Reader;
  const Entry* find(std::string_view provider, std::string_view model, Day) const;
  bool applies(const Price&, std::int64_t prompt_tokens, domain::Timestamp at) const;

  std::string version_;
  std::map<std::string, Band, std::less<>> bands_;
  std::vector<Entry> entries_;
};

/// The table that the program was built with.
const PriceTable& shipped_prices();

inline std::optional<std::int64_t> cost_nanodollars(std::string_view provider, std::string_view model, const domain::Usage& usage,
                                                    domain::Timestamp at) {
  return shipped_prices().cost_nanodollars(provider, model, usage, at);
}
inline const std::string& price_version() { return shipped_prices().version(); }

}  // namespace onboarding::pricing
