// How an operation that can fail answers: a value, or a Failure. One alias for the whole project.
//
// Each folder has an error enum (`errc.hpp`) registered as a std::error_code category whose message() is one
// sentence per code; http/ maps codes to problems in one table. `detail` says what exactly: it may reach a log and a
// client, so it never holds personal data.
#pragma once

#include <string>
#include <system_error>
#include <tl/expected.hpp>
#include <utility>

namespace onboarding {

struct Failure {
  std::error_code code;
  std::string detail;

  /// The code's sentence, and the detail where there is one.
  std::string message() const { return detail.empty() ? code.message() : code.message() + ": " + detail; }
};

template <class T = void>
using result = tl::expected<T, Failure>;

inline tl::unexpected<Failure> failure(std::error_code code, std::string detail = {}) {
  return tl::unexpected<Failure>(Failure{code, std::move(detail)});
}

}  // namespace onboarding
