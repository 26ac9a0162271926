// One sealed text, byte for byte as FORMAT.md says: base64 of nonce (24), ciphertext, tag (16); XChaCha20-Poly1305;
// associated data `stream \n version \n type.member`, so that a text opens only where it was put. Private to this folder.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "events/clock.hpp"
#include "events/privacy/key_store.hpp"

namespace onboarding::codec {

/// Where sealed texts of one event stand: the associated data. `type` is the one it was written under, and `member` the
/// path it was written under: upcasting moves neither.
class Place {
 public:
  Place(std::string_view stream, std::uint64_t version, std::string_view type);
  std::string_view of(std::string_view member);

 private:
  std::string bytes_;
  std::size_t member_at_;
};

/// Seals the texts of one record. 24 random bytes are drawn once; each text takes the next number as its nonce.
class Sealer {
 public:
  Sealer(const privacy::SealingKey& key, RandomSource& nonces) : key_(key), nonces_(nonces) {}
  void append_sealed(std::string& out, std::string_view text, std::string_view place);

 private:
  const privacy::SealingKey& key_;
  RandomSource& nonces_;
  std::array<std::uint8_t, 24> nonce_{};
  bool drawn_ = false;
  std::string bytes_;
};

/// nullopt when it was not sealed with this key in this place, or was altered.
std::optional<std::string> open_sealed(const privacy::SealingKey&, std::string_view base64, std::string_view place);

}  // namespace onboarding::codec
