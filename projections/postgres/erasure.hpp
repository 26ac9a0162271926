// A person's erasure where no runner brings it in its turn: behind a parked key, in tables that nobody follows. Private to
// projections/postgres.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "projections/core/writer.hpp"
#include "projections/postgres/generations.hpp"

namespace onboarding::projections {

/// What the projection does at this UserErased, as statements on its tables in `schema` (quoted): rows that are there are deleted
/// or changed, none is made. `quoted` makes a literal of a text.
std::vector<std::string> erasure_statements(const Projection&, const std::string& schema, const codec::DecodedEvent&,
                                            const std::function<std::string(const std::string&)>& quoted);

/// Erases these persons in all generations that nobody follows: replays, paused ones, those of another version. Each in a
/// transaction of its own, which also has a replay that is under way read anew. What a table refuses for good (its owner is
/// another one now) is noted with its generation; Errc::unavailable when it may work soon.
result<void> erase_where_nobody_follows(Pool&, const Generations&, std::span<const codec::DecodedEvent* const>);

}  // namespace onboarding::projections
