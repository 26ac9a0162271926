#include <gtest/gtest.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <caf/all.hpp>
#include <caf/scheduler/test_coordinator.hpp>

#include "actors/model/embedder.hpp"
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
  std::vector<TextSink> sinks;
  std::vector<std::chrono::milliseconds> timeouts;

  void call(const Prompt& prompt, std::chrono::milliseconds timeout, TextSink on_text,
            std::function<void(CallResult)> done) override {
    prompts.push_back(prompt);
    timeouts.push_back(timeout);
    sinks.push_back(std::move(on_text));
    if (auto r = script ? script(static_cast<int>(prompts.size())) : std::nullopt) done(std::move(*r));
    else pending.push_back(std::move(done));
  }
  int calls() const { return static_cast<int>(prompts.size()); }
};

class Onlooker final : public ReplyWatch {
 public:
  explicit Onlooker(std::function<void(std::string_view, bool)> sink) : sink_(std::move(sink)) {}
  bool watched() const override { return here; }
  void write(std::string_view text, bool restart) override {
    if (sink_) sink_(text, restart);
  }
  bool here = true;

 private:
  const std::function<void(std::string_view, bool)> sink_;
};

// All texts are alike to it, or it fails.
class OneVector final : public Embedder {
 public:
  void embed(std::vector<std::string> texts, std::chrono::milliseconds, std::function<void(Embeddings)> done) override {
    Embeddings e;
    e.call.error = error;
    e.call.was_sent = true;
    e.call.usage.input_tokens = 8;
    if (error == CallError::none) e.vectors.assign(texts.size(), {1.0f, 0.0f});
    done(std::move(e));
  }
  CallError error = CallError::none;
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
      return domain::Timestamp(
          std::chrono::duration_cast<std::chrono::microseconds>(1'000'000s + s_.scheduler().clock().now().time_since_epoch()));
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
  std::shared_ptr<Asked> extract(std::string message, std::chrono::milliseconds time = 10s,
                                 Priority priority = Priority::waiting_client) {
    auto r = request(std::move(message));
    r->deadline = clock_.now() + time;
    r->priority = priority;
    if (shape_) shape_(*r);
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

  template <class... Parts>
  ModelStatusPtr tell(Parts... parts) {
    auto got = std::make_shared<ModelStatusPtr>();
    words_.clear();
    system_.spawn(
        [this, got, parts...](caf::event_based_actor* self, const caf::actor& to) {
          self->request(to, caf::infinite, parts...)
              .then([got](const ModelStatusPtr& s) { *got = s; },
                    [this, self](const caf::error& e) { words_ = self->system().render(e); });
        },
        supervisor_);
    run();
    return *got;
  }

  QueuePlace place(std::string turn, domain::Timestamp arrived = {}) {
    auto got = std::make_shared<QueuePlace>();
    auto about = std::make_shared<ExtractionRequest>();
    about->turn_id = std::move(turn);
    about->arrived = arrived;
    system_.spawn(
        [got, about = RequestPtr(about)](caf::event_based_actor* self, const caf::actor& to) {
          self->request(to, caf::infinite, place_atom::value, about).then([got](const QueuePlace& p) { *got = p; });
        },
        supervisor_);
    run();
    return *got;
  }

  std::vector<std::pair<DayUse, bool>> kept_;  // and whether it was the last word
  std::function<void(ExtractionRequest&)> shape_;
  std::string words_;  // of the last error
  Config config_;
  caf::actor_system system_{config_};
  VirtualClock clock_{*this};
  prometheus::Registry registry_;
  SupervisorOptions options_;
  std::vector<std::shared_ptr<ScriptedClient>> clients_;
  caf::actor supervisor_;
};

class Books final : public ShareStore {
 public:
  void renew(ShareRequest request, Done done) override {
    requests.push_back(std::move(request));
    if (answer) done(*answer);
    else done(failure(std::make_error_code(std::errc::timed_out)));
  }
  std::optional<ShareAnswer> answer;
  std::vector<ShareRequest> requests;
};

TEST_F(Supervisor, that_shares_a_limit_calls_nobody_before_it_has_a_slot_and_keeps_to_its_share) {
  Books books;
  auto& a = add("a", 1, 600);
  a.script = [](int) { return good(); };
  options_.shares = &books;
  options_.server_id = "one";
  start();
  auto first = extract("hello", 60s);
  pass(2s);
  EXPECT_EQ(a.calls(), 0);
  ASSERT_FALSE(books.requests.empty());
  EXPECT_EQ(books.requests[0].server_id, "one");
  const auto name = books.requests[0].wants.begin()->first;
  EXPECT_EQ(books.requests[0].wants.at(name).limit, 600);
  // A tenth of 600 in eight floors is seven; with three lent beside, ten a minute and no more.
  books.answer = ShareAnswer{2, {{name, 3}}};
  pass(15s);
  EXPECT_EQ(a.calls(), 1);
  EXPECT_EQ(status()->providers[0].limits[0].limit, 10);
  // The books are lost: it falls to its floor.
  books.answer.reset();
  pass(16s);
  EXPECT_EQ(status()->providers[0].limits[0].limit, 7);
}

TEST_F(Supervisor, with_no_provider_the_offline_extractor_answers) {
  start();
  const auto a = extract("sure");
  ASSERT_TRUE(a->outcome);
  EXPECT_EQ(a->outcome->source, "offline");
  EXPECT_EQ(a->outcome->answer->reply, "offline reply");
  EXPECT_EQ(a->outcome->fallback_reason, "") << "as configured";
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

TEST_F(Supervisor, ends_its_calls_when_it_ends_and_gives_the_next_to_those_that_are_done) {
  auto& openai = add("openai", 40);
  start();
  const auto before = system_.registry().running();
  for (int i = 0; i < 20; ++i) extract("sure");
  EXPECT_GE(system_.registry().running(), before + 20) << "each call is an actor";
  for (int i = 0; i < 10; ++i) openai.pending[i](good());
  run();
  EXPECT_EQ(system_.registry().running(), before + 30) << "ten calls, those who wait for them, and ten that rest";
  for (int i = 0; i < 10; ++i) extract("sure");
  EXPECT_EQ(system_.registry().running(), before + 40) << "those that rested, and ten more who wait";
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

TEST_F(Supervisor, who_watches_sees_the_reply_as_it_is_written_and_a_fallback_begins_again) {
  auto& a = add("a", 40);
  auto& b = add("b", 0);
  std::vector<std::pair<std::string, bool>> seen;
  shape_ = [&](ExtractionRequest& r) {
    r.watch = std::make_shared<Onlooker>([&](std::string_view text, bool restart) { seen.emplace_back(text, restart); });
  };
  start();
  const auto asked = extract("x");
  a.sinks.at(0)(R"({"reply":"Hel)");
  a.sinks[0]("lo");
  auto cut = bad(CallError::truncated);
  a.pending.at(0)(cut);
  run();
  ASSERT_EQ(b.calls(), 1);
  a.sinks[0](" late");
  b.sinks.at(0)(R"({"reply":"Hi")");
  b.sinks[0](R"(,"fields":{"full_name":"Ann"},"asks":["email"]})");
  b.pending.at(0)(good());
  run();
  EXPECT_EQ(asked->outcome->source, "b");
  std::string text;
  int restarts = 0;
  for (const auto& [piece, restart] : seen) {
    if (restart) text.clear(), ++restarts;
    text += piece;
  }
  EXPECT_EQ(text, "Hi");
  EXPECT_EQ(restarts, 1);
}

TEST_F(Supervisor, whose_streamed_answers_have_begun_does_not_take_their_slow_provider_for_one_that_hangs) {
  auto& a = add("a", 40);
  add("b", 40).script = [](int) { return good(); };
  for (auto& p : options_.providers) p.timeout = 60s;
  shape_ = [](ExtractionRequest& r) { r.watch = std::make_shared<Onlooker>(nullptr); };
  start();
  for (int i = 0; i < 8; ++i) extract("x", 60s);
  ASSERT_EQ(a.calls(), 4);
  for (int i = 0; i < 2; ++i) a.sinks[static_cast<std::size_t>(i)]("{");
  pass(4s);
  for (int i = 2; i < 4; ++i) a.sinks[static_cast<std::size_t>(i)]("{");
  pass(10s);
  extract("x", 60s);
  EXPECT_EQ(status()->providers[0].breaker, "closed");
  for (int i = 0; i < 4; ++i) extract("x", 60s);
  pass(6s);
  extract("x", 60s);
  EXPECT_EQ(status()->providers[0].breaker, "suspected") << "the last ones hear nothing";
  a.sinks.back()("{");
  run();
  EXPECT_EQ(status()->providers[0].breaker, "closed");
}

TEST_F(Supervisor, a_stream_is_asked_for_only_when_somebody_watches) {
  auto& a = add("a", 40, 2);
  a.script = [](int) { return good(); };
  start();
  pass(1min);
  extract("x");
  EXPECT_FALSE(a.sinks.at(0));
  const auto onlooker = std::make_shared<Onlooker>(nullptr);
  onlooker->here = false;
  shape_ = [&](ExtractionRequest& r) { r.watch = onlooker; };
  extract("x", 5min);
  EXPECT_EQ(a.calls(), 1) << "it waits for budget";
  onlooker->here = true;
  pass(2min);
  ASSERT_EQ(a.calls(), 2);
  EXPECT_TRUE(a.sinks[1]) << "who came while it waited sees it written";
  onlooker->here = false;
  extract("x", 5min);
  pass(2min);
  ASSERT_EQ(a.calls(), 3);
  EXPECT_FALSE(a.sinks[2]) << "nobody is there any more";
}

TEST_F(Supervisor, a_prompt_that_is_too_long_is_shortened_once_for_the_same_provider) {
  auto& a = add("a", 40);
  auto& b = add("b", 40);
  a.script = [](int n) { return n < 2 ? bad(CallError::context_too_long) : good(); };
  shape_ = [](ExtractionRequest& r) {
    for (int i = 0; i < 8; ++i) r.history.push_back({i % 2 == 0, "line " + std::to_string(i)});
  };
  start();
  const auto asked = extract("x");
  EXPECT_EQ(asked->outcome->source, "a");
  EXPECT_EQ(b.calls(), 0);
  ASSERT_EQ(a.calls(), 2);
  EXPECT_GT(a.prompts[0].history.size(), a.prompts[1].history.size());
}

TEST_F(Supervisor, a_blank_answer_is_asked_for_once_more_there_and_then_elsewhere) {
  auto& a = add("a", 40);
  auto& b = add("b", 1);
  a.script = [](int) {
    auto r = good();
    r.answer = " \n";
    return r;
  };
  b.script = [](int) { return good(); };
  start();
  const auto asked = extract("x");
  EXPECT_EQ(a.calls(), 2);
  ASSERT_TRUE(asked->outcome);
  EXPECT_EQ(asked->outcome->source, "b");
}

TEST_F(Supervisor, a_plan_has_models_of_its_own_with_a_budget_of_their_own) {
  auto& a = add("a", 40, 60);
  options_.plans = {{"free", 1, 0, {{"a", "small"}}}, {"paid", 3, 0, {}}};
  a.script = [](int) { return good(); };
  start();
  pass(5s);
  extract("free");
  shape_ = [](ExtractionRequest& r) { r.plan = "paid"; };
  extract("paid");
  ASSERT_EQ(a.calls(), 2) << "one a second each";
  EXPECT_EQ(a.prompts[0].model, "small");
  EXPECT_TRUE(a.prompts[1].model.empty());
  const auto now = status();
  ASSERT_EQ(now->plans.size(), 3u);
  EXPECT_EQ(now->plans[2].share, 3u);
  ASSERT_EQ(now->providers[0].limits.size(), 2u);
  EXPECT_EQ(now->providers[0].limits[0].used, 1);
  EXPECT_EQ(now->providers[0].limits[1].name, "requests_per_minute of small");
}

TEST_F(Supervisor, a_plan_that_had_its_tokens_of_the_day_is_answered_offline_at_once) {
  auto& a = add("a", 40);
  options_.plans = {{"free", 1, 2'000, {}}};
  a.script = [](int) { return good(); };
  start();
  int offline = 0;
  for (int i = 0; i < 8; ++i) {
    const auto outcome = extract("sure")->outcome;
    offline += outcome->source == "offline";
    EXPECT_EQ(outcome->fallback_reason, outcome->source == "offline" ? "plan_limit" : "");
  }
  EXPECT_GT(offline, 0);
  EXPECT_LT(offline, 8);
  EXPECT_EQ(extract("hm")->outcome->failure, "plan_limit");
  EXPECT_NE(metrics().find(R"(onboarding_model_denied_total{reason="plan_limit"})"), std::string::npos);
}

TEST_F(Supervisor, a_plan_that_is_configured_no_more_gets_what_the_most_limited_gets) {
  auto& a = add("a", 40);
  options_.plans = {{"pro", 4, 0, {}}, {"trial", 1, 2'000, {{"a", "small"}}}};
  a.script = [](int) { return good(); };
  start();
  extract("free of limits, since nobody gave it any");
  shape_ = [](ExtractionRequest& r) { r.plan = "gone"; };
  for (int i = 0; i < 8; ++i) extract("sure");
  EXPECT_TRUE(a.prompts.at(0).model.empty());
  EXPECT_EQ(a.prompts.at(1).model, "small");
  EXPECT_LT(a.calls(), 9);
  EXPECT_EQ(extract("hm")->outcome->failure, "plan_limit");
}

TEST_F(Supervisor, what_is_refused_is_tried_once_elsewhere_and_then_answered_offline_with_its_reason) {
  auto& a = add("a", 40);
  auto& b = add("b", 1);
  auto& c = add("c", 1);
  a.script = b.script = c.script = [](int) { return bad(CallError::refused); };
  start();
  for (int i = 1; i <= 6; ++i) {
    const auto outcome = extract("sure")->outcome;
    EXPECT_EQ(outcome->source, "offline");
    EXPECT_EQ(outcome->fallback_reason, "refused");
    EXPECT_EQ(a.calls() + b.calls() + c.calls(), 2 * i);
  }
  const auto now = status();
  for (const auto& p : now->providers) EXPECT_TRUE(p.healthy) << p.name;
  const auto told = std::count_if(now->recent.begin(), now->recent.end(),
                                  [](const Decision& d) { return d.what == "answered_offline" && d.why.find("refused") == 0; });
  EXPECT_EQ(told, 1) << "once a minute";
}

TEST_F(Supervisor, a_usage_that_cannot_be_is_not_believed) {
  auto& a = add("a", 40);
  options_.providers[0].tokens_per_minute = 30'000;
  options_.plans = {{"free", 1, 100'000, {}}};
  a.script = [](int) {
    auto r = good();
    r.usage.input_tokens = 99'000'000;
    r.usage.raw = "{\"prompt_tokens\":99000000}";
    return r;
  };
  start();
  pass(60s);
  const auto call = extract("x")->outcome->calls.at(0);
  EXPECT_EQ(call.usage.input_tokens, -1);
  EXPECT_NE(call.usage.raw.find("99000000"), std::string::npos) << "kept for whoever looks into it";
  const auto now = status();
  EXPECT_LT(now->plans.at(1).tokens_today, 10'000);
  EXPECT_LT(now->providers[0].limits.at(0).used, 10'000);
  EXPECT_LT(now->providers[0].wait_ms, 60'000);
  ASSERT_FALSE(now->recent.empty());
  EXPECT_EQ(now->recent.back().what, "usage_refused");
}

TEST_F(Supervisor, that_is_killed_at_any_time_has_said_that_its_use_of_the_day_is_not_the_last) {
  add("a", 40).script = [](int) { return good(); };
  options_.providers[0].requests_per_day = 1'000;
  options_.keep_day_use = [this](DayUse use, bool last) { kept_.emplace_back(std::move(use), last); };
  start();
  ASSERT_EQ(kept_.size(), 1u) << "before the first call";
  EXPECT_FALSE(kept_[0].second);
  ASSERT_FALSE(kept_[0].first.of.empty());

  caf::anon_send_exit(supervisor_, caf::exit_reason::user_shutdown);
  run();
  options_.day_use = kept_[0].first;
  options_.day_use_is_last = false;
  kept_.clear();
  start();
  EXPECT_TRUE(kept_.empty()) << "a crash loop without a call adds no margin to a margin";
  extract("hm");
  ASSERT_EQ(kept_.size(), 1u) << "at the first call: the margin of the next end does not stand for this one's";
  EXPECT_FALSE(kept_[0].second);
  const auto& used = kept_[0].first.of.at("a/model of a/requests_per_day").used;
  std::int64_t sum = 0;
  for (const auto& [at, amount] : used) sum += amount;
  EXPECT_EQ(sum, 11);
}

TEST_F(Supervisor, forgets_what_an_erased_person_asked) {
  auto& a = add("a", 40);
  a.script = [](int) {
    auto r = good();
    r.answer = R"({"reply":"A company.","fields":{},"asks":[]})";
    return r;
  };
  shape_ = [](ExtractionRequest& r) { r.user_key = "ann"; };
  start();
  extract("who are you?");
  EXPECT_EQ(extract("who are you?")->outcome->source, "cache");
  caf::anon_send(supervisor_, forget_atom::value, std::string("ann"));
  run();
  EXPECT_EQ(extract("who are you?")->outcome->source, "a");
}

class OneSlot final : public ShareStore {
 public:
  void renew(ShareRequest, Done done) override {
    if (slot) done(ShareAnswer{*slot, {}});
    else done(failure(std::make_error_code(std::errc::connection_refused), "away"));
  }
  std::optional<std::uint32_t> slot;
};

TEST_F(Supervisor, has_its_floor_when_it_restarts_while_the_books_are_away) {
  OneSlot books;
  add("a", 40, 800).script = [](int) { return good(); };
  options_.shares = &books;
  options_.books = "these";
  options_.keep_day_use = [this](DayUse use, bool last) { kept_.emplace_back(std::move(use), last); };
  start();
  EXPECT_EQ(extract("hm")->outcome, nullptr) << "no slot was ever known: it waits";
  books.slot = 5;
  pass(6s);
  ASSERT_FALSE(kept_.empty());
  const auto kept = kept_.back().first;
  ASSERT_TRUE(kept.slot);
  EXPECT_EQ(kept.slot->number, 5u);
  EXPECT_EQ(kept.slot->books, "these");

  caf::anon_send_exit(supervisor_, caf::exit_reason::user_shutdown);
  run();
  books.slot.reset();
  options_.day_use = kept;
  const auto limit_after_restart = [&] {
    start();
    const auto limit = status()->providers[0].limits.at(0).limit;
    pass(20s);
    const bool answered = extract("hm")->outcome != nullptr;
    EXPECT_EQ(answered, limit > 1);
    caf::anon_send_exit(supervisor_, caf::exit_reason::user_shutdown);
    run();
    return limit;
  };
  EXPECT_EQ(limit_after_restart(), 10) << "an eighth of a tenth";
  ASSERT_TRUE(kept_.back().second && kept_.back().first.slot) << "and the next process may know it, too";
  EXPECT_EQ(kept_.back().first.slot->asked_at, kept.slot->asked_at);
  options_.books = "others";
  EXPECT_EQ(limit_after_restart(), 1) << "there its place is not known";
  supervisor_ = nullptr;
  options_.shares = nullptr;
}

TEST_F(Supervisor, providers_are_changed_while_it_runs) {
  auto& a = add("a", 40);
  auto& b = add("b", 0);
  a.script = b.script = [](int) { return good(); };
  start();
  ProviderChange off;
  off.name = "a";
  off.enabled = false;
  off.requests_per_minute = 7;
  const auto now = tell(change_atom::value, off);
  ASSERT_TRUE(now);
  EXPECT_FALSE(now->providers[0].enabled);
  EXPECT_EQ(now->providers[0].limits.at(0).limit, 7);
  EXPECT_EQ(now->recent.back().what, "changed");
  EXPECT_EQ(now->recent.back().provider, "a");
  EXPECT_EQ(extract("x")->outcome->source, "b");
  ProviderChange unknown;
  unknown.name = "zed";
  EXPECT_FALSE(tell(change_atom::value, unknown));
  EXPECT_NE(words_.find("no provider of this name"), std::string::npos) << words_;
}

TEST_F(Supervisor, tells_the_queue_on_its_board_and_a_turn_its_place) {
  add("a", 40, 60);
  options_.board = std::make_shared<QueueBoard>();
  options_.queue.active_sessions_above = 3;
  start();
  EXPECT_FALSE(options_.board->queueing());
  for (int i = 0; i < 6; ++i) {
    shape_ = [i](ExtractionRequest& r) { r.session_id = r.turn_id = "trn_" + std::to_string(i); };
    extract("x", 60s, Priority::queued_turn);
  }
  EXPECT_TRUE(options_.board->queueing());
  EXPECT_EQ(status()->queueing_why, "sessions wait for budget");
  EXPECT_EQ(options_.board->newcomer().position, 7u);
  EXPECT_EQ(place("trn_2").position, 3u);
  EXPECT_NEAR(static_cast<double>(place("trn_2").eta.count()), 9'500, 500)
      << "one a second after the first two, those before come back meanwhile, and the answer's own";
  EXPECT_EQ(place("trn_new", domain::Timestamp(1h)).position, 7u) << "not here yet: behind all who came before";
  EXPECT_EQ(place("trn_none", domain::Timestamp(-1h)).position, 1u);
  pass(4'100ms);
  EXPECT_EQ(place("trn_2").position, 0u) << "it runs";
  const auto by_hand = tell(queue_mode_atom::value, QueueMode::off);
  EXPECT_FALSE(by_hand->queueing);
  EXPECT_FALSE(options_.board->queueing());
  EXPECT_EQ(by_hand->recent.back().what, "queue_mode_off");
}

TEST_F(Supervisor, traffic_moves_within_a_second_from_a_provider_that_dies_and_comes_back_by_a_ramp) {
  auto& a = add("a", 40);
  auto& b = add("b", 40);
  a.script = b.script = [](int) { return good(); };
  start();
  for (int i = 0; i < 10; ++i) extract("x");
  a.script = [](int) { return bad(CallError::connection); };
  for (int i = 0; i < 20; ++i) EXPECT_EQ(extract("x")->outcome->source, "b") << "no time has passed";
  EXPECT_EQ(a.calls(), 5 + 5);
  EXPECT_EQ(status()->providers[0].breaker, "open");
  a.script = [](int) { return good(); };
  pass(10s);
  for (int i = 0; i < 4; ++i) extract("x");
  EXPECT_EQ(status()->providers[0].breaker, "ramping");
  pass(10s);
  EXPECT_EQ(status()->providers[0].breaker, "closed");
}

TEST_F(Supervisor, a_question_found_by_meaning_needs_no_model_and_a_failure_to_look_is_only_a_miss) {
  auto& a = add("a", 1);
  a.script = [](int) { return good(); };
  auto embedder = std::make_shared<OneVector>();
  options_.embedder = embedder;
  options_.embeddings.dimensions = 2;
  options_.embeddings.provider.name = "openai";
  options_.embeddings.provider.model = "text-embedding-3-small";
  start();
  auto flow = std::make_shared<domain::Flow>(*small_flow());
  flow->locale = "en";
  flow->faq = {{{"Why do you need my e-mail?"}, "To reach you."}};
  shape_ = [flow](ExtractionRequest& r) { r.flow = flow; };
  EXPECT_EQ(extract("why on earth do you need my email?")->outcome->source, "a") << "the FAQ is embedded now";
  const auto found = extract("so why on earth do you need my mail?")->outcome;
  EXPECT_EQ(found->source, "cache");
  EXPECT_EQ(found->answer->reply.find("To reach you."), 0u);
  ASSERT_EQ(found->calls.size(), 1u);
  EXPECT_EQ(found->calls[0].attempt, 0u);
  EXPECT_EQ(a.calls(), 1);
  EXPECT_EQ(status()->cache.hits_semantic, 1);
  EXPECT_NE(metrics().find(R"(onboarding_model_cache_total{result="embedding"} 1)"), std::string::npos);
  embedder->error = CallError::connection;
  const auto missed = extract("honestly, why do you need my email?")->outcome;
  EXPECT_EQ(missed->source, "a");
  ASSERT_EQ(missed->calls.size(), 2u);
  EXPECT_EQ(missed->calls[0].error, "connection");
  EXPECT_EQ(missed->calls[1].attempt, 1u);
}

}  // namespace
}  // namespace onboarding::model
