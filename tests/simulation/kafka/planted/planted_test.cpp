// Each planted bug is found within a bounded number of histories, and none is found where none was planted.
#include <gtest/gtest.h>

#include <cstdio>

#include "events/log/kafka/rules/planted.hpp"
#include "tests/simulation/kafka/partition_world.hpp"

namespace onboarding::simulation {
namespace {

using log::kafka::Plant;

constexpr std::uint64_t histories_at_most = 500;

/// How many histories it took; 0: not found.
std::uint64_t found_after(Plant bug) {
  log::kafka::planted_bug = bug;
  Tally tally;
  for (std::uint64_t seed = 1; seed <= histories_at_most; ++seed)
    if (const auto wrong = run_partition_world(seed, tally); !wrong.empty()) {
      std::printf("  seed %llu: %s\n", static_cast<unsigned long long>(seed), wrong.front().c_str());
      return seed;
    }
  return 0;
}

TEST(KafkaSimulationPlanted, nothing_is_found_where_nothing_is_planted) { EXPECT_EQ(found_after(Plant::none), 0u); }
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

}  // namespace
}  // namespace onboarding::simulation
