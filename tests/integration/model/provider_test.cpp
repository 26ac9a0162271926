// The real client over real sockets against the strict provider server, which shares no code with it.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <caf/all.hpp>
#include <future>

#include "actors/model/prompt.hpp"
#include "actors/model/answer.hpp"
#include "actors/model/providers/client.hpp"
#include "actors/model/providers/defaults.hpp"
#include "actors/model/supervisor.hpp"
#include "events/clock.hpp"
#include "tests/unit/model/request.hpp"

namespace onboarding::model {
namespace {

using namespace std::chrono_literals;

// The server as a child process; ends with the test, also when the test dies.
class StrictProvider {
 public:
  explicit StrictProvider(std::vector<std::string> options = {}) {
    int out[2];
    if (pipe2(out, O_CLOEXEC) != 0) throw std::runtime_error("pipe");
    child_ = fork();
    if (child_ == 0) {
      dup2(out[1], STDOUT_FILENO);
      std::vector<std::string> words = {"python3", "tests/integration/model/strict_provider.py", "--port", "0", "--key", "sk-test"};
      words.insert(words.end(), options.begin(), options.end());
      std::vector<char*> argv;
      for (auto& w : words) argv.push_back(w.data());
      argv.push_back(nullptr);
      execvp("python3", argv.data());
      _exit(127);
    }
    close(out[1]);
    char c = 0;
    std::string line;
    while (read(out[0], &c, 1) == 1 && c != '\n') line += c;
    close(out[0]);
    url_ = "http://127.0.0.1:" + line;
  }
  ~StrictProvider() {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }

  std::string url() const { return url_; }
  ProviderSettings settings() const {
    auto s = default_settings("openai");
    s.enabled = true;
    s.api_key = "sk-test";
    s.base_url = url_ + "/v1/";
    s.timeout = 10s;
    s.requests_per_minute = s.tokens_per_minute = 0;
    return s;
  }

 private:
  pid_t child_ = -1;
  std::string url_;
};

class Provider : public testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = std::make_unique<StrictProvider>(); }
  static void TearDownTestSuite() { server_.reset(); }

  HttpReply post(std::string path, std::string body) {
    std::promise<HttpReply> promise;
    HttpCall call;
    call.url = server_->url() + path;
    call.body = std::move(body);
    loop_.submit(std::move(call), [&](HttpReply r) { promise.set_value(std::move(r)); });
    return promise.get_future().get();
  }
  void fault(const std::string& mode) { ASSERT_EQ(post("/admin/faults", R"({"mode":")" + mode + R"(","times":-1})").status, 200); }

  void TearDown() override { fault("none"); }

  CallResult call(const ProviderSettings& settings, const Prompt& prompt, std::chrono::milliseconds timeout = 10s) {
    auto client = make_client(settings, loop_);
    if (!client) throw std::runtime_error(client.error().message());
    std::promise<CallResult> promise;
    (*client)->call(prompt, timeout, nullptr, [&](CallResult r) { promise.set_value(std::move(r)); });
    return promise.get_future().get();
  }
  CallResult call(const std::string& message, std::chrono::milliseconds timeout = 10s) {
    return call(server_->settings(), build_prompt(*request(message), "canary"), timeout);
  }

  static std::unique_ptr<StrictProvider> server_;
  CurlLoop loop_;
};
std::unique_ptr<StrictProvider> Provider::server_;

TEST_F(Provider, a_strict_provider_accepts_our_request_and_we_its_answer) {
  auto r = *request("I'm Zoë O'Brien from Acme, zoe@acme.io");
  r.history = {{false, "What should we call you?"}, {true, "hm \"quoted\"\n"}, {false, "Your name?"}};
  const auto result = call(server_->settings(), build_prompt(r, "canary"));
  ASSERT_EQ(result.error, CallError::none) << result.detail << result.answer;
  EXPECT_GT(result.usage.input_tokens, 0);
  EXPECT_EQ(result.served_model, "gpt-6-luna");
  EXPECT_TRUE(result.was_sent);
  const auto answer = parse_answer(result.answer, *small_flow(), "canary");
  ASSERT_TRUE(answer) << answer.error() << result.answer;
  const auto& fields = answer->fields;
  EXPECT_NE(std::find(fields.begin(), fields.end(), std::pair<std::string, std::string>("email", "zoe@acme.io")), fields.end());
}

TEST_F(Provider, each_misbehaviour_is_recognised_for_what_it_is) {
  const std::vector<std::pair<std::string, CallError>> cases = {
      {"truncate", CallError::connection},    {"garbage", CallError::invalid_answer},   {"empty", CallError::invalid_answer},
      {"cut", CallError::invalid_answer},     {"refusal", CallError::invalid_answer},   {"huge", CallError::invalid_answer},
      {"storm", CallError::rate_limited},     {"storm_silent", CallError::rate_limited}, {"no_money", CallError::quota_exhausted},
      {"bad_key", CallError::unauthorised},   {"error500", CallError::unavailable},     {"error503", CallError::unavailable},
      {"close", CallError::connection},       {"reset", CallError::connection},         {"redirect", CallError::unavailable},
  };
  for (const auto& [mode, error] : cases) {
    fault(mode);
    const auto r = call("hello");
    EXPECT_EQ(r.error, error) << mode << ": " << r.detail;
    EXPECT_TRUE(r.was_sent) << mode;
    EXPECT_EQ(r.retry_after, mode == "storm" ? 300ms : 0ms) << mode;
    fault("none");
  }
}

TEST_F(Provider, what_is_no_answer_of_the_contract_is_refused_by_the_parser) {
  for (const auto* mode : {"prose", "unknown_field"}) {
    fault(mode);
    const auto r = call("hello");
    EXPECT_EQ(r.error, CallError::none) << r.detail;
    EXPECT_FALSE(parse_answer(r.answer, *small_flow(), "canary")) << mode;
  }
  fault("lie");  // well-formed: catching it is the domain's business, where values are checked
  EXPECT_TRUE(parse_answer(call("hello").answer, *small_flow(), "canary"));
}

TEST_F(Provider, one_who_hangs_or_drips_is_left_at_the_timeout) {
  for (const auto* mode : {"hang", "drip"}) {
    fault(mode);
    EXPECT_EQ(call("hello", 300ms).error, CallError::timeout) << mode;
  }
}

TEST_F(Provider, a_wrong_key_and_an_unknown_member_get_the_providers_own_errors) {
  auto s = server_->settings();
  s.api_key = "sk-wrong";
  const auto r = call(s, build_prompt(*request("x"), "c"));
  EXPECT_EQ(r.error, CallError::unauthorised);
  EXPECT_EQ(r.detail, "status 401 invalid_api_key");
  auto loose = build_prompt(*request("x"), "c");
  loose.schema_json = R"({"type":"object","properties":{"reply":{"type":"string"}},"required":[]})";
  EXPECT_EQ(call(server_->settings(), loose).error, CallError::bad_request) << "the server does check the schema";
}

TEST_F(Provider, nobody_listening_is_a_connection_error_and_nothing_was_sent) {
  auto s = server_->settings();
  s.base_url = "http://127.0.0.1:1";
  const auto r = call(s, build_prompt(*request("x"), "c"));
  EXPECT_EQ(r.error, CallError::connection);
  EXPECT_FALSE(r.was_sent);
}

TEST_F(Provider, calls_still_running_when_the_loop_ends_are_cancelled) {
  fault("hang");
  std::promise<CallResult> promise;
  {
    CurlLoop loop;
    (*make_client(server_->settings(), loop))->call(build_prompt(*request("x"), "c"), 10s, nullptr, [&](CallResult r) { promise.set_value(std::move(r)); });
  }
  EXPECT_EQ(promise.get_future().get().error, CallError::cancelled);
}

TEST_F(Provider, a_full_loop_refuses_instead_of_queueing_without_bound) {
  fault("hang");
  CurlLoop loop(1);
  auto client = *make_client(server_->settings(), loop);
  std::promise<CallResult> first, second;
  client->call(build_prompt(*request("x"), "c"), 500ms, nullptr, [&](CallResult r) { first.set_value(std::move(r)); });
  client->call(build_prompt(*request("x"), "c"), 500ms, nullptr, [&](CallResult r) { second.set_value(std::move(r)); });
  const auto refused = second.get_future().get();
  EXPECT_EQ(refused.error, CallError::connection);
  EXPECT_FALSE(refused.was_sent);
  EXPECT_EQ(first.get_future().get().error, CallError::timeout);
}

TEST(Supervisor, extracts_over_the_wire_within_the_providers_limits) {
  // The server enforces with its own arithmetic; 20 calls at 1,200 a minute with a burst of one second are all admitted at once.
  StrictProvider server({"--requests-per-minute", "1200", "--latency-ms", "20", "--jitter-ms", "10"});
  CurlLoop loop;
  auto settings = server.settings();
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
    std::vector<OutcomePtr> outcomes;
    constexpr int kTurns = 20;
    for (int i = 0; i < kTurns; ++i) {
      auto r = request("My name is Ann and it's ann@example.com");
      r->deadline = system_clock().now() + 20s;
      self->request(supervisor, 30s, extract_atom::value, RequestPtr(r)).receive([&](const OutcomePtr& o) { outcomes.push_back(o); },
                                                                                  [](const caf::error&) { FAIL() << "no outcome"; });
    }
    ASSERT_EQ(outcomes.size(), kTurns);
    for (const auto& o : outcomes) {
      EXPECT_EQ(o->source, "openai");
      EXPECT_EQ(o->calls.size(), 1u);
    }
  }
  caf::anon_send_exit(supervisor, caf::exit_reason::user_shutdown);
}

}  // namespace
}  // namespace onboarding::model
