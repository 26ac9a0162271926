// What must hold of every state that any sequence of commands can reach. Used by the properties and by the simulation.
#pragma once

#include <algorithm>
#include <set>
#include <string>

#include "events/domain/session.hpp"

namespace onboarding::domain::testing {

/// The first rule that is broken, as a sentence; empty when all hold.
inline std::string illegal(const State& state, const Limits& limits) {
  const auto concluded = [](const Turn& turn) {
    return turn.status == TurnStatus::answered || turn.status == TurnStatus::failed;
  };
  if (state.status == SessionStatus::none)
    return state.version == 0 && state.turns.empty() ? "" : "a session that never began has a history";
  if (!state.flow) return "a session without a flow";
  if (state.version == 0 || state.started_last_version == 0) return "a session without events";
  if (state.updated_at < state.created_at || state.last_activity < state.created_at || state.last_activity > state.updated_at)
    return "times go back";

  std::set<std::string> ids;
  bool behind_pending = false;
  std::size_t running = 0;
  std::size_t waiting = 0;
  std::uint64_t last_received = 0;
  for (const Turn& turn : state.turns) {
    if (!ids.insert(turn.turn_id).second) return "two turns have the same id";
    if (turn.received_version <= last_received) return "turns are out of order";
    last_received = turn.received_version;
    if (behind_pending && concluded(turn)) return "a turn was answered before an earlier one";
    if (behind_pending && turn.status == TurnStatus::running) return "a turn runs behind one that has no outcome";
    behind_pending = behind_pending || !concluded(turn);
    running += turn.status == TurnStatus::running ? 1 : 0;
    waiting += turn.status == TurnStatus::waiting ? 1 : 0;
    if (turn.activation > (turn.queued ? limits.max_queued_activations : limits.max_activations))
      return "a turn was activated more often than allowed";
    if ((turn.status == TurnStatus::waiting) != (turn.activation == 0) && state.status != SessionStatus::erased)
      return "a turn runs without an activation, or waits with one";
    if (state.status != SessionStatus::erased && concluded(turn) != (turn.replied_version > 0))
      return "a turn's outcome and its reply disagree";
    if (turn.replied_version > 0 && (turn.replied_version <= turn.received_version || turn.last_version < turn.replied_version))
      return "a reply came before its message";
    if (turn.error != (turn.status == TurnStatus::failed) && state.status != SessionStatus::erased)
      return "error flag and status disagree";
  }
  if (running > 1) return "two turns run at once";
  if (waiting > 0 && running == 0) return "a turn waits for nothing";
  if (waiting > limits.max_waiting_turns) return "more turns wait than may";
  if (state.turns.size() > limits.max_messages) return "more messages than allowed";

  for (const auto& [name, field] : state.fields) {
    const FieldSpec* spec = state.flow->find(name);
    if (!spec) return "a field that the flow does not have";
    if (field.declined && spec->required) return "a required field was declined";
    if (field.declined && field.value) return "a declined field has a value";
    if (!field.value) continue;
    const auto again = parse_field(*spec, field.value->canonical);
    if (!again || !(*again == *field.value)) return "the stored form of " + name + " is not its own stored form";
  }
  for (const std::string& field : state.asked)
    if (!state.flow->find(field)) return "asked for a field that the flow does not have";

  const Turn* pending = pending_turn(state);
  if ((pending != nullptr) != (running > 0)) return "pending turn and running turn disagree";
  const RecoveryIndex index = recovery_index(state, limits);
  if (index.open != (state.status == SessionStatus::active)) return "the recovery index is wrong about open";
  if (index.pending_turn != (pending != nullptr)) return "the recovery index is wrong about the pending turn";
  if (index.open && index.due_at != state.last_activity + limits.abandon_after)
    return "the recovery index is wrong about the due time";
  switch (state.status) {
    case SessionStatus::active: {
      if (state.completed_at) return "an active session is complete";
      const bool answered_once =
          std::any_of(state.turns.begin(), state.turns.end(), [](const Turn& t) { return t.status == TurnStatus::answered; });
      const auto open = missing_fields(state);
      const bool required_open =
          std::any_of(open.begin(), open.end(), [&](const std::string& f) { return state.flow->find(f)->required; });
      if (answered_once && !required_open) return "nothing is missing and the session is not complete";
      break;
    }
    case SessionStatus::completed:
      if (!state.completed_at || !is_complete(state)) return "a completed session is not complete";
      break;
    case SessionStatus::abandoned:
      if (state.completed_at) return "a complete session was abandoned";
      if (pending) return "an abandoned session has a pending turn";
      break;
    case SessionStatus::erased:
      if (pending) return "an erased session has a pending turn";
      if (!state.user_id.erased || !state.greeting.erased) return "an erased session knows its person";
      for (const auto& [name, field] : state.fields)
        if (field.value) return "an erased session knows " + name;
      for (const Turn& turn : state.turns)
        if (!turn.text.text.empty() || !turn.reply.text.empty() || !turn.extracted.empty())
          return "an erased session keeps texts";
      break;
    case SessionStatus::none: break;
  }
  return "";
}

}  // namespace onboarding::domain::testing
