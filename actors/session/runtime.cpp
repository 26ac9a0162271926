#include "actors/runtime.hpp"

#include <pthread.h>

#include <caf/all.hpp>
#include <condition_variable>
#include <deque>

#include "actors/model/supervisor.hpp"
#include "actors/session/gateway.hpp"

namespace onboarding {

namespace {

/// The thread for look-ups that block. What is still waiting at the end is carried out: each knows that it may be brief.
class Clerk {
 public:
  Clerk() : thread_([this] { run(); }) { pthread_setname_np(thread_.native_handle(), "session-clerk"); }
  ~Clerk() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }

  void operator()(std::function<void()> work) {
    {
      const std::lock_guard lock(mutex_);
      work_.push_back(std::move(work));
    }
    wake_.notify_one();
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return ending_ || !work_.empty(); });
      if (work_.empty()) return;
      const auto work = std::move(work_.front());
      work_.pop_front();
      lock.unlock();
      work();
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> work_;  // at most one a partition and one an erasure: each waits for its answer
  bool ending_ = false;
  std::thread thread_;
};

/// The supervisor's state for whoever may not wait for an actor.
struct ModelBoard {
  std::mutex mutex;
  model::ModelStatusPtr status = std::make_shared<const model::ModelStatus>();
};

using refresh_atom = caf::atom_constant<caf::atom("refresh")>;

caf::behavior keep_board(caf::event_based_actor* self, caf::actor supervisor, std::shared_ptr<ModelBoard> board) {
  self->send(self, refresh_atom::value);
  return {[=](refresh_atom) {
    const auto again = [=] { self->delayed_send(self, std::chrono::seconds(1), refresh_atom::value); };
    self->request(supervisor, std::chrono::seconds(5), model::model_status_atom::value)
        .then(
            [=](const model::ModelStatusPtr& status) {
              {
                const std::lock_guard lock(board->mutex);
                board->status = status;
              }
              again();
            },
            [=](const caf::error&) { again(); });
  }};
}

/// A question from outside the actor system: asks, answers once, ends.
class ModelControl final : public model::Control {
 public:
  ModelControl(caf::actor_system& system, caf::actor supervisor, const std::vector<model::PlanSettings>& plans)
      : system_(system), supervisor_(std::move(supervisor)) {
    for (const auto& plan : plans) plans_.push_back(plan.name);
  }

  void status(Done done) override { ask(std::move(done), model::model_status_atom::value); }
  void change(model::ProviderChange change, Done done) override {
    ask(std::move(done), model::change_atom::value, std::move(change));
  }
  void set_queue_mode(model::QueueMode mode, Done done) override { ask(std::move(done), model::queue_mode_atom::value, mode); }
  const std::vector<std::string>& plans() const override { return plans_; }

 private:
  template <class... Question>
  void ask(Done done, Question... question) {
    // With an argument: without one, CAF 0.17 dereferences a null pointer to none (UBSan).
    system_.spawn(
        [done = std::move(done), question...](caf::event_based_actor* self, const caf::actor& supervisor) {
          self->request(supervisor, std::chrono::seconds(5), question...)
              .then([=](const model::ModelStatusPtr& status) { done(status); },
                    [=](const caf::error& error) {
                      const bool wrong = error == caf::sec::invalid_argument;
                      done(failure(std::make_error_code(wrong ? std::errc::invalid_argument : std::errc::timed_out),
                                   self->system().render(error)));
                    });
        },
        supervisor_);
  }

  caf::actor_system& system_;
  const caf::actor supervisor_;
  std::vector<std::string> plans_;
};

struct Config : caf::actor_system_config {
  explicit Config(unsigned threads) {
    session::configure(*this);
    set("scheduler.max-threads", std::max<std::size_t>(2, threads ? threads : std::thread::hardware_concurrency()));
  }
};

model::SupervisorOptions completed(model::SupervisorOptions model, const RuntimeOptions& options) {
  if (!model.clock) model.clock = options.clock;
  if (!model.random) model.random = options.random;
  if (!model.metrics) model.metrics = options.metrics;
  if (!model.board) model.board = std::make_shared<model::QueueBoard>();
  return model;
}

}  // namespace

struct Runtime::Parts {
  explicit Parts(const RuntimeOptions& options)
      : config(options.threads),
        system(config),
        model_options(completed(options.model, options)),
        supervisor(model::spawn_supervisor(system, model_options, &instant)),
        control(system, supervisor, options.model.plans),
        board_keeper(system.spawn(keep_board, supervisor, board)),
        gateway(session::make_gateway(
            system, {options.log, options.keys, options.secrets, options.clock, options.random, options.flows, options.metrics,
                     options.sessions, supervisor, [this](std::function<void()> work) { clerk(std::move(work)); },
                     model_options.board, options.erasures, instant, options.all_partitions})) {}

  ~Parts() {
    gateway->stop();
    caf::anon_send_exit(board_keeper, caf::exit_reason::user_shutdown);
    caf::anon_send_exit(supervisor, caf::exit_reason::user_shutdown);
    // Once no actor is left nothing new is asked of the log, the key store and the clerk; what they still owe is sent to
    // handles of this actor system, so that it goes last.
    system.await_all_actors_done();
    gateway->wait_for_callbacks();
  }

  Config config;
  caf::actor_system system;
  Clerk clerk;
  std::shared_ptr<ModelBoard> board = std::make_shared<ModelBoard>();
  const model::SupervisorOptions model_options;
  model::InstantExtractor instant;
  caf::actor supervisor;
  ModelControl control;
  caf::actor board_keeper;
  std::unique_ptr<session::SessionGateway> gateway;
};

Runtime::Runtime(RuntimeOptions options) : parts_(std::make_unique<Parts>(options)) {}
Runtime::~Runtime() = default;

Gateway& Runtime::gateway() { return *parts_->gateway; }
void Runtime::gain(std::uint32_t partition) { parts_->gateway->gain(partition); }
void Runtime::lose(std::uint32_t partition) { parts_->gateway->lose(partition); }
void Runtime::forget(const std::string& user_key) { caf::anon_send(parts_->supervisor, model::forget_atom::value, user_key); }
model::Control& Runtime::model() { return parts_->control; }
RuntimeStatus Runtime::status() const { return parts_->gateway->status(); }

model::ModelStatusPtr Runtime::model_status() const {
  const std::lock_guard lock(parts_->board->mutex);
  return parts_->board->status;
}

}  // namespace onboarding
