// The one door for JSON from outside: bounded, strict, then RapidJSON's document. Everything hostile (HTTP bodies, model
// answers, provider errors, flows, events) passes here. RapidJSON 1.1.0 has unfixed CVEs and unbounded recursion: a pass
// over the bytes checks depth, counts, token lengths, duplicate keys, NUL and UTF-8 before it sees them.
#pragma once

#include <rapidjson/document.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <chrono>
#include <optional>

#include <string>
#include <string_view>

#include "events/domain/result.hpp"

namespace onboarding::codec {

struct JsonLimits {
  std::size_t max_bytes = 1 << 20;
  std::size_t max_depth = 32;
  std::size_t max_values = 100'000;  // members and elements in all
  std::size_t max_string_bytes = 1 << 20;
  std::size_t max_number_chars = 32;
};

/// The document, or Errc::malformed / too_large with the byte offset and what is wrong there (never the text itself).
/// The root may be any value; whole numbers keep 64 bits; others are the nearest double. Reentrant.
result<rapidjson::Document> parse_json(std::string_view text, const JsonLimits& = {});

/// The same for a hot path: parsed where it lies, nothing copied. The document's strings point into `text`, which is
/// overwritten and must outlive it.
result<void> parse_json_in_place(std::string& text, rapidjson::Document& document, const JsonLimits& = {});

/// Members sorted by name, no white space, strings escaped one way only: equal content gives equal bytes. For fingerprints.
std::string canonical_json(const rapidjson::Value&);
/// Appends `text` as a JSON string. False when it is not is_text(): what is ill-formed then reads U+FFFD.
bool append_string(std::string& out, std::string_view text);
/// Well-formed UTF-8 (no surrogates, nothing overlong) without a NUL: what may stand in a JSON string here.
bool is_text(std::string_view);

// Small readers over objects: nullptr / fallback when the member is missing or of another type.
const rapidjson::Value* find_member(const rapidjson::Value& object, std::string_view name);
std::string_view string_member(const rapidjson::Value& object, std::string_view name, std::string_view fallback = {});
std::int64_t int_member(const rapidjson::Value& object, std::string_view name, std::int64_t fallback = 0);
bool bool_member(const rapidjson::Value& object, std::string_view name, bool fallback = false);

using JsonWriter = rapidjson::Writer<rapidjson::StringBuffer>;
inline void write_key(JsonWriter& w, std::string_view key) { w.Key(key.data(), static_cast<rapidjson::SizeType>(key.size())); }
inline void write_string(JsonWriter& w, std::string_view s) { w.String(s.data(), static_cast<rapidjson::SizeType>(s.size())); }
inline std::string_view written(const rapidjson::StringBuffer& b) { return {b.GetString(), b.GetSize()}; }

/// RFC 3339 in UTC with microseconds: 2026-11-21T13:48:00.123456Z.
std::string format_time(std::chrono::sys_time<std::chrono::microseconds>);
std::optional<std::chrono::sys_time<std::chrono::microseconds>> parse_time(std::string_view);

}  // namespace onboarding::codec
