#include "events/codec/upcast.hpp"

#include "events/domain/assertion.hpp"

namespace onboarding::codec {

Upcasters& Upcasters::add(std::string type, std::uint32_t from_version, Upcast step) {
  ONBOARDING_ASSERT(step.apply != nullptr, "an upcaster does something");
  ONBOARDING_ASSERT(type != step.to_type || step.to_version > from_version, "an upcaster leads to a newer schema");
  const bool added = steps_.try_emplace({std::move(type), from_version}, std::move(step)).second;
  ONBOARDING_ASSERT(added, "one upcaster for each type and version");
  return *this;
}

const Upcast* Upcasters::find(std::string_view type, std::uint32_t version) const {
  if (steps_.empty()) return nullptr;
  const auto found = steps_.find({std::string(type), version});
  return found == steps_.end() ? nullptr : &found->second;
}

const Upcasters& upcasters() {
  static const Upcasters none;  // every type is at its first schema
  return none;
}

}  // namespace onboarding::codec
