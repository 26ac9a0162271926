#include <gtest/gtest.h>

#include "actors/model/policy/breaker.hpp"

namespace onboarding::model {
namespace {

using namespace std::chrono_literals;

const Instant kStart{1'000s};

Breaker opened() {
  Breaker breaker;
  for (std::uint32_t i = 0; i < Breaker::kFailuresToOpen; ++i) breaker.failed(kStart, false);
  return breaker;
}

TEST(Breaker, opens_after_five_failures_in_a_row_and_lets_one_probe_through) {
  Breaker breaker;
  for (int i = 0; i < 4; ++i) EXPECT_FALSE(breaker.failed(kStart, false));
  breaker.succeeded(kStart, false);
  for (int i = 0; i < 4; ++i) EXPECT_FALSE(breaker.failed(kStart, false));
  EXPECT_TRUE(breaker.admits(kStart));
  EXPECT_TRUE(breaker.failed(kStart, false));
  EXPECT_FALSE(breaker.admits(kStart + 9s));
  ASSERT_TRUE(breaker.admits(kStart + 10s));
  EXPECT_TRUE(breaker.begin());
  EXPECT_EQ(breaker.state(kStart + 10s), "probing");
  EXPECT_FALSE(breaker.admits(kStart + 10s)) << "one probe at a time";
  EXPECT_TRUE(breaker.failed(kStart + 10s, true));
  EXPECT_FALSE(breaker.admits(kStart + 29s)) << "twice as long as before";
  ASSERT_TRUE(breaker.admits(kStart + 30s));
  breaker.begin();
  EXPECT_TRUE(breaker.succeeded(kStart + 30s, true));
  EXPECT_TRUE(breaker.closed());
}

TEST(Breaker, ramps_up_after_the_probe) {
  auto breaker = opened();
  auto now = kStart + 10s;
  breaker.begin();
  breaker.succeeded(now, true);
  EXPECT_EQ(breaker.state(now), "ramping");
  EXPECT_EQ(breaker.most_in_flight(now), 1);
  EXPECT_EQ(breaker.next_step(now), now + 1s);
  EXPECT_EQ(breaker.most_in_flight(now + 3'500ms), 8);
  EXPECT_EQ(breaker.state(now + 10s), "closed");
  EXPECT_GT(breaker.most_in_flight(now + 10s), 1'000'000);
}

TEST(Breaker, two_failures_in_a_row_on_the_ramp_open_it_again_for_longer) {
  auto breaker = opened();
  const auto now = kStart + 10s;
  breaker.begin();
  breaker.succeeded(now, true);
  EXPECT_FALSE(breaker.failed(now + 1s, false));
  breaker.succeeded(now + 1s, false);
  EXPECT_FALSE(breaker.failed(now + 2s, false));
  EXPECT_TRUE(breaker.failed(now + 2s, false));
  EXPECT_EQ(breaker.open_until(), now + 22s);
}

TEST(Breaker, calls_from_before_it_opened_neither_close_nor_prolong_it) {
  auto breaker = opened();
  EXPECT_FALSE(breaker.succeeded(kStart + 1s, false));
  EXPECT_FALSE(breaker.failed(kStart + 5s, false));
  EXPECT_EQ(breaker.open_until(), kStart + 10s);
}

TEST(Breaker, a_shorter_deadline_never_replaces_a_longer_one) {
  Breaker breaker;
  EXPECT_TRUE(breaker.failed_for_long(kStart, false));
  EXPECT_FALSE(breaker.failed_for_long(kStart, false)) << "told once";
  EXPECT_FALSE(breaker.failed(kStart, false));
  EXPECT_EQ(breaker.open_until(), kStart + 15min);
  breaker.begin();
  breaker.failed(kStart + 1s, true);
  EXPECT_EQ(breaker.open_until(), kStart + 15min);
}

TEST(Breaker, a_probe_without_a_verdict_makes_room_for_another) {
  auto breaker = opened();
  breaker.begin();
  breaker.undecided(true);
  EXPECT_TRUE(breaker.admits(kStart + 10s));
}

}  // namespace
}  // namespace onboarding::model
