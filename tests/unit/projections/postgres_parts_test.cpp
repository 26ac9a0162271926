// The parts of the PostgreSQL adapter that need no PostgreSQL.
#include <gtest/gtest.h>

#include "projections/postgres/arrays.hpp"
#include "projections/postgres/breaker.hpp"
#include "projections/postgres/pipeline.hpp"

namespace onboarding::projections {
namespace {

using std::chrono::milliseconds;

TEST(Pipeline, tells_on_one_line_what_libpq_says_on_several) {
  EXPECT_EQ(Pipeline::on_one_line("connection to server on socket \"/x\" failed: No such file\n\tIs the server running?\n"),
            "connection to server on socket \"/x\" failed: No such file Is the server running?");
  EXPECT_EQ(Pipeline::on_one_line(" \n"), "");
}

TEST(Breaker, opens_after_five_failures_in_a_row_and_lets_one_probe_through) {
  Breaker breaker;
  Breaker::Time now{};
  for (int i = 0; i < 4; ++i) breaker.failed(now);
  breaker.succeeded();
  for (int i = 0; i < 4; ++i) breaker.failed(now);
  EXPECT_TRUE(breaker.allow(now));
  breaker.failed(now);
  EXPECT_TRUE(breaker.open());
  EXPECT_FALSE(breaker.allow(now));
  now += Breaker::first_pause;
  EXPECT_TRUE(breaker.allow(now));
  EXPECT_FALSE(breaker.allow(now));  // one probe at a time
  breaker.succeeded();
  EXPECT_FALSE(breaker.open());
  EXPECT_TRUE(breaker.allow(now));
}

TEST(Breaker, waits_longer_after_each_failed_probe_up_to_a_bound) {
  Breaker breaker;
  Breaker::Time now{};
  for (int i = 0; i < 5; ++i) breaker.failed(now);
  for (int i = 0; i < 10; ++i) {
    now += Breaker::longest_pause;
    ASSERT_TRUE(breaker.allow(now));
    breaker.failed(now);
  }
  EXPECT_FALSE(breaker.allow(now + Breaker::longest_pause - milliseconds(1)));
  EXPECT_TRUE(breaker.allow(now + Breaker::longest_pause));
}

TEST(Arrays, members_become_json_whatever_they_hold) {
  EXPECT_EQ(to_json({}), "{}");
  EXPECT_EQ(to_json({{"a", true}, {"b\"\\", std::string("x\n\x01\"é")}}), R"({"a":true,"b\"\\":"x\u000a\u0001\"é"})");
}

TEST(Arrays, carry_texts_byte_for_byte_with_their_lengths) {
  ArrayParameter array("text");
  array.add(Cell{std::string("a\"{")});
  array.add(Cell{});
  using namespace std::string_literals;
  EXPECT_EQ(array.take(), "\0\0\0\1\0\0\0\1\0\0\0\x19\0\0\0\2\0\0\0\1\0\0\0\3a\"{\xff\xff\xff\xff"s);
}

}  // namespace
}  // namespace onboarding::projections
