#include "events/codec/sealing.hpp"

#include <sodium.h>

#include <charconv>

namespace onboarding::codec {
namespace {

constexpr std::size_t nonce_bytes = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES;
constexpr std::size_t tag_bytes = crypto_aead_xchacha20poly1305_ietf_ABYTES;
static_assert(nonce_bytes == 24 && tag_bytes == 16);

// libsodium picks its vectorised code in sodium_init(); without it everything works, several times slower.
const int sodium_ready = sodium_init();

unsigned char* bytes(std::string& s) { return reinterpret_cast<unsigned char*>(s.data()); }
const unsigned char* bytes(std::string_view s) { return reinterpret_cast<const unsigned char*>(s.data()); }

// Base64 by table: what is encoded here is ciphertext, no secret, so libsodium's constant-time one (six times slower)
// has nothing to protect.
constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr auto digit_of = [] {
  std::array<std::uint8_t, 256> table{};
  table.fill(0xFF);
  for (std::size_t i = 0; i < alphabet.size(); ++i) table[static_cast<unsigned char>(alphabet[i])] = static_cast<std::uint8_t>(i);
  return table;
}();

void append_base64(std::string& out, std::string_view data) {
  const std::size_t at = out.size();
  out.resize(at + (data.size() + 2) / 3 * 4);
  char* to = out.data() + at;
  const unsigned char* from = bytes(data);
  std::size_t left = data.size();
  for (; left >= 3; left -= 3, from += 3) {
    const unsigned v = unsigned{from[0]} << 16 | unsigned{from[1]} << 8 | from[2];
    *to++ = alphabet[v >> 18];
    *to++ = alphabet[v >> 12 & 63];
    *to++ = alphabet[v >> 6 & 63];
    *to++ = alphabet[v & 63];
  }
  if (left == 0) return;
  const unsigned v = unsigned{from[0]} << 16 | (left == 2 ? unsigned{from[1]} << 8 : 0);
  *to++ = alphabet[v >> 18];
  *to++ = alphabet[v >> 12 & 63];
  *to++ = left == 2 ? alphabet[v >> 6 & 63] : '=';
  *to = '=';
}

/// Canonical base64 with padding only: one text, one spelling.
bool from_base64(std::string_view text, std::string& out) {
  if (text.empty() || text.size() % 4 != 0) return false;
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  out.resize(text.size() / 4 * 3);
  auto* to = bytes(out);
  const auto* from = bytes(text);
  std::uint8_t bad = 0;
  const std::size_t whole = text.size() / 4 - (padding ? 1 : 0);
  for (std::size_t i = 0; i < whole; ++i, from += 4, to += 3) {
    const std::uint8_t a = digit_of[from[0]], b = digit_of[from[1]], c = digit_of[from[2]], d = digit_of[from[3]];
    bad |= static_cast<std::uint8_t>(a | b | c | d);
    to[0] = static_cast<std::uint8_t>(a << 2 | b >> 4);
    to[1] = static_cast<std::uint8_t>(b << 4 | c >> 2);
    to[2] = static_cast<std::uint8_t>(c << 6 | d);
  }
  if (padding) {
    const std::uint8_t a = digit_of[from[0]], b = digit_of[from[1]], c = padding == 1 ? digit_of[from[2]] : 0;
    bad |= static_cast<std::uint8_t>(a | b | c);
    if ((padding == 1 ? c & 3 : b & 15) != 0) return false;
    to[0] = static_cast<std::uint8_t>(a << 2 | b >> 4);
    to[1] = static_cast<std::uint8_t>(b << 4 | c >> 2);
  }
  out.erase(out.size() - padding);
  return bad < 64;
}

}  // namespace

Place::Place(std::string_view stream, std::uint64_t version, std::string_view type) {
  char number[20];
  const auto end = std::to_chars(number, number + sizeof number, version).ptr;
  bytes_.reserve(stream.size() + type.size() + 64);
  bytes_.append(stream).append("\n").append(number, end).append("\n");
  bytes_.append(type).append(".");
  member_at_ = bytes_.size();
}

std::string_view Place::of(std::string_view member) {
  bytes_.resize(member_at_);
  return bytes_.append(member);
}

void Sealer::append_sealed(std::string& out, std::string_view text, std::string_view place) {
  if (drawn_) {
    sodium_increment(nonce_.data(), nonce_.size());
  } else {
    nonces_.fill(nonce_);
    drawn_ = true;
  }
  bytes_.resize(nonce_bytes + text.size() + tag_bytes);
  std::copy(nonce_.begin(), nonce_.end(), bytes(bytes_));
  crypto_aead_xchacha20poly1305_ietf_encrypt(bytes(bytes_) + nonce_bytes, nullptr, bytes(text), text.size(), bytes(place),
                                             place.size(), nullptr, nonce_.data(), key_.bytes.data());
  append_base64(out, bytes_);
}

std::optional<std::string> open_sealed(const privacy::SealingKey& key, std::string_view base64, std::string_view place) {
  thread_local std::string sealed;  // ciphertext: nothing to wipe
  if (!from_base64(base64, sealed) || sealed.size() < nonce_bytes + tag_bytes) return std::nullopt;
  std::string text(sealed.size() - nonce_bytes - tag_bytes, '\0');
  const auto* data = bytes(std::string_view(sealed));
  if (crypto_aead_xchacha20poly1305_ietf_decrypt(bytes(text), nullptr, nullptr, data + nonce_bytes, sealed.size() - nonce_bytes,
                                                 bytes(place), place.size(), data, key.bytes.data()) != 0)
    return std::nullopt;
  return text;
}

}  // namespace onboarding::codec
