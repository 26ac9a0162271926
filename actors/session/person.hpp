// Whose sessions are meant, as the log names people.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

namespace onboarding::session {

struct Person {
  std::uint32_t partition = 0;  // all of a user_id's sessions lie in one
  std::string user_key;         // empty: all who go by the user_id
  std::string blinded_user_id;  // empty when it is by key
  /// Only sessions that began up to this sequence of the partition: of an erasure that is finished later, perhaps when the person is back.
  std::uint64_t until = std::numeric_limits<std::uint64_t>::max();

  bool is_bounded() const { return until != std::numeric_limits<std::uint64_t>::max(); }
  bool is(std::string_view key, std::string_view blinded) const {
    return user_key.empty() ? blinded == blinded_user_id : key == user_key;
  }
};

}  // namespace onboarding::session
