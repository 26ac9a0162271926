#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cmath>

#include "actors/model/policy/fair_queue.hpp"

namespace onboarding::model {
namespace {

using namespace std::chrono_literals;

const Instant kStart{1'000s};

LeaseRequest from(std::uint64_t session, std::uint32_t plan = 0, Priority priority = Priority::waiting_client) {
  LeaseRequest r;
  r.session = session;
  r.turn = session * 1'000;
  r.plan = plan;
  r.priority = priority;
  r.deadline = kStart + 1h;
  r.input_tokens = 100;
  return r;
}

FairQueue::Ticket serve_one(FairQueue& q, Instant now = kStart) {
  for (int p = 0; p < FairQueue::kPriorities; ++p) {
    const auto classes = q.classes(static_cast<Priority>(p));
    if (classes.empty()) continue;
    const auto ticket = q.first(classes[q.next_of(classes)], 1).front();
    q.served(ticket, now);
    return ticket;
  }
  return 0;
}

/// Session s came at second s, and wants so many turns yet.
LeaseRequest turn_of(std::uint64_t session, std::uint32_t further = 0) {
  auto r = from(session, 0, Priority::queued_turn);
  r.arrived = static_cast<std::int64_t>(session);
  r.further = further;
  return r;
}

TEST(FairQueue, who_began_first_is_served_first_whenever_their_messages_come) {
  FairQueue q({1});
  for (std::uint64_t s = 4; s >= 1; --s) q.add(s, turn_of(s), kStart, 0ns);
  EXPECT_EQ(serve_one(q), 1u);
  EXPECT_EQ(serve_one(q), 2u);
  q.add(5, turn_of(1), kStart + 1s, 0ns);
  q.add(6, turn_of(9), kStart + 1s, 0ns);
  EXPECT_EQ(serve_one(q), 5u);
  EXPECT_EQ(serve_one(q), 3u);
  EXPECT_EQ(serve_one(q), 4u);
  EXPECT_EQ(serve_one(q), 6u);
}

TEST(FairQueue, a_spike_is_finished_one_after_the_other_and_nobody_later_than_in_turn) {
  FairQueue q({1});
  constexpr std::uint64_t kPeople = 50, kTurns = 6;
  std::map<std::uint64_t, std::uint64_t> had, done;
  FairQueue::Ticket next = 1;
  std::map<FairQueue::Ticket, std::uint64_t> session_of;
  const auto speak = [&](std::uint64_t s, Instant now) {
    session_of[next] = s;
    q.add(next++, turn_of(s), now, 0ns);
  };
  for (std::uint64_t s = 1; s <= kPeople; ++s) speak(s, kStart);
  for (std::uint64_t i = 1; q.size() > 0; ++i) {
    const auto now = kStart + 2s * i;  // long enough that they age
    q.age(now);
    const auto s = session_of[serve_one(q, now)];
    if (++had[s] < kTurns) speak(s, now);
    else done[s] = i;
  }
  for (std::uint64_t s = 1; s <= kPeople; ++s) EXPECT_EQ(done[s], s * kTurns);
}

TEST(FairQueue, who_comes_now_is_not_in_the_way_of_anybody_who_waits) {
  FairQueue q({1});
  q.add(1, turn_of(100), kStart, 0ns);
  for (std::uint64_t s = 101; s < 200; ++s) q.add(s, turn_of(s), kStart, 0ns);
  EXPECT_EQ(FairQueue::position(q.ahead(1)), 1u);
}

TEST(FairQueue, moving_up_takes_those_along_who_began_before) {
  FairQueue q({1});
  q.add(1, turn_of(10), kStart, 0ns);
  q.add(2, turn_of(5), kStart + 30s, 0ns);
  q.add(3, turn_of(15), kStart + 30s, 0ns);
  q.age(kStart + FairQueue::kAging);
  EXPECT_EQ(q.at(1).priority, Priority::waiting_client);
  EXPECT_EQ(q.at(2).priority, Priority::waiting_client) << "it began before the one that moved up";
  EXPECT_EQ(q.at(3).priority, Priority::queued_turn);
  q.add(4, turn_of(7), kStart + 61s, 0ns);
  EXPECT_EQ(q.at(4).priority, Priority::waiting_client) << "as if it had waited, too";
  EXPECT_EQ(serve_one(q), 2u);
  EXPECT_EQ(serve_one(q), 4u);
  EXPECT_EQ(serve_one(q), 1u);
  q.add(5, turn_of(8), kStart + 62s, 0ns);
  EXPECT_EQ(q.at(5).priority, Priority::queued_turn);
}

TEST(FairQueue, expects_those_before_somebody_to_come_back_for_their_further_turns) {
  FairQueue q({1});
  for (std::uint64_t s = 1; s <= 10; ++s) q.add(s, turn_of(s, 5), kStart, 0ns);
  const auto last = q.ahead(10);
  EXPECT_EQ(last.turns(0s), 9);
  const auto back = [](double turns) { return turns + std::sqrt(turns); };
  EXPECT_NEAR(last.turns(1h), 9 + back(9 * 5), 1) << "all of theirs, where the wait is long";
  EXPECT_LT(last.turns(3s), 9 + 9) << "few are back soon";
  EXPECT_EQ(q.ahead(1).turns(1h), 0);
  serve_one(q);
  EXPECT_EQ(q.ahead(10).turns(0s), 8);
  EXPECT_NEAR(q.ahead(10).turns(1h), 8 + back(9 * 5), 1) << "the first one thinks, and comes back";
  q.age(kStart + FairQueue::kComesBack);
  EXPECT_NEAR(q.ahead(10).turns(1h), 8 + back(8 * 5 * 0.8), 1) << "it stayed away: one of five that were thought of";
}

TEST(FairQueue, plans_share_by_stride_and_an_idle_one_saves_nothing_up) {
  FairQueue q({1, 1, 3});
  FairQueue::Ticket next = 1;
  std::map<FairQueue::Ticket, std::uint32_t> plan_of;
  const auto add = [&](std::uint32_t plan) {
    plan_of[next] = plan;
    q.add(next, from(next, plan), kStart, 0ns);
    ++next;
  };
  for (int i = 0; i < 400; ++i) add(1);
  for (int i = 0; i < 100; ++i) serve_one(q);  // plan 2 is not there yet
  for (int i = 0; i < 400; ++i) add(2);
  std::map<std::uint32_t, int> served;
  for (int i = 0; i < 200; ++i) ++served[plan_of[serve_one(q)]];
  EXPECT_NEAR(served[2], 150, 2);
  EXPECT_NEAR(served[1], 50, 2);
}

TEST(FairQueue, priorities_are_strict_until_somebody_has_waited_long) {
  FairQueue q({1});
  q.add(1, from(1, 0, Priority::background), kStart, 0ns);
  q.add(2, from(2, 0, Priority::queued_turn), kStart, 0ns);
  q.add(3, from(3), kStart, 0ns);
  EXPECT_EQ(serve_one(q), 3u);
  EXPECT_EQ(q.next_event(), kStart + FairQueue::kAging);
  q.age(kStart + FairQueue::kAging);
  EXPECT_EQ(q.at(2).priority, Priority::waiting_client);
  EXPECT_EQ(q.at(1).priority, Priority::queued_turn);
  q.add(4, from(4), kStart + 70s, 0ns);
  EXPECT_EQ(serve_one(q), 2u);
  q.age(kStart + 2 * FairQueue::kAging);
  EXPECT_EQ(serve_one(q), 1u);
  EXPECT_EQ(serve_one(q), 4u);
}

TEST(FairQueue, who_lost_a_provider_stands_before_his_plan) {
  FairQueue q({1});
  q.add(1, from(1), kStart, 0ns);
  serve_one(q);
  q.add(2, from(2), kStart, 0ns);
  auto again = from(1);
  again.again = true;
  q.add(3, again, kStart, 0ns);
  EXPECT_EQ(serve_one(q), 3u);
}

TEST(FairQueue, knows_where_a_turn_stands) {
  FairQueue q({1, 1});
  const auto position = [&](FairQueue::Ticket t) { return FairQueue::position(q.ahead(t)); };
  for (std::uint64_t s = 1; s <= 5; ++s) q.add(s, from(s, 0, Priority::queued_turn), kStart, 0ns);
  EXPECT_EQ(position(*q.of_turn(3'000)), 3u);
  EXPECT_EQ(FairQueue::position(q.ahead(Priority::queued_turn, 0, 9)), 6u);
  q.add(6, from(6), kStart, 0ns);
  EXPECT_EQ(position(3), 4u) << "somebody more urgent came";
  for (std::uint64_t s = 11; s <= 20; ++s) q.add(s, from(s, 1, Priority::queued_turn), kStart, 0ns);
  EXPECT_EQ(position(3), 7u) << "the other plan has three turns meanwhile";
  EXPECT_EQ(q.of_turn(77), std::nullopt);
  q.remove(3);
  EXPECT_EQ(q.of_turn(3'000), std::nullopt);
}

TEST(FairQueueProperties, whatever_comes_and_goes_nothing_is_left_over_and_positions_are_those_of_service) {
  EXPECT_TRUE(rc::check([] {
    FairQueue q({1});
    std::set<FairQueue::Ticket> in;
    FairQueue::Ticket next = 1;
    auto now = kStart;
    const auto steps = *rc::gen::inRange(1, 200);
    for (int i = 0; i < steps; ++i) {
      now += std::chrono::seconds(*rc::gen::inRange(0, 20));
      q.age(now);
      switch (*rc::gen::inRange(0, 4)) {
        case 0:
        case 1: {
          auto r = from(static_cast<std::uint64_t>(*rc::gen::inRange(1, 12)), 0, static_cast<Priority>(*rc::gen::inRange(0, 3)));
          r.arrived = *rc::gen::inRange(0, 20);
          r.further = static_cast<std::uint32_t>(*rc::gen::inRange(0, 30));
          r.exclude = static_cast<ProviderSet>(*rc::gen::inRange(0, 3));
          in.insert(next);
          q.add(next++, r, now, 0ns);
          break;
        }
        case 2:
          if (!in.empty()) q.remove(*in.begin()), in.erase(in.begin());
          break;
        default:
          if (const auto t = serve_one(q, now)) RC_ASSERT(in.erase(t) == 1u);
      }
      RC_ASSERT(q.size() == in.size());
    }
    std::map<FairQueue::Ticket, std::size_t> position;
    for (const auto t : in) position[t] = FairQueue::position(q.ahead(t));
    for (std::size_t i = 1; !in.empty(); ++i) {
      const auto t = serve_one(q);
      RC_ASSERT(position[t] == i);
      in.erase(t);
    }
    RC_ASSERT(q.sessions() == 0u);
    RC_ASSERT(q.next_event() == std::nullopt);
  }));
}

}  // namespace
}  // namespace onboarding::model
