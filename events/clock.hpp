// The one way to the wall clock and to randomness outside tests. Everything else is handed a Clock or a RandomSource.
#pragma once

#include <cstdint>
#include <span>

#include "events/domain/personal.hpp"

namespace onboarding {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual domain::Timestamp now() const = 0;  // UTC; may jump
};

class RandomSource {
 public:
  virtual ~RandomSource() = default;
  virtual void fill(std::span<std::uint8_t>) = 0;  // thread-safe
};

/// The machine's. `system_random` is libsodium's CSPRNG, drawn in blocks a thread.
Clock& system_clock();
RandomSource& system_random();

}  // namespace onboarding
