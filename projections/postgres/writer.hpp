// Keeps the read models in PostgreSQL: one transaction a batch, one statement per table and set of columns.
#pragma once

#include <map>
#include <set>

#include "projections/core/writer.hpp"
#include "projections/postgres/pool.hpp"

namespace onboarding::projections {

/// Keeps one connection of the pool for itself while it is open. For one thread.
class PostgresWriter final : public ReadModelWriter {
 public:
  PostgresWriter(Pool&, std::vector<const Projection*>, const PostgresOptions&);
  ~PostgresWriter() override;

  result<Opened> open(const std::string& log_id, std::uint32_t partitions) override;
  result<void> write(const WriteBatch&) override;

 private:
  using Parameters = std::vector<pqxx::binarystring>;

  result<void> connect();
  result<void> own_database(const std::string& log_id);
  Opened read_state(std::uint32_t partitions);
  void write_in(pqxx::work&, const WriteBatch&);
  /// Locks the checkpoints, in the order of the moves, and moves those that are where they should be.
  bool move_checkpoints(pqxx::work&, const std::vector<Move>&);
  void write_table(pqxx::work&, const FoldedTable&);
  void erase(pqxx::work&, const Table&, const Erase&);
  void park(pqxx::work&, const WriteBatch&);
  /// Makes the partitions of days that were not seen before, each in a transaction of its own before the batch's.
  void make_partitions(const WriteBatch&);
  void execute(pqxx::work&, const std::string& name, const std::string& sql, const Parameters&, pqxx::result* = nullptr);

  Pool& pool_;
  const std::vector<const Projection*> projections_;
  const std::chrono::seconds recycle_;
  std::string log_id_;
  std::optional<Pool::Lease> lease_;
  std::set<std::pair<std::string, std::int64_t>> days_;  // table, day: partitions that are there
};

/// `INSERT … ON CONFLICT` of the columns in `mask`, one array parameter each, combining as the columns say.
std::string upsert_statement(const Table&, std::uint64_t mask);

}  // namespace onboarding::projections
