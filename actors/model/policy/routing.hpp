// Which provider serves next. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "actors/model/policy/lease.hpp"

namespace onboarding::model {

/// How hard a spike presses: 0 while a newcomer would be served within kCalm, 1 from kSpike on.
double spike_pressure(std::chrono::nanoseconds newcomers_wait);
inline constexpr std::chrono::seconds kCalm{2}, kSpike{30};

/// Weights in force. In a spike cheaper providers' rise: by up to mean price / own price (at most kMostRaised times), in
/// proportion to the pressure; the mean is by weight. Dearer ones keep theirs, and so lose share. A price of 0 is unknown: as
/// the mean.
std::vector<double> weights_in_force(const std::vector<std::uint32_t>& weights, const std::vector<std::int64_t>& price_per_call,
                                     double pressure);
inline constexpr double kMostRaised = 4;

/// Smooth weighted round robin (nginx's) over those that can serve now, then the fallback order, then those to avoid.
class Routing {
 public:
  /// `fallback_order` names providers; those it leaves out follow by weight, heaviest first.
  Routing(const std::vector<ProviderSettings>&, const std::vector<std::string>& fallback_order);

  /// One of `able`, nullopt when it is empty. Providers in `avoid` come last.
  std::optional<std::uint32_t> choose(ProviderSet able, ProviderSet avoid);

  /// From now on; one per provider.
  void set_weights(std::vector<double> weights) { weight_ = std::move(weights); }
  double weight(std::uint32_t provider) const { return weight_[provider]; }

 private:
  std::optional<std::uint32_t> weighted(ProviderSet);
  std::optional<std::uint32_t> first_in_order(ProviderSet) const;

  std::vector<double> weight_, current_;
  std::vector<std::uint32_t> order_;
};

}  // namespace onboarding::model
