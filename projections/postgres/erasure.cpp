#include "projections/postgres/erasure.hpp"

#include "events/domain/assertion.hpp"
#include "projections/postgres/writer.hpp"

namespace onboarding::projections {

namespace {

using Quoted = std::function<std::string(const std::string&)>;

std::string literal(const Cell& cell, const std::string& type, const Quoted& quoted) {
  std::string text = "NULL";
  if (const auto* number = std::get_if<std::int64_t>(&cell)) text = std::to_string(*number);
  else if (const auto* flag = std::get_if<bool>(&cell)) text = *flag ? "true" : "false";
  else if (const auto* said = std::get_if<std::string>(&cell)) text = quoted(*said);
  else if (const auto* time = std::get_if<domain::Timestamp>(&cell))
    text = "(timestamptz 'epoch' + " + std::to_string(time->time_since_epoch().count()) + " * interval '1 us')";
  else ONBOARDING_ASSERT(std::holds_alternative<std::monostate>(cell), "an erasure sets plain values");
  return text + "::" + type;
}

std::string statement(const Table& table, const std::string& schema, const RowOperation& operation, const Quoted& quoted) {
  const auto value = [&](std::size_t column, const Cell& cell) { return literal(cell, table.columns[column].type, quoted); };
  std::string sets, where;
  const auto is = [&](std::size_t column, const Cell& cell) {
    where += (where.empty() ? " WHERE " : " AND ") + table.columns[column].name + " = " + value(column, cell);
  };
  if (const auto* erase = std::get_if<Erase>(&operation)) {
    for (const auto& [column, cell] : erase->where) is(column, cell);
    return "DELETE FROM " + schema + "." + table.name + where;
  }
  const auto& upsert = std::get<Upsert>(operation);
  for (std::size_t column = 0; column < upsert.key.size(); ++column) is(column, upsert.key[column]);
  for (const auto& [column, cell] : upsert.values)
    sets += (sets.empty() ? "" : ", ") + table.columns[column].name + " = " +
            combined(table, table.columns[column], value(column, cell));
  return "UPDATE " + schema + "." + table.name + " SET " + sets + where;
}

}  // namespace

std::vector<std::string> erasure_statements(const Projection& projection, const std::string& schema,
                                            const codec::DecodedEvent& event, const Quoted& quoted) {
  RowOperations operations;
  std::vector<std::string> all;
  if (!projection.apply(event, operations)) return all;  // it names nobody
  for (const RowOperation& operation : operations) {
    const std::size_t table = std::visit([](const auto& op) { return op.table; }, operation);
    all.push_back(statement(projection.tables()[table], schema, operation, quoted));
  }
  return all;
}

result<void> erase_where_nobody_follows(Pool& pool, const Generations& books,
                                        std::span<const codec::DecodedEvent* const> persons) {
  auto lease = pool.acquire();
  if (!lease) return tl::unexpected(lease.error());
  pqxx::connection& db = (*lease)->db;
  const auto erase = [&](const GenerationRow& row) {
    pqxx::work transaction(db);
    transaction.exec("SET LOCAL lock_timeout = '2s'");
    for (const codec::DecodedEvent* person : persons) {
      transaction.exec_params0(
          "UPDATE projection_checkpoints SET fence = fence + 1 WHERE log_id = $1 AND projection = $2 AND generation = $3 AND "
          "partition = $4",
          books.log_id(), row.projection, row.number, person->partition);
      for (const std::string& statement :
           erasure_statements(*books.find(row.projection), transaction.quote_name(row.at()), *person,
                              [&](const std::string& text) { return transaction.quote(text); }))
        transaction.exec(statement);
    }
    transaction.commit();
  };
  auto done = guarded([&]() -> result<void> {
    std::vector<GenerationRow> rows;
    {
      pqxx::read_transaction transaction(db);
      const auto controls = books.controls(transaction);
      rows = books.read(transaction);
      std::erase_if(rows, [&](const GenerationRow& row) {
        return books.find(row.projection) == nullptr || books.is_followed(row, controls) ||
               transaction.exec_params1("SELECT to_regnamespace(quote_ident($1)) IS NULL", row.at())[0].as<bool>();
      });
    }
    for (const GenerationRow& row : rows) {
      try {
        erase(row);
      } catch (const pqxx::sql_error& error) {
        if (lost_patience(error.sqlstate()))
          return failure(Errc::unavailable, "somebody holds the tables in " + row.at() + ", where a person is to be erased");
        if (!is_lasting(error.sqlstate())) throw;
        pqxx::work transaction(db);
        transaction.exec_params0("UPDATE projection_generations SET detail = $3 WHERE projection = $1 AND generation = $2",
                                 row.projection, row.number,
                                 "rows of erased persons are left in schema " + row.at() + ", which refuses to delete them (" +
                                     named_state(error) + "): drop it");
        transaction.commit();
      }
    }
    return {};
  });
  if (!done) lease->broken();
  return done ? *done : tl::unexpected(done.error());
}

}  // namespace onboarding::projections
