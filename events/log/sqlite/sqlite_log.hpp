// The embedded event log: one SQLite database (WAL, synchronous=FULL), one writing process, any number of reading ones on
// the same host. Format and steps: infra/docs/FORMAT.md, "SQLite log"; why: infra/docs/adr/0301.
//
// Files beside `path`: `-wal` and `-shm` (SQLite's), `.head` (how far was acknowledged), `.lock` (who writes).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "events/clock.hpp"
#include "events/log/event_log.hpp"

namespace onboarding::log {

struct SqliteOptions {
  std::string path{};
  std::uint32_t partitions = 24;             // of a log that is made; one that exists must have as many
  std::size_t max_waiting = 16384;           // appends in the queue; above: Refused(overloaded)
  std::size_t max_waiting_bytes = 64 << 20;  // of their payloads
  std::size_t max_batch = 1024;              // appends in one commit
  std::size_t max_waiting_reads = 4096;      // read_stream calls in the queue
  std::size_t idle_streams = 65536;          // streams that are neither open nor pending whose version stays in memory
  std::size_t recent_bytes = 4 << 20;        // newest records kept for those who follow, once somebody subscribed
  std::size_t checkpoint_bytes = 64 << 20;   // WAL since the last checkpoint: above, at once; above a 32nd of it, when idle
  /// Trust a log whose head file is lost, damaged or ahead, and write a new one: an operator's decision, never a default.
  bool rebuild_head = false;
  /// Called on the writer thread when a commit or a sync failed; nothing is acknowledged from then on. A failed sync is final
  /// (fsync reports it once), so unless told the process says so on stderr and ends with status 70.
  std::function<void(const Failure&)> on_fatal = {};
  /// Called on the writer thread when nothing can be stored any more (a full disk), with what is wrong, and with an empty text
  /// when it can be again. Must not block.
  std::function<void(const std::string&)> on_room = {};
  RandomSource* random = nullptr;  // for the id of a log that is made; unless told the system's
};

class SqliteLog : public EventLog {
 public:
  /// Takes the writer's lock, checks every record against the chain and the chain against the head file, then serves.
  /// Errors: locked, corrupt, shorter_than_head, wrong_layout, unreadable; the detail says where and what to do.
  static result<std::unique_ptr<SqliteLog>> open(SqliteOptions);
  /// Carries out what waits, then refuses appends (not_writable); called by the destructor. Not from a callback.
  virtual void close() = 0;
};

/// The same log from another process, read only: appends are refused; pending_turns, due and open_count are the writer's to
/// know and fail. New records are seen within 20 ms, also when the file was replaced by another one of the same log.
result<std::unique_ptr<EventLog>> open_sqlite_reader(const std::string& path);

struct LogReport {
  std::string log_id;
  std::uint64_t records = 0, events = 0, payload_bytes = 0, streams = 0;
  std::uint64_t file_bytes = 0;  // database and WAL
  struct Partition {
    std::uint64_t records = 0, head = 0;
  };
  std::vector<Partition> partitions;
  std::uint64_t acknowledged = 0;  // the head file's record number
};

/// Reads the whole log, also while it is written, and checks all that can be checked: checksums, contiguity of record numbers,
/// sequences and versions, both indexes, the head file, SQLite's own integrity check. `progress(records checked, of)`.
/// `is_copy`: of a log that lies in Kafka, which has no head file.
result<LogReport> verify_sqlite(const std::string& path, const std::function<void(std::uint64_t, std::uint64_t)>& progress = {},
                                bool is_copy = false);
/// The same counts without the checks.
result<LogReport> sqlite_stats(const std::string& path);

}  // namespace onboarding::log
