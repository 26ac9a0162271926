// Everything that is alive, for the composition root: the actor system, the model supervisor, the partition hosts and
// the gateway to them. No CAF type in it. Implemented in actors/session.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "actors/gateway.hpp"
#include "actors/model/control.hpp"
#include "events/clock.hpp"
#include "events/domain/session.hpp"
#include "events/log/event_log.hpp"
#include "events/privacy/key_store.hpp"
#include "events/privacy/secrets.hpp"

namespace prometheus {
class Registry;
}

namespace onboarding {

/// Periods and bounds of the sessions. Each bound ends in a visible answer (GatewayErrc), never in a growing queue.
struct SessionSettings {
  domain::Limits limits;
  std::chrono::milliseconds passivate_after{60'000};       // idle sessions leave the memory
  std::chrono::milliseconds request_deadline{25'000};      // then a message is answered as queued
  std::chrono::milliseconds model_deadline{120'000};       // then a turn gets the offline extractor's answer, or fails
  std::chrono::milliseconds queued_deadline{30 * 60'000};  // the same, for a turn that was queued
  std::chrono::milliseconds poll_every{5'000};             // how often due timers and forgotten turns are looked for
  std::size_t max_requests = 20'000;                       // accepted and not yet answered, all sessions together
  std::size_t max_requests_per_session = 16;               // the same, one session; beyond: overloaded
  std::size_t max_activations = 192;                       // sessions being read from the log at the same time
  std::size_t max_in_memory = 50'000;                      // sessions; beyond it the idle one that was unused longest leaves
  std::size_t poll_page = 256;                             // streams that one look at a partition's index brings
  std::size_t history_lines = 20;                          // of the conversation, told to the model
  std::size_t history_bytes = 16'384;
};

/// What the runtime stands on. All of it outlives the runtime.
struct RuntimeOptions {
  log::EventLog* log = nullptr;
  privacy::KeyStore* keys = nullptr;
  const privacy::Secrets* secrets = nullptr;
  const Clock* clock = nullptr;
  RandomSource* random = nullptr;
  const domain::FlowCatalog* flows = nullptr;  // session::FlowRegistry (actors/session/flow_registry.hpp)
  prometheus::Registry* metrics = nullptr;
  SessionSettings sessions;
  model::SupervisorOptions model;       // clock, random and metrics are filled in by the runtime where they are null
  unsigned threads = 0;                 // of the scheduler; 0: one a core, at least 2
  bool all_partitions = true;           // all are served from the start; else those that gain() names
  std::filesystem::path erasures = {};  // a folder: erasures that have begun, so that they are finished; empty: a memory log's
};

/// Counters for health and benchmarks; each is a moment's value.
struct RuntimeStatus {
  domain::Timestamp ready_since;
  bool draining = false;
  bool fenced = false;         // another owner writes one of our partitions: this process must go
  std::uint64_t requests = 0;  // accepted and not yet answered
  std::uint64_t sessions_in_memory = 0;
  std::uint64_t turns_total = 0;        // concluded
  std::uint64_t turn_errors_total = 0;  // of these, without an answer
};

class Runtime {
 public:
  /// Starts serving: recovers pending turns at once, in the background.
  explicit Runtime(RuntimeOptions);
  /// Stops: actors end, callbacks that are under way in the log and the key store are waited for. Drain first.
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  Gateway& gateway();
  /// From now on a partition is served here, or not any more: pending turns and timers are taken up as at a start; sessions leave without
  /// another word in the log, and whoever waits is told where to go. The log owns it from before gain() until lose(). Any thread, at once.
  void gain(std::uint32_t partition);
  void lose(std::uint32_t partition);
  /// A person was erased, perhaps by another server: nothing that they asked is kept in memory. Any thread, at once.
  void forget(const std::string& user_key);
  RuntimeStatus status() const;
  /// To see and change the model supervisor while it runs.
  model::Control& model();
  /// Of at most a second ago; never null. Any thread, does not block.
  model::ModelStatusPtr model_status() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace onboarding
