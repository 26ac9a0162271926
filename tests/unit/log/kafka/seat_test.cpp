#include <gtest/gtest.h>

#include "events/log/kafka/rules/seat.hpp"

namespace onboarding::log::kafka {
namespace {

using std::chrono::milliseconds;
using Do = Seat::Do;

const Seat::Patience patience{milliseconds(300), milliseconds(200), milliseconds(12'000)};
Seat::Time at(int ms) { return Seat::Time{} + milliseconds(ms); }

Seat owning_seat() {
  Seat seat(patience);
  seat.proposed(true, at(0));
  EXPECT_EQ(seat.next(false, at(0)), Do::claim);
  seat.claimed(true, at(1));
  return seat;
}

TEST(Seat, claims_at_once_what_was_dealt_to_it_and_nobody_holds) {
  Seat seat(patience);
  EXPECT_EQ(seat.next(false, at(0)), Do::nothing) << "nothing was dealt";
  seat.proposed(true, at(0));
  EXPECT_EQ(seat.next(false, at(0)), Do::claim);
  EXPECT_EQ(seat.next(false, at(1)), Do::nothing) << "one claim at a time";
  seat.claimed(true, at(5));
  EXPECT_TRUE(seat.settled());
  EXPECT_EQ(seat.next(true, at(6)), Do::nothing);
}

TEST(Seat, waits_a_moment_for_the_one_before_it_to_hand_over_and_then_claims_by_force) {
  Seat seat(patience);
  seat.proposed(true, at(0));
  EXPECT_EQ(seat.next(true, at(0)), Do::nothing);
  EXPECT_EQ(seat.next(true, at(299)), Do::nothing);
  Seat released = seat;
  EXPECT_EQ(released.next(false, at(100)), Do::claim) << "it was handed over";
  EXPECT_EQ(seat.next(true, at(300)), Do::claim);
}

TEST(Seat, claims_again_after_a_while_when_another_was_quicker_and_it_is_still_dealt_to_it) {
  Seat seat(patience);
  seat.proposed(true, at(0));
  ASSERT_EQ(seat.next(false, at(0)), Do::claim);
  seat.claimed(false, at(150));
  EXPECT_FALSE(seat.owned());
  EXPECT_EQ(seat.next(true, at(349)), Do::nothing);
  EXPECT_EQ(seat.next(true, at(350)), Do::claim);
}

TEST(Seat, hands_over_once_what_is_dealt_to_another) {
  Seat seat = owning_seat();
  seat.proposed(false, at(100));
  EXPECT_TRUE(seat.owned()) << "until it is handed over it is served";
  EXPECT_EQ(seat.next(true, at(100)), Do::hand_over);
  EXPECT_EQ(seat.next(true, at(101)), Do::nothing);
  seat.released();
  EXPECT_TRUE(seat.settled());
}

TEST(Seat, hands_over_a_claim_that_counted_only_after_it_was_dealt_to_another) {
  Seat seat(patience);
  seat.proposed(true, at(0));
  ASSERT_EQ(seat.next(false, at(0)), Do::claim);
  seat.proposed(false, at(1));
  seat.claimed(true, at(2));
  EXPECT_EQ(seat.next(true, at(2)), Do::hand_over);
}

TEST(Seat, leaves_what_it_lost_alone_for_long_unless_it_is_dealt_to_it_again) {
  Seat seat = owning_seat();
  seat.lost(at(7'000));
  EXPECT_EQ(seat.next(true, at(18'999)), Do::nothing) << "it was paused: the deal that it remembers is old";
  Seat released = seat;
  EXPECT_EQ(released.next(false, at(8'000)), Do::claim) << "it had been dealt to it again before it read of the loss";
  Seat dealt_again = seat;
  dealt_again.proposed(true, at(8'000));
  EXPECT_EQ(dealt_again.next(false, at(8'000)), Do::claim);
  EXPECT_EQ(seat.next(true, at(19'000)), Do::claim);
}

}  // namespace
}  // namespace onboarding::log::kafka
