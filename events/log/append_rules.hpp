// What every adapter asks of an append before it looks at it. Pure.
#pragma once

#include <optional>

#include "events/log/event_log.hpp"

namespace onboarding::log {

/// Why the append can never be written (Errc::out_of_bounds), or nothing.
std::optional<Failure> objection(const Append&, std::uint32_t partitions);

}  // namespace onboarding::log
