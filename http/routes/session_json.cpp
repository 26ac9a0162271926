#include "http/routes/session_json.hpp"

#include <algorithm>

namespace onboarding::http {

void write_names(JsonWriter& w, std::string_view name, const std::vector<std::string>& names) {
  write_key(w, name);
  w.StartArray();
  for (const auto& entry : names) write_string(w, entry);
  w.EndArray();
}

void write_value(JsonWriter& w, const domain::FieldValue& value) {
  const auto& text = value.canonical;
  switch (value.type) {
    case domain::FieldType::boolean: w.Bool(text == "true"); return;
    case domain::FieldType::integer:
    case domain::FieldType::number: w.RawValue(text.data(), text.size(), rapidjson::kNumberType); return;
    default: write_string(w, text);
  }
}

void write_place(JsonWriter& w, std::uint64_t version, Position position) {
  write_member(w, "version", version);
  write_member(w, "position", to_string(position));
}

void write_session(JsonWriter& w, const SessionSnapshot& session) {
  const auto& state = *session.state;
  write_member(w, "session_id", session.session_id);
  write_member(w, "user_id", state.user_id.text);
  write_member(w, "status", domain::to_string(state.status));
  write_member(w, "flow", state.flow->name);
  write_key(w, "fields");
  w.StartObject();
  for (const auto& spec : state.flow->fields) {
    const auto found = state.fields.find(spec.name);
    if (found == state.fields.end() || !found->second.value) continue;
    write_key(w, spec.name);
    write_value(w, *found->second.value);
  }
  w.EndObject();
  write_names(w, "missing", domain::missing_fields(state));
  write_member(w, "is_complete", domain::is_complete(state));
  write_place(w, state.version, session.position());
  write_member(w, "created_at", codec::format_time(state.created_at));
  write_member(w, "updated_at", codec::format_time(state.updated_at));
  if (state.completed_at) write_member(w, "completed_at", codec::format_time(*state.completed_at));
}

std::vector<Line> conversation(const domain::State& state) {
  std::vector<Line> lines;
  lines.reserve(state.turns.size() * 2 + 1);
  lines.push_back({"assistant", &state.greeting, 1, state.created_at, {}});
  for (const auto& turn : state.turns) {
    lines.push_back({"user", &turn.text, turn.received_version, turn.received_at, turn.turn_id});
    if (turn.replied_version != 0)
      lines.push_back({"assistant", &turn.reply, turn.replied_version, turn.replied_at, turn.turn_id});
  }
  std::stable_sort(lines.begin(), lines.end(), [](const Line& a, const Line& b) { return a.version < b.version; });
  return lines;
}

void write_line(JsonWriter& w, const Line& line) {
  w.StartObject();
  write_member(w, "role", line.role);
  write_member(w, "text", line.text->text);
  write_member(w, "version", line.version);
  write_member(w, "time", codec::format_time(line.time));
  if (!line.turn_id.empty()) write_member(w, "turn_id", line.turn_id);
  w.EndObject();
}

}  // namespace onboarding::http
