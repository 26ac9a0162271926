#include <gtest/gtest.h>

#include "actors/model/prompt.hpp"
#include "actors/model/providers/client.hpp"
#include "actors/model/providers/defaults.hpp"
#include "actors/model/providers/errc.hpp"
#include "actors/model/providers/openai.hpp"
#include "actors/model/providers/rates.hpp"
#include "events/codec/json.hpp"
#include "tests/unit/model/request.hpp"

namespace onboarding::model {
namespace {

using namespace std::chrono_literals;

CallResult parse(int status, std::string body, std::vector<std::pair<std::string, std::string>> headers = {}) {
  HttpReply r;
  r.status = status;
  r.body = std::move(body);
  r.headers = std::move(headers);
  return read_reply(OpenAiFormat(), r);
}

std::string error(std::string type, std::string code, std::string message) {
  return R"({"error":{"message":")" + message + R"(","type":")" + type + R"(","param":null,"code":")" + code + R"("}})";
}

TEST(OpenAi, a_request_is_what_the_documents_ask_for) {
  auto settings = default_settings("openai");
  settings.api_key = "sk-test";
  auto r = *request("my \"message\"\n");
  r.history = {{true, "hello"}, {false, "hi"}};
  const auto call = OpenAiFormat().build(settings, build_prompt(r, "c"), false);
  EXPECT_EQ(call.url, "https://api.openai.com/v1/chat/completions");
  EXPECT_EQ(call.headers[1], "Authorization: Bearer sk-test");
  const auto body = codec::parse_json(call.body);
  ASSERT_TRUE(body) << body.error().message();
  const auto& b = *body;
  EXPECT_STREQ(b["model"].GetString(), "gpt-6-luna");
  EXPECT_FALSE(b["store"].GetBool());
  EXPECT_TRUE(b["response_format"]["json_schema"]["strict"].GetBool());
  EXPECT_FALSE(b.HasMember("max_tokens"));
  EXPECT_FALSE(b.HasMember("stream"));
  EXPECT_FALSE(b.HasMember("reasoning_effort"));
  EXPECT_STREQ(b["messages"][0]["role"].GetString(), "developer");
  ASSERT_EQ(b["messages"].Size(), 4u);
  EXPECT_STREQ(b["messages"][2]["role"].GetString(), "assistant");
  EXPECT_STREQ(b["messages"][3]["role"].GetString(), "user");
  EXPECT_EQ(std::string(b["messages"][3]["content"].GetString()), r.message);
}

TEST(OpenAi, a_completion_gives_text_usage_and_what_remains) {
  const auto r = parse(
      200,
      R"({"id":"x","model":"gpt-6-luna-2026","choices":[{"index":0,"message":{"role":"assistant","content":"{}"},"finish_reason":"stop"}],
      "usage":{"prompt_tokens":900,"completion_tokens":60,"total_tokens":960,"prompt_tokens_details":{"cached_tokens":512},"completion_tokens_details":{"reasoning_tokens":7}}})",
      {{"x-ratelimit-remaining-requests", "499"},
       {"x-ratelimit-remaining-tokens", "29000"},
       {"x-ratelimit-reset-tokens", "6m0s"},
       {"x-ratelimit-limit-tokens", "30000"},
       {"x-ratelimit-remaining-project-tokens", "28000"},
       {"x-ratelimit-remaining", "1"}});
  EXPECT_EQ(r.error, CallError::none);
  EXPECT_EQ(r.answer, "{}");
  EXPECT_EQ(r.served_model, "gpt-6-luna-2026");
  EXPECT_EQ(r.usage.input_tokens, 900);
  EXPECT_EQ(r.usage.cached_input_tokens, 512);
  EXPECT_EQ(r.usage.output_tokens, 60);
  EXPECT_EQ(r.usage.reasoning_tokens, 7);
  EXPECT_NE(r.usage.raw.find("\"total_tokens\":960"), std::string::npos);
  EXPECT_EQ(r.remaining.at("requests"), 499);
  EXPECT_EQ(r.remaining, (std::map<std::string, std::int64_t>{{"requests", 499}, {"tokens", 28'000}}))
      << "the project's are scarcer";
  EXPECT_EQ(r.limits.at("tokens"), 30'000);
  EXPECT_EQ(r.reset.at("tokens"), 6min);
}

TEST(OpenAi, answers_that_were_cut_refused_or_malformed_are_told_apart) {
  EXPECT_EQ(parse(200, R"({"choices":[{"message":{"content":"{"},"finish_reason":"length"}]})").error, CallError::cut_off);
  EXPECT_EQ(parse(200, R"({"choices":[{"message":{"content":null,"refusal":"no"},"finish_reason":"stop"}]})").error,
            CallError::refused);
  EXPECT_EQ(parse(200, R"({"choices":[{"message":{"content":""},"finish_reason":"content_filter"}]})").error, CallError::refused);
  EXPECT_EQ(parse(200, R"({"choices":[{"message":{"content":"{}"},"finish_reason":"tool_calls"}]})").error,
            CallError::invalid_answer);
  for (const auto* body :
       {"", "garbage", "[]", "{}", R"({"choices":[]})", R"({"choices":[5]})", R"({"choices":[{}]})", R"({"choices":{"0":1}})"})
    EXPECT_EQ(parse(200, body).error, CallError::invalid_answer) << body;
}

TEST(OpenAi, errors_are_told_apart) {
  const auto limited =
      parse(429, error("tokens", "rate_limit_exceeded", "Limit 30000, Used 18928, Requested 11159. Please try again in 174ms."));
  EXPECT_EQ(limited.error, CallError::rate_limited);
  EXPECT_EQ(limited.retry_after, 174ms);
  EXPECT_EQ(limited.detail, "status 429 rate_limit_exceeded");
  EXPECT_EQ(parse(429, error("tokens", "rate_limit_exceeded", "Request too large for x. Limit 30000, Requested 31538.")).error,
            CallError::too_large);
  EXPECT_EQ(parse(429, error("insufficient_quota", "credit_balance_exhausted", "")).error, CallError::quota_exhausted);
  EXPECT_EQ(parse(429, error("insufficient_quota", "something_new", "")).error, CallError::quota_exhausted);
  EXPECT_EQ(parse(429, "not json").error, CallError::rate_limited);
  EXPECT_EQ(parse(503, error("server_error", "slow_down", "")).error, CallError::slow_down);
  EXPECT_EQ(parse(400, error("invalid_request_error", "context_length_exceeded", "")).error, CallError::context_too_long);
  EXPECT_EQ(parse(400, error("invalid_request_error", "unknown_parameter", "")).error, CallError::bad_request);
  EXPECT_EQ(parse(401, error("invalid_request_error", "invalid_api_key", "")).error, CallError::unauthorised);
  EXPECT_EQ(parse(402, "").error, CallError::quota_exhausted);
  EXPECT_EQ(parse(404, error("invalid_request_error", "model_not_found", "")).error, CallError::model_not_found);
  EXPECT_EQ(parse(500, "").error, CallError::unavailable);
  EXPECT_EQ(parse(503, "<html>").error, CallError::unavailable);
  EXPECT_EQ(parse(302, "").error, CallError::unavailable);
}

TEST(OpenAi, what_a_provider_writes_into_an_error_does_not_reach_the_log_unfiltered) {
  EXPECT_EQ(parse(400, error("t", "a b\\nc:d", "secret text")).detail, "status 400 abcd");
}

TEST(OpenAi, the_exact_hint_is_preferred) {
  const auto body = error("requests", "rate_limit_exceeded", "Please try again in 6m0s.");
  EXPECT_EQ(parse(429, body, {{"retry-after", "2"}, {"retry-after-ms", "1250"}}).retry_after, 1250ms);
  EXPECT_EQ(parse(429, body, {{"retry-after", "2"}}).retry_after, 2s);
  EXPECT_EQ(
      parse(429, body, {{"retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"}, {"date", "Wed, 21 Oct 2026 07:27:20 GMT"}}).retry_after,
      40s);
  EXPECT_EQ(parse(429, body, {{"retry-after", "soon"}}).retry_after, 6min);
  EXPECT_EQ(parse(429, body).retry_after, 6min);
}

TEST(GoDuration, is_read_as_go_writes_it) {
  EXPECT_EQ(parse_go_duration("174ms"), 174ms);
  EXPECT_EQ(parse_go_duration("1.2s"), 1200ms);
  EXPECT_EQ(parse_go_duration("6m0s"), 6min);
  EXPECT_EQ(parse_go_duration("1h2m3.5s"), 1h + 2min + 3500ms);
  EXPECT_EQ(parse_go_duration("1µs"), 1ms) << "rounded up";
  for (const auto* bad : {"", "5", "s", "-1s", "1 s", "1x", "nan", "infs", "1e9h"})
    EXPECT_EQ(parse_go_duration(bad), std::nullopt) << bad;
}

TEST(Client, refuses_what_it_cannot_speak_to) {
  CurlLoop loop;
  for (const auto name : kProviderNames) {
    EXPECT_TRUE(provider_known(name));
    auto s = default_settings(name);
    s.api_key = "k";
    EXPECT_TRUE(make_client(s, loop).has_value()) << name;
  }
  auto s = default_settings("openai");
  s.api_key = "k";
  s.name = "acme";
  EXPECT_FALSE(provider_known(s.name));
  EXPECT_EQ(make_client(s, loop).error().code, Errc::unsupported_provider);
  s = default_settings("openai");
  EXPECT_FALSE(make_client(s, loop)) << "no key";
  s.api_key = "k\r\nX-Other: 1";
  EXPECT_FALSE(make_client(s, loop)) << "a header of its own";
  s.api_key = "k";
  s.base_url = "ftp://x";
  EXPECT_FALSE(make_client(s, loop));
  s.base_url = "http://";
  EXPECT_FALSE(make_client(s, loop));
}

}  // namespace
}  // namespace onboarding::model
