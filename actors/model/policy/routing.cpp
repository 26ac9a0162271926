#include "actors/model/policy/routing.hpp"

#include <algorithm>

namespace onboarding::model {
namespace {

bool holds(ProviderSet set, std::uint32_t provider) { return (set >> provider) & 1u; }

}  // namespace

double spike_pressure(std::chrono::nanoseconds newcomers_wait) {
  return std::clamp(std::chrono::duration<double>(newcomers_wait - kCalm) / std::chrono::duration<double>(kSpike - kCalm), 0.0,
                    1.0);
}

std::vector<double> weights_in_force(const std::vector<std::uint32_t>& weights, const std::vector<std::int64_t>& price_per_call,
                                     double pressure) {
  std::vector<double> in_force(weights.begin(), weights.end());
  double total = 0, priced = 0;
  for (std::size_t p = 0; p < weights.size(); ++p) {
    if (price_per_call[p] <= 0) continue;
    total += in_force[p] * static_cast<double>(price_per_call[p]);
    priced += in_force[p];
  }
  if (priced <= 0) return in_force;
  for (std::size_t p = 0; p < weights.size(); ++p) {
    if (price_per_call[p] <= 0) continue;
    const auto cheaper = std::clamp(total / priced / static_cast<double>(price_per_call[p]), 1.0, kMostRaised);
    in_force[p] *= 1 + pressure * (cheaper - 1);
  }
  return in_force;
}

Routing::Routing(const std::vector<ProviderSettings>& providers, const std::vector<std::string>& fallback_order) {
  for (const auto& p : providers) weight_.push_back(p.weight);
  current_.assign(providers.size(), 0);
  const auto append = [&](std::uint32_t i) {
    if (std::find(order_.begin(), order_.end(), i) == order_.end()) order_.push_back(i);
  };
  for (const auto& name : fallback_order)
    for (std::uint32_t i = 0; i < providers.size(); ++i)
      if (providers[i].name == name) append(i);
  std::vector<std::uint32_t> rest(providers.size());
  for (std::uint32_t i = 0; i < rest.size(); ++i) rest[i] = i;
  std::stable_sort(rest.begin(), rest.end(), [&](auto a, auto b) { return weight_[a] > weight_[b]; });
  for (auto i : rest) append(i);
}

std::optional<std::uint32_t> Routing::choose(ProviderSet able, ProviderSet avoid) {
  if (auto p = weighted(able & ~avoid)) return p;
  if (auto p = first_in_order(able & ~avoid)) return p;
  return first_in_order(able);
}

std::optional<std::uint32_t> Routing::weighted(ProviderSet able) {
  std::optional<std::uint32_t> best;
  double total = 0;
  for (std::uint32_t i = 0; i < weight_.size(); ++i) {
    if (!holds(able, i) || weight_[i] <= 0) continue;
    total += weight_[i];
    current_[i] += weight_[i];
    if (!best || current_[i] > current_[*best]) best = i;
  }
  if (best) current_[*best] -= total;
  return best;
}

std::optional<std::uint32_t> Routing::first_in_order(ProviderSet able) const {
  for (auto i : order_)
    if (holds(able, i)) return i;
  return std::nullopt;
}

}  // namespace onboarding::model
