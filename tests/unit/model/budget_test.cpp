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

// As a provider charges that reserves the answer's cap.
Cost cost(std::int64_t input, std::int64_t output = 0) { return {input, output, output, 0}; }

Spent spent(std::int64_t input = -1, std::int64_t output = -1) {
  Spent s;
  s.input_tokens = input;
  s.output_tokens = output;
  return s;
}

Spent never_sent() {
  Spent s;
  s.was_sent = false;
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

TEST(Budget, starts_one_burst_in_debt_and_fills_continuously) {
  Budget budget(limits(60), kStart);
  EXPECT_EQ(budget.admits_at(cost(0), kStart), kStart + 2s);
  EXPECT_FALSE(budget.admits(cost(0), kStart + 1'999ms));
  ASSERT_TRUE(budget.admits(cost(0), kStart + 2s));
  budget.reserve(cost(0), kStart + 2s);
  EXPECT_EQ(budget.admits_at(cost(0), kStart + 2s), kStart + 3s);
}

TEST(Budget, a_first_call_dearer_than_a_burst_waits_for_what_the_process_before_may_have_owed) {
  Budget budget(limits(0, 30'000), kStart);  // 500 tokens a second
  EXPECT_EQ(budget.admits_at(cost(1'500), kStart), kStart + 6s + 3s) << "two such calls in debt";
}

TEST(Budget, without_limits_admits_everything) {
  Budget budget(limits(0), kStart);
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(budget.admits(cost(1'000'000, 1'000'000), kStart));
    budget.reserve(cost(1'000'000, 1'000'000), kStart);
  }
}

TEST(Budget, takes_no_dimension_when_one_is_short) {
  Budget budget(limits(600, 60'000), kStart);
  const auto now = kStart + 10s;
  ASSERT_TRUE(budget.admits(cost(1'000), now));
  budget.reserve(cost(3'000), now);  // the token bucket is in debt now, requests are not
  EXPECT_FALSE(budget.admits(cost(1), now));
  EXPECT_EQ(budget.in_flight(), 1);
  EXPECT_EQ(budget.reserved_tokens(), 3'000);
  const auto use = budget.use(now);
  EXPECT_EQ(use.at(0).name, "requests_per_minute");
  EXPECT_EQ(use.at(0).used, 1);
  EXPECT_EQ(use.at(1).used, 3'000);
}

TEST(Budget, settling_gives_back_the_input_that_was_not_used) {
  Budget budget(limits(0, 6'000), kStart);
  auto now = kStart + 60s;
  const auto lease = budget.reserve(cost(4'000, 1'000), now);
  const auto before = budget.admits_at(cost(2'000), now);
  budget.settle(lease, spent(400, 100), now);
  EXPECT_LT(budget.admits_at(cost(2'000), now), before);
  EXPECT_EQ(budget.reserved_tokens(), 0);
}

TEST(Budget, a_provider_that_reserves_the_cap_keeps_it_and_another_counts_what_was_written) {
  for (const bool cap : {true, false}) {
    auto settings = limits(0, 60'000);
    settings.counting.output_cap_reserved = cap;
    Budget budget(settings, kStart);
    const auto now = kStart + 60s;
    const auto lease = budget.reserve({500, 120, 400, 0}, now);
    EXPECT_EQ(budget.use(now)[0].used, cap ? 900 : 620);
    budget.settle(lease, spent(500, 50), now);
    EXPECT_EQ(budget.use(now)[0].used, cap ? 900 : 550);
  }
}

TEST(Budget, input_from_the_providers_cache_is_free_where_the_provider_says_so) {
  for (const bool counts : {true, false}) {
    auto settings = limits(0);
    settings.input_tokens_per_minute = 10'000;
    settings.counting.cached_input_counts = counts;
    Budget budget(settings, kStart);
    auto s = spent(1'000, 10);
    s.cached_input_tokens = 900;
    budget.settle(budget.reserve(cost(1'000), kStart + 60s), s, kStart + 60s);
    EXPECT_EQ(budget.use(kStart + 60s)[0].used, counts ? 1'000 : 100);
  }
}

TEST(Budget, a_refused_call_is_free_where_the_provider_says_so) {
  for (const bool counts : {true, false}) {
    auto settings = limits(100);
    settings.counting.failed_calls_count = counts;
    Budget budget(settings, kStart);
    auto s = spent();
    s.refused = true;
    budget.settle(budget.reserve(cost(0), kStart + 60s), s, kStart + 60s);
    EXPECT_EQ(budget.use(kStart + 60s)[0].used, counts ? 1 : 0);
  }
}

TEST(Budget, output_counts_when_it_is_there_too_since_that_is_what_a_provider_sees) {
  auto settings = limits(0);
  settings.output_tokens_per_minute = 1'000;
  settings.counting.output_cap_reserved = false;
  Budget budget(settings, kStart);
  const auto lease = budget.reserve({1, 900, 900, 0}, kStart + 60s);
  budget.settle(lease, spent(1, 900), kStart + 110s);
  EXPECT_FALSE(budget.admits({1, 200, 400, 0}, kStart + 125s))
      << "it left the window of what was asked, not that of what was written";
  EXPECT_TRUE(budget.admits({1, 200, 400, 0}, kStart + 171s));
}

TEST(Budget, a_call_that_was_never_sent_costs_nothing) {
  Budget budget(limits(60, 6'000), kStart);
  const auto now = kStart + 60s;
  budget.settle(budget.reserve(cost(1), now - 10s), never_sent(), now - 10s);
  const auto free_at = budget.admits_at(cost(100), now);
  const auto lease = budget.reserve(cost(100), now);
  EXPECT_FALSE(budget.admits(cost(100), now));
  budget.settle(lease, never_sent(), now);
  EXPECT_EQ(budget.admits_at(cost(100), now), free_at);
}

TEST(Budget, an_underestimate_is_charged_afterwards) {
  Budget budget(limits(0, 6'000), kStart);
  const auto now = kStart + 60s;
  const auto lease = budget.reserve(cost(50), now);
  ASSERT_TRUE(budget.admits(cost(10), now));
  budget.settle(lease, spent(5'995, 0), now);
  EXPECT_GT(budget.admits_at(cost(10), now), now + 59s);
}

TEST(Budget, a_request_larger_than_the_limit_is_tried_instead_of_starved) {
  Budget budget(limits(0, 1'000), kStart);
  EXPECT_TRUE(budget.admits(cost(5'000, 400), kStart + 61s));
}

TEST(Budget, a_full_house_waits_for_the_end_of_a_call) {
  Budget budget(limits(0, 0, 2), kStart);
  const auto now = kStart + Budget::kPredecessorsCalls;
  const auto first = budget.reserve({}, now);
  budget.reserve({}, now);
  EXPECT_EQ(budget.admits_at({}, now), Instant::max());
  budget.settle(first, spent(1, 1), now);
  EXPECT_TRUE(budget.admits({}, now));
}

TEST(Budget, has_places_as_the_calls_of_the_process_before_end) {
  Budget budget(limits(0, 0, 3), kStart);
  EXPECT_EQ(budget.admits_at({}, kStart), kStart + 1s);
  budget.reserve({}, kStart + 1s);
  EXPECT_EQ(budget.admits_at({}, kStart + 1s), kStart + 2s);
}

TEST(Budget, what_the_process_before_took_leaves_as_it_came) {
  Budget budget(limits(0, 60'000), kStart);
  budget.correct({{"tokens", 9'999}}, {}, {}, kStart + 10s);
  EXPECT_EQ(budget.use(kStart + 10s)[0].used, 50'001);
  EXPECT_NEAR(static_cast<double>(budget.use(kStart + 40s)[0].used), 20'000, 500);
  EXPECT_EQ(budget.use(kStart + 71s)[0].used, 0);
}

TEST(Budget, what_somebody_else_took_beside_the_process_before_stays_for_a_window) {
  Budget budget(limits(0, 60'000), kStart);
  budget.correct({{"tokens", 1}}, {}, {}, kStart + 30s);
  EXPECT_NEAR(static_cast<double>(budget.use(kStart + 65s)[0].used), 30'000, 500);
}

TEST(Budget, a_days_limit_may_be_used_at_once_and_comes_back_a_day_later) {
  ProviderSettings s;
  s.requests_per_day = 3;
  Budget budget(s, kStart);
  for (int i = 0; i < 3; ++i) budget.reserve({}, kStart);
  EXPECT_FALSE(budget.admits({}, kStart + 23h));
  EXPECT_TRUE(budget.admits({}, kStart + 25h));
}

TEST(Budget, spend_is_reserved_by_estimate_and_settled_with_the_price) {
  ProviderSettings s;
  s.spend_per_day_nanodollars = 1'000;
  Budget budget(s, kStart);
  const auto lease = budget.reserve({1, 1, 1, 900}, kStart);
  EXPECT_FALSE(budget.admits({1, 1, 1, 200}, kStart));
  auto real = spent(1, 1);
  real.nanodollars = 100;
  budget.settle(lease, real, kStart);
  EXPECT_TRUE(budget.admits({1, 1, 1, 900}, kStart));
  EXPECT_FALSE(budget.admits({1, 1, 1, 901}, kStart));
}

TEST(Budget, a_call_that_the_provider_refused_costs_no_money_though_it_counts_as_a_request) {
  ProviderSettings s;
  s.requests_per_day = 2;
  s.spend_per_day_nanodollars = 1'000;
  s.counting.failed_calls_count = true;
  Budget budget(s, kStart);
  auto real = spent(-1, -1);
  real.refused = true;
  budget.settle(budget.reserve({1, 1, 1, 900}, kStart), real, kStart);
  EXPECT_TRUE(budget.admits({1, 1, 1, 1'000}, kStart));
  budget.settle(budget.reserve({1, 1, 1, 900}, kStart), real, kStart);
  EXPECT_FALSE(budget.admits({1, 1, 1, 1}, kStart));
}

TEST(Budget, the_providers_remaining_lowers_and_never_raises_what_is_left) {
  Budget budget(limits(60), kStart);
  const auto now = kStart + 60s;
  budget.correct({{"requests", 1'000}}, {}, {}, now);
  EXPECT_TRUE(budget.admits({}, now));
  budget.correct({{"requests", 0}}, {}, {}, now);
  EXPECT_FALSE(budget.admits({}, now + 59s));
  EXPECT_TRUE(budget.admits({}, now + 61s));
}

TEST(Budget, what_others_took_is_there_again_when_the_provider_says_so) {
  Budget budget(limits(60), kStart);
  const auto now = kStart + 60s;
  budget.correct({{"requests", 0}}, {}, {{"requests", 12s}}, now);
  EXPECT_FALSE(budget.admits({}, now + 11s));
  EXPECT_TRUE(budget.admits({}, now + 13s));
}

TEST(Budget, rounded_headers_are_no_news_of_others) {
  Budget budget(limits(0, 60'000), kStart);
  const auto now = kStart + 60s;
  budget.reserve(cost(500), now);
  budget.correct({{"tokens", 59'000}}, {}, {}, now);
  EXPECT_EQ(budget.use(now)[0].used, 500);
}

TEST(Budget, a_limit_that_the_provider_tells_is_kept_to_when_it_is_lower) {
  Budget budget(limits(600), kStart);
  EXPECT_EQ(budget.correct({}, {{"requests", 60}}, {}, kStart), (std::vector<std::string>{"requests_per_minute"}));
  EXPECT_EQ(budget.use(kStart)[0].limit, 60);
  EXPECT_TRUE(budget.correct({}, {{"requests", 60}}, {}, kStart).empty()) << "told once";
  budget.correct({}, {{"requests", 10'000}}, {}, kStart);
  EXPECT_EQ(budget.use(kStart)[0].limit, 600);
}

TEST(Budget, a_limit_that_the_provider_told_is_forgotten_when_nobody_tells_it_any_more) {
  Budget budget(limits(600), kStart);
  budget.correct({}, {{"requests", 1}}, {}, kStart);
  EXPECT_EQ(budget.use(kStart + Budget::kToldFor - 1s).at(0).limit, 1);
  EXPECT_EQ(budget.use(kStart + Budget::kToldFor).at(0).limit, 600);
}

TEST(Budget, headers_with_numbers_beyond_any_limit_are_harmless) {
  Budget budget(limits(600, 30'000), kStart);
  const auto most = std::numeric_limits<std::int64_t>::max();
  budget.correct({{"tokens", most - most % 1'000}, {"requests", most}}, {{"tokens", most}}, {}, kStart + 10s);
  EXPECT_TRUE(budget.admits(cost(100), kStart + 10s));
  EXPECT_EQ(budget.use(kStart + 10s).at(1).used, 0);
}

TEST(Budget, a_wrong_count_holds_a_provider_for_no_longer_than_its_window) {
  Budget budget(limits(0, 30'000), kStart);
  const auto now = kStart + 60s;
  ASSERT_TRUE(budget.admits(cost(500), now));
  const auto r = budget.reserve(cost(500), now);
  budget.settle(r, spent(99'000'000, 9), now);
  EXPECT_LE(budget.admits_at(cost(500), now), now + 65s);
  EXPECT_EQ(budget.would_admit(cost(500), now), budget.admits_at(cost(500), now));
}

TEST(Budget, limits_change_at_any_time_and_what_was_taken_stays_taken) {
  Budget budget(limits(600), kStart);
  auto now = kStart + 60s;
  std::vector<Reservation> leases;
  for (int i = 0; i < 8; ++i) leases.push_back(budget.reserve({}, now));
  budget.change(limits(6, 1'000), now);
  EXPECT_FALSE(budget.admits({}, now + 50s));
  for (const auto& l : leases) budget.settle(l, spent(100, 0), now);
  EXPECT_EQ(budget.use(now)[1].used, 0) << "calls from before the limit are not counted in it";
  EXPECT_TRUE(budget.admits({}, now + 61s));
  budget.change(limits(0), now + 61s);
  EXPECT_TRUE(budget.use(now).empty());
  EXPECT_TRUE(budget.admits(cost(1'000'000), now + 61s));
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
    budget.settle(budget.reserve({}, now), spent(0, 0), now);
    charges.push_back({now, 1});
  }
  EXPECT_GE(charges.size(), 5'000 * 0.99);
  EXPECT_LE(most_in_any_minute(charges), 500);
}

// One process ends in the middle of a minute, the next knows nothing of it.
TEST(BudgetProperties, a_restart_at_any_time_takes_no_more_than_the_limit_in_any_minute_with_what_went_before) {
  EXPECT_TRUE(rc::check([] {
    auto settings = limits(static_cast<std::uint32_t>(*rc::gen::inRange(30, 3'000)),
                           static_cast<std::uint64_t>(*rc::gen::inRange(20'000, 2'000'000)));
    const auto each = *rc::gen::inRange(1, 2'000);
    std::vector<Charge> requests, tokens;
    auto now = kStart;
    for (int life = 0; life < 3; ++life) {
      Budget budget(settings, now);
      const auto end = now + std::chrono::milliseconds(*rc::gen::inRange(1, 90'000));
      for (auto at = budget.admits_at(cost(each), now); at < end; at = budget.admits_at(cost(each), at)) {
        budget.reserve(cost(each), at);
        requests.push_back({at, 1});
        tokens.push_back({at, each});
      }
      now = end;
    }
    RC_ASSERT(most_in_any_minute(requests) <= settings.requests_per_minute);
    RC_ASSERT(most_in_any_minute(tokens) <= static_cast<std::int64_t>(settings.tokens_per_minute));
  }));
}

TEST(BudgetProperties, no_interleaving_takes_more_than_a_limit_in_any_window_and_nothing_is_left_at_idle) {
  EXPECT_TRUE(rc::check([] {
    const auto rpm = *rc::gen::inRange(1, 200);
    const auto tpm = *rc::gen::inRange(1'000, 40'000);
    auto settings = limits(static_cast<std::uint32_t>(rpm), static_cast<std::uint64_t>(tpm), *rc::gen::inRange(0, 8));
    settings.burst_seconds = *rc::gen::inRange(0, 30);
    settings.output_tokens_per_minute = static_cast<std::uint64_t>(*rc::gen::inRange(500, 20'000));
    settings.requests_per_day = static_cast<std::uint32_t>(*rc::gen::inRange(0, 300));
    settings.counting.output_cap_reserved = *rc::gen::arbitrary<bool>();
    const bool cap = settings.counting.output_cap_reserved;
    Budget budget(settings, kStart);
    struct Open {
      Reservation reservation;
      std::size_t charge;
    };
    std::vector<Open> open;
    std::vector<Charge> requests, tokens, output;
    auto now = kStart;
    const auto steps = *rc::gen::inRange(1, 400);
    for (int i = 0; i < steps; ++i) {
      now += std::chrono::milliseconds(
          *rc::gen::weightedOneOf<int>({{6, rc::gen::inRange(0, 300)}, {1, rc::gen::inRange(0, 70'000)}}));
      const Cost wanted{*rc::gen::inRange(1, 600), *rc::gen::inRange(0, 300), *rc::gen::inRange(300, 400), 0};
      const auto counted = cap ? wanted.output_cap : wanted.output_tokens;
      if (*rc::gen::inRange(0, 2) == 0 && !open.empty()) {
        const auto which = static_cast<std::size_t>(*rc::gen::inRange<int>(0, static_cast<int>(open.size())));
        const auto o = open[which];
        open.erase(open.begin() + static_cast<std::ptrdiff_t>(which));
        const auto reserved = o.reservation.cost;
        if (*rc::gen::inRange(0, 5) == 0) {
          budget.settle(o.reservation, never_sent(), now);
          requests[o.charge].amount = tokens[o.charge].amount = output[o.charge].amount = 0;
        } else {
          const auto in = *rc::gen::inRange<std::int64_t>(0, reserved.input_tokens + 1);
          const auto out = *rc::gen::inRange<std::int64_t>(0, reserved.output_tokens + 1);
          budget.settle(o.reservation, spent(in, out), now);
          output[o.charge].amount = cap ? reserved.output_cap : out;
          tokens[o.charge].amount = in + output[o.charge].amount;
        }
      } else if (budget.admits(wanted, now)) {
        open.push_back({budget.reserve(wanted, now), requests.size()});
        requests.push_back({now, 1});
        tokens.push_back({now, wanted.input_tokens + counted});
        output.push_back({now, counted});
        RC_ASSERT(settings.max_concurrent == 0 || budget.in_flight() <= settings.max_concurrent);
        const auto sent = std::count_if(requests.begin(), requests.end(), [](const auto& r) { return r.amount > 0; });
        RC_ASSERT(settings.requests_per_day == 0 || sent <= settings.requests_per_day);
      }
      RC_ASSERT(most_in_any_minute(requests) <= rpm);
      RC_ASSERT(most_in_any_minute(tokens) <= tpm);
      RC_ASSERT(most_in_any_minute(output) <= static_cast<std::int64_t>(settings.output_tokens_per_minute));
    }
    for (const auto& o : open) budget.settle(o.reservation, spent(), now);
    RC_ASSERT(budget.in_flight() == 0);
    RC_ASSERT(budget.reserved_tokens() == 0);
  }));
}

TEST(BudgetProperties, what_is_promised_for_a_time_is_admitted_then) {
  EXPECT_TRUE(rc::check([] {
    auto settings = limits(static_cast<std::uint32_t>(*rc::gen::inRange(1, 3'000)),
                           static_cast<std::uint64_t>(*rc::gen::inRange(1, 1'000'000)));
    settings.burst_seconds = *rc::gen::inRange(0, 30);
    Budget budget(settings, kStart);
    auto now = kStart;
    for (int i = 0; i < 60; ++i) {
      now += std::chrono::nanoseconds(*rc::gen::inRange<std::int64_t>(0, 3'000'000'000));
      const auto wanted = cost(*rc::gen::inRange(1, 3'000), *rc::gen::inRange(0, 400));
      const auto at = budget.admits_at(wanted, now);
      RC_ASSERT(at >= now);
      RC_ASSERT(budget.admits(wanted, at));
      now = at;
      budget.settle(budget.reserve(wanted, now), spent(), now);
    }
  }));
}

}  // namespace
}  // namespace onboarding::model
