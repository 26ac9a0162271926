#include "projections/postgres/erasure.hpp"

#include <spdlog/logger.h>

#include <algorithm>
#include <iterator>

#include "events/codec/envelope.hpp"
#include "events/domain/assertion.hpp"
#include "projections/postgres/writer.hpp"

namespace onboarding::projections {

namespace {

constexpr std::size_t read_events = 4'096, read_bytes = 8 << 20;
constexpr std::uint64_t unnoted_events = 10'000;  // of a partition are read again after a restart
// Whoever is to have a table for itself waits behind us; and we wait again with the next look.
constexpr const char* patience = "SET LOCAL lock_timeout = '200ms'";
constexpr std::string_view waits = "an erased person's rows are still there: ";

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

Eraser::Eraser(Pool& pool, const Generations& books, log::EventLog& log, privacy::KeyStore& keys,
               std::shared_ptr<spdlog::logger> logger)
    : pool_(pool), books_(books), log_(log), keys_(keys), logger_(std::move(logger)) {}

result<void> Eraser::look(const std::set<std::uint32_t>& partitions, const std::function<bool()>& stopped) {
  if (auto read = pool_.run([&](Connection& connection) { read_tables(connection.db, partitions); }); !read) return read;
  for (const std::uint32_t partition : partitions) {
    if (auto read = read_log(partition, stopped); !read) return read;
  }
  if (std::none_of(tables_.begin(), tables_.end(), [](const auto& each) { return each.second.are_due(); })) return {};
  auto erased = pool_.run([&](Connection& connection) -> result<void> {
    for (auto& [where, tables] : tables_) {
      if (stopped()) return {};
      if (!tables.are_due()) continue;
      if (auto done = erase(connection.db, where, tables); !done) return done;
    }
    return {};
  });
  return erased ? *erased : tl::unexpected(erased.error());
}

bool Eraser::Tables::are_due() const { return !erasures.empty() || read_to >= noted + unnoted_events; }

void Eraser::read_tables(pqxx::connection_base& db, const std::set<std::uint32_t>& partitions) {
  std::map<Where, Tables> now;
  pqxx::read_transaction transaction(db);
  const auto controls = books_.controls(transaction);
  for (const GenerationRow& row : books_.read(transaction)) {
    if (books_.find(row.projection) == nullptr || books_.is_followed(row, controls)) continue;
    for (const auto& at :
         transaction.exec_params("SELECT partition, greatest(sequence, erased_to), erased_to FROM projection_checkpoints WHERE "
                                 "log_id = $1 AND projection = $2 AND generation = $3",
                                 books_.log_id(), row.projection, row.number)) {
      const Where where{row.projection, row.number, at[0].as<std::uint32_t>()};
      if (!partitions.contains(where.partition)) continue;
      Tables& tables = now[where];
      if (const auto known = tables_.find(where); known != tables_.end()) tables = std::move(known->second);
      tables.read_to = std::max(tables.read_to, at[1].as<std::uint64_t>());
      tables.noted = at[2].as<std::uint64_t>();
    }
  }
  tables_ = std::move(now);
}

result<void> Eraser::read_log(std::uint32_t partition, const std::function<bool()>& stopped) {
  const auto of_partition = [&](const auto& with) {
    for (auto& [where, tables] : tables_) {
      if (where.partition == partition) with(tables);
    }
  };
  for (const std::uint64_t head = log_.head(partition); !stopped();) {
    std::uint64_t least = head;
    of_partition([&](const Tables& tables) { least = std::min(least, tables.read_to); });
    if (least >= head) return {};
    auto records = log_.read_partition(partition, least, read_events, read_bytes);
    if (!records) return tl::unexpected(records.error());
    if (records->empty()) return {};
    for (std::uint64_t expected = least + 1; const log::Record& record : *records) {
      if (record.first_sequence > expected) return {};  // something is missing: again with the next look
      expected = record.last_sequence() + 1;
      const auto seal = codec::read_seal(record);
      of_partition([&](Tables& tables) {
        if (seal && seal->erases && tables.read_to < record.first_sequence) tables.erasures.push_back(record.first_sequence);
        tables.read_to = std::max(tables.read_to, record.last_sequence());
      });
    }
  }
  return {};
}

result<void> Eraser::erase(pqxx::connection_base& db, const Where& where, Tables& tables) {
  std::vector<codec::DecodedEvent> persons;
  for (const std::uint64_t sequence : tables.erasures) {
    auto records = log_.read_partition(where.partition, sequence - 1, 1, read_bytes);
    if (!records) return tl::unexpected(records.error());
    for (const log::Record& record : *records) {
      auto decoded = codec::decode(record, keys_);
      if (!decoded && decoded.error().code == codec::Errc::key_unreachable) return tl::unexpected(decoded.error());
      if (!decoded) continue;  // its stream is parked: nobody knows whose it is
      std::erase_if(*decoded,
                    [](const auto& event) { return !std::holds_alternative<domain::UserErased>(event.recorded.event); });
      std::move(decoded->begin(), decoded->end(), std::back_inserter(persons));
    }
  }
  std::string why;
  try {
    pqxx::work transaction(db);
    transaction.exec(patience);
    // Whoever lets tables change places, or has a runner follow them, locks the checkpoint, too: what is read now holds.
    const auto at = transaction.exec_params(
        "SELECT sequence FROM projection_checkpoints WHERE log_id = $1 AND projection = $2 AND generation = $3 AND partition = "
        "$4 FOR UPDATE",
        books_.log_id(), where.projection, where.generation, where.partition);
    const auto row = books_.find(transaction, where.projection, where.generation);
    if (at.empty() || !row || books_.is_followed(*row, books_.controls(transaction))) return {};  // the next look knows
    const Projection& projection = *books_.find(where.projection);
    const bool gone = transaction.exec_params1("SELECT to_regnamespace(quote_ident($1)) IS NULL", row->at())[0].as<bool>();
    for (const codec::DecodedEvent& person : persons) {
      if (gone || person.recorded.sequence <= at[0][0].as<std::uint64_t>()) continue;  // it had this one in its turn
      for (const std::string& statement : erasure_statements(projection, transaction.quote_name(row->at()), person,
                                                             [&](const std::string& text) { return transaction.quote(text); }))
        transaction.exec(statement);
    }
    // A replay that is under way may have read that person before the key was gone: the fence has it read anew.
    transaction.exec_params0(
        "UPDATE projection_checkpoints SET fence = fence + $5, erased_to = greatest(erased_to, $6) WHERE log_id = $1 AND "
        "projection = $2 AND generation = $3 AND partition = $4",
        books_.log_id(), where.projection, where.generation, where.partition, persons.empty() ? 0 : 1, tables.read_to);
    transaction.exec_params0(
        "UPDATE projection_generations SET detail = '' WHERE projection = $1 AND generation = $2 AND starts_with(detail, $3)",
        where.projection, where.generation, std::string(waits));
    transaction.commit();
    tables.erasures.clear();
    return {};
  } catch (const std::exception& error) {
    const auto* refused = dynamic_cast<const pqxx::sql_error*>(&error);
    const bool lasting = refused != nullptr && is_lasting(refused->sqlstate());
    if (!lasting && !lost_patience(state_of(error))) throw;
    if (lasting) why = named_state(*refused);
  }
  return wait(db, where, tables, why);
}

result<void> Eraser::wait(pqxx::connection_base& db, const Where& where, Tables& tables, const std::string& refused) {
  pqxx::work transaction(db);
  const auto row = books_.find(transaction, where.projection, where.generation);
  if (!row) return {};
  std::string detail =
      "rows of erased persons are left in schema " + row->at() + ", which refuses to delete them (" + refused + "): drop it";
  if (refused.empty()) {
    const std::string holders = books_.holders(transaction, *row);
    detail = std::string(waits) + (holders.empty() ? "somebody holds the tables in schema " + row->at() : holders);
  } else {
    tables.erasures.clear();
  }
  if (row->detail == detail) return {};
  transaction.exec_params0("UPDATE projection_generations SET detail = $3 WHERE projection = $1 AND generation = $2",
                           where.projection, where.generation, detail);
  transaction.commit();
  if (logger_) logger_->warn("read models: {}: generation {}: {}", where.projection, where.generation, detail);
  return {};
}

}  // namespace onboarding::projections
