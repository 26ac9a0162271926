// A projection is a pure function from an event to row operations. It can do nothing else: no I/O, no clock, no effect.
// Each column says how values of it combine, so that a batch's events fold per key in memory and are written as one
// statement per table; folding and writing one by one give the same rows.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "events/codec/codec.hpp"

namespace onboarding::projections {

/// A JSON object of scalars, in order of name: what a `merge` column holds. monostate: null, a value withdrawn.
using Members = std::map<std::string, std::variant<bool, std::string, std::monostate>>;

using Cell =
    std::variant<std::monostate, std::int64_t, double, bool, std::string, domain::Timestamp, Members>;  // monostate: NULL

enum class Combine {
  key,         // identifies the row
  replace,     // the newest value wins
  keep_first,  // the oldest value wins; NULL is no value
  add,         // integers are added up; a missing row counts as 0
  add_until,   // like add, but only while the row's `until` column (a keep_first one) is still NULL
  least,
  greatest,  // NULL is no value
  merge      // JSON objects: members are added, the newest value of a member wins
};

struct Column {
  std::string name;
  std::string type;  // PostgreSQL type: text, integer, bigint, double precision, boolean, timestamptz, date, jsonb
  Combine combine = Combine::replace;
  std::size_t until = 0;  // add_until: index of the column that ends the counting
};

/// A table that belongs to one projection; its DDL stands in migrations/, its columns here (a test compares the two).
/// At most 64 columns.
struct Table {
  std::string name;
  std::vector<Column> columns;      // keys first
  bool written_once = false;        // rows are inserted whole, once, and never changed: a second insert of a key is poison
  bool partitioned_by_day = false;  // by range of the first column, a date; partitions are made when a day first appears
};

/// Insert-or-combine of one row. Columns that are not named keep what they have (or their default).
struct Upsert {
  std::size_t table;  // index in Projection::tables()
  std::vector<Cell> key;
  std::vector<std::pair<std::size_t, Cell>> values;  // column index → value
};
/// Deletes rows whose given columns equal these cells (erasure, or a value withdrawn). Only key columns may be named: what
/// a batch holds of a row in memory is all that is known of its other columns.
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
