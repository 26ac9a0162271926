#include "events/pricing/pricing.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "events/codec/json.hpp"

namespace onboarding::pricing {
namespace {

domain::Timestamp at(const char* text) { return *codec::parse_time(text); }

domain::Usage used(std::int64_t input, std::int64_t output, std::int64_t cached = -1, std::int64_t written = -1,
                   std::string raw = {}) {
  domain::Usage usage;
  usage.input_tokens = input;
  usage.output_tokens = output;
  usage.cached_input_tokens = cached;
  usage.cache_write_tokens = written;
  usage.raw = std::move(raw);
  return usage;
}

constexpr const char* saturday = "2026-11-21T12:00:00Z";

TEST(Pricing, a_million_tokens_cost_what_the_list_says) {
  EXPECT_EQ(cost_nanodollars("openai", "gpt-6-luna", used(200'000, 1'000'000), at(saturday)), 20'000'000 + 500'000'000);
  EXPECT_EQ(cost_nanodollars("gemini", "gemini-3.5-flash-lite", used(1'000'000, 0), at(saturday)), 300'000'000);
}

TEST(Pricing, cached_reads_and_writes_are_parts_of_the_input_with_prices_of_their_own) {
  // 700 plain, 200 cached, 100 written: 700 * 0.10 + 200 * 0.01 + 100 * 0.125 dollars a million.
  EXPECT_EQ(cost_nanodollars("openai", "gpt-6-luna", used(1000, 0, 200, 100), at(saturday)), 70'000 + 2'000 + 12'500);
}

TEST(Pricing, what_is_written_for_an_hour_has_the_hours_price) {
  const char* raw = R"({"cache_creation":{"ephemeral_5m_input_tokens":60,"ephemeral_1h_input_tokens":40}})";
  EXPECT_EQ(cost_nanodollars("anthropic", "claude-haiku-4-5", used(100, 0, 0, 100, raw), at(saturday)), 60 * 1250 + 40 * 2000);
}

TEST(Pricing, a_long_prompt_has_the_price_of_its_tier_for_the_whole_call) {
  EXPECT_EQ(cost_nanodollars("openai", "gpt-6-luna", used(272'000, 1000), at(saturday)), 27'200'000 + 500'000);
  EXPECT_EQ(cost_nanodollars("openai", "gpt-6-luna", used(272'001, 1000), at(saturday)), 54'400'200 + 750'000);
}

TEST(Pricing, bands_hold_on_their_weekdays_and_hours_but_not_on_holidays) {
  const auto cost = [](const char* time) { return cost_nanodollars("deepseek", "deepseek-chat", used(1'000'000, 0), at(time)); };
  EXPECT_EQ(cost("2026-11-20T00:59:59Z"), 150'000'000);  // a Friday
  EXPECT_EQ(cost("2026-11-20T01:00:00Z"), 300'000'000);
  EXPECT_EQ(cost("2026-11-20T04:00:00Z"), 150'000'000);
  EXPECT_EQ(cost("2026-11-20T09:59:59Z"), 300'000'000);
  EXPECT_EQ(cost("2026-11-21T01:00:00Z"), 150'000'000);  // a Saturday
  EXPECT_EQ(cost("2026-10-01T01:00:00Z"), 150'000'000);  // the national holiday
}

TEST(Pricing, a_price_holds_from_its_date) {
  const auto luna = [](const char* time) { return cost_nanodollars("openai", "gpt-5.6-luna", used(1'000'000, 0), at(time)); };
  EXPECT_EQ(luna("2026-07-29T23:59:59Z"), 1'000'000'000);
  EXPECT_EQ(luna("2026-07-30T00:00:00Z"), 200'000'000);
  EXPECT_EQ(cost_nanodollars("gemini", "gemini-3.8-flash", used(0, 1'000'000), at("2027-01-01T00:00:00Z")), 7'500'000'000);
}

TEST(Pricing, a_models_dated_name_is_the_model_and_a_longer_name_is_another_model) {
  EXPECT_EQ(cost_nanodollars("anthropic", "claude-haiku-4-5-20251001", used(1000, 0), at(saturday)), 1'000'000);
  EXPECT_EQ(cost_nanodollars("gemini", "gemini-2.5-flash-lite", used(1'000'000, 0), at(saturday)), 100'000'000);
  EXPECT_EQ(cost_nanodollars("anthropic", "claude-haiku-4-5-turbo", used(1000, 0), at(saturday)), std::nullopt);
}

TEST(Pricing, what_is_not_known_is_not_guessed) {
  EXPECT_EQ(cost_nanodollars("openai", "gpt-7", used(1, 1), at(saturday)), std::nullopt);
  EXPECT_EQ(cost_nanodollars("gemini", "gpt-6-luna", used(1, 1), at(saturday)), std::nullopt);
  EXPECT_EQ(cost_nanodollars("openai", "gpt-6-luna", used(-1, -1), at(saturday)), std::nullopt);
  EXPECT_EQ(cost_nanodollars("openai", "gpt-6-luna", used(10, -1), at(saturday)), std::nullopt);
}

TEST(Pricing, the_offline_extractor_costs_nothing) {
  EXPECT_EQ(cost_nanodollars("offline", "rules", used(-1, -1), at(saturday)), 0);
  EXPECT_EQ(cost_nanodollars("offline", "rules", used(10, 10), at(saturday)), 0);
}

TEST(Pricing, a_table_that_says_nonsense_is_refused) {
  const auto refused = [](const std::string& models, const std::string& bands = "{}") {
    return !PriceTable::parse(R"({"version":"2026-11-20","bands":)" + bands + R"(,"models":)" + models + "}");
  };
  EXPECT_TRUE(refused("[]"));
  EXPECT_TRUE(refused(R"([{"provider":"p","model":"m","prices":[{"input":"1"}]}])"));
  EXPECT_TRUE(refused(R"([{"provider":"p","model":"m","prices":[{"input":1,"output":"1"}]}])"));
  EXPECT_TRUE(refused(R"([{"provider":"p","model":"m","prices":[{"input":"0.0000001","output":"1"}]}])"));
  EXPECT_TRUE(refused(R"([{"provider":"p","model":"m","prices":[{"input":"-1","output":"1"}]}])"));
  EXPECT_TRUE(refused(R"([{"provider":"p","model":"m","prices":[{"band":"b","input":"1","output":"1"}]}])"));
  EXPECT_TRUE(refused(R"([{"provider":"p","model":"m","from":"soon","prices":[{"input":"1","output":"1"}]}])"));
  EXPECT_TRUE(refused(R"([{"provider":"p","model":"m","prices":[{"input":"1","output":"1"}]}])",
                      R"({"b":{"weekdays":[8],"hours_utc":[]}})"));
  EXPECT_FALSE(refused(R"([{"provider":"p","model":"m","prices":[{"input":"1","output":"1"}]}])"));
  EXPECT_FALSE(PriceTable::parse(R"({"version":"yesterday","models":[]})"));
}

TEST(Pricing, the_shipped_table_has_a_date) { EXPECT_EQ(price_version().size(), 10U); }

domain::Usage any_usage() {
  const auto input = *rc::gen::inRange<std::int64_t>(0, 400'000);
  return used(input, *rc::gen::inRange<std::int64_t>(0, 5'000), *rc::gen::inRange<std::int64_t>(-1, 500'000),
              *rc::gen::inRange<std::int64_t>(-1, 500'000));
}
std::pair<std::string, std::string> any_model() {
  return *rc::gen::elementOf(std::vector<std::pair<std::string, std::string>>{{"openai", "gpt-6-luna"},
                                                                              {"openai", "gpt-4o-mini"},
                                                                              {"gemini", "gemini-3.8-flash"},
                                                                              {"deepseek", "deepseek-flash"},
                                                                              {"deepseek", "deepseek-v4-pro"},
                                                                              {"anthropic", "claude-haiku-5-5"},
                                                                              {"anthropic", "claude-sonnet-5-5"}});
}
domain::Timestamp any_time() {
  return domain::Timestamp(std::chrono::minutes(*rc::gen::inRange<std::int64_t>(29'000'000, 31'000'000)));  // 2025 to 2028
}

RC_GTEST_PROP(Pricing, more_tokens_never_cost_less, ()) {
  const auto [provider, model] = any_model();
  const auto time = any_time();
  domain::Usage usage = any_usage();
  usage.cached_input_tokens = std::min(usage.cached_input_tokens, usage.input_tokens);
  usage.cache_write_tokens = -1;
  domain::Usage more = usage;
  more.output_tokens += *rc::gen::inRange<std::int64_t>(0, 1000);
  more.input_tokens += *rc::gen::inRange<std::int64_t>(0, 1000);
  const auto less = cost_nanodollars(provider, model, usage, time);
  RC_ASSERT(less && *less >= 0 && *less <= *cost_nanodollars(provider, model, more, time));
}

RC_GTEST_PROP(Pricing, cached_reads_never_cost_more_than_reading_anew, ()) {
  const auto [provider, model] = any_model();
  const auto time = any_time();
  domain::Usage usage = any_usage();
  usage.cache_write_tokens = -1;
  domain::Usage uncached = usage;
  uncached.cached_input_tokens = -1;
  RC_ASSERT(*cost_nanodollars(provider, model, usage, time) <= *cost_nanodollars(provider, model, uncached, time));
}

// Within one tier the price is linear: splitting a call's tokens over two changes the sum by rounding only.
RC_GTEST_PROP(Pricing, two_halves_cost_what_the_whole_costs, ()) {
  const auto [provider, model] = any_model();
  const auto time = any_time();
  const auto half = *rc::gen::inRange<std::int64_t>(0, 40'000), out = *rc::gen::inRange<std::int64_t>(0, 4'000);
  const auto cached = *rc::gen::inRange<std::int64_t>(0, half + 1);
  const auto one = *cost_nanodollars(provider, model, used(half, out, cached), time);
  const auto both = *cost_nanodollars(provider, model, used(2 * half, 2 * out, 2 * cached), time);
  RC_ASSERT(std::abs(2 * one - both) <= 1);
}

}  // namespace
}  // namespace onboarding::pricing
