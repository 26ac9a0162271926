// Where a session stands among those who wait for a model's budget: who began first is served first. Pure, and known from the
// events alone, so that the order is the same after a restart.
#pragma once

#include "events/domain/session.hpp"

namespace onboarding::session {

/// Since when the turn's session stands in line: since it began, since it came back after a pause as long as an abandonment, or since
/// it was complete. That place is good for twice as many turns as the flow has fields; any later one stands where its own
/// message came, so that nobody holds up the others by talking. `now`: of a turn that is not in the state yet.
domain::Timestamp place_in_line(const domain::State&, std::string_view turn_id, domain::Timestamp now,
                                std::chrono::seconds abandon_after);

}  // namespace onboarding::session
