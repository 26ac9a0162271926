// The real client over real sockets against the strict provider server, which shares no code with it: every provider, plain and
// streamed.
#include <caf/all.hpp>

#include "actors/model/answer.hpp"
#include "actors/model/prompt.hpp"
#include "actors/model/providers/client.hpp"
#include "actors/model/providers/embeddings.hpp"
#include "actors/model/supervisor.hpp"
#include "events/clock.hpp"
#include "tests/integration/model/strict_server.hpp"
#include "tests/unit/model/request.hpp"

namespace onboarding::model {
namespace {

using namespace std::chrono_literals;

std::unique_ptr<StrictServer> server;
class Server : public testing::Environment {
  void SetUp() override { server = std::make_unique<StrictServer>(); }
  void TearDown() override { server.reset(); }
};
const auto* const kServer = testing::AddGlobalTestEnvironment(new Server);

struct Answered : CallResult {
  std::vector<std::string> pieces;
  std::string streamed() const {
    std::string all;
    for (const auto& p : pieces) all += p;
    return all;
  }
};

Answered call(const ProviderSettings& settings, const Prompt& prompt, bool stream, std::chrono::milliseconds timeout = 10s) {
  CurlLoop loop;
  auto client = make_client(settings, loop);
  if (!client) throw std::runtime_error(client.error().message());
  auto pieces = std::make_shared<std::vector<std::string>>();
  std::promise<CallResult> promise;
  (*client)->call(prompt, timeout, stream ? TextSink([pieces](std::string_view p) { pieces->emplace_back(p); }) : nullptr,
                  [&](CallResult r) { promise.set_value(std::move(r)); });
  return {promise.get_future().get(), *pieces};
}

Prompt prompt_of(const std::string& message) { return build_prompt(*request(message), "canary"); }

class Provider : public testing::TestWithParam<std::tuple<std::string_view, bool>> {
 protected:
  std::string_view name() const { return std::get<0>(GetParam()); }
  bool streams() const { return std::get<1>(GetParam()); }
  void fault(std::string_view mode, std::string_view more = "") { server->fault(name(), mode, more); }
  void TearDown() override { fault("none", R"(,"slow_ms":3000,"forget":true)"); }

  ProviderSettings settings() const { return server->settings(name()); }
  Answered ask(const std::string& message = "hello") { return call(settings(), prompt_of(message), streams()); }
};

TEST_P(Provider, accepts_our_request_and_we_its_answer) {
  auto r = *request("I'm Zoë O'Brien from Acme, zoe@acme.io");
  r.history = {{false, "What should we call you?"}, {true, "hm \"quoted\"\n"}, {false, "Your name?"}};
  const auto result = call(settings(), build_prompt(r, "canary"), streams());
  ASSERT_EQ(result.error, CallError::none) << result.detail << result.answer;
  EXPECT_TRUE(result.was_sent);
  EXPECT_EQ(result.served_model, settings().model);
  const auto answer = parse_answer(result.answer, *small_flow(), "canary");
  ASSERT_TRUE(answer) << answer.error() << result.answer;
  const std::map<std::string, std::string> fields(answer->fields.begin(), answer->fields.end());
  EXPECT_EQ(fields,
            (std::map<std::string, std::string>{{"full_name", "Zoë O'Brien"}, {"email", "zoe@acme.io"}, {"company", "Acme"}}));
  EXPECT_GT(result.usage.input_tokens, 100);
  EXPECT_GT(result.usage.output_tokens, 10);
  EXPECT_FALSE(result.usage.raw.empty());
}

TEST_P(Provider, what_is_streamed_is_the_answer_piece_by_piece) {
  const auto result = ask("I'm Ann Smith");
  ASSERT_EQ(result.error, CallError::none) << result.detail;
  if (!streams()) {
    EXPECT_TRUE(result.pieces.empty());
    EXPECT_EQ(result.first_token_ms, -1);
    return;
  }
  EXPECT_GT(result.pieces.size(), 2u);
  EXPECT_EQ(result.streamed(), result.answer);
  EXPECT_GE(result.first_token_ms, 0);
}

TEST_P(Provider, cached_input_is_told_and_part_of_the_input) {
  auto prompt = prompt_of("hello");
  std::string stable = "These are the rules of provider " + std::string(name()) + (streams() ? ", streamed. " : ". ");
  while (stable.size() < 40'000) stable += "Be kind, and ask for one thing at a time. ";
  prompt.system = stable + prompt.system.substr(prompt.system_stable.size());
  prompt.system_stable = stable;
  const auto first = call(settings(), prompt, streams()).usage;
  prompt.user_message = "and now?";
  const auto second = call(settings(), prompt, streams()).usage;
  EXPECT_LE(first.cached_input_tokens, 0);
  EXPECT_GT(second.cached_input_tokens, 9'000);
  EXPECT_GT(second.input_tokens, second.cached_input_tokens);
  EXPECT_NEAR(static_cast<double>(second.input_tokens), static_cast<double>(first.input_tokens), 10);
  if (name() == "anthropic" || name() == "openai") { EXPECT_GT(first.cache_write_tokens, 9'000) << "these bill what they write"; }
}

TEST_P(Provider, each_error_is_recognised_for_what_it_is) {
  std::vector<std::tuple<std::string, CallError, std::chrono::milliseconds>> cases = {
      {"storm", CallError::rate_limited, 300ms},     {"storm_silent", CallError::rate_limited, 0ms},
      {"no_money", CallError::quota_exhausted, 0ms}, {"bad_key", CallError::unauthorised, 0ms},
      {"forbidden", CallError::unauthorised, 0ms},   {"error500", CallError::unavailable, 0ms},
      {"overloaded", CallError::overloaded, 0ms},    {"context", CallError::context_too_long, 0ms},
      {"redirect", CallError::unavailable, 0ms}};
  if (name() == "openai")
    cases.insert(cases.end(), {{"too_large", CallError::too_large, 0ms}, {"slow_down", CallError::slow_down, 0ms}});
  if (name() == "gemini")
    cases.insert(cases.end(), {{"day_limit", CallError::rate_limited, 0ms}, {"error504", CallError::timeout, 0ms}});
  if (name() == "anthropic")
    cases.insert(cases.end(), {{"spend_limit", CallError::quota_exhausted, 0ms}, {"error504", CallError::timeout, 0ms}});
  for (auto& [mode, error, retry_after] : cases) {
    if (mode == "storm" && name() == "anthropic") retry_after = 1s;  // it tells whole seconds
    if (mode == "storm" && name() == "deepseek") retry_after = 0ms;  // it gives no hint
    fault(mode);
    const auto r = ask();
    EXPECT_EQ(r.error, error) << mode << ": " << r.detail;
    EXPECT_TRUE(r.was_sent) << mode;
    EXPECT_TRUE(r.pieces.empty()) << mode;
    if (mode == "storm" && name() == "gemini") {
      EXPECT_TRUE(r.retry_after == 300ms || r.retry_after == 1s) << "its text says it finer than its details";
    } else if (mode == "day_limit") {
      EXPECT_GT(r.retry_after, 1s) << "until the provider's midnight";
    } else {
      EXPECT_EQ(r.retry_after, retry_after) << mode;
    }
  }
}

TEST_P(Provider, an_answer_that_is_none_is_not_taken_for_one) {
  for (const auto* mode : {"garbage", "huge"}) {
    fault(mode);
    const auto r = ask();
    EXPECT_TRUE(r.error == CallError::invalid_answer || (streams() && r.error == CallError::truncated))
        << mode << ": " << r.detail;
  }
  fault("cut");
  EXPECT_EQ(ask().error, CallError::cut_off);
  fault("refusal");
  EXPECT_EQ(ask().error, name() == "deepseek" ? CallError::invalid_answer : CallError::refused) << "of DeepSeek's a blank answer";
  for (const auto* mode : {"empty", "prose", "unknown_field", "wrong_type", "leak"}) {
    fault(mode);
    const auto r = ask();
    EXPECT_TRUE(r.error != CallError::none || !parse_answer(r.answer, *small_flow(), "canary")) << mode << ": " << r.answer;
  }
  fault("lie");  // well-formed: catching it is the domain's business, where values are checked
  EXPECT_TRUE(parse_answer(ask("I'm Ann Smith").answer, *small_flow(), "canary"));
}

TEST_P(Provider, an_answer_that_breaks_off_is_a_failure_also_when_it_ends_in_order) {
  for (const auto* mode : {"truncate", "reset", "close"}) {
    fault(mode);
    const auto r = ask();
    EXPECT_TRUE(r.error == CallError::connection || r.error == CallError::truncated)
        << mode << ": " << to_string(r.error) << r.detail;
    EXPECT_TRUE(r.was_sent);
  }
  fault("half");
  EXPECT_EQ(ask().error, streams() ? CallError::truncated : CallError::invalid_answer);
  if (streams()) {
    fault("stream_error");
    const auto r = ask();
    EXPECT_TRUE(r.error == CallError::truncated || r.error == CallError::overloaded || r.error == CallError::unavailable)
        << to_string(r.error);
    EXPECT_FALSE(r.pieces.empty()) << "it began well";
  }
}

TEST_P(Provider, one_who_hangs_or_drips_is_left_at_the_timeout) {
  for (const auto* mode : {"hang", "drip", "stall", "keep_alive_forever"}) {
    fault(mode, R"(,"drip_ms":100)");
    EXPECT_EQ(call(settings(), prompt_of("hello"), streams(), 300ms).error, CallError::timeout) << mode;
  }
}

TEST_P(Provider, a_stream_that_does_not_begin_or_stalls_is_left_before_the_timeout) {
  if (!streams()) GTEST_SKIP() << "of streams only";
  auto s = settings();
  s.first_token_timeout = 200ms;
  s.idle_timeout = 0ms;
  for (const auto* mode : {"hang", "keep_alive_forever", "slow"}) {
    fault(mode);
    const auto r = call(s, prompt_of("hello"), true, 60s);
    EXPECT_EQ(r.error, CallError::timeout) << mode;
    EXPECT_LT(r.latency_ms, 50'000) << mode;
  }
  s.first_token_timeout = 0ms;
  s.idle_timeout = 200ms;
  fault("stall");
  const auto r = call(s, prompt_of("hello"), true, 60s);
  EXPECT_EQ(r.error, CallError::timeout);
  EXPECT_FALSE(r.pieces.empty());
  EXPECT_LT(r.latency_ms, 50'000);
}

TEST_P(Provider, keep_alives_and_another_content_type_do_no_harm) {
  fault("keep_alive", R"(,"slow_ms":200)");
  auto r = ask("I'm Ann Smith");
  EXPECT_EQ(r.error, CallError::none) << r.detail;
  EXPECT_TRUE(parse_answer(r.answer, *small_flow(), "canary"));
  fault("octet_stream");
  r = ask("I'm Ann Smith");
  EXPECT_EQ(r.error, CallError::none) << r.detail;
}

TEST_P(Provider, a_usage_that_is_wild_or_missing_does_not_spoil_the_answer) {
  for (const auto* mode : {"wrong_usage", "no_usage"}) {
    fault(mode);
    const auto r = ask("I'm Ann Smith");
    EXPECT_EQ(r.error, CallError::none) << mode << r.detail;
    EXPECT_EQ(r.usage.input_tokens, -1) << "a billion is not believed";
  }
}

TEST_P(Provider, rate_headers_are_read_where_there_are_any) {
  server->control(R"({"provider":")" + std::string(name()) +
                  R"(","limits":{"requests_per_minute":100,"tokens_per_minute":50000,"input_tokens_per_minute":50000,)" +
                  R"("output_tokens_per_minute":50000}})");
  const auto r = ask();
  ASSERT_EQ(r.error, CallError::none) << r.detail;
  if (name() == "gemini" || name() == "deepseek") {
    EXPECT_TRUE(r.remaining.empty());
  } else {
    EXPECT_EQ(r.remaining.at("requests"), 99);
    EXPECT_EQ(r.limits.at("requests"), 100);
    EXPECT_TRUE(r.remaining.count(name() == "openai" ? "tokens" : "input-tokens"));
    EXPECT_GT(r.reset.at("requests"), 0ms);
  }
  server->control(
      R"({"provider":"*","limits":{"requests_per_minute":0,"tokens_per_minute":0,"input_tokens_per_minute":0,"output_tokens_per_minute":0}})");
}

TEST_P(Provider, a_wrong_key_and_what_the_provider_does_not_know_get_its_own_errors) {
  auto s = settings();
  s.api_key = "sk-wrong";
  EXPECT_EQ(call(s, prompt_of("x"), streams()).error, CallError::unauthorised);
  s = settings();
  s.model = "no-such-model";
  const auto r = call(s, prompt_of("x"), streams());
  EXPECT_EQ(r.error, CallError::model_not_found) << r.detail;
}

TEST_P(Provider, nobody_listening_is_a_connection_error_and_nothing_was_sent) {
  fault("refuse");
  const auto r = ask();
  EXPECT_EQ(r.error, CallError::connection);
  EXPECT_FALSE(r.was_sent);
  fault("none");
  EXPECT_EQ(ask().error, CallError::none);
}

INSTANTIATE_TEST_SUITE_P(All, Provider, testing::Combine(testing::ValuesIn(kProviderNames), testing::Bool()),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param)) + (std::get<1>(info.param) ? "_streamed" : "_plain");
                         });

TEST(Loop, calls_still_running_when_it_ends_are_cancelled) {
  server->fault("openai", "hang");
  std::promise<CallResult> promise;
  {
    CurlLoop loop;
    (*make_client(server->settings("openai"), loop))->call(prompt_of("x"), 10s, nullptr, [&](CallResult r) {
      promise.set_value(std::move(r));
    });
  }
  EXPECT_EQ(promise.get_future().get().error, CallError::cancelled);
  server->fault("openai", "none");
}

TEST(Loop, a_full_one_refuses_instead_of_queueing_without_bound) {
  server->fault("openai", "hang");
  CurlLoop loop(1);
  auto client = *make_client(server->settings("openai"), loop);
  std::promise<CallResult> first, second;
  client->call(prompt_of("x"), 500ms, nullptr, [&](CallResult r) { first.set_value(std::move(r)); });
  client->call(prompt_of("x"), 500ms, nullptr, [&](CallResult r) { second.set_value(std::move(r)); });
  const auto refused = second.get_future().get();
  EXPECT_EQ(refused.error, CallError::connection);
  EXPECT_FALSE(refused.was_sent);
  EXPECT_EQ(first.get_future().get().error, CallError::timeout);
  server->fault("openai", "none");
}

TEST(Supervisor, extracts_over_the_wire_within_the_providers_limits) {
  // The server enforces with its own arithmetic; 20 calls at 1,200 a minute with a burst of one second are all admitted.
  server->control(R"({"provider":"openai","limits":{"requests_per_minute":1200},"burst_seconds":2})");
  CurlLoop loop;
  auto settings = server->settings("openai");
  settings.requests_per_minute = 1'200;
  SupervisorOptions options;
  options.providers = {settings};
  options.clients = {*make_client(settings, loop)};
  options.clock = &system_clock();
  options.random = &system_random();
  caf::actor_system_config config;
  caf::actor_system system(config);
  const auto supervisor = spawn_supervisor(system, options);
  {
    caf::scoped_actor self(system);
    constexpr int kTurns = 20;
    for (int i = 0; i < kTurns; ++i) {
      auto r = request("My name is Ann and it's ann@example.com");
      r->deadline = system_clock().now() + 20s;
      self->request(supervisor, 30s, extract_atom::value, RequestPtr(r))
          .receive(
              [&](const OutcomePtr& o) {
                EXPECT_EQ(o->source, "openai");
                EXPECT_EQ(o->calls.size(), 1u);
              },
              [](const caf::error&) { ADD_FAILURE() << "no outcome"; });
    }
  }
  caf::anon_send_exit(supervisor, caf::exit_reason::user_shutdown);
  server->control(R"({"provider":"openai","limits":{"requests_per_minute":0},"burst_seconds":60})");
}

Embeddings embed(std::vector<std::string> texts, std::uint32_t dimensions, std::string_view key = "sk-test") {
  CurlLoop loop;
  auto settings = server->settings("openai");
  settings.model = "text-embedding-3-small";
  settings.api_key = key;
  auto embedder = make_embedder(settings, dimensions, loop);
  if (!embedder) throw std::runtime_error(embedder.error().message());
  std::promise<Embeddings> promise;
  (*embedder)->embed(std::move(texts), 10s, [&](Embeddings e) { promise.set_value(std::move(e)); });
  return promise.get_future().get();
}

TEST(Embeddings, come_one_for_each_text_with_their_usage) {
  const auto got = embed({"why do you need my e-mail?", "Why do you need my \"e-mail\"?", "how long does it take?"}, 64);
  ASSERT_EQ(got.call.error, CallError::none) << got.call.detail;
  ASSERT_EQ(got.vectors.size(), 3u);
  for (const auto& v : got.vectors) ASSERT_EQ(v.size(), 64u);
  EXPECT_EQ(got.vectors[0], got.vectors[1]);
  EXPECT_NE(got.vectors[0], got.vectors[2]);
  EXPECT_GT(got.call.usage.input_tokens, 10);
  EXPECT_EQ(got.call.usage.output_tokens, 0);
}

TEST(Embeddings, that_are_refused_or_broken_are_failures_with_no_vectors) {
  EXPECT_EQ(embed({""}, 64).call.error, CallError::bad_request);
  EXPECT_EQ(embed({"x"}, 64, "sk-wrong").call.error, CallError::unauthorised);
  server->fault("openai", "error500");
  EXPECT_EQ(embed({"x"}, 64).call.error, CallError::unavailable);
  server->fault("openai", "none");
  HttpReply reply;
  reply.status = 200;
  for (const char* body : {"", "[]", "{}", R"({"data":[]})", R"({"data":[{"index":0,"embedding":[1]}]})",
                           R"({"data":[{"index":1,"embedding":[1,0]}]})", R"({"data":[{"index":0,"embedding":[0,0]}]})",
                           R"({"data":[{"index":0,"embedding":["1",0]}]})", R"({"data":[7]})"}) {
    reply.body = body;
    const auto got = read_embeddings(reply, 1, 2);
    EXPECT_EQ(got.call.error, CallError::invalid_answer) << body;
    EXPECT_TRUE(got.vectors.empty());
  }
  reply.body = R"({"data":[{"index":0,"embedding":[3,4]}]})";
  EXPECT_EQ(read_embeddings(reply, 1, 2).vectors, (std::vector<std::vector<float>>{{0.6f, 0.8f}}));
}

}  // namespace
}  // namespace onboarding::model
