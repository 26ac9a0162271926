// The migrations runner, and that the schema is what api.md and the projections say.
#include "projections/postgres/migrate.hpp"

#include <gtest/gtest.h>

#include <thread>

#include "projections/models/models.hpp"
#include "projections/queries.hpp"
#include "tests/integration/postgres/database.hpp"

namespace onboarding::testing {
namespace {

using projections::embedded_migrations;
using projections::Errc;
using projections::migrate;
using projections::Migration;

const std::vector<Migration> two = {{"0001_create_one", "CREATE TABLE one ()"}, {"0002_create_two", "CREATE TABLE two ()"}};

result<std::size_t> migrated(const Database& database, const std::vector<Migration>& migrations) {
  pqxx::connection connection(database.url());
  return migrate(connection, migrations);
}

TEST(Migrations, are_applied_once) {
  Database database;
  EXPECT_EQ(migrated(database, two), 2U);
  EXPECT_EQ(migrated(database, two), 0U);
  auto three = two;
  three.push_back({"0003_create_three", "CREATE TABLE three ()"});
  EXPECT_EQ(migrated(database, three), 1U);
}

TEST(Migrations, refuse_a_file_that_was_edited_after_it_was_applied) {
  Database database;
  ASSERT_TRUE(migrated(database, two));
  auto edited = two;
  edited[0].sql += " -- a word";
  edited.push_back({"0003_create_three", "CREATE TABLE three ()"});
  const auto refused = migrated(database, edited);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::bad_migration);
  EXPECT_NE(refused.error().detail.find("0001_create_one"), std::string::npos);
  EXPECT_EQ(database.value("SELECT to_regclass('three') IS NULL"), "t");
}

TEST(Migrations, refuse_a_database_with_a_file_that_is_missing_here) {
  Database database;
  ASSERT_TRUE(migrated(database, two));
  const auto refused = migrated(database, {two[0]});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::bad_migration);
  EXPECT_FALSE(migrated(database, {two[1]}));  // the first one is gone
}

TEST(Migrations, refuse_a_gap_in_the_numbers) {
  Database database;
  EXPECT_FALSE(migrated(database, {two[0], {"0003_create_three", "CREATE TABLE three ()"}}));
  EXPECT_EQ(database.value("SELECT to_regclass('one') IS NULL"), "t");
}

TEST(Migrations, a_file_that_fails_leaves_nothing_of_itself_and_those_before_it) {
  Database database;
  const auto failed = migrated(database, {two[0], {"0002_create_two", "CREATE TABLE two (); SELECT nonsense"}});
  ASSERT_FALSE(failed);
  EXPECT_NE(failed.error().detail.find("0002_create_two"), std::string::npos);
  EXPECT_EQ(database.value("SELECT to_regclass('one') IS NULL, to_regclass('two') IS NULL"), "f|t");
  EXPECT_EQ(migrated(database, two), 1U);
}

TEST(Migrations, several_at_once_apply_each_file_once) {
  Database database;
  std::vector<std::thread> threads;
  std::atomic<std::size_t> applied{0};
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] { applied += migrated(database, embedded_migrations()).value(); });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(applied, embedded_migrations().size());
}

TEST(Schema, has_the_columns_that_the_projections_write) {
  Database database;
  ASSERT_TRUE(migrated(database, embedded_migrations()));
  for (const auto& projection : projections::make_all_projections()) {
    for (const auto& table : projection->tables()) {
      std::vector<std::string> expected;
      for (const auto& column : table.columns) expected.push_back(column.name + " " + column.type);
      auto actual = database.rows(
          "SELECT column_name || ' ' || replace(data_type, 'timestamp with time zone', 'timestamptz') "
          "FROM information_schema.columns WHERE table_name = '" +
          table.name + "'");
      std::sort(expected.begin(), expected.end());
      std::sort(actual.begin(), actual.end());
      EXPECT_EQ(actual, expected) << table.name;
    }
  }
}

TEST(Schema, answers_the_statements_of_the_contract_and_has_its_indexes) {
  Database database;
  ASSERT_TRUE(migrated(database, embedded_migrations()));
  database.on_server("SELECT 1");
  pqxx::connection connection(database.url());
  {
    pqxx::work transaction(connection);
    transaction.exec(
        "INSERT INTO onboarding_sessions (session_id, status, created_at, updated_at, completed_at, total_messages_count) VALUES "
        "('a', 'completed', now() - interval '10 minutes', now(), now(), 8), ('b', 'abandoned', now(), now(), NULL, 2)");
    transaction.exec("INSERT INTO session_analytics (session_id, abandonment_at_field) VALUES ('a', NULL), ('b', 'email')");
    transaction.commit();
  }
  EXPECT_EQ(
      database.value(
          "SELECT round((SELECT COUNT(CASE WHEN status = 'completed' THEN 1 END) * 100.0 / COUNT(*) FROM onboarding_sessions "
          "WHERE created_at > NOW() - INTERVAL '30 days'))"),
      "50");
  EXPECT_EQ(database.value("SELECT round((SELECT AVG(EXTRACT(EPOCH FROM (completed_at - created_at))/60) FROM "
                           "onboarding_sessions WHERE status = 'completed'))"),
            "10");
  EXPECT_EQ(database.rows("SELECT abandonment_at_field, COUNT(*) FROM session_analytics WHERE abandonment_at_field IS NOT NULL "
                          "GROUP BY 1 ORDER BY 2 DESC"),
            std::vector<std::string>{"email|1"});
  EXPECT_EQ(database.rows("SELECT CASE WHEN total_messages_count < 8 THEN '<8' WHEN total_messages_count <= 10 THEN '8-10' "
                          "WHEN total_messages_count <= 15 THEN '11-15' ELSE '>15' END, COUNT(*) FROM onboarding_sessions WHERE "
                          "status = 'completed' GROUP BY 1"),
            std::vector<std::string>{"8-10|1"});
  for (const char* index :
       {"idx_sessions_user_id", "idx_sessions_status", "idx_sessions_created_at", "idx_sessions_completed_at",
        "idx_messages_session_id", "idx_messages_timestamp", "idx_profiles_user_id", "idx_analytics_session_id"}) {
    EXPECT_EQ(database.value(std::string("SELECT count(*) FROM pg_indexes WHERE indexname = '") + index + "'"), "1") << index;
  }
}

}  // namespace
}  // namespace onboarding::testing
