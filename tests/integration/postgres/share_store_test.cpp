// Two servers and their arbiter: the adapter on a real PostgreSQL.
#include <gtest/gtest.h>

#include <future>

#include "actors/model/shares/share_holder.hpp"
#include "projections/postgres/share_store.hpp"
#include "projections/queries.hpp"
#include "tests/integration/postgres/database.hpp"

namespace onboarding::projections {
namespace {

using testing::Database;

result<model::ShareAnswer> renew(model::ShareStore& store, const std::string& server, std::int64_t wanted,
                                 std::int64_t limit = 1'000) {
  std::promise<result<model::ShareAnswer>> promise;
  store.renew({server, {{"openai/requests_per_minute", {limit, wanted}}}},
              [&](result<model::ShareAnswer> answer) { promise.set_value(std::move(answer)); });
  return promise.get_future().get();
}
std::int64_t share(const result<model::ShareAnswer>& answer) { return answer->shares.at("openai/requests_per_minute"); }

TEST(ShareStore, two_servers_never_hold_more_than_the_limit_and_a_restarted_one_keeps_its_slot) {
  Database database;
  auto a = make_share_store(database.url(), {}), b = make_share_store(database.url(), {});
  const auto first = renew(**a, "a", 5'000);
  ASSERT_TRUE(first) << first.error().message();
  EXPECT_EQ(first->slot, 0u);
  EXPECT_EQ(share(first), 1'000 - 8 * 12);
  const auto second = renew(**b, "b", 5'000);
  EXPECT_EQ(second->slot, 1u);
  EXPECT_EQ(share(second), 0) << "all is lent, and what is given up cools";
  EXPECT_EQ(share(renew(**a, "a", 5'000)), (1'000 - 8 * 12) / 2);
  a = make_share_store(database.url(), {});
  EXPECT_EQ(renew(**a, "a", 5'000)->slot, 0u);
}

TEST(ShareStore, a_dead_server_s_share_comes_back) {
  Database database;
  model::ShareRules rules;
  rules.lease = rules.margin = rules.window = std::chrono::milliseconds(50);
  auto a = make_share_store(database.url(), rules), b = make_share_store(database.url(), rules);
  const auto all = share(renew(**a, "a", 5'000));
  a->reset();
  for (int i = 0; share(renew(**b, "b", 5'000)) != all; ++i) ASSERT_LT(i, 10'000);
}

TEST(ShareStore, a_database_that_is_cut_off_is_an_error_and_comes_back) {
  Database database;
  auto store = make_share_store(database.url(), {});
  ASSERT_TRUE(renew(**store, "a", 10));
  database.on_server("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '" + database.name() + "'");
  const auto cut = renew(**store, "a", 10);
  ASSERT_FALSE(cut);
  EXPECT_EQ(cut.error().code, make_error_code(Errc::unavailable));
  EXPECT_EQ(share(renew(**store, "a", 10)), 10);
}

TEST(ShareStore, many_servers_at_once_share_without_overlap) {
  Database database;
  std::vector<std::unique_ptr<model::ShareStore>> stores;
  for (int i = 0; i < 6; ++i) stores.push_back(std::move(*make_share_store(database.url(), {})));
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i)
    threads.emplace_back([&, i] {
      for (int n = 0; n < 20; ++n) renew(*stores[i], "server " + std::to_string(i), 100 * (n % 5));
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(database.value("SELECT count(DISTINCT slot) FROM model_budget_slots"), "6");
  const auto lent =
      std::stoll(database.value("SELECT coalesce((SELECT sum(amount) FROM model_budget_holdings), 0) + coalesce((SELECT "
                                "sum(amount) FROM model_budget_cooling), 0)"));
  EXPECT_LE(lent, 1'000 - 8 * 12);
}

TEST(ShareStore, an_address_that_is_none_is_refused) { EXPECT_FALSE(make_share_store("http://nowhere", {})); }

}  // namespace
}  // namespace onboarding::projections
