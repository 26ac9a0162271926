// How long somebody at a place in the queue will wait: an honest ETA. Pure. The queue ahead, with those who come back before, is
// drained by what the budgets refill and what the calls in flight give back, each call at the learned mean cost and latency; the answer's own latency is
// added. A factor corrects it by itself: forecasts are scaled so that kToldTooShort of the turns take longer than was said.
#pragma once

#include <cstdint>
#include <functional>

#include "actors/model/policy/lease.hpp"

namespace onboarding::model {

class Forecast {
 public:
  static constexpr double kToldTooShort = 0.4;
  static constexpr double kLeastFactor = 0.5, kGreatestFactor = 4;
  /// Nothing is forecast beyond.
  static constexpr std::chrono::hours kHorizon{1};

  /// `admitted(t)`: calls that all providers together admit within t, `wanted(t)`: calls that go before and this one, if that takes t;
  /// both never falling.
  std::chrono::nanoseconds wait(const std::function<double(std::chrono::nanoseconds)>& wanted,
                                const std::function<double(std::chrono::nanoseconds)>& admitted,
                                std::chrono::nanoseconds latency) const;
  void learn(std::chrono::nanoseconds promised, std::chrono::nanoseconds actual, Instant now);
  double factor() const { return factor_; }

 private:
  double factor_ = 1;
  Instant last_{};
};

}  // namespace onboarding::model
