// Keeps the read models in PostgreSQL: one transaction a batch, one statement per table and set of columns, one round trip.
#pragma once

#include <map>
#include <set>

#include "projections/core/writer.hpp"
#include "projections/postgres/pipeline.hpp"
#include "projections/postgres/pool.hpp"

namespace onboarding::projections {

/// Writes through a connection of its own, beside the pool's. For one thread.
class PostgresWriter final : public ReadModelWriter {
 public:
  PostgresWriter(Pool&, std::vector<const Projection*>, const PostgresOptions&);

  result<Opened> open(const std::string& log_id, std::uint32_t partitions) override;
  result<void> send(const WriteBatch&) override;
  result<void> finish() override;
  bool connected() override { return pipeline_ && pipeline_->usable(); }

 private:
  using Parameters = std::vector<std::string>;

  result<void> connect();
  result<void> own_database(pqxx::connection&, const std::string& log_id);
  Opened read_state(pqxx::connection&, std::uint32_t partitions);
  /// Locks the checkpoints, in the order of the moves, and moves them; unless all are where they should be, nothing is written.
  void move_checkpoints(const std::vector<Move>&);
  void write_table(const FoldedTable&);
  void erase(const Table&, const Erase&);
  void park(const WriteBatch&);
  /// Makes the partitions of days that were not seen before, each in a transaction of its own before the batch's.
  result<void> make_partitions(const WriteBatch&);
  result<void> make_partition(const std::string& table, std::int64_t day);

  Pool& pool_;
  const std::vector<const Projection*> projections_;
  const std::chrono::seconds recycle_;
  std::string log_id_;
  std::optional<Pipeline> pipeline_;
  std::set<std::pair<std::string, std::int64_t>> days_;  // table, day: partitions that are there
};

/// `INSERT … ON CONFLICT` of the columns in `mask`, one array parameter each, combining as the columns say.
std::string upsert_statement(const Table&, std::uint64_t mask);

}  // namespace onboarding::projections
