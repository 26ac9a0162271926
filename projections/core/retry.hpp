// Applies again what waits behind a parked key, in order, as it stands in the log. Pure but for reading.
#pragma once

#include <set>
#include <span>

#include "events/log/event_log.hpp"
#include "events/privacy/key_store.hpp"
#include "projections/core/writer.hpp"

namespace onboarding::projections {

/// Folds the events at `waiting` (sequences in the key's partition, in order) up to the first that still cannot be applied,
/// without those that are `skipped`; nothing when that event is met and the person was erased. An error is the log's or the key store's: nothing is known then.
result<Retried> retry_parked(const Projection&, log::EventLog&, privacy::KeyStore&, const ParkedKey&,
                             std::span<const std::uint64_t> waiting, const std::set<std::uint64_t>& skipped, Fold&);

/// The parked key that an event belongs to.
std::string key_of(const codec::DecodedEvent&);

}  // namespace onboarding::projections
