// Columns of cells as PostgreSQL's binary arrays: nothing to escape, nothing to parse on the other side.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "projections/core/projection.hpp"

namespace onboarding::projections {

/// Builds one parameter of type `<type>[]`. Types as in Column::type.
class ArrayParameter {
 public:
  explicit ArrayParameter(std::string_view type);
  /// A cell of another kind than the type takes is a bug of the projection, asserted.
  void add(const Cell&);
  void add(std::int64_t number);
  void add(std::string_view text);
  /// Complete; take it once.
  std::string take();

 private:
  enum class Type { text, integer, bigint, double_precision, boolean, timestamptz, date, jsonb };
  static Type type_of(std::string_view name);
  void number(std::uint64_t value, std::size_t bytes);  // with its length before it

  Type type_;
  std::uint32_t count_ = 0;
  bool has_null_ = false;
  std::string bytes_;
};

/// As JSON text.
std::string to_json(const Members&);

}  // namespace onboarding::projections
