#include <gtest/gtest.h>

#include "actors/model/policy/estimates.hpp"
#include "actors/model/policy/forecast.hpp"
#include "actors/model/policy/queue_mode.hpp"

namespace onboarding::model {
namespace {

using namespace std::chrono_literals;

const Instant kStart{1'000s};

std::function<double(std::chrono::nanoseconds)> place(double position) {
  return [position](std::chrono::nanoseconds) { return position; };
}

TEST(QueueMode, goes_on_above_its_sessions_and_off_when_half_of_them_are_gone_for_a_while) {
  QueueModeSwitch q({});
  EXPECT_FALSE(q.update(50, kStart));
  EXPECT_TRUE(q.update(51, kStart));
  EXPECT_TRUE(q.queueing());
  EXPECT_EQ(q.why(), "sessions wait for budget");
  EXPECT_FALSE(q.update(26, kStart + 60s)) << "more than half";
  EXPECT_FALSE(q.update(25, kStart + 61s));
  EXPECT_EQ(q.next_event(), kStart + 71s);
  EXPECT_FALSE(q.update(30, kStart + 65s)) << "not calm yet: from the beginning";
  EXPECT_FALSE(q.update(10, kStart + 66s));
  EXPECT_FALSE(q.update(0, kStart + 75s));
  EXPECT_TRUE(q.update(0, kStart + 76s));
  EXPECT_FALSE(q.queueing());
  EXPECT_TRUE(q.why().empty());
  EXPECT_EQ(q.next_event(), std::nullopt);
}

TEST(QueueMode, goes_on_after_more_rate_limit_errors_than_it_bears_in_five_minutes) {
  QueueModeSwitch q({});
  for (int i = 0; i < 10; ++i) q.rate_limited(kStart + i * 1s);
  EXPECT_FALSE(q.update(0, kStart + 10s));
  q.rate_limited(kStart + 11s);
  EXPECT_TRUE(q.update(0, kStart + 11s));
  EXPECT_EQ(q.why(), "providers' rate limits");
  EXPECT_EQ(q.errors(kStart + 11s), 11);
  EXPECT_FALSE(q.update(0, kStart + 5min)) << "ten are still there";
  EXPECT_EQ(q.next_event(), kStart + 1s + 5min);
  EXPECT_FALSE(q.update(0, kStart + 5min + 6s));
  EXPECT_TRUE(q.update(0, kStart + 5min + 16s));
}

TEST(QueueMode, by_hand_stays_what_it_is) {
  QueueModeSwitch q({QueueMode::on, 50, 10});
  EXPECT_TRUE(q.update(0, kStart));
  EXPECT_EQ(q.why(), "by hand");
  EXPECT_FALSE(q.update(0, kStart + 1h));
  q.set(QueueMode::off);
  EXPECT_TRUE(q.update(1'000, kStart + 1h));
  EXPECT_FALSE(q.queueing());
  q.set(QueueMode::automatic);
  EXPECT_TRUE(q.update(1'000, kStart + 1h));
}

TEST(Forecast, drains_the_queue_ahead_at_what_is_admitted_and_adds_the_calls_own_time) {
  Forecast f;
  const auto two_a_second = [](std::chrono::nanoseconds t) { return 2 * std::chrono::duration<double>(t).count(); };
  EXPECT_NEAR(std::chrono::duration<double>(f.wait(place(10), two_a_second, 1s)).count(), 6, 0.01);
  const auto never = [](std::chrono::nanoseconds) { return 0.0; };
  EXPECT_EQ(f.wait(place(1), never, 1s), Forecast::kHorizon);
}

TEST(Forecast, counts_those_who_come_before_while_one_waits) {
  Forecast f;
  const auto two_a_second = [](std::chrono::nanoseconds t) { return 2 * std::chrono::duration<double>(t).count(); };
  const auto one_a_second_more = [](std::chrono::nanoseconds t) { return 10 + std::chrono::duration<double>(t).count(); };
  EXPECT_NEAR(std::chrono::duration<double>(f.wait(one_a_second_more, two_a_second, 0s)).count(), 10, 0.01);
}

TEST(Forecast, corrects_itself_until_four_of_ten_take_longer_than_was_said) {
  Forecast f;
  const auto admitted = [](std::chrono::nanoseconds t) { return std::chrono::duration<double>(t).count(); };
  int longer = 0;
  for (int i = 0; i < 2'000; ++i) {
    const auto promised = f.wait(place(10), admitted, 0s);
    // Really twice as long as the budgets say, give or take half of it.
    const auto actual = std::chrono::milliseconds(20'000 + (i * 7'919) % 10'000 - 5'000);
    if (i >= 1'000 && actual > promised) ++longer;
    f.learn(promised, actual, kStart + i * 1s);
  }
  EXPECT_NEAR(longer, 400, 60);
}

TEST(Forecast, does_not_swing_though_what_it_learns_comes_late) {
  Forecast f;
  const auto admitted = [](std::chrono::nanoseconds t) { return std::chrono::duration<double>(t).count(); };
  std::vector<std::chrono::nanoseconds> promised;
  for (int i = 0; i < 60'000; ++i) {  // twenty turns a second, each answered a minute after it came
    promised.push_back(f.wait(place(30), admitted, 0s));
    if (i < 1'200) continue;
    f.learn(promised[static_cast<std::size_t>(i - 1'200)], 60s + std::chrono::milliseconds((i * 7'919) % 10'000 - 5'000),
            kStart + i * 50ms);
    if (i > 30'000) { ASSERT_NEAR(f.factor(), 2, 0.5); }
  }
}

TEST(Script, is_that_of_most_characters_beyond_ascii_where_they_are_many) {
  EXPECT_EQ(script_of("I'm Ann"), Script::one_byte);
  EXPECT_EQ(script_of("Zoë Müller-Lüdenscheidt from Acme"), Script::one_byte);
  EXPECT_EQ(script_of("Меня зовут Анна"), Script::two_bytes);
  EXPECT_EQ(script_of("私の名前はアンです"), Script::three_bytes);
  EXPECT_EQ(script_of("🙂🙂"), Script::four_bytes);
  EXPECT_EQ(script_of(""), Script::one_byte);
}

TEST(Estimates, of_the_answer_are_the_cap_until_enough_is_known_and_never_more) {
  Estimates e;
  EXPECT_EQ(e.output_tokens(0, 7, 400, 0), 400);
  for (int i = 0; i < 100; ++i) e.learn_output(0, 7, i % 2 == 0 ? 50 : 70);
  const auto alone = e.output_tokens(0, 7, 400, 0), crowded = e.output_tokens(0, 7, 400, 99);
  EXPECT_NEAR(static_cast<double>(alone), 80, 3) << "mean 60 + 2 deviations of 10";
  EXPECT_NEAR(static_cast<double>(crowded), 62, 2) << "the sum of many hardly varies";
  EXPECT_EQ(e.output_tokens(0, 7, 40, 0), 40);
  EXPECT_EQ(e.output_tokens(0, 8, 400, 0), 400) << "another flow";
  EXPECT_EQ(e.output_tokens(1, 7, 400, 0), 400) << "another model";
}

TEST(Estimates, of_the_input_are_corrected_per_script_within_bounds) {
  Estimates e;
  for (int i = 0; i < 100; ++i) e.learn_input(0, Script::one_byte, 1'000, 800), e.learn_input(0, Script::three_bytes, 100, 1);
  EXPECT_NEAR(static_cast<double>(e.input_tokens(0, Script::one_byte, 500, 0)), 400, 2);
  EXPECT_EQ(e.input_tokens(0, Script::two_bytes, 500, 0), 500);
  EXPECT_EQ(e.input_tokens(0, Script::three_bytes, 500, 0), 100);
}

TEST(Estimates, flows_without_bound_do_not_take_memory_without_bound) {
  Estimates e;
  for (std::uint64_t flow = 1; flow <= 2 * Estimates::kMaxFlows; ++flow) e.learn_output(0, flow, 10);
  EXPECT_LE(e.output_tokens(0, 5'000'000, 400, 0), 20) << "those beyond the bound share what was learned";
}

}  // namespace
}  // namespace onboarding::model
