// Text that belongs to a person: sealed in the log, absent once the person's key is erased, never printed.
#pragma once

#include <chrono>
#include <string>

namespace onboarding::domain {

/// UTC, microseconds. The resolution that events carry.
using Timestamp = std::chrono::sys_time<std::chrono::microseconds>;

struct Personal {
  std::string text;     // empty when erased
  bool erased = false;  // the key is gone: the text can never be read again

  Personal() = default;
  Personal(std::string value) : text(std::move(value)) {}  // NOLINT: a text is a Personal text
  Personal(const char* value) : text(value) {}             // NOLINT
  static Personal forgotten() {
    Personal p;
    p.erased = true;
    return p;
  }
  bool operator==(const Personal&) const = default;
};

}  // namespace onboarding::domain
