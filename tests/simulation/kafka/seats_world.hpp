// Several servers that come, leave, die and freeze, a consumer group that deals partitions out to them late and at different times, and the log's
// partitions between them: who serves what is decided by the product's own rules (seat, owner, ledger). One seed decides everything.
#pragma once

#include "tests/simulation/kafka/partition_world.hpp"

namespace onboarding::simulation {

/// What is wrong with the history of this seed; empty: it kept every promise. `tally` counts what it met.
std::vector<std::string> run_seats_world(std::uint64_t seed, Tally& tally);

}  // namespace onboarding::simulation
