#include "actors/session/place_in_line.hpp"

#include <algorithm>

namespace onboarding::session {

domain::Timestamp place_in_line(const domain::State& state, std::string_view turn_id, domain::Timestamp now,
                                std::chrono::seconds abandon_after) {
  auto came = state.created_at, last = state.created_at;
  std::size_t turns = 0;
  const auto next = [&](domain::Timestamp received) {
    const bool completed = state.completed_at && came < *state.completed_at && received > *state.completed_at;
    if (received - last > abandon_after) came = received, turns = 0;
    else if (completed) came = *state.completed_at, turns = 0;
    return ++turns > 2 * state.flow->fields.size() ? received : came;
  };
  for (const auto& turn : state.turns) {
    const auto place = next(turn.received_at);
    if (turn.turn_id == turn_id) return place;
    last = std::max({last, turn.received_at, turn.replied_at});
  }
  return next(now);
}

}  // namespace onboarding::session
