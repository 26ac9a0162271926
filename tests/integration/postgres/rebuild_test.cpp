// Generations: rebuilt beside the live tables, compared, changed places, rolled back; parked events retried and skipped; paused,
// reset; several processes at once. Against the same independent fold as the read models.
#include <gtest/gtest.h>

#include <future>

#include "events/fault_point.hpp"
#include "projections/postgres/archive.hpp"
#include "projections/postgres/replay.hpp"
#include "tests/integration/postgres/process.hpp"

namespace onboarding::testing {
namespace {

using projections::Errc;

const std::vector<std::string> all_projections = {"profile", "sessions", "conversation", "usage", "flows"};

TEST(Rebuild, every_projection_is_rebuilt_beside_the_live_tables_and_rolled_back_while_events_come) {
  Database database;
  History history(21);
  history.live(20, 300);
  Process process(history, database.url());
  ASSERT_TRUE(process.caught_up());
  const std::string indexes =
      "SELECT string_agg(tablename || '.' || indexname || indexdef, ',' ORDER BY indexname) FROM pg_indexes WHERE schemaname = "
      "'public'";
  const std::string settings =
      "SELECT string_agg(relname || coalesce(reloptions::text, '') || relkind::text, ',' ORDER BY relname) FROM pg_class WHERE "
      "relnamespace "
      "= 'public'::regnamespace AND relkind IN ('r', 'p')";
  const std::string indexes_before = database.value(indexes), settings_before = database.value(settings);
  for (const auto& projection : all_projections) ASSERT_TRUE(process.act(projection, "rebuild")) << projection;
  history.live(10, 200);
  for (const auto& projection : all_projections) ASSERT_TRUE(process.is_live(projection, 2)) << projection;
  ASSERT_TRUE(process.caught_up());
  expect_equal(tables_of(database), expected_tables(history));
  EXPECT_EQ(database.value(indexes), indexes_before);
  EXPECT_EQ(database.value(settings), settings_before);
  EXPECT_EQ(database.value("SELECT sum(started) FROM completion_by_day"),
            database.value("SELECT count(*) FROM onboarding_sessions"));

  // The old one follows, views read the new one.
  history.live(5, 100);
  ASSERT_TRUE(process.caught_up());
  EXPECT_EQ(differing_rows(database, "onboarding_sessions", "projection_sessions_1.onboarding_sessions"), "0");
  EXPECT_EQ(differing_rows(database, "conversation_messages", "projection_conversation_1.conversation_messages"), "0");
  EXPECT_EQ(differing_rows(database, "token_usage", "projection_usage_1.token_usage"), "0");
  EXPECT_EQ(database.value("SELECT sum(started) FROM completion_by_day"),
            database.value("SELECT count(*) FROM onboarding_sessions"));
  for (const auto& projection : all_projections) ASSERT_TRUE(process.act(projection, "rollback")) << projection;
  for (const auto& projection : all_projections) ASSERT_TRUE(process.is_live(projection, 1)) << projection;
  history.live(3, 50);
  ASSERT_TRUE(process.caught_up());
  expect_equal(tables_of(database), expected_tables(history));
  EXPECT_EQ(database.value("SELECT sum(started) FROM completion_by_day"),
            database.value("SELECT count(*) FROM onboarding_sessions"));
  EXPECT_EQ(database.value("SELECT count(*) FROM projection_audit WHERE action = 'rollback' AND actor = 'the test'"), "5");
}

TEST(Rebuild, an_empty_log_and_a_projection_without_events_are_rebuilt_like_any_other) {
  Database database;
  History history(22);
  Process process(history, database.url());
  ASSERT_TRUE(process.caught_up());
  for (const auto& projection : all_projections) ASSERT_TRUE(process.act(projection, "rebuild")) << projection;
  for (const auto& projection : all_projections) ASSERT_TRUE(process.is_live(projection, 2)) << projection;
  history.live(3, 20);
  ASSERT_TRUE(process.caught_up());
  expect_equal(tables_of(database), expected_tables(history));
}

TEST(Rebuild, readers_see_neither_a_gap_nor_an_error_while_tables_change_places) {
  Database database;
  History history(23);
  history.live(20, 100);
  Process process(history, database.url());
  ASSERT_TRUE(process.caught_up());
  const std::string sessions = database.value("SELECT count(*) FROM onboarding_sessions");
  std::atomic<bool> done{false};
  std::atomic<int> reads{0};
  std::string wrong;
  std::thread reader([&] {
    pqxx::connection connection(database.url());
    connection.prepare("table", "SELECT count(*) FROM onboarding_sessions");
    connection.prepare("view", "SELECT sum(started) FROM completion_by_day");
    while (!done && wrong.empty()) {
      for (const char* name : {"table", "view"}) {
        try {
          pqxx::nontransaction session(connection);
          const auto seen = session.exec_prepared1(name)[0].as<std::string>("none");
          if (seen != sessions) wrong = std::string(name) + " saw " + seen;
          ++reads;
        } catch (const std::exception& error) { wrong = error.what(); }
      }
    }
  });
  ASSERT_TRUE(process.act("sessions", "rebuild"));
  EXPECT_TRUE(process.is_live("sessions", 2));
  for (const std::uint32_t generation : {1U, 2U, 1U}) {
    EXPECT_TRUE(process.act("sessions", "rollback"));
    EXPECT_TRUE(process.is_live("sessions", generation));
  }
  done = true;
  reader.join();
  EXPECT_EQ(wrong, "");
  EXPECT_GT(reads, 10);
}

TEST(Rebuild, a_difference_is_told_and_waits_for_an_operator_who_may_take_the_rebuilt_one) {
  Database database;
  History history(24);
  history.live(10, 100);
  Process process(history, database.url());
  ASSERT_TRUE(process.caught_up());
  const std::string session = database.value("SELECT min(session_id) FROM onboarding_sessions");
  database.value("UPDATE onboarding_sessions SET total_messages_count = 777 WHERE session_id = '" + session + "' RETURNING 1");
  database.value("DELETE FROM session_analytics WHERE session_id = '" + session + "' RETURNING 1");
  ASSERT_TRUE(process.act("sessions", "rebuild"));
  ASSERT_TRUE(eventually([&] { return state_of(database, "sessions", 2) == "building ready"; }));
  const std::string report =
      database.value("SELECT report FROM projection_generations WHERE projection = 'sessions' AND generation = 2");
  EXPECT_NE(report.find("session_id " + session + ": total_messages_count 777 → "), std::string::npos) << report;
  EXPECT_NE(report.find("session_id " + session + ": only in the rebuilt table"), std::string::npos) << report;
  EXPECT_EQ(process.status("sessions").generation, 1U);
  ASSERT_TRUE(process.act("sessions", "rebuild", "always"));
  ASSERT_TRUE(process.is_live("sessions", 2));
  expect_equal(tables_of(database), expected_tables(history));
}

TEST(Rebuild, a_view_that_cannot_be_replaced_is_named_and_the_build_waits_until_it_is_gone) {
  Database database;
  History history(35);
  history.live(5, 50);
  Process process(history, database.url());
  ASSERT_TRUE(process.caught_up());
  pqxx::connection connection(database.url());
  pqxx::nontransaction(connection).exec("CREATE VIEW whole_rows AS SELECT s FROM onboarding_sessions s");
  ASSERT_TRUE(process.act("sessions", "rebuild"));
  ASSERT_TRUE(eventually([&] { return state_of(database, "sessions", 2) == "building ready"; }));
  ASSERT_TRUE(eventually([&] {
    const auto others = process.status("sessions").others;
    return others.size() == 1 && others[0].detail == "view public.whole_rows cannot be replaced: SQLSTATE 42P16";
  }));
  pqxx::nontransaction(connection).exec("DROP VIEW whole_rows");
  ASSERT_TRUE(process.act("sessions", "rebuild"));
  ASSERT_TRUE(process.is_live("sessions", 2));
  EXPECT_EQ(database.value("SELECT detail FROM projection_generations WHERE projection = 'sessions' AND generation = 2"), "");
  EXPECT_NE(database.value("SELECT count(*) FROM pg_stats WHERE schemaname = 'public' AND tablename = 'onboarding_sessions'"),
            "0");
}

TEST(Rebuild, what_others_bound_to_the_tables_is_named_before_a_swap_and_never_dropped) {
  Database database;
  History history(36);
  history.live(5, 50);
  Process process(history, database.url());
  ASSERT_TRUE(process.caught_up());
  pqxx::connection connection(database.url());
  const auto run = [&](const char* sql) { pqxx::nontransaction(connection).exec(sql); };
  run("CREATE MATERIALIZED VIEW daily AS SELECT count(*) FROM onboarding_sessions");
  ASSERT_TRUE(process.act("sessions", "rebuild"));
  ASSERT_TRUE(eventually([&] {
    const auto others = process.status("sessions").others;
    return others.size() == 1 && others[0].detail.find("materialized view public.daily") != std::string::npos;
  }));
  run("DROP MATERIALIZED VIEW daily");
  run("GRANT SELECT (session_id) ON onboarding_sessions TO pg_monitor");  // after the build was begun
  run("GRANT SELECT ON session_analytics TO pg_monitor WITH GRANT OPTION");
  ASSERT_TRUE(process.act("sessions", "rebuild"));
  ASSERT_TRUE(process.is_live("sessions", 2));
  EXPECT_EQ(database.value("SELECT has_column_privilege('pg_monitor', 'onboarding_sessions', 'session_id', 'SELECT') AND NOT "
                           "has_column_privilege('pg_monitor', 'onboarding_sessions', 'status', 'SELECT') AND "
                           "has_table_privilege('pg_monitor', 'session_analytics', 'SELECT WITH GRANT OPTION')"),
            "t");

  run("CREATE VIEW before AS SELECT count(*) FROM projection_sessions_1.onboarding_sessions");
  const auto discarded = process.act("sessions", "discard");
  ASSERT_TRUE(discarded) << discarded.error().message();
  EXPECT_EQ(database.value("SELECT count FROM before"), "0") << "emptied: no erasure reaches it any more";
  EXPECT_EQ(database.value("SELECT detail FROM projection_generations WHERE projection = 'sessions' AND generation = 1"),
            "discard by the test; its schema projection_sessions_1 stays, its tables are empty: what is not ours is in it or "
            "depends on it");
}

TEST(Rebuild, what_was_archived_does_not_come_back) {
  Database database;
  History history(46);
  const auto today = history.now;
  history.now = today - std::chrono::hours(24 * 100);
  history.live(5, 50);
  const auto before = history.now + std::chrono::hours(1);
  history.now = today;
  history.live(5, 50);
  Process process(history, database.url());
  ASSERT_TRUE(process.caught_up());
  ASSERT_TRUE(process.act("conversation", "rebuild"));
  ASSERT_TRUE(process.is_live("conversation", 2));
  const auto count = [&] { return std::stoi(database.value("SELECT count(*) FROM conversation_messages")); };
  const int all = count();
  std::uint64_t kept = 0;
  const auto archived = projections::archive_old_rows(
      database.url(), {"conversation_messages", before, false, "the test"}, [&](std::string_view lines) -> result<void> {
        kept += static_cast<std::uint64_t>(std::count(lines.begin(), lines.end(), '\n'));
        return {};
      });
  ASSERT_TRUE(archived) << archived.error().message();
  EXPECT_EQ(*archived, kept);
  EXPECT_EQ(differing_rows(database, "conversation_messages", "projection_conversation_1.conversation_messages"), "0");
  const int left = all - static_cast<int>(kept);
  ASSERT_GT(kept, 0U);
  ASSERT_GT(left, 0);
  EXPECT_EQ(count(), left);
  ASSERT_TRUE(process.act("conversation", "rollback"));
  ASSERT_TRUE(process.is_live("conversation", 1));
  EXPECT_EQ(count(), left);
  ASSERT_TRUE(process.act("conversation", "rebuild"));  // goes live when it is equal
  ASSERT_TRUE(process.is_live("conversation", 3));
  EXPECT_EQ(count(), left);
}

TEST(Rebuild, what_is_only_compared_or_cancelled_leaves_nothing_behind) {
  Database database;
  History history(25);
  history.live(10, 100);
  Process process(history, database.url());
  ASSERT_TRUE(process.caught_up());
  ASSERT_TRUE(process.act("sessions", "rebuild", "compare_only"));
  ASSERT_TRUE(eventually([&] { return state_of(database, "sessions", 2) == "gone filling"; }));
  EXPECT_EQ(database.value("SELECT detail FROM projection_generations WHERE projection = 'sessions' AND generation = 2"),
            "compared: equal");
  ASSERT_TRUE(process.act("sessions", "rebuild", "never"));
  ASSERT_TRUE(eventually([&] { return state_of(database, "sessions", 3) == "building ready"; }));
  ASSERT_TRUE(process.act("sessions", "cancel"));
  EXPECT_EQ(process.act("sessions", "cancel").error().code, Errc::not_possible);
  EXPECT_EQ(database.value("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'projection_%'"), "0");
  EXPECT_EQ(database.value("SELECT count(*) FROM projection_checkpoints WHERE generation > 1"), "0");
  history.live(3, 30);
  ASSERT_TRUE(process.caught_up());
  expect_equal(tables_of(database), expected_tables(history));
}

TEST(Rebuild, failures_at_every_step_are_got_over) {
  Database database;
  History history(26);
  history.live(15, 150);
  Process process(history, database.url());
  ASSERT_TRUE(process.caught_up());
  FaultPoint::arm(
      "projection.before_change=error@2,projection.after_change=error@2,projection.in_swap=error@1,projection.before_commit="
      "error@3,"
      "projection.after_commit=error@5");
  const auto rebuild = [&](const std::string& projection) {
    return eventually([&] {  // an operator asks again when it failed, and is told when it had not
      const auto status = process.status(projection);
      return status.generation == 2 || !status.others.empty() || (process.act(projection, "rebuild"), false);
    });
  };
  EXPECT_TRUE(rebuild("sessions"));
  EXPECT_TRUE(rebuild("conversation"));
  history.live(5, 50);
  EXPECT_TRUE(process.is_live("sessions", 2));
  EXPECT_TRUE(process.is_live("conversation", 2));
  FaultPoint::arm("");
  ASSERT_TRUE(process.caught_up());
  expect_equal(tables_of(database), expected_tables(history));
}

TEST(Rebuild, a_newer_version_is_built_by_itself_while_the_old_tables_serve) {
  Database database;
  History history(27);
  history.live(10, 100);
  {
    Process old(history, database.url());
    ASSERT_TRUE(old.caught_up());
  }
  const std::string sessions = database.value("SELECT count(*) FROM onboarding_sessions");
  history.live(5, 50);
  Process newer(history, database.url(), 1);
  ASSERT_TRUE(newer.is_live("sessions", 2));
  EXPECT_GE(std::stoi(database.value("SELECT count(*) FROM onboarding_sessions")), std::stoi(sessions))
      << "as far as the old ones";
  ASSERT_TRUE(newer.caught_up());
  expect_equal(tables_of(database), expected_tables(history));
  EXPECT_EQ(database.value("SELECT count(*) FROM projection_sessions_1.onboarding_sessions"), sessions);
  // The old tables are not this program's to follow.
  EXPECT_EQ(newer.act("sessions", "rollback").error().code, Errc::not_possible);
}

TEST(Rebuild, two_processes_share_the_partitions_and_the_rebuild_and_one_takes_over_from_the_other) {
  Database database;
  History history(28);
  history.live(20, 200);
  Process one(history, database.url());
  ASSERT_TRUE(one.caught_up());
  {
    Process other(history, database.url());
    EXPECT_TRUE(eventually([&] {
      return database.value(
                 "SELECT coalesce(string_agg(n::text, ' '), '') FROM (SELECT count(*) n FROM projection_leases GROUP BY worker) "
                 "w") == "2 2";
    }));
    EXPECT_TRUE(one.act("sessions", "rebuild"));
    EXPECT_TRUE(other.act("conversation", "rebuild"));
    history.live(10, 200);
    EXPECT_TRUE(one.is_live("sessions", 2));
    EXPECT_TRUE(one.is_live("conversation", 2));
    EXPECT_TRUE(other.caught_up());
    EXPECT_TRUE(one.caught_up());
    expect_equal(tables_of(database), expected_tables(history));
  }
  history.live(5, 50);
  EXPECT_TRUE(one.caught_up());
  EXPECT_EQ(database.value("SELECT string_agg(n::text, ' ') FROM (SELECT count(*) n FROM projection_leases GROUP BY worker) w"),
            "4");
  expect_equal(tables_of(database), expected_tables(history));
}

TEST(Rebuild, a_process_that_only_answers_knows_how_far_the_others_are) {
  Database database;
  History history(29);
  Process worker(history, database.url());
  Process answers(history, database.url(), 0, false);
  ASSERT_TRUE(answers.caught_up());
  auto session = history.start({"a", true});
  std::promise<bool> reached;
  (*answers.made)->queries().wait_for({history.last, 30'000, "sessions"}, [&](bool yes, projections::Lag) {
    reached.set_value(yes);
  });
  EXPECT_TRUE(reached.get_future().get());
  EXPECT_EQ(database.value("SELECT count(*) FROM onboarding_sessions"), "1");
  EXPECT_TRUE(answers.act("sessions", "pause"));
  history.turn(session, "hello");
  EXPECT_TRUE(
      eventually([&] { return answers.status("sessions").state == "paused" && answers.status("sessions").lag_events > 0; }));
  EXPECT_TRUE(answers.act("sessions", "resume"));
  EXPECT_TRUE(answers.caught_up());
}

/// The system's time, and as much later as a test wants.
class Later final : public Clock {
 public:
  domain::Timestamp now() const override { return system_clock().now() + ahead.load(); }
  std::atomic<std::chrono::seconds> ahead{std::chrono::seconds(0)};
};

TEST(Rebuild, what_keeps_one_process_from_getting_on_every_other_one_tells) {
  Database database;
  History history(40);
  history.live(3, 30);
  Later clock;
  Process answers(history, database.url(), 0, false, clock);
  {
    Process worker(history, database.url());
    ASSERT_TRUE(answers.caught_up());
    FaultPoint::arm("projection.before_commit=error");
    auto session = history.start({"a", true});
    const auto because = [&] {
      clock.ahead = clock.ahead.load() + std::chrono::seconds(11);
      return answers.status("sessions").stalled_because;
    };
    EXPECT_TRUE(
        eventually([&] { return because().find(": the read models cannot be reached: fault point") != std::string::npos; }));
    FaultPoint::arm("");
    EXPECT_TRUE(answers.caught_up());
    history.turn(session, "hello");
  }
  history.live(1, 10);
  EXPECT_TRUE(eventually([&] {
    clock.ahead = clock.ahead.load() + std::chrono::seconds(11);
    return answers.status("sessions").stalled_because == "no process follows the log";
  }));
}

TEST(Rebuild, a_process_that_hangs_with_rows_in_its_hands_is_taken_over_from) {
  Database database;
  History history(41);
  history.live(5, 50);
  { ASSERT_TRUE(Process(history, database.url()).caught_up()); }  // the tables are there
  pqxx::connection alive(database.url()), writes(database.url());
  pqxx::nontransaction(alive).exec("SELECT pg_advisory_lock(1869505122, 77)");
  pqxx::nontransaction(writes).exec("SELECT pg_advisory_lock_shared(1869505123, 77)");
  pqxx::work batch(writes);
  batch.exec("SET LOCAL idle_in_transaction_session_timeout = 0");
  batch.exec("SELECT FROM projection_checkpoints FOR UPDATE");
  pqxx::connection past(database.url());
  pqxx::nontransaction(past).exec(
      "INSERT INTO projection_workers (worker, name, until) VALUES (77, 'hangs', now() - interval '1 s')");
  pqxx::nontransaction(past).exec("INSERT INTO projection_leases SELECT p, 77 FROM generate_series(0, 3) AS p");
  history.live(5, 50);
  Process process(history, database.url());
  EXPECT_TRUE(process.caught_up());
  expect_equal(tables_of(database), expected_tables(history));
  EXPECT_THROW(batch.exec("SELECT 1"), pqxx::broken_connection);
}

TEST(Rebuild, a_replay_has_the_views_of_its_tables_and_who_may_read_those_may_read_these) {
  Database database;
  History history(48);
  history.live(5, 50);
  Process process(history, database.url());
  ASSERT_TRUE(process.caught_up());
  database.value(
      "CREATE VIEW whole AS SELECT s.session_id, f.field FROM completion_by_day c, onboarding_sessions s, flow_fields f "
      "WHERE c.day IS NOT NULL; GRANT SELECT ON completion_by_day TO pg_monitor; SELECT 1");
  projections::ReplayOptions then;
  then.projection = "sessions";
  then.schema = "then";
  ASSERT_TRUE(projections::replay(options_for(database.url()), history.log, history.keys, then));
  EXPECT_EQ(
      database.value("SELECT string_agg(viewname, ' ' ORDER BY viewname) FROM pg_views WHERE schemaname = 'then'"),
      "abandonment_by_field completion_by_day message_buckets quality_by_day session_facts session_fields time_to_complete");
  const auto started = [&](const char* schema) {
    return database.value("SELECT sum(started) FROM \"" + std::string(schema) + "\".completion_by_day");
  };
  const std::string before = started("public");
  EXPECT_EQ(started("then"), before);
  EXPECT_EQ(database.value("SELECT has_table_privilege('pg_monitor', 'then.completion_by_day', 'SELECT') AND NOT "
                           "has_table_privilege('pg_monitor', 'then.message_buckets', 'SELECT')"),
            "t");
  history.live(2, 10);
  ASSERT_TRUE(process.caught_up());
  EXPECT_NE(started("public"), before);
  EXPECT_EQ(started("then"), before);
}

TEST(Rebuild, a_replay_whose_schema_was_dropped_is_forgotten) {
  Database database;
  History history(42);
  history.live(5, 50);
  Process process(history, database.url());
  ASSERT_TRUE(process.caught_up());
  projections::ReplayOptions then;
  then.projection = "sessions";
  then.schema = "then";
  ASSERT_TRUE(projections::replay(options_for(database.url()), history.log, history.keys, then));
  ASSERT_TRUE(eventually([&] { return process.status("sessions").others.size() == 1; }));
  {
    pqxx::connection connection(database.url());
    pqxx::nontransaction(connection).exec("DROP SCHEMA \"then\" CASCADE");
  }
  EXPECT_TRUE(eventually([&] { return process.status("sessions").others.empty(); }));
  EXPECT_EQ(database.value("SELECT count(*) FROM projection_checkpoints WHERE generation > 1"), "0");
}

TEST(Operators, who_does_not_wait_any_longer_finds_nothing_done_later) {
  Database database;
  History history(43);
  history.live(5, 50);
  Process process(history, database.url());
  ASSERT_TRUE(process.caught_up());
  projections::Action reset;
  reset.projection = "sessions";
  reset.verb = "reset";
  reset.deadline = std::chrono::steady_clock::now();
  EXPECT_EQ(process.act(reset).error().code, Errc::unavailable);
  {
    pqxx::connection connection(database.url());
    pqxx::work reader(connection);
    reader.exec("SELECT count(*) FROM onboarding_sessions");
    reset.deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(500);
    EXPECT_EQ(process.act(reset).error().code, Errc::unavailable);
  }
  EXPECT_EQ(database.value("SELECT count(*) FROM projection_audit"), "0");
  expect_equal(tables_of(database), expected_tables(history));
}

TEST(Operators, a_change_that_meets_another_in_a_circle_gives_way_and_is_done_all_the_same) {
  Database database;
  History history(47);
  Process process(history, database.url());
  ASSERT_TRUE(process.caught_up());
  pqxx::connection connection(database.url()), looking(database.url());
  pqxx::work other(connection);
  other.exec("SET LOCAL deadlock_timeout = '60s'");  // it is not the one that gives way
  other.exec("SELECT FROM projection_checkpoints FOR UPDATE");
  auto paused = std::async(std::launch::async, [&] { return process.act("usage", "pause"); });
  ASSERT_TRUE(eventually([&] {
    pqxx::nontransaction session(looking);
    return session
               .exec1(
                   "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database() "
                   "AND query LIKE '%projection_checkpoints WHERE log_id = $1 AND projection = $2 ORDER BY%'")[0]
               .as<int>() > 0;
  }));
  other.exec("SELECT FROM projection_controls FOR UPDATE");
  other.commit();
  const auto done = paused.get();
  EXPECT_TRUE(done) << done.error().message();
  EXPECT_TRUE(eventually([&] { return process.status("usage").state == "paused"; }));
}

TEST(Operators, who_saw_an_older_state_changes_nothing) {
  Database database;
  History history(30);
  Process process(history, database.url());
  ASSERT_TRUE(process.caught_up());
  projections::Action pause;
  pause.projection = "usage";
  pause.verb = "pause";
  pause.reason = "looking at it";
  pause.revision = process.status("usage").revision;
  ASSERT_TRUE(process.act(pause));
  const auto second = process.act(pause);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Errc::changed);
  EXPECT_EQ(database.value("SELECT string_agg(actor || ' ' || action || ' ' || reason, ',') FROM projection_audit"),
            "the test pause looking at it");
  pause.projection = "nothing";
  EXPECT_EQ(process.act(pause).error().code, Errc::not_found);
}

TEST(Operators, a_paused_projection_stands_still_over_a_restart_while_the_others_go_on) {
  Database database;
  History history(31);
  history.live(5, 50);
  {
    Process process(history, database.url());
    ASSERT_TRUE(process.caught_up());
    ASSERT_TRUE(process.act("usage", "pause"));
  }
  const std::string usage = database.value("SELECT coalesce(sum(calls), 0) FROM token_usage");
  history.live(5, 50);
  Process process(history, database.url());
  ASSERT_TRUE(
      eventually([&] { return process.status("sessions").lag_events == 0 && process.status("usage").state == "paused"; }));
  EXPECT_EQ(database.value("SELECT coalesce(sum(calls), 0) FROM token_usage"), usage);
  EXPECT_GT(process.status("usage").lag_events, 0U);
  EXPECT_EQ(process.act("usage", "rebuild").error().code, Errc::not_possible);
  ASSERT_TRUE(process.act("usage", "resume"));
  ASSERT_TRUE(process.caught_up());
  ASSERT_TRUE(process.act("profile", "reset"));
  ASSERT_TRUE(process.act("conversation", "restart"));
  ASSERT_TRUE(eventually([&] { return tables_of(database) == expected_tables(history); }));
  EXPECT_TRUE(process.caught_up());
}

TEST(Parking, one_key_or_all_are_retried_in_order_and_a_rebuild_parks_and_skips_the_same) {
  Database database;
  History history(32);
  auto a = history.start({"a", true}), b = history.start({"b", true}), c = history.start({"c", true});
  for (auto* session : {&a, &b}) history.turn(*session, "poison");
  for (auto* session : {&a, &b, &c}) history.turn(*session, "later");
  Process process(history, database.url());
  *process.poisoned = true;
  ASSERT_TRUE(process.caught_up());
  ASSERT_TRUE(process.act("sessions", "reset"));
  ASSERT_TRUE(eventually([&] { return process.parked("sessions").size() == 2; }));
  ASSERT_TRUE(process.caught_up());
  EXPECT_EQ(process.status("sessions").parked, 2U);

  // Still poison: it stays parked, and says so.
  projections::Action retry;
  retry.projection = "sessions";
  retry.verb = "retry";
  const auto in_vain = process.act(retry);
  ASSERT_TRUE(in_vain) << in_vain.error().message();
  EXPECT_EQ(in_vain->still_parked, 2U);
  EXPECT_EQ(in_vain->released_keys, 0U);

  // The same policy in a rebuild: both are equal, parked keys and all.
  ASSERT_TRUE(process.act("sessions", "rebuild"));
  ASSERT_TRUE(process.is_live("sessions", 2));
  ASSERT_EQ(process.parked("sessions").size(), 2U);

  // Skipping needs to know what is skipped.
  const auto row = process.parked("sessions")[0];
  projections::Action skip = retry;
  skip.verb = "skip";
  skip.key = row.key;
  skip.position = Position{row.position.partition, row.position.sequence + 1};
  EXPECT_EQ(process.act(skip).error().code, Errc::changed);
  skip.position = row.position;
  const auto skipped = process.act(skip);
  ASSERT_TRUE(skipped) << skipped.error().message();
  EXPECT_EQ(skipped->released_keys, 1U);
  ASSERT_EQ(process.parked("sessions").size(), 1U);
  ASSERT_TRUE(process.act("sessions", "rebuild"));
  ASSERT_TRUE(process.is_live("sessions", 3));

  // Repaired: the other one is applied whole.
  *process.poisoned = false;
  history.turn(a, "still later");
  history.turn(b, "still later");
  ASSERT_TRUE(process.caught_up());
  retry.key = process.parked("sessions")[0].key;
  const auto retried = process.act(retry);
  ASSERT_TRUE(retried) << retried.error().message();
  EXPECT_EQ(retried->released_keys, 1U);
  EXPECT_EQ(process.parked("sessions").size(), 0U);
  EXPECT_EQ(process.act(retry).error().code, Errc::not_found);
  ASSERT_TRUE(process.caught_up());
  const std::string whole = a.meta.user == retry.key ? a.id : b.id, lacking = a.meta.user == retry.key ? b.id : a.id;
  const auto count = [&](const std::string& session) {
    return database.value("SELECT total_messages_count FROM onboarding_sessions WHERE session_id = '" + session + "'");
  };
  EXPECT_EQ(count(whole), "6");
  EXPECT_EQ(count(lacking), "5");  // the skipped message does not count, the reply to it does
  // What was skipped stays skipped in a rebuild.
  ASSERT_TRUE(process.act("sessions", "rebuild"));
  ASSERT_TRUE(process.is_live("sessions", 4));
  EXPECT_EQ(count(lacking), "5");
}

TEST(Parking, all_keys_are_retried_page_by_page_however_often_the_time_for_it_ends) {
  Database database;
  History history(44);
  for (int i = 0; i < 8; ++i) {
    auto session = history.start({"person-" + std::to_string(i), true});
    history.turn(session, "poison");
  }
  Process process(history, database.url());
  *process.poisoned = true;
  ASSERT_TRUE(process.caught_up());
  ASSERT_TRUE(process.act("sessions", "reset"));
  ASSERT_TRUE(eventually([&] { return process.parked("sessions").size() == 8; }));
  ASSERT_TRUE(process.caught_up());
  *process.poisoned = false;
  projections::Action retry;
  retry.projection = "sessions";
  retry.verb = "retry";
  std::uint64_t keys = 0;
  for (bool complete = false; !complete;) {
    retry.deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(100);  // some keys, hardly all
    const auto retried = process.act(retry);
    if (!retried && retried.error().code == Errc::unavailable) continue;  // it was not even begun in time
    ASSERT_TRUE(retried) << retried.error().message();
    keys += retried->released_keys;
    complete = retried->complete;
    retry.after = retried->after;
  }
  EXPECT_EQ(keys, 8U);
  EXPECT_EQ(process.parked("sessions").size(), 0U);
  expect_equal(tables_of(database), expected_tables(history));
}

TEST(Parking, a_retry_and_a_skip_reach_the_tables_that_are_being_built) {
  Database database;
  History history(45);
  auto a = history.start({"a", true}), b = history.start({"b", true}), c = history.start({"c", true});
  for (auto* session : {&a, &b}) history.turn(*session, "poison");
  Process process(history, database.url());
  *process.poisoned = true;
  ASSERT_TRUE(process.caught_up());
  ASSERT_TRUE(process.act("sessions", "reset"));
  ASSERT_TRUE(eventually([&] { return process.parked("sessions").size() == 2; }));
  ASSERT_TRUE(process.act("sessions", "rebuild", "never"));
  ASSERT_TRUE(eventually([&] { return state_of(database, "sessions", 2) == "building ready"; }));
  auto parked = process.parked("sessions");
  ASSERT_EQ(parked.size(), 4U);
  EXPECT_TRUE(parked[0].live && !parked[1].live && parked[0].key == parked[1].key);
  EXPECT_EQ(parked[1].generation, 2U);

  projections::Action skip;
  skip.projection = "sessions";
  skip.verb = "skip";
  skip.key = parked[0].key;
  skip.position = parked[0].position;
  const auto skipped = process.act(skip);
  ASSERT_TRUE(skipped) << skipped.error().message();
  EXPECT_EQ(skipped->released_keys, 1U) << "a person counts once";
  ASSERT_EQ(process.parked("sessions").size(), 2U);
  *process.poisoned = false;
  const auto retried = process.act("sessions", "retry");
  ASSERT_TRUE(retried) << retried.error().message();
  EXPECT_EQ(retried->released_keys, 1U);
  EXPECT_EQ(process.parked("sessions").size(), 0U);

  // What is poison to the new tables alone is repaired there, too.
  ASSERT_TRUE(process.caught_up());
  ASSERT_TRUE(process.act("sessions", "cancel"));
  history.turn(c, "poison");
  ASSERT_TRUE(process.caught_up());
  *process.poisoned = true;
  ASSERT_TRUE(process.act("sessions", "rebuild", "never"));
  ASSERT_TRUE(eventually([&] { return state_of(database, "sessions", 3) == "building ready"; }));
  parked = process.parked("sessions");
  ASSERT_EQ(parked.size(), 2U) << "what was skipped is not among them";
  EXPECT_FALSE(parked[0].live);
  *process.poisoned = false;
  EXPECT_EQ(process.act("sessions", "retry")->released_keys, 2U);
  ASSERT_TRUE(process.act("sessions", "rebuild"));
  EXPECT_TRUE(process.is_live("sessions", 3));
}

TEST(Parking, what_was_skipped_stays_skipped_when_it_is_retried_after_a_rollback) {
  Database database;
  History history(33);
  auto a = history.start({"a", true});
  for (const char* text : {"poison", "poison", "later"}) history.turn(a, text);
  Process process(history, database.url());
  *process.poisoned = true;
  ASSERT_TRUE(process.caught_up());
  ASSERT_TRUE(process.act("sessions", "reset"));
  ASSERT_TRUE(eventually([&] { return process.parked("sessions").size() == 1; }));
  ASSERT_TRUE(process.caught_up());
  ASSERT_TRUE(process.act("sessions", "rebuild"));
  ASSERT_TRUE(process.is_live("sessions", 2));

  projections::Action skip;
  skip.projection = "sessions";
  skip.verb = "skip";
  skip.key = process.parked("sessions")[0].key;
  skip.position = process.parked("sessions")[0].position;
  const auto skipped = process.act(skip);
  ASSERT_TRUE(skipped) << skipped.error().message();
  EXPECT_EQ(skipped->still_parked, 1U);
  const Position second = process.parked("sessions")[0].position;
  EXPECT_GT(second.sequence, skip.position->sequence);
  EXPECT_EQ(database.value("SELECT string_agg((detail->>'skipped') || ' ' || coalesce(detail->>'now_at', ''), ',' ORDER BY id) "
                           "FROM projection_audit WHERE action = 'skip' AND detail ? 'skipped'"),
            to_string(*skip.position) + " " + to_string(second));

  ASSERT_TRUE(process.act("sessions", "rollback"));
  ASSERT_TRUE(process.is_live("sessions", 1));
  ASSERT_EQ(process.parked("sessions")[0].position, *skip.position);
  *process.poisoned = false;
  const auto retried = process.act("sessions", "retry");
  ASSERT_TRUE(retried) << retried.error().message();
  EXPECT_EQ(retried->released_keys, 1U);
  EXPECT_EQ(database.value("SELECT total_messages_count FROM onboarding_sessions WHERE session_id = '" + a.id + "'"), "5");
}

TEST(Parking, a_retry_and_its_record_are_there_together_or_not_at_all) {
  Database database;
  History history(34);
  auto a = history.start({"a", true});
  history.turn(a, "poison");
  Process process(history, database.url());
  *process.poisoned = true;
  ASSERT_TRUE(process.caught_up());
  ASSERT_TRUE(process.act("sessions", "reset"));
  ASSERT_TRUE(eventually([&] { return process.parked("sessions").size() == 1; }));
  ASSERT_TRUE(process.caught_up());
  *process.poisoned = false;
  const auto records = [&] { return database.value("SELECT count(*) FROM projection_audit WHERE action = 'retry'"); };
  FaultPoint::arm("projection.before_commit=error@1");
  EXPECT_FALSE(process.act("sessions", "retry"));
  EXPECT_EQ(process.parked("sessions").size(), 1U);
  EXPECT_EQ(records(), "0");
  const auto revision = process.status("sessions").revision;
  FaultPoint::arm("projection.before_change=error@1,projection.after_commit=error@1");
  EXPECT_FALSE(process.act("sessions", "retry"));
  FaultPoint::arm("");
  EXPECT_EQ(process.parked("sessions").size(), 0U);
  EXPECT_EQ(records(), "1");
  EXPECT_TRUE(eventually([&] { return process.status("sessions").revision == revision + 1; }));
}

}  // namespace
}  // namespace onboarding::testing
