#pragma once

#include "events/codec/json.hpp"

namespace onboarding::app {

/// A member of the object that is being written.
inline void write_text(codec::JsonWriter& w, std::string_view key, std::string_view value) {
  codec::write_key(w, key);
  codec::write_string(w, value);
}

}  // namespace onboarding::app
