#include "actors/model/shares/share_holder.hpp"

namespace onboarding::model {

void ShareHolder::take(const ShareAnswer& answer, Instant asked_at) {
  if (asked_at + rules_.lease < share_until_) return;  // overtaken by a newer answer
  slot_ = answer.slot;
  shares_ = answer.slot ? answer.shares : Shares{};
  share_until_ = asked_at + rules_.lease;
  floor_until_ = asked_at + rules_.slot_lease;
}

void ShareHolder::remember(std::uint32_t slot, std::chrono::milliseconds age, Instant now) {
  slot_ = slot;
  floor_until_ = now + rules_.slot_lease - age;
}

std::int64_t ShareHolder::allowed(const std::string& limit_name, std::int64_t limit, Instant now) const {
  if (!slot_ || now >= floor_until_) return 0;
  const auto found = now < share_until_ ? shares_.find(limit_name) : shares_.end();
  return floor_of(limit, rules_) + (found == shares_.end() ? 0 : found->second);
}

}  // namespace onboarding::model
