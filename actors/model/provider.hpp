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

/// What of a call a provider counts against its limits, and when: data, as its documents say.
struct Counting {
  bool output_cap_reserved = true;  // the answer's cap counts when the call comes in; else its real output, once it is there
  bool cached_input_counts = true;  // input that it reads from its own prompt cache
  bool failed_calls_count = true;
  bool operator==(const Counting&) const = default;
};

/// Limits a minute and in flight; 0: no limit of that kind.
struct ProviderSettings {
  std::string name;  // "openai", "gemini", "deepseek", "anthropic"
  bool enabled = false;
  std::uint32_t weight = 0;
  std::string base_url, model, api_key;  // api_key never in logs
  std::uint32_t requests_per_minute = 0, requests_per_day = 0, max_concurrent = 0;
  std::uint64_t tokens_per_minute = 0, input_tokens_per_minute = 0, output_tokens_per_minute = 0;
  std::uint64_t spend_per_day_nanodollars = 0;
  Counting counting;
  double burst_seconds = 1;
  std::chrono::milliseconds timeout{20'000};              // of the whole call
  std::chrono::milliseconds first_token_timeout{10'000};  // keep-alives do not count; 0: none
  std::chrono::milliseconds idle_timeout{5'000};          // between two pieces of a stream; 0: none
};

/// A prompt in provider-neutral form: a stable system part, then the turn's own; the user's message byte for byte.
struct Prompt {
  std::string model;                 // empty: the provider's own
  std::string system_stable;         // the same for all turns of a flow version and language: what providers cache
  std::string system;                // ours, all of it: begins with system_stable
  std::vector<HistoryLine> history;  // trimmed
  std::string user_message;
  std::string schema_json;  // JSON schema of the answer
  std::uint32_t max_output_tokens = 400;
  std::uint32_t estimated_input_tokens = 0;
  std::string safety_identifier;  // hashed user
};

enum class CallError {
  none,
  rate_limited,     // a limit a minute, a day or in flight
  slow_down,        // the provider wants a slower ramp
  quota_exhausted,  // no money, or a spend limit
  too_large,        // dearer than the limit by itself: never again as it is
  bad_request,
  context_too_long,  // a shorter prompt may go
  unauthorised,
  model_not_found,  // or no such path: its model or its base_url is wrong
  unavailable,
  overloaded,
  timeout,  // the whole call's, the first token's or between two pieces
  connection,
  truncated,       // a stream that ended, or told an error, before it was whole
  refused,         // the model, or a filter before or behind it, does not want to answer this: tells about what somebody wrote
  cut_off,         // the answer's cap came before its end: the same
  invalid_answer,  // not the JSON of api.md §3, or over the size bound
  cancelled
};
std::string_view to_string(CallError);

/// What to do about an error.
enum class Remedy {
  none,
  wait,     // the same provider, later; meanwhile another
  move_on,  // another provider now
  once,     // one more try, elsewhere if there is somebody: what was written may be the reason, and would be everywhere
  shorten,  // a shorter prompt
  never,    // not this request at this provider
  alert     // nobody's request at this provider until somebody looked
};
Remedy remedy_of(CallError);

struct CallResult {
  CallError error = CallError::none;
  std::string detail;  // for logs: status and error code, never texts
  std::string answer;  // the model's text (not yet parsed), bounded; also on invalid_answer
  domain::Usage usage;
  std::string served_model;  // what the provider says it used
  std::int64_t latency_ms = 0;
  std::chrono::milliseconds retry_after{0};                // 0: the provider gave no hint
  bool day_limit = false;                                  // the error says that a day's limit, not a minute's, is used up
  std::map<std::string, std::int64_t> remaining;           // rate headers: "requests", "tokens", "input-tokens", "output-tokens"
  std::map<std::string, std::int64_t> limits;              // the same names: what the provider says the limit is
  std::map<std::string, std::chrono::milliseconds> reset;  // … until it is full again
  std::int64_t first_token_ms = -1;                        // -1: not streamed, or none came
  bool was_sent = false;                                   // the provider may have counted it
};

/// Takes the model's text piece by piece, as it is written. Must not block.
using TextSink = std::function<void(std::string_view)>;

class ProviderClient {
 public:
  virtual ~ProviderClient() = default;
  /// Asynchronous; `done` exactly once, on a thread of the client, with the whole answer. Gives up at the timeout at the latest.
  /// With an `on_text` the answer is asked for as a stream; it is called on the same thread, never after `done`.
  virtual void call(const Prompt&, std::chrono::milliseconds timeout, TextSink on_text, std::function<void(CallResult)> done) = 0;
};

}  // namespace onboarding::model
