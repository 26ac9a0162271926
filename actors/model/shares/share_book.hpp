// How several servers share one provider's limits without ever exceeding them together. Pure: no clock, no thread, no
// database; time is handed in, and is the arbiter's (the database's) own.
//
// A small part of each limit is split into `max_servers` equal floors that are never lent: a server has its floor even when it
// can reach nobody. The rest is the pool, lent by demand for `lease` at a time. A provider counts over a window (a minute), so what a server
// gives up, or was holding when it fell silent, may be lent again only when that window has passed: until then it cools. Hence at
// any moment the sum over all servers of the most that each was allowed within the last window never exceeds the limit.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace onboarding::model {

/// The arbiter's time, in milliseconds since its epoch.
using ArbiterTime = std::chrono::duration<std::int64_t, std::milli>;

struct ShareRules {
  double floor_fraction = 0.10;              // of each limit, for all floors together
  std::uint32_t max_servers = 8;             // slots; each has a floor
  std::chrono::milliseconds lease{15'000};   // a share that is not renewed ends
  std::chrono::milliseconds margin{2'000};   // for a clock that runs slower than the arbiter's, and for calls on their way
  std::chrono::milliseconds window{60'000};  // over which the provider counts
  std::chrono::milliseconds slot_lease{24 * 3'600'000};  // a server that was silent for so long has no floor any more
};

/// Of a limit a day ("…_per_day…") what a server holds is what it used of it, and a little more: it is lent for long, since lending it again
/// has to wait for a day in any case.
ShareRules rules_of(std::string_view limit_name, ShareRules);

/// A server's floor of a limit.
std::int64_t floor_of(std::int64_t limit, const ShareRules&);

/// What a server may use of each limit beyond its floor, by the limit's name ("openai/requests_per_minute").
using Shares = std::map<std::string, std::int64_t>;

/// One limit in the hands of the arbiter.
class ShareBook {
 public:
  struct Holding {
    std::uint32_t slot = 0;
    std::int64_t amount = 0;  // beyond the floor
    std::int64_t wanted = 0;  // as its server said last
    ArbiterTime until{};
  };
  struct Cooling {
    std::uint32_t slot = 0;  // whose it was: that server may have it back at once
    std::int64_t amount = 0;
    ArbiterTime free_at{};
  };

  ShareBook(std::int64_t limit, ShareRules rules) : limit_(limit), rules_(rules) {}
  /// As it was kept. The limit may have been changed since: what is lent beyond a lowered one is taken back with the renewals.
  ShareBook(std::int64_t limit, ShareRules rules, std::vector<Holding> holdings, std::vector<Cooling> cooling)
      : limit_(limit), rules_(rules), holdings_(std::move(holdings)), cooling_(std::move(cooling)) {}

  /// A server asks for `wanted` beyond its floor and gets what there is, by max-min fairness among those who hold a share;
  /// valid for `lease` from `now`. Asking for 0 gives all back. `alive`: servers that asked lately, this one among them. At once it gets
  /// at most an equal part among these, then with each renewal half of the rest: what is lent comes back only after a minute, so
  /// whoever asks a second later than another must still find something.
  std::int64_t renew(std::uint32_t slot, std::int64_t wanted, ArbiterTime now, std::uint32_t alive = 1);

  const std::vector<Holding>& holdings() const { return holdings_; }
  const std::vector<Cooling>& cooling() const { return cooling_; }

 private:
  std::int64_t pool() const { return limit_ - floor_of(limit_, rules_) * rules_.max_servers; }
  std::int64_t fair(std::uint32_t slot) const;
  void cool(std::uint32_t slot, std::int64_t amount, ArbiterTime free_at);
  void expire(ArbiterTime now);

  std::int64_t limit_;
  ShareRules rules_;
  std::vector<Holding> holdings_;
  std::vector<Cooling> cooling_;
};

/// Which server has which slot.
class SlotBook {
 public:
  struct Slot {
    std::uint32_t slot = 0;
    std::string server_id;
    ArbiterTime seen{};
  };
  SlotBook(ShareRules rules, std::vector<Slot> slots) : rules_(rules), slots_(std::move(slots)) {}

  /// The server's slot, a free one, or one whose server was silent for so long that neither floor nor share of it counts any more
  /// (`slot_lease` and a window, or a day and the lease of its limits); nullopt: all are taken.
  std::optional<std::uint32_t> claim(const std::string& server_id, ArbiterTime now);
  const std::vector<Slot>& slots() const { return slots_; }
  /// Servers that were heard of within a share's lease.
  std::uint32_t alive(ArbiterTime now) const;

 private:
  ShareRules rules_;
  std::vector<Slot> slots_;
};

}  // namespace onboarding::model
