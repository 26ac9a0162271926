#include "events/clock.hpp"

#include <sodium.h>

#include "events/domain/assertion.hpp"

namespace onboarding {
namespace {

class SystemClock final : public Clock {
 public:
  domain::Timestamp now() const override {
    return std::chrono::floor<std::chrono::microseconds>(std::chrono::system_clock::now());
  }
};

class SystemRandom final : public RandomSource {
 public:
  SystemRandom() { ONBOARDING_ASSERT(sodium_init() >= 0, "the machine gives no randomness"); }
  void fill(std::span<std::uint8_t> bytes) override { randombytes_buf(bytes.data(), bytes.size()); }
};

}  // namespace

Clock& system_clock() {
  static SystemClock clock;
  return clock;
}

RandomSource& system_random() {
  static SystemRandom random;
  return random;
}

}  // namespace onboarding
