// Credentials: who asks, and whether he may. `Authorization: Bearer <operator key | session token>`.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "actors/gateway.hpp"
#include "events/privacy/secrets.hpp"
#include "http/message.hpp"
#include "projections/queries.hpp"

namespace onboarding::http {

struct Credential {
  bool operator_key = false;
  std::optional<privacy::SessionToken> token;
};

class Authority {
 public:
  Authority(const privacy::Secrets& secrets, std::string operator_key)
      : secrets_(secrets), operator_key_(std::move(operator_key)) {}

  /// The credential that came with the request. Errc::no_credential without one, Errc::bad_credential for one that is
  /// malformed, forged or wrong. Comparisons take constant time.
  result<Credential> credential(const Request&) const;
  bool is_operator(const Request&) const;

  /// A token for exactly this session (api.md's S). Answers 401, or 404 for another session's token, and returns nullopt.
  std::optional<privacy::SessionToken> session_token(const Responder&, std::string_view session_id) const;
  /// The operator key (A, O). Answers 401 or 403 and returns false.
  bool operator_only(const Responder&) const;

 private:
  bool is_operator_key(std::string_view presented) const;

  const privacy::Secrets& secrets_;
  const std::string operator_key_;
};

/// The operator or application key, or the token of a session of that user (U). `then` gets whose rows may be read; anything
/// else is answered here: 401, or 404 for somebody else's.
void for_user(const Authority&, Gateway&, const Responder&, const std::string& user_id,
              std::function<void(projections::UserSelector)> then);

}  // namespace onboarding::http
