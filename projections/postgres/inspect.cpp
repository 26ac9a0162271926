#include "projections/postgres/inspect.hpp"

#include <map>

#include "events/clock.hpp"
#include "projections/postgres/migrate.hpp"
#include "projections/postgres/pool.hpp"

namespace onboarding::projections {
namespace {

constexpr const char* schemas_of_ours =
    "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1";

bool has_table(pqxx::transaction_base& transaction, const std::string& name) {
  return !transaction.exec_params1("SELECT to_regclass($1)", name)[0].is_null();
}

void read_migrations(pqxx::transaction_base& transaction, DatabaseReport& report) {
  std::map<std::string, std::string> applied;
  if (has_table(transaction, "schema_migrations"))
    for (const auto& row : transaction.exec("SELECT name, checksum FROM schema_migrations"))
      applied.emplace(row[0].as<std::string>(), row[1].as<std::string>());
  for (const Migration& migration : embedded_migrations()) {
    const auto found = applied.find(migration.name);
    if (found == applied.end()) {
      ++report.migrations_missing;
      continue;
    }
    const auto checksum =
        transaction.exec_params1("SELECT encode(sha256(convert_to($1, 'UTF8')), 'hex')", migration.sql)[0].as<std::string>();
    if (checksum != found->second) report.migrations_wrong = migration.name + " was edited after it was applied";
    applied.erase(found);
  }
  if (!applied.empty()) report.migrations_wrong = applied.rbegin()->first + " is newer than this program";
}

}  // namespace

result<DatabaseReport> inspect_database(const std::string& url) {
  const auto address = connection_string(url);
  if (!address) return tl::unexpected(address.error());
  return guarded([&] {
    Connection connection(*address);
    pqxx::read_transaction transaction(connection.db);
    DatabaseReport report;
    const auto before = system_clock().now();
    const auto facts = transaction.exec1(
        "SELECT current_setting('server_version'), current_setting('server_version_num')::int / 10000, NOT pg_is_in_recovery(), "
        "(extract(epoch FROM clock_timestamp()) * 1000)::bigint, pg_database_size(current_database()), "
        "NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_' AND "
        "n.nspname <> 'information_schema')");
    report.version = facts[0].as<std::string>();
    report.major = facts[1].as<int>();
    report.takes_writes = facts[2].as<bool>();
    const auto between = before + (system_clock().now() - before) / 2;
    report.clock_ahead_ms =
        facts[3].as<std::int64_t>() - std::chrono::duration_cast<std::chrono::milliseconds>(between.time_since_epoch()).count();
    report.bytes = facts[4].as<std::uint64_t>();
    report.empty = facts[5].as<bool>();
    read_migrations(transaction, report);
    if (has_table(transaction, "projection_log"))
      for (const auto& row : transaction.exec("SELECT log_id FROM projection_log")) report.log_id = row[0].as<std::string>();
    if (has_table(transaction, "projection_generations")) {
      for (const auto& row : transaction.exec("SELECT projection, partition, sequence FROM projection_checkpoints "
                                              "JOIN projection_generations USING (projection, generation) WHERE state = 'live'"))
        report.checkpoints.push_back({row[0].as<std::string>(), row[1].as<std::uint32_t>(), row[2].as<std::uint64_t>()});
      report.parked_keys = transaction
                               .exec1(
                                   "SELECT count(*) FROM projection_parked_keys JOIN projection_generations "
                                   "USING (projection, generation) WHERE state = 'live'")[0]
                               .as<std::uint64_t>();
      for (const auto& row :
           transaction.exec("SELECT DISTINCT schema_name FROM projection_generations g WHERE state = 'gone' AND "
                            "to_regnamespace(quote_ident(schema_name)) IS NOT NULL AND NOT EXISTS (SELECT FROM "
                            "projection_generations o WHERE o.schema_name = g.schema_name AND o.state <> 'gone') ORDER BY 1"))
        report.left_schemas.push_back(row[0].as<std::string>());
    }
    return report;
  });
}

result<std::string> read_decisions(const std::string& url, const std::string& log_id, std::span<const std::uint64_t> heads) {
  const auto address = connection_string(url);
  if (!address) return tl::unexpected(address.error());
  auto read = guarded([&]() -> result<std::string> {
    Connection connection(*address);
    pqxx::transaction<pqxx::repeatable_read, pqxx::readwrite_policy::read_only> snapshot(connection.db);
    if (!has_table(snapshot, "projection_skipped_events")) return std::string();
    const auto owner = snapshot.exec("SELECT log_id FROM projection_log");
    if (owner.empty()) return std::string();
    if (owner[0][0].as<std::string>() != log_id) return failure(Errc::foreign_log, "its log is " + owner[0][0].as<std::string>());
    std::string ends;
    for (const std::uint64_t head : heads) ends += (ends.empty() ? "{" : ",") + std::to_string(head);
    return snapshot
        .exec_params1(
            "SELECT jsonb_build_object('skipped', (SELECT coalesce(jsonb_agg(to_jsonb(s)), '[]') FROM projection_skipped_events "
            "s JOIN unnest($1::bigint[]) WITH ORDINALITY AS h (head, n) ON s.partition = n - 1 AND s.sequence <= head), "
            "'paused', (SELECT coalesce(jsonb_agg(to_jsonb(c)), '[]') FROM projection_controls c WHERE paused), 'record', "
            "(SELECT coalesce(jsonb_agg(to_jsonb(a) ORDER BY id), '[]') FROM projection_audit a))::text",
            ends + "}")[0]
        .as<std::string>();
  });
  return read ? *read : tl::unexpected(read.error());
}

result<std::vector<std::string>> write_decisions(const std::string& url, const std::string& decisions) {
  const auto address = connection_string(url);
  if (!address) return tl::unexpected(address.error());
  auto written = guarded([&]() -> result<std::vector<std::string>> {
    Connection connection(*address);
    if (auto migrated = migrate(connection.db, embedded_migrations()); !migrated) return tl::unexpected(migrated.error());
    pqxx::work transaction(connection.db);
    transaction.exec_params0(
        "INSERT INTO projection_skipped_events (projection, partition, sequence) SELECT projection, partition, sequence FROM "
        "jsonb_populate_recordset(NULL::projection_skipped_events, $1::jsonb -> 'skipped') ON CONFLICT DO NOTHING",
        decisions);
    transaction.exec_params0(
        "INSERT INTO projection_audit (at, projection, version, action, actor, reason, detail) SELECT at, projection, version, "
        "action, actor, reason, detail FROM jsonb_populate_recordset(NULL::projection_audit, $1::jsonb -> 'record') ORDER BY id",
        decisions);
    std::vector<std::string> paused;
    for (const auto& row : transaction.exec_params(
             "INSERT INTO projection_controls (projection, paused, because) SELECT projection, true, because FROM "
             "jsonb_populate_recordset(NULL::projection_controls, $1::jsonb -> 'paused') ON CONFLICT (projection) DO UPDATE SET "
             "paused = true, because = EXCLUDED.because RETURNING projection",
             decisions))
      paused.push_back(row[0].as<std::string>());
    transaction.commit();
    return paused;
  });
  return written ? *written : tl::unexpected(written.error());
}

result<void> empty_database(const std::string& url) {
  const auto address = connection_string(url);
  if (!address) return tl::unexpected(address.error());
  return guarded([&] {
    Connection connection(*address);
    pqxx::work transaction(connection.db);
    transaction.exec0("SET LOCAL lock_timeout = '10s'");
    for (const auto& row : transaction.exec(schemas_of_ours))
      transaction.exec0("DROP SCHEMA " + transaction.quote_name(row[0].as<std::string>()) + " CASCADE");
    transaction.exec0("CREATE SCHEMA public");
    transaction.commit();
  });
}

}  // namespace onboarding::projections
