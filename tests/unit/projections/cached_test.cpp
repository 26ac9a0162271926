#include "projections/postgres/cached.hpp"

#include <gtest/gtest.h>

#include <system_error>

namespace onboarding::projections {
namespace {

using namespace std::chrono_literals;

class CachedAnswers : public ::testing::Test {
 protected:
  /// Asks at this time; `answers` gets what comes.
  bool ask(std::uint32_t key, std::chrono::milliseconds at) {
    now = Cached<int>::Clock::time_point(at);
    return cached.get(
        key, [this](const result<int>& got) { answers.push_back(got.value_or(-1)); },
        [this](Cached<int>::Done done) { fetches.push_back(std::move(done)); });
  }
  void fetched(result<int> value) {
    const auto done = std::move(fetches.front());
    fetches.erase(fetches.begin());
    done(std::move(value));
  }

  Cached<int>::Clock::time_point now;
  Cached<int> cached{10s, [this] { return now; }};
  std::vector<int> answers;
  std::vector<Cached<int>::Done> fetches;
};

TEST_F(CachedAnswers, are_fetched_once_however_many_ask) {
  EXPECT_FALSE(ask(1, 1000s));
  EXPECT_FALSE(ask(1, 1001s));
  EXPECT_FALSE(ask(2, 1001s));
  ASSERT_EQ(fetches.size(), 2U) << "one for each question";
  fetched(7);
  EXPECT_EQ(answers, (std::vector<int>{7, 7}));
  EXPECT_TRUE(ask(1, 1009s));
  EXPECT_EQ(fetches.size(), 1U);
}

TEST_F(CachedAnswers, that_are_stale_are_given_once_more_while_the_new_one_is_fetched) {
  ask(1, 1000s);
  fetched(7);
  EXPECT_TRUE(ask(1, 1010s));
  EXPECT_TRUE(ask(1, 1011s));
  EXPECT_EQ(answers, (std::vector<int>{7, 7, 7}));
  ASSERT_EQ(fetches.size(), 1U);
  fetched(8);
  EXPECT_TRUE(ask(1, 1012s));
  EXPECT_EQ(answers.back(), 8);
  EXPECT_FALSE(ask(1, 1010s + 5 * 10s)) << "too old to be given";
}

TEST_F(CachedAnswers, that_failed_are_told_to_who_waits_and_asked_for_again) {
  ask(1, 1000s);
  fetched(tl::unexpected(Failure{std::make_error_code(std::errc::timed_out), {}}));
  EXPECT_EQ(answers, (std::vector<int>{-1}));
  EXPECT_FALSE(ask(1, 1001s));
  fetched(7);
  EXPECT_EQ(answers.back(), 7);
  ask(1, 1020s);
  fetched(tl::unexpected(Failure{std::make_error_code(std::errc::timed_out), {}}));
  EXPECT_TRUE(ask(1, 1021s)) << "the stale one is still better than none";
  EXPECT_EQ(answers.back(), 7);
}

TEST_F(CachedAnswers, that_took_long_are_kept_longer) {
  ask(1, 1000s);
  now += 3s;
  fetched(7);
  EXPECT_TRUE(ask(1, 1000s + 29s));
  EXPECT_TRUE(fetches.empty());
  EXPECT_TRUE(ask(1, 1000s + 30s));
  EXPECT_EQ(fetches.size(), 1U);
}

TEST(CachedAnswersOfNoTime, are_always_asked_anew) {
  Cached<int> cached(0s);
  int asked = 0;
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(cached.get(
        1, [](const result<int>&) {},
        [&](const Cached<int>::Done& done) {
          ++asked;
          done(asked);
        }));
  }
  EXPECT_EQ(asked, 3);
}

}  // namespace
}  // namespace onboarding::projections
