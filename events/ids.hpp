// Identifiers: how they are made and what they carry.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "events/clock.hpp"

namespace onboarding {

/// A place in the log: sequence numbers are contiguous per partition and begin at 1. As text `partition:sequence`.
struct Position {
  std::uint32_t partition = 0;
  std::uint64_t sequence = 0;
  auto operator<=>(const Position&) const = default;
};
std::string to_string(Position);
/// nullopt unless exactly `<decimal>:<decimal>` within range.
std::optional<Position> parse_position(std::string_view);

/// `ses_<partition, three digits>_<26 characters of Crockford base 32>`: a session id carries its partition.
std::string make_session_id(std::uint32_t partition, std::string_view random16);
/// The partition of a well-formed session id; nullopt for anything else.
std::optional<std::uint32_t> partition_of_session(std::string_view session_id);

/// `<prefix>_<UUIDv7-ordered 26 characters of Crockford base 32>`, e.g. prefix "trn" for a turn.
std::string make_id(std::string_view prefix, const Clock&, RandomSource&);

/// Which partition a user's sessions live in: a stable hash (FNV-1a 64 over the bytes, then modulo) of the blinded user id.
std::uint32_t partition_of_user(std::string_view blinded_user_id, std::uint32_t partitions);

}  // namespace onboarding
