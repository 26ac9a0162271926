// An erased person's rows are gone from every table that there is: where the person's key is parked, in former, paused and
// replayed tables, in those that were given up.
#include <gtest/gtest.h>

#include "projections/postgres/inspect.hpp"
#include "projections/postgres/replay.hpp"
#include "tests/integration/postgres/process.hpp"

namespace onboarding::testing {
namespace {

using projections::Errc;

const std::set<std::string> with_persons = {"profile", "sessions", "conversation"};

struct Erased : ::testing::Test {
  Erased() {
    a = history.start({"ann", true});
    b = history.start({"ben", true});
    for (auto* session : {&a, &b}) {
      history.turn(*session, "hello", {{"full_name", "Somebody"}});
      history.turn(*session, "poison", {{"email", "somebody@example.org"}});
      history.turn(*session, "later");
    }
    process.emplace(history, database.url(), 0, true, system_clock(), with_persons);
  }
  /// Rows with something of a session's person, by table.
  std::string left(const History::Session& session, const std::map<std::string, std::string>& schemas) {
    const auto count = [&](const std::string& projection, const std::string& table, const std::string& where) {
      return database.value("SELECT count(*) FROM " + schemas.at(projection) + "." + table + " WHERE " + where);
    };
    const std::string user = "user_key = '" + session.meta.user + "'";
    return count("profile", "users", user) + count("profile", "user_profiles", user) +
           count("sessions", "onboarding_sessions", user + " AND (user_id IS NOT NULL OR NOT erased)") + " " +
           count("conversation", "conversation_messages", user);
  }
  std::map<std::string, std::string> of(const std::string& generation) {
    std::map<std::string, std::string> all;
    for (const auto& name : with_persons) all[name] = generation.empty() ? "public" : "projection_" + name + "_" + generation;
    return all;
  }

  Database database;
  History history{62};
  History::Session a, b;
  std::optional<Process> process;
};

TEST_F(Erased, at_once_where_the_persons_key_is_parked_in_live_former_and_filled_tables) {
  ASSERT_TRUE(process->caught_up());
  EXPECT_EQ(left(a, of("")), "111 7");
  *process->poisoned = true;  // for all but what is live
  for (const auto& name : with_persons) {
    ASSERT_TRUE(process->act(name, "rebuild", "always"));
    ASSERT_TRUE(process->is_live(name, 2)) << name;
  }
  EXPECT_EQ(process->parked("conversation").size(), 2U);
  EXPECT_EQ(left(a, of("")), "111 3");
  EXPECT_EQ(left(a, of("1")), "111 7");
  for (const auto& name : with_persons) {
    ASSERT_TRUE(process->act(name, "rebuild", "never"));
    ASSERT_TRUE(eventually([&] { return state_of(database, name, 3) == "building ready"; })) << name;
  }
  EXPECT_EQ(left(a, of("3")), "111 3");
  auto second = history.start({"ann", true});  // waits behind the other one's poison, and is poison itself
  history.append(second, {domain::TurnFailed{"trn_x", "poison"}});
  history.erase({&a, &second});
  ASSERT_TRUE(process->caught_up());
  EXPECT_EQ(database.value("SELECT count(*) FROM onboarding_sessions WHERE session_id = '" + second.id + "'"), "0")
      << "an erasure makes no row";
  for (const char* generation : {"", "1", "3"}) {
    EXPECT_TRUE(eventually([&] { return left(a, of(generation)) == "000 0"; })) << generation << ": " << left(a, of(generation));
    EXPECT_EQ(left(b, of(generation)), *generation == '1' ? "111 7" : "111 3") << "who was not erased";
  }
  EXPECT_EQ(process->parked("conversation").size(), 4U) << "the key stays parked, and says why";

  // A retry that does not get to the end brings nothing back; one that does gives what the log says.
  projections::Action skip;
  skip.projection = "profile";
  skip.verb = "skip";
  for (const auto& row : process->parked("profile")) {
    if (row.key == a.meta.user && row.live) skip.position = row.position;
  }
  skip.key = a.meta.user;
  const auto skipped = process->act(skip);
  ASSERT_TRUE(skipped) << skipped.error().message();
  EXPECT_EQ(skipped->still_parked, 1U);
  EXPECT_EQ(skipped->released_events, 1U) << "what was said before the second poison is not applied without the erasure";
  EXPECT_EQ(left(a, of("")), "000 0");
  *process->poisoned = false;
  for (const auto& name : with_persons) ASSERT_TRUE(process->act(name, "retry"));
  ASSERT_TRUE(process->caught_up());
  EXPECT_EQ(left(a, of("")), "000 0");
  expect_equal(tables_of(database), expected_tables(history));
}

TEST_F(Erased, in_what_a_replay_made_and_what_is_paused_or_of_another_version) {
  ASSERT_TRUE(process->caught_up());
  std::map<std::string, std::string> replayed;
  const auto then = history.now;
  for (const auto& name : with_persons) {
    replayed[name] = "then_" + name;
    const auto made =
        projections::replay(options_for(database.url()), history.log, history.keys, {name, replayed[name], then, {}});
    ASSERT_TRUE(made) << made.error().message();
    EXPECT_TRUE(made->complete);
    EXPECT_EQ(state_of(database, name, 2), "replay") << "it is not filling any longer";
  }
  EXPECT_EQ(left(a, replayed), "111 7");
  ASSERT_TRUE(process->act("conversation", "pause"));
  process.reset();  // another version follows now
  process.emplace(history, database.url(), 1, true, system_clock(), std::set<std::string>{"profile"});
  ASSERT_TRUE(process->is_live("profile", 3));
  EXPECT_EQ(left(a, of("")), "111 7");
  history.erase({&a});
  const auto all_gone = [&](const std::map<std::string, std::string>& schemas) {
    return eventually([&] { return left(a, schemas) == "000 0"; });
  };
  EXPECT_TRUE(all_gone(of(""))) << left(a, of(""));
  EXPECT_TRUE(all_gone(replayed)) << left(a, replayed);
  EXPECT_EQ(left(b, replayed), "111 7");
  EXPECT_EQ(database.value("SELECT count(*) FROM projection_profile_1.user_profiles WHERE user_key = '" + a.meta.user + "'"),
            "0");
  ASSERT_TRUE(process->act("conversation", "resume"));
  ASSERT_TRUE(process->caught_up());
  expect_equal(tables_of(database), expected_tables(history));

  // Whom a replay finds erased it does not show either, though that was later.
  database.value("DROP SCHEMA then_sessions CASCADE; SELECT 1");
  ASSERT_TRUE(
      projections::replay(options_for(database.url()), history.log, history.keys, {"sessions", "then_sessions", then, {}}));
  EXPECT_EQ(left(a, replayed), "000 0");
  // A schema that was dropped holds nothing up.
  database.value("DROP SCHEMA then_conversation CASCADE; SELECT 1");
  history.erase({&b});
  ASSERT_TRUE(process->caught_up());
  expect_equal(tables_of(database), expected_tables(history));
}

TEST_F(Erased, a_table_that_refuses_is_told_of_and_holds_up_nobody) {
  ASSERT_TRUE(process->caught_up());
  ASSERT_TRUE(projections::replay(options_for(database.url()), history.log, history.keys, {"profile", "then", {}, {}}));
  database.value(
      "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '42501'; END "
      "$$; "
      "CREATE TRIGGER refuses BEFORE DELETE ON \"then\".users EXECUTE FUNCTION refuse(); SELECT 1");
  history.erase({&a});
  ASSERT_TRUE(process->caught_up());
  EXPECT_EQ(left(a, of("")), "000 0");
  EXPECT_TRUE(eventually([&] {
    const auto others = process->status("profile").others;
    return others.size() == 1 && others[0].detail ==
                                     "rows of erased persons are left in schema then, which refuses to delete them (SQLSTATE "
                                     "42501): drop it";
  }));
}

TEST_F(Erased, with_tables_that_were_given_up_and_cannot_be_dropped) {
  ASSERT_TRUE(process->caught_up());
  ASSERT_TRUE(process->act("profile", "rebuild"));
  ASSERT_TRUE(process->is_live("profile", 2));
  database.value("CREATE VIEW bound AS SELECT count(*) FROM projection_profile_1.users; SELECT 1");
  database.value("CREATE TABLE refers (user_key text REFERENCES projection_profile_1.users); SELECT 1");
  EXPECT_EQ(projections::inspect_database(database.url())->left_schemas, Lines());
  ASSERT_TRUE(process->act("profile", "discard"));
  EXPECT_EQ(projections::inspect_database(database.url())->left_schemas, Lines{"projection_profile_1"}) << "doctor tells of it";
  EXPECT_EQ(database.value("SELECT count FROM bound"), "0");
  EXPECT_EQ(
      database.value("SELECT detail FROM projection_generations WHERE projection = 'profile' AND generation = 1"),
      "discard by the test; its schema projection_profile_1 stays, its tables are empty: what is not ours is in it or depends "
      "on it");
}

}  // namespace
}  // namespace onboarding::testing
