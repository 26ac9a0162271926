#include "projections/postgres/archive.hpp"

#include "events/codec/json.hpp"
#include "projections/core/projection.hpp"
#include "projections/postgres/pool.hpp"

namespace onboarding::projections {
namespace {

constexpr int rows_a_transaction = 5'000;

struct Archivable {
  const char* time;    // the column
  const char* hidden;  // a personal one; null: none
};
Archivable columns_of(const std::string& table) {
  if (table == "conversation_messages") return {"timestamp", "text"};
  return {table == "token_usage" ? "day" : "minute", nullptr};
}

/// Keeping is not PostgreSQL's business: its failure passes through libpqxx as itself.
struct NotKept {
  Failure why;
};

/// Deletes, 5,000 a transaction, each batch after `told` had its rows as `shown`.
template <class Told>
std::uint64_t delete_old(pqxx::connection& db, const std::string& table, const std::string& time, const std::string& before,
                         const std::string& shown, const Told& told) {
  std::vector<std::string> leaves;  // a row's address is its partition's own
  {
    pqxx::read_transaction transaction(db);
    for (const auto& row :
         transaction.exec_params("SELECT relid::regclass::text FROM pg_partition_tree($1) WHERE isleaf ORDER BY 1", table))
      leaves.push_back(row[0].as<std::string>());
  }
  std::uint64_t total = 0;
  for (const auto& leaf : leaves) {
    const std::string statement = "WITH g AS (DELETE FROM " + leaf + " WHERE ctid = ANY(ARRAY(SELECT ctid FROM " + leaf +
                                  " WHERE " + time + " < $1::timestamptz LIMIT " + std::to_string(rows_a_transaction) +
                                  ")) RETURNING *) SELECT " + shown + " FROM g";
    for (;;) {
      pqxx::work transaction(db);
      const auto rows = transaction.exec_params(statement, before);
      if (rows.empty()) break;
      told(rows);
      transaction.commit();
      total += rows.size();
    }
  }
  return total;
}

}  // namespace

const std::vector<std::string>& archivable_tables() {
  static const std::vector<std::string> tables = {"conversation_messages", "token_usage", "turn_outcomes"};
  return tables;
}

result<OldRows> count_old_rows(const std::string& url, const std::string& table, domain::Timestamp before) {
  const auto address = connection_string(url);
  if (!address) return tl::unexpected(address.error());
  return guarded([&] {
    Connection connection(*address);
    pqxx::read_transaction transaction(connection.db);
    const std::string time = columns_of(table).time;
    const auto row = transaction.exec_params1("SELECT count(*), coalesce(min(" + time + ")::text, ''), coalesce(max(" + time +
                                                  ")::text, '') FROM " + table + " WHERE " + time + " < $1::timestamptz",
                                              codec::format_time(before));
    return OldRows{row[0].as<std::uint64_t>(), row[1].as<std::string>(), row[2].as<std::string>()};
  });
}

result<std::uint64_t> archive_old_rows(const std::string& url, const ArchiveOptions& options,
                                       const std::function<result<void>(std::string_view)>& keep) {
  const auto address = connection_string(url);
  if (!address) return tl::unexpected(address.error());
  try {
    return guarded([&] {
      Connection connection(*address);
      const auto [time, hidden] = columns_of(options.table);
      const std::string shown =
          hidden == nullptr || options.open ? "to_jsonb(g)" : "to_jsonb(g) || '{\"" + std::string(hidden) + "\": \"[sealed]\"}'";
      {
        pqxx::work transaction(connection.db);
        transaction.exec_params0(
            "INSERT INTO projection_archived VALUES ($1, $2) ON CONFLICT (table_name) DO UPDATE SET before = "
            "greatest(projection_archived.before, EXCLUDED.before)",
            options.table, codec::format_time(options.before));
        transaction.commit();
      }
      const auto total = delete_old(connection.db, options.table, time, codec::format_time(options.before),
                                    "(" + shown + ")::text", [&](const pqxx::result& rows) {
                                      std::string lines;
                                      for (const auto& row : rows) lines.append(row[0].c_str()).append("\n");
                                      if (auto kept = keep(lines); !kept) throw NotKept{kept.error()};
                                    });
      // Those beside the live one have them still: they are in the archive.
      std::vector<std::string> copies;
      {
        pqxx::read_transaction transaction(connection.db);
        for (const auto& row : transaction.exec_params(
                 "SELECT format('%I.%I', schema_name, $1::text) FROM projection_generations WHERE state IN ('building', "
                 "'previous') AND to_regclass(format('%I.%I', schema_name, $1::text)) IS NOT NULL",
                 options.table))
          copies.push_back(row[0].as<std::string>());
      }
      for (const std::string& copy : copies)
        delete_old(connection.db, copy, time, codec::format_time(options.before), "1", [](const pqxx::result&) {});
      pqxx::work transaction(connection.db);
      transaction.exec_params0(
          "INSERT INTO projection_audit (projection, version, action, actor, detail) VALUES ($1, 0, 'archive', $2, "
          "jsonb_build_object('before', $3::text, 'rows', $4::bigint))",
          options.table, options.actor, codec::format_time(options.before), total);
      transaction.commit();
      return total;
    });
  } catch (const NotKept& not_kept) { return tl::unexpected(not_kept.why); }
}

result<void> leave_archived(Pool& pool, const std::string& schema, const std::vector<Table>& tables) {
  auto lease = pool.acquire();
  if (!lease) return tl::unexpected(lease.error());
  auto left = guarded([&] {
    std::map<std::string, std::string> archived;
    {
      pqxx::read_transaction transaction((*lease)->db);
      for (const auto& row : transaction.exec("SELECT table_name, before::text FROM projection_archived"))
        archived[row[0].as<std::string>()] = row[1].as<std::string>();
    }
    for (const Table& table : tables) {
      const auto found = archived.find(table.name);
      if (found == archived.end()) continue;
      delete_old((*lease)->db, (*lease)->db.quote_name(schema) + "." + table.name, columns_of(table.name).time, found->second,
                 "1", [](const pqxx::result&) {});
    }
  });
  if (!left) lease->broken();
  return left;
}

}  // namespace onboarding::projections
