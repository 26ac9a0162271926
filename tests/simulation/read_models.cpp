#include "tests/simulation/read_models.hpp"

#include <algorithm>

namespace onboarding::simulation {

using projections::Cell;

namespace {

Cell text(std::string_view value) { return std::string(value); }

}  // namespace

ReadModels::ReadModels(Projections projections) : projections_(std::move(projections)) {
  for (const auto& projection : projections_) folds_.emplace_back(*projection);
}

void ReadModels::apply(const codec::DecodedEvent& event) {
  for (std::size_t i = 0; i < projections_.size(); ++i) {
    projections::RowOperations operations;
    if (auto applied = projections_[i]->apply(event, operations); !applied) {
      complaints_.push_back(projections_[i]->name() + " refuses an event of " + event.stream + ": " + applied.error().message());
    }
    folds_[i].add(std::move(operations));
  }
}

std::vector<ReadModels::Row> ReadModels::rows(const std::string& table, const std::string& key_column,
                                              const std::string& key) const {
  std::vector<Row> found;
  for (const projections::Fold& fold : folds_) {
    for (const projections::FoldedTable& folded : fold.tables()) {
      const auto& columns = folded.table().columns;
      if (folded.table().name != table) continue;
      for (const projections::FoldedRow& row : folded.rows()) {
        Row named;
        for (std::size_t i = 0; i < columns.size(); ++i) {
          if (row.has(i)) named[columns[i].name] = row.cells[i];
        }
        if (row.mask != 0 && named[key_column] == text(key)) found.push_back(std::move(named));
      }
    }
  }
  return found;
}

std::vector<std::string> ReadModels::differences(const std::string& session, const std::string& user_key,
                                                 const domain::State& state,
                                                 const std::map<std::string, std::string>& newest) const {
  std::vector<std::string> found;
  const auto the_row = [&](const std::string& table, const std::string& key_column, const std::string& key) {
    auto all = rows(table, key_column, key);
    if (all.size() != 1) found.push_back(table + ": " + std::to_string(all.size()) + " rows");
    return all.empty() ? Row() : std::move(all.front());
  };
  const auto expect = [&](const std::string& table, Row& row, const std::string& column, const Cell& expected) {
    if (!(row[column] == expected)) found.push_back(table + "." + column + " is not what the session says");
  };

  // The conversation, and what of it counts until the completing reply's end.
  std::map<std::int64_t, std::vector<Cell>> said;
  said[1] = {text("assistant"), text(state.greeting.text), state.created_at, Cell{}};
  const auto completing =
      std::find_if(state.turns.begin(), state.turns.end(), [](const domain::Turn& turn) { return turn.is_complete; });
  const std::uint64_t completed_at_version = completing == state.turns.end() ? UINT64_MAX : completing->last_version;
  std::size_t total = 0, replies = 0, rejected = 0;
  for (const domain::Turn& turn : state.turns) {
    said[static_cast<std::int64_t>(turn.received_version)] = {text("user"), text(turn.text.text), turn.received_at,
                                                              text(turn.turn_id)};
    total += turn.received_version <= completed_at_version ? 1 : 0;
    rejected += turn.rejected.size();
    if (turn.replied_version == 0) continue;
    said[static_cast<std::int64_t>(turn.replied_version)] = {text("assistant"), text(turn.reply.text), turn.replied_at,
                                                             text(turn.turn_id)};
    total += turn.replied_version <= completed_at_version ? 1 : 0;
    ++replies;
  }
  std::map<std::int64_t, std::vector<Cell>> told;
  for (Row& row : rows("conversation_messages", "session_id", session)) {
    told[std::get<std::int64_t>(row["version"])] = {row["role"], row["text"], row["timestamp"], row["turn_id"]};
  }
  if (told != said) found.push_back("conversation_messages is another conversation");

  Row of_session = the_row("onboarding_sessions", "session_id", session);
  expect("onboarding_sessions", of_session, "status", text(to_string(state.status)));
  expect("onboarding_sessions", of_session, "user_key", text(user_key));
  expect("onboarding_sessions", of_session, "user_id", text(state.user_id.text));
  expect("onboarding_sessions", of_session, "vouched", state.vouched);
  expect("onboarding_sessions", of_session, "plan", text(state.plan));
  expect("onboarding_sessions", of_session, "flow", text(state.flow->name));
  expect("onboarding_sessions", of_session, "created_at", state.created_at);
  expect("onboarding_sessions", of_session, "completed_at", state.completed_at ? Cell{*state.completed_at} : Cell{});
  if ((state.status == domain::SessionStatus::abandoned) != (of_session["abandoned_at"].index() != 0))
    found.push_back("onboarding_sessions.abandoned_at");

  Row analytics = the_row("session_analytics", "session_id", session);
  const auto count = [&](const std::string& table, Row& row, const std::string& column, std::size_t expected) {
    const auto* counted = std::get_if<std::int64_t>(&row[column]);  // never counted: the column's default, 0
    if ((counted == nullptr ? 0 : *counted) != static_cast<std::int64_t>(expected))
      found.push_back(table + "." + column + " is another number");
  };
  count("onboarding_sessions", of_session, "total_messages_count", total);
  count("session_analytics", analytics, "user_messages", state.turns.size());
  count("session_analytics", analytics, "replies", replies);
  count("session_analytics", analytics, "fields_rejected", rejected);
  projections::Members filled;
  for (const auto& [name, field] : state.fields) {
    if (field.value) filled.emplace(name, true);
    else if (field.declined) filled.emplace(name, false);
  }
  if (!filled.empty()) expect("session_analytics", analytics, "filled_fields", filled);

  Row profile = the_row("user_profiles", "user_key", user_key);
  projections::Members values;
  for (const auto& [field, value] : newest) values.emplace(field, value);
  if (!values.empty()) expect("user_profiles", profile, "fields", values);
  return found;
}

}  // namespace onboarding::simulation
