#include "events/domain/text.hpp"

#include <cstdint>

namespace onboarding::domain {

namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD";

/// The length of the well-formed sequence at `at`, 0 when it is malformed; `code_point` is set when it is well-formed.
std::size_t sequence_at(std::string_view bytes, std::size_t at, std::uint32_t& code_point) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(bytes[i]); };
  const std::uint8_t first = byte(at);
  if (first < 0x80) {
    code_point = first;
    return 1;
  }
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || at + length > bytes.size()) return 0;
  code_point = first & (0xFFU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0U) != 0x80U) return 0;
    code_point = (code_point << 6U) | (byte(at + i) & 0x3FU);
  }
  const bool overlong = (length == 3 && code_point < 0x800) || (length == 4 && code_point < 0x10000);
  const bool surrogate = code_point >= 0xD800 && code_point <= 0xDFFF;
  return overlong || surrogate || code_point > 0x10FFFF ? 0 : length;
}

bool shows_nothing(std::uint32_t c) {
  return c <= 0x20 || c == 0x7F || (c >= 0x80 && c <= 0xA0) || c == 0xAD || c == 0x034F || c == 0x061C || c == 0x1680 ||
         c == 0x180E || (c >= 0x2000 && c <= 0x200F) || (c >= 0x2028 && c <= 0x202F) || (c >= 0x205F && c <= 0x206F) ||
         c == 0x2800 || c == 0x3000 || c == 0x3164 || (c >= 0xFE00 && c <= 0xFE0F) || c == 0xFEFF || c == 0xFFA0;
}

}  // namespace

bool is_text(std::string_view bytes) {
  std::uint32_t code_point = 0;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t length = sequence_at(bytes, at, code_point);
    if (length == 0 || code_point == 0) return false;
    at += length;
  }
  return true;
}

bool is_blank(std::string_view bytes) {
  std::uint32_t code_point = 0;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t length = sequence_at(bytes, at, code_point);
    if (length == 0 || !shows_nothing(code_point)) return false;
    at += length;
  }
  return true;
}

std::string to_text(std::string_view bytes, std::size_t max_bytes) {
  if (bytes.size() <= max_bytes && is_text(bytes)) return std::string(bytes);
  std::string out;
  std::uint32_t code_point = 0;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t length = sequence_at(bytes, at, code_point);
    const bool good = length != 0 && code_point != 0;
    const std::string_view piece = good ? bytes.substr(at, length) : replacement;
    if (out.size() + piece.size() > max_bytes) break;
    out += piece;
    at += good ? length : 1;
  }
  return out;
}

std::string ascii_lower(std::string_view bytes) {
  std::string out(bytes);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

std::string enumerate(const std::vector<std::string>& things, std::string_view last_separator) {
  std::string out;
  for (std::size_t i = 0; i < things.size(); ++i) {
    if (i > 0) out += i + 1 == things.size() ? last_separator : std::string_view(", ");
    out += things[i];
  }
  return out;
}

}  // namespace onboarding::domain
