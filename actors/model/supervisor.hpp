// The model supervisor: one actor that owns every provider's budget, and the call actors it spawns. It is the only way
// to a provider. Its interface is final; the policy behind it may grow (issue: queue, fairness, leases between servers).
//
//   session actor ── extract ──▶ supervisor ── spawns ──▶ call actor ── lease ──▶ supervisor (reserve all dimensions or wait)
//                                                             │  ── call ──▶ provider client (curl thread)
//                                                             │  ── settle(lease, usage) ──▶ supervisor
//                                                             └── outcome ──▶ session actor
//
// Messages (CAF 0.17 atoms; the payload types are shared pointers, never serialised):
//   (extract_atom, RequestPtr)                     → OutcomePtr, always, at the latest shortly after the deadline
//   (lease_atom, LeaseRequest)                     → LeaseGrant                    (from call actors)
//   (began_atom, LeaseId)                          → nothing: the first words of the answer are there
//   (settle_atom, LeaseId, Settlement)             → nothing
//   (exit message)                                 → it ends, and its call actors with it: when nobody waits any more
//   (model_status_atom)                            → ModelStatusPtr                (admin, health, metrics)
//   (change_atom, ProviderChange)                  → ModelStatusPtr, or an error whose words name what is wrong
//   (queue_mode_atom, QueueMode)                   → ModelStatusPtr
//   (forget_atom, user key)                        → nothing: the person was erased, what they asked leaves the memory
//   (place_atom, RequestPtr)                       → QueuePlace of the request's turn; position 0: it does not wait
#pragma once

#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <caf/allowed_unsafe_message_type.hpp>
#include <caf/atom.hpp>

#include <functional>

#include "actors/model/extraction.hpp"
#include "actors/model/policy/lease.hpp"
#include "actors/model/status.hpp"

namespace onboarding::model {

using RequestPtr = std::shared_ptr<const ExtractionRequest>;
using OutcomePtr = std::shared_ptr<const ExtractionOutcome>;

using extract_atom = caf::atom_constant<caf::atom("extract")>;
using lease_atom = caf::atom_constant<caf::atom("lease")>;
using began_atom = caf::atom_constant<caf::atom("began")>;
using settle_atom = caf::atom_constant<caf::atom("settle")>;
using model_status_atom = caf::atom_constant<caf::atom("mdlstatus")>;
using change_atom = caf::atom_constant<caf::atom("change")>;
using queue_mode_atom = caf::atom_constant<caf::atom("queuemode")>;
using forget_atom = caf::atom_constant<caf::atom("forget")>;
using place_atom = caf::atom_constant<caf::atom("place")>;

/// Answers on the caller's thread, without a message to anybody; thread-safe.
using InstantExtractor = std::function<OutcomePtr(const ExtractionRequest&)>;

/// Spawns the supervisor. Timers are CAF's delayed_send, so that a test coordinator's clock moves them.
/// `instant`: where it is to put the way to answer at once that it has when there is no provider to wait for, ever; left
/// empty when there is one.
caf::actor spawn_supervisor(caf::actor_system&, SupervisorOptions, InstantExtractor* instant = nullptr);

}  // namespace onboarding::model

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(onboarding::model::RequestPtr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(onboarding::model::OutcomePtr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(onboarding::model::ModelStatusPtr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(onboarding::model::ProviderChange)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(onboarding::model::QueueMode)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(onboarding::model::QueuePlace)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(onboarding::model::LeaseRequest)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(onboarding::model::LeaseGrant)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(onboarding::model::Settlement)
