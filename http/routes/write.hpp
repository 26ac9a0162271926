// Writing JSON answers.
#pragma once

#include <string>
#include <string_view>

#include "events/codec/json.hpp"
#include "events/domain/personal.hpp"
#include "http/message.hpp"

namespace onboarding::http {

using codec::JsonWriter;
using codec::write_key;
using codec::write_string;

inline void write_member(JsonWriter& w, std::string_view name, std::string_view text) {
  write_key(w, name);
  write_string(w, text);
}
// A literal would rather become a bool than a string_view.
inline void write_member(JsonWriter& w, std::string_view name, const char* text) {
  write_member(w, name, std::string_view(text));
}
inline void write_member(JsonWriter& w, std::string_view name, const std::string& text) {
  write_member(w, name, std::string_view(text));
}
inline void write_member(JsonWriter& w, std::string_view name, bool value) {
  write_key(w, name);
  w.Bool(value);
}
inline void write_member(JsonWriter& w, std::string_view name, double value) {
  write_key(w, name);
  w.Double(value);
}
template <class Integer>
requires std::is_integral_v<Integer> &&
    (!std::is_same_v<Integer, bool>)void write_member(JsonWriter& w, std::string_view name, Integer value) {
  write_key(w, name);
  if constexpr (std::is_signed_v<Integer>) w.Int64(value);
  else w.Uint64(value);
}

/// A list of objects; `write` fills each from its item.
template <class Items, class Write>
void write_objects(JsonWriter& w, std::string_view name, const Items& items, Write&& write) {
  write_key(w, name);
  w.StartArray();
  for (const auto& item : items) {
    w.StartObject();
    write(item);
    w.EndObject();
  }
  w.EndArray();
}

/// A response whose body is one object; `write` fills it.
template <class Write>
Response json_response(int status, Write&& write) {
  rapidjson::StringBuffer buffer;
  JsonWriter w(buffer);
  w.StartObject();
  write(w);
  w.EndObject();
  Response response;
  response.status = status;
  response.body.assign(buffer.GetString(), buffer.GetSize());
  return response;
}

/// A whole number in the query, within bounds; `fallback` when absent. Answers 422 and returns nullopt otherwise.
std::optional<std::uint64_t> query_number(const Responder&, std::string_view name, std::uint64_t fallback, std::uint64_t least,
                                          std::uint64_t most);

/// A time in the query; left as it is when absent. Answers 422 and returns false when it is none.
bool query_time(const Responder&, std::string_view name, std::optional<domain::Timestamp>& time);

}  // namespace onboarding::http
