// A projection as it was at a time, built in a schema of its own beside the live tables, for analysts. It never goes live.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "events/log/event_log.hpp"
#include "events/privacy/key_store.hpp"
#include "projections/postgres/read_models.hpp"

namespace onboarding::projections {

struct ReplayOptions {
  std::string projection;
  std::string schema;                      // lower case letters, digits, _; made if it is not there
  std::optional<domain::Timestamp> until;  // no event after it counts; nullopt: up to the log's end as it is now
  /// Events read so far, of the log's. False: stop; the same call goes on later. May be empty.
  std::function<bool(std::uint64_t events, std::uint64_t of)> progress;
};
struct Replayed {
  std::uint64_t events = 0;
  std::uint64_t parked = 0;  // keys with an event that could not be applied
  bool complete = false;     // false: it was stopped
};

/// Blocking. Goes on where an earlier call with the same schema and time was stopped or killed, and with what the log got since.
/// Errc::not_found: no such projection; not_possible: the schema is not a replay's of that projection and time; unavailable.
result<Replayed> replay(const PostgresOptions&, log::EventLog&, privacy::KeyStore&, const ReplayOptions&);

}  // namespace onboarding::projections
