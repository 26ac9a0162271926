// An erased person's rows are gone from every table that there is: where the person's key is parked, in former, paused and
// replayed tables, in those that were given up.
#include <gtest/gtest.h>

#include "projections/postgres/erasure.hpp"
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
  EXPECT_TRUE(eventually([&] {
    return database.value("SELECT count(*) FROM projection_profile_1.user_profiles WHERE user_key = '" + a.meta.user + "'") ==
           "0";
  }));
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
                                     "rows of erased persons are left: its schema then, which should be dropped, refuses to "
                                     "delete them (SQLSTATE 42501)";
  }));
}

TEST_F(Erased, where_every_projection_is_paused) {
  ASSERT_TRUE(process->caught_up());
  for (const char* name : {"profile", "sessions", "conversation", "usage", "flows"}) ASSERT_TRUE(process->act(name, "pause"));
  EXPECT_EQ(left(a, of("")), "111 7");
  history.erase({&a});
  EXPECT_TRUE(eventually([&] { return left(a, of("")) == "000 0"; })) << left(a, of(""));
  EXPECT_EQ(left(b, of("")), "111 7");
  for (const char* name : {"profile", "sessions", "conversation", "usage", "flows"}) ASSERT_TRUE(process->act(name, "resume"));
  ASSERT_TRUE(process->caught_up());
  expect_equal(tables_of(database), expected_tables(history));
}

TEST_F(Erased, in_former_tables_where_every_projection_has_a_new_version) {
  ASSERT_TRUE(process->caught_up());
  process.reset();
  history.erase({&a});  // nothing that is live hears of it
  process.emplace(history, database.url(), 1, true, system_clock(),
                  std::set<std::string>{"profile", "sessions", "conversation", "usage", "flows"});
  for (const auto& name : with_persons) ASSERT_TRUE(process->is_live(name, 2)) << name;
  EXPECT_TRUE(eventually([&] { return left(a, of("1")) == "000 0"; })) << left(a, of("1"));
  EXPECT_EQ(left(b, of("1")), "111 7");
  ASSERT_TRUE(process->caught_up());
  expect_equal(tables_of(database), expected_tables(history));
}

TEST_F(Erased, later_where_somebody_locks_a_table_that_nobody_follows_and_the_live_ones_do_not_wait) {
  ASSERT_TRUE(process->caught_up());
  ASSERT_TRUE(projections::replay(options_for(database.url()), history.log, history.keys, {"profile", "then", {}, {}}));
  ASSERT_TRUE(projections::replay(options_for(database.url()), history.log, history.keys, {"sessions", "then_too", {}, {}}));
  const auto in_replays = [&](const History::Session& session) {
    return left(session, {{"profile", "\"then\""}, {"sessions", "then_too"}, {"conversation", "public"}});
  };
  pqxx::connection report(database.url() + "&application_name=report");
  std::optional<pqxx::work> locks(std::in_place, report);
  const auto pid = locks->exec1("SELECT pg_backend_pid()")[0].as<std::string>();
  locks->exec("LOCK TABLE \"then\".users IN SHARE MODE");
  history.erase({&a});
  history.turn(b, "the others go on");
  ASSERT_TRUE(process->caught_up());
  EXPECT_EQ(left(a, of("")), "000 0");
  const auto detail = [&] {
    const auto others = process->status("profile").others;
    return others.size() == 1 ? others[0].detail : "";
  };
  EXPECT_TRUE(eventually([&] { return in_replays(a) == "110 0"; })) << "another table is not held up: " << in_replays(a);
  EXPECT_TRUE(eventually([&] {
    return detail().starts_with("an erased person's rows are still there: \"then\".users is held by report of postgres (pid " +
                                pid + ", since ");
  })) << detail();
  locks.reset();
  EXPECT_TRUE(eventually([&] { return in_replays(a) == "000 0"; })) << in_replays(a);
  EXPECT_TRUE(eventually([&] { return detail().empty(); })) << detail();
  EXPECT_EQ(in_replays(b), "111 9");
}

TEST_F(Erased, in_former_tables_too_when_it_is_told_in_the_moment_of_a_swap) {
  ASSERT_TRUE(process->caught_up());
  ASSERT_TRUE(process->act("profile", "rebuild", "never"));
  ASSERT_TRUE(eventually([&] { return state_of(database, "profile", 2) == "building ready"; }));
  process.reset();
  Stepping stepping(history, database.url());
  std::vector<std::unique_ptr<projections::Projection>> newer;  // its books: nobody follows what is there
  newer.push_back(
      std::make_unique<Odd>(std::move(projections::make_all_projections()[0]), 1, std::make_shared<std::atomic<bool>>(false)));
  ASSERT_EQ(newer[0]->name(), "profile");
  const projections::Generations books({newer[0].get()}, history.log.log_id(), history.log.partitions());
  projections::Eraser eraser(stepping.pool, books, history.log, history.keys, nullptr);
  history.erase({&a});
  pqxx::connection swapping(database.url());
  pqxx::work swap(swapping);
  const auto live = stepping.books.find(swap, "profile", "live"), building = stepping.books.find(swap, "profile", "building");
  ASSERT_TRUE(stepping.books.swap(swap, *live, *building));
  std::atomic<bool> stop{false};
  std::thread erasing([&] {
    while (!stop) eraser.look({0, 1, 2, 3}, [&] { return stop.load(); });
  });
  pqxx::connection looking(database.url());
  EXPECT_TRUE(eventually([&] {  // it knows the tables as they were, and waits for the checkpoint
    pqxx::nontransaction session(looking);
    return session
               .exec1(
                   "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%FOR UPDATE%' AND "
                   "datname = current_database()")[0]
               .as<int>() > 0;
  }));
  swap.commit();
  const auto persons = [&](const std::string& schema) {
    return database.value("SELECT count(*) FROM " + schema + ".users WHERE user_key = '" + a.meta.user + "'");
  };
  EXPECT_TRUE(eventually([&] { return persons("public") == "0" && persons("projection_profile_1") == "0"; }))
      << persons("public") << persons("projection_profile_1");
  stop = true;
  erasing.join();
}

TEST_F(Erased, from_tables_that_are_older_than_a_migration_and_that_foreign_keys_keep) {
  ASSERT_TRUE(process->caught_up());
  ASSERT_TRUE(process->act("profile", "rebuild"));
  ASSERT_TRUE(process->is_live("profile", 2));
  database.value(
      "CREATE TABLE refers (user_key text REFERENCES projection_profile_1.users DEFERRABLE INITIALLY DEFERRED); SELECT 1");
  database.value("INSERT INTO refers SELECT user_key FROM users WHERE user_key = '" + b.meta.user + "' RETURNING 1");
  database.value("UPDATE projection_generations SET layout = 0 WHERE generation = 1 AND state = 'previous' RETURNING 1");
  process.reset();
  process.emplace(history, database.url());
  history.erase({&a});
  ASSERT_TRUE(process->caught_up()) << "nothing waits for it";
  EXPECT_EQ(database.value("SELECT state || ': ' || detail FROM projection_generations WHERE projection = 'profile' AND "
                           "generation = 1"),
            "replay: its tables are older than a migration; its schema projection_profile_1 stays with its rows: foreign keys "
            "that are not ours refer to them; drop it");
  EXPECT_TRUE(eventually([&] { return database.value("SELECT count(*) FROM projection_profile_1.users") == "1"; }))
      << "erasures reach it";
  ASSERT_TRUE(process->act("profile", "rebuild"));
  ASSERT_TRUE(process->is_live("profile", 3));
  database.value("DROP SCHEMA projection_profile_1 CASCADE; SELECT 1");
  EXPECT_TRUE(eventually([&] { return state_of(database, "profile", 1) == "gone"; }));
}

TEST_F(Erased, an_outdated_table_that_somebody_reads_is_given_up_later) {
  ASSERT_TRUE(process->caught_up());
  ASSERT_TRUE(process->act("profile", "rebuild"));
  ASSERT_TRUE(process->is_live("profile", 2));
  process.reset();
  database.value("UPDATE projection_generations SET layout = 0 WHERE generation = 1 AND state = 'previous' RETURNING 1");
  pqxx::connection report(database.url());
  std::optional<pqxx::work> reads(std::in_place, report);
  reads->exec("SELECT count(*) FROM projection_profile_1.users");
  process.emplace(history, database.url());
  history.turn(b, "the others go on");
  ASSERT_TRUE(process->caught_up());
  EXPECT_EQ(state_of(database, "profile", 1), "previous");
  EXPECT_EQ(process->act("profile", "rollback").error().code, Errc::not_possible);
  reads.reset();
  ASSERT_TRUE(process->act("profile", "restart"));
  EXPECT_TRUE(eventually([&] { return state_of(database, "profile", 1) == "gone"; }));
}

TEST_F(Erased, a_retry_of_a_key_with_very_many_waiting_events_is_all_or_nothing) {
  ASSERT_TRUE(process->caught_up());
  auto c = history.start({"cyn", true});
  history.turn(c, "poison");
  for (int i = 0; i < 200; ++i) history.turn(c, "later", {{"company", "Somewhere"}});
  history.append(c, {domain::TurnFailed{"trn_x", "poison"}});
  *process->poisoned = true;
  ASSERT_TRUE(process->act("sessions", "reset"));
  ASSERT_TRUE(eventually([&] { return process->parked("sessions").size() == 3; }));
  ASSERT_TRUE(process->caught_up());
  history.tell({&c});  // whose key is still there
  ASSERT_TRUE(process->caught_up());
  projections::Action skip;
  skip.projection = "sessions";
  skip.verb = "skip";
  for (const auto& row : process->parked("sessions")) {
    if (row.key != c.meta.user) continue;
    skip.position = row.position;
    EXPECT_GT(row.waiting, 1'000U);
  }
  skip.key = c.meta.user;
  const auto skipped = process->act(skip);
  ASSERT_TRUE(skipped) << skipped.error().message();
  EXPECT_EQ(skipped->released_events, 1U);
  EXPECT_EQ(skipped->still_parked, 1U);
  *process->poisoned = false;
  ASSERT_TRUE(process->act("sessions", "retry"));
  ASSERT_TRUE(process->caught_up());
  EXPECT_EQ(process->parked("sessions").size(), 0U);
  EXPECT_EQ(database.value("SELECT count(user_id) FROM onboarding_sessions WHERE session_id = '" + c.id + "'"), "0");
}

TEST_F(Erased, again_from_tables_that_moved_on_while_the_key_was_still_there) {
  ASSERT_TRUE(process->caught_up());
  process.reset();
  auto c = history.start({"cyn", true});
  history.turn(c, "hello", {{"full_name", "Somebody"}});
  history.tell({&c});
  projections::RunnerOptions one_by_one;
  one_by_one.max_batch_events = 1;
  Stepping stepping(history, database.url(), one_by_one);
  std::vector<std::unique_ptr<projections::Projection>> newer;  // its books: nobody follows what is there
  newer.push_back(
      std::make_unique<Odd>(std::move(projections::make_all_projections()[0]), 1, std::make_shared<std::atomic<bool>>(false)));
  const projections::Generations books({newer[0].get()}, history.log.log_id(), history.log.partitions());
  const auto erase_with = [](projections::Eraser& eraser) {  // it first sees that they stand still
    for (int looks = 0; looks < 2; ++looks) EXPECT_TRUE(eraser.look({0, 1, 2, 3}, [] { return false; }));
  };
  const auto persons = [&] { return database.value("SELECT count(*) FROM users WHERE user_key = '" + c.meta.user + "'"); };
  projections::Eraser eraser(stepping.pool, books, history.log, history.keys, nullptr);
  erase_with(eraser);
  for (int steps = 0; steps < 1000 && persons() == "0"; ++steps) stepping.runner.step();
  ASSERT_EQ(persons(), "1");
  erase_with(eraser);
  EXPECT_EQ(persons(), "0");
  stepping.runner.step();
  database.value("INSERT INTO users (user_key, created_at, last_started_at) VALUES ('" + c.meta.user +
                 "', now(), now()); SELECT 1");
  projections::Eraser after_a_restart(stepping.pool, books, history.log, history.keys, nullptr);
  erase_with(after_a_restart);
  EXPECT_EQ(persons(), "0");
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
