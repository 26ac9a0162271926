#include "actors/model/provider.hpp"

#include "actors/model/status.hpp"

namespace onboarding::model {

std::string_view to_string(CallError e) {
  switch (e) {
    case CallError::none: return "none";
    case CallError::rate_limited: return "rate_limited";
    case CallError::slow_down: return "slow_down";
    case CallError::quota_exhausted: return "quota_exhausted";
    case CallError::too_large: return "too_large";
    case CallError::bad_request: return "bad_request";
    case CallError::context_too_long: return "context_too_long";
    case CallError::unauthorised: return "unauthorised";
    case CallError::model_not_found: return "model_not_found";
    case CallError::unavailable: return "unavailable";
    case CallError::overloaded: return "overloaded";
    case CallError::timeout: return "timeout";
    case CallError::connection: return "connection";
    case CallError::truncated: return "truncated";
    case CallError::refused: return "refused";
    case CallError::cut_off: return "cut_off";
    case CallError::invalid_answer: return "invalid_answer";
    case CallError::cancelled: return "cancelled";
  }
  return "unknown";
}

std::string_view to_string(QueueMode mode) { return mode == QueueMode::on ? "on" : mode == QueueMode::off ? "off" : "auto"; }

Remedy remedy_of(CallError e) {
  switch (e) {
    case CallError::none:
    case CallError::cancelled: return Remedy::none;
    case CallError::rate_limited:
    case CallError::slow_down: return Remedy::wait;
    case CallError::too_large: return Remedy::never;
    case CallError::context_too_long: return Remedy::shorten;
    case CallError::quota_exhausted:
    case CallError::unauthorised:
    case CallError::model_not_found: return Remedy::alert;
    case CallError::refused:
    case CallError::cut_off:
    case CallError::invalid_answer: return Remedy::once;
    case CallError::bad_request:
    case CallError::unavailable:
    case CallError::overloaded:
    case CallError::timeout:
    case CallError::connection:
    case CallError::truncated: return Remedy::move_on;
  }
  return Remedy::move_on;
}

}  // namespace onboarding::model
