// Each planted bug is found within a bounded number of histories, and none is found where none was planted.
#include <gtest/gtest.h>

#include <cstdio>

#include "events/log/kafka/rules/planted.hpp"
#include "tests/simulation/kafka/partition_world.hpp"
#include "tests/simulation/kafka/seats_world.hpp"

namespace onboarding::simulation {
namespace {

using log::kafka::Plant;

constexpr std::uint64_t histories_at_most = 500;

using Play = std::vector<std::string> (*)(std::uint64_t seed, Tally&);

/// How many histories it took; 0: not found.
std::uint64_t found_after(Plant bug, Play run = run_partition_world, std::uint64_t at_most = histories_at_most) {
  log::kafka::planted_bug = bug;
  Tally tally;
  for (std::uint64_t seed = 1; seed <= at_most; ++seed)
    if (const auto wrong = run(seed, tally); !wrong.empty()) {
      std::printf("  seed %llu: %s\n", static_cast<unsigned long long>(seed), wrong.front().c_str());
      return seed;
    }
  return 0;
}

TEST(KafkaSimulationPlanted, nothing_is_found_where_nothing_is_planted) {
  EXPECT_EQ(found_after(Plant::none), 0u);
  EXPECT_EQ(found_after(Plant::none, run_seats_world, 50), 0u);
}
TEST(KafkaSimulationPlanted, a_claim_tie_is_found) { EXPECT_NE(found_after(Plant::claim_tie), 0u); }
TEST(KafkaSimulationPlanted, an_acknowledgement_before_the_read_back_is_found) {
  EXPECT_NE(found_after(Plant::acknowledge_before_read_back), 0u);
}
TEST(KafkaSimulationPlanted, two_owners_that_serve_at_once_are_found) { EXPECT_NE(found_after(Plant::two_owners_serving), 0u); }
TEST(KafkaSimulationPlanted, a_gap_after_a_lost_record_is_found) { EXPECT_NE(found_after(Plant::gap_accepted), 0u); }
TEST(KafkaSimulationPlanted, an_append_in_doubt_that_is_taken_for_lost_is_found) {
  EXPECT_NE(found_after(Plant::in_doubt_taken_as_lost), 0u);
}
TEST(KafkaSimulationPlanted, a_read_before_its_barrier_was_read_back_is_found) {
  EXPECT_NE(found_after(Plant::barrier_without_read_back), 0u);
}
TEST(KafkaSimulationPlanted, a_reader_that_skips_a_message_is_found) { EXPECT_NE(found_after(Plant::resumed_ahead), 0u); }

TEST(KafkaSimulationPlanted, a_server_that_serves_what_it_lost_is_found) {
  EXPECT_NE(found_after(Plant::served_after_a_loss, run_seats_world), 0u);
}
TEST(KafkaSimulationPlanted, a_seat_that_never_claims_again_is_found) {
  EXPECT_NE(found_after(Plant::one_claim_only, run_seats_world), 0u);
}
TEST(KafkaSimulationPlanted, seats_that_are_swapped_without_end_are_found) {
  EXPECT_NE(found_after(Plant::hand_over_forgotten, run_seats_world), 0u);
}
TEST(KafkaSimulationPlanted, a_claim_tie_is_found_among_servers_that_come_and_go_too) {
  EXPECT_NE(found_after(Plant::claim_tie, run_seats_world), 0u);
}

}  // namespace
}  // namespace onboarding::simulation
