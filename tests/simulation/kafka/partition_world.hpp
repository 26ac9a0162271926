// One partition of a Kafka topic, several servers that want it, and a network that delays, loses, doubles and reorders what
// they send, also after their death. One seed decides everything.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "events/log/kafka/rules/owner.hpp"

namespace onboarding::simulation {

using Tally = std::map<std::string, std::uint64_t>;

/// What is wrong with the history of this seed; empty: it kept every promise. `tally` counts what it met.
std::vector<std::string> run_partition_world(std::uint64_t seed, Tally& tally);

}  // namespace onboarding::simulation
