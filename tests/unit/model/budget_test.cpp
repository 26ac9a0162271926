#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "actors/model/policy/budget.hpp"

namespace onboarding::model {
namespace {

using namespace std::chrono_literals;

const Instant kStart{1'000s};

ProviderSettings limits(std::uint32_t requests, std::uint64_t tokens = 0, std::uint32_t concurrent = 0) {
  ProviderSettings s;
  s.requests_per_minute = requests;
  s.tokens_per_minute = tokens;
  s.max_concurrent = concurrent;
  return s;
}

struct Charge {
  Instant at;
  std::int64_t amount;
};

std::int64_t most_in_any_minute(const std::vector<Charge>& charges) {
  std::int64_t most = 0, sum = 0;
  std::size_t first = 0;
  for (const auto& c : charges) {
    sum += c.amount;
    while (charges[first].at <= c.at - 60s) sum -= charges[first++].amount;
    most = std::max(most, sum);
  }
  return most;
}

TEST(Budget, starts_empty_and_fills_continuously) {
  Budget budget(limits(60), kStart);
  EXPECT_FALSE(budget.admits({}, kStart));
  EXPECT_EQ(budget.admits_at({}, kStart), kStart + 1s);
  EXPECT_FALSE(budget.admits({}, kStart + 999ms));
  EXPECT_TRUE(budget.admits({}, kStart + 1s));
}

TEST(Budget, without_limits_admits_everything) {
  Budget budget(limits(0), kStart);
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(budget.admits({1'000'000, 1'000'000}, kStart));
    budget.reserve({1'000'000, 1'000'000}, kStart);
  }
}

TEST(Budget, takes_no_dimension_when_one_is_short) {
  Budget budget(limits(600, 60'000), kStart);
  const auto now = kStart + 10s;
  ASSERT_TRUE(budget.admits({1'000, 0}, now));
  budget.reserve({3'000, 0}, now);  // the token bucket is in debt now, requests are not
  EXPECT_FALSE(budget.admits({1, 0}, now));
  EXPECT_EQ(budget.in_flight(), 1);
  EXPECT_EQ(budget.reserved_tokens(), 3'000);
}

TEST(Budget, settling_gives_back_what_was_not_used) {
  Budget budget(limits(0, 6'000), kStart);
  auto now = kStart + 60s;
  const auto lease = budget.reserve({4'000, 1'000}, now);
  const auto before = budget.admits_at({2'000, 0}, now);
  budget.settle(lease, true, 400, 100, now);
  EXPECT_LT(budget.admits_at({2'000, 0}, now), before);
  EXPECT_EQ(budget.reserved_tokens(), 0);
}

TEST(Budget, a_call_that_was_never_sent_costs_nothing) {
  Budget budget(limits(60, 6'000), kStart);
  const auto now = kStart + 60s;
  const auto free_at = budget.admits_at({100, 0}, now);
  const auto lease = budget.reserve({100, 0}, now);
  EXPECT_FALSE(budget.admits({100, 0}, now));
  budget.settle(lease, false, -1, -1, now);
  EXPECT_EQ(budget.admits_at({100, 0}, now), free_at);
}

TEST(Budget, an_underestimate_is_charged_afterwards) {
  Budget budget(limits(0, 6'000), kStart);
  const auto now = kStart + 60s;
  const auto lease = budget.reserve({50, 0}, now);
  ASSERT_TRUE(budget.admits({10, 0}, now));
  budget.settle(lease, true, 5'950, 50, now);
  EXPECT_GT(budget.admits_at({10, 0}, now), now + 59s);
}

TEST(Budget, a_request_larger_than_the_limit_is_tried_instead_of_starved) {
  Budget budget(limits(0, 1'000), kStart);
  EXPECT_TRUE(budget.admits({5'000, 400}, kStart + 61s));
}

TEST(Budget, a_full_house_waits_for_the_end_of_a_call) {
  Budget budget(limits(0, 0, 2), kStart);
  const auto first = budget.reserve({}, kStart);
  budget.reserve({}, kStart);
  EXPECT_EQ(budget.admits_at({}, kStart), Instant::max());
  budget.settle(first, true, 1, 1, kStart);
  EXPECT_TRUE(budget.admits({}, kStart));
}

TEST(Budget, a_days_limit_may_be_used_at_once_and_comes_back_a_day_later) {
  ProviderSettings s;
  s.requests_per_day = 3;
  Budget budget(s, kStart);
  for (int i = 0; i < 3; ++i) budget.reserve({}, kStart);
  EXPECT_FALSE(budget.admits({}, kStart + 23h));
  EXPECT_TRUE(budget.admits({}, kStart + 25h));
}

TEST(Budget, the_providers_remaining_lowers_and_never_raises_what_is_left) {
  Budget budget(limits(60), kStart);
  const auto now = kStart + 60s;
  budget.at_most_remaining({{"requests", 1'000}}, now);
  EXPECT_TRUE(budget.admits({}, now));
  budget.at_most_remaining({{"requests", 0}}, now);
  EXPECT_FALSE(budget.admits({}, now + 59s));
  EXPECT_TRUE(budget.admits({}, now + 61s));
}

TEST(Budget, the_latest_of_several_holds_counts) {
  Budget budget(limits(0), kStart);
  budget.hold_until(kStart + 5s);
  budget.hold_until(kStart + 2s);
  EXPECT_EQ(budget.admits_at({}, kStart), kStart + 5s);
}

TEST(Budget, at_saturation_uses_at_least_99_percent_of_each_limit) {
  Budget budget(limits(500), kStart);
  std::vector<Charge> charges;
  auto now = kStart;
  while (now < kStart + 600s) {
    now = budget.admits_at({}, now);
    budget.settle(budget.reserve({}, now), true, 0, 0, now);
    charges.push_back({now, 1});
  }
  EXPECT_GE(charges.size(), 5'000 * 0.99);
  EXPECT_LE(most_in_any_minute(charges), 500);
}

TEST(BudgetProperties, no_interleaving_takes_more_than_a_limit_in_any_window_and_nothing_is_left_at_idle) {
  EXPECT_TRUE(rc::check([] {
    const auto rpm = *rc::gen::inRange(1, 200);
    const auto tpm = *rc::gen::inRange(1'000, 40'000);
    auto settings = limits(static_cast<std::uint32_t>(rpm), static_cast<std::uint64_t>(tpm), *rc::gen::inRange(0, 8));
    settings.burst_seconds = *rc::gen::inRange(0, 30);
    Budget budget(settings, kStart);
    struct Open {
      Reservation reservation;
      std::size_t charge;
    };
    std::vector<Open> open;
    std::vector<Charge> requests, tokens;
    auto now = kStart;
    const auto steps = *rc::gen::inRange(1, 400);
    for (int i = 0; i < steps; ++i) {
      now += std::chrono::milliseconds(*rc::gen::weightedOneOf<int>({{6, rc::gen::inRange(0, 300)}, {1, rc::gen::inRange(0, 70'000)}}));
      const Cost cost{*rc::gen::inRange(1, 600), *rc::gen::inRange(0, 400)};
      if (*rc::gen::inRange(0, 2) == 0 && !open.empty()) {
        const auto which = static_cast<std::size_t>(*rc::gen::inRange<int>(0, static_cast<int>(open.size())));
        const auto o = open[which];
        open.erase(open.begin() + static_cast<std::ptrdiff_t>(which));
        const auto reserved = o.reservation.cost;
        if (*rc::gen::inRange(0, 5) == 0) {
          budget.settle(o.reservation, false, -1, -1, now);
          requests[o.charge].amount = tokens[o.charge].amount = 0;
        } else {
          const auto in = *rc::gen::inRange<std::int64_t>(0, reserved.input_tokens + 1);
          const auto out = *rc::gen::inRange<std::int64_t>(0, reserved.output_tokens + 1);
          budget.settle(o.reservation, true, in, out, now);
          tokens[o.charge].amount = in + out;
        }
      } else if (budget.admits(cost, now)) {
        open.push_back({budget.reserve(cost, now), requests.size()});
        requests.push_back({now, 1});
        tokens.push_back({now, cost.input_tokens + cost.output_tokens});
        RC_ASSERT(settings.max_concurrent == 0 || budget.in_flight() <= settings.max_concurrent);
      }
      RC_ASSERT(most_in_any_minute(requests) <= rpm);
      RC_ASSERT(most_in_any_minute(tokens) <= tpm);
    }
    for (const auto& o : open) budget.settle(o.reservation, true, -1, -1, now);
    RC_ASSERT(budget.in_flight() == 0);
    RC_ASSERT(budget.reserved_tokens() == 0);
  }));
}

TEST(BudgetProperties, what_is_promised_for_a_time_is_admitted_then) {
  EXPECT_TRUE(rc::check([] {
    auto settings = limits(static_cast<std::uint32_t>(*rc::gen::inRange(1, 3'000)), static_cast<std::uint64_t>(*rc::gen::inRange(1, 1'000'000)));
    settings.burst_seconds = *rc::gen::inRange(0, 30);
    Budget budget(settings, kStart);
    auto now = kStart;
    for (int i = 0; i < 60; ++i) {
      now += std::chrono::nanoseconds(*rc::gen::inRange<std::int64_t>(0, 3'000'000'000));
      const Cost cost{*rc::gen::inRange(1, 3'000), *rc::gen::inRange(0, 400)};
      const auto at = budget.admits_at(cost, now);
      RC_ASSERT(at >= now);
      RC_ASSERT(budget.admits(cost, at));
      now = at;
      budget.settle(budget.reserve(cost, now), true, -1, -1, now);
    }
  }));
}

}  // namespace
}  // namespace onboarding::model
