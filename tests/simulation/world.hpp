// A world in which the real sessions, hosts, gateway and model supervisor live, run by one seed: CAF's test coordinator
// delivers messages in an order that the seed chooses, time stands still until the seed moves it, the log, the key store
// and the model providers fail as the seed says, and the process dies at steps the seed picks. People (agents.hpp) talk
// to it, repeat what was not answered, and keep a ledger of what they were told.
#pragma once

#include <prometheus/registry.h>
#include <caf/all.hpp>
#include <caf/scheduler/test_coordinator.hpp>

#include <deque>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "actors/model/supervisor.hpp"
#include "actors/session/flow_registry.hpp"
#include "actors/session/gateway.hpp"
#include "events/log/memory/memory_log.hpp"
#include "events/privacy/memory_key_store.hpp"
#include "tests/simulation/read_models.hpp"

namespace onboarding::simulation {

/// The library's distributions differ between implementations; a seed must mean the same everywhere.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : engine(seed) {}
  std::size_t below(std::size_t bound) { return static_cast<std::size_t>(engine() % bound); }
  std::size_t between(std::size_t low, std::size_t high) { return low + below(high - low + 1); }
  bool chance(double probability) { return static_cast<double>(engine() >> 11) * 0x1p-53 < probability; }
  std::mt19937_64 engine;
};

class SeededRandom final : public RandomSource {
 public:
  explicit SeededRandom(std::uint64_t seed) : engine_(seed) {}
  void fill(std::span<std::uint8_t> bytes) override {
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(engine_());
  }

 private:
  std::mt19937_64 engine_;
};

/// Wall time: what has passed, and jumps.
class VirtualClock final : public Clock {
 public:
  domain::Timestamp now() const override { return domain::Timestamp(std::chrono::seconds(1'790'000'000)) + elapsed + skew; }
  std::chrono::microseconds elapsed{0}, skew{0};
};

/// How often each thing happened. The campaign fails when one of the faults never did.
struct Tally {
  std::map<std::string, std::uint64_t> faults;
  std::map<std::string, std::uint64_t> answers;
  std::uint64_t commands = 0, sessions = 0, events = 0, steps = 0, overlapped_asks = 0, asks = 0;
  void operator+=(const Tally&);
};

struct Probabilities {
  log::Faults log{.late = 0.05,
                  .duplicate = 0.03,
                  .in_doubt_written = 0.02,
                  .in_doubt_lost = 0.02,
                  .fenced = 0.002,
                  .refused = 0.03,
                  .failed_read = 0.03,
                  .slow_read = 0.1};
  double keys_unreachable = 0.02;
  double model_fault = 0.4;
  bool none = false;
};

class World;

/// The log as one process sees it; notes who writes what at the same time.
class WatchedLog final : public log::EventLog {
 public:
  WatchedLog(World& world, log::EventLog& log) : world_(world), log_(log) {}
  std::string log_id() const override { return log_.log_id(); }
  std::uint32_t partitions() const override { return log_.partitions(); }
  result<void> writable() const override { return log_.writable(); }
  void append(log::Append, log::AppendDone) override;
  void read_stream(std::uint32_t partition, std::string stream, std::uint64_t after, std::size_t max,
                   log::RecordsRead done) override {
    log_.read_stream(partition, std::move(stream), after, max, std::move(done));
  }
  result<std::vector<log::Record>> read_partition(std::uint32_t p, std::uint64_t after, std::size_t records,
                                                  std::size_t bytes) override {
    return log_.read_partition(p, after, records, bytes);
  }
  std::uint64_t head(std::uint32_t partition) const override { return log_.head(partition); }
  std::unique_ptr<log::Subscription> subscribe(std::function<void(std::uint32_t)> f) override {
    return log_.subscribe(std::move(f));
  }
  result<std::vector<log::OpenStream>> pending_turns(std::uint32_t p, std::size_t limit) override {
    return log_.pending_turns(p, limit);
  }
  result<std::vector<log::OpenStream>> due(std::uint32_t p, domain::Timestamp before, std::size_t limit) override {
    return log_.due(p, before, limit);
  }
  result<std::uint64_t> open_count() override { return log_.open_count(); }

 private:
  World& world_;
  log::EventLog& log_;
  std::set<std::string> in_flight_, doubted_;
};

/// The key store as one process sees it: slow, and at times out of reach.
class UnreliableKeys final : public privacy::KeyStore {
 public:
  UnreliableKeys(World& world, privacy::KeyStore& keys) : world_(world), keys_(keys) {}
  void obtain(std::string user, Obtained done) override;
  result<privacy::SealingKeyPtr> find(std::string_view user, std::string_view key_id) override;
  void erase(std::string user, std::function<void(result<void>)> done) override { keys_.erase(std::move(user), std::move(done)); }

 private:
  World& world_;
  privacy::KeyStore& keys_;
};

/// A provider that answers late, not at all, wrongly or with lies.
class UnreliableProvider final : public model::ProviderClient {
 public:
  explicit UnreliableProvider(World& world) : world_(world) {}
  void call(const model::Prompt&, std::chrono::milliseconds timeout, model::TextSink,
            std::function<void(model::CallResult)> done) override;

 private:
  World& world_;
};

/// One life of the program, from its start to its crash.
struct Process {
  explicit Process(World&);
  /// Ends every actor; nothing that was under way comes to anything.
  void die();

  struct Config : caf::actor_system_config {
    Config();
  };
  struct Call {
    std::string message;
    std::chrono::microseconds gives_up_at;
    std::function<void(model::CallResult)> done;
  };

  World& world;
  Config config;
  caf::actor_system system;
  caf::scheduler::test_coordinator& scheduler;
  prometheus::Registry registry;
  std::unique_ptr<log::MemoryLog> start_log;  // on which the flows were read; closed
  std::unique_ptr<session::FlowRegistry> flows;
  log::MemoryLog log;
  WatchedLog watched;
  UnreliableKeys keys;
  std::vector<Call> calls;
  std::deque<std::function<void()>> offloaded;  // blocking look-ups and key store answers, in no order
  caf::actor supervisor, front;
  std::unique_ptr<session::SessionGateway> gateway;
};

struct AskSeen {
  std::uint64_t head;  // of the partition, when the model was asked
};

class Agents;

class World {
 public:
  explicit World(std::uint64_t seed);
  ~World();

  /// Runs one history to its quiet end and checks everything; the first violations, empty when all is well.
  std::vector<std::string> run();

  void violation(std::string what) {
    if (violations_.size() < 20) violations_.push_back(std::move(what));
  }
  void fault(const std::string& kind) { ++tally.faults[kind]; }

  MakeProjections make_projections;  // the product's, unless a test plants others
  const std::uint64_t seed;
  Dice dice;
  SeededRandom random;
  VirtualClock clock;
  Probabilities probabilities;
  Tally tally;
  const privacy::Secrets secrets;
  SeededRandom key_random;
  privacy::MemoryKeyStore keys;
  std::shared_ptr<log::MemoryStore> store;
  std::unique_ptr<Process> process;
  std::uint64_t life = 0;                            // counts processes: answers of an earlier one reach nobody
  std::map<std::string, std::vector<AskSeen>> asks;  // by turn

 private:
  friend class Agents;
  void step();
  bool run_job();
  bool answer_call();
  bool run_offloaded();
  void pass_time();
  void advance(std::chrono::microseconds);
  void crash();
  void settle();
  void check_log();

  std::vector<std::string> violations_;
  std::unique_ptr<Agents> agents_;
};

}  // namespace onboarding::simulation
