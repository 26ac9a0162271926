// The session actor: one person's onboarding while it is alive. It decides commands one at a time against the state
// folded from the log, appends what was decided, and lets the state and the answers follow only what is durable.
//
//   job ─▶ todo ─▶ decide ─▶ encode ─▶ append ─▶ durable ─▶ evolve ─▶ settled ─▶ answers
//                    ▲                    │ conflict, in doubt
//                    └── read again ◀─────┘
#include <spdlog/spdlog.h>
#include <caf/all.hpp>

#include "actors/model/supervisor.hpp"
#include "actors/session/environment.hpp"
#include "actors/session/place_in_line.hpp"
#include "actors/session/reply_relay.hpp"
#include "events/domain/assertion.hpp"
#include "events/fault_point.hpp"

namespace onboarding::session {

namespace {

FaultPoint before_append("session.before_append");  // decided, not yet given to the log
FaultPoint after_append("session.after_append");    // durable, nobody told
FaultPoint before_model_call("session.before_model_call");
FaultPoint after_model_call("session.after_model_call");  // answered, not yet in the log

using namespace std::chrono_literals;
using Time = caf::actor_clock::time_point;

constexpr std::chrono::milliseconds first_retry = 100ms;
constexpr std::chrono::milliseconds last_retry = 5s;
// How long after its deadline a client waits for its 202 to be written down, before it is told without.
constexpr std::chrono::milliseconds queueing_grace = 3s;
// How long after the model's deadline its supervisor may take to say so.
constexpr std::chrono::milliseconds silence_grace = 10s;
// An owner of its partition meets a conflict only with its own append that was in doubt; more in a row is a bug elsewhere.
constexpr int max_conflicts = 8;
constexpr std::size_t max_watchers = 8;
// The supervisor's answer about a place in its queue is only worth having at once.
constexpr std::chrono::milliseconds place_patience = 500ms;

GatewayErrc refusal_of(domain::Rejection rejection) {
  switch (rejection) {
    case domain::Rejection::not_started:
    case domain::Rejection::erased: return GatewayErrc::unknown_session;
    case domain::Rejection::key_reused: return GatewayErrc::key_reused;
    case domain::Rejection::closed: return GatewayErrc::closed;
    case domain::Rejection::too_many_waiting: return GatewayErrc::too_many_waiting;
    case domain::Rejection::too_many_messages: return GatewayErrc::too_many_messages;
    case domain::Rejection::message_empty: return GatewayErrc::message_empty;
    case domain::Rejection::message_too_long: return GatewayErrc::message_too_long;
    case domain::Rejection::message_not_text: return GatewayErrc::message_not_text;
    case domain::Rejection::unknown_turn: return GatewayErrc::unknown_turn;
    case domain::Rejection::stale_generation: return GatewayErrc::stale_token;
  }
  ONBOARDING_ASSERT(false, "every rejection has an answer");
}

GatewayErrc refusal_of(const Failure& failure) {
  if (failure.code == make_error_code(log::Errc::overloaded)) return GatewayErrc::overloaded;
  if (failure.code == make_error_code(privacy::Errc::unreachable) || failure.code == make_error_code(privacy::Errc::lost) ||
      failure.code == make_error_code(codec::Errc::key_unreachable))
    return GatewayErrc::keys_unreachable;
  if (failure.code == make_error_code(privacy::Errc::erased)) return GatewayErrc::unknown_session;
  return GatewayErrc::not_writable;
}

GatewayErrc refusal_of_barrier(const Failure& failure) {
  return failure.code == make_error_code(log::Errc::locked) ? GatewayErrc::owned_elsewhere : GatewayErrc::not_writable;
}

bool concluded(const domain::Turn& turn) {
  return turn.status == domain::TurnStatus::answered || turn.status == domain::TurnStatus::failed;
}

/// One thing to decide and carry out.
struct Step {
  enum class Kind { job, start_turn, conclude_turn, queue_turn, abandon };
  Kind kind = Kind::job;
  JobPtr job;               // of a job
  std::string turn_id;      // of the others
  const char* reason = "";  // of queue_turn
};

/// The append that is under way.
struct Writing {
  Step step;
  domain::Command command;
  std::vector<domain::Event> events;
  domain::Timestamp time;
  Time called;
  int conflicts = 0;
};

/// A client that waits for a turn which is durable.
struct Waiter {
  JobPtr job;
  std::string turn_id;
  bool queueing = false;  // it will be answered as queued once that is written down

  Reply<TurnAnswer>& reply() { return std::get<MessageJob>(job->what).reply; }
};

/// Those who look on, and with which token they came.
struct Watching {
  std::shared_ptr<SessionWatcher> watcher;
  std::uint32_t token_generation = 0;
};

/// The question to the model that counts; answers to earlier ones are dropped.
struct Ask {
  std::uint64_t serial = 0;
  std::string turn_id;
  std::uint32_t activation = 0;
  Time due;
  model::OutcomePtr outcome;
  model::RequestPtr about;
  std::shared_ptr<ReplyRelay> relay;
};

class SessionActor : public caf::event_based_actor {
 public:
  SessionActor(caf::actor_config& config, EnvironmentPtr environment, caf::actor host, std::uint32_t partition,
               std::string session_id, bool certainly_new, bool for_the_log)
      : caf::event_based_actor(config),
        environment_(std::move(environment)),
        host_(std::move(host)),
        session_id_(std::move(session_id)),
        partition_(partition),
        phase_(certainly_new ? Phase::ready : Phase::loading),
        for_the_log_(for_the_log),
        state_(std::make_shared<domain::State>(domain::initial())),
        touched_(now()) {
    environment_->instruments.sessions_in_memory(+1);
  }

  const char* name() const override { return "session"; }

  void on_exit() override {
    environment_->instruments.sessions_in_memory(-1);
    // Whoever still waits is answered by the reply's destructor; nothing of the session stays in the actor's remains.
    for (const Watching& watching : std::exchange(watching_, {})) watching.watcher->ended();
    stash_.clear();
    todo_.clear();
    waiters_.clear();
    writing_.reset();
    ask_.reset();
    state_.reset();
    key_.reset();
    host_ = nullptr;
  }

 protected:
  caf::behavior make_behavior() override {
    set_exception_handler([this](std::exception_ptr& error) -> caf::error {
      std::string what = "unknown";
      try {
        std::rethrow_exception(error);
      } catch (const std::exception& e) { what = e.what(); } catch (...) {
      }
      spdlog::error(R"({{"event":"session_actor_failed","session_id":"{}","error":"{}"}})", session_id_, what);
      return caf::exit_reason::unhandled_exception;
    });
    if (phase_ == Phase::loading) load(nullptr);
    // The first request is due no earlier: it needs no timer of its own.
    arm_deadline(now() + std::min<caf::timespan>(settings().request_deadline, settings().passivate_after));
    // Every session has these in memory, 40 bytes each: what is only a word shares one.
    return {
        [this](caf::atom_value what, const JobPtr& job) { what == job_atom::value ? receive(job) : take_current(job); },
        [this](loaded_atom, const LoadResultPtr& loaded) { take_loaded(std::move(loaded->loaded)); },
        [this](appended_atom, const log::AppendOutcome& outcome) { take_append(outcome); },
        [this](caf::atom_value what) { take_word(what); },
    };
  }

 private:
  enum class Phase {
    loading,  // from the log, for the first time
    ready,
    rereading,  // an append ended in doubt or in conflict: what the log has decides
    ended       // it cannot be read, or somebody else owns the partition: nothing is served
  };

  void take_word(caf::atom_value what) {
    switch (caf::atom_uint(what)) {
      case deadline_atom::uint_value(): return look_at_deadlines();
      case retry_atom::uint_value(): return retry();
      case reread_atom::uint_value(): return load(state_);
      case due_atom::uint_value():
        for_the_log_ = for_the_log_ || is_idle();
        return enqueue({Step::Kind::abandon, nullptr, {}, ""});
      case stop_atom::uint_value(): return stop_or_stay();
      case lost_atom::uint_value(): return lose();
    }
    ONBOARDING_ASSERT(false, "a session knows every word that is said to it");
  }

  Time now() { return clock().now(); }
  caf::actor self() { return caf::actor_cast<caf::actor>(this); }
  const SessionSettings& settings() const { return environment_->settings(); }
  domain::Facts facts() const { return {environment_->options.clock->now(), settings().limits}; }

  // ---- requests

  void receive(const JobPtr& job) {
    touched_ = now();
    for_the_log_ = false;
    if (unable_) return job->refuse(*unable_);
    job->due = now() + settings().request_deadline;
    arm_deadline(job->due);
    if (phase_ == Phase::loading) {
      if (stash_.size() >= settings().max_requests_per_session && !erases(*job)) return job->refuse(GatewayErrc::overloaded);
      stash_.push_back(job);
      return;
    }
    accept(job);
    leave_if_needless();
  }

  void accept(const JobPtr& job) {
    if (auto* read = std::get_if<ReadJob>(&job->what)) return answer_read(*job, *read);
    if (std::holds_alternative<ReadTurnJob>(job->what)) return answer_turn(job);
    if (auto* watch = std::get_if<WatchJob>(&job->what)) return begin_watching(*job, *watch);
    if (waiting_requests() >= settings().max_requests_per_session && !erases(*job)) return job->refuse(GatewayErrc::overloaded);
    enqueue({Step::Kind::job, job, {}, ""});
  }

  /// Nobody keeps an erasure out by asking much.
  static bool erases(const Job& job) { return std::holds_alternative<EraseJob>(job.what); }

  std::size_t waiting_requests() const {
    return confirming_ + waiters_.size() +
           static_cast<std::size_t>(std::count_if(todo_.begin(), todo_.end(), [](const Step& s) { return s.job != nullptr; }));
  }

  void answer_read(const Job& job, ReadJob& read) {
    if (const auto refusal = may_not(job)) return read.reply(failure(make_error_code(*refusal)));
    read.reply(snapshot());
  }

  /// How a turn stands; of one that waits also where, which its supervisor knows.
  void answer_turn(const JobPtr& job) {
    if (const auto refusal = may_not(*job)) return job->refuse(*refusal);
    auto& read = std::get<ReadTurnJob>(job->what);
    const domain::Turn* turn = domain::find_turn(*state_, read.turn_id);
    if (!turn) return job->refuse(GatewayErrc::unknown_turn);
    if (concluded(*turn) || !ask_ || ask_->outcome) return read.reply(queued_answer(read.turn_id, {}));
    tell_place([this, job](model::QueuePlace place) {
      auto& asked = std::get<ReadTurnJob>(job->what);
      asked.reply(queued_answer(asked.turn_id, place));
    });
  }

  void begin_watching(const Job& job, WatchJob& watch) {
    if (const auto refusal = may_not(job)) return watch.reply(failure(make_error_code(*refusal)));
    if (watching_.size() >= max_watchers) {
      watching_.front().watcher->ended();
      watching_.erase(watching_.begin());
    }
    watch.reply(snapshot());
    if (!watch.watcher->changed(snapshot())) return;
    if (ask_) ask_->relay->add(watch.watcher);
    watching_.push_back({std::move(watch.watcher), state_->token_generation});
  }

  void tell_watchers() {
    if (watching_.empty()) return;
    const bool gone = state_->status == domain::SessionStatus::erased;
    std::erase_if(watching_, [&](const Watching& watching) {
      if (!gone && watching.token_generation == state_->token_generation) return !watching.watcher->changed(snapshot());
      watching.watcher->ended();
      return true;
    });
  }

  /// Why the caller may do nothing with this session.
  std::optional<GatewayErrc> may_not(const Job& job) const {
    if (state_->status == domain::SessionStatus::none || state_->status == domain::SessionStatus::erased)
      return GatewayErrc::unknown_session;
    if (planted(Plant::token_generation_not_checked)) return std::nullopt;
    if (job.token_generation && *job.token_generation != state_->token_generation) return GatewayErrc::stale_token;
    return std::nullopt;
  }

  // ---- one step after the other

  void enqueue(Step step) {
    todo_.push_back(std::move(step));
    pump();
  }

  void pump() {
    while (phase_ == Phase::ready && !writing_ && !todo_.empty()) {
      Step step = std::move(todo_.front());
      todo_.erase(todo_.begin());
      begin(std::move(step));
    }
  }

  void begin(Step step) {
    if (step.job) {
      const bool starts = std::holds_alternative<StartJob>(step.job->what);
      if (const auto* erase = std::get_if<EraseJob>(&step.job->what); erase && !erase->person.is(user_, blinded_user_id_))
        return step.job->refuse(GatewayErrc::unknown_session);
      if (const auto refusal = may_not(*step.job); refusal && !starts) return refuse_by_state(step.job, *refusal);
    }
    auto command = command_of(step);
    if (!command) return settled(step, false);
    carry_out(std::move(step), std::move(*command), 0);
  }

  /// nullopt: there is nothing to do any more.
  std::optional<domain::Command> command_of(const Step& step) {
    switch (step.kind) {
      case Step::Kind::job: return command_of(*step.job);
      case Step::Kind::start_turn: {
        const domain::Turn* turn = domain::find_turn(*state_, step.turn_id);
        if (!turn) return std::nullopt;
        return domain::StartTurn{step.turn_id, turn->activation + 1u};
      }
      case Step::Kind::conclude_turn: {
        if (!ask_ || !ask_->outcome || ask_->turn_id != step.turn_id) return std::nullopt;
        return conclusion_of(step.turn_id, ask_->activation, *ask_->outcome);
      }
      case Step::Kind::queue_turn: return domain::QueueTurn{step.turn_id, step.reason};
      case Step::Kind::abandon: return domain::AbandonIfDue{environment_->ready_since};
    }
    ONBOARDING_ASSERT(false, "every step has a command");
  }

  std::optional<domain::Command> command_of(const Job& job) {
    if (const auto* start = std::get_if<StartJob>(&job.what)) return start->command;
    if (const auto* message = std::get_if<MessageJob>(&job.what)) {
      domain::ReceiveMessage command = message->command;
      if (message->respond_async) command.queue_reason = "asked_for";
      else if (environment_->options.queue && environment_->options.queue->queueing()) command.queue_reason = "queue_mode";
      if (planted(Plant::repeat_without_key)) command.idempotency_key_hash.clear();
      return command;
    }
    if (std::holds_alternative<EraseJob>(job.what)) return domain::EraseUser{};
    const std::uint32_t generation = state_->token_generation + 1;
    return domain::IssueToken{generation,
                              privacy::sha256_hex(environment_->options.secrets->session_token(session_id_, generation))};
  }

  void carry_out(Step step, domain::Command command, int conflicts) {
    auto events = domain::decide(*state_, command, facts());
    if (!events) return rejected(step, events.error());
    if (events->empty()) return settled(step, false);
    if (const auto* received = std::get_if<domain::ReceiveMessage>(&command)) answer_at_once(*received, *events);
    append({std::move(step), std::move(command), std::move(*events), {}, now(), conflicts});
  }

  /// Where no provider has to be waited for, a message and its answer are one decision and one record (ADR 0404).
  void answer_at_once(const domain::ReceiveMessage& received, std::vector<domain::Event>& events) {
    if (!environment_->options.instant || !received.queue_reason.empty() || !starts_a_turn(events)) return;
    (void)before_model_call.hit();
    const model::OutcomePtr outcome = environment_->options.instant(*question(received.turn_id, received.text, {}));
    (void)after_model_call.hit();
    domain::State after = *state_;
    for (const domain::Event& event : events)
      domain::evolve(after, event, {after.version + 1, after.sequence + 1, after.updated_at}, *environment_->options.flows);
    auto conclusion = domain::decide(after, conclusion_of(received.turn_id, 1, *outcome), facts());
    ONBOARDING_ASSERT(conclusion.has_value(), "a turn that just began can be concluded");
    std::move(conclusion->begin(), conclusion->end(), std::back_inserter(events));
  }

  static bool starts_a_turn(const std::vector<domain::Event>& events) {
    return std::holds_alternative<domain::TurnStarted>(events.back());
  }

  static domain::ConcludeTurn conclusion_of(const std::string& turn_id, std::uint32_t activation,
                                            const model::ExtractionOutcome& outcome) {
    return {turn_id, activation, outcome.answer, outcome.source, outcome.failure, outcome.calls, outcome.fallback_reason};
  }

  void rejected(const Step& step, domain::Rejection why) {
    // Commands of our own are only rejected when the session was erased in between.
    if (step.job) return refuse_by_state(step.job, refusal_of(why));
    ask_.reset();
    work_queued_ = false;
  }

  void refuse_by_state(const JobPtr& job, GatewayErrc why) {
    once_current(job, [job, why] { job->refuse(why); });
  }

  /// For an answer from memory, without a record of its own: given once it is known that nobody has taken the partition meanwhile.
  void once_current(const JobPtr& job, std::function<void()> answer) {
    if (environment_->options.all_partitions) return answer();
    environment_->callbacks.begin();
    environment_->options.log->barrier(
        partition_, [environment = environment_, job = job, answer = std::move(answer)](const result<void>& read) mutable {
          if (read) answer();
          else job->refuse(refusal_of_barrier(read.error()));
          answer = nullptr;
          job.reset();
          environment->callbacks.end();
        });
  }

  // ---- writing

  void append(Writing writing) {
    const domain::Timestamp clock_now = environment_->options.clock->now();
    writing.time = planted(Plant::time_going_back) ? clock_now : std::max(clock_now, state_->updated_at);

    log::Append record;
    record.partition = partition_;
    record.stream = session_id_;
    record.expected_version = state_->version;
    record.record_id.resize(16);
    environment_->options.random->fill({reinterpret_cast<std::uint8_t*>(record.record_id.data()), record.record_id.size()});
    record.count = static_cast<std::uint32_t>(writing.events.size());
    record.index = domain::recovery_index(*state_, writing.events, writing.time, settings().limits);
    record.time = writing.time;
    take_key(writing.step);
    auto payload =
        codec::encode(meta_of(writing.step), session_id_, state_->version + 1, writing.time, writing.events, key_.get());
    if (!payload) return refused(writing.step, payload.error());
    record.payload = std::move(*payload);
    if (before_append.hit()) return refused(writing.step, {make_error_code(log::Errc::not_writable), "fault point"});

    remember_start(writing.events);
    if (planted(Plant::acknowledge_before_durable)) answer_early(writing);
    writing_ = std::make_unique<Writing>(std::move(writing));

    environment_->callbacks.begin();
    environment_->options.log->append(std::move(record),
                                      [environment = environment_, to = self()](log::AppendOutcome outcome) mutable {
                                        caf::anon_send(std::exchange(to, nullptr), appended_atom::value, std::move(outcome));
                                        environment->callbacks.end();
                                      });
    // The first attempt overlaps the append of its message: the model is asked now, its answer is used only afterwards.
    const auto* received = std::get_if<domain::ReceiveMessage>(&writing_->command);
    const bool starts_its_turn = received && starts_a_turn(writing_->events);
    // Written again after a doubt, it was asked about already.
    if (starts_its_turn && !(ask_ && ask_->turn_id == received->turn_id))
      ask(received->turn_id, 1, received->text, !received->queue_reason.empty());
  }

  void answer_early(const Writing& writing) {
    if (!writing.step.job) return;
    auto* start = std::get_if<StartJob>(&writing.step.job->what);
    if (!start) return;
    auto state = std::make_shared<domain::State>(*state_);
    for (const domain::Event& event : writing.events)
      domain::evolve(*state, event, {state->version + 1, 1, writing.time}, *environment_->options.flows);
    start->reply(SessionStartedAnswer{{session_id_, user_, partition_, state}, start->token, false});
  }

  /// A start brings its person's key and names along.
  void take_key(const Step& step) {
    if (!step.job) return;
    const auto* start = std::get_if<StartJob>(&step.job->what);
    if (!start) return;
    key_ = start->key;
    user_ = start->user_key;
    blinded_user_id_ = start->blinded_user_id;
  }

  codec::RecordMeta meta_of(const Step& step) const {
    codec::RecordMeta meta;
    meta.user = user_;
    meta.blinded_user_id = blinded_user_id_;
    meta.plan = state_->plan;
    if (step.job) {
      meta.correlation_id = step.job->context.request_id;
      meta.traceparent = step.job->context.traceparent;
      if (const auto* start = std::get_if<StartJob>(&step.job->what)) meta.plan = start->command.plan;
      if (const auto* message = std::get_if<MessageJob>(&step.job->what)) meta.causation_id = message->command.turn_id;
    } else {
      meta.correlation_id = step.turn_id.empty() ? "timer" : step.turn_id;
      meta.causation_id = step.turn_id;
    }
    return meta;
  }

  /// Which attempt is ours to make once this batch is durable.
  void remember_start(const std::vector<domain::Event>& events) {
    for (const domain::Event& event : events)
      if (const auto* started = std::get_if<domain::TurnStarted>(&event)) {
        started_turn_ = started->turn_id;
        started_activation_ = started->activation;
      }
  }

  void take_append(const log::AppendOutcome& outcome) {
    touched_ = now();
    ONBOARDING_ASSERT(writing_ != nullptr, "an append's end belongs to the append that is under way");
    const auto took = now() - writing_->called;
    if (const auto* durable = std::get_if<log::Durable>(&outcome)) {
      environment_->instruments.append_ended("durable", took);
      take_durable(*durable);
    } else if (const auto* conflict = std::get_if<log::Conflict>(&outcome)) {
      environment_->instruments.append_ended("conflict", took);
      if (planted(Plant::skipped_version_check)) return append_blindly(conflict->version_found);
      read_again();
    } else if (const auto* in_doubt = std::get_if<log::InDoubt>(&outcome)) {
      environment_->instruments.append_ended("in_doubt", took);
      spdlog::warn(R"({{"event":"append_in_doubt","session_id":"{}","error":"{}"}})", session_id_,
                   in_doubt->error.code.message());
      if (planted(Plant::skipped_version_check)) return append_blindly(state_->version);
      read_again();
    } else if (const auto* refusal = std::get_if<log::Refused>(&outcome)) {
      environment_->instruments.append_ended("refused", took);
      const std::unique_ptr<Writing> writing = std::move(writing_);
      refused(writing->step, refusal->error);
      advance();
    } else {
      environment_->instruments.append_ended("fenced", took);
      stop_serving();
    }
    pump();
    leave_if_needless();
  }

  void take_durable(const log::Durable& durable) {
    ONBOARDING_ASSERT(durable.first_version == state_->version + 1, "a durable record follows the version it was decided on");
    (void)after_append.hit();
    const std::unique_ptr<Writing> writing = std::move(writing_);
    domain::State& state = state_to_change();
    std::uint64_t sequence = durable.first.sequence;
    for (const domain::Event& event : writing->events)
      domain::evolve(state, event, {state.version + 1, sequence++, writing->time}, *environment_->options.flows);
    const Time begun = writing->step.job ? writing->step.job->due - settings().request_deadline : writing->called;
    environment_->instruments.durable(session_id_, state, writing->events, now() - begun);
    tell_watchers();
    settled(writing->step, true);
  }

  void append_blindly(std::uint64_t version_found) {
    std::unique_ptr<Writing> writing = std::move(writing_);
    state_to_change().version = version_found;
    append(std::move(*writing));
  }

  /// Snapshots were handed out: what they show stays as it was.
  domain::State& state_to_change() {
    if (state_.use_count() > 1) {
      state_ = std::make_shared<domain::State>(*state_);
    } else {
      // Pairs with the release of the last other holder's count: what it read, it read before.
      std::atomic_thread_fence(std::memory_order_acquire);
    }
    return *state_;
  }

  /// Nothing of the step was written.
  void refused(const Step& step, const Failure& why) {
    switch (step.kind) {
      case Step::Kind::job:
        if (const auto* message = std::get_if<MessageJob>(&step.job->what);
            message && ask_ && ask_->turn_id == message->command.turn_id)
          ask_.reset();
        step.job->refuse(refusal_of(why));
        break;
      case Step::Kind::start_turn:
      case Step::Kind::conclude_turn:
        // The message is durable, its answer is not yet: the client is told so, the outcome is kept and tried again.
        work_queued_ = false;
        answer_as_queued(step.turn_id, true);
        hold_work();
        break;
      case Step::Kind::queue_turn: answer_as_queued(step.turn_id, false); break;
      case Step::Kind::abandon: break;  // the next look at the index brings it again
    }
  }

  void hold_work() {
    work_held_ = true;
    delayed_send(this, back_off(), retry_atom::value);
  }

  std::chrono::milliseconds back_off() {
    const auto wait = retry_after_;
    retry_after_ = std::min(retry_after_ * 2, last_retry);
    return wait;
  }

  void retry() {
    work_held_ = false;
    advance();
    pump();
  }

  /// The partition is another's.
  void lose() {
    // Whose append's end is not known is not told that nothing was done.
    if (writing_ && writing_->step.job) writing_->step.job->refuse(GatewayErrc::in_doubt);
    writing_.reset();
    stop_serving();
    quit();
  }

  /// Nothing that is under way was written, and nothing more will be.
  void stop_serving() {
    phase_ = Phase::ended;
    const bool moved = !environment_->options.all_partitions;  // another server serves it now; else this one must go
    const GatewayErrc why = moved ? GatewayErrc::owned_elsewhere : GatewayErrc::not_writable;
    unable_ = why;
    if (!moved && !environment_->fenced.exchange(true))
      spdlog::error(R"({{"event":"partition_fenced","partition":{}}})", partition_);
    if (writing_ && writing_->step.job) writing_->step.job->refuse(why);
    writing_.reset();
    ask_.reset();
    for (const Step& step : todo_)
      if (step.job) step.job->refuse(why);
    todo_.clear();
    for (const JobPtr& job : stash_) job->refuse(why);
    stash_.clear();
    while (!waiters_.empty()) answer(take_waiter(0), true);
  }

  // ---- reading

  void load(std::shared_ptr<const domain::State> base) {
    load_session(environment_, partition_, session_id_, std::move(base), self());
  }

  void read_again() {
    phase_ = Phase::rereading;
    load(state_);
  }

  void take_loaded(result<Loaded> loaded) {
    if (phase_ == Phase::loading) return begin_with(std::move(loaded));
    if (phase_ != Phase::rereading) return;
    if (!loaded) {
      delayed_send(this, back_off(), reread_atom::value);
      return;
    }
    phase_ = Phase::ready;
    retry_after_ = first_retry;
    ONBOARDING_ASSERT(loaded->state->version >= state_->version, "a log never forgets what was durable");
    state_ = std::move(loaded->state);
    tell_watchers();
    const std::unique_ptr<Writing> writing = std::move(writing_);
    if (writing->conflicts >= max_conflicts) {
      if (writing->step.job) writing->step.job->refuse(GatewayErrc::in_doubt);
      if (!writing->step.job) refused(writing->step, {make_error_code(log::Errc::unreadable), "conflict after conflict"});
    } else {
      // Deciding is idempotent: what was written after all is not written again.
      carry_out(std::move(writing->step), std::move(writing->command), writing->conflicts + 1);
    }
    pump();
    leave_if_needless();
  }

  void begin_with(result<Loaded> loaded) {
    if (!loaded) {
      spdlog::error(R"({{"event":"session_unreadable","session_id":"{}","error":"{}"}})", session_id_,
                    loaded.error().code.message());
      return end_unable(refusal_of(loaded.error()));
    }
    if (loaded->forgotten) return end_unable(GatewayErrc::unknown_session);
    phase_ = Phase::ready;
    state_ = std::move(loaded->state);
    user_ = std::move(loaded->meta.user);
    blinded_user_id_ = std::move(loaded->meta.blinded_user_id);
    key_ = std::move(loaded->key);
    send(host_, ready_atom::value, session_id_);
    if (for_the_log_) todo_.push_back({Step::Kind::abandon, nullptr, {}, ""});
    for (const JobPtr& job : std::exchange(stash_, {})) accept(job);
    advance();
    pump();
    leave_if_needless();
  }

  void end_unable(GatewayErrc why) {
    phase_ = Phase::ended;
    unable_ = why;
    for (const JobPtr& job : stash_) job->refuse(why);
    stash_.clear();
    send(host_, unreadable_atom::value, session_id_);
  }

  // ---- what follows a step

  /// What the step is for is durable, just now or from before.
  void settled(const Step& step, bool written) {
    retry_after_ = first_retry;
    switch (step.kind) {
      case Step::Kind::job: settled(step.job, written); break;
      case Step::Kind::start_turn: work_queued_ = false; break;
      case Step::Kind::conclude_turn:
        work_queued_ = false;
        ask_.reset();
        break;
      case Step::Kind::queue_turn: answer_as_queued(step.turn_id, false); break;
      case Step::Kind::abandon: break;
    }
    answer_concluded();
    advance();
  }

  void settled(const JobPtr& job, bool written) {
    // A start that is repeated after the token was replaced is told the one that counts.
    const auto token = [this] { return environment_->options.secrets->session_token(session_id_, state_->token_generation); };
    if (auto* start = std::get_if<StartJob>(&job->what)) {
      if (written) return start->reply(SessionStartedAnswer{snapshot(), token(), false});
      return once_current(job, [start, repeated = SessionStartedAnswer{snapshot(), token(), true}] { start->reply(repeated); });
    }
    if (auto* resume = std::get_if<ResumeJob>(&job->what)) return resume->reply(ResumeAnswer{snapshot(), token()});
    if (auto* erase = std::get_if<EraseJob>(&job->what)) {
      // Whoever still waits has nobody to be answered for.
      while (!waiters_.empty()) take_waiter(0).job->refuse(GatewayErrc::unknown_session);
      send(environment_->options.supervisor, model::forget_atom::value, user_);
      return erase->reply(user_);
    }
    if (written || environment_->options.all_partitions) return wait_for_turn(job);
    // It was received before: its answer may be one from memory.
    ++confirming_;
    environment_->callbacks.begin();
    environment_->options.log->barrier(
        partition_, [environment = environment_, to = self(), job = job](const result<void>& read) mutable {
          if (!read) job->refuse(refusal_of_barrier(read.error()));
          caf::anon_send(std::exchange(to, nullptr), current_atom::value, std::exchange(job, nullptr));
          environment->callbacks.end();
        });
  }

  /// Of a message that was received before: nobody has taken the partition since.
  void take_current(const JobPtr& job) {
    --confirming_;
    arm_deadline(job->due);
    wait_for_turn(job);
    answer_concluded();
    advance();
    pump();
    leave_if_needless();
  }

  /// Of a message that is durable.
  void wait_for_turn(const JobPtr& job) {
    MessageJob& message = std::get<MessageJob>(job->what);
    if (!message.reply.open()) return;
    if (unable_) return job->refuse(*unable_);
    if (const auto refusal = may_not(*job)) return job->refuse(*refusal);
    const domain::Turn* turn = domain::find_turn(*state_, message.command.turn_id);
    if (!turn) turn = domain::find_turn_by_key(*state_, message.command.idempotency_key_hash);
    ONBOARDING_ASSERT(turn != nullptr, "a message that was received has a turn");
    waiters_.push_back({job, turn->turn_id, turn->queued || message.respond_async});
    if (turn->queued) return answer_as_queued(turn->turn_id, false);
    if (message.respond_async && !concluded(*turn))
      todo_.push_back({Step::Kind::queue_turn, nullptr, turn->turn_id, "asked_for"});
  }

  /// Works on the turn that is due: makes its first attempt, takes its outcome, or counts another attempt.
  void advance() {
    if (phase_ != Phase::ready || writing_ || work_queued_ || work_held_) return;
    const domain::Turn* turn = domain::pending_turn(*state_);
    if (!turn) return ask_.reset();
    if (ask_ && ask_counts()) {
      if (!ask_->outcome) return;
      work_queued_ = true;
      todo_.insert(todo_.begin(), {Step::Kind::conclude_turn, nullptr, turn->turn_id, ""});
      return;
    }
    const bool ours =
        turn->status == domain::TurnStatus::running && turn->turn_id == started_turn_ && turn->activation == started_activation_;
    if (ours || (planted(Plant::activation_not_counted) && turn->status == domain::TurnStatus::running))
      return ask(turn->turn_id, turn->activation, turn->text.text, turn->queued || !is_waited_for(turn->turn_id));
    work_queued_ = true;
    todo_.insert(todo_.begin(), {Step::Kind::start_turn, nullptr, turn->turn_id, ""});
  }

  /// Whether the question under way is the one for the attempt that is running.
  bool ask_counts() const {
    const domain::Turn* turn = domain::pending_turn(*state_);
    return turn && turn->status == domain::TurnStatus::running && ask_->turn_id == turn->turn_id &&
           ask_->activation == turn->activation;
  }

  // ---- the model

  void ask(const std::string& turn_id, std::uint32_t activation, const std::string& text, bool nobody_waits) {
    const std::uint64_t serial = ++last_serial_;
    auto relay = std::make_shared<ReplyRelay>(turn_id);
    for (const Watching& watching : watching_) relay->add(watching.watcher);
    ask_ = std::make_unique<Ask>(Ask{serial, turn_id, activation, {}, nullptr, nullptr, relay});
    auto about = question(turn_id, text, history());
    about->priority = nobody_waits ? model::Priority::queued_turn : model::Priority::waiting_client;
    about->deadline =
        environment_->options.clock->now() + (nobody_waits ? settings().queued_deadline : settings().model_deadline);
    about->watch = std::move(relay);
    ask_->about = about;
    (void)before_model_call.hit();
    // The supervisor keeps the deadline; ours only guards against its silence.
    ask_->due = now() + (nobody_waits ? settings().queued_deadline : settings().model_deadline) + silence_grace;
    arm_deadline(ask_->due);
    request(environment_->options.supervisor, caf::infinite, model::extract_atom::value, ask_->about)
        .then([this, serial](const model::OutcomePtr& outcome) { take_outcome(serial, outcome); },
              [this, serial](const caf::error&) { take_outcome(serial, no_outcome("no_provider")); });
  }

  static model::OutcomePtr no_outcome(const char* failure) {
    auto outcome = std::make_shared<model::ExtractionOutcome>();
    outcome->failure = failure;
    return outcome;
  }

  std::shared_ptr<model::ExtractionRequest> question(const std::string& turn_id, const std::string& text,
                                                     std::vector<model::HistoryLine> history) const {
    auto request = std::make_shared<model::ExtractionRequest>();
    request->session_id = session_id_;
    request->turn_id = turn_id;
    request->plan = state_->plan;
    request->locale = state_->locale;
    request->arrived = place_in_line(*state_, turn_id, environment_->options.clock->now(), settings().limits.abandon_after);
    request->user_key = user_;
    request->flow = state_->flow;
    for (const auto& [name, field] : state_->fields)
      if (field.value) request->collected.emplace(name, field.value->canonical);
    request->missing = domain::missing_fields(*state_);
    request->asked = state_->asked;
    request->history = std::move(history);
    request->message = text;
    request->completed = domain::is_complete(*state_);
    return request;
  }

  /// The newest lines of the conversation so far, oldest first.
  std::vector<model::HistoryLine> history() const {
    std::vector<model::HistoryLine> lines;
    std::size_t bytes = 0;
    const auto add = [&](bool from_user, const std::string& text) {
      bytes += text.size();
      if (lines.size() >= settings().history_lines || bytes > settings().history_bytes) return false;
      lines.push_back({from_user, text});
      return true;
    };
    bool room = true;
    for (auto turn = state_->turns.rbegin(); room && turn != state_->turns.rend(); ++turn)
      if (concluded(*turn)) room = add(false, turn->reply.text) && add(true, turn->text.text);
    if (room) add(false, state_->greeting.text);
    std::reverse(lines.begin(), lines.end());
    return lines;
  }

  void take_outcome(std::uint64_t serial, model::OutcomePtr outcome) {
    touched_ = now();
    (void)after_model_call.hit();
    const bool counts = ask_ && (ask_->serial == serial || planted(Plant::stale_outcome_accepted));
    if (!counts || ask_->outcome) return;
    ask_->outcome = std::move(outcome);
    advance();
    pump();
    leave_if_needless();
  }

  // ---- answers

  SessionSnapshot snapshot() const { return {session_id_, user_, partition_, state_}; }

  Waiter take_waiter(std::size_t i) {
    Waiter waiter = std::move(waiters_[i]);
    waiters_.erase(waiters_.begin() + static_cast<std::ptrdiff_t>(i));
    return waiter;
  }

  void answer(Waiter waiter, bool queued) {
    if (!queued) return waiter.reply()(TurnAnswer{snapshot(), waiter.turn_id, false, 0, 0});
    if (!ask_ || ask_->outcome) return waiter.reply()(queued_answer(waiter.turn_id, {}));
    tell_place([waiter = std::make_shared<Waiter>(std::move(waiter)), this](model::QueuePlace place) {
      waiter->reply()(queued_answer(waiter->turn_id, place));
    });
  }

  /// Where the turn that is worked on stands, as the supervisor knows; when it is too busy to say, behind all who wait.
  template <class Tell>
  void tell_place(Tell tell) {
    request(environment_->options.supervisor, place_patience, model::place_atom::value, ask_->about)
        .then([=](model::QueuePlace place) { tell(place); },
              [=, this](const caf::error&) {
                const auto& board = environment_->options.queue;
                tell(board ? board->newcomer() : model::QueuePlace{});
              });
  }

  /// `ahead`: the place of the session's turn that is worked on in the queue for budget; position 0: it does not wait there.
  TurnAnswer queued_answer(const std::string& turn_id, model::QueuePlace ahead) const {
    TurnAnswer answer{snapshot(), turn_id, true, 0, 0};
    const std::uint32_t place = std::max(1u, place_in_queue(turn_id));
    answer.position_in_queue = std::max(1u, ahead.position) + place - 1;
    // What it waits for budget ends with its answer.
    const auto eta = ahead.eta + environment_->instruments.usual_turn() * (ahead.position > 0 ? place - 1 : place);
    answer.eta_seconds =
        static_cast<std::uint32_t>(std::max<std::int64_t>(1, std::chrono::ceil<std::chrono::seconds>(eta).count()));
    return answer;
  }

  /// Among the session's own turns; 1: the one that is worked on.
  std::uint32_t place_in_queue(const std::string& turn_id) const {
    std::uint32_t place = 0;
    for (const domain::Turn& turn : state_->turns) {
      if (!concluded(turn)) place++;
      if (turn.turn_id == turn_id) break;
    }
    return place;
  }

  void answer_concluded() {
    for (std::size_t i = 0; i < waiters_.size();) {
      const domain::Turn* turn = domain::find_turn(*state_, waiters_[i].turn_id);
      if (turn && concluded(*turn)) answer(take_waiter(i), false);
      else i++;
    }
  }

  /// Those who are to be told that the turn is queued, or all who wait for it.
  void answer_as_queued(const std::string& turn_id, bool all) {
    answer_concluded();
    for (std::size_t i = 0; i < waiters_.size();)
      if (waiters_[i].turn_id == turn_id && (all || waiters_[i].queueing)) answer(take_waiter(i), true);
      else i++;
  }

  bool is_waited_for(const std::string& turn_id) const {
    return std::any_of(waiters_.begin(), waiters_.end(), [&](const Waiter& w) { return w.turn_id == turn_id && !w.queueing; });
  }

  // ---- time

  void arm_deadline(Time due) {
    if (due >= deadline_armed_) return;
    deadline_armed_ = due;
    delayed_send(this, std::max<caf::timespan>(due - now(), 0ms), deadline_atom::value);
  }

  void look_at_deadlines() {
    const Time time = now();
    if (time < deadline_armed_) return;  // one that was armed later and is due earlier took its place
    deadline_armed_ = Time::max();

    for (std::size_t i = 0; i < waiters_.size();) {
      Waiter& waiter = waiters_[i];
      if (time >= waiter.job->due + queueing_grace) {
        answer(take_waiter(i), true);
        continue;
      }
      if (time >= waiter.job->due && !waiter.queueing) {
        waiter.queueing = true;
        todo_.push_back({Step::Kind::queue_turn, nullptr, waiter.turn_id, "slow"});
      }
      arm_deadline(waiter.queueing ? waiter.job->due + queueing_grace : waiter.job->due);
      i++;
    }
    // The append of these has not come back: whether it will is not known.
    if (writing_ && writing_->step.job) refuse_if_due(writing_->step.job, GatewayErrc::in_doubt);
    // Nothing of these was begun.
    std::erase_if(todo_, [&](const Step& step) { return step.job && refuse_if_due(step.job, GatewayErrc::overloaded); });
    std::erase_if(stash_, [&](const JobPtr& job) { return refuse_if_due(job, GatewayErrc::overloaded); });
    if (ask_ && !ask_->outcome) {
      if (time >= ask_->due) take_outcome(ask_->serial, no_outcome("deadline"));
      else arm_deadline(ask_->due);
    }
    pump();
    look_at_idleness();
  }

  bool refuse_if_due(const JobPtr& job, GatewayErrc why) {
    if (now() >= job->due) {
      job->refuse(why);
      return true;
    }
    arm_deadline(job->due);
    return false;
  }

  bool is_idle() const {
    return phase_ == Phase::ready && !writing_ && confirming_ == 0 && todo_.empty() && watching_.empty() && waiters_.empty() &&
           stash_.empty() && !ask_ && !work_queued_ && !work_held_ && !domain::pending_turn(*state_);
  }

  void look_at_idleness() {
    std::erase_if(watching_, [](const Watching& watching) { return !watching.watcher->interested(); });
    const auto leaves_at = touched_ + settings().passivate_after;
    if (!is_idle()) arm_deadline(now() + settings().passivate_after);
    else if (now() < leaves_at) arm_deadline(leaves_at);
    else ask_to_leave();
  }

  /// Nobody needs it in memory: there is no such session, its person was erased, or it came up only to do what the log asked for.
  void leave_if_needless() {
    if (!is_idle()) return;
    drop_spare_room();
    const bool gone = state_->status == domain::SessionStatus::none || state_->status == domain::SessionStatus::erased;
    if (for_the_log_ || gone) ask_to_leave();
  }

  /// Most of the sessions in memory are idle.
  void drop_spare_room() {
    todo_.shrink_to_fit();
    waiters_.shrink_to_fit();
    started_turn_.clear();
    started_turn_.shrink_to_fit();
  }

  void ask_to_leave() {
    if (leaving_) return;
    leaving_ = true;
    send(host_, passivate_atom::value, session_id_);
  }

  /// The host sends nothing more until it hears from us: what came before this was sent before.
  void stop_or_stay() {
    if (is_idle() || phase_ == Phase::ended) {
      send(host_, gone_atom::value, session_id_);
      return quit();
    }
    leaving_ = false;
    send(host_, stay_atom::value, session_id_);
    arm_deadline(now() + settings().passivate_after);
  }

  const EnvironmentPtr environment_;
  caf::actor host_;
  const std::string session_id_;
  const std::uint32_t partition_;
  Phase phase_;
  bool for_the_log_;          // no client has come since it was activated
  bool work_queued_ = false;  // a start_turn or conclude_turn is in todo_ or being written
  bool work_held_ = false;    // the log refused it: tried again after a while
  bool leaving_ = false;
  std::optional<GatewayErrc> unable_;
  std::shared_ptr<domain::State> state_;  // folded from what is durable, and from nothing else
  std::string user_, blinded_user_id_;    // as the log names its person
  privacy::SealingKeyPtr key_;
  std::vector<JobPtr> stash_;  // while loading
  std::vector<Step> todo_;
  std::unique_ptr<Writing> writing_;
  std::vector<Waiter> waiters_;
  std::size_t confirming_ = 0;  // repeated messages whose answer waits for a barrier
  std::vector<Watching> watching_;
  std::unique_ptr<Ask> ask_;
  std::string started_turn_;  // the attempt that is ours to make, once durable
  std::uint32_t started_activation_ = 0;
  std::uint64_t last_serial_ = 0;
  Time touched_;
  Time deadline_armed_ = Time::max();
  std::chrono::milliseconds retry_after_ = first_retry;
};

}  // namespace

caf::actor spawn_session(caf::local_actor& host, const EnvironmentPtr& environment, std::uint32_t partition,
                         std::string session_id, bool certainly_new, bool for_the_log) {
  return host.spawn<SessionActor>(environment, caf::actor_cast<caf::actor>(&host), partition, std::move(session_id),
                                  certainly_new, for_the_log);
}

}  // namespace onboarding::session
