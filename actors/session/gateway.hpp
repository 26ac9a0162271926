// The gateway on an actor system that somebody else owns: for actors/runtime.hpp and for tests on CAF's test coordinator.
#pragma once

#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>

#include <filesystem>
#include <functional>
#include <memory>

#include "actors/gateway.hpp"
#include "actors/model/supervisor.hpp"
#include "actors/runtime.hpp"

namespace onboarding::session {

/// Runs blocking work (index look-ups in the log) off the actor threads: a thread of its own, or inline in tests.
using Offload = std::function<void(std::function<void()>)>;

struct GatewayOptions {
  log::EventLog* log = nullptr;
  privacy::KeyStore* keys = nullptr;
  const privacy::Secrets* secrets = nullptr;
  const Clock* clock = nullptr;
  RandomSource* random = nullptr;
  const domain::FlowCatalog* flows = nullptr;
  prometheus::Registry* metrics = nullptr;
  SessionSettings sessions;
  caf::actor supervisor;  // answers (extract_atom, RequestPtr): actors/model/supervisor.hpp
  Offload offload;
  std::shared_ptr<const model::QueueBoard> queue = {};  // may be null: nobody is queued but by wish or by slowness
  std::filesystem::path erasures = {};   // where erasures that have begun are noted, so that they are finished; empty: nowhere
  model::InstantExtractor instant = {};  // empty: every turn asks the supervisor
  bool all_partitions = true;            // as RuntimeOptions
};

/// A gateway with its partition hosts. Destroying it ends the hosts and their sessions.
class SessionGateway : public Gateway {
 public:
  virtual RuntimeStatus status() const = 0;
  /// As Runtime's.
  virtual void gain(std::uint32_t partition) = 0;
  virtual void lose(std::uint32_t partition) = 0;
  /// Tells hosts and sessions to end. Callbacks that come later from the log or the key store find nobody.
  virtual void stop() = 0;
  /// Callbacks of the log and the key store that are still to come. The actor system may only go when there is none.
  virtual std::size_t callbacks_under_way() const = 0;
  virtual void wait_for_callbacks() const = 0;
};

std::unique_ptr<SessionGateway> make_gateway(caf::actor_system&, GatewayOptions);

/// What the actors need of CAF's configuration (throughput, policy, message types).
void configure(caf::actor_system_config&);

}  // namespace onboarding::session
