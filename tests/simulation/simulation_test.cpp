// ONBOARD_SIM_SEED=<n> runs that one history again; ONBOARD_SIM_SEEDS=<n> says how many are run; ONBOARD_SIM_FIRST where
// they begin.
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <cstdlib>

#include "tests/simulation/world.hpp"

namespace onboarding::simulation {
namespace {

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

const std::vector<std::string> every_fault = {
    "client repeats", "client repeats the start", "clock jumps back", "clock jumps forward", "crash", "keys unreachable",
    "keys unreachable while reading", "log: duplicate", "log: failed read", "log: fenced", "log: in doubt, lost", "log: in doubt, written",
    "log: late", "log: lost at crash", "log: refused", "log: slow read", "log: written at crash", "long silence", "model hangs",
    "model: claims completion", "model: garbage", "model: invents a bad value", "model: rate limited", "model: timeout",
    "model: unavailable", "model: unknown field", "model: wrong type"};

TEST(Simulation, every_history_keeps_every_promise) {
  spdlog::set_level(spdlog::level::off);
  const bool one = std::getenv("ONBOARD_SIM_SEED") != nullptr;
  const std::uint64_t first = one ? number_from("ONBOARD_SIM_SEED", 1) : number_from("ONBOARD_SIM_FIRST", 1);
  const std::uint64_t count = one ? 1 : number_from("ONBOARD_SIM_SEEDS", 150);
  Tally tally;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    World world(seed);
    const std::vector<std::string> violations = world.run();
    tally += world.tally;
    for (const std::string& violation : violations) ADD_FAILURE() << "ONBOARD_SIM_SEED=" << seed << ": " << violation;
    if (!violations.empty()) break;
  }
  std::printf("%llu histories, %llu sessions, %llu commands, %llu events, %llu model questions, %llu steps\n",
              static_cast<unsigned long long>(count), static_cast<unsigned long long>(tally.sessions),
              static_cast<unsigned long long>(tally.commands), static_cast<unsigned long long>(tally.events),
              static_cast<unsigned long long>(tally.asks), static_cast<unsigned long long>(tally.steps));
  for (const auto& [kind, times] : tally.faults) std::printf("  %-34s %llu\n", kind.c_str(), static_cast<unsigned long long>(times));
  for (const auto& [kind, times] : tally.answers) std::printf("  answer: %-26s %llu\n", kind.c_str(), static_cast<unsigned long long>(times));
  if (one || HasFailure()) return;
  for (const std::string& kind : every_fault) EXPECT_GT(tally.faults[kind], 0u) << kind << " never happened";
}

}  // namespace
}  // namespace onboarding::simulation
