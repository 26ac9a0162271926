// RFC 9457 problems: the one table from every folder's error codes to what a client is told.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "events/domain/result.hpp"
#include "http/reader.hpp"

namespace onboarding::http {

/// What can go wrong before anybody below is asked.
enum class Errc {
  malformed_json = 1,
  malformed_request,  // percent-encoding, query, Idempotency-Key …
  invalid,            // well-formed, but members are missing or wrong; errors[] says which
  unsupported_media_type,
  no_credential,
  bad_credential,
  forbidden,
  not_found,
  method_not_allowed,
  not_implemented,  // a method that HTTP does not know here
  throttled,
  overloaded,
  draining,
  too_many_connections,
  request_timeout,
  internal  // a bug, or damage that only an operator can mend
};
inline constexpr Errc last_errc = Errc::internal;
std::error_code make_error_code(Errc);

/// One line of the table.
struct ProblemKind {
  int status;
  std::string_view slug;  // the type is `urn:onboarding:problem:<slug>`
  std::string_view title;
  std::uint32_t retry_after_seconds = 0;  // 0: no Retry-After
  bool shows_detail = true;               // false: the detail is for the log only
};

/// Errc::internal's line for what no client can cause.
ProblemKind problem_kind(std::error_code);

struct InvalidMember {
  std::string pointer;  // JSON pointer (RFC 6901)
  std::string detail;
};

struct Problem {
  ProblemKind kind;
  std::string detail;
  std::vector<InvalidMember> errors;
  std::vector<std::pair<std::string_view, std::string>> headers = {};  // names in static storage
};

Problem problem_of(const Failure&);
Problem problem_of(Errc, std::string detail = {}, std::vector<InvalidMember> errors = {});
Problem problem_of(ReaderErrc);
/// The problem+json body.
std::string to_json(const Problem&, std::string_view instance, std::string_view request_id);

}  // namespace onboarding::http

template <>
struct std::is_error_code_enum<onboarding::http::Errc> : std::true_type {};
