// The read models in a real PostgreSQL, against a fold of the same events written apart.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <fstream>

#include "events/fault_point.hpp"
#include "projections/postgres/migrate.hpp"
#include "projections/postgres/queries.hpp"
#include "tests/integration/postgres/following.hpp"
#include "tests/integration/postgres/own_server.hpp"

namespace onboarding::testing {
namespace {

using projections::Errc;

TEST(ReadModels, a_long_history_gives_exactly_the_rows_of_an_independent_fold) {
  Database database;
  History history(7);
  history.live(40, 900);
  Following following(history, database.url());
  ASSERT_TRUE(following.caught_up());
  expect_equal(tables_of(database), expected_tables(history));
}

TEST(ReadModels, small_batches_and_failures_around_the_commit_change_nothing) {
  Database database;
  History history(8);
  history.live(12, 200);
  projections::RunnerOptions small;
  small.max_batch_events = 7;
  {
    Stepping first(history, database.url(), small);
    for (int i = 0; i < 20; ++i) first.runner.step();
  }
  // A runner that begins anew goes on where the rows are, whatever became of its predecessor's last commit.
  Stepping second(history, database.url(), small);
  FaultPoint::arm("projection.before_commit=error@3,projection.after_commit=error@9");
  const int failures = second.run_to_end();
  FaultPoint::arm("");
  EXPECT_GE(failures, 2);
  expect_equal(tables_of(database), expected_tables(history));
}

TEST(ReadModels, two_runners_at_once_never_write_an_event_twice) {
  Database database;
  History history(9);
  Following one(history, database.url());
  Following other(history, database.url());
  history.live(20, 500);
  ASSERT_TRUE(one.caught_up());
  ASSERT_TRUE(other.caught_up());
  expect_equal(tables_of(database), expected_tables(history));
}

/// Delivers records twice, in another order, and not all of them.
class UntidyLog final : public log::EventLog {
 public:
  explicit UntidyLog(log::EventLog& inner) : inner_(inner) {}
  std::string log_id() const override { return inner_.log_id(); }
  std::uint32_t partitions() const override { return inner_.partitions(); }
  result<void> writable() const override { return inner_.writable(); }
  void append(log::Append append, log::AppendDone done) override { inner_.append(std::move(append), std::move(done)); }
  void read_stream(std::uint32_t partition, std::string stream, std::uint64_t after, std::size_t most,
                   log::RecordsRead done) override {
    inner_.read_stream(partition, std::move(stream), after, most, std::move(done));
  }
  result<std::vector<log::Record>> read_partition(std::uint32_t partition, std::uint64_t after, std::size_t most,
                                                  std::size_t bytes) override {
    const std::lock_guard lock(mutex_);
    auto records = inner_.read_partition(partition, after - std::min<std::uint64_t>(after, random_() % 20), most, bytes);
    if (!records || records->empty()) return records;
    for (std::size_t n = random_() % 4; n > 0; --n) records->push_back((*records)[random_() % records->size()]);
    for (std::size_t n = random_() % 4; n > 0; --n) {
      std::swap((*records)[random_() % records->size()], (*records)[random_() % records->size()]);
      ++moved;
    }
    if (random_() % 4 == 0) records->erase(records->begin() + static_cast<std::ptrdiff_t>(random_() % records->size()));
    return records;
  }
  std::uint64_t head(std::uint32_t partition) const override { return inner_.head(partition); }
  std::unique_ptr<log::Subscription> subscribe(std::function<void(std::uint32_t)> on_advance) override {
    return inner_.subscribe(std::move(on_advance));
  }
  result<std::vector<log::OpenStream>> pending_turns(std::uint32_t partition, std::size_t limit) override {
    return inner_.pending_turns(partition, limit);
  }
  result<std::vector<log::OpenStream>> due(std::uint32_t partition, domain::Timestamp before, std::size_t limit) override {
    return inner_.due(partition, before, limit);
  }
  result<std::uint64_t> open_count() override { return inner_.open_count(); }

  std::atomic<int> moved{0};

 private:
  log::EventLog& inner_;
  std::mutex mutex_;
  std::mt19937_64 random_{11};
};

TEST(ReadModels, events_delivered_again_and_out_of_order_count_once_and_in_theirs_also_in_a_rebuild) {
  Database database;
  History history(17);
  UntidyLog untidy(history.log);
  auto options = options_for(database.url());
  options.near_events = 100;  // a rebuild is filled by lanes
  prometheus::Registry registry;
  auto models = projections::make_read_models(options, untidy, history.keys, registry, system_clock());
  (*models)->start();
  for (int i = 0; i < 4; ++i) history.live(10, 100);
  const auto caught_up = [&] {
    const auto all = (*models)->queries().projections();
    return std::all_of(all.begin(), all.end(), [](const auto& p) { return p.generation > 0 && p.lag_events == 0; });
  };
  ASSERT_TRUE(eventually(caught_up));
  expect_equal(tables_of(database), expected_tables(history));
  for (const char* projection : {"sessions", "conversation"}) {
    projections::Action rebuild;
    rebuild.projection = projection;
    rebuild.verb = "rebuild";
    std::promise<bool> begun;
    (*models)->control().act(rebuild, [&](const auto& outcome) { begun.set_value(outcome.has_value()); });
    ASSERT_TRUE(begun.get_future().get());
  }
  history.live(10, 100);
  EXPECT_TRUE(
      eventually([&] { return database.value("SELECT count(*) FROM projection_generations WHERE state = 'previous'") == "2"; }));
  ASSERT_TRUE(eventually(caught_up));
  expect_equal(tables_of(database), expected_tables(history));
  EXPECT_GT(untidy.moved.load(), 0);
}

TEST(ReadModels, backends_terminated_again_and_again_lose_and_double_nothing) {
  Database database;
  History history(10);
  Following following(history, database.url());
  std::atomic<bool> done{false};
  std::thread killer([&] {
    while (!done) {
      database.on_server(
          "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname LIKE "
          "'onboarding_test_" +
          std::to_string(getpid()) + "%'");
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  });
  history.live(20, 400);
  done = true;
  killer.join();
  ASSERT_TRUE(following.caught_up());
  expect_equal(tables_of(database), expected_tables(history));
}

TEST(ReadModels, a_server_that_is_stopped_is_caught_up_with_when_it_is_back) {
  OwnServer server("--throw-away");
  ASSERT_TRUE(server.start());
  auto database = std::make_unique<Database>(server.url());
  History history(11);
  Following following(history, database->url());
  history.live(5, 50);
  ASSERT_TRUE(following.caught_up());
  ASSERT_TRUE(server.stop());
  history.live(5, 50);
  EXPECT_TRUE(eventually([&] { return following.models.queries().projections()[0].state == "database_down"; }));
  EXPECT_TRUE(eventually([&] { return !following.models.queries().database().reachable; }));
  EXPECT_GT(following.models.queries().projections()[0].lag_events, 0U);
  const auto stats = ask<projections::Stats>([&](auto done) { following.models.queries().stats(std::move(done)); });
  ASSERT_FALSE(stats);
  EXPECT_EQ(stats.error().code, Errc::unavailable);
  ASSERT_TRUE(server.start());
  ASSERT_TRUE(following.caught_up());
  expect_equal(tables_of(*database), expected_tables(history));
  following.models.stop();
  database.reset();
}

// Commits of read models are not flushed: rows and checkpoint are lost together, and written again from the log.
TEST(ReadModels, commits_that_a_killed_server_had_not_flushed_are_written_again) {
  OwnServer server("");
  ASSERT_TRUE(server.start());
  auto database = std::make_unique<Database>(server.url());
  History history(12);
  Following following(history, database->url());
  for (int life = 0; life < 2; ++life) {
    history.live(8, 150);
    // Some of it is committed, as far as the runner knows.
    ASSERT_TRUE(eventually([&] { return following.models.queries().projections()[0].lag_events < 100; }));
    ASSERT_TRUE(server.end_at_once());
    ASSERT_TRUE(server.start());
  }
  // No event comes any more: the runner finds out by itself.
  const Tables expected = expected_tables(history);
  EXPECT_TRUE(eventually([&] { return tables_of(*database) == expected; }));
  expect_equal(tables_of(*database), expected);
  following.models.stop();
  database.reset();
}

TEST(ReadModels, messages_of_a_database_of_before_are_filled_again_into_partitions) {
  Database database;
  {
    pqxx::connection connection(database.url());
    const auto& all = projections::embedded_migrations();
    ASSERT_TRUE(projections::migrate(connection, {all.begin(), all.begin() + 8}));
    pqxx::work transaction(connection);
    transaction.exec(
        "INSERT INTO conversation_messages (session_id, version, timestamp, role, text) VALUES ('old', 1, now(), 'user', 'x')");
    transaction.exec(
        "INSERT INTO projection_checkpoints (log_id, projection, version, partition, sequence) VALUES ('log-of-the-test', "
        "'conversation', "
        "1, 0, 1)");
    transaction.commit();
  }
  History history(13);
  history.live(30, 200);
  Following following(history, database.url());
  ASSERT_TRUE(following.caught_up());
  expect_equal(tables_of(database), expected_tables(history));
  EXPECT_EQ(database.value("SELECT count(*) FROM pg_inherits WHERE inhparent = 'conversation_messages'::regclass"), "16");
  EXPECT_GT(std::stoi(database.value("SELECT count(DISTINCT tableoid) FROM conversation_messages")), 4);
  EXPECT_EQ(database.value("SELECT version FROM projection_generations WHERE projection = 'conversation'"), "2");
}

TEST(ReadModels, starting_needs_no_database) {
  History history;
  Following following(history, "postgresql://nobody@127.0.0.1:1/none");
  history.live(2, 5);
  EXPECT_TRUE(eventually([&] { return following.models.queries().projections()[0].state == "database_down"; }));
  EXPECT_TRUE(eventually([&] { return following.models.queries().database().breaker_open; }));
}

TEST(ReadModels, a_database_of_another_log_is_refused) {
  Database database;
  History ours(1, "log-a"), theirs(1, "log-b");
  ours.live(2, 5);
  theirs.live(2, 5);
  Stepping first(ours, database.url());
  first.run_to_end();
  const Tables before = tables_of(database);
  Stepping second(theirs, database.url());
  EXPECT_EQ(second.runner.step().kind, projections::Runner::Step::Kind::failed);
  EXPECT_EQ(second.progress.status()[0].state, "stalled");
  EXPECT_NE(second.progress.status()[0].stalled_because.find("log-a"), std::string::npos);
  expect_equal(tables_of(database), before);
}

TEST(ReadModels, a_checkpoint_beyond_the_end_of_the_log_is_refused) {
  Database database;
  History whole(3), shorter(3);
  whole.live(3, 30);
  shorter.live(3, 2);
  Stepping first(whole, database.url());
  first.run_to_end();
  Stepping second(shorter, database.url());
  EXPECT_EQ(second.runner.step().kind, projections::Runner::Step::Kind::failed);
  EXPECT_NE(second.progress.status()[0].stalled_because.find("beyond the end"), std::string::npos);
}

TEST(ReadModels, erasing_a_person_removes_what_is_theirs_and_keeps_the_counts) {
  Database database;
  History history;
  auto erased = history.start({"ann", true});
  auto kept = history.start({"bob", true});
  history.turn(erased, "I'm Ann", {{"full_name", "Ann"}});
  history.turn(kept, "I'm Bob", {{"full_name", "Bob"}});
  Stepping stepping(history, database.url());
  stepping.run_to_end();
  history.erase({&erased});
  stepping.run_to_end();
  EXPECT_EQ(database.value("SELECT count(*) FROM conversation_messages WHERE session_id = '" + erased.id + "'"), "0");
  EXPECT_EQ(database.value("SELECT string_agg(user_id, ',') FROM user_profiles"), "bob");
  EXPECT_EQ(database.value("SELECT string_agg(user_id, ',') FROM users"), "bob");
  EXPECT_EQ(
      database.value(
          "SELECT total_messages_count || ' ' || coalesce(user_id, 'nobody') FROM onboarding_sessions WHERE session_id = '" +
          erased.id + "'"),
      "2 nobody");
  const Tables live = tables_of(database);

  // Whoever reads the log only now finds the same.
  Database rebuilt;
  Stepping anew(history, rebuilt.url());
  anew.run_to_end();
  expect_equal(tables_of(rebuilt), live);
}

TEST(ReadModels, a_user_id_that_nobody_vouched_for_never_changes_the_profile_of_one_vouched_for) {
  Database database;
  History history;
  auto real = history.start({"zoe", true});
  history.turn(real, "I'm Zoe", {{"full_name", "Zoe"}});
  auto claimed = history.start({"zoe", false});
  history.turn(claimed, "I'm Mallory", {{"full_name", "Mallory"}});
  Following following(history, database.url());
  ASSERT_TRUE(following.caught_up());
  auto& queries = following.models.queries();
  const auto by_id = ask<projections::Profile>([&](auto done) { queries.profile({"", "zoe"}, std::move(done)); });
  ASSERT_TRUE(by_id);
  EXPECT_TRUE(by_id->vouched);
  EXPECT_EQ(by_id->fields, (std::vector<std::pair<std::string, std::string>>{{"full_name", "Zoe"}}));
  const auto by_key = ask<projections::Profile>([&](auto done) { queries.profile({claimed.meta.user, ""}, std::move(done)); });
  ASSERT_TRUE(by_key);
  EXPECT_EQ(by_key->fields[0].second, "Mallory");
  const auto nobody = ask<projections::Profile>([&](auto done) { queries.profile({"", "nobody"}, std::move(done)); });
  ASSERT_FALSE(nobody);
  EXPECT_EQ(nobody.error().code, Errc::not_found);
}

TEST(ReadModels, a_value_that_was_withdrawn_is_nobodys_any_more) {
  Database database;
  History history;
  auto session = history.start({"zoe", true});
  history.turn(session, "I'm Zoe", {{"full_name", "Zoe"}, {"company", "Acme"}});
  history.append(session, {domain::FieldDeclined{"t", "company"}});
  Following following(history, database.url());
  ASSERT_TRUE(following.caught_up());
  const auto profile = ask<projections::Profile>([&](auto done) {
    following.models.queries().profile({"", "zoe"}, std::move(done));
  });
  ASSERT_TRUE(profile);
  EXPECT_EQ(profile->fields, (std::vector<std::pair<std::string, std::string>>{{"full_name", "Zoe"}}));
}

TEST(ReadModels, the_queries_count_as_the_contract_says) {
  Database database;
  History history;
  auto completed = history.start({"a", true});
  for (int i = 0; i < 3; ++i) history.turn(completed, "more");
  history.turn(completed, "done", {{"full_name", "A"}}, true);
  history.turn(completed, "and a correction after the end", {{"full_name", "B"}});
  auto abandoned = history.start({"b", true});
  history.turn(abandoned, "hello");
  history.abandon(abandoned, "full_name");
  auto resumed = history.start({"c", true});
  history.abandon(resumed, "full_name");
  history.append(resumed, {domain::SessionResumed{}});
  history.now = std::chrono::floor<std::chrono::microseconds>(system_clock().now()) - std::chrono::minutes(10);
  history.failed_turn(resumed);
  history.turn(resumed, "hello again");
  Following following(history, database.url());
  ASSERT_TRUE(following.caught_up());
  auto& queries = following.models.queries();

  const auto stats = ask<projections::Stats>([&](auto done) { queries.stats(std::move(done)); });
  ASSERT_TRUE(stats);
  EXPECT_EQ(stats->active_sessions, 1);
  EXPECT_DOUBLE_EQ(stats->completion_rate_7d, 1.0 / 3);
  EXPECT_GT(stats->avg_duration_minutes, 0);
  EXPECT_DOUBLE_EQ(stats->error_rate_1h, 0.5);

  const auto completion = ask<projections::Completion>([&](auto done) { queries.completion(30, std::move(done)); });
  ASSERT_TRUE(completion);
  EXPECT_EQ(completion->started, 3);
  EXPECT_EQ(completion->completed, 1);
  EXPECT_DOUBLE_EQ(completion->rate, 1.0 / 3);
  EXPECT_GT(completion->average_minutes, 0);
  EXPECT_DOUBLE_EQ(completion->p50_minutes, completion->average_minutes) << "of one session";

  const auto fields =
      ask<std::vector<projections::AbandonmentField>>([&](auto done) { queries.abandonment(30, std::move(done)); });
  ASSERT_TRUE(fields);
  ASSERT_FALSE(fields->empty());
  EXPECT_EQ(fields->front().field, "full_name");
  EXPECT_EQ(fields->front().count, 1);
  EXPECT_EQ(fields->front().asked, 3);
  EXPECT_DOUBLE_EQ(fields->front().share_of_abandoned, 1);
  EXPECT_DOUBLE_EQ(fields->front().share_of_asked, 1.0 / 3);

  const auto buckets = ask<projections::MessageBuckets>([&](auto done) { queries.messages(30, std::move(done)); });
  ASSERT_TRUE(buckets);
  EXPECT_EQ(buckets->from_8_to_10, 1);  // four messages and four replies; what follows the completing reply does not count
  EXPECT_EQ(buckets->under_8 + buckets->from_11_to_15 + buckets->over_15, 0);
  EXPECT_DOUBLE_EQ(buckets->average, 8);

  const auto sessions = ask<projections::SessionPage>([&](auto done) {
    queries.sessions_of_user({"", "a"}, {}, std::move(done));
  });
  ASSERT_TRUE(sessions);
  ASSERT_EQ(sessions->rows.size(), 1U);
  EXPECT_EQ(sessions->rows.front().status, "completed");
  EXPECT_TRUE(sessions->rows.front().completed_at);
  EXPECT_FALSE(sessions->next);
}

TEST(ReadModels, usage_and_quality_are_what_the_events_say) {
  Database database;
  History history;
  history.now = std::chrono::floor<std::chrono::microseconds>(system_clock().now()) - std::chrono::hours(1);
  auto a = history.start({"a", true}, "pro"), b = history.start({"b", true});
  history.turn(a, "I'm A", {{"full_name", "A"}});
  history.refused_value(a);
  history.failed_turn(b);
  history.turn(b, "offline", {{"full_name", "B"}}, false, "offline");
  history.append(b, {domain::FieldDeclined{"t", "full_name"}});
  Following following(history, database.url());
  ASSERT_TRUE(following.caught_up());
  auto& queries = following.models.queries();

  const auto usage = ask<std::vector<projections::UsageRow>>([&](auto done) { queries.usage(2, std::move(done)); });
  ASSERT_TRUE(usage);
  std::map<std::string, projections::UsageFigures> by_provider;
  for (const auto& row : *usage) by_provider[row.provider + "/" + row.model + "/" + row.plan] = row.figures;
  ASSERT_EQ(by_provider.size(), 3U);
  const auto& luna = by_provider["openai/gpt-6-luna/pro"];
  EXPECT_EQ(luna.calls, 1);
  EXPECT_EQ(luna.cost_nanodollars, luna.input_tokens * 100 + luna.output_tokens * 500);
  EXPECT_EQ(by_provider["gemini/model-2/free"].unpriced_calls, 1);
  EXPECT_EQ(by_provider["offline/gpt-6-luna/free"].cost_nanodollars, 0);
  EXPECT_EQ(database.value("SELECT cost_nanodollars FROM session_analytics WHERE session_id = '" + a.id + "'"),
            std::to_string(luna.cost_nanodollars));
  EXPECT_EQ(database.value("SELECT count(*) FROM pg_inherits WHERE inhparent = 'token_usage'::regclass"),
            usage->front().day == usage->back().day ? "1" : "2");

  const auto quality = ask<std::vector<projections::QualityDay>>([&](auto done) { queries.quality(30, std::move(done)); });
  ASSERT_TRUE(quality);
  projections::QualityFigures all;
  for (const auto& day : *quality) {
    all.sessions += day.figures.sessions;
    all.fields_asked += day.figures.fields_asked;
    all.asked_fields_filled += day.figures.asked_fields_filled;
    all.questions += day.figures.questions;
    all.reasked += day.figures.reasked;
    all.values_said += day.figures.values_said;
    all.values_rejected += day.figures.values_rejected;
    all.replies += day.figures.replies;
    all.fallback_replies += day.figures.fallback_replies;
    all.failed_turns += day.figures.failed_turns;
    all.calls += day.figures.calls;
    all.failed_calls += day.figures.failed_calls;
  }
  EXPECT_EQ(all.sessions, 2);
  EXPECT_EQ(all.fields_asked, 4);         // each session full_name, then email
  EXPECT_EQ(all.asked_fields_filled, 1);  // a's name; b's was withdrawn
  EXPECT_EQ(all.questions, 5);            // and a's email again
  EXPECT_EQ(all.reasked, 1);
  EXPECT_EQ(all.values_said, 3);
  EXPECT_EQ(all.values_rejected, 1);
  EXPECT_EQ(all.replies, 4);
  EXPECT_EQ(all.fallback_replies, 3);  // the refusal and b's two
  EXPECT_EQ(all.failed_turns, 1);
  EXPECT_EQ(all.calls, 3);
  EXPECT_EQ(all.failed_calls, 1);
}

TEST(ReadModels, empty_tables_answer_with_zeros) {
  Database database;
  History history;
  Following following(history, database.url());
  ASSERT_TRUE(eventually([&] {
    return ask<projections::Stats>([&](auto done) { following.models.queries().stats(std::move(done)); }).has_value();
  }));
  const auto stats = ask<projections::Stats>([&](auto done) { following.models.queries().stats(std::move(done)); });
  ASSERT_TRUE(stats);
  EXPECT_EQ(stats->completion_rate_7d, 0);
  EXPECT_EQ(stats->error_rate_1h, 0);
}

TEST(ReadModels, who_waits_for_a_position_is_told_when_every_read_model_has_it) {
  Database database;
  History history;
  Following following(history, database.url());
  auto session = history.start({"a", true});
  std::promise<std::pair<bool, projections::Lag>> reached, late;
  following.models.queries().wait_for({history.last, 30'000}, [&](bool yes, projections::Lag lag) {
    reached.set_value({yes, lag});
  });
  EXPECT_TRUE(reached.get_future().get().first);
  EXPECT_EQ(database.value("SELECT count(*) FROM onboarding_sessions"), "1");
  const Position beyond{history.last.partition, history.last.sequence + 5};
  following.models.queries().wait_for({beyond, 20}, [&](bool yes, projections::Lag lag) { late.set_value({yes, lag}); });
  const auto [yes, lag] = late.get_future().get();
  EXPECT_FALSE(yes);
  EXPECT_EQ(lag.events, 5U);
}

/// Like the conversation, but what some people say cannot be applied: by the projection, or by PostgreSQL.
class Touchy : public projections::Projection {
 public:
  const std::string& name() const override { return inner_->name(); }
  std::uint32_t version() const override { return 1; }
  const std::vector<projections::Table>& tables() const override { return inner_->tables(); }
  result<void> apply(const codec::DecodedEvent& event, projections::RowOperations& out) const override {
    if (const auto* said = std::get_if<domain::MessageReceived>(&event.recorded.event)) {
      if (said->text.text == "poison") return failure(Errc::poison, "as the test wants");
      if (said->text.text == "refused") {
        auto applied = inner_->apply(event, out);
        std::get<projections::Upsert>(out.back()).values[1].second = std::string("nobody's role");  // violates a CHECK
        return applied;
      }
    }
    return inner_->apply(event, out);
  }

 private:
  std::unique_ptr<projections::Projection> inner_ = projections::make_conversation_projection();
};

TEST(ReadModels, a_poison_event_parks_its_users_key_and_the_rest_goes_on) {
  Database database;
  History history;
  auto a = history.start({"a", true}), b = history.start({"b", true}), c = history.start({"c", true});
  for (int i = 0; i < 10; ++i) history.turn(c, "fine");
  history.turn(a, "poison");
  history.turn(b, "refused");
  for (auto* session : {&a, &b, &c}) history.turn(*session, "later");
  std::vector<std::unique_ptr<projections::Projection>> all;
  all.push_back(projections::make_sessions_projection());
  all.push_back(std::make_unique<Touchy>());
  Stepping stepping(history, database.url(), {}, std::move(all));
  EXPECT_EQ(stepping.run_to_end(), 0);
  const auto messages = [&](const History::Session& session) {
    return database.value("SELECT count(*) FROM conversation_messages WHERE session_id = '" + session.id + "'");
  };
  EXPECT_EQ(messages(c), "23");
  EXPECT_EQ(messages(a), "1");  // the greeting: what came before the poison stays
  EXPECT_EQ(messages(b), "1");
  // The other projection is not concerned.
  EXPECT_EQ(database.value("SELECT sum(total_messages_count) FROM onboarding_sessions"), "30");
  EXPECT_EQ(database.value("SELECT count(*) FROM projection_parked_keys WHERE projection = 'conversation'"), "2");
  EXPECT_EQ(database.value("SELECT count(*) FROM projection_parked_events WHERE parked_key = '" + a.meta.user + "'"),
            std::to_string(a.version - 1));
  EXPECT_EQ(stepping.progress.status()[1].parked, 2U);

  // Known again after a restart: a parked key's events go on waiting.
  history.turn(a, "still later");
  std::vector<std::unique_ptr<projections::Projection>> again;
  again.push_back(projections::make_sessions_projection());
  again.push_back(std::make_unique<Touchy>());
  Stepping restarted(history, database.url(), {}, std::move(again));
  restarted.run_to_end();
  EXPECT_EQ(messages(a), "1");
  EXPECT_EQ(database.value("SELECT count(*) FROM projection_parked_events WHERE parked_key = '" + a.meta.user + "'"),
            std::to_string(a.version - 1));
}

/// Somebody's message is poison to this projection.
class Poisoned : public projections::Projection {
 public:
  explicit Poisoned(std::unique_ptr<projections::Projection> inner) : inner_(std::move(inner)) {}
  const std::string& name() const override { return inner_->name(); }
  std::uint32_t version() const override { return inner_->version(); }
  const std::vector<projections::Table>& tables() const override { return inner_->tables(); }
  result<void> apply(const codec::DecodedEvent& event, projections::RowOperations& out) const override {
    const auto* said = std::get_if<domain::MessageReceived>(&event.recorded.event);
    if (said != nullptr && said->text.text == "poison") return failure(Errc::poison, "as the test wants");
    return inner_->apply(event, out);
  }

 private:
  std::unique_ptr<projections::Projection> inner_;
};

TEST(ReadModels, what_is_known_of_a_parked_person_is_refused_rather_than_told_stale) {
  Database database;
  History history;
  auto fine = history.start({"fine", true}), parked = history.start({"parked", true}),
       unreadable = history.start({"unreadable", true});
  history.turn(parked, "poison");
  // A record that nobody can decode: whose it is, only its stream says.
  log::Append garbage;
  garbage.partition = unreadable.partition;
  garbage.stream = unreadable.id;
  garbage.expected_version = unreadable.version;
  garbage.record_id.assign(16, 'r');
  garbage.count = 1;
  garbage.time = history.now;
  garbage.payload = "not what a record holds";
  std::promise<void> appended;
  history.log.append(std::move(garbage), [&](log::AppendOutcome) { appended.set_value(); });
  appended.get_future().get();

  std::vector<std::unique_ptr<projections::Projection>> all;
  all.push_back(std::make_unique<Poisoned>(projections::make_profile_projection()));
  all.push_back(projections::make_sessions_projection());
  Stepping stepping(history, database.url(), {}, std::move(all));
  stepping.run_to_end();
  projections::PostgresQueries queries(stepping.pool, stepping.progress, options_for(database.url()));
  const auto profile = [&](const projections::UserSelector& who) {
    const auto answer = ask<projections::Profile>([&](auto done) { queries.profile(who, std::move(done)); });
    return answer ? std::error_code() : answer.error().code;
  };
  const auto sessions = [&](const projections::UserSelector& who) {
    const auto answer = ask<projections::SessionPage>([&](auto done) { queries.sessions_of_user(who, {}, std::move(done)); });
    return answer ? std::error_code() : answer.error().code;
  };
  for (const auto& who : {projections::UserSelector{fine.meta.user, ""}, projections::UserSelector{"", "fine"}}) {
    EXPECT_EQ(profile(who), std::error_code());
    EXPECT_EQ(sessions(who), std::error_code());
  }
  for (const auto& who : {projections::UserSelector{parked.meta.user, ""}, projections::UserSelector{"", "parked"}}) {
    EXPECT_EQ(profile(who), Errc::poison);
    EXPECT_EQ(sessions(who), std::error_code());  // parked in one projection only
  }
  for (const auto& who : {projections::UserSelector{unreadable.meta.user, ""}, projections::UserSelector{"", "unreadable"}}) {
    EXPECT_EQ(profile(who), Errc::poison);
    EXPECT_EQ(sessions(who), Errc::poison);
  }
  EXPECT_EQ(profile({"nobody's key", ""}), Errc::not_found);
  EXPECT_EQ(profile({"", "nobody"}), Errc::not_found);
  // Who waits for the position of the poison is not kept waiting: it is passed, and the answer says why it does not help.
  std::promise<bool> reached;
  queries.wait_for({history.last, 1000}, [&](bool yes, projections::Lag) { reached.set_value(yes); });
  EXPECT_TRUE(reached.get_future().get());
}

TEST(ReadModels, keys_out_of_reach_are_waited_for_and_park_nobody) {
  Database database;
  History history;
  history.live(4, 20);
  Stepping stepping(history, database.url());
  history.keys.set_reachable(false);
  EXPECT_EQ(stepping.runner.step().kind, projections::Runner::Step::Kind::idle);
  EXPECT_EQ(stepping.progress.status()[0].state, "stalled");
  history.keys.set_reachable(true);
  stepping.run_to_end();
  expect_equal(tables_of(database), expected_tables(history));
  EXPECT_EQ(database.value("SELECT count(*) FROM projection_parked_keys"), "0");
}

}  // namespace
}  // namespace onboarding::testing
