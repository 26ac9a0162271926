// A provider's circuit breaker. Pure. Closed: all may call. After kFailuresToOpen failures in a row it opens; once its time
// is over one probe may call, and decides. Refusals of our own budget and a provider's 429 are no failures: they are the
// budget's business.
#pragma once

#include <chrono>
#include <cstdint>

#include "actors/model/policy/lease.hpp"

namespace onboarding::model {

class Breaker {
 public:
  static constexpr std::uint32_t kFailuresToOpen = 5;
  static constexpr std::chrono::seconds kFirstOpen{10}, kLongestOpen{300};
  /// No money or no valid key: nothing that a second try would heal.
  static constexpr std::chrono::minutes kOpenForLong{15};

  bool admits(Instant now) const { return failures_ < kFailuresToOpen || (now >= open_until_ && !probing_); }
  bool closed() const { return failures_ < kFailuresToOpen; }
  /// When a probe may go; meaningful while open.
  Instant open_until() const { return open_until_; }

  /// A call was let through; true when it is the probe, which must end in one of the verdicts below.
  bool begin();
  void succeeded();
  /// True when this opened it.
  bool failed(Instant now, bool was_probe);
  /// True unless it was known: an alert is raised once, and again when a later probe fails the same way.
  bool failed_for_long(Instant now, bool was_probe);
  /// The probe ended without a verdict (cancelled, rate limited): another may go.
  void undecided(bool was_probe);

 private:
  std::uint32_t failures_ = 0;  // in a row
  std::chrono::seconds open_for_ = kFirstOpen;
  Instant open_until_{};
  bool probing_ = false;
};

}  // namespace onboarding::model
