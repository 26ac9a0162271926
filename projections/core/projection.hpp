// A projection is a pure function from an event to row operations. It can do nothing else: no I/O, no clock, no effect.
// Each column says how values of it combine, so that a batch's events fold per key in memory and are written as one
// statement per table; folding and writing one by one give the same rows.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "events/codec/codec.hpp"

namespace onboarding::projections {

using Cell = std::variant<std::monostate, std::int64_t, double, bool, std::string, domain::Timestamp>;  // monostate: NULL

enum class Combine {
  key,         // identifies the row
  replace,     // the newest value wins
  keep_first,  // the oldest value wins
  add,         // integers are added up; a missing row counts as 0
  least, greatest
};

struct Column {
  std::string name;
  std::string type;  // PostgreSQL type: text, bigint, double precision, boolean, timestamptz, jsonb
  Combine combine = Combine::replace;
};

/// A table that belongs to one projection; its DDL stands in migrations/, its columns here (a test compares the two).
struct Table {
  std::string name;
  std::vector<Column> columns;  // keys first
};

/// Insert-or-combine of one row. Columns that are not named keep what they have (or their default).
struct Upsert {
  std::size_t table;  // index in Projection::tables()
  std::vector<Cell> key;
  std::vector<std::pair<std::size_t, Cell>> values;  // column index → value
};
/// Deletes rows whose given columns equal these cells (erasure, or a value withdrawn).
struct Erase {
  std::size_t table;
  std::vector<std::pair<std::size_t, Cell>> where;
};
using RowOperation = std::variant<Upsert, Erase>;
using RowOperations = std::vector<RowOperation>;

class Projection {
 public:
  virtual ~Projection() = default;
  virtual const std::string& name() const = 0;
  virtual std::uint32_t version() const = 0;  // a new meaning is a new version, rebuilt side by side
  virtual const std::vector<Table>& tables() const = 0;
  /// Appends this event's operations. Throws nothing; an event it cannot apply is a Failure, which parks the user's key.
  virtual result<void> apply(const codec::DecodedEvent&, RowOperations& out) const = 0;
};

}  // namespace onboarding::projections
