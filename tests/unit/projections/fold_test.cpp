#include "projections/core/fold.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "projections/models/models.hpp"

namespace onboarding::projections {
namespace {

enum Column : std::size_t { key, number, replaced, first, sum, sum_until, lowest, highest, members };

class OneTable : public Projection {
 public:
  const std::string& name() const override { return name_; }
  std::uint32_t version() const override { return 1; }
  const std::vector<Table>& tables() const override { return tables_; }
  result<void> apply(const codec::DecodedEvent&, RowOperations&) const override { return {}; }

 private:
  std::string name_ = "one";
  std::vector<Table> tables_ = {{.name = "t",
                                 .columns = {{"key", "text", Combine::key},
                                             {"number", "bigint", Combine::key},
                                             {"replaced", "text", Combine::replace},
                                             {"first", "text", Combine::keep_first},
                                             {"sum", "bigint", Combine::add},
                                             {"sum_until", "bigint", Combine::add_until, first},
                                             {"lowest", "bigint", Combine::least},
                                             {"highest", "bigint", Combine::greatest},
                                             {"members", "jsonb", Combine::merge}}}};
};

/// A table in memory that obeys the rules of projection.hpp one row at a time: what PostgreSQL does, told apart from Fold.
using Rows = std::map<std::pair<std::string, std::int64_t>, std::vector<Cell>>;

void write(Rows& rows, const Erase& erase) {
  std::erase_if(rows, [&](const auto& row) {
    for (const auto& [column, cell] : erase.where) {
      if (row.second[column] != cell) return false;
    }
    return true;
  });
}

void write(Rows& rows, const Upsert& upsert) {
  const auto at = std::pair(std::get<std::string>(upsert.key[0]), std::get<std::int64_t>(upsert.key[1]));
  auto [place, fresh] = rows.try_emplace(at, std::vector<Cell>(9));
  std::vector<Cell>& row = place->second;
  const std::vector<Cell> before = row;
  row[key] = upsert.key[0];
  row[number] = upsert.key[1];
  const auto null = [](const Cell& cell) { return cell.index() == 0; };
  for (const auto& [column, cell] : upsert.values) {
    switch (column) {
      case replaced: row[column] = cell; break;
      case first: row[column] = null(before[column]) ? cell : before[column]; break;
      case sum_until:
        if (!null(before[first])) break;
        [[fallthrough]];
      case sum:
        row[column] = (null(before[column]) ? 0 : std::get<std::int64_t>(before[column])) + std::get<std::int64_t>(cell);
        break;
      case lowest: row[column] = null(before[column]) || (!null(cell) && cell < before[column]) ? cell : before[column]; break;
      case highest: row[column] = null(before[column]) || (!null(cell) && before[column] < cell) ? cell : before[column]; break;
      case members: {
        Members merged = null(before[column]) ? Members{} : std::get<Members>(before[column]);
        for (const auto& [name, value] : std::get<Members>(cell)) merged[name] = value;
        row[column] = merged;
        break;
      }
      default: break;
    }
  }
  // A counter that was named once is a number from then on.
  for (const auto& [column, cell] : upsert.values) {
    if ((column == sum || column == sum_until) && null(row[column])) row[column] = std::int64_t{0};
  }
}

void write(Rows& rows, const Fold& fold) {
  for (const FoldedTable& table : fold.tables()) {
    for (const Erase& erase : table.erasures()) write(rows, erase);
    for (const FoldedRow& row : table.rows()) {
      if (row.mask == 0) continue;
      Upsert upsert{0, {row.cells[key], row.cells[number]}, {}};
      for (std::size_t column = replaced; column <= members; ++column) {
        if (row.has(column)) upsert.values.emplace_back(column, row.cells[column]);
      }
      write(rows, upsert);
    }
  }
}

rc::Gen<RowOperation> operation() {
  return rc::gen::exec([]() -> RowOperation {
    const auto text = [] { return std::string(1, *rc::gen::inRange('a', 'd')); };
    const auto integer = [] { return static_cast<std::int64_t>(*rc::gen::inRange(0, 3)); };
    const auto or_null = [](Cell cell) { return *rc::gen::inRange(0, 4) == 0 ? Cell{} : cell; };
    if (*rc::gen::inRange(0, 12) == 0) {
      Erase erase{0, {{key, text()}}};
      if (*rc::gen::inRange(0, 2) == 0) erase.where.emplace_back(number, integer());
      return erase;
    }
    Upsert upsert{0, {text(), integer()}, {}};
    const auto some = [] { return *rc::gen::inRange(0, 3) == 0; };
    if (some()) upsert.values.emplace_back(replaced, or_null(text()));
    if (some()) upsert.values.emplace_back(first, or_null(text()));
    if (some()) upsert.values.emplace_back(sum, integer());
    if (some()) upsert.values.emplace_back(sum_until, integer());
    if (some()) upsert.values.emplace_back(lowest, or_null(integer()));
    if (some()) upsert.values.emplace_back(highest, or_null(integer()));
    if (some()) upsert.values.emplace_back(members, Members{{text(), text()}, {text(), true}});
    return upsert;
  });
}

RC_GTEST_PROP(Fold, writing_the_fold_gives_the_rows_of_writing_one_by_one, ()) {
  const auto operations = *rc::gen::container<std::vector<RowOperation>>(operation());
  const auto batch = *rc::gen::inRange<std::size_t>(1, 20);
  const OneTable projection;
  Rows one_by_one, folded;
  Fold fold(projection);
  for (std::size_t i = 0; i < operations.size(); ++i) {
    std::visit([&](const auto& op) { write(one_by_one, op); }, operations[i]);
    RowOperations next = {operations[i]};
    fold.add(std::move(next));
    if (i % batch == batch - 1 || i + 1 == operations.size()) {
      write(folded, fold);
      fold.clear();
    }
  }
  RC_ASSERT(folded == one_by_one);
}

TEST(Fold, a_row_is_written_once_however_many_events_touched_it) {
  const OneTable projection;
  Fold fold(projection);
  for (int i = 0; i < 100; ++i) fold.add({Upsert{0, {std::string("a"), std::int64_t{1}}, {{sum, std::int64_t{2}}}}});
  ASSERT_EQ(fold.rows(), 1U);
  EXPECT_EQ(fold.tables()[0].rows()[0].cells[sum], Cell{std::int64_t{200}});
}

TEST(Fold, every_read_models_tables_are_well_formed) {
  for (const auto& projection : make_all_projections()) {
    for (const Table& table : projection->tables()) EXPECT_TRUE(well_formed(table)) << table.name;
  }
  EXPECT_FALSE(well_formed({.name = "t", .columns = {{"a", "text"}, {"k", "text", Combine::key}}}));
  EXPECT_FALSE(well_formed({.name = "t", .columns = {{"k", "text", Combine::key}, {"a", "bigint", Combine::add_until, 0}}}));
}

}  // namespace
}  // namespace onboarding::projections
