#include "actors/gateway.hpp"

namespace onboarding {

namespace {

class GatewayCategory final : public std::error_category {
 public:
  const char* name() const noexcept override { return "gateway"; }
  std::string message(int code) const override {
    switch (static_cast<GatewayErrc>(code)) {
      case GatewayErrc::unknown_session: return "There is no such session.";
      case GatewayErrc::stale_token: return "The session's token was replaced by a newer one.";
      case GatewayErrc::unknown_turn: return "The session has no such turn.";
      case GatewayErrc::unknown_flow: return "There is no such flow.";
      case GatewayErrc::key_reused: return "The Idempotency-Key was used with another request.";
      case GatewayErrc::closed: return "The session is completed and no longer takes corrections.";
      case GatewayErrc::too_many_waiting: return "Too many messages of this session already wait for an answer.";
      case GatewayErrc::too_many_messages: return "The session has reached its limit of messages.";
      case GatewayErrc::message_empty: return "The message is empty.";
      case GatewayErrc::message_too_long: return "The message is too long.";
      case GatewayErrc::message_not_text: return "The message is not UTF-8 text, or holds a NUL.";
      case GatewayErrc::overloaded: return "The server has more requests than it can hold.";
      case GatewayErrc::draining: return "The server is shutting down.";
      case GatewayErrc::not_writable: return "The event log cannot be written now.";
      case GatewayErrc::keys_unreachable: return "The key store cannot be reached now.";
      case GatewayErrc::owned_elsewhere: return "Another server serves this session.";
      case GatewayErrc::in_doubt:
        return "Whether the request was carried out is not known; repeat it with the same Idempotency-Key.";
    }
    return "An unknown error of the gateway.";
  }
};

}  // namespace

std::error_code make_error_code(GatewayErrc code) {
  static const GatewayCategory category;
  return {static_cast<int>(code), category};
}

}  // namespace onboarding
