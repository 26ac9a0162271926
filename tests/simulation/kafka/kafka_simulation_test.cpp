// ONBOARD_SIM_SEED=<n> runs that one history again; ONBOARD_SIM_SEEDS=<n> says how many are run.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "tests/simulation/kafka/partition_world.hpp"
#include "tests/simulation/kafka/seats_world.hpp"

namespace onboarding::simulation {
namespace {

using Play = std::vector<std::string> (*)(std::uint64_t seed, Tally&);

/// All seeds keep every promise, and each of these things is met often.
void keeps_every_promise(Play run, std::uint64_t usual, const std::vector<const char*>& met) {
  const char *one = std::getenv("ONBOARD_SIM_SEED"), *many = std::getenv("ONBOARD_SIM_SEEDS");
  const std::uint64_t first = one != nullptr ? std::strtoull(one, nullptr, 10) : 1;
  const std::uint64_t count = one != nullptr ? 1 : many != nullptr ? std::strtoull(many, nullptr, 10) : usual;
  Tally tally;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    const auto wrong = run(seed, tally);
    for (const auto& each : wrong) ADD_FAILURE() << "ONBOARD_SIM_SEED=" << seed << ": " << each;
    if (!wrong.empty()) return;
  }
  for (const auto& [what, times] : tally) std::printf("  %-32s %llu\n", what.c_str(), static_cast<unsigned long long>(times));
  if (count < 100) return;
  for (const char* what : met) EXPECT_GT(tally[what], count / 100) << "hardly ever met: " << what;
}

TEST(KafkaSimulation, every_history_of_a_partition_keeps_every_promise) {
  keeps_every_promise(run_partition_world, 6000,
                      {"claim",
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
                       "written though nobody was told"});
}

TEST(KafkaSimulation, servers_that_come_go_die_and_freeze_serve_every_partition_once_and_come_to_rest) {
  keeps_every_promise(run_seats_world, 300,
                      {"a claim by force",
                       "a claim of what is free",
                       "a dead member is given up",
                       "a deal comes late",
                       "a frozen member is given up",
                       "a hand-over",
                       "a leaving server dies",
                       "a server comes",
                       "a server dies",
                       "a server freezes",
                       "a server leaves",
                       "a server thaws",
                       "doubled",
                       "durable",
                       "fenced",
                       "gone in order",
                       "in doubt",
                       "lost",
                       "lost to another",
                       "nobody serves",
                       "overtaken",
                       "void claim"});
}

TEST(KafkaSimulation, the_same_seed_gives_the_same_history) {
  Tally first, second;
  for (Tally* tally : {&first, &second})
    for (std::uint64_t seed = 1; seed <= 20; ++seed)
      for (const Play world : {Play(run_partition_world), Play(run_seats_world)}) world(seed, *tally);
  EXPECT_EQ(first, second);
}

}  // namespace
}  // namespace onboarding::simulation
