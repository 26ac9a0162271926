// A provider's circuit breaker. Pure. Closed: all may call. After kFailuresToOpen failures in a row it opens; once its time
// is over one probe may call. Its success begins the ramp: so many calls at once as seconds' powers of two (1, 2, 4 …), until after
// kRamp all may. Two failures in a row on the ramp open it again, for longer. Refusals of our own budget and a provider's 429 are
// no failures: they are the budget's business.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <string_view>

#include "actors/model/policy/lease.hpp"

namespace onboarding::model {

class Breaker {
 public:
  static constexpr std::uint32_t kFailuresToOpen = 5;
  static constexpr std::uint32_t kFailuresOnRamp = 2;
  static constexpr std::chrono::seconds kFirstOpen{10}, kLongestOpen{300};
  static constexpr std::chrono::seconds kRamp{10};
  /// No money or no valid key: nothing that a second try would heal.
  static constexpr std::chrono::minutes kOpenForLong{15};

  /// Whether it is worth waiting for: closed, or a probe may go now.
  bool admits(Instant now) const { return closed() || (now >= open_until_ && !probing_); }
  bool closed() const { return !open_; }
  /// How many calls may be in flight now.
  std::int64_t most_in_flight(Instant now) const;
  /// Until most_in_flight() allows more; meaningful on the ramp.
  Instant next_step(Instant now) const;
  bool ramping(Instant now) const { return closed() && now < ramp_began_ + kRamp; }
  /// When a probe may go; meaningful while open.
  Instant open_until() const { return open_until_; }
  std::string_view state(Instant now) const;

  /// A call was let through; true when it is the probe, which must end in one of the verdicts below.
  bool begin();
  /// True when this closed it.
  bool succeeded(Instant now, bool was_probe);
  /// True when this opened it.
  bool failed(Instant now, bool was_probe);
  /// True unless it was known: an alert is raised once, and again when a later probe fails the same way.
  bool failed_for_long(Instant now, bool was_probe);
  /// The probe ended without a verdict (cancelled, rate limited): another may go.
  void undecided(bool was_probe);
  /// The provider wants a slower start than we made.
  void ramp_from(Instant t) { ramp_began_ = std::max(ramp_began_, t); }
  /// Somebody changed something: a probe may go now.
  void retry_now(Instant now);

 private:
  bool open_ = false, probing_ = false;
  std::uint32_t failures_ = 0;  // in a row
  std::chrono::seconds open_for_{0};
  Instant open_until_{};
  Instant ramp_began_ = Instant(-kRamp);
};

}  // namespace onboarding::model
