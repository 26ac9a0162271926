// A session and its conversation as JSON: the same wherever they are shown.
#pragma once

#include <string_view>
#include <vector>

#include "actors/gateway.hpp"
#include "http/routes/write.hpp"

namespace onboarding::http {

void write_names(JsonWriter&, std::string_view name, const std::vector<std::string>& names);
/// Stored values are canonical: what is a number or a truth value there is one in JSON, too.
void write_value(JsonWriter&, const domain::FieldValue&);
void write_place(JsonWriter&, std::uint64_t version, Position);
/// The members of GET …/sessions/{id}.
void write_session(JsonWriter&, const SessionSnapshot&);

/// One line of a conversation. Points into the state.
struct Line {
  std::string_view role;
  const domain::Personal* text;
  std::uint64_t version;
  domain::Timestamp time;
  std::string_view turn_id;
};
/// Oldest first.
std::vector<Line> conversation(const domain::State&);
/// As one object.
void write_line(JsonWriter&, const Line&);

}  // namespace onboarding::http
