// What an operator wants to know of a read models' database before anything is done with it; and emptying it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "events/domain/result.hpp"

namespace onboarding::projections {

struct DatabaseReport {
  std::string version;  // PostgreSQL's, e.g. "15.14"
  int major = 0;
  bool takes_writes = false;        // no standby
  std::int64_t clock_ahead_ms = 0;  // of its clock against ours
  std::uint64_t bytes = 0;
  bool empty = true;             // nobody made a table in it
  std::string log_id;            // whose read models these are; empty: nobody's yet
  std::string migrations_wrong;  // why the server would refuse it; empty: it would not
  std::size_t migrations_missing = 0;
  struct Checkpoint {
    std::string projection;
    std::uint32_t partition = 0;
    std::uint64_t sequence = 0;
  };
  std::vector<Checkpoint> checkpoints;
  std::uint64_t parked_keys = 0;
  std::vector<std::string> left_schemas;  // of generations that were given up: something that is not ours keeps them
};

/// Blocking, at most a few seconds; changes nothing. Errc::unavailable when it cannot be reached.
result<DatabaseReport> inspect_database(const std::string& url);

/// Drops every schema that is not PostgreSQL's own, with all that is in it, and makes an empty `public`: the read models are made
/// again from the log. In one transaction, which waits at most 10 s for whoever holds a lock.
result<void> empty_database(const std::string& url);

}  // namespace onboarding::projections
