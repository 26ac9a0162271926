// The port between a runner and what keeps the rows. One adapter: projections/postgres. Called from the runner's thread only.
// Blocking.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "projections/core/fold.hpp"
#include "projections/queries.hpp"

namespace onboarding::projections {

/// One set of a projection's tables, which a runner fills.
struct Generation {
  const Projection* projection = nullptr;
  std::size_t index = 0;  // of the projection in the program's list
  std::uint32_t number = 1;
  bool live = true;
  std::string schema;  // where its tables are now
};

struct Checkpoint {
  std::uint64_t sequence = 0;  // of the last event that the generation has of the partition
  std::string resume_token;    // of the record that it ended
  std::uint64_t fence = 0;     // raised by whoever changes what a runner believes
};

/// The projection cannot apply the event at `sequence`: the later events of the key wait behind it.
struct ParkedKey {
  std::size_t generation = 0;  // index in Opened::generations
  std::uint32_t partition = 0;
  std::string key;  // a user key, or `stream/<name>` where the user cannot be read
  std::uint64_t sequence = 0;
  std::string error;  // nothing personal
};
struct ParkedEvent {
  std::size_t generation = 0;
  std::uint32_t partition = 0;
  std::string key;
  std::uint64_t sequence = 0;
  std::string stream;
};
/// An event that an operator gave up.
struct SkippedEvent {
  std::size_t projection = 0;  // Generation::index
  Position position;
};

struct Move {
  std::size_t generation = 0;
  std::uint32_t partition = 0;
  std::uint64_t from = 0, to = 0, fence = 0;
  std::string resume_token;
};

/// Who did it, for the operators' record.
struct Audit {
  std::string action, actor, reason;
  std::string detail;  // a JSON object
};

/// What was retried of a parked key. Not in a batch with moves.
struct Retried {
  ParkedKey key;                   // as it was: compared with what is there
  std::uint64_t up_to = 0;         // this event and the ones before it do not wait any longer
  std::string error;               // why the next one does
  std::uint64_t last_waiting = 0;  // of all that wait; one that came later would be an erasure that this undoes
  bool skips_first = false;        // the event at key.sequence was given up, for all generations
  bool erased = false;             // the person was: either all that waits is applied, or nothing
  Audit audit;                     // what becomes of the key is added: `still_parked`, `now_at`
};

/// A UserErased that reaches tables out of its turn: rows that are there are deleted or changed, none is made.
struct Erasure {
  const codec::DecodedEvent* event = nullptr;
  std::size_t generation = 0;  // where it waits behind a parked key, or is later than a replay's time
};

/// One transaction.
struct WriteBatch {
  std::vector<Move> moves;         // in order of (generation, partition): the order of the locks
  std::vector<const Fold*> folds;  // [generation]
  std::vector<ParkedKey> parked_keys;
  std::vector<ParkedEvent> parked_events;
  std::vector<Retried> retried;   // at most one
  std::vector<Erasure> erasures;  // after the folds
};

/// What a runner is to do from now on.
struct Opened {
  std::vector<Generation> generations;
  std::vector<std::uint32_t> partitions;             // which it follows
  std::vector<std::vector<Checkpoint>> checkpoints;  // [generation][partition of the log]
  std::vector<ParkedKey> parked;
  std::vector<SkippedEvent> skipped;
};

class ReadModelWriter {
 public:
  virtual ~ReadModelWriter() = default;
  /// Gets ready and tells what to do, and where every generation stands. Errc::unavailable, foreign_log, bad_migration.
  virtual result<Opened> open() = 0;
  /// Begins to write rows, parked keys and checkpoints, all or nothing; what the batch points to is not needed any longer.
  /// Then finish() waits for the end, once, before the next send().
  virtual result<void> send(const WriteBatch&) = 0;
  /// Errc::fenced when a checkpoint is not where `from` and `fence` say, Errc::poison when the rows themselves are refused:
  /// nothing was written. Errc::unavailable may mean that it was written all the same: after it, and after `fenced`, open() says.
  virtual result<void> finish() = 0;
  /// False once the connection is gone: a server that died may have lost what it had not flushed, and open() says what it has.
  /// Cheap; not between send() and finish().
  virtual bool connected() = 0;
};

}  // namespace onboarding::projections
