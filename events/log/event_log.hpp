// The port to the event log. Three adapters (memory, SQLite, Kafka) keep one contract (tests/contract/log); what is
// above knows none of them.
//
// A partition is a sequence of records; a record is one decision's events, atomic; sequences number events, begin at 1
// and have no gap: a record's first sequence is the last one of the record before plus one. A stream (one session) lies
// in one partition; its versions are 1, 2, 3 ….
//
// Threads: every method may be called from any thread. Callbacks run on a thread of the log: they must not block and
// must not call back into blocking methods of the log; actors turn them into messages.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "events/domain/session.hpp"
#include "events/ids.hpp"

namespace onboarding::log {

enum class Errc {
  not_writable = 1,   // disk full or the log is shutting down: nothing was written, try again later
  overloaded,         // the append queue is full: back-pressure
  corrupt,            // stored bytes do not match their checksum; detail says where
  shorter_than_head,  // the log lost records it had acknowledged
  wrong_layout,       // partition count, format version or log id differ from what is asked for
  unreadable,         // the storage cannot be read
  locked,             // another process writes this log
  out_of_bounds       // an append's partition, stream name, record id, count or size is not acceptable
};
std::error_code make_error_code(Errc);

/// One decision's events as bytes, with what the log indexes. `record_id` is random: an owner recognises its own record by it.
struct Append {
  std::uint32_t partition = 0;
  std::string stream;
  std::uint64_t expected_version = 0;  // of the stream's last event; 0: the stream must be new
  std::string record_id;               // 16 random bytes
  std::uint32_t count = 0;             // events in the payload, at least 1
  domain::RecoveryIndex index;
  domain::Timestamp time;
  std::string payload;  // events/codec; at most max_payload_bytes
};

inline constexpr std::size_t max_payload_bytes = 1 << 20;
inline constexpr std::size_t max_stream_bytes = 200;  // any bytes, at least one

/// A record as the log counted it.
struct Record {
  std::uint32_t partition = 0;
  std::uint64_t first_sequence = 0;
  std::string stream;
  std::uint64_t first_version = 0;
  std::uint32_t count = 0;
  std::string record_id;
  domain::RecoveryIndex index;
  domain::Timestamp time;
  std::string payload;
  std::string resume_token;  // adapter's own, what a reader needs to go on after this record

  std::uint64_t last_sequence() const { return first_sequence + count - 1; }
  std::uint64_t last_version() const { return first_version + count - 1; }
};

// ---- the ends of an append, exactly one of which happens

/// Durable and counted, read back from the log: the record's place.
struct Durable {
  Position first;               // of the record's first event
  std::uint64_t first_version;  // == expected_version + 1
};
/// The stream stood at another version; nothing was written.
struct Conflict {
  std::uint64_t version_found;
};
/// This owner was replaced; nothing was counted. The owner stops serving the partition.
struct Fenced {};
/// Not known whether it was written: read the stream again before any further append to it.
struct InDoubt {
  Failure error;
};
/// Known not to be written, for a reason that may pass (disk full, queue full, wrong size): answer 503, keep serving.
/// An outcome of its own, so that a full disk never makes anybody guess.
struct Refused {
  Failure error;
};
using AppendOutcome = std::variant<Durable, Conflict, Fenced, InDoubt, Refused>;
using AppendDone = std::function<void(AppendOutcome)>;

/// What recovery and timers ask the index for: the streams of a partition that are open.
struct OpenStream {
  std::string stream;
  std::uint64_t version;
  domain::RecoveryIndex index;
};

using RecordsRead = std::function<void(result<std::vector<Record>>)>;

/// Live reading of one or more partitions. Destroying it ends it; no callback runs afterwards.
class Subscription {
 public:
  virtual ~Subscription() = default;
};

class EventLog {
 public:
  virtual ~EventLog() = default;

  /// Random id given at creation: read models refuse a log that is not theirs.
  virtual std::string log_id() const = 0;
  virtual std::uint32_t partitions() const = 0;
  /// Empty when appends can be served; else why not (full disk, shutting down). For /readyz and health.
  virtual result<void> writable() const = 0;

  /// Asynchronous; appends of one partition are carried out in the order of the calls. `done` is called exactly once.
  virtual void append(Append, AppendDone done) = 0;

  /// A stream's records with last_version > after_version, in order, at most max_records. Off the caller's thread.
  virtual void read_stream(std::uint32_t partition, std::string stream, std::uint64_t after_version, std::size_t max_records,
                           RecordsRead) = 0;

  /// A partition's records with first_sequence > after_sequence, in order. Blocking: for readers with a thread of their own.
  virtual result<std::vector<Record>> read_partition(std::uint32_t partition, std::uint64_t after_sequence,
                                                     std::size_t max_records, std::size_t max_bytes) = 0;
  /// The last counted sequence of a partition; 0 when empty. Cheap.
  virtual std::uint64_t head(std::uint32_t partition) const = 0;

  /// Calls `on_advance(partition)` whenever a head moves (coalesced; also for another process's appends, within 20 ms).
  virtual std::unique_ptr<Subscription> subscribe(std::function<void(std::uint32_t partition)> on_advance) = 0;

  /// Streams with a pending turn, and open streams with due_at <= due_before, at most `limit`, ordered by due_at. Blocking.
  virtual result<std::vector<OpenStream>> pending_turns(std::uint32_t partition, std::size_t limit) = 0;
  virtual result<std::vector<OpenStream>> due(std::uint32_t partition, domain::Timestamp due_before, std::size_t limit) = 0;
  /// Open (active) streams of all partitions: the gauge.
  virtual result<std::uint64_t> open_count() = 0;

  /// `done` when everything that anybody was told of the partition before this call can be read here; locked when it belongs to another
  /// process now. Only a log that several servers write has to ask for it.
  virtual void barrier(std::uint32_t /*partition*/, std::function<void(result<void>)> done) { done({}); }
};

}  // namespace onboarding::log

template <>
struct std::is_error_code_enum<onboarding::log::Errc> : std::true_type {};
