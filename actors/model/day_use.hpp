// What was used of limits a day, and the server's place in the books of shared limits, for whoever keeps it over a restart. Plain values.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace onboarding::model {

/// Of the last 24 hours, by the limit's name ("openai/gpt-6-luna/requests_per_day", "openai/spent", "plan/free"): amounts by the
/// second (since the epoch) at which they were used, oldest first.
struct DayUse {
  struct Entry {
    std::vector<std::pair<std::int64_t, std::int64_t>> used;
    std::int64_t margin = 0;  // what may have been used since this was kept, when nothing was kept after it
  };
  std::map<std::string, Entry> of;
  /// The slot that the books gave to this server when it last asked; none: it has none, or limits are not shared.
  struct Slot {
    std::uint32_t number = 0;
    std::int64_t asked_at = 0;  // seconds since the epoch, by this server's clock
    std::string books;          // SupervisorOptions::books
  };
  std::optional<Slot> slot;
};

/// Keeps it, and returns at once. `last`: the process ends, nothing is used any more.
using KeepDayUse = std::function<void(DayUse, bool last)>;

}  // namespace onboarding::model
