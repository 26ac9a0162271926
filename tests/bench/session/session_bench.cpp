// What the actors' part of a turn costs: gateway, host, session, decider, encoding and sealing, two appends to the memory
// log, an instant model. Also bytes per session in memory. Plain output, one figure a line.
//   bench_session [sessions = 256] [turns a session = 40] [sessions for the memory figure = 20000]
#include <malloc.h>
#include <prometheus/registry.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <caf/all.hpp>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "actors/model/supervisor.hpp"
#include "actors/session/gateway.hpp"
#include "events/domain/catalog.hpp"
#include "events/log/memory/memory_log.hpp"
#include "events/privacy/memory_key_store.hpp"

namespace onboarding {
namespace {

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

std::size_t number(int argc, char** argv, int which, std::size_t otherwise) {
  return argc > which ? std::strtoull(argv[which], nullptr, 10) : otherwise;
}

caf::behavior instant_model(caf::event_based_actor*) {
  return {[](model::extract_atom, const model::RequestPtr& request) {
    auto outcome = std::make_shared<model::ExtractionOutcome>();
    outcome->answer = domain::ModelAnswer{"Thanks!", {{"team_size", std::to_string(request->history.size() + 1)}}, {}};
    outcome->source = "instant";
    return model::OutcomePtr(std::move(outcome));
  }};
}

struct Config : caf::actor_system_config {
  Config() { session::configure(*this); }
};

class Bench {
 public:
  explicit Bench(std::chrono::milliseconds passivate_after = std::chrono::hours(1)) : model_(system_.spawn(instant_model)) {
    SessionSettings settings;
    settings.passivate_after = passivate_after;
    settings.limits.max_messages = 1'000'000;
    settings.max_requests = 1'000'000;
    gateway_ = session::make_gateway(system_, {&log_, &keys_, &secrets_, &system_clock(), &system_random(), &flows_, &registry_,
                                               settings, model_, [](std::function<void()> work) { work(); }});
  }
  ~Bench() {
    gateway_->stop();
    caf::anon_send_exit(model_, caf::exit_reason::user_shutdown);
    system_.await_all_actors_done();
    gateway_->wait_for_callbacks();
  }

  std::vector<std::string> start(std::size_t count) {
    std::vector<std::string> ids(count);
    std::atomic<std::size_t> left{count};
    for (std::size_t i = 0; i < count; ++i)
      gateway_->start_session({}, [&, i](result<SessionStartedAnswer> answer) {
        ids[i] = answer.value().session.session_id;
        if (--left == 0) left.notify_all();
      });
    wait(left);
    return ids;
  }

  /// Every session says its next message as soon as it was answered.
  void converse(const std::vector<std::string>& ids, std::size_t turns) {
    std::atomic<std::size_t> left{ids.size()};
    for (const std::string& id : ids) say(id, turns, left);
    wait(left);
  }

  std::size_t sessions_in_memory() const { return gateway_->status().sessions_in_memory; }

 private:
  void say(const std::string& id, std::size_t turns, std::atomic<std::size_t>& left) {
    MessageRequest request;
    request.session_id = id;
    request.token_generation = 1;
    request.text = "We are about this many people, I would say.";
    gateway_->post_message(std::move(request), [this, &id, turns, &left](result<TurnAnswer> answer) {
      if (!answer) std::printf("error: %s\n", answer.error().message().c_str());
      if (turns > 1) return say(id, turns - 1, left);
      if (--left == 0) left.notify_all();
    });
  }

  static void wait(std::atomic<std::size_t>& left) {
    for (std::size_t n = left; n != 0; n = left) left.wait(n);
  }

  log::MemoryLog log_{log::make_memory_store()};
  privacy::MemoryKeyStore keys_;
  const privacy::Secrets secrets_ = privacy::Secrets::from_bytes({});
  domain::FixedFlowCatalog flows_;
  prometheus::Registry registry_;
  Config config_;
  caf::actor_system system_{config_};
  caf::actor model_;
  std::unique_ptr<session::SessionGateway> gateway_;
};

int run(int argc, char** argv) {
  spdlog::set_level(spdlog::level::warn);
  const std::size_t sessions = number(argc, argv, 1, 256), turns = number(argc, argv, 2, 40),
                    many = number(argc, argv, 3, 20'000);
  {
    Bench bench;
    const auto ids = bench.start(sessions);
    const double cpu = cpu_seconds();
    const auto begin = std::chrono::steady_clock::now();
    bench.converse(ids, turns);
    const double used = cpu_seconds() - cpu;
    const double took = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const auto total = static_cast<double>(sessions * turns);
    std::printf("turns: %.0f\nturns_per_second: %.0f\nturns_per_cpu_second: %.0f\ncpu_us_per_turn: %.1f\n", total, total / took,
                total / used, used / total * 1e6);
  }
  {
    // The memory log and the keys stay when the sessions go: what goes is what the sessions were.
    Bench bench(std::chrono::seconds(15));
    const double cpu = cpu_seconds();
    (void)bench.start(many);
    const double used = cpu_seconds() - cpu;
    const std::size_t active = bench.sessions_in_memory(), full = mallinfo2().uordblks;
    while (bench.sessions_in_memory() > 0) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    std::printf("cpu_us_per_start: %.1f\nbytes_per_active_session: %.0f (of %zu)\n", used / static_cast<double>(many) * 1e6,
                static_cast<double>(full - mallinfo2().uordblks) / static_cast<double>(active), active);
  }
  return 0;
}

}  // namespace
}  // namespace onboarding

int main(int argc, char** argv) { return onboarding::run(argc, argv); }
