#include "actors/model/shares/share_holder.hpp"

namespace onboarding::model {

void ShareHolder::restore(std::uint32_t slot, std::chrono::nanoseconds age, Instant now) {
  if (age < std::chrono::nanoseconds(0) || age >= rules_.slot_lease / 2 || slot >= rules_.max_servers) return;
  slot_ = slot;
  floor_until_ = now + rules_.slot_lease / 2 - age;
}

void ShareHolder::take(const ShareAnswer& answer, Instant asked_at) {
  if (asked_at < asked_at_) return;  // overtaken by a newer answer
  slot_ = answer.slot;
  shares_ = answer.slot ? answer.shares : Shares{};
  asked_at_ = asked_at;
  floor_until_ = asked_at + rules_.slot_lease;
}

std::int64_t ShareHolder::allowed(const std::string& limit_name, std::int64_t limit, Instant now) const {
  if (!slot_ || now >= floor_until_) return 0;
  const auto found = now < asked_at_ + rules_of(limit_name, rules_).lease ? shares_.find(limit_name) : shares_.end();
  return floor_of(limit, rules_) + (found == shares_.end() ? 0 : found->second);
}

}  // namespace onboarding::model
