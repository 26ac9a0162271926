// What the model supervisor is given, and what it shows of itself. No CAF type in it: for the composition root, health
// and metrics.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "actors/model/provider.hpp"
#include "events/clock.hpp"

namespace prometheus {
class Registry;
}

namespace onboarding::model {

struct ProviderStatus {
  std::string name, model;
  bool enabled = false;
  bool healthy = true;  // breaker closed
  std::int64_t in_flight = 0, waiting = 0;
  std::int64_t calls_total = 0, failures_total = 0, rate_limited_total = 0;
};
struct ModelStatus {
  std::vector<ProviderStatus> providers;
  bool offline_enabled = true;
  std::int64_t waiting = 0;  // extractions that wait for budget
};
using ModelStatusPtr = std::shared_ptr<const ModelStatus>;

struct SupervisorOptions {
  std::vector<ProviderSettings> providers;  // enabled ones, with limits and weights
  std::vector<std::shared_ptr<ProviderClient>> clients;  // same order
  bool offline_enabled = true;
  std::vector<std::string> fallback_order;  // empty: by weight
  const Clock* clock = nullptr;
  RandomSource* random = nullptr;
  prometheus::Registry* metrics = nullptr;  // may be null
};

}  // namespace onboarding::model
