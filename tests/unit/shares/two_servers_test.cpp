// Two servers at saturation with one account: real desks, holders and books in virtual time, and a provider that counts by itself.
#include <gtest/gtest.h>

#include <deque>
#include <optional>

#include "actors/model/policy/lease_desk.hpp"
#include "actors/model/shares/share_holder.hpp"

namespace onboarding::model {
namespace {

using namespace std::chrono_literals;

constexpr std::int64_t kLimit = 600;

ProviderSettings settings() {
  ProviderSettings s;
  s.name = "openai";
  s.model = "m";
  s.enabled = true;
  s.weight = 1;
  s.requests_per_minute = kLimit;
  return s;
}

/// The provider's own count: calls within any 60 seconds.
struct Strict {
  std::deque<std::chrono::milliseconds> calls;
  std::size_t total = 0, over = 0;
  void call(std::chrono::milliseconds at) {
    while (!calls.empty() && calls.front() <= at - 60s) calls.pop_front();
    calls.push_back(at);
    ++total;
    over += calls.size() > static_cast<std::size_t>(kLimit);
  }
};

struct Arbiter {
  ShareRules rules;
  std::map<std::string, ShareBook> books;
  SlotBook slots{rules, {}};
  ShareAnswer renew(const std::string& server, const std::map<std::string, LeaseDesk::Want>& wants,
                    std::chrono::milliseconds now) {
    const ArbiterTime time(1'800'000'000'000 + now.count());
    ShareAnswer answer{slots.claim(server, time), {}};
    for (const auto& [name, want] : wants) {
      auto& book = books.try_emplace(name, want.whole, rules_of(name, rules)).first->second;
      answer.shares[name] =
          book.renew(*answer.slot, std::max<std::int64_t>(0, want.wanted - floor_of(want.whole, rules)), time, slots.alive(time));
    }
    return answer;
  }
};

struct Server {
  std::string name;
  ShareHolder holder{ShareRules{}};
  std::optional<LeaseDesk> desk = {};
  bool cut_off = false, busy = true;
  std::size_t calls = 0, denied = 0;
  std::size_t crowd = 20;  // who waits at any time, while it is busy
  ProviderSettings limits = settings();
  std::vector<PlanSettings> plans = {};

  void start(std::chrono::milliseconds now) {
    const auto slot = holder.slot();
    holder = ShareHolder(ShareRules{});
    if (slot) holder.restore(*slot, 1s, Instant(now));
    desk.emplace(std::vector<ProviderSettings>{limits}, std::vector<std::string>{}, Instant(now), LeaseDesk::kMaxWaiting, plans);
  }
  void step(std::chrono::milliseconds now, Arbiter& arbiter, Strict& strict) {
    if (!desk) return;
    const Instant time(now);
    if (now.count() % 5'000 == 0 && !cut_off) {
      holder.take(arbiter.renew(name, desk->wants(time), now), time);
      desk->wants_were_answered();
    }
    if (now.count() % 1'000 == 0)
      desk->share([&](const std::string& limit, std::int64_t whole) { return holder.allowed(limit, whole, time); },
                  holder.in_touch(time), time);
    while (busy && desk->waiting() < crowd) {
      LeaseRequest wanted;
      wanted.deadline = time + 10min;
      wanted.input_tokens = 10;
      wanted.output_tokens = 10;
      wanted.session = wanted.turn = ++turns;
      wanted.plan = static_cast<std::uint32_t>(plans.size());
      desk->ask(wanted, time);
    }
    for (const auto& decision : desk->advance(time).decisions) {
      denied += decision.grant.status != LeaseStatus::granted;
      if (decision.grant.status != LeaseStatus::granted) continue;
      strict.call(now);
      ++calls;
      Settlement s;
      s.input_tokens = s.output_tokens = 10;
      s.was_sent = true;
      desk->settle(decision.grant.id, s, time);
    }
  }
  std::uint64_t turns = 0;
};

struct World {
  Arbiter arbiter;
  Strict strict;
  Server a{"a"}, b{"b"};
  std::chrono::milliseconds now{3'600'000};
  World() {
    a.start(now);
    b.start(now);
  }
  /// The provider's calls within that time.
  std::size_t run(std::chrono::milliseconds time) {
    const auto before = strict.total;
    for (const auto end = now + time; now < end; now += 100ms) {
      a.step(now, arbiter, strict);
      b.step(now, arbiter, strict);
    }
    return strict.total - before;
  }
};

TEST(TwoServers, use_the_limit_together_and_never_more) {
  World world;
  world.run(3min);
  const auto calls = world.run(10min);
  std::cout << "two servers used " << 100.0 * static_cast<double>(calls) / (10.0 * kLimit) << " % of the limit\n";
  EXPECT_EQ(world.strict.over, 0u);
  // Six floors belong to servers that are not there.
  EXPECT_GE(calls, 10u * (kLimit * 9 / 10 + 2 * floor_of(kLimit, ShareRules{})) * 98 / 100);
}

TEST(TwoServers, to_which_a_crowd_comes_at_once_have_equal_parts_at_once) {
  World world;
  world.a.busy = world.b.busy = false;
  world.run(1min);
  world.a.busy = true;
  world.run(2s);
  world.b.busy = true;
  const auto a = world.a.calls, b = world.b.calls;
  world.run(1min);
  for (const auto calls : {world.a.calls - a, world.b.calls - b}) EXPECT_GE(calls, kLimit * 40u / 100);
  EXPECT_EQ(world.strict.over, 0u);
}

TEST(TwoServers, one_that_is_killed_leaves_its_share_to_the_other_and_gets_it_back) {
  World world;
  world.run(3min);
  world.a.desk.reset();
  world.run(3min);
  const auto before = world.b.calls;
  world.run(2min);
  EXPECT_GE(world.b.calls - before, 2u * kLimit * 85 / 100);
  world.a.start(world.now);
  world.run(3min);
  const auto again = world.a.calls;
  world.run(2min);
  EXPECT_GE(world.a.calls - again, 2u * kLimit * 40 / 100);
  EXPECT_EQ(world.strict.over, 0u);
}

TEST(TwoServers, one_that_is_cut_off_falls_to_its_floor_and_both_cut_off_stay_within_the_limit) {
  World world;
  world.run(3min);
  world.a.cut_off = true;
  world.run(2min);
  const auto a = world.a.calls;
  world.run(1min);
  EXPECT_GT(world.a.calls, a);
  EXPECT_LE(world.a.calls - a, static_cast<std::size_t>(floor_of(kLimit, ShareRules{})));
  world.b.cut_off = true;
  world.run(5min);
  world.a.cut_off = world.b.cut_off = false;
  world.run(5min);
  EXPECT_EQ(world.strict.over, 0u);
}

TEST(TwoServers, that_restart_at_once_in_mid_minute_stay_within_the_limit) {
  World world;
  for (int i = 0; i < 10; ++i) {
    world.run(23s + i * 7s);
    world.a.start(world.now);
    world.b.start(world.now);
  }
  EXPECT_EQ(world.strict.over, 0u);
}

TEST(TwoServers, that_restart_cut_off_from_the_books_have_their_floors_and_stay_within_the_limit) {
  World world;
  for (int i = 0; i < 5; ++i) {
    world.run(3min + i * 7s);
    world.a.cut_off = world.b.cut_off = true;
    world.a.start(world.now);
    world.b.start(world.now);
    const auto a = world.a.calls, b = world.b.calls;
    world.run(3min);
    for (const auto calls : {world.a.calls - a, world.b.calls - b}) {
      EXPECT_GE(calls, 2u * static_cast<std::size_t>(floor_of(kLimit, ShareRules{})));
      EXPECT_LE(calls, 3u * static_cast<std::size_t>(floor_of(kLimit, ShareRules{})));
    }
    world.a.cut_off = world.b.cut_off = false;
  }
  world.run(3min);
  EXPECT_EQ(world.strict.over, 0u);
}

/// One call a second each, of a provider without limits a minute.
struct WorldOfADay : World {
  explicit WorldOfADay(std::uint32_t requests_per_day, std::uint64_t plan_tokens = 0) {
    for (auto* server : {&a, &b}) {
      server->crowd = 1;
      server->limits.requests_per_minute = 60;
      server->limits.requests_per_day = requests_per_day;
      if (plan_tokens > 0) server->plans = {{"free", 1, plan_tokens, {}}};
      server->start(now);
    }
  }
  std::size_t calls() const { return a.calls + b.calls; }
};

TEST(TwoServers, that_share_a_limit_a_day_give_it_to_who_has_use_for_it_and_never_use_more) {
  WorldOfADay world(1'000);
  world.b.busy = false;
  world.run(11min);
  EXPECT_GT(world.a.calls, 500u) << "an eighth would be 125";
  EXPECT_EQ(world.a.denied, 0u) << "nobody is sent away while more can be had";
  world.b.busy = true;
  world.run(30min);
  EXPECT_GT(world.b.calls, 100u);
  EXPECT_GT(world.a.denied, 0u) << "used up: told at once, not at the deadline";
  EXPECT_GE(world.calls(), 1'000u * 85 / 100);
  EXPECT_LE(world.calls(), 1'000u);
  world.a.cut_off = true;
  world.a.start(world.now);
  world.run(10min);
  EXPECT_LE(world.calls(), 1'000u + 12) << "what a forgetful restart may use again is its floor";
}

TEST(TwoServers, share_the_tokens_of_a_plans_day) {
  WorldOfADay world(0, 20'000);  // 20 a call
  world.run(6min);
  EXPECT_EQ(world.a.denied + world.b.denied, 0u);
  world.run(1h);
  EXPECT_GE(world.calls(), 1'000u * 80 / 100);
  EXPECT_LE(world.calls(), 1'000u);
}

TEST(TwoServers, share_a_plans_day_with_one_call_that_is_dearer_than_a_step_of_it) {
  WorldOfADay world(0, 200'000);
  world.run(6min);
  world.a.busy = world.b.busy = false;
  world.run(1min);
  const auto before = world.calls();
  LeaseRequest dear;
  dear.deadline = Instant(world.now) + 10min;
  dear.input_tokens = 20'000;
  dear.output_tokens = 10;
  dear.session = dear.turn = 1'000'000;
  dear.plan = 1;
  world.a.desk->ask(dear, Instant(world.now));
  world.run(20s);
  EXPECT_EQ(world.calls(), before + 1) << "it waits for ever, and all of its plan behind it";
}

TEST(TwoServers, an_idle_one_lends_almost_everything) {
  World world;
  world.a.busy = false;
  world.run(3min);
  const auto before = world.b.calls;
  world.run(5min);
  EXPECT_GE(world.b.calls - before, 5u * kLimit * 88 / 100);
  EXPECT_EQ(world.strict.over, 0u);
}

}  // namespace
}  // namespace onboarding::model
