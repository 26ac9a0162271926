// Stops asking a database that does not answer: opens after five failures in a row, lets one probe through when its time
// has come, closes when that succeeds. Pure: time comes in. Not thread-safe.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace onboarding::projections {

class Breaker {
 public:
  using Time = std::chrono::steady_clock::time_point;
  static constexpr std::uint32_t failures_to_open = 5;
  static constexpr std::chrono::milliseconds first_pause{500}, longest_pause{4000};

  bool open() const { return failures_ >= failures_to_open; }
  /// Whether to try now. While open, true for one caller per pause: the probe, which ends in succeeded() or failed().
  bool allow(Time now) {
    if (!open()) return true;
    if (now < next_probe_) return false;
    next_probe_ = now + pause_;
    return true;
  }
  void succeeded() {
    failures_ = 0;
    pause_ = first_pause;
  }
  void failed(Time now) {
    if (open()) pause_ = std::min(pause_ * 2, longest_pause);
    if (failures_ < failures_to_open) ++failures_;
    next_probe_ = now + pause_;
  }

 private:
  std::uint32_t failures_ = 0;
  std::chrono::milliseconds pause_ = first_pause;
  Time next_probe_{};
};

}  // namespace onboarding::projections
