// What can be wrong with what the domain is given as data. Commands that are refused are domain::Rejection (session.hpp),
// values that are refused are domain::Refusal (fields.hpp).
#pragma once

#include <system_error>

namespace onboarding::domain {

enum class Errc {
  bad_flow = 1  // a flow that makes no sense; the detail names the field and the rule
};
std::error_code make_error_code(Errc);

}  // namespace onboarding::domain

template <>
struct std::is_error_code_enum<onboarding::domain::Errc> : std::true_type {};
