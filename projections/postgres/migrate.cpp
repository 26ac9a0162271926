#include "projections/postgres/migrate.hpp"

#include <charconv>
#include <map>

#include "projections/postgres/failures.hpp"

namespace onboarding::projections {

namespace {

// Any number that nobody else uses: "onbmigr".
constexpr const char* lock_statement = "SELECT pg_advisory_lock(31361498927887218)";
constexpr const char* unlock_statement = "SELECT pg_advisory_unlock(31361498927887218)";

std::optional<int> number_of(const std::string& name) {
  int number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + std::min<std::size_t>(4, name.size()), number);
  if (error != std::errc() || end != name.data() + 4 || name.size() < 6 || name[4] != '_') return std::nullopt;
  return number;
}

struct Applied {
  std::string name, checksum;
};

std::string checksum_of(pqxx::transaction_base& transaction, const std::string& sql) {
  return transaction.exec_params1("SELECT encode(sha256(convert_to($1, 'UTF8')), 'hex')", sql)[0].as<std::string>();
}

/// The ones to apply, in order.
result<std::vector<const Migration*>> compare(const std::map<int, Applied>& applied, const std::vector<Migration>& migrations,
                                              pqxx::transaction_base& transaction) {
  std::vector<const Migration*> missing;
  int expected = 1;
  for (const Migration& migration : migrations) {
    if (number_of(migration.name) != expected) {
      return failure(Errc::bad_migration, migration.name + " is not number " + std::to_string(expected));
    }
    const auto known = applied.find(expected++);
    if (known == applied.end()) {
      missing.push_back(&migration);
    } else if (!missing.empty()) {
      return failure(Errc::bad_migration, known->second.name + " was applied without " + missing.front()->name);
    } else if (known->second.name != migration.name || known->second.checksum != checksum_of(transaction, migration.sql)) {
      return failure(Errc::bad_migration, known->second.name + " was edited after it was applied");
    }
  }
  if (!applied.empty() && applied.rbegin()->first >= expected) {
    return failure(Errc::bad_migration,
                   applied.rbegin()->second.name + " was applied and is missing here: the program is too old");
  }
  return missing;
}

}  // namespace

result<std::size_t> migrate(pqxx::connection_base& connection, const std::vector<Migration>& migrations) {
  std::string current;
  auto applied = guarded([&]() -> result<std::size_t> {
    // A lock of the session, not of a transaction: it spans all files, and goes with the connection.
    pqxx::nontransaction session(connection);
    session.exec1(lock_statement);
    session.exec0(
        "CREATE TABLE IF NOT EXISTS schema_migrations (number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, "
        "applied_at timestamptz NOT NULL DEFAULT now())");
    std::map<int, Applied> known;
    for (const auto& row : session.exec("SELECT number, name, checksum FROM schema_migrations")) {
      known.emplace(row[0].as<int>(), Applied{row[1].as<std::string>(), row[2].as<std::string>()});
    }
    auto missing = compare(known, migrations, session);
    session.commit();
    if (!missing) return tl::unexpected(missing.error());
    for (const Migration* migration : *missing) {
      current = migration->name;
      pqxx::work transaction(connection);
      // Whoever asks for a table waits behind a migration that waits for it: it gives up soon, and is tried again.
      transaction.exec0("SET LOCAL lock_timeout = '500ms'");
      transaction.exec(migration->sql);
      transaction.exec_params0("INSERT INTO schema_migrations (number, name, checksum) VALUES ($1, $2, $3)",
                               *number_of(migration->name), migration->name, checksum_of(transaction, migration->sql));
      transaction.commit();
    }
    current.clear();
    return missing->size();
  });
  guarded([&] { pqxx::nontransaction(connection).exec1(unlock_statement); });
  if (!applied) {
    if (current.empty() || !connection.is_open()) return tl::unexpected(applied.error());
    return failure(Errc::bad_migration, current + " failed: " + applied.error().detail);
  }
  return *applied;
}

}  // namespace onboarding::projections
