#include <gtest/gtest.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <caf/all.hpp>
#include <caf/scheduler/test_coordinator.hpp>

#include "actors/model/supervisor.hpp"
#include "tests/unit/model/request.hpp"

namespace onboarding::model {

// The real extractor has tests of its own; here it is sure of what it is told to be sure of.
std::optional<domain::ModelAnswer> extract_offline(const ExtractionRequest& r) {
  if (r.message == "throw") throw std::runtime_error("as told");
  if (r.message.find("sure") == std::string::npos) return std::nullopt;
  return domain::ModelAnswer{"offline reply", {}, {}};
}

namespace {

using namespace std::chrono_literals;

constexpr const char* kAnswer = R"({"reply":"Hi Ann","fields":{"full_name":"Ann"},"asks":["email"]})";

CallResult good() {
  CallResult r;
  r.answer = kAnswer;
  r.usage.input_tokens = 300;
  r.usage.output_tokens = 40;
  r.served_model = "served";
  r.latency_ms = 12;
  r.was_sent = true;
  return r;
}

CallResult bad(CallError error) {
  CallResult r;
  r.error = error;
  r.was_sent = true;
  return r;
}

// Answers by a script; without one, calls pile up until the test ends them.
class ScriptedClient final : public ProviderClient {
 public:
  std::function<std::optional<CallResult>(int call)> script;
  std::vector<std::function<void(CallResult)>> pending;
  std::vector<Prompt> prompts;
  std::vector<std::chrono::milliseconds> timeouts;

  void call(const Prompt& prompt, std::chrono::milliseconds timeout, TextSink, std::function<void(CallResult)> done) override {
    prompts.push_back(prompt);
    timeouts.push_back(timeout);
    if (auto r = script ? script(static_cast<int>(prompts.size())) : std::nullopt)
      done(std::move(*r));
    else
      pending.push_back(std::move(done));
  }
  int calls() const { return static_cast<int>(prompts.size()); }
};

struct Config : caf::actor_system_config {
  Config() { set("scheduler.policy", caf::atom("testing")); }
};

class Supervisor : public testing::Test {
 protected:
  class VirtualClock final : public Clock {
   public:
    explicit VirtualClock(Supervisor& s) : s_(s) {}
    domain::Timestamp now() const override {
      return domain::Timestamp(std::chrono::duration_cast<std::chrono::microseconds>(1'000'000s + s_.scheduler().clock().now().time_since_epoch()));
    }

   private:
    Supervisor& s_;
  };

  ~Supervisor() override {
    if (supervisor_) caf::anon_send_exit(supervisor_, caf::exit_reason::user_shutdown);
    supervisor_ = nullptr;
    for (auto& c : clients_) c->pending.clear();
    run();
  }

  caf::scheduler::test_coordinator& scheduler() { return dynamic_cast<caf::scheduler::test_coordinator&>(system_.scheduler()); }
  void run() { scheduler().run(); }
  void pass(std::chrono::milliseconds time) {
    // In steps, so that one timer can set the next within the time that passes.
    for (; time > 0ms; time -= 10ms) {
      scheduler().clock().advance_time(std::min(time, 10ms));
      run();
    }
  }

  ScriptedClient& add(std::string name, std::uint32_t weight, std::uint32_t requests_per_minute = 0) {
    ProviderSettings s;
    s.name = std::move(name);
    s.model = "model of " + s.name;
    s.enabled = true;
    s.weight = weight;
    s.requests_per_minute = requests_per_minute;
    s.timeout = 5s;
    options_.providers.push_back(s);
    clients_.push_back(std::make_shared<ScriptedClient>());
    options_.clients.push_back(clients_.back());
    return *clients_.back();
  }

  void start() {
    options_.clock = &clock_;
    options_.metrics = &registry_;
    supervisor_ = spawn_supervisor(system_, options_);
    run();
  }

  struct Asked {
    OutcomePtr outcome;
    int answers = 0;
  };

  // What an asking actor needs comes as an argument: CAF 0.17 dereferences a null pointer when a function is spawned without one.
  std::shared_ptr<Asked> extract(std::string message, std::chrono::milliseconds time = 10s, Priority priority = Priority::waiting_client) {
    auto r = request(std::move(message));
    r->deadline = clock_.now() + time;
    r->priority = priority;
    auto asked = std::make_shared<Asked>();
    system_.spawn(
        [asked, r](caf::event_based_actor* self, const caf::actor& to) {
          self->request(to, caf::infinite, extract_atom::value, RequestPtr(r)).then([asked](const OutcomePtr& o) {
            asked->outcome = o;
            ++asked->answers;
          });
        },
        supervisor_);
    run();
    return asked;
  }

  ModelStatusPtr status() {
    auto got = std::make_shared<ModelStatusPtr>();
    system_.spawn(
        [got](caf::event_based_actor* self, const caf::actor& to) {
          self->request(to, caf::infinite, model_status_atom::value).then([got](const ModelStatusPtr& s) { *got = s; });
        },
        supervisor_);
    run();
    return *got;
  }

  std::string metrics() { return prometheus::TextSerializer().Serialize(registry_.Collect()); }

  void expect_nothing_outstanding() {
    const auto now = status();
    for (const auto& p : now->providers) EXPECT_EQ(p.in_flight, 0) << p.name;
    EXPECT_EQ(now->waiting, 0);
  }

  Config config_;
  caf::actor_system system_{config_};
  VirtualClock clock_{*this};
  prometheus::Registry registry_;
  SupervisorOptions options_;
  std::vector<std::shared_ptr<ScriptedClient>> clients_;
  caf::actor supervisor_;
};

TEST_F(Supervisor, with_no_provider_the_offline_extractor_answers) {
  start();
  const auto a = extract("sure");
  ASSERT_TRUE(a->outcome);
  EXPECT_EQ(a->outcome->source, "offline");
  EXPECT_EQ(a->outcome->answer->reply, "offline reply");
  EXPECT_TRUE(a->outcome->calls.empty());
}

TEST_F(Supervisor, an_unsure_or_broken_offline_extractor_is_no_answer_and_says_why) {
  start();
  for (const auto* message : {"hm", "throw"}) {
    const auto a = extract(message);
    ASSERT_TRUE(a->outcome);
    EXPECT_FALSE(a->outcome->answer);
    EXPECT_EQ(a->outcome->failure, "no_provider");
    EXPECT_EQ(a->outcome->source, "none");
  }
}

TEST_F(Supervisor, a_switched_off_offline_extractor_is_not_asked) {
  options_.offline_enabled = false;
  start();
  EXPECT_FALSE(extract("sure")->outcome->answer);
}

TEST_F(Supervisor, a_call_gives_the_answer_and_its_record) {
  auto& openai = add("openai", 40);
  openai.script = [](int) { return good(); };
  start();
  const auto a = extract("I'm Ann");
  ASSERT_TRUE(a->outcome && a->outcome->answer);
  EXPECT_EQ(a->outcome->source, "openai");
  EXPECT_EQ(a->outcome->answer->fields[0].second, "Ann");
  ASSERT_EQ(a->outcome->calls.size(), 1u);
  const auto& call = a->outcome->calls[0];
  EXPECT_EQ(call.attempt, 1u);
  EXPECT_EQ(call.model, "served");
  EXPECT_EQ(call.latency_ms, 12);
  EXPECT_EQ(call.usage.input_tokens, 300);
  EXPECT_EQ(call.raw_answer, kAnswer);
  EXPECT_TRUE(call.error.empty());
  EXPECT_EQ(openai.prompts[0].user_message, "I'm Ann");
  EXPECT_EQ(openai.timeouts[0], 5s);
  expect_nothing_outstanding();
  EXPECT_NE(metrics().find(R"(onboarding_model_calls_total{outcome="ok",provider="openai"} 1)"), std::string::npos) << metrics();
}

TEST_F(Supervisor, a_call_gets_no_more_time_than_the_deadline_leaves) {
  auto& openai = add("openai", 40);
  start();
  extract("x", 800ms);
  EXPECT_EQ(openai.timeouts.at(0), 800ms);
}

TEST_F(Supervisor, a_failed_call_goes_to_the_next_provider_in_the_fallback_order) {
  auto& a = add("a", 40);
  auto& b = add("b", 0);
  auto& c = add("c", 0);
  options_.fallback_order = {"c", "b"};
  a.script = [](int) { return bad(CallError::unavailable); };
  c.script = [](int) { return bad(CallError::timeout); };
  b.script = [](int) { return good(); };
  start();
  const auto asked = extract("x");
  ASSERT_TRUE(asked->outcome);
  EXPECT_EQ(asked->outcome->source, "b");
  ASSERT_EQ(asked->outcome->calls.size(), 3u);
  EXPECT_EQ(asked->outcome->calls[0].error, "unavailable");
  EXPECT_EQ(asked->outcome->calls[1].provider, "c");
  EXPECT_EQ(asked->outcome->calls[1].origin, "provider");
  EXPECT_EQ(asked->outcome->calls[2].attempt, 3u);
}

TEST_F(Supervisor, what_is_not_the_agreed_answer_is_a_failed_call_and_is_tried_again) {
  auto& openai = add("openai", 40);
  openai.script = [](int n) {
    auto r = good();
    if (n == 1) r.answer = R"({"reply":"Hi","fields":{"password":"x"}})";
    return r;
  };
  start();
  const auto a = extract("x");
  pass(1s);
  ASSERT_TRUE(a->outcome && a->outcome->answer);
  ASSERT_EQ(a->outcome->calls.size(), 2u);
  EXPECT_EQ(a->outcome->calls[0].error, "invalid_answer");
}

TEST_F(Supervisor, gives_up_after_a_few_attempts_and_asks_the_offline_extractor) {
  auto& openai = add("openai", 40);
  openai.script = [](int) { return bad(CallError::connection); };
  start();
  const auto a = extract("sure");
  pass(2s);
  ASSERT_TRUE(a->outcome && a->outcome->answer);
  EXPECT_EQ(a->outcome->source, "offline");
  EXPECT_EQ(a->outcome->calls.size(), 4u);
  expect_nothing_outstanding();
}

TEST_F(Supervisor, a_request_that_a_provider_cannot_take_is_not_sent_there_again) {
  auto& openai = add("openai", 40);
  openai.script = [](int) { return bad(CallError::context_too_long); };
  start();
  const auto a = extract("hm");
  pass(1s);
  EXPECT_EQ(openai.calls(), 1);
  EXPECT_EQ(a->outcome->failure, "no_provider");
}

TEST_F(Supervisor, all_down_means_offline_and_then_nothing) {
  auto& a = add("a", 40);
  auto& b = add("b", 40);
  a.script = b.script = [](int) { return bad(CallError::unavailable); };
  start();
  for (int i = 0; i < 5; ++i) {
    extract("sure");
    pass(2s);
  }
  const auto before = a.calls() + b.calls();
  EXPECT_EQ(extract("sure")->outcome->source, "offline");
  EXPECT_EQ(extract("hm")->outcome->failure, "no_provider");
  EXPECT_EQ(a.calls() + b.calls(), before) << "open breakers let nobody through";
  const auto now = status();
  for (const auto& p : now->providers) EXPECT_FALSE(p.healthy);
}

TEST_F(Supervisor, an_open_breaker_lets_one_probe_through_and_closes_when_it_succeeds) {
  auto& openai = add("openai", 40);
  openai.script = [](int) { return bad(CallError::unavailable); };
  start();
  extract("a");
  extract("b");
  pass(2s);
  ASSERT_FALSE(status()->providers[0].healthy);
  pass(10s);
  openai.script = nullptr;
  const auto before = openai.calls();
  const auto probe = extract("probe");
  const auto other = extract("sure");
  EXPECT_EQ(openai.calls(), before + 1);
  EXPECT_EQ(other->outcome->source, "offline");
  openai.pending.back()(good());
  run();
  EXPECT_EQ(probe->outcome->source, "openai");
  EXPECT_TRUE(status()->providers[0].healthy);
}

TEST_F(Supervisor, without_budget_extractions_wait_and_are_served_by_priority) {
  auto& openai = add("openai", 40, 60);
  start();
  const auto background = extract("background", 60s, Priority::background);
  const auto client = extract("client", 60s, Priority::waiting_client);
  const auto queued = extract("queued", 60s, Priority::queued_turn);
  EXPECT_EQ(openai.calls(), 0);
  EXPECT_EQ(status()->waiting, 3);
  pass(4'100ms);
  ASSERT_EQ(openai.calls(), 3);
  EXPECT_EQ(openai.prompts[0].user_message, "client");
  EXPECT_EQ(openai.prompts[1].user_message, "queued");
  EXPECT_EQ(openai.prompts[2].user_message, "background");
  EXPECT_NE(metrics().find(R"(onboarding_model_rate_limited_total{origin="self",provider="openai"} )"), std::string::npos);
}

TEST_F(Supervisor, waiting_in_vain_ends_at_the_deadline_with_the_offline_extractor_or_nothing) {
  auto& openai = add("openai", 40, 1);
  start();
  const auto sure = extract("sure", 2s);
  const auto unsure = extract("hm", 2s);
  pass(1'900ms);
  EXPECT_FALSE(sure->outcome);
  pass(200ms);
  ASSERT_TRUE(sure->outcome && unsure->outcome);
  EXPECT_EQ(sure->outcome->source, "offline");
  EXPECT_EQ(unsure->outcome->failure, "deadline");
  EXPECT_EQ(openai.calls(), 0);
  expect_nothing_outstanding();
}

TEST_F(Supervisor, a_429_holds_the_provider_and_the_extraction_waits_instead_of_taking_a_worse_answer) {
  auto& openai = add("openai", 40);
  openai.script = [](int n) {
    if (n > 1) return good();
    auto r = bad(CallError::rate_limited);
    r.retry_after = 2s;
    return r;
  };
  start();
  const auto a = extract("sure");
  pass(1'900ms);
  EXPECT_FALSE(a->outcome);
  pass(200ms);
  ASSERT_TRUE(a->outcome);
  EXPECT_EQ(a->outcome->source, "openai");
  EXPECT_EQ(a->outcome->calls[0].error, "rate_limited");
  EXPECT_EQ(a->outcome->calls[0].origin, "provider");
  EXPECT_NE(metrics().find(R"(onboarding_model_rate_limited_total{origin="provider",provider="openai"} 1)"), std::string::npos);
}

TEST_F(Supervisor, a_client_that_never_calls_back_loses_its_lease_and_the_extraction_is_answered) {
  auto& openai = add("openai", 40);
  start();
  const auto a = extract("sure", 3s);
  ASSERT_EQ(openai.calls(), 1);
  EXPECT_EQ(status()->providers[0].in_flight, 1);
  pass(3'300ms);
  ASSERT_TRUE(a->outcome) << status()->providers[0].in_flight;
  EXPECT_EQ(a->outcome->source, "offline");
  EXPECT_EQ(a->outcome->calls.at(0).error, "timeout");
  expect_nothing_outstanding();
  openai.pending.at(0)(good());
  run();
  EXPECT_EQ(a->answers, 1) << "what comes late changes nothing";
}

TEST(SupervisorShutdown, a_client_may_call_back_after_the_actor_system_has_gone) {
  auto client = std::make_shared<ScriptedClient>();
  {
    Config config;
    caf::actor_system system(config);
    auto& scheduler = dynamic_cast<caf::scheduler::test_coordinator&>(system.scheduler());
    class Still final : public Clock {
      domain::Timestamp now() const override { return {}; }
    } clock;
    SupervisorOptions options;
    options.providers.emplace_back().enabled = true;
    options.clients = {client};
    options.clock = &clock;
    const auto supervisor = spawn_supervisor(system, options);
    auto r = request("x");
    r->deadline = domain::Timestamp(10s);
    bool told = false;
    system.spawn(
        [&told, r](caf::event_based_actor* self, const caf::actor& to) {
          self->request(to, caf::infinite, extract_atom::value, RequestPtr(r))
              .then([](const OutcomePtr&) { ADD_FAILURE() << "nobody answered"; }, [&told](const caf::error&) { told = true; });
        },
        supervisor);
    scheduler.run();
    ASSERT_EQ(client->pending.size(), 1u);
    caf::anon_send_exit(supervisor, caf::exit_reason::user_shutdown);
    scheduler.run();
    EXPECT_TRUE(told) << "whoever waits learns that there is no outcome";
  }
  client->pending[0](good());
}

TEST_F(Supervisor, ends_its_calls_when_it_ends_and_keeps_none_that_ended) {
  auto& openai = add("openai", 40);
  start();
  const auto before = system_.registry().running();
  for (int i = 0; i < 20; ++i) extract("sure");
  EXPECT_GE(system_.registry().running(), before + 20) << "each call is an actor";
  for (int i = 0; i < 10; ++i) openai.pending[i](good());
  run();
  EXPECT_EQ(system_.registry().running(), before + 20) << "ten calls, and those who wait for them";
  caf::anon_send_exit(supervisor_, caf::exit_reason::user_shutdown);
  supervisor_ = nullptr;
  run();
  EXPECT_LT(system_.registry().running(), before);
}

TEST_F(Supervisor, the_real_usage_replaces_the_estimate) {
  auto& openai = add("openai", 40);
  options_.providers[0].tokens_per_minute = 4'000;
  options_.providers[0].counting.output_cap_reserved = false;
  openai.script = [](int) { return good(); };
  start();
  // Each call is estimated at over 1,000 tokens and takes 340: by the estimate four would fit into the time, after the start.
  std::vector<std::shared_ptr<Asked>> asked;
  for (int i = 0; i < 8; ++i) asked.push_back(extract("x", 120s));
  pass(100s);
  EXPECT_GE(openai.calls(), 7);
}

TEST_F(Supervisor, refused_keys_are_no_reason_to_call_again_and_again) {
  auto& openai = add("openai", 40);
  openai.script = [](int) { return bad(CallError::unauthorised); };
  start();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(extract("sure")->outcome->source, "offline");
  pass(60s);
  extract("sure");
  EXPECT_EQ(openai.calls(), 1);
}

TEST_F(Supervisor, providers_share_calls_by_weight) {
  auto& a = add("a", 40);
  auto& b = add("b", 40);
  auto& c = add("c", 20);
  a.script = b.script = c.script = [](int) { return good(); };
  start();
  for (int i = 0; i < 50; ++i) extract("x");
  EXPECT_EQ(a.calls(), 20);
  EXPECT_EQ(b.calls(), 20);
  EXPECT_EQ(c.calls(), 10);
}

}  // namespace
}  // namespace onboarding::model
