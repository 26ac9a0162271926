// A stage for session tests: the real gateway, host and session on CAF's test coordinator, a log that moves only when the
// test says so, and a model that answers when the test lets it.
#pragma once

#include <prometheus/registry.h>
#include <caf/all.hpp>
#include <caf/scheduler/test_coordinator.hpp>

#include <deque>
#include <optional>

#include "actors/model/supervisor.hpp"
#include "actors/session/gateway.hpp"
#include "events/domain/catalog.hpp"
#include "events/log/memory/memory_log.hpp"
#include "events/privacy/memory_key_store.hpp"

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(caf::response_promise)

namespace onboarding::session {

class StandingClock final : public Clock {
 public:
  domain::Timestamp now() const override { return time; }
  domain::Timestamp time{std::chrono::seconds(1'790'000'000)};
};

using answer_atom = caf::atom_constant<caf::atom("answer")>;

struct Question {
  model::RequestPtr request;
  caf::response_promise promise;
};

/// The answers of one kind of call, in the order they came.
template <class T>
struct Heard {
  // Shared with its ears: whoever still waits is answered when the stage goes, which may be after this went.
  std::shared_ptr<std::vector<result<T>>> kept = std::make_shared<std::vector<result<T>>>();
  std::vector<result<T>>& answers = *kept;
  Gateway::Done<T> ear() {
    return [kept = kept](result<T> answer) { kept->push_back(std::move(answer)); };
  }
  bool nothing() const { return answers.empty(); }
  const T& only() const { return answers.at(0).value(); }
  std::error_code error() const { return answers.at(0).error().code; }
};

/// Its barriers come to what the test says, and when.
struct StageLog final : log::MemoryLog {
  using MemoryLog::MemoryLog;
  void barrier(std::uint32_t, std::function<void(result<void>)> done) override {
    if (holds) held.push_back(std::move(done));
    else done(read);
  }
  void let_go() {
    holds = false;
    for (auto& done : std::exchange(held, {})) done(read);
  }
  result<void> read;
  bool holds = false;
  std::vector<std::function<void(result<void>)>> held{};
};

class Stage {
 public:
  explicit Stage(std::shared_ptr<log::MemoryStore> on = log::make_memory_store(1), SessionSettings with = {},
                 std::filesystem::path noted = {}, model::InstantExtractor instant = {}, std::chrono::seconds started_late = {},
                 bool all_partitions = true)
      : store(std::move(on)),
        settings(with),
        erasures(std::move(noted)),
        system(config),
        log(store, log::MemoryLog::Mode::controlled) {
    // Spawned with an argument: without one, CAF 0.17 dereferences a null pointer to none (UBSan).
    model = system.spawn(
        [](caf::event_based_actor* self, Stage* stage) -> caf::behavior {
          return {
              [stage, self](model::extract_atom, const model::RequestPtr& request) {
                auto promise = self->make_response_promise<model::OutcomePtr>();
                stage->questions.push_back({request, promise});
                return promise;
              },
              [](model::place_atom, const model::RequestPtr&) {
                return model::QueuePlace{41, std::chrono::seconds(5)};
              },
              [stage](model::forget_atom, const std::string& user_key) { stage->forgotten.push_back(user_key); },
              [](answer_atom, caf::response_promise& promise, const model::OutcomePtr& outcome) { promise.deliver(outcome); }};
        },
        this);
    clock.time += started_late;
    gateway = make_gateway(system, {&log, &keys, &secrets, &clock, &system_random(), &flows, &registry, settings, model,
                                    [this](std::function<void()> work) { lookups.push_back(std::move(work)); }, board, erasures,
                                    std::move(instant), all_partitions});
    run();
  }
  ~Stage() {
    gateway->stop();
    questions.clear();
    lookups.clear();
    caf::anon_send_exit(model, caf::exit_reason::kill);
    std::mt19937_64 random(1);
    log.crash(random);
    run();
  }

  void run() {
    while (scheduler().has_job()) scheduler().run_once();
  }
  /// The oldest append meets its fate, and everybody hears of it.
  void append(log::Fate fate = log::Fate::durable) {
    ASSERT_TRUE(log.step_append(fate));
    run();
  }
  void read(bool failed = false) {
    ASSERT_TRUE(log.step_read(failed));
    run();
  }
  /// The log has nothing to write and nothing to read.
  bool nothing_waits() { return !log.step_append(log::Fate::durable) && !log.step_read(); }
  /// Time passes for timers and for the clock.
  void pass(std::chrono::milliseconds time) {
    clock.time += time;
    scheduler().advance_time(time);
    run();
  }
  void look_up() {
    while (!lookups.empty()) {
      const auto work = std::move(lookups.front());
      lookups.pop_front();
      work();
    }
    run();
  }
  void model_answers(std::vector<std::pair<std::string, std::string>> fields, std::size_t which = 0) {
    ASSERT_LT(which, questions.size());
    auto outcome = std::make_shared<model::ExtractionOutcome>();
    outcome->answer = domain::ModelAnswer{"Thank you.", std::move(fields), {}};
    outcome->source = "scripted";
    // Only an actor may keep a promise, and only while it runs.
    caf::anon_send(model, answer_atom::value, std::move(questions[which].promise), model::OutcomePtr(outcome));
    questions.erase(questions.begin() + static_cast<std::ptrdiff_t>(which));
    run();
  }

  void start(Heard<SessionStartedAnswer>& heard, std::optional<std::string> key = std::nullopt, const std::string& body = "{}") {
    StartRequest request;
    request.user_id = "zoe";
    request.idempotency_key = std::move(key);
    request.fingerprint = body;
    gateway->start_session(std::move(request), heard.ear());
    run();
  }
  /// A session that is started and durable.
  std::string started() {
    Heard<SessionStartedAnswer> heard;
    start(heard);
    append();
    return heard.only().session.session_id;
  }
  void say(const std::string& session, const std::string& text, Heard<TurnAnswer>& heard,
           std::optional<std::string> key = std::nullopt, std::uint32_t generation = 1, bool respond_async = false) {
    MessageRequest request;
    request.session_id = session;
    request.token_generation = generation;
    request.text = text;
    request.idempotency_key = std::move(key);
    request.fingerprint = text;
    request.respond_async = respond_async;
    gateway->post_message(std::move(request), heard.ear());
    run();
  }
  void look(const std::string& session, Heard<SessionSnapshot>& heard) {
    gateway->get_session(session, std::nullopt, heard.ear());
    run();
  }

  caf::scheduler::test_coordinator& scheduler() { return dynamic_cast<caf::scheduler::test_coordinator&>(system.scheduler()); }

  struct Config : caf::actor_system_config {
    Config() {
      configure(*this);
      set("scheduler.policy", caf::atom("testing"));
    }
  };

  std::shared_ptr<log::MemoryStore> store;
  SessionSettings settings;
  const std::filesystem::path erasures;
  StandingClock clock;
  privacy::MemoryKeyStore keys;
  const privacy::Secrets secrets = privacy::Secrets::from_bytes({});
  domain::FixedFlowCatalog flows;
  prometheus::Registry registry;
  Config config;
  caf::actor_system system;
  StageLog log;
  std::vector<Question> questions;
  std::vector<std::string> forgotten;  // user keys
  std::deque<std::function<void()>> lookups;
  const std::shared_ptr<model::QueueBoard> board = std::make_shared<model::QueueBoard>();
  caf::actor model;
  std::unique_ptr<SessionGateway> gateway;
};

}  // namespace onboarding::session
