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
constexpr std::string_view refuses = "rows of erased persons are left: ";
constexpr std::size_t at_once = 200;  // erasures in a transaction
constexpr int looks_between = 60;     // at what was refused

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
  result<void> all;
  const auto note = [&](result<void> one) {
    if (!one && all) all = std::move(one);
  };
  for (const std::uint32_t partition : partitions) note(read_log(partition, stopped));
  if (std::none_of(tables_.begin(), tables_.end(), [](const auto& each) { return each.second.is_due(); })) return all;
  note(pool_.run([&](Connection& connection) {
    for (auto& [where, tables] : tables_) {
      if (stopped()) return;
      if (!tables.is_due()) continue;
      try {
        note(erase(connection.db, where, tables, stopped));
      } catch (const std::exception& error) {
        if (!connection.db.is_open()) throw;
        note(tl::unexpected(failure_of(error)));  // of this table
      }
    }
  }));
  return all;
}

std::uint64_t Eraser::Tables::done_to() const {
  std::uint64_t to = read_to;
  for (const auto* left : {&erasures, &refused}) {
    if (!left->empty()) to = std::min(to, *left->begin() - 1);
  }
  return to;
}

bool Eraser::Tables::is_due() const {
  return still && (!erasures.empty() || (!refused.empty() && looks_until_again == 0) || done_to() >= noted + unnoted_events);
}

void Eraser::read_tables(pqxx::connection_base& db, const std::set<std::uint32_t>& partitions) {
  std::map<Where, Tables> now;
  pqxx::work transaction(db);
  const auto controls = books_.controls(transaction);
  for (const GenerationRow& row : books_.read(transaction)) {
    if (books_.find(row.projection) == nullptr) continue;
    if (books_.is_followed(row, controls)) {
      // Whoever follows brings erasures in their turn.
      if (row.detail.starts_with(waits) || row.detail.starts_with(refuses))
        transaction.exec_params0(
            "UPDATE projection_generations SET detail = '' WHERE projection = $1 AND generation = $2 AND detail = $3",
            row.projection, row.number, row.detail);
      continue;
    }
    for (const auto& at : transaction.exec_params(
             "SELECT partition, sequence, erased_to, "
             "CASE WHEN erased_at = sequence THEN greatest(sequence, erased_to) ELSE sequence END "
             "FROM projection_checkpoints WHERE log_id = $1 AND projection = $2 AND generation = $3 AND sequence > 0",
             books_.log_id(), row.projection, row.number)) {
      const Where where{row.projection, row.number, at[0].as<std::uint32_t>()};
      if (!partitions.contains(where.partition)) continue;
      Tables& tables = now[where];
      const auto known = tables_.find(where);
      // It has moved, or PostgreSQL has gone back to an earlier state, or another process was here: what is in the books counts.
      if (known == tables_.end() || known->second.sequence != at[1].as<std::uint64_t>() ||
          known->second.noted != at[2].as<std::uint64_t>()) {
        tables.sequence = at[1].as<std::uint64_t>();
        tables.noted = at[2].as<std::uint64_t>();
        tables.read_to = at[3].as<std::uint64_t>();
        continue;
      }
      tables = known->second;  // a copy: what fails after this is tried again with what was known
      tables.still = true;
      tables.looks_until_again = std::max(0, tables.looks_until_again - 1);
    }
  }
  transaction.commit();
  tables_ = std::move(now);
}

result<void> Eraser::read_log(std::uint32_t partition, const std::function<bool()>& stopped) {
  const auto of_partition = [&](const auto& with) {
    for (auto& [where, tables] : tables_) {
      if (where.partition == partition && tables.still) with(tables);
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
        if (tables.read_to >= record.first_sequence) return;
        if (!seal) tables.refused.insert(record.first_sequence);
        else if (seal->erases) tables.erasures.insert(record.first_sequence);
        tables.read_to = record.last_sequence();
      });
    }
  }
  return {};
}

result<void> Eraser::erase(pqxx::connection_base& db, const Where& where, Tables& tables, const std::function<bool()>& stopped) {
  if (tables.looks_until_again == 0) tables.erasures.merge(std::exchange(tables.refused, {}));
  for (bool more = true; more && !stopped();) {
    auto done = erase_some(db, where, tables);
    if (!done) return tl::unexpected(done.error());
    more = *done;
  }
  return {};
}

result<bool> Eraser::erase_some(pqxx::connection_base& db, const Where& where, Tables& tables) {
  std::map<std::uint64_t, std::vector<codec::DecodedEvent>> persons;  // by their records
  std::set<std::uint64_t> refused;
  std::string why;
  for (const std::uint64_t sequence : tables.erasures) {
    if (persons.size() + refused.size() == at_once) break;
    auto records = log_.read_partition(where.partition, sequence - 1, 1, read_bytes);
    if (!records) return tl::unexpected(records.error());
    if (records->empty() || records->front().first_sequence != sequence) return false;  // the next look may find it
    auto decoded = codec::decode(records->front(), keys_);
    if (!decoded && decoded.error().code == codec::Errc::key_unreachable) return tl::unexpected(decoded.error());
    if (!decoded) {
      refused.insert(sequence);
      why = "the record at " + to_string(Position{where.partition, sequence}) + ", perhaps an erasure, cannot be read";
      continue;
    }
    std::erase_if(*decoded, [](const auto& event) { return !std::holds_alternative<domain::UserErased>(event.recorded.event); });
    persons.emplace(sequence, std::move(*decoded));
  }
  Tables after = tables;
  try {
    pqxx::work transaction(db);
    transaction.exec(patience);
    transaction.exec("SET CONSTRAINTS ALL IMMEDIATE");  // what refuses does so where it is asked
    // Whoever lets tables change places, or has a runner follow them, locks the checkpoint, too: what is read now holds.
    const auto at = transaction.exec_params(
        "SELECT sequence FROM projection_checkpoints WHERE log_id = $1 AND projection = $2 AND generation = $3 AND partition = "
        "$4 FOR UPDATE",
        books_.log_id(), where.projection, where.generation, where.partition);
    const auto row = books_.find(transaction, where.projection, where.generation);
    if (at.empty() || at[0][0].as<std::uint64_t>() != tables.sequence || !row ||
        books_.is_followed(*row, books_.controls(transaction)))
      return false;  // the next look knows
    const Projection& projection = *books_.find(where.projection);
    const bool gone = transaction.exec_params1("SELECT to_regnamespace(quote_ident($1)) IS NULL", row->at())[0].as<bool>();
    const auto quoted = [&](const std::string& text) { return transaction.quote(text); };
    for (const auto& [sequence, events] : persons) {
      for (const codec::DecodedEvent& person : events) {
        if (gone) continue;
        for (const std::string& each : erasure_statements(projection, transaction.quote_name(row->at()), person, quoted)) {
          try {
            pqxx::subtransaction one(transaction);
            one.exec(each);
            one.commit();
          } catch (const pqxx::sql_error& error) {
            if (!is_lasting(error)) throw;
            refused.insert(sequence);
            why =
                (row->state == "live" ? "its tables refuse" : "its schema " + row->at() + ", which should be dropped, refuses") +
                " to delete them (" + named_state(error) + ")";
          }
        }
      }
      after.erasures.erase(sequence);
    }
    for (const std::uint64_t sequence : refused) {
      after.erasures.erase(sequence);
      after.refused.insert(sequence);
      after.looks_until_again = looks_between;
    }
    after.noted = after.done_to();
    transaction.exec_params0(
        "UPDATE projection_checkpoints SET erased_to = $5, erased_at = sequence "
        "WHERE log_id = $1 AND projection = $2 AND generation = $3 AND partition = $4",
        books_.log_id(), where.projection, where.generation, where.partition, after.noted);
    // One text for all partitions of a generation: the last one that is done takes it away.
    const bool others_wait = std::any_of(tables_.begin(), tables_.end(), [&](const auto& each) {
      const auto& [other, theirs] = each;
      return other.projection == where.projection && other.generation == where.generation && other.partition != where.partition &&
             !(theirs.erasures.empty() && theirs.refused.empty());
    });
    const bool stays =
        others_wait || !after.refused.empty() || !(row->detail.starts_with(waits) || row->detail.starts_with(refuses));
    const std::string detail = !why.empty() ? std::string(refuses) + why : stays ? row->detail : "";
    if (detail != row->detail)
      transaction.exec_params0("UPDATE projection_generations SET detail = $3 WHERE projection = $1 AND generation = $2",
                               where.projection, where.generation, detail);
    transaction.commit();
    if (logger_ && detail != row->detail && !detail.empty())
      logger_->warn("read models: {}: generation {}: {}", where.projection, where.generation, detail);
    tables = std::move(after);
    return !tables.erasures.empty();
  } catch (const std::exception& error) {
    if (!lost_patience(state_of(error))) throw;
  }
  tell_who_holds(db, where);
  return false;
}

void Eraser::tell_who_holds(pqxx::connection_base& db, const Where& where) {
  pqxx::work transaction(db);
  const auto row = books_.find(transaction, where.projection, where.generation);
  if (!row || row->detail.starts_with(refuses)) return;
  const std::string holders = books_.holders(transaction, *row);
  const std::string detail =
      std::string(waits) + (holders.empty() ? "somebody holds the tables in schema " + row->at() : holders);
  if (row->detail == detail) return;
  transaction.exec_params0("UPDATE projection_generations SET detail = $3 WHERE projection = $1 AND generation = $2",
                           where.projection, where.generation, detail);
  transaction.commit();
  if (logger_) logger_->warn("read models: {}: generation {}: {}", where.projection, where.generation, detail);
}

}  // namespace onboarding::projections
