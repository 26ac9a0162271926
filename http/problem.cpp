#include "http/problem.hpp"

#include <array>

#include "actors/gateway.hpp"
#include "events/codec/codec.hpp"
#include "events/codec/json.hpp"
#include "events/log/event_log.hpp"
#include "events/privacy/key_store.hpp"
#include "projections/queries.hpp"

namespace onboarding::http {
namespace {

constexpr ProblemKind internal{500, "internal", "Something went wrong on our side", 0, false};
constexpr ProblemKind unavailable{503, "unavailable", "Not available at the moment", 2, false};

ProblemKind kind_of(Errc code) {
  switch (code) {
    case Errc::malformed_json: return {400, "malformed-json", "The body is not the JSON that this route takes"};
    case Errc::malformed_request: return {400, "malformed-request", "The request is malformed"};
    case Errc::invalid: return {422, "invalid", "The request is well-formed, but something in it is not valid"};
    case Errc::unsupported_media_type: return {415, "unsupported-media-type", "The body must be application/json"};
    case Errc::no_credential: return {401, "unauthorized", "A credential is needed"};
    case Errc::bad_credential: return {401, "unauthorized", "The credential is not valid"};
    case Errc::forbidden: return {403, "forbidden", "This credential may not do that"};
    case Errc::not_found: return {404, "not-found", "There is no such thing here"};
    case Errc::method_not_allowed: return {405, "method-not-allowed", "This method is not for this path"};
    case Errc::not_implemented: return {501, "not-implemented", "This method is not known here"};
    case Errc::throttled: return {429, "throttled", "Too many requests from this address", 1};
    case Errc::overloaded: return {503, "overloaded", "Too much to do at the moment", 1};
    case Errc::draining: return {503, "draining", "The server is shutting down", 1};
    case Errc::too_many_connections: return {503, "too-many-connections", "Too many connections at the moment", 1};
    case Errc::request_timeout: return {408, "request-timeout", "The request did not come in time"};
    case Errc::internal: return internal;
  }
  return internal;
}

ProblemKind kind_of(GatewayErrc code) {
  switch (code) {
    case GatewayErrc::unknown_session: return {404, "not-found", "There is no such session"};
    case GatewayErrc::stale_token: return {401, "stale-token", "This token was replaced by a newer one"};
    case GatewayErrc::unknown_turn: return {404, "not-found", "There is no such turn"};
    case GatewayErrc::unknown_flow: return {422, "unknown-flow", "There is no such flow"};
    case GatewayErrc::key_reused: return {422, "idempotency-key-reused", "The Idempotency-Key was used with another request"};
    case GatewayErrc::closed: return {409, "session-closed", "The session is completed and closed"};
    case GatewayErrc::too_many_waiting: return {429, "too-many-waiting", "As many messages of this session wait as may", 2};
    case GatewayErrc::too_many_messages: return {409, "too-many-messages", "The session has as many messages as it may have"};
    case GatewayErrc::message_empty: return {422, "message-empty", "The message is empty"};
    case GatewayErrc::message_too_long: return {422, "message-too-long", "The message is too long"};
    case GatewayErrc::message_not_text: return {422, "message-not-text", "The message is not text"};
    case GatewayErrc::overloaded: return {503, "overloaded", "Too much to do at the moment", 1};
    case GatewayErrc::draining: return {503, "draining", "The server is shutting down", 1};
    case GatewayErrc::not_writable: return {503, "not-writable", "This cannot be read or stored at the moment", 5, false};
    case GatewayErrc::keys_unreachable: return {503, "keys-unreachable", "Keys cannot be reached at the moment", 2, false};
    case GatewayErrc::owned_elsewhere:
      return {503, "owner-unreachable", "The server that answers for this cannot be reached at the moment", 1, false};
    case GatewayErrc::in_doubt:
      return {503, "in-doubt", "It is not known whether this was carried out; repeat it with the same Idempotency-Key", 1, false};
  }
  return internal;
}

ProblemKind kind_of(projections::Errc code) {
  switch (code) {
    case projections::Errc::unavailable: return {503, "read-model-unavailable", "The read model cannot be reached", 2, false};
    case projections::Errc::not_found: return {404, "not-found", "There is no such thing here"};
    case projections::Errc::poison: return {409, "parked", "This person's read model waits for an operator", 0, false};
    case projections::Errc::changed: return {409, "changed", "Somebody else has changed it since it was looked at"};
    case projections::Errc::not_possible: return {409, "not-possible", "That is not possible now"};
    default: return unavailable;  // wrong database or migration: an operator's business, and it may pass
  }
}

ProblemKind kind_of(log::Errc code) {
  switch (code) {
    case log::Errc::not_writable: return kind_of(GatewayErrc::not_writable);
    case log::Errc::overloaded: return {503, "overloaded", "Too much to do at the moment", 1};
    case log::Errc::unreadable: return unavailable;
    default: return internal;
  }
}

ProblemKind kind_of(codec::Errc code) {
  switch (code) {
    case codec::Errc::malformed: return kind_of(Errc::malformed_json);
    case codec::Errc::too_large: return {413, "too-large", "The body, or something in it, is too large"};
    case codec::Errc::key_unreachable: return kind_of(GatewayErrc::keys_unreachable);
    default: return internal;
  }
}

ProblemKind kind_of(privacy::Errc code) {
  switch (code) {
    case privacy::Errc::unreachable:
    case privacy::Errc::lost: return kind_of(GatewayErrc::keys_unreachable);
    case privacy::Errc::erased: return {404, "not-found", "There is no such thing here"};
    default: return internal;
  }
}

template <class Code>
bool is(const std::error_code& code) {
  static const auto& category = make_error_code(static_cast<Code>(1)).category();
  return code.category() == category;
}

template <class Code>
bool lookup(const std::error_code& code, ProblemKind& found) {
  if (!is<Code>(code)) return false;
  found = kind_of(static_cast<Code>(code.value()));
  return true;
}

/// What a 401 must ask for. Who showed no token is not told that it is a wrong one (RFC 6750 §3).
std::vector<std::pair<std::string_view, std::string>> challenge(const ProblemKind& kind, std::error_code code) {
  if (kind.status != 401) return {};
  return {{"WWW-Authenticate",
           code == Errc::no_credential ? R"(Bearer realm="onboarding")" : R"(Bearer realm="onboarding", error="invalid_token")"}};
}

class HttpCategory final : public std::error_category {
 public:
  const char* name() const noexcept override { return "http"; }
  std::string message(int code) const override { return std::string(kind_of(static_cast<Errc>(code)).title); }
};

}  // namespace

std::error_code make_error_code(Errc code) {
  static const HttpCategory category;
  return {static_cast<int>(code), category};
}

ProblemKind problem_kind(std::error_code code) {
  ProblemKind found = internal;
  lookup<GatewayErrc>(code, found) || lookup<Errc>(code, found) || lookup<projections::Errc>(code, found) ||
      lookup<log::Errc>(code, found) || lookup<codec::Errc>(code, found) || lookup<privacy::Errc>(code, found);
  return found;
}

Problem problem_of(const Failure& failure) {
  const auto kind = problem_kind(failure.code);
  return {kind, kind.shows_detail ? failure.detail : std::string(), {}, challenge(kind, failure.code)};
}

Problem problem_of(Errc code, std::string detail, std::vector<InvalidMember> errors) {
  const auto kind = kind_of(code);
  return {kind, std::move(detail), std::move(errors), challenge(kind, code)};
}

Problem problem_of(ReaderErrc code) {
  const auto& info = describe(code);
  return {{info.status, info.name, info.sentence}, {}, {}};
}

std::string to_json(const Problem& problem, std::string_view instance, std::string_view request_id) {
  rapidjson::StringBuffer buffer;
  codec::JsonWriter w(buffer);
  w.StartObject();
  codec::write_key(w, "type");
  std::string slug(problem.kind.slug);
  for (char& c : slug)
    if (c == '_') c = '-';
  codec::write_string(w, "urn:onboarding:problem:" + slug);
  codec::write_key(w, "title");
  codec::write_string(w, problem.kind.title);
  codec::write_key(w, "status");
  w.Int(problem.kind.status);
  if (!problem.detail.empty()) {
    codec::write_key(w, "detail");
    codec::write_string(w, problem.detail);
  }
  if (!instance.empty()) {
    codec::write_key(w, "instance");
    codec::write_string(w, instance);
  }
  codec::write_key(w, "request_id");
  codec::write_string(w, request_id);
  if (!problem.errors.empty()) {
    codec::write_key(w, "errors");
    w.StartArray();
    for (const auto& error : problem.errors) {
      w.StartObject();
      codec::write_key(w, "pointer");
      codec::write_string(w, error.pointer);
      codec::write_key(w, "detail");
      codec::write_string(w, error.detail);
      w.EndObject();
    }
    w.EndArray();
  }
  w.EndObject();
  return std::string(codec::written(buffer));
}

}  // namespace onboarding::http
