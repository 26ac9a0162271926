// Each planted bug is found within a bounded number of histories, and none is found where none was planted.
// A bug may also end the process by an assertion: each is looked for in a child process.
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

#include "actors/session/planted.hpp"
#include "tests/simulation/world.hpp"

namespace onboarding::simulation {
namespace {

using session::Plant;

constexpr std::uint64_t histories_at_most = 200;
// A history takes some 30 ms: a bug that makes one hang is found by this.
constexpr unsigned seconds_at_most = 30;

/// How many histories it took; 0: not found.
std::uint64_t found_after(Plant bug) {
  for (std::uint64_t seed = 1; seed <= histories_at_most; ++seed) {
    std::fflush(nullptr);
    const pid_t child = fork();
    if (child == 0) {
      spdlog::set_level(spdlog::level::off);
      if (!std::freopen("/dev/null", "w", stderr)) _exit(3);
      alarm(seconds_at_most);
      session::planted_bug = bug;
      int status = 0;
      {
        World world(seed);
        const auto violations = world.run();
        if (!violations.empty()) {
          std::printf("  seed %llu: %s\n", static_cast<unsigned long long>(seed), violations.front().c_str());
          std::fflush(stdout);
          status = 1;
        }
      }
      _exit(status);
    }
    int status = 0;
    if (waitpid(child, &status, 0) != child) return 0;
    if (WIFSIGNALED(status))
      std::printf("  seed %llu: an assertion ended it, or it did not end\n", static_cast<unsigned long long>(seed));
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return seed;
  }
  return 0;
}

class Planted : public testing::TestWithParam<std::pair<const char*, Plant>> {};

TEST_P(Planted, is_found_by_the_simulation) {
  const std::uint64_t histories = found_after(GetParam().second);
  EXPECT_GT(histories, 0u) << GetParam().first << " was not found in " << histories_at_most << " histories";
}

INSTANTIATE_TEST_SUITE_P(Bug, Planted,
                         testing::Values(std::pair("acknowledge_before_durable", Plant::acknowledge_before_durable),
                                         std::pair("lost_timer", Plant::lost_timer),
                                         std::pair("skipped_version_check", Plant::skipped_version_check),
                                         std::pair("double_answer", Plant::double_answer),
                                         std::pair("activation_not_counted", Plant::activation_not_counted),
                                         std::pair("stale_outcome_accepted", Plant::stale_outcome_accepted),
                                         std::pair("repeat_without_key", Plant::repeat_without_key),
                                         std::pair("passivation_without_handshake", Plant::passivation_without_handshake),
                                         std::pair("token_generation_not_checked", Plant::token_generation_not_checked),
                                         std::pair("time_going_back", Plant::time_going_back)),
                         [](const auto& info) { return info.param.first; });

TEST(PlantedNone, nothing_is_found_where_nothing_was_planted) {
  spdlog::set_level(spdlog::level::off);
  for (std::uint64_t seed = 1; seed <= 3; ++seed) EXPECT_TRUE(World(seed).run().empty());
}

}  // namespace
}  // namespace onboarding::simulation
