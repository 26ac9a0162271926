// The port between the runner and what keeps the rows. One adapter: projections/postgres; tests have one in memory.
// Called from the runner's thread only. Blocking.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "projections/core/fold.hpp"
#include "projections/queries.hpp"

namespace onboarding::projections {

struct Checkpoint {
  std::uint64_t sequence = 0;  // of the last event that the projection has of the partition
  std::string resume_token;    // of the record that it ended
};

/// The projection cannot apply the event at `sequence`: the later events of the key wait behind it.
struct ParkedKey {
  std::size_t projection = 0;  // index in the runner's list
  std::uint32_t partition = 0;
  std::string key;  // a user key, or `stream/<name>` where the user cannot be read
  std::uint64_t sequence = 0;
  std::string error;  // nothing personal
};
struct ParkedEvent {
  std::size_t projection = 0;
  std::uint32_t partition = 0;
  std::string key;
  std::uint64_t sequence = 0;
  std::string stream;
};

struct Move {
  std::size_t projection = 0;
  std::uint32_t partition = 0;
  std::uint64_t from = 0, to = 0;
  std::string resume_token;
};

/// One transaction.
struct WriteBatch {
  std::vector<Move> moves;  // in order of (projection, partition): the order of the locks
  std::vector<const Fold*> folds;
  std::vector<ParkedKey> parked_keys;
  std::vector<ParkedEvent> parked_events;
};

struct Opened {
  std::vector<std::vector<Checkpoint>> checkpoints;  // [projection][partition]
  std::vector<ParkedKey> parked;
};

class ReadModelWriter {
 public:
  virtual ~ReadModelWriter() = default;
  /// Gets ready (migrates, makes missing checkpoints) and tells where every projection stands. Errc::unavailable,
  /// foreign_log, bad_migration.
  virtual result<Opened> open(const std::string& log_id, std::uint32_t partitions) = 0;
  /// Begins to write rows, parked keys and checkpoints, all or nothing; what the batch points to is not needed any longer.
  /// Then finish() waits for the end, once, before the next send().
  virtual result<void> send(const WriteBatch&) = 0;
  /// Errc::fenced when a checkpoint is not where `from` says, Errc::poison when the rows themselves are refused: nothing was
  /// written. Errc::unavailable may mean that it was written all the same: after it, and after `fenced`, open() says.
  virtual result<void> finish() = 0;
  /// False once the connection is gone: a server that died may have lost what it had not flushed, and open() says what it has.
  /// Cheap; not between send() and finish().
  virtual bool connected() = 0;
};

}  // namespace onboarding::projections
