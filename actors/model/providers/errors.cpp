#include "actors/model/providers/errors.hpp"

#include <algorithm>

namespace onboarding::model {
namespace {

constexpr int kAny = -1, kStream = 0;

// The first rule that matches counts. An empty provider, code or text matches any; `status` 4 and 5 stand for 4xx and 5xx.
struct Rule {
  std::string_view provider;
  int status;
  std::string_view code;  // one of the error's
  std::string_view text;  // somewhere in its message
  CallError means;
};

constexpr Rule kRules[] = {
    // No money, or a limit on it: 429 at OpenAI, 400 and 429 at Anthropic, 402 at all the others.
    {"openai", kAny, "insufficient_quota", "", CallError::quota_exhausted},
    {"openai", kAny, "credit_balance_exhausted", "", CallError::quota_exhausted},
    {"openai", kAny, "organization_spend_limit_exceeded", "", CallError::quota_exhausted},
    {"openai", kAny, "project_spend_limit_exceeded", "", CallError::quota_exhausted},
    {"openai", kAny, "organization_usage_limit_exceeded", "", CallError::quota_exhausted},
    {"anthropic", 400, "", "credit balance is too low", CallError::quota_exhausted},
    {"anthropic", 429, "enforced_spend_limit_reached", "", CallError::quota_exhausted},
    {"anthropic", kAny, "billing_error", "", CallError::quota_exhausted},
    {"gemini", 400, "FAILED_PRECONDITION", "", CallError::quota_exhausted},  // billing is not set up
    {"", 402, "", "", CallError::quota_exhausted},

    // A bad key: 400 at Gemini.
    {"gemini", 400, "API_KEY_INVALID", "", CallError::unauthorised},
    {"gemini", 400, "", "API key not valid", CallError::unauthorised},
    {"gemini", 400, "", "API key expired", CallError::unauthorised},
    {"", 401, "", "", CallError::unauthorised},
    {"", 403, "", "", CallError::unauthorised},

    // Limits.
    {"", kAny, "slow_down", "", CallError::slow_down},
    {"openai", 429, "", "Request too large", CallError::too_large},
    {"", 429, "", "", CallError::rate_limited},
    {"", kStream, "rate_limit_exceeded", "", CallError::rate_limited},
    {"", kStream, "rate_limit_error", "", CallError::rate_limited},

    // What was written, not how: a filter's verdict.
    {"", 400, "content_filter", "", CallError::refused},
    {"", 400, "content_policy_violation", "", CallError::refused},
    {"openai", 400, "invalid_prompt", "", CallError::refused},
    {"deepseek", 400, "", "Content Exists Risk", CallError::refused},

    // A model that is not there, or a base_url where no such path is.
    {"", 404, "", "", CallError::model_not_found},
    {"", kAny, "model_not_found", "", CallError::model_not_found},
    {"deepseek", 400, "", "Model Not Exist", CallError::model_not_found},

    // Too long a prompt.
    {"", 400, "context_length_exceeded", "", CallError::context_too_long},
    {"", 400, "", "maximum context length", CallError::context_too_long},
    {"anthropic", 400, "", "prompt is too long", CallError::context_too_long},
    {"gemini", 400, "", "exceeds the maximum number of tokens", CallError::context_too_long},
    {"", 413, "", "", CallError::context_too_long},

    // Theirs.
    {"", 529, "", "", CallError::overloaded},
    {"", kAny, "overloaded_error", "", CallError::overloaded},
    {"", 503, "overloaded", "", CallError::overloaded},
    {"", 503, "", "overloaded", CallError::overloaded},
    {"", 408, "", "", CallError::timeout},
    {"", 504, "", "", CallError::timeout},
    {"", kStream, "timeout_error", "", CallError::timeout},
    {"", kStream, "api_error", "", CallError::unavailable},
    {"", kStream, "server_error", "", CallError::unavailable},
    {"", kStream, "", "", CallError::truncated},

    {"", 4, "", "", CallError::bad_request},
    {"", 5, "", "", CallError::unavailable},
};

}  // namespace

CallError classify(std::string_view provider, const ProviderError& error) {
  for (const auto& r : kRules) {
    const bool status = r.status == kAny || r.status == error.status || (r.status > 0 && r.status == error.status / 100);
    const bool code = r.code.empty() || std::find(error.codes.begin(), error.codes.end(), r.code) != error.codes.end();
    if (status && code && (r.provider.empty() || r.provider == provider) && error.text.find(r.text) != error.text.npos)
      return r.means;
  }
  return CallError::unavailable;  // 1xx to 3xx without an answer: no server of this API
}

}  // namespace onboarding::model
