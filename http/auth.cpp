#include "http/auth.hpp"

namespace onboarding::http {

namespace {

/// What is presented as a bearer token.
result<std::string_view> presented_token(const Request& request) {
  if (request.raw.repeats("authorization")) return failure(Errc::bad_credential, "Authorization is given more than once.");
  const auto header = request.header("authorization");
  if (!header) return failure(Errc::no_credential);
  constexpr std::string_view scheme = "bearer ";
  bool is_bearer = header->size() > scheme.size();
  for (std::size_t i = 0; is_bearer && i < scheme.size(); ++i) is_bearer = ((*header)[i] | 0x20) == scheme[i];
  if (!is_bearer) return failure(Errc::no_credential, "The scheme must be Bearer.");
  return header->substr(scheme.size());
}

}  // namespace

result<Credential> Authority::credential(const Request& request) const {
  const auto presented = presented_token(request);
  if (!presented) return tl::unexpected(presented.error());
  if (is_operator_key(*presented)) return Credential{.operator_key = true, .token = {}};
  if (auto token = secrets_.verify_session_token(*presented)) return Credential{.operator_key = false, .token = std::move(token)};
  return failure(Errc::bad_credential);
}

bool Authority::is_operator_key(std::string_view presented) const {
  return !operator_key_.empty() && privacy::equal_secret(presented, operator_key_);
}

bool Authority::is_operator(const Request& request) const {
  const auto presented = presented_token(request);
  return presented && is_operator_key(*presented);
}

std::optional<privacy::SessionToken> Authority::session_token(const Responder& responder, std::string_view session_id) const {
  auto found = credential(responder->request());
  if (!found) return responder->fail(found.error()), std::nullopt;
  if (!found->token) return responder->fail(Errc::bad_credential, "This route takes the session's token."), std::nullopt;
  if (found->token->session_id != session_id)
    return responder->fail(Errc::not_found), std::nullopt;  // somebody else's: as if it were not there
  return std::move(found->token);
}

bool Authority::operator_only(const Responder& responder) const {
  const auto found = credential(responder->request());
  if (!found) return responder->fail(found.error()), false;
  if (!found->operator_key) return responder->fail(Errc::forbidden), false;
  return true;
}

void for_user(const Authority& authority, Gateway& gateway, const Responder& responder, const std::string& user_id,
              std::function<void(projections::UserSelector)> then) {
  const auto found = authority.credential(responder->request());
  if (!found) return responder->fail(found.error());
  if (found->operator_key) return then({.user_key = {}, .user_id = user_id});
  gateway.get_session(found->token->session_id, found->token->generation,
                      [responder, user_id, then = std::move(then)](result<SessionSnapshot> session) {
                        if (!session) return responder->fail(session.error());
                        const auto& owner = session->state->user_id;
                        if (owner.erased || owner.text != user_id) return responder->fail(Errc::not_found);
                        then({.user_key = session->user_key, .user_id = user_id});
                      });
}

}  // namespace onboarding::http
