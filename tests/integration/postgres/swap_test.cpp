// What others attached to the tables of a read model, when those change places with rebuilt ones: it goes along with the name,
// or the swap is refused and says what is in its way.
#include <gtest/gtest.h>

#include <future>

#include "events/fault_point.hpp"
#include "tests/integration/postgres/process.hpp"

namespace onboarding::testing {
namespace {

struct Swap : ::testing::Test {
  Swap() {
    history.live(5, 50);
    EXPECT_TRUE(process.caught_up());
    connection.emplace(database.url());
  }
  void run(const std::string& sql) { pqxx::nontransaction(*connection).exec(sql); }
  bool goes_live(std::uint32_t generation) {
    return process.act("sessions", "rebuild") && process.is_live("sessions", generation);
  }
  /// Why generation 2 does not go live.
  std::string waits_because() {
    EXPECT_TRUE(process.act("sessions", "rebuild"));
    EXPECT_TRUE(eventually([&] { return state_of(database, "sessions", 2) == "building ready"; }));
    return database.value("SELECT detail FROM projection_generations WHERE projection = 'sessions' AND generation = 2");
  }

  Database database;
  History history{61};
  Process process{history, database.url()};
  std::optional<pqxx::connection> connection;
};

TEST_F(Swap, row_level_security_goes_with_the_name_and_comes_back_with_a_rollback) {
  const std::string role = database.name() + "_reader";
  run("CREATE ROLE " + role);
  run("GRANT SELECT ON onboarding_sessions, conversation_messages TO " + role);
  run("ALTER TABLE onboarding_sessions ENABLE ROW LEVEL SECURITY");
  run("CREATE POLICY mine ON onboarding_sessions FOR SELECT TO " + role +
      " USING (plan = 'pro' AND session_id IN (SELECT session_id FROM conversation_messages))");
  run("CREATE POLICY \"none's\" ON onboarding_sessions AS RESTRICTIVE FOR ALL TO PUBLIC USING (status <> 'x') WITH CHECK "
      "(false)");
  const std::string policies =
      "SELECT string_agg(concat_ws(' ', polname, polcmd, polpermissive, polroles::text, pg_get_expr(polqual, polrelid), "
      "pg_get_expr(polwithcheck, polrelid)), ';' ORDER BY polname) FROM pg_policy WHERE polrelid = "
      "'onboarding_sessions'::regclass";
  const std::string before = database.value(policies);
  const auto seen = [&] {
    pqxx::work reader(*connection);
    reader.exec("SET LOCAL ROLE " + role);
    return reader.exec1("SELECT count(*) || ' ' || count(*) FILTER (WHERE plan <> 'pro') FROM onboarding_sessions")[0]
        .as<std::string>();
  };
  const std::string saw = seen();
  ASSERT_EQ(saw.substr(saw.find(' ')), " 0");
  EXPECT_TRUE(goes_live(2));
  EXPECT_EQ(database.value(policies), before);
  EXPECT_EQ(seen(), saw);
  EXPECT_EQ(
      database.value("SELECT relrowsecurity FROM pg_class WHERE oid = 'projection_sessions_1.onboarding_sessions'::regclass"),
      "t");
  run("ALTER TABLE onboarding_sessions FORCE ROW LEVEL SECURITY");
  EXPECT_TRUE(process.act("sessions", "rollback"));
  EXPECT_TRUE(process.is_live("sessions", 1));
  EXPECT_EQ(database.value(policies), before);
  EXPECT_EQ(database.value("SELECT relforcerowsecurity FROM pg_class WHERE oid = 'onboarding_sessions'::regclass"), "t");
  EXPECT_EQ(seen(), saw);
  run("DROP OWNED BY " + role);
  run("DROP ROLE " + role);
}

TEST_F(Swap, comments_and_triggers_go_with_the_name) {
  run("COMMENT ON TABLE onboarding_sessions IS 'of the billing team''s'");
  run("CREATE TABLE heard (session_id text, former boolean)");
  run("CREATE FUNCTION hear() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO heard VALUES (NEW.session_id, "
      "TG_TABLE_SCHEMA <> 'public'); RETURN NEW; END $$");
  EXPECT_TRUE(goes_live(2));
  run("COMMENT ON COLUMN onboarding_sessions.plan IS 'what was bought'");
  run("CREATE TRIGGER hears AFTER INSERT ON onboarding_sessions FOR EACH ROW WHEN (NEW.plan = 'pro') EXECUTE FUNCTION hear()");
  run("CREATE TRIGGER off BEFORE UPDATE ON onboarding_sessions FOR EACH ROW EXECUTE FUNCTION hear()");
  run("ALTER TABLE onboarding_sessions DISABLE TRIGGER off");
  const auto described = [&] {
    return database.value(
        "SELECT obj_description('onboarding_sessions'::regclass, 'pg_class') || '; ' || (SELECT "
        "col_description(attrelid, attnum) FROM pg_attribute WHERE attrelid = 'onboarding_sessions'::regclass AND attname = "
        "'plan')");
  };
  EXPECT_EQ(described(), "of the billing team's; what was bought");
  EXPECT_TRUE(goes_live(3));
  EXPECT_EQ(described(), "of the billing team's; what was bought");
  run("COMMENT ON COLUMN onboarding_sessions.plan IS NULL");
  EXPECT_TRUE(process.act("sessions", "rollback"));
  EXPECT_TRUE(process.is_live("sessions", 2));
  EXPECT_EQ(database.value("SELECT coalesce(col_description(attrelid, attnum), 'none') FROM pg_attribute WHERE attrelid = "
                           "'onboarding_sessions'::regclass AND attname = 'plan'"),
            "none");
  EXPECT_EQ(
      database.value("SELECT string_agg(tgname::text || tgenabled::text, ',' ORDER BY tgname) FROM pg_trigger WHERE tgrelid = "
                     "'onboarding_sessions'::regclass AND NOT tgisinternal"),
      "hearsO,offD");
  history.start({"new", true}, "pro");
  ASSERT_TRUE(process.caught_up());
  EXPECT_EQ(database.value("SELECT string_agg(former::text, ',') FROM heard"), "false") << "the former table hears nothing";
}

TEST_F(Swap, what_cannot_be_taken_along_is_named_with_what_to_do) {
  run("CREATE FUNCTION how_many() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM onboarding_sessions; END");
  run("CREATE FUNCTION newest() RETURNS SETOF onboarding_sessions LANGUAGE sql AS 'SELECT * FROM onboarding_sessions LIMIT 1'");
  run("CREATE TABLE kept (was onboarding_sessions)");
  run("CREATE TABLE marked (session_id text)");
  run("ALTER TABLE marked ENABLE ROW LEVEL SECURITY");
  run("CREATE POLICY known ON marked USING (session_id IN (SELECT session_id FROM onboarding_sessions))");
  run("CREATE PUBLICATION told FOR TABLE session_analytics");
  run("CREATE RULE quiet AS ON DELETE TO turn_outcomes DO ALSO NOTIFY gone");
  EXPECT_EQ(waits_because(),
            "these would stay with the former tables; drop them (of a publication: the tables), and make them anew afterwards: "
            "column was of public.kept, function public.how_many(), function public.newest(), policy known of public.marked, "
            "publication told, rule quiet of public.turn_outcomes");
  EXPECT_EQ(process.status("sessions").generation, 1U);
  run("DROP FUNCTION how_many, newest; DROP TABLE kept, marked; ALTER PUBLICATION told DROP TABLE session_analytics; DROP RULE "
      "quiet ON turn_outcomes");
  run("CREATE INDEX by_locale ON onboarding_sessions (locale)");
  ASSERT_TRUE(process.act("sessions", "rebuild"));
  EXPECT_TRUE(eventually([&] {
    return database.value("SELECT detail FROM projection_generations WHERE projection = 'sessions' AND generation = 2") ==
           "make these in schema projection_sessions_2, too, or drop them: index by_locale";
  }));
  run("CREATE INDEX by_locale ON projection_sessions_2.onboarding_sessions (locale)");
  EXPECT_TRUE(goes_live(2));
  expect_equal(tables_of(database), expected_tables(history));
}

TEST_F(Swap, waiting_for_a_lock_it_says_whose_and_holds_up_no_other) {
  pqxx::connection report(database.url() + "&application_name=report");
  std::optional<pqxx::work> reads(std::in_place, report);
  const auto pid = reads->exec1("SELECT pg_backend_pid() FROM onboarding_sessions LIMIT 1")[0].as<std::string>();
  ASSERT_TRUE(process.act("sessions", "rebuild"));
  EXPECT_TRUE(eventually([&] {
    const auto others = process.status("sessions").others;
    return !others.empty() && others[0].detail.starts_with(
                                  "waits to go live: onboarding_sessions is held by report of postgres (pid " + pid + ", since ");
  }));
  ASSERT_TRUE(process.act("conversation", "rebuild"));
  EXPECT_TRUE(process.is_live("conversation", 2));
  EXPECT_EQ(process.status("sessions").generation, 1U);
  reads.reset();
  EXPECT_TRUE(process.is_live("sessions", 2));
  EXPECT_EQ(database.value("SELECT detail FROM projection_generations WHERE projection = 'sessions' AND generation = 2"), "");
}

TEST_F(Swap, a_partition_that_is_made_in_the_moment_of_a_swap_stays_with_its_table) {
  ASSERT_TRUE(process.act("usage", "rebuild"));
  ASSERT_TRUE(process.is_live("usage", 2));
  pqxx::connection looking(database.url());
  const auto waits_for_the_table = [&] {
    pqxx::nontransaction session(looking);
    return session
               .exec1(
                   "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock' AND relation = "
                   "to_regclass('token_usage')")[0]
               .as<int>() > 0;
  };
  for (int day = 1; day <= 5; ++day) {  // who loses patience sees it before it takes the table: it may need a few
    const std::string child = "token_usage_2000010" + std::to_string(day);
    std::future<decltype(process.act("usage", "rollback"))> swaps;
    {
      pqxx::work making(*connection);
      making.exec("CREATE TABLE " + child + " (LIKE token_usage INCLUDING ALL)");  // from here on nobody has the table for itself
      swaps = std::async(std::launch::async, [&] { return process.act("usage", "rollback"); });
      EXPECT_TRUE(eventually(waits_for_the_table));
      making.exec("ALTER TABLE token_usage ATTACH PARTITION " + child + " FOR VALUES FROM ('2000-01-0" + std::to_string(day) +
                  "') TO ('2000-01-0" + std::to_string(day + 1) + "')");
      making.commit();
    }
    const auto swapped = swaps.get();
    ASSERT_TRUE(swapped) << swapped.error().message();
    EXPECT_EQ(database.value("SELECT coalesce(string_agg(c.oid::regclass::text, ' '), '') FROM pg_inherits i JOIN pg_class c ON "
                             "c.oid = inhrelid JOIN pg_class p ON p.oid = inhparent WHERE c.relnamespace <> p.relnamespace"),
              "");
  }
  ASSERT_TRUE(process.caught_up());
  expect_equal(tables_of(database), expected_tables(history));
}

TEST_F(Swap, a_table_that_somebody_locks_is_named_by_the_projections_that_wait_for_it) {
  pqxx::connection repair(database.url() + "&application_name=repair");
  std::optional<pqxx::work> locks(std::in_place, repair);
  locks->exec("LOCK TABLE onboarding_sessions IN SHARE MODE");
  history.live(1, 5);
  EXPECT_TRUE(eventually([&] {
    const auto status = process.status("sessions");
    return status.state == "stalled" &&
           status.stalled_because.starts_with("waits for onboarding_sessions, held by repair of postgres (pid ");
  }));
  locks.reset();
  ASSERT_TRUE(process.caught_up());
  expect_equal(tables_of(database), expected_tables(history));
}

TEST_F(Swap, a_second_wish_while_tables_are_filled_says_whose_they_are_and_needs_the_revision) {
  FaultPoint::arm("projection.in_swap=error");  // it is not done for as long as the test wants
  ASSERT_TRUE(process.act("sessions", "rebuild"));
  const auto second = process.act("sessions", "rebuild", "compare_only");
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, projections::Errc::changed);
  EXPECT_TRUE(second.error().detail.starts_with("generation 2 is being rebuilt (swap if_equal) for the test (rebuild at 2"))
      << second.error().detail;
  EXPECT_TRUE(process.act("sessions", "rebuild")) << "the same wish is nobody's harm";
  EXPECT_EQ(state_of(database, "sessions", 2), "building filling");
  projections::Action knowing;
  knowing.projection = "sessions";
  knowing.verb = "rebuild";
  knowing.swap = "compare_only";
  knowing.revision = std::stoull(database.value("SELECT revision FROM projection_controls WHERE projection = 'sessions'"));
  EXPECT_TRUE(process.act(knowing));
  FaultPoint::arm("");
  EXPECT_TRUE(eventually([&] { return state_of(database, "sessions", 2) == "gone filling"; }));
}

TEST_F(Swap, a_rebuild_while_somebody_compares_only_is_refused_until_it_knows_of_that_and_then_goes_live) {
  pqxx::work holds(*connection);  // nothing is compared for as long as the test wants
  holds.exec("LOCK TABLE projection_archived");
  ASSERT_TRUE(process.act("sessions", "rebuild", "compare_only"));
  const auto second = process.act("sessions", "rebuild");
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, projections::Errc::changed);
  EXPECT_TRUE(second.error().detail.starts_with("generation 2 is being rebuilt (swap compare_only) for the test"))
      << second.error().detail;
  projections::Action knowing;
  knowing.projection = "sessions";
  knowing.verb = "rebuild";
  knowing.revision = std::stoull(database.value("SELECT revision FROM projection_controls WHERE projection = 'sessions'"));
  const auto third = process.act(knowing);
  ASSERT_TRUE(third) << third.error().message();
  EXPECT_EQ(third->generation, 2U);
  holds.abort();
  EXPECT_TRUE(process.is_live("sessions", 2));
}

}  // namespace
}  // namespace onboarding::testing
