// ONBOARD_SIM_SEED=<n> runs that one history again; ONBOARD_SIM_SEEDS=<n> says how many are run.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "tests/simulation/kafka/partition_world.hpp"

namespace onboarding::simulation {
namespace {

TEST(KafkaSimulation, every_history_of_a_partition_keeps_every_promise) {
  const char *one = std::getenv("ONBOARD_SIM_SEED"), *many = std::getenv("ONBOARD_SIM_SEEDS");
  const std::uint64_t first = one != nullptr ? std::strtoull(one, nullptr, 10) : 1;
  const std::uint64_t count = one != nullptr ? 1 : many != nullptr ? std::strtoull(many, nullptr, 10) : 6000;
  Tally tally;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    const auto wrong = run_partition_world(seed, tally);
    for (const auto& each : wrong) ADD_FAILURE() << "ONBOARD_SIM_SEED=" << seed << ": " << each;
    if (!wrong.empty()) return;
  }
  for (const auto& [what, times] : tally) std::printf("  %-32s %llu\n", what.c_str(), static_cast<unsigned long long>(times));
  if (count < 100) return;
  for (const char* what : {"claim",
                           "conflict",
                           "crash",
                           "delivered again",
                           "delivered too early",
                           "doubled",
                           "durable",
                           "fenced",
                           "hand-over",
                           "in doubt",
                           "linear read",
                           "lost",
                           "overtaken",
                           "pause",
                           "read refused",
                           "restart with its cache",
                           "restart without a cache",
                           "void claim",
                           "void other",
                           "void record",
                           "written though nobody was told"})
    EXPECT_GT(tally[what], count / 100) << "hardly ever met: " << what;
}

TEST(KafkaSimulation, the_same_seed_gives_the_same_history) {
  Tally first, second;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) run_partition_world(seed, first);
  for (std::uint64_t seed = 1; seed <= 20; ++seed) run_partition_world(seed, second);
  EXPECT_EQ(first, second);
}

}  // namespace
}  // namespace onboarding::simulation
