// measured.json, as the program was built with it.
#pragma once

#include <string_view>

namespace onboarding::app {

/// name → {"value", "unit", "from": the command that measures it}
std::string_view measured_json();

}  // namespace onboarding::app
