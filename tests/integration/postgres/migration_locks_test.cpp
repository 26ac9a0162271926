// No migration makes anybody wait: each is run while somebody has been reading and writing every table for a long time.
#include <gtest/gtest.h>

#include <future>

#include "projections/postgres/migrate.hpp"
#include "tests/integration/postgres/database.hpp"

namespace onboarding::testing {
namespace {

using projections::embedded_migrations;
using projections::migrate;
using projections::Migration;

std::vector<std::string> tables_of(pqxx::transaction_base& transaction) {
  std::vector<std::string> tables;
  for (const auto& row : transaction.exec("SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                                          "WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND c.relname <> "
                                          "'schema_migrations' ORDER BY 1"))
    tables.push_back(row[0].as<std::string>());
  return tables;
}

class MigrationLocks : public ::testing::TestWithParam<std::size_t> {};

TEST_P(MigrationLocks, are_given_up_for_who_reads_and_writes_and_nobody_waits_behind_them) {
  const auto& all = embedded_migrations();
  const std::vector<Migration> before(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(GetParam()));
  const std::vector<Migration> with(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(GetParam()) + 1);
  Database database;
  {
    pqxx::connection connection(database.url());
    ASSERT_EQ(migrate(connection, before), before.size());
  }
  pqxx::connection busy(database.url());
  pqxx::work held(busy);
  const auto tables = tables_of(held);
  for (const auto& table : tables) {
    held.exec("SELECT FROM " + table + " LIMIT 1");
    held.exec("LOCK TABLE " + table + " IN ROW EXCLUSIVE MODE");
  }
  auto migrating = std::async(std::launch::async, [&] {
    pqxx::connection connection(database.url());
    return migrate(connection, with);
  });
  pqxx::connection reading(database.url());
  pqxx::nontransaction reader(reading);
  reader.exec("SET lock_timeout = '5s'");
  do
    for (const auto& table : tables) { EXPECT_NO_THROW(reader.exec("SELECT FROM " + table + " LIMIT 1")) << table; }
  while (migrating.wait_for(std::chrono::milliseconds(10)) != std::future_status::ready);
  const auto first = migrating.get();
  if (!first) { EXPECT_NE(first.error().detail.find("55P03"), std::string::npos) << first.error().detail; }
  held.abort();
  pqxx::connection connection(database.url());
  EXPECT_EQ(migrate(connection, with), first ? 0U : 1U) << with.back().name;
}

INSTANTIATE_TEST_SUITE_P(Each, MigrationLocks, ::testing::Range<std::size_t>(0, embedded_migrations().size()),
                         [](const auto& tested) { return embedded_migrations()[tested.param].name; });

}  // namespace
}  // namespace onboarding::testing
