// What the read models share in building their rows. Private to projections/models.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "projections/core/projection.hpp"

namespace onboarding::projections::rows {

template <class... Alternatives>
struct Overloaded : Alternatives... {
  using Alternatives::operator()...;
};
template <class... Alternatives>
Overloaded(Alternatives...) -> Overloaded<Alternatives...>;

inline constexpr Cell null_cell{};

/// NULL once the person was erased.
inline Cell cell_of(const domain::Personal& personal) { return personal.erased ? null_cell : Cell{personal.text}; }
inline Cell cell_or_null(const std::string& text) { return text.empty() ? null_cell : Cell{text}; }
inline Cell one() { return std::int64_t{1}; }

/// One upsert, column by column.
class Row {
 public:
  template <class... Keys>
  explicit Row(std::size_t table, Keys&&... key) : upsert_{table, {}, {}} {
    upsert_.key.reserve(sizeof...(key));
    (upsert_.key.emplace_back(std::forward<Keys>(key)), ...);
    upsert_.values.reserve(usual_columns);
  }
  Row& set(std::size_t column, Cell cell);  // not inline: GCC 12 would warn of moved-from alternatives it cannot follow
  void into(RowOperations& out) { out.emplace_back(std::move(upsert_)); }

 private:
  static constexpr std::size_t usual_columns = 6;
  Upsert upsert_;
};

/// What most projections are: a name, a version, tables.
class NamedProjection : public Projection {
 public:
  NamedProjection(std::string name, std::uint32_t version, std::vector<Table> tables)
      : name_(std::move(name)), version_(version), tables_(std::move(tables)) {}
  const std::string& name() const override { return name_; }
  std::uint32_t version() const override { return version_; }
  const std::vector<Table>& tables() const override { return tables_; }

 private:
  std::string name_;
  std::uint32_t version_;
  std::vector<Table> tables_;
};

/// An event of a session that names no person cannot be put anywhere.
result<void> check_person(const codec::DecodedEvent&);

}  // namespace onboarding::projections::rows
