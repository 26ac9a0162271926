// The installation's secrets and everything derived from them: tokens, blinded ids, hashes. All keyed derivation stands
// here, on libsodium; nobody else touches key material.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "events/domain/result.hpp"

namespace onboarding::privacy {

struct SessionToken {
  std::string session_id;
  std::uint32_t generation = 0;
};

class Secrets {
 public:
  ~Secrets();  // wipes
  Secrets(const Secrets&) = default;
  Secrets& operator=(const Secrets&) = default;

  /// Reads `master.key` (32 bytes, hex, mode 0600) in `folder`, making it when missing; sub-keys by crypto_kdf.
  static result<Secrets> load_or_create(const std::filesystem::path& folder);
  /// Reads `operator.key` beside it, making it when missing (32 random bytes, base64url, mode 0600).
  static result<std::string> load_or_create_operator_key(const std::filesystem::path& folder);
  /// From 32 given bytes: tests and simulation.
  static Secrets from_bytes(const std::array<std::uint8_t, 32>&);

  /// `ot1.<session id>.<generation>.<base64url HMAC>`: the same session and generation always give the same token.
  std::string session_token(std::string_view session_id, std::uint32_t generation) const;
  /// nullopt for anything that is not a token we made; constant time in the MAC. Whether the generation is still the
  /// newest is the session's business.
  std::optional<SessionToken> verify_session_token(std::string_view token) const;

  /// HMAC of a client's user_id: decides the partition, and finds a user's rows. Hex, 32 characters.
  std::string blinded_user_id(std::string_view user_id) const;
  /// The envelope's user key: whose sealing key, parking key and rows. A vouched user_id is one user over all sessions; one that
  /// nobody vouched for is a user of its own per session, so that naming somebody never shows or changes their data.
  std::string user_key(std::string_view user_id, bool vouched, std::string_view session_id) const;
  /// 16 bytes, derived: the ids of a repeated start. `purpose` separates uses.
  std::string derived16(std::string_view purpose, std::string_view input) const;
  /// Hex HMAC of an Idempotency-Key, 32 characters.
  std::string key_hash(std::string_view idempotency_key) const;

  std::array<std::uint8_t, 32> wrapping_key() const;  // of the key store
  std::array<std::uint8_t, 32> cursor_key() const;    // signs opaque cursors

 private:
  Secrets() = default;
  using Key = std::array<std::uint8_t, 32>;
  /// An HMAC's state with the key taken in: half of the work for a short text.
  using BegunMac = std::array<std::uint64_t, 26>;
  BegunMac token_{}, blinding_{}, user_{}, derivation_{}, request_{};  // of the sub-keys, made once
  Key wrapping_{}, cursor_{};
};

/// Hex SHA-256.
std::string sha256_hex(std::string_view);
/// Constant time over equal lengths.
bool equal_secret(std::string_view a, std::string_view b);

}  // namespace onboarding::privacy
