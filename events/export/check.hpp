// Reads every event of a log and says what is wrong with any: the codec's half of `onboardctl events verify`. What the bytes'
// own checksums say is the adapter's (log::verify_sqlite).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "events/codec/codec.hpp"

namespace onboarding::exporting {

struct EventCheck {
  std::uint64_t records = 0, events = 0;
  std::uint64_t unopened = 0;             // records with something sealed whose key is gone, or not in this key store
  std::uint64_t lost_keys = 0;            // streams with such records that do not say that their person was erased
  std::vector<std::string> lost_streams;  // the first 20 of them
  std::uint64_t damaged = 0;              // records with anything wrong
  std::vector<std::string> damage;        // of the first 20: place and what; nothing personal
};

/// Up to the heads of now, so that a log that is being written ends: sequences and versions are contiguous, times never go back
/// within a stream, each record decodes, what is sealed opens where its key is, and what was decoded comes out again when it is
/// encoded and decoded once more. Blocking. A key store out of reach is a failure; damage is not: it is told.
result<EventCheck> check_events(log::EventLog&, privacy::KeyStore&,
                                const std::function<void(std::uint64_t events, std::uint64_t of)>& progress = {});

}  // namespace onboarding::exporting
