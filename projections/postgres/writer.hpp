// Keeps the read models in PostgreSQL: one transaction a batch, one statement per table and set of columns, one round trip.
#pragma once

#include <functional>
#include <map>
#include <set>

#include "projections/core/writer.hpp"
#include "projections/postgres/generations.hpp"
#include "projections/postgres/pipeline.hpp"
#include "projections/postgres/pool.hpp"

namespace onboarding::projections {

/// What a writer's runner is to follow.
struct Assignment {
  std::int32_t worker = 0;                          // the partitions that it holds a lease of; 0: all, none of them its own
  std::uint32_t lane = 0, lanes = 1;                // of these every lanes-th, from lane on
  std::function<bool(const GenerationRow&)> takes;  // of the generations that are of the program's version and not paused
};

/// The first half of the advisory locks that writers' connections hold, shared; the second is the worker. Whoever takes over from
/// a worker that hangs ends its connections, and with them what they hold.
constexpr std::int32_t writer_class = 1869505123;

/// Writes through a connection of its own, beside the pool's. For one thread.
class PostgresWriter final : public ReadModelWriter {
 public:
  PostgresWriter(Pool&, const Generations&, const PostgresOptions&, std::function<Assignment()> assignment);

  result<Opened> open() override;
  result<void> send(const WriteBatch&) override;
  result<void> finish() override;
  bool connected() override { return pipeline_ && pipeline_->usable(); }

 private:
  using Parameters = std::vector<std::string>;

  result<void> connect();
  Opened read_state(pqxx::connection&);
  /// Locks the checkpoints, in the order of the moves, and moves them; unless all are where they should be, nothing is written.
  void move_checkpoints(const std::vector<Move>&);
  void write_table(const FoldedTable&, const std::string& schema);
  void erase(const Table&, const std::string& schema, const Erase&);
  void park(const WriteBatch&);
  void begin_retried(const Retried&);
  void end_retried(const Retried&);
  /// Makes the partitions of days that were not seen before, each in a transaction of its own before the batch's.
  result<void> make_partitions(const WriteBatch&);
  result<void> make_partition(const std::string& schema, const std::string& table, std::int64_t day);

  Pool& pool_;
  const Generations& books_;
  const std::chrono::seconds recycle_;
  const std::function<Assignment()> assignment_;
  std::vector<Generation> generations_;
  std::map<std::string, std::uint64_t> revisions_;  // of projections, as they were when it was opened, and our own since
  std::string retries_;                             // the projection of the batch that is under way, when it retries
  std::optional<Pipeline> pipeline_;
  std::set<std::pair<std::string, std::int64_t>> days_;  // schema.table, day: partitions that are there
};

/// What a column that is there becomes when `incoming` (SQL) comes.
std::string combined(const Table&, const Column&, const std::string& incoming);

/// `INSERT … ON CONFLICT` of the columns in `mask`, one array parameter each, combining as the columns say.
std::string upsert_statement(const Table&, const std::string& schema, std::uint64_t mask);

}  // namespace onboarding::projections
