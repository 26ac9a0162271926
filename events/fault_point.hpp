// Named places in every durable step where a test makes the process die, fail or wait (RocksDB's and etcd's failpoints).
// In production a fault point is one relaxed load. Switched on by environment ONBOARD_FAULT="name=action[@n][,…]":
// crash (SIGKILL to ourselves), error (the step reports failure), delay:<ms>; @n: at the n-th pass. Names stand in
// FORMAT.md's table of steps and are listed by `onboardd --fault-points`.
#pragma once

#include <atomic>
#include <string_view>
#include <vector>

namespace onboarding {

class FaultPoint {
 public:
  explicit FaultPoint(const char* name);  // registers; instances are namespace-scope statics
  /// Carries out what was asked for here; true when the step must report failure.
  bool hit() { return armed_any_.load(std::memory_order_relaxed) && hit_slow(); }
  const char* name() const { return name_; }
  static std::vector<std::string_view> names();
  /// For tests in process: arms from the same syntax as the environment; empty disarms all.
  static void arm(std::string_view specification);

 private:
  bool hit_slow();
  static std::atomic<bool> armed_any_;
  const char* name_;
};

}  // namespace onboarding
