// What an operator wants to know of a read models' database before anything is done with it; and emptying it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
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

/// What operators decided, which the log does not tell: skipped events (of the log `log_id`, up to its `heads`), what is paused, and
/// the record of all that was done. A JSON object; empty: the database is nobody's. Errc::foreign_log, unavailable.
result<std::string> read_decisions(const std::string& url, const std::string& log_id, std::span<const std::uint64_t> heads);
/// Puts them into a database that has no read models yet, and makes the tables for it. What is paused now, by name. Errc::unavailable,
/// bad_migration.
result<std::vector<std::string>> write_decisions(const std::string& url, const std::string& decisions);

/// Drops every schema that is not PostgreSQL's own, with all that is in it, and makes an empty `public`: the read models are made
/// again from the log. In one transaction, which waits at most 10 s for whoever holds a lock.
result<void> empty_database(const std::string& url);

}  // namespace onboarding::projections
