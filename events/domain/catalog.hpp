// A FlowCatalog whose flows are known from the start: the shipped ones, or those of a test.
#pragma once

#include <vector>

#include "events/domain/flow.hpp"

namespace onboarding::domain {

/// Immutable after construction; thread-safe. The newest version of a name is the highest, wherever it stands.
class FixedFlowCatalog final : public FlowCatalog {
 public:
  /// The shipped flow only.
  FixedFlowCatalog() : FixedFlowCatalog({default_flow()}) {}
  explicit FixedFlowCatalog(std::vector<Flow> flows) {
    flows_.reserve(flows.size());
    for (Flow& flow : flows) flows_.push_back(std::make_shared<const Flow>(std::move(flow)));
  }

  std::shared_ptr<const Flow> find(std::string_view name, std::uint32_t version) const override {
    for (const auto& flow : flows_)
      if (flow->name == name && flow->version == version) return flow;
    return nullptr;
  }
  std::shared_ptr<const Flow> newest(std::string_view name) const override {
    std::shared_ptr<const Flow> best;
    for (const auto& flow : flows_)
      if (flow->name == name && (!best || flow->version > best->version)) best = flow;
    return best;
  }

 private:
  std::vector<std::shared_ptr<const Flow>> flows_;
};

}  // namespace onboarding::domain
