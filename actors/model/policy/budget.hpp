// A provider's budget: how much may be asked of it now. Pure: no clock, no thread; time is handed in and never goes back.
//
// Each limit is kept twice. A bucket with continuous refill smooths (at most `burst_seconds` of it at once), and a sliding
// window counts what was really taken, so that no window of a minute (a day) ever holds more than the limit, not even
// the one that begins with a burst. A day has the window only: its budget may be used at any speed.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "actors/model/policy/lease.hpp"

namespace onboarding::model {

/// One limit. Amounts over the limit count as the limit: what can never fit is tried, not starved.
class RateLimit {
 public:
  /// `burst_seconds` 0: no smoothing. The bucket starts empty: what was used before a restart is not known.
  RateLimit(std::int64_t limit, std::chrono::nanoseconds window, double burst_seconds, Instant start);

  bool admits(std::int64_t amount, Instant now);
  /// When admits() will hold if nothing else is taken; not before `now`.
  Instant admits_at(std::int64_t amount, Instant now);
  void take(std::int64_t amount, Instant now);
  /// Corrects what was taken at `taken_at`: positive gives back, negative takes more (even over the limit).
  void give_back(std::int64_t amount, Instant taken_at, Instant now);
  /// The provider says that only so much is left: somebody else uses it too. Never raises what is left.
  void at_most_remaining(std::int64_t remaining, Instant now);

  std::int64_t used(Instant now);  // in the window
  std::int64_t limit() const { return limit_; }

 private:
  std::int64_t clamp(std::int64_t amount) const { return amount < limit_ ? amount : limit_; }
  std::int64_t slot_of(Instant) const;
  Instant slot_begin(std::int64_t index) const;
  std::int64_t& slot(std::int64_t index) { return slots_[static_cast<std::size_t>(index) % slots_.size()]; }
  void advance(Instant now);

  std::int64_t limit_;
  std::int64_t slot_;  // nanoseconds
  double per_ns_;      // refill
  double capacity_;    // 0: no bucket
  double level_ = 0;
  Instant last_;
  std::int64_t newest_;  // slot index of last_
  std::int64_t used_ = 0;
  std::vector<std::int64_t> slots_;
};

struct Cost {
  std::int64_t input_tokens = 0, output_tokens = 0;
};

/// What a lease holds of a budget until it is settled.
struct Reservation {
  Cost cost;
  Instant taken_at;
};

/// All limits of one provider. A reservation takes of every one or of none.
class Budget {
 public:
  Budget(const ProviderSettings&, Instant start);

  bool admits(const Cost&, Instant now);
  /// Instant::max() when only the end of a call can free a place.
  Instant admits_at(const Cost&, Instant now);
  /// admits() holds.
  Reservation reserve(const Cost&, Instant now);
  /// Ends a reservation. Sent calls cost what the provider counted, or the whole estimate where it did not say; a call that
  /// never left costs nothing.
  void settle(const Reservation&, bool was_sent, std::int64_t input_tokens, std::int64_t output_tokens, Instant now);
  /// Rate headers: names "requests", "tokens", "input-tokens", "output-tokens".
  void at_most_remaining(const std::map<std::string, std::int64_t>&, Instant now);
  /// The provider said no: nothing before this time. The later of several counts.
  void hold_until(Instant);

  std::int64_t in_flight() const { return in_flight_; }
  std::int64_t reserved_tokens() const { return reserved_tokens_; }  // of leases not yet settled

 private:
  enum Dimension { requests_minute, requests_day, tokens, input_tokens, output_tokens, dimensions };
  std::int64_t amount(Dimension, const Cost&) const;

  std::array<std::optional<RateLimit>, dimensions> limits_;
  std::int64_t max_concurrent_;
  std::int64_t in_flight_ = 0, reserved_tokens_ = 0;
  Instant hold_until_{};
};

}  // namespace onboarding::model
