#include "actors/model/shares/share_book.hpp"

#include <algorithm>

namespace onboarding::model {

ShareRules rules_of(std::string_view limit_name, ShareRules rules) {
  if (limit_name.find("per_day") == limit_name.npos) return rules;
  rules.lease = std::chrono::hours(2);
  rules.window = std::chrono::hours(24);
  return rules;
}

std::int64_t floor_of(std::int64_t limit, const ShareRules& rules) {
  return static_cast<std::int64_t>(static_cast<double>(limit) * rules.floor_fraction) / rules.max_servers;
}

std::int64_t ShareBook::renew(std::uint32_t slot, std::int64_t wanted, ArbiterTime now, std::uint32_t alive) {
  expire(now);
  auto mine = std::find_if(holdings_.begin(), holdings_.end(), [&](const Holding& h) { return h.slot == slot; });
  if (mine == holdings_.end()) mine = holdings_.insert(holdings_.end(), {slot, 0, 0, now});
  mine->wanted = std::max<std::int64_t>(wanted, 0);

  std::int64_t free = pool();
  for (const Holding& h : holdings_)
    if (h.slot != slot) free -= h.amount;
  for (const Cooling& c : cooling_)
    if (c.slot != slot) free -= c.amount;
  const auto had = mine->amount;
  const auto most = std::max(pool() / std::max<std::int64_t>(alive, 1), had + (pool() - had + 1) / 2);
  const auto gets = std::clamp<std::int64_t>(std::min(fair(slot), most), 0, std::max<std::int64_t>(free, 0));
  if (gets < had) {
    // The answer may be lost on its way: until its old share ends the server may use all of it.
    cool(slot, had - gets, std::max(mine->until, now) + rules_.margin + rules_.window);
  } else {
    // What it gave up lately is its own use: it takes that back first, from the part that stays warm longest.
    auto back = gets - had;
    std::sort(cooling_.begin(), cooling_.end(), [](const Cooling& a, const Cooling& b) { return a.free_at > b.free_at; });
    for (auto& c : cooling_) {
      if (c.slot != slot) continue;
      const auto taken = std::min(back, c.amount);
      c.amount -= taken;
      back -= taken;
    }
    std::erase_if(cooling_, [](const Cooling& c) { return c.amount == 0; });
  }
  mine->amount = gets;
  mine->until = now + rules_.lease;
  if (gets == 0 && mine->wanted == 0) holdings_.erase(mine);
  return gets;
}

/// Max-min: who wants less than an equal part gets it, the others divide the rest.
std::int64_t ShareBook::fair(std::uint32_t slot) const {
  std::vector<const Holding*> by_want;
  for (const Holding& h : holdings_) by_want.push_back(&h);
  std::sort(by_want.begin(), by_want.end(), [](const Holding* a, const Holding* b) {
    return a->wanted != b->wanted ? a->wanted < b->wanted : a->slot < b->slot;
  });
  auto left = pool();
  for (std::size_t i = 0; i < by_want.size(); ++i) {
    const auto part = std::min(by_want[i]->wanted, left / static_cast<std::int64_t>(by_want.size() - i));
    if (by_want[i]->slot == slot) return part;
    left -= part;
  }
  return 0;
}

void ShareBook::cool(std::uint32_t slot, std::int64_t amount, ArbiterTime free_at) {
  if (amount > 0) cooling_.push_back({slot, amount, free_at});
}

void ShareBook::expire(ArbiterTime now) {
  std::erase_if(holdings_, [&](const Holding& h) {
    if (now < h.until + rules_.margin) return false;
    cool(h.slot, h.amount, h.until + rules_.margin + rules_.window);
    return true;
  });
  std::erase_if(cooling_, [&](const Cooling& c) { return c.free_at <= now; });
}

std::optional<std::uint32_t> SlotBook::claim(const std::string& server_id, ArbiterTime now) {
  auto mine = std::find_if(slots_.begin(), slots_.end(), [&](const Slot& s) { return s.server_id == server_id; });
  if (mine == slots_.end()) {
    std::uint32_t number = 0;
    while (std::any_of(slots_.begin(), slots_.end(), [&](const Slot& s) { return s.slot == number; })) ++number;
    if (number < rules_.max_servers) {
      mine = slots_.insert(slots_.end(), {number, server_id, now});
    } else {
      mine = std::min_element(slots_.begin(), slots_.end(), [](const Slot& a, const Slot& b) { return a.seen < b.seen; });
      // Its share of limits a day may have been used for its lease, which counts for a day more.
      const auto day = rules_of("per_day", rules_);
      const auto silent = std::max(rules_.slot_lease + rules_.window, day.lease + day.window);
      if (mine == slots_.end() || now < mine->seen + silent + 2 * rules_.margin) return std::nullopt;
      mine->server_id = server_id;
    }
  }
  mine->seen = std::max(mine->seen, now);
  return mine->slot;
}

std::uint32_t SlotBook::alive(ArbiterTime now) const {
  return static_cast<std::uint32_t>(
      std::count_if(slots_.begin(), slots_.end(), [&](const Slot& s) { return now < s.seen + rules_.lease + rules_.margin; }));
}

}  // namespace onboarding::model
