// What can be wrong with a provider's configuration.
#pragma once

#include <system_error>

namespace onboarding::model {

enum class Errc {
  unsupported_provider = 1,  // this build has no adapter for it
  bad_settings               // a setting is missing or malformed; the detail names it
};
std::error_code make_error_code(Errc);

}  // namespace onboarding::model

template <>
struct std::is_error_code_enum<onboarding::model::Errc> : std::true_type {};
