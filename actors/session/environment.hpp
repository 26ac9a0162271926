// What all hosts and sessions of one gateway share. Outlives them; thread-safe.
#pragma once

#include <atomic>
#include <memory>
#include <utility>

#include "actors/session/gateway.hpp"
#include "actors/session/instruments.hpp"
#include "actors/session/messages.hpp"

namespace onboarding::session {

struct Environment {
  explicit Environment(GatewayOptions given)
      : options(std::move(given)),
        instruments(*options.metrics),
        admission(std::make_shared<Admission>(options.sessions.max_requests)),
        ready_since(options.clock->now()) {}

  const GatewayOptions options;
  Instruments instruments;
  const std::shared_ptr<Admission> admission;
  CallbacksUnderWay callbacks;
  const domain::Timestamp ready_since;
  std::atomic<bool> fenced{false};
  std::atomic<bool> stopping{false};
  std::atomic<std::uint32_t> searches{0}, erasures{0};  // under way

  const SessionSettings& settings() const { return options.sessions; }
};
using EnvironmentPtr = std::shared_ptr<Environment>;

/// Reads a session's stream from the log on from `base` (null: from its beginning), opens and folds it, and fetches its
/// person's sealing key; all of it on threads of the log and the key store. `to` gets (loaded_atom, LoadResultPtr).
void load_session(const EnvironmentPtr&, std::uint32_t partition, const std::string& session_id,
                  std::shared_ptr<const domain::State> base, const caf::actor& to);

/// A session actor, reading itself from the log unless it is certainly new. `for_the_log`: no client waits, it came up to
/// finish a turn or to be abandoned, and goes when that is done.
caf::actor spawn_session(caf::local_actor& host, const EnvironmentPtr&, std::uint32_t partition, std::string session_id,
                         bool certainly_new, bool for_the_log);

/// A partition's host.
caf::actor spawn_host(caf::actor_system&, EnvironmentPtr, std::uint32_t partition);

}  // namespace onboarding::session
