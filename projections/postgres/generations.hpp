// The books of generations in PostgreSQL, and what can be done with them: make a set of tables like the live one, compare the
// two, let them change places in one transaction, give one up (ADR 0703). Private to projections/postgres.
//
// Whoever changes something locks the projection's row in projection_controls first, its checkpoints next (that stops the
// runners between two batches, and the raised fence tells them), tables last. Runners lock checkpoints, then tables; readers
// only tables. So nobody waits in a circle; whoever needs a table for itself waits a moment only (lock_timeout), lets go of
// everything and tries again.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <pqxx/pqxx>
#include <string>
#include <vector>

#include "projections/core/projection.hpp"
#include "projections/postgres/pool.hpp"

namespace onboarding::projections {

struct GenerationRow {
  std::string projection;
  std::uint32_t number = 1, version = 1;
  std::string state;   // live, building, previous, replay
  std::string schema;  // its own; the live one's tables are in public
  std::string phase, swap, detail;
  bool outdated = false;  // its tables are older than a migration, and it is not live: nobody follows it
  std::optional<domain::Timestamp> until;

  std::string at() const { return state == "live" ? "public" : schema; }
};

struct Controls {
  std::uint64_t revision = 1;
  bool paused = false;
  std::string because;
};

/// Who does something, why, and what they saw before (nullopt: whatever there is now).
struct Wish {
  std::string projection, action, actor, reason;
  std::optional<std::uint64_t> revision;
  /// It is not tried again after this. nullopt: as often as is usual.
  std::optional<std::chrono::steady_clock::time_point> deadline = {};
};

class Generations {
 public:
  Generations(std::vector<const Projection*>, std::string log_id, std::uint32_t partitions);

  const std::vector<const Projection*>& projections() const { return projections_; }
  const std::string& log_id() const { return log_id_; }
  std::uint32_t partitions() const { return partitions_; }
  const Projection* find(std::string_view name) const;

  /// Migrates, refuses the database of another log, makes each projection's first generation, and gives up generations whose
  /// tables are older than a migration (those that somebody uses the next time). Errc::foreign_log, bad_migration, unavailable.
  result<void> prepare(pqxx::connection_base&) const;

  // ---- in the caller's transaction; these throw what libpqxx throws
  std::vector<GenerationRow> read(pqxx::transaction_base&) const;  // all but those that are gone
  std::map<std::string, Controls> controls(pqxx::transaction_base&) const;
  /// Some process's runner follows the log into it: it is of this program's version, not outdated, no replay, and not paused.
  bool is_followed(const GenerationRow&, const std::map<std::string, Controls>&) const;
  std::optional<GenerationRow> find(pqxx::transaction_base&, const std::string& projection, const char* state) const;
  std::optional<GenerationRow> find(pqxx::transaction_base&, const std::string& projection, std::uint32_t number) const;
  /// Replays whose schema somebody dropped are gone. Whether there were any.
  bool forget_dropped(pqxx::transaction_base&) const;
  /// A new set of tables like the live one, and checkpoints at 0.
  GenerationRow begin(pqxx::transaction_base&, const std::string& projection, const char* state, const std::string& swap,
                      const std::string& schema = {}, std::optional<domain::Timestamp> until = {}) const;
  /// Its tables are gone; its line stays for the record. So do the tables, empty, when something depends on them that is not ours;
  /// where rows of theirs refer to rows of ours, it is a replay from now on, for somebody to drop: erasures go on to reach it.
  void give_up(pqxx::transaction_base&, const GenerationRow&, const std::string& detail) const;
  /// `incoming` and the live one change places; a generation that was `previous` is given up. Views are made to read the new
  /// tables; grants, comments, row-level security and triggers go with the names. Errc::changed when it is not as far as the live
  /// one, not_possible when it lacks a table, or what an operator has to change first (a view that cannot be replaced, what is
  /// bound to the tables themselves).
  result<void> swap(pqxx::transaction_base&, const GenerationRow& live, const GenerationRow& incoming) const;
  /// Empties the tables of the live generation and begins at the log's beginning.
  void reset(pqxx::transaction_base&, const GenerationRow& live) const;
  /// Who has held a lock on one of its tables for a second or more, and since when; empty: nobody.
  std::string holders(pqxx::transaction_base&, const GenerationRow&) const;
  /// What the connections that hold the advisory lock (`of`, `worker`) wait for, and whose it is; empty: for nothing.
  std::string blockers(pqxx::transaction_base&, std::int32_t of, std::int32_t worker) const;
  /// Runners' batches in hand are refused, and they look anew.
  void raise_fences(pqxx::transaction_base&, const std::string& projection) const;

  /// Carries out `what` as one change of a projection: under its lock, compared with the revision that was seen, noted in the
  /// audit. Errc::changed with the revision found. `detail` is JSON.
  using Change = std::function<result<void>(pqxx::transaction_base&, std::string& detail)>;
  result<void> change(Pool&, const Wish&, const Change& what) const;

  /// Planners know the tables of the generation before anybody reads them.
  result<void> analyze(Pool&, const GenerationRow&) const;

  struct Comparison {
    bool comparable = false;  // both are at the same positions
    bool equal = false;
    std::string report;  // JSON
  };
  /// Rows, checksums, and where they differ the first differing keys, of one snapshot.
  result<Comparison> compare(Pool&, const GenerationRow& live, const GenerationRow& other) const;

 private:
  /// swap(), which says what it is `doing` when it throws.
  result<void> exchange(pqxx::transaction_base&, const GenerationRow& live, const GenerationRow& incoming,
                        std::string& doing) const;
  void copy_table(pqxx::transaction_base&, const std::string& table, const std::string& schema) const;
  std::vector<std::string> with_children(pqxx::transaction_base&, const std::string& schema, const std::string& table) const;
  void make_checkpoints(pqxx::transaction_base&, const std::string& projection, std::uint32_t number) const;
  /// What a replay's tables are looked at through, as the live ones are.
  void copy_views(pqxx::transaction_base&, const std::string& projection, const std::string& schema) const;
  void give_up_outdated(pqxx::connection_base&) const;

  const std::vector<const Projection*> projections_;
  const std::string log_id_;
  const std::uint32_t partitions_;
};

}  // namespace onboarding::projections
