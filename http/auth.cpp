#include "http/auth.hpp"

namespace onboarding::http {

result<Credential> Authority::credential(const Request& request) const {
  if (request.raw.repeats("authorization")) return failure(Errc::bad_credential, "Authorization is given more than once.");
  const auto header = request.header("authorization");
  if (!header) return failure(Errc::no_credential);
  constexpr std::string_view scheme = "bearer ";
  bool is_bearer = header->size() > scheme.size();
  for (std::size_t i = 0; is_bearer && i < scheme.size(); ++i) is_bearer = ((*header)[i] | 0x20) == scheme[i];
  if (!is_bearer) return failure(Errc::no_credential, "The scheme must be Bearer.");
  const auto presented = header->substr(scheme.size());
  if (!operator_key_.empty() && privacy::equal_secret(presented, operator_key_)) return Credential{.operator_key = true, .token = {}};
  if (auto token = secrets_.verify_session_token(presented)) return Credential{.operator_key = false, .token = std::move(token)};
  return failure(Errc::bad_credential);
}

bool Authority::is_operator(const Request& request) const {
  const auto found = credential(request);
  return found && found->operator_key;
}

std::optional<privacy::SessionToken> Authority::session_token(const Responder& responder, std::string_view session_id) const {
  auto found = credential(responder->request());
  if (!found) return responder->fail(found.error()), std::nullopt;
  if (!found->token) return responder->fail(Errc::bad_credential, "This route takes the session's token."), std::nullopt;
  if (found->token->session_id != session_id) return responder->fail(Errc::not_found), std::nullopt;  // somebody else's: as if it were not there
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
  gateway.get_session(found->token->session_id, found->token->generation, [responder, user_id, then = std::move(then)](result<SessionSnapshot> session) {
    if (!session) return responder->fail(session.error());
    const auto& owner = session->state->user_id;
    if (owner.erased || owner.text != user_id) return responder->fail(Errc::not_found);
    then({.user_key = session->user_key, .user_id = user_id});
  });
}

}  // namespace onboarding::http
