#include "projections/postgres/archive.hpp"

#include "events/codec/json.hpp"
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
      std::vector<std::string> leaves;  // a row's address is its partition's own
      {
        pqxx::read_transaction transaction(connection.db);
        for (const auto& row : transaction.exec_params(
                 "SELECT relid::regclass::text FROM pg_partition_tree($1) WHERE isleaf ORDER BY 1", options.table))
          leaves.push_back(row[0].as<std::string>());
      }
      std::uint64_t total = 0;
      for (const auto& leaf : leaves) {
        const std::string statement = "WITH g AS (DELETE FROM " + leaf + " WHERE ctid = ANY(ARRAY(SELECT ctid FROM " + leaf +
                                      " WHERE " + time + " < $1::timestamptz LIMIT " + std::to_string(rows_a_transaction) +
                                      ")) RETURNING *) SELECT (" + shown + ")::text FROM g";
        for (std::size_t got = rows_a_transaction; got > 0;) {
          pqxx::work transaction(connection.db);
          std::string lines;
          const auto rows = transaction.exec_params(statement, codec::format_time(options.before));
          for (const auto& row : rows) lines.append(row[0].c_str()).append("\n");
          got = rows.size();
          if (got == 0) break;
          if (auto kept = keep(lines); !kept) throw NotKept{kept.error()};
          transaction.commit();
          total += got;
        }
      }
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

}  // namespace onboarding::projections
