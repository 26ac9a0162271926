// What calls really cost, learned from the providers' own usage, so that a lease reserves little more than it will use. Pure.
//
// A reservation is an upper estimate of the sum of what is in flight: mean + 2 standard deviations / sqrt(calls in flight), of
// exponentially weighted moments. One call alone is reserved at its upper quantile, a thousand together near their mean,
// since their sum hardly varies. Until kEnough calls are known the given bound stands.
#pragma once

#include <cstdint>
#include <map>
#include <tuple>

#include "actors/model/policy/lease.hpp"

namespace onboarding::model {

/// Moments of a quantity, the newest some 64 observations.
class Moments {
 public:
  static constexpr std::uint32_t kEnough = 20;

  void learn(double value);
  bool known() const { return count_ >= kEnough; }
  double mean() const { return mean_; }
  /// Of the average of so many.
  double upper(std::int64_t together) const;

 private:
  std::uint32_t count_ = 0;
  double mean_ = 0, variance_ = 0;
};

class Estimates {
 public:
  /// Flows beyond so many share one estimate.
  static constexpr std::size_t kMaxFlows = 512;

  /// `lane`: a provider's model. Never over the cap.
  std::int64_t output_tokens(std::uint32_t lane, std::uint64_t flow, std::int64_t cap, std::int64_t in_flight) const;
  /// The estimate, corrected by what the provider counted for texts of this script: between a fifth and twice of it.
  std::int64_t input_tokens(std::uint32_t provider, Script, std::int64_t estimated, std::int64_t in_flight) const;

  void learn_output(std::uint32_t lane, std::uint64_t flow, std::int64_t real);
  void learn_input(std::uint32_t provider, Script, std::int64_t estimated, std::int64_t real);

 private:
  using OutputKey = std::pair<std::uint32_t, std::uint64_t>;
  std::map<OutputKey, Moments> output_;
  std::map<std::pair<std::uint32_t, Script>, Moments> input_ratio_;
};

}  // namespace onboarding::model
