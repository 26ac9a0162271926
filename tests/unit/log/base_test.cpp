// Ids, positions and fault points: small, and everything leans on them.
#include <sys/wait.h>
#include <unistd.h>

#include <set>
#include <thread>

#include "events/fault_point.hpp"
#include "events/ids.hpp"
#include "tests/unit/log/scratch.hpp"

namespace onboarding {
namespace {

std::string random_text(std::size_t size) {
  std::string bytes(size, '\0');
  system_random().fill({reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size()});
  return bytes;
}

TEST(SystemRandom, never_gives_the_same_bytes_twice_whatever_is_asked_for) {
  std::set<std::string> seen;
  for (const std::size_t size : {16, 24, 6, 32, 300, 5000})
    for (int i = 0; i < 1000; ++i) ASSERT_TRUE(seen.insert(random_text(size)).second) << size;
  std::set<std::string> others;
  std::thread([&] {
    for (int i = 0; i < 1000; ++i) others.insert(random_text(16));
  }).join();
  for (const std::string& bytes : others) EXPECT_FALSE(seen.contains(bytes));
}

TEST(SystemRandom, gives_a_forked_child_other_bytes_than_its_parent) {
  random_text(16);  // a block is drawn
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const std::string bytes = random_text(16);
    ::_exit(::write(ends[1], bytes.data(), bytes.size()) == 16 ? 0 : 1);
  }
  const std::string ours = random_text(16);
  std::string theirs(16, '\0');
  ASSERT_EQ(::read(ends[0], theirs.data(), theirs.size()), 16);
  ::close(ends[0]);
  ::close(ends[1]);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_NE(ours, theirs);
}

TEST(Ids, a_position_reads_back_as_it_was_written_and_nothing_else_is_one) {
  for (const Position position : {Position{0, 0}, Position{3, 567}, Position{UINT32_MAX, UINT64_MAX}})
    EXPECT_EQ(parse_position(to_string(position)), position);
  for (const char* text : {"", ":", "1", "1:", ":1", "1:2:3", " 1:2", "1:2 ", "-1:2", "+1:2", "01:2", "1:02", "4294967296:1",
                           "1:18446744073709551616", "a:b", "0x1:2"})
    EXPECT_FALSE(parse_position(text)) << text;
}

TEST(Ids, a_session_id_carries_its_partition_and_its_random_bits_in_order) {
  const std::string zeros(16, '\0'), ones(16, '\xff');
  EXPECT_EQ(make_session_id(7, zeros), "ses_007_00000000000000000000000000");
  EXPECT_EQ(make_session_id(999, ones), "ses_999_7zzzzzzzzzzzzzzzzzzzzzzzzz");
  std::string one = zeros;
  for (int bit = 0; bit < 128; ++bit) {
    std::string bytes = zeros;
    bytes[static_cast<std::size_t>(15 - bit / 8)] = static_cast<char>(1 << (bit % 8));
    std::string expected(26, '0');
    expected[static_cast<std::size_t>(25 - bit / 5)] = "1248g"[bit % 5];
    ASSERT_EQ(make_session_id(0, bytes).substr(8), expected) << bit;
  }
  EXPECT_EQ(partition_of_session("ses_023_7zzzzzzzzzzzzzzzzzzzzzzzzz"), 23u);
}

TEST(Ids, what_is_not_a_session_id_has_no_partition) {
  for (const char* text :
       {"", "ses_", "ses_7_00000000000000000000000000", "ses_007_0000000000000000000000000",
        "ses_007_000000000000000000000000000", "ses_007_80000000000000000000000000", "ses_007_0000000000000000000000000U",
        "ses_007_0000000000000000000000000u", "ses_-07_00000000000000000000000000", "trn_007_00000000000000000000000000",
        "ses_007-00000000000000000000000000"})
    EXPECT_FALSE(partition_of_session(text)) << text;
}

class StandingClock final : public Clock {
 public:
  domain::Timestamp now() const override { return domain::Timestamp(std::chrono::milliseconds(ms)); }
  std::int64_t ms = 1'700'000'000'000;
};

TEST(Ids, later_ids_sort_after_earlier_ones_and_two_of_one_moment_differ) {
  StandingClock clock;
  const std::string first = make_id("trn", clock, system_random()), same = make_id("trn", clock, system_random());
  ++clock.ms;
  const std::string later = make_id("trn", clock, system_random());
  EXPECT_EQ(first.size(), 30u);
  EXPECT_NE(first, same);
  EXPECT_LT(first, later);
  EXPECT_LT(same, later);
}

TEST(Ids, a_users_partition_never_changes) {
  // FNV-1a 64 of "a" is af63dc4c8601ec8c: logs live for ever, so must this.
  EXPECT_EQ(partition_of_user("a", 24), 0xaf63dc4c8601ec8cu % 24);
  EXPECT_EQ(partition_of_user("", 24), 14695981039346656037u % 24);
}

FaultPoint tested{"test.point"};

TEST(FaultPoints, one_fails_only_when_it_is_asked_to_and_at_the_pass_asked_for) {
  EXPECT_FALSE(tested.hit());
  FaultPoint::arm("test.point=error@2");
  EXPECT_FALSE(tested.hit());
  EXPECT_TRUE(tested.hit());
  EXPECT_FALSE(tested.hit());
  FaultPoint::arm("test.point=error,log.after_ack=delay:1");
  EXPECT_TRUE(tested.hit());
  EXPECT_TRUE(tested.hit());
  FaultPoint::arm("");
  EXPECT_FALSE(tested.hit());
}

TEST(FaultPoints, all_of_the_program_are_listed) {
  const auto names = FaultPoint::names();
  EXPECT_TRUE(std::ranges::is_sorted(names));
  EXPECT_TRUE(std::ranges::find(names, "test.point") != names.end());
  EXPECT_TRUE(std::ranges::find(names, "log.before_commit") != names.end());
}

TEST(FaultPointsDeathTest, a_name_or_an_action_that_does_not_exist_is_not_passed_over) {
  EXPECT_DEATH(FaultPoint::arm("test.point=explode"), "action");
  EXPECT_DEATH(FaultPoint::arm("test.point"), "name=action");
  EXPECT_DEATH(
      {
        FaultPoint::arm("test.pint=error");
        tested.hit();
      },
      "no fault point");
}

}  // namespace
}  // namespace onboarding
