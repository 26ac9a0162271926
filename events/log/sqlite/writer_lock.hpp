// Only one process writes a log: an advisory lock on `<path>.lock` that ends with its holder, however that ends.
#pragma once

#include <string>
#include <utility>

#include "events/log/event_log.hpp"

namespace onboarding::log {

class WriterLock {
 public:
  /// Errc::locked with the holder's process id.
  static result<WriterLock> take(const std::string& path);
  WriterLock(WriterLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  ~WriterLock();

 private:
  explicit WriterLock(int descriptor) : descriptor_(descriptor) {}
  int descriptor_;
};

}  // namespace onboarding::log
