#include "actors/model/policy/forecast.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace onboarding::model {
namespace {

// What is learned of a turn comes late by as long as it waited: all that is learned within the time that was promised moves the
// factor by no more than kGain, or it would swing for ever. A single turn moves it by kStep at most.
constexpr double kGain = 0.25, kStep = 0.02;
constexpr int kHalvings = 20;  // of an hour: 4 ms

}  // namespace

std::chrono::nanoseconds Forecast::wait(const std::function<double(std::chrono::nanoseconds)>& wanted,
                                        const std::function<double(std::chrono::nanoseconds)>& admitted,
                                        std::chrono::nanoseconds latency) const {
  std::chrono::nanoseconds low{0}, high = kHorizon;
  if (admitted(low) >= wanted(low)) {
    high = low;
  } else {
    for (int i = 0; i < kHalvings; ++i) {
      const auto middle = low + (high - low) / 2;
      (admitted(middle) >= wanted(middle) ? high : low) = middle;
    }
  }
  const auto scaled = factor_ * static_cast<double>((high + latency).count());
  return std::min<std::chrono::nanoseconds>(kHorizon, std::chrono::nanoseconds(static_cast<std::int64_t>(scaled)));
}

void Forecast::learn(std::chrono::nanoseconds promised, std::chrono::nanoseconds actual, Instant now) {
  const auto since = std::chrono::duration<double>(now - std::exchange(last_, now)) /
                     std::chrono::duration<double>(std::max(promised, std::chrono::nanoseconds(1)));
  factor_ *= std::exp(std::min(kStep, kGain * since) * ((actual > promised ? 1.0 : 0.0) - kToldTooShort));
  factor_ = std::clamp(factor_, kLeastFactor, kGreatestFactor);
}

}  // namespace onboarding::model
