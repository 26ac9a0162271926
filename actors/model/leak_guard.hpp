// What must never come out of a model: the canary in the system prompt, and the lines of our instructions. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace onboarding::model {

/// Compared by letters and digits alone, whatever their case and whatever stands between them; the canary backwards and in base64, too.
/// A translation, a riddle or a summary passes.
class LeakGuard {
 public:
  /// An empty canary is none.
  explicit LeakGuard(std::string_view canary);

  bool leaks(std::string_view text) const;
  /// How many bytes at the end of the text may be the beginning of what must not come out.
  std::size_t beginning(std::string_view text) const;

 private:
  std::vector<std::string> never_;
};

}  // namespace onboarding::model
