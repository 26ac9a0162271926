// Which provider serves next. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "actors/model/policy/lease.hpp"

namespace onboarding::model {

/// Smooth weighted round robin (nginx's) over those that can serve now, then the fallback order, then those to avoid.
class Routing {
 public:
  /// `fallback_order` names providers; those it leaves out follow by weight, heaviest first.
  Routing(const std::vector<ProviderSettings>&, const std::vector<std::string>& fallback_order);

  /// One of `able`, nullopt when it is empty. Providers in `avoid` come last.
  std::optional<std::uint32_t> choose(ProviderSet able, ProviderSet avoid);

 private:
  std::optional<std::uint32_t> weighted(ProviderSet);
  std::optional<std::uint32_t> first_in_order(ProviderSet) const;

  std::vector<std::int64_t> weight_, current_;
  std::vector<std::uint32_t> order_;
};

}  // namespace onboarding::model
