// A provider's budget for one model: how much may be asked of it now. Pure: no clock, no thread; time is handed in and never
// goes back.
//
// Each limit a minute is kept twice. A bucket with continuous refill smooths (at most `burst_seconds` of it at once; where one
// call is dearer than that, two such calls, or the window's and the bucket's waits would add up), and a
// sliding window counts what was really taken, so that no window of a minute ever holds more than the limit, not even the one
// that begins with a burst. A day has the window only (any 24 hours): its budget may be used at any speed.
//
// After a restart nobody knows what was used before. The bucket starts in debt by all that it holds, and where one call is dearer
// than that, twice by what it is dearer (at most half a minute's limit): since the process before kept to the same bucket, what both took in
// any minute stays within the limit, without a wait of a whole minute. Its calls in flight are thought to end evenly within
// kPredecessorsCalls: as many places are there.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "actors/model/policy/lease.hpp"

namespace onboarding::model {

/// One limit. Amounts over the limit count as the limit: what can never fit is tried, not starved.
class RateLimit {
 public:
  /// `burst_seconds` 0: no smoothing.
  RateLimit(std::int64_t limit, std::chrono::nanoseconds window, double burst_seconds, Instant start);

  bool admits(std::int64_t amount, Instant now) { return admits_at(amount, now) <= now; }
  /// When admits() will hold if nothing else is taken; not before `now`.
  Instant admits_at(std::int64_t amount, Instant now);
  /// What counts of an amount.
  std::int64_t clamp(std::int64_t amount) const { return amount < limit_ ? amount : limit_; }
  void take(std::int64_t amount, Instant now);
  /// Corrects what was taken at `taken_at`: positive gives back, negative takes more (even over the limit; the bucket is in debt for one
  /// window at most, since the provider forgets then, too).
  void give_back(std::int64_t amount, Instant taken_at, Instant now);
  /// The provider says that only so much is left, until all is there again after `reset` (0: unknown): somebody else uses it
  /// too. Never raises what is left.
  void at_most_remaining(std::int64_t remaining, std::chrono::nanoseconds reset, Instant now);
  /// At any time; what was taken stays taken.
  void change(std::int64_t limit, Instant now);

  std::int64_t used(Instant now);  // in the window
  /// How long ago how much of it was used, oldest first; and the way back, after a restart.
  std::vector<std::pair<std::chrono::nanoseconds, std::int64_t>> history(Instant now);
  void restore(std::chrono::nanoseconds age, std::int64_t amount, Instant now);
  std::int64_t limit() const { return limit_; }
  /// How much it will have admitted by then, at full use: for forecasts.
  double available(std::chrono::nanoseconds ahead, Instant now);

 private:
  std::int64_t slot_of(Instant) const;
  Instant slot_begin(std::int64_t index) const;
  std::int64_t& slot(std::int64_t index) { return slots_[static_cast<std::size_t>(index) % slots_.size()]; }
  void advance(Instant now);
  void derive();

  std::int64_t limit_;
  std::int64_t window_, slot_;  // nanoseconds
  double burst_seconds_;
  double per_ns_ = 0;    // refill
  double capacity_ = 0;  // 0: no bucket
  double dearest_ = 0;   // call asked for lately
  double owed_ = 0;      // bucket thought to have been used by the process before
  double level_ = 0;
  bool fresh_ = true;  // nothing was asked for yet
  Instant start_, last_;
  std::int64_t newest_;  // slot index of last_
  std::int64_t used_ = 0;
  std::vector<std::int64_t> slots_;
};

/// What a call is thought to cost.
struct Cost {
  std::int64_t input_tokens = 0;
  std::int64_t output_tokens = 0;  // as estimated
  std::int64_t output_cap = 0;     // what the provider is told to stop at
  std::int64_t nanodollars = 0;
};

/// What it did cost. -1: the provider did not say, so the estimate stands.
struct Spent {
  bool was_sent = true;  // a call that never left costs nothing
  bool refused = false;  // the provider answered with an error
  std::int64_t input_tokens = -1, cached_input_tokens = 0, output_tokens = -1, nanodollars = -1;
};

enum class Dimension : std::uint8_t {
  requests_per_minute,
  requests_per_day,
  tokens_per_minute,
  input_tokens_per_minute,
  output_tokens_per_minute,
  spend_per_day_nanodollars
};
inline constexpr std::size_t kDimensions = 6;
std::string_view to_string(Dimension);

/// What a lease holds of a budget until it is settled.
struct Reservation {
  Cost cost;
  Instant taken_at;
  std::array<std::int64_t, kDimensions> taken{};
};

/// All limits of one provider for one model. A reservation takes of every one or of none. Which part of a call counts, the
/// provider's `Counting` says: where it reserves the answer's cap, the cap is what a call costs; where it counts the real output,
/// the estimate is reserved, and what was produced within the last minute is kept too, since that is what the provider sees.
class Budget {
 public:
  static constexpr std::chrono::seconds kPredecessorsCalls{3};
  static constexpr std::chrono::minutes kToldFor{10};

  Budget(const ProviderSettings&, Instant start);

  bool admits(const Cost& cost, Instant now) { return admits_at(cost, now) <= now; }
  /// Instant::max() when only the end of a call can free a place.
  Instant admits_at(const Cost&, Instant now);
  /// The same for somebody who only wants to know: nothing is learned of it. Now, where only the end of a call can free a place.
  Instant would_admit(const Cost&, Instant now) const;
  /// Whether a call of this cost stays within every limit by itself. Where the limit is the provider's whole, what is dearer is tried
  /// all the same; of a share of it, it would break the others'.
  bool fits(const Cost&) const;
  /// What its windows will have left after such a call, of the limit that is shortest, as a part of it; negative: it does not fit.
  double left_after(const Cost&, Instant now);
  /// admits() holds.
  Reservation reserve(const Cost&, Instant now);
  void settle(const Reservation&, const Spent&, Instant now);

  /// Rate headers: names "requests", "tokens", "input-tokens", "output-tokens". A limit that is lower than ours is kept to, until headers
  /// tell another or none tells it for kToldFor; the names of the limits that changed by it are returned.
  std::vector<std::string> correct(const std::map<std::string, std::int64_t>& remaining,
                                   const std::map<std::string, std::int64_t>& limits,
                                   const std::map<std::string, std::chrono::milliseconds>& reset, Instant now);
  /// Somebody who knows better has set the limits.
  void forget_told();
  /// The provider said no: nothing before this time. The later of several counts.
  void hold_until(Instant);
  /// Somebody who knows better ends the provider's pause.
  void end_hold() { hold_until_ = {}; }
  /// New limits, at any time: a run-time change, or another share of a limit that several servers have together.
  void change(const ProviderSettings&, Instant now);

  Instant held_until() const { return hold_until_; }
  std::int64_t in_flight() const { return in_flight_; }
  std::int64_t reserved_tokens() const { return reserved_tokens_; }  // of leases not yet settled
  struct Use {
    std::string_view name;
    std::int64_t limit = 0, used = 0;
  };
  std::vector<Use> use(Instant now);
  /// The limits a day that there are; what was taken of them stays what it is.
  std::vector<std::pair<std::string_view, RateLimit*>> days();
  /// How many calls of this cost and latency it will have admitted by then, at full use: for forecasts.
  double calls_within(std::chrono::nanoseconds ahead, const Cost&, std::chrono::nanoseconds latency, Instant now);

 private:
  struct Limit {
    std::int64_t configured = 0;  // 0: none
    std::int64_t told = 0;        // by the provider; 0: it did not say
    Instant told_at{};
    std::optional<RateLimit> rate;
    std::int64_t in_force() const { return told > 0 && told < configured ? told : configured; }
  };
  Limit& limit(Dimension d) { return limits_[static_cast<std::size_t>(d)]; }
  std::int64_t amount(Dimension, const Cost&) const;
  std::int64_t amount(Dimension, const Cost&, const Spent&) const;
  void apply(Dimension, Instant now);
  void expire_told(Instant now);

  Counting counting_;
  Instant start_;
  double burst_seconds_ = 1;
  std::array<Limit, kDimensions> limits_;
  std::optional<RateLimit> produced_;  // real output by the time it was there
  std::int64_t max_concurrent_ = 0;
  std::int64_t in_flight_ = 0, reserved_tokens_ = 0;
  Instant hold_until_{};
};

}  // namespace onboarding::model
