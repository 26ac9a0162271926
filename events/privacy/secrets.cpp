#include "events/privacy/secrets.hpp"

#include <sodium.h>

#include <bit>
#include <charconv>
#include <type_traits>

#include "events/privacy/key_store.hpp"
#include "events/privacy/secret_file.hpp"

namespace onboarding::privacy {
namespace {

using Key = std::array<std::uint8_t, 32>;
using BegunMac = std::array<std::uint64_t, 26>;
using Mac = std::array<std::uint8_t, crypto_auth_hmacsha256_BYTES>;
static_assert(sizeof(crypto_auth_hmacsha256_state) == sizeof(BegunMac) &&
              std::is_trivially_copyable_v<crypto_auth_hmacsha256_state>);
static_assert(crypto_kdf_KEYBYTES == 32 && crypto_auth_hmacsha256_KEYBYTES == 32);

constexpr char kdf_context[crypto_kdf_CONTEXTBYTES + 1] = "onboardg";
// The sub-keys' numbers are part of the format: what was derived stays derived.
enum SubKey : std::uint64_t { token = 1, blinding, user, derivation, request, wrapping, cursor };

const unsigned char* bytes(std::string_view s) { return reinterpret_cast<const unsigned char*>(s.data()); }

/// HMAC-SHA-256 over parts, each with its length before it, so that no two lists of parts read the same.
Mac mac(const BegunMac& begun, std::initializer_list<std::string_view> parts) {
  auto state = std::bit_cast<crypto_auth_hmacsha256_state>(begun);
  for (const auto part : parts) {
    std::array<std::uint8_t, 8> length{};
    for (std::size_t i = 0; i < length.size(); ++i) length[i] = static_cast<std::uint8_t>(part.size() >> 8 * i);
    crypto_auth_hmacsha256_update(&state, length.data(), length.size());
    crypto_auth_hmacsha256_update(&state, bytes(part), part.size());
  }
  Mac out;
  crypto_auth_hmacsha256_final(&state, out.data());
  sodium_memzero(&state, sizeof state);
  return out;
}

std::string hex(const std::uint8_t* data, std::size_t size) {
  std::string out(2 * size + 1, '\0');
  sodium_bin2hex(out.data(), out.size(), data, size);
  out.pop_back();
  return out;
}

std::string base64url(const std::uint8_t* data, std::size_t size) {
  std::string out(sodium_base64_encoded_len(size, sodium_base64_VARIANT_URLSAFE_NO_PADDING), '\0');
  sodium_bin2base64(out.data(), out.size(), data, size, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
  out.pop_back();
  return out;
}

/// 32 characters of hex: 128 bits, enough that two users never meet.
std::string short_hex(const Mac& mac) { return hex(mac.data(), 16); }

}  // namespace

Secrets::~Secrets() {
  for (BegunMac* begun : {&token_, &blinding_, &user_, &derivation_, &request_}) sodium_memzero(begun->data(), sizeof *begun);
  for (Key* key : {&wrapping_, &cursor_}) sodium_memzero(key->data(), key->size());
}

Secrets Secrets::from_bytes(const Key& master) {
  Secrets secrets;
  const auto derive = [&](Key& key, SubKey number) {
    crypto_kdf_derive_from_key(key.data(), key.size(), number, kdf_context, master.data());
  };
  Key key;
  for (const auto& [begun, number] :
       {std::pair(&secrets.token_, token), std::pair(&secrets.blinding_, blinding), std::pair(&secrets.user_, user),
        std::pair(&secrets.derivation_, derivation), std::pair(&secrets.request_, request)}) {
    derive(key, number);
    crypto_auth_hmacsha256_state state;
    crypto_auth_hmacsha256_init(&state, key.data(), key.size());
    *begun = std::bit_cast<BegunMac>(state);
    sodium_memzero(&state, sizeof state);
  }
  sodium_memzero(key.data(), key.size());
  derive(secrets.wrapping_, wrapping);
  derive(secrets.cursor_, cursor);
  return secrets;
}

result<Secrets> Secrets::load_or_create(const std::filesystem::path& folder) {
  auto text = load_or_create_secret(folder / "master.key", [] {
    Key fresh;
    randombytes_buf(fresh.data(), fresh.size());
    auto line = hex(fresh.data(), fresh.size());
    sodium_memzero(fresh.data(), fresh.size());
    return line;
  });
  if (!text) return tl::unexpected(text.error());
  Key master;
  std::size_t size = 0;
  const bool read = sodium_hex2bin(master.data(), master.size(), text->data(), text->size(), nullptr, &size, nullptr) == 0 &&
                    size == master.size() && text->size() == 2 * master.size();
  sodium_memzero(text->data(), text->size());
  if (!read) return failure(Errc::bad_secret_file, "master.key does not hold 64 hex digits");
  Secrets secrets = from_bytes(master);
  sodium_memzero(master.data(), master.size());
  return secrets;
}

result<std::string> Secrets::load_or_create_operator_key(const std::filesystem::path& folder) {
  auto text = load_or_create_secret(folder / "operator.key", [] {
    Key fresh;
    randombytes_buf(fresh.data(), fresh.size());
    return base64url(fresh.data(), fresh.size());
  });
  if (text && text->size() < 32) return failure(Errc::bad_secret_file, "operator.key holds fewer than 32 characters");
  return text;
}

std::string Secrets::session_token(std::string_view session_id, std::uint32_t generation) const {
  const std::string number = std::to_string(generation);
  const Mac tag = mac(token_, {session_id, number});
  return "ot1." + std::string(session_id) + "." + number + "." + base64url(tag.data(), tag.size());
}

std::optional<SessionToken> Secrets::verify_session_token(std::string_view presented) const {
  constexpr std::string_view prefix = "ot1.";
  if (presented.size() > 256 || !presented.starts_with(prefix)) return std::nullopt;
  const std::string_view rest = presented.substr(prefix.size());
  const auto first = rest.find('.'), second = rest.find('.', first + 1);
  if (first == rest.npos || second == rest.npos) return std::nullopt;
  SessionToken token{std::string(rest.substr(0, first)), 0};
  const auto number = rest.substr(first + 1, second - first - 1);
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), token.generation);
  if (error != std::errc{} || end != number.data() + number.size()) return std::nullopt;
  // The one spelling that we give out: leading zeros and other base64 spellings of the MAC are not it.
  if (!equal_secret(session_token(token.session_id, token.generation), presented)) return std::nullopt;
  return token;
}

std::string Secrets::blinded_user_id(std::string_view user_id) const { return short_hex(mac(blinding_, {user_id})); }

std::string Secrets::user_key(std::string_view user_id, bool vouched, std::string_view session_id) const {
  return short_hex(vouched ? mac(user_, {"vouched", user_id}) : mac(user_, {"session", user_id, session_id}));
}

std::string Secrets::derived16(std::string_view purpose, std::string_view input) const {
  const Mac derived = mac(derivation_, {purpose, input});
  return std::string(reinterpret_cast<const char*>(derived.data()), 16);
}

std::string Secrets::key_hash(std::string_view idempotency_key) const { return short_hex(mac(request_, {idempotency_key})); }

Key Secrets::wrapping_key() const { return wrapping_; }
Key Secrets::cursor_key() const { return cursor_; }

std::string sha256_hex(std::string_view text) {
  std::array<std::uint8_t, crypto_hash_sha256_BYTES> hash;
  crypto_hash_sha256(hash.data(), bytes(text), text.size());
  return hex(hash.data(), hash.size());
}

bool equal_secret(std::string_view a, std::string_view b) {
  return a.size() == b.size() && sodium_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace onboarding::privacy
