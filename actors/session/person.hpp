// Whose sessions are meant, as the log names people.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace onboarding::session {

struct Person {
  std::uint32_t partition = 0;  // all of a user_id's sessions lie in one
  std::string user_key;         // empty: all who go by the user_id
  std::string blinded_user_id;  // empty when it is by key

  bool is(std::string_view key, std::string_view blinded) const {
    return user_key.empty() ? blinded == blinded_user_id : key == user_key;
  }
};

}  // namespace onboarding::session
