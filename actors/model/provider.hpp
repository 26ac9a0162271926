// The port to a model provider: one call, one answer. The real adapters (actors/model/providers) speak each provider's
// wire format over one curl multi loop; the simulation's lies, fails and hangs. No CAF type in it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "actors/model/extraction.hpp"

namespace onboarding::model {

/// Limits a minute and in flight; 0: no limit of that kind.
struct ProviderSettings {
  std::string name;  // "openai", "gemini", "deepseek", "anthropic"
  bool enabled = false;
  std::uint32_t weight = 0;
  std::string base_url, model, api_key;  // api_key never in logs
  std::uint32_t requests_per_minute = 0, requests_per_day = 0, max_concurrent = 0;
  std::uint64_t tokens_per_minute = 0, input_tokens_per_minute = 0, output_tokens_per_minute = 0;
  double burst_seconds = 1;
  std::chrono::milliseconds timeout{20'000};
};

/// A prompt in provider-neutral form: a stable system part, then the turn's own; the user's message byte for byte.
struct Prompt {
  std::string system;                // ours, all of it
  std::vector<HistoryLine> history;  // trimmed
  std::string user_message;
  std::string schema_json;           // JSON schema of the answer
  std::uint32_t max_output_tokens = 400;
  std::uint32_t estimated_input_tokens = 0;
  std::string safety_identifier;     // hashed user
};

enum class CallError {
  none, rate_limited, quota_exhausted, bad_request, context_too_long, unauthorised, unavailable, timeout, connection,
  invalid_answer,  // not the JSON of api.md §3, cut off, or over the size bound
  cancelled
};
std::string_view to_string(CallError);

struct CallResult {
  CallError error = CallError::none;
  std::string detail;           // for logs: status and error code, never texts
  std::string answer;           // the model's text (not yet parsed), bounded; also on invalid_answer
  domain::Usage usage;
  std::string served_model;     // what the provider says it used
  std::int64_t latency_ms = 0;
  std::chrono::milliseconds retry_after{0};            // 0: the provider gave no hint
  std::map<std::string, std::int64_t> remaining;       // rate headers: "requests", "tokens" …
  bool was_sent = false;                               // the provider may have counted it
};

class ProviderClient {
 public:
  virtual ~ProviderClient() = default;
  /// Asynchronous; `done` exactly once, on a thread of the client. Gives up at the timeout at the latest.
  virtual void call(const Prompt&, std::chrono::milliseconds timeout, std::function<void(CallResult)> done) = 0;
};

}  // namespace onboarding::model
