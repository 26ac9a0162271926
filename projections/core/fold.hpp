// Folds the row operations of a batch per key, so that each row is written once however many events touched it. Pure; its
// size is bounded by the batch's. Property: writing the fold gives the rows that writing the operations one by one gives.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "projections/core/projection.hpp"

namespace onboarding::projections {

/// What is to be written of one row: `mask` has a bit for every column (by index) that has a value in `cells`.
struct FoldedRow {
  std::vector<Cell> cells;  // one per column of the table
  std::uint64_t mask = 0;   // key columns are always set; 0: erased again, nothing to write

  bool has(std::size_t column) const { return (mask >> column & 1U) != 0; }
};

/// The erasures come before the rows.
class FoldedTable {
 public:
  explicit FoldedTable(const Table&);

  void add(Upsert&&);
  void add(Erase&&);

  const Table& table() const { return *table_; }
  const std::vector<Erase>& erasures() const { return erasures_; }
  const std::vector<FoldedRow>& rows() const { return rows_; }
  bool empty() const { return erasures_.empty() && rows_.empty(); }
  void clear();

 private:
  FoldedRow& row_of(Upsert&);

  const Table* table_;
  std::vector<Erase> erasures_;
  std::vector<FoldedRow> rows_;
  std::unordered_map<std::string, std::size_t> by_key_;
  std::string key_;  // scratch
};

/// The tables of one projection.
class Fold {
 public:
  explicit Fold(const Projection&);

  void add(RowOperations&&);
  const std::vector<FoldedTable>& tables() const { return tables_; }
  std::size_t rows() const;
  void clear();

 private:
  std::vector<FoldedTable> tables_;
};

/// Whether the columns of a table keep the rules above (keys first, `until` a keep_first column, merges jsonb …).
bool well_formed(const Table&);

}  // namespace onboarding::projections
