// Copies of an embedded log, for back-ups, and a copy's life as a log of its own.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "events/log/event_log.hpp"

namespace onboarding::log {

struct CopiedLog {
  std::string log_id;
  std::uint64_t records = 0, events = 0;
  std::vector<std::uint64_t> heads;  // by partition
};

/// A copy of the log as it stands at one moment, also while it is written, with a head file that vouches for its end; both on the
/// disk before this returns. SQLite's online backup in one read transaction: the WAL of a log that is written grows meanwhile.
/// `to` must not exist. `progress(pages copied, of)`.
result<CopiedLog> copy_sqlite(const std::string& from, const std::string& to,
                              const std::function<void(std::uint64_t, std::uint64_t)>& progress = {});

/// Gives a log that nobody writes a new id, and every record its checksum under it: what was told of the old log (cursors, read
/// models, events' ids) fits the new one nowhere. For a log that goes on from an older copy: its next sequences were given to
/// other events already. Whole or not at all. The log must have been verified: its old chain is not looked at.
/// `progress(records, of)`.
result<void> rename_sqlite(const std::string& path, const std::string& log_id,
                           const std::function<void(std::uint64_t, std::uint64_t)>& progress = {});

/// How a log ends, at a glance: without reading it.
struct LogEnd {
  std::string log_id;
  std::uint32_t partitions = 0;
  std::uint64_t records = 0, acknowledged = 0;
  bool head_fits = false;  // the head file is there and names a record that the log has, with its checksum
  std::optional<domain::Timestamp> last_time;
};
result<LogEnd> look_at_end(const std::string& path);

}  // namespace onboarding::log
