#include "events/ids.hpp"

#include <charconv>

#include "events/domain/assertion.hpp"

namespace onboarding {
namespace {

// Crockford's alphabet in lower case, as in TypeID: no i, l, o, u, so that an id can be read aloud.
constexpr std::string_view alphabet = "0123456789abcdefghjkmnpqrstvwxyz";
constexpr std::size_t text_length = 26;
constexpr std::string_view session_prefix = "ses_";

/// 128 bits as 26 characters, most significant first (the first one holds three bits): text order is number order.
void append_base32(std::string& out, const std::uint8_t* bytes) {
  std::uint64_t high = 0, low = 0;
  for (int i = 0; i < 8; ++i) high = high << 8 | bytes[i];
  for (int i = 8; i < 16; ++i) low = low << 8 | bytes[i];
  for (int shift = 125; shift >= 0; shift -= 5) {
    const std::uint64_t bits =
        shift >= 64 ? high >> (shift - 64) : (shift > 59 ? high << (64 - shift) | low >> shift : low >> shift);
    out += alphabet[bits & 31];
  }
}

template <class Number>
bool read_decimal(std::string_view text, Number& number) {
  if (text.empty() || (text.size() > 1 && text[0] == '0')) return false;  // one position, one text
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc{} && end == text.data() + text.size();
}

}  // namespace

std::string to_string(Position position) { return std::to_string(position.partition) + ':' + std::to_string(position.sequence); }

std::optional<Position> parse_position(std::string_view text) {
  const auto colon = text.find(':');
  Position position;
  if (colon == text.npos || !read_decimal(text.substr(0, colon), position.partition) ||
      !read_decimal(text.substr(colon + 1), position.sequence))
    return std::nullopt;
  return position;
}

std::string make_session_id(std::uint32_t partition, std::string_view random16) {
  ONBOARDING_ASSERT(partition < 1000, "a session id has room for three digits of partition");
  ONBOARDING_ASSERT(random16.size() == 16, "a session id is made of 16 random bytes");
  std::string id;
  id.reserve(session_prefix.size() + 4 + text_length);
  id += session_prefix;
  for (const std::uint32_t digit : {partition / 100, partition / 10 % 10, partition % 10}) id += static_cast<char>('0' + digit);
  id += '_';
  append_base32(id, reinterpret_cast<const std::uint8_t*>(random16.data()));
  return id;
}

std::optional<std::uint32_t> partition_of_session(std::string_view id) {
  if (id.size() != session_prefix.size() + 4 + text_length || !id.starts_with(session_prefix) || id[7] != '_')
    return std::nullopt;
  std::uint32_t partition = 0;
  for (const char digit : id.substr(4, 3)) {
    if (digit < '0' || digit > '9') return std::nullopt;
    partition = partition * 10 + static_cast<std::uint32_t>(digit - '0');
  }
  const auto random = id.substr(8);
  if (random[0] > '7' || random.find_first_not_of(alphabet) != random.npos) return std::nullopt;
  return partition;
}

std::string make_id(std::string_view prefix, const Clock& clock, RandomSource& random) {
  std::uint8_t bytes[16];
  random.fill(bytes);
  const auto ms =
      static_cast<std::uint64_t>(std::chrono::floor<std::chrono::milliseconds>(clock.now()).time_since_epoch().count());
  for (int i = 0; i < 6; ++i) bytes[i] = static_cast<std::uint8_t>(ms >> (40 - 8 * i));
  bytes[6] = static_cast<std::uint8_t>((bytes[6] & 0x0f) | 0x70);  // UUID version 7
  bytes[8] = static_cast<std::uint8_t>((bytes[8] & 0x3f) | 0x80);  // RFC 9562 variant
  std::string id;
  id.reserve(prefix.size() + 1 + text_length);
  id += prefix;
  id += '_';
  append_base32(id, bytes);
  return id;
}

std::uint32_t partition_of_user(std::string_view blinded_user_id, std::uint32_t partitions) {
  ONBOARDING_ASSERT(partitions > 0, "a log has at least one partition");
  std::uint64_t hash = 14695981039346656037u;
  for (const char c : blinded_user_id) hash = (hash ^ static_cast<std::uint8_t>(c)) * 1099511628211u;
  return static_cast<std::uint32_t>(hash % partitions);
}

}  // namespace onboarding
