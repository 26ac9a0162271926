// How the read models are read: page by page, aggregates that are kept, and what is said of a query that takes long.
#include <gtest/gtest.h>
#include <prometheus/text_serializer.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include "projections/postgres/queries.hpp"
#include "tests/integration/postgres/following.hpp"

namespace onboarding::testing {
namespace {

using projections::PageRequest;
using projections::SessionFilter;
using projections::SessionPage;

SessionPage page_of(projections::Queries& queries, const SessionFilter& filter, const PageRequest& page) {
  auto answer = ask<SessionPage>([&](auto done) { queries.sessions(filter, page, std::move(done)); });
  EXPECT_TRUE(answer) << answer.error().message();
  return answer.value_or(SessionPage{});
}

std::vector<std::string> all_pages(
    projections::Queries& queries, const SessionFilter& filter, std::uint32_t limit,
    const std::function<void()>& between = [] {}) {
  std::vector<std::string> ids;
  PageRequest page{{}, limit};
  for (;;) {
    const auto got = page_of(queries, filter, page);
    for (const auto& row : got.rows) ids.push_back(row.session_id);
    EXPECT_LE(got.rows.size(), limit);
    if (!got.next) return ids;
    page.after = got.next;
    between();
  }
}

TEST(ReadPath, pages_bring_every_session_once_whatever_begins_meanwhile) {
  Database database;
  History history;
  std::vector<History::Session> begun;
  for (int i = 0; i < 23; ++i) begun.push_back(history.start({"ann", true}, i % 3 == 0 ? "pro" : "free"));
  history.abandon(begun[4], "email");
  Following following(history, database.url());
  ASSERT_TRUE(following.caught_up());
  auto& queries = following.models.queries();

  std::vector<std::string> newest_first;
  for (auto session = begun.rbegin(); session != begun.rend(); ++session) newest_first.push_back(session->id);
  EXPECT_EQ(all_pages(queries, {}, 100), newest_first);
  EXPECT_EQ(all_pages(queries, {}, 23), newest_first);
  const auto more_begins = [&] {
    history.start({"bob", false});
    ASSERT_TRUE(following.caught_up());
  };
  EXPECT_EQ(all_pages(queries, {}, 5, more_begins), newest_first);

  EXPECT_EQ(all_pages(queries, {"abandoned", {}, {}, {}, {}, {}}, 1), std::vector<std::string>{begun[4].id});
  EXPECT_EQ(all_pages(queries, {{}, "default", "pro", "ann", {}, {}}, 3).size(), 8U);
  const SessionFilter of_ann{{}, {}, {}, "ann", {}, {}};
  EXPECT_EQ(all_pages(queries, of_ann, 3), newest_first);
  EXPECT_TRUE(all_pages(queries, {{}, {}, {}, "ann' OR true --", {}, {}}, 3).empty());
  const auto middle = page_of(queries, of_ann, {{}, 12}).rows.back().created_at;
  EXPECT_EQ(all_pages(queries, {{}, {}, {}, "ann", middle, {}}, 5).size(), 12U);
  EXPECT_EQ(all_pages(queries, {{}, {}, {}, "ann", {}, middle}, 5).size(), 11U);

  // A person's own list, as the list of all.
  std::vector<std::string> own;
  PageRequest page{{}, 7};
  for (bool more = true; more;) {
    const auto got = ask<SessionPage>([&](auto done) {
      queries.sessions_of_user({begun[0].meta.user, "ann"}, page, std::move(done));
    });
    ASSERT_TRUE(got);
    for (const auto& row : got->rows) own.push_back(row.session_id);
    page.after = got->next;
    more = got->next.has_value();
  }
  EXPECT_EQ(own, newest_first);
}

TEST(ReadPath, a_page_is_found_by_an_index) {
  Database database;
  History history;
  history.start({"ann", true});
  Following following(history, database.url());
  ASSERT_TRUE(following.caught_up());
  database.rows(
      "WITH many AS (INSERT INTO onboarding_sessions (session_id, created_at, updated_at) SELECT 's' || n, now() - n * interval "
      "'1 minute', "
      "now() FROM generate_series(1, 20000) n RETURNING 1) SELECT count(*) FROM many");
  database.rows("ANALYZE onboarding_sessions");
  std::string plan;
  for (const auto& line :
       database.rows("EXPLAIN SELECT session_id FROM onboarding_sessions s WHERE (s.created_at, s.session_id) < (now() - "
                     "interval '5 days', 'x') ORDER BY s.created_at DESC, s.session_id DESC LIMIT 101"))
    plan += line + "\n";
  EXPECT_NE(plan.find("idx_sessions_created_at"), plan.npos) << plan;
  EXPECT_EQ(plan.find("Seq Scan"), plan.npos) << plan;
}

TEST(ReadPath, a_day_is_told_whole_or_not_at_all) {
  Database database;
  History history;
  const domain::Timestamp yesterday = std::chrono::floor<std::chrono::days>(system_clock().now()) - std::chrono::days(1);
  history.now = yesterday - std::chrono::seconds(1);  // less than two days ago
  history.start({"ann", true});
  history.now = yesterday;
  history.start({"bob", true});
  Following following(history, database.url());
  ASSERT_TRUE(following.caught_up());
  const auto told =
      ask<projections::Completion>([&](auto done) { following.models.queries().completion(2, std::move(done)); }).value();
  EXPECT_EQ(told.started, 1);
  EXPECT_EQ(told.by_day.size(), 1U);
}

TEST(ReadPath, aggregates_are_kept_for_a_while_and_the_hits_are_counted) {
  Database database;
  History history;
  history.start({"ann", true});
  auto options = options_for(database.url());
  options.metrics_ttl = std::chrono::hours(1);
  Following following(history, options);
  ASSERT_TRUE(following.caught_up());
  auto& queries = following.models.queries();
  const auto started = [&](std::uint32_t days) {
    return ask<projections::Completion>([&](auto done) { queries.completion(days, std::move(done)); }).value().started;
  };
  EXPECT_EQ(started(30), 1);
  history.start({"bob", true});
  ASSERT_TRUE(following.caught_up());
  EXPECT_EQ(started(30), 1) << "of before";
  EXPECT_EQ(started(31), 2) << "another question";
  const auto metrics = prometheus::TextSerializer().Serialize(following.registry.Collect());
  EXPECT_NE(metrics.find(R"(onboarding_metrics_cache_total{outcome="hit",query="completion"} 1)"), metrics.npos);
  EXPECT_NE(metrics.find(R"(onboarding_metrics_cache_total{outcome="miss",query="completion"} 2)"), metrics.npos);
}

TEST(ReadPath, a_slow_query_is_logged_by_its_name_and_without_what_was_asked) {
  Database database;
  History history;
  history.start({"ann@example.com", true});
  std::ostringstream lines;
  auto options = options_for(database.url());
  options.slow_query = std::chrono::milliseconds(100);
  options.logger = std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_mt>(lines));
  {
    Following following(history, options);
    ASSERT_TRUE(following.caught_up());
    std::promise<result<projections::Profile>> answer;
    {
      pqxx::connection other(database.url());
      pqxx::work lock(other);
      lock.exec("LOCK user_profiles IN ACCESS EXCLUSIVE MODE");
      following.models.queries().profile({"", "ann@example.com"}, [&](auto got) { answer.set_value(std::move(got)); });
      ASSERT_TRUE(eventually([&] {
        return database.value(
                   "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()") !=
               "0";
      }));
      std::this_thread::sleep_for(options.slow_query);  // it takes at least so long from now on
    }
    EXPECT_TRUE(answer.get_future().get());
  }
  EXPECT_NE(lines.str().find(R"("event":"slow_query","query":"profile_by_id","duration_ms":)"), std::string::npos) << lines.str();
  EXPECT_EQ(lines.str().find("ann@"), std::string::npos);
}

}  // namespace
}  // namespace onboarding::testing
