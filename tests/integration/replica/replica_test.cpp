// A real streaming replica: read while it keeps up, left while it does not.
#include <gtest/gtest.h>

#include "tests/integration/postgres/own_server.hpp"

namespace onboarding::testing {
namespace {

using projections::SessionPage;

class WithReplica : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(primary.start());
    database = std::make_unique<Database>(primary.url());
    ASSERT_TRUE(replica.replicate(primary));
  }
  void TearDown() override {
    replica.stop();
    if (primary.start()) database.reset();
  }
  projections::PostgresOptions options(std::chrono::milliseconds max_lag) const {
    auto with = options_for(database->url());
    with.replica_url = replica.url(database->name());
    with.replica_max_lag = max_lag;
    return with;
  }
  void on_replica(const std::string& sql) const {
    pqxx::connection connection(replica.url(database->name()));
    pqxx::nontransaction(connection).exec(sql);
  }
  static bool in_use(Following& following) { return following.models.queries().database().replica.in_use; }
  static std::size_t sessions(Following& following, std::optional<Position> at_least = {}) {
    const auto page = ask<SessionPage>([&](auto done) {
      following.models.queries().sessions_of_user({"", "ann", at_least}, {}, std::move(done));
    });
    EXPECT_TRUE(page);
    return page ? page->rows.size() : 0;
  }

  OwnServer primary{"--throw-away"}, replica{""};
  std::unique_ptr<Database> database;
  History history;
};

TEST_F(WithReplica, reads_go_there_while_it_keeps_up_and_never_where_a_wanted_position_is_not) {
  Following patient(history, options(std::chrono::hours(1)));
  Following strict(history, options(std::chrono::milliseconds(500)));
  history.start({"ann", true});
  ASSERT_TRUE(patient.caught_up());
  ASSERT_TRUE(strict.caught_up());
  ASSERT_TRUE(eventually([&] { return in_use(patient) && in_use(strict); }))
      << patient.models.queries().database().replica.detail;
  ASSERT_TRUE(eventually([&] { return sessions(patient) == 1 && patient.models.queries().database().replica.lag_seconds == 0; }));
  const auto before = history.last;

  on_replica("SELECT pg_wal_replay_pause()");
  history.start({"ann", true});
  ASSERT_TRUE(patient.caught_up());
  ASSERT_TRUE(strict.caught_up());
  EXPECT_EQ(sessions(patient), 1U) << "the replica does not have it, and may be that far behind";
  EXPECT_EQ(sessions(patient, before), 1U);
  EXPECT_EQ(sessions(patient, history.last), 2U) << "who has seen it is told by the primary";
  ASSERT_TRUE(eventually([&] { return !in_use(strict); }));
  EXPECT_EQ(strict.models.queries().database().replica.detail, "it lags");
  EXPECT_EQ(sessions(strict), 2U);

  on_replica("SELECT pg_wal_replay_resume()");
  EXPECT_TRUE(eventually([&] { return in_use(strict) && sessions(strict) == 2; }));
  EXPECT_TRUE(eventually([&] { return sessions(patient) == 2; }));
}

TEST_F(WithReplica, reads_go_on_while_the_primary_is_away_and_leave_a_replica_that_became_one) {
  Following following(history, options(std::chrono::milliseconds(500)));
  history.start({"ann", true});
  ASSERT_TRUE(following.caught_up());
  ASSERT_TRUE(eventually([&] { return in_use(following) && sessions(following, history.last) == 1; }));
  ASSERT_TRUE(primary.stop());
  ASSERT_TRUE(eventually([&] { return !following.models.queries().database().reachable; }));
  EXPECT_TRUE(in_use(following)) << "nothing newer is anywhere";
  EXPECT_EQ(sessions(following), 1U);
  ASSERT_TRUE(replica.promote());
  EXPECT_TRUE(eventually([&] { return !in_use(following); }));
  EXPECT_NE(following.models.queries().database().replica.detail, "");
  ASSERT_TRUE(primary.start());
  EXPECT_TRUE(eventually([&] { return following.models.queries().database().reachable; }));
  EXPECT_EQ(sessions(following), 1U);
}

TEST_F(WithReplica, a_replica_that_is_gone_is_left_and_taken_up_again) {
  Following following(history, options(std::chrono::hours(1)));
  history.start({"ann", true});
  ASSERT_TRUE(following.caught_up());
  ASSERT_TRUE(eventually([&] { return in_use(following); }));
  ASSERT_TRUE(replica.end_at_once());
  EXPECT_EQ(sessions(following, history.last), 1U) << "no read fails for it";
  EXPECT_TRUE(eventually([&] { return !in_use(following); }));
  ASSERT_TRUE(replica.start());
  EXPECT_TRUE(eventually([&] { return in_use(following); }));
  EXPECT_TRUE(eventually([&] { return sessions(following) == 1; }));
}

}  // namespace
}  // namespace onboarding::testing
