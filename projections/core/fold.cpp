#include "projections/core/fold.hpp"

#include <utility>

#include "events/domain/assertion.hpp"

namespace onboarding::projections {

namespace {

bool is_null(const Cell& cell) { return std::holds_alternative<std::monostate>(cell); }

void append_key(std::string& out, const Cell& cell) {
  out.push_back(static_cast<char>('0' + cell.index()));
  if (const auto* text = std::get_if<std::string>(&cell)) {
    const auto size = static_cast<std::uint32_t>(text->size());
    out.append(reinterpret_cast<const char*>(&size), sizeof size);
    out.append(*text);
  } else if (const auto* number = std::get_if<std::int64_t>(&cell)) {
    out.append(reinterpret_cast<const char*>(number), sizeof *number);
  } else if (const auto* time = std::get_if<domain::Timestamp>(&cell)) {
    const std::int64_t ticks = time->time_since_epoch().count();
    out.append(reinterpret_cast<const char*>(&ticks), sizeof ticks);
  } else {
    ONBOARDING_ASSERT(false, "a key is a text, an integer or a time");
  }
}

/// `row` has no value for `column` yet, or one that `incoming` combines with.
void combine(const Table& table, FoldedRow& row, std::size_t column, Cell&& incoming) {
  const Column& rule = table.columns[column];
  Cell& cell = row.cells[column];
  const bool fresh = !row.has(column);
  row.mask |= std::uint64_t{1} << column;
  switch (rule.combine) {
    case Combine::key: ONBOARDING_ASSERT(false, "a key column is no value"); return;
    case Combine::replace: cell = std::move(incoming); return;
    case Combine::keep_first:
      if (fresh || is_null(cell)) cell = std::move(incoming);
      return;
    case Combine::add_until:
      if (row.has(rule.until) && !is_null(row.cells[rule.until])) incoming = std::int64_t{0};
      [[fallthrough]];
    case Combine::add: cell = (fresh ? 0 : std::get<std::int64_t>(cell)) + std::get<std::int64_t>(incoming); return;
    case Combine::least:
      if (fresh || is_null(cell) || (!is_null(incoming) && incoming < cell)) cell = std::move(incoming);
      return;
    case Combine::greatest:
      if (fresh || is_null(cell) || (!is_null(incoming) && cell < incoming)) cell = std::move(incoming);
      return;
    case Combine::merge:
      if (fresh) {
        cell = std::move(incoming);
      } else {
        auto& members = std::get<Members>(cell);
        for (auto& [name, value] : std::get<Members>(incoming)) members.insert_or_assign(name, std::move(value));
      }
      return;
  }
}

}  // namespace

bool well_formed(const Table& table) {
  bool values_began = false;
  for (const Column& column : table.columns) {
    if (column.combine == Combine::key && values_began) return false;
    values_began = values_began || column.combine != Combine::key;
    if (column.combine == Combine::merge && column.type != "jsonb") return false;
    if ((column.combine == Combine::add || column.combine == Combine::add_until) && column.type != "bigint") return false;
    if (column.combine == Combine::add_until &&
        (column.until >= table.columns.size() || table.columns[column.until].combine != Combine::keep_first)) {
      return false;
    }
  }
  return !table.columns.empty() && table.columns.size() <= 64 && table.columns.front().combine == Combine::key &&
         (!table.partitioned_by_day || table.columns.front().type == "date");
}

FoldedTable::FoldedTable(const Table& table) : table_(&table) {
  ONBOARDING_ASSERT(well_formed(table), "a table's columns keep the rules of projection.hpp");
}

FoldedRow& FoldedTable::row_of(Upsert& upsert) {
  if (!table_->written_once) {
    key_.clear();
    for (const Cell& cell : upsert.key) append_key(key_, cell);
    const auto [place, inserted] = by_key_.try_emplace(key_, rows_.size());
    if (!inserted) return rows_[place->second];
  }
  FoldedRow& row = rows_.emplace_back();
  row.cells.resize(table_->columns.size());
  for (std::size_t i = 0; i < upsert.key.size(); ++i) {
    row.cells[i] = std::move(upsert.key[i]);
    row.mask |= std::uint64_t{1} << i;
  }
  return row;
}

void FoldedTable::add(Upsert&& upsert) {
  FoldedRow& row = row_of(upsert);
  // Counts first: an operation that both counts and ends the counting still counts.
  for (auto& [column, cell] : upsert.values) {
    if (table_->columns[column].combine == Combine::add_until) combine(*table_, row, column, std::move(cell));
  }
  for (auto& [column, cell] : upsert.values) {
    if (table_->columns[column].combine != Combine::add_until) combine(*table_, row, column, std::move(cell));
  }
}

void FoldedTable::add(Erase&& erase) {
  for (const auto& [column, cell] : erase.where) {
    ONBOARDING_ASSERT(table_->columns[column].combine == Combine::key, "rows are erased by key columns");
  }
  for (FoldedRow& row : rows_) {
    bool matches = row.mask != 0;
    for (const auto& [column, cell] : erase.where) matches = matches && row.cells[column] == cell;
    if (!matches) continue;
    key_.clear();
    for (std::size_t i = 0; i < table_->columns.size() && table_->columns[i].combine == Combine::key; ++i) {
      append_key(key_, row.cells[i]);
    }
    by_key_.erase(key_);
    row.mask = 0;
  }
  erasures_.push_back(std::move(erase));
}

void FoldedTable::clear() {
  erasures_.clear();
  rows_.clear();
  by_key_.clear();
}

Fold::Fold(const Projection& projection) {
  for (const Table& table : projection.tables()) tables_.emplace_back(table);
}

void Fold::add(RowOperations&& operations) {
  for (RowOperation& operation : operations) {
    std::visit([this](auto& op) { tables_[op.table].add(std::move(op)); }, operation);
  }
}

std::size_t Fold::rows() const {
  std::size_t count = 0;
  for (const FoldedTable& table : tables_) count += table.rows().size();
  return count;
}

void Fold::clear() {
  for (FoldedTable& table : tables_) table.clear();
}

}  // namespace onboarding::projections
