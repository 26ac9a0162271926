#include "events/privacy/new_key.hpp"

#include <sodium.h>

namespace onboarding::privacy {

SealingKey::~SealingKey() { sodium_memzero(bytes.data(), bytes.size()); }

SealingKeyPtr new_key(RandomSource& random) {
  auto key = std::make_shared<SealingKey>();
  std::array<std::uint8_t, 8> id{};
  random.fill(id);
  random.fill(key->bytes);
  char hex[2 * id.size() + 1];
  key->id = sodium_bin2hex(hex, sizeof hex, id.data(), id.size());
  return key;
}

}  // namespace onboarding::privacy
