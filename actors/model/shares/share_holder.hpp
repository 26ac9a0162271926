// A server's side of shared limits: what it may use now. Pure; time is the server's own monotonic clock, handed in.
#pragma once

#include <optional>

#include "actors/model/policy/lease.hpp"
#include "actors/model/shares/share_store.hpp"

namespace onboarding::model {

class ShareHolder {
 public:
  explicit ShareHolder(ShareRules rules) : rules_(rules) {}

  /// The slot was this server's so long ago (by clocks that may be off by hours), and it knows nothing newer: its floor is. Not when that
  /// was more than half a slot's lease ago, or is yet to come: then somebody else may have it.
  void restore(std::uint32_t slot, std::chrono::nanoseconds age, Instant now);

  /// The arbiter answered a renewal that was sent at `asked_at`: the share runs from then, so that it ends here before it
  /// ends there.
  void take(const ShareAnswer& answer, Instant asked_at);

  /// Of a whole limit, what this server may use now: its floor and, while it lasts, its share. 0: it has no slot.
  std::int64_t allowed(const std::string& limit_name, std::int64_t limit, Instant now) const;
  /// Whether the books were heard of lately.
  bool in_touch(Instant now) const { return slot_ && now < asked_at_ + rules_.lease; }
  std::optional<std::uint32_t> slot() const { return slot_; }

 private:
  ShareRules rules_;
  std::optional<std::uint32_t> slot_;
  Instant floor_until_{}, asked_at_{std::chrono::hours(-24 * 365)};  // never yet
  Shares shares_;
};

}  // namespace onboarding::model
