// Connections are shared as configured: some kept, some more while those are held, then a wait that ends.
#include "projections/postgres/pool.hpp"

#include "tests/integration/postgres/following.hpp"

namespace onboarding::testing {
namespace {

using projections::Pool;

struct ThePool : ::testing::Test {
  ThePool() {
    auto options = options_for(database.url());
    options.pool_size = 2;
    options.max_overflow = 1;
    options.pool_timeout = std::chrono::milliseconds(200);
    pool = std::make_unique<Pool>(*projections::connection_string(database.url()), options, nullptr);
  }
  std::uint32_t open() const {
    const auto status = pool->status();
    return status.pool_in_use + status.pool_idle;
  }

  Database database;
  std::unique_ptr<Pool> pool;
};

TEST_F(ThePool, opens_more_while_all_are_held_and_keeps_no_more_than_its_size_afterwards) {
  {
    std::vector<Pool::Lease> held;
    for (int tries = 0; tries < 100 && held.size() < 3; ++tries) {
      auto lease = pool->acquire();
      if (lease) held.push_back(std::move(*lease));  // but for moments in which the probe holds the last one
    }
    ASSERT_EQ(held.size(), 3U);
    EXPECT_EQ(open(), 3U);
    EXPECT_EQ(pool->acquire().error().code, projections::Errc::unavailable) << "more than size and overflow";
  }
  EXPECT_TRUE(eventually([&] { return open() == 2; }));
}

}  // namespace
}  // namespace onboarding::testing
