#include "actors/model/provider.hpp"

namespace onboarding::model {

std::string_view to_string(CallError e) {
  switch (e) {
    case CallError::none: return "none";
    case CallError::rate_limited: return "rate_limited";
    case CallError::quota_exhausted: return "quota_exhausted";
    case CallError::bad_request: return "bad_request";
    case CallError::context_too_long: return "context_too_long";
    case CallError::unauthorised: return "unauthorised";
    case CallError::unavailable: return "unavailable";
    case CallError::timeout: return "timeout";
    case CallError::connection: return "connection";
    case CallError::invalid_answer: return "invalid_answer";
    case CallError::cancelled: return "cancelled";
  }
  return "unknown";
}

}  // namespace onboarding::model
