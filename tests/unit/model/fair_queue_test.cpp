#include <gtest/gtest.h>
#include <rapidcheck.h>

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

FairQueue::Ticket serve_one(FairQueue& q) {
  for (int p = 0; p < FairQueue::kPriorities; ++p) {
    const auto classes = q.classes(static_cast<Priority>(p));
    if (classes.empty()) continue;
    const auto ticket = q.first(classes[q.next_of(classes)], 1).front();
    q.served(ticket);
    return ticket;
  }
  return 0;
}

TEST(FairQueue, serves_one_message_at_a_time_sessions_in_order_of_arrival) {
  FairQueue q({1});
  for (std::uint64_t s = 1; s <= 4; ++s) q.add(s, from(s), kStart, 0ns);
  EXPECT_EQ(serve_one(q), 1u);
  EXPECT_EQ(serve_one(q), 2u);
  q.add(5, from(1), kStart, 0ns);
  q.add(6, from(9), kStart, 0ns);
  std::vector<FairQueue::Ticket> rest;
  while (q.size() > 0) rest.push_back(serve_one(q));
  EXPECT_EQ(rest.front(), 3u);
  EXPECT_EQ(rest.size(), 4u);
}

TEST(FairQueue, a_session_that_sends_much_waits_for_itself) {
  FairQueue q({1});
  for (std::uint64_t t = 1; t <= 3; ++t) q.add(t, from(1), kStart, 0ns);
  q.add(4, from(2), kStart, 0ns);
  q.add(5, from(3), kStart, 0ns);
  std::vector<FairQueue::Ticket> order;
  while (q.size() > 0) order.push_back(serve_one(q));
  EXPECT_EQ(order, (std::vector<FairQueue::Ticket>{1, 4, 5, 2, 3}));
}

TEST(FairQueue, newcomers_do_not_starve_who_had_a_turn) {
  FairQueue q({1});
  std::uint64_t next = 1;
  for (; next <= 10; ++next) q.add(next, from(next), kStart, 0ns);
  EXPECT_EQ(serve_one(q), 1u);
  const auto second_turn = next++;
  q.add(second_turn, from(1), kStart, 0ns);
  int served = 0;
  // Two newcomers for each that is served.
  for (FairQueue::Ticket t = 0; t != second_turn; ++served) {
    ASSERT_LT(served, 60);
    for (int i = 0; i < 2; ++i, ++next) q.add(next, from(next), kStart, 0ns);
    t = serve_one(q);
  }
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
  for (std::uint64_t s = 1; s <= 5; ++s) q.add(s, from(s, 0, Priority::queued_turn), kStart, 0ns);
  EXPECT_EQ(q.position(*q.of_turn(3'000)), 3u);
  EXPECT_EQ(q.newcomers_position(Priority::queued_turn, 0), 6u);
  q.add(6, from(6), kStart, 0ns);
  EXPECT_EQ(q.position(3), 4u) << "somebody more urgent came";
  for (std::uint64_t s = 11; s <= 20; ++s) q.add(s, from(s, 1, Priority::queued_turn), kStart, 0ns);
  EXPECT_EQ(q.position(3), 7u) << "the other plan has three turns meanwhile";
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
          r.exclude = static_cast<ProviderSet>(*rc::gen::inRange(0, 3));
          in.insert(next);
          q.add(next++, r, now, 0ns);
          break;
        }
        case 2:
          if (!in.empty()) q.remove(*in.begin()), in.erase(in.begin());
          break;
        default:
          if (const auto t = serve_one(q)) RC_ASSERT(in.erase(t) == 1u);
      }
      RC_ASSERT(q.size() == in.size());
    }
    std::map<FairQueue::Ticket, std::size_t> position;
    for (const auto t : in) position[t] = q.position(t);
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
