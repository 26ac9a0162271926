#include "actors/model/policy/forecast.hpp"

#include <algorithm>
#include <cmath>

namespace onboarding::model {
namespace {

// A step of the factor a turn: some fifty turns correct an error of two.
constexpr double kStep = 0.02;
constexpr int kHalvings = 20;  // of an hour: 4 ms

}  // namespace

std::chrono::nanoseconds Forecast::wait(std::size_t position, const std::function<double(std::chrono::nanoseconds)>& admitted,
                                        std::chrono::nanoseconds latency) const {
  const auto wanted = static_cast<double>(position);
  std::chrono::nanoseconds low{0}, high = kHorizon;
  if (admitted(low) >= wanted) {
    high = low;
  } else {
    for (int i = 0; i < kHalvings; ++i) {
      const auto middle = low + (high - low) / 2;
      (admitted(middle) >= wanted ? high : low) = middle;
    }
  }
  const auto scaled = factor_ * static_cast<double>((high + latency).count());
  return std::min<std::chrono::nanoseconds>(kHorizon, std::chrono::nanoseconds(static_cast<std::int64_t>(scaled)));
}

void Forecast::learn(std::chrono::nanoseconds promised, std::chrono::nanoseconds actual) {
  factor_ *= std::exp(kStep * ((actual > promised ? 1.0 : 0.0) - kToldTooShort));
  factor_ = std::clamp(factor_, kLeastFactor, kGreatestFactor);
}

}  // namespace onboarding::model
