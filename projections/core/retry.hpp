// Applies again what waits behind a parked key, in order, as it stands in the log. Pure but for reading.
#pragma once

#include <set>
#include <span>

#include "events/log/event_log.hpp"
#include "events/privacy/key_store.hpp"
#include "projections/core/writer.hpp"

namespace onboarding::projections {

/// Of the events at `waiting` (sequences in the partition, in order) the last that belongs to an erasure; 0: none does. An error is
/// the log's.
result<std::uint64_t> last_erasure_of(log::EventLog&, std::uint32_t partition, std::span<const std::uint64_t> waiting);

/// Folds the events at `waiting` (sequences in the key's partition, in order) up to the first that still cannot be applied,
/// without those that are `skipped`; nothing when that event is met and the person is `erased`: by what waits, or because the key is
/// gone. An error is the log's or the key store's: nothing is known then.
result<Retried> retry_parked(const Projection&, log::EventLog&, privacy::KeyStore&, const ParkedKey&,
                             std::span<const std::uint64_t> waiting, const std::set<std::uint64_t>& skipped, bool erased, Fold&);

/// The parked key that an event belongs to.
std::string key_of(const codec::DecodedEvent&);

}  // namespace onboarding::projections
