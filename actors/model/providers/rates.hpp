// What a provider says about waiting: rate headers, Retry-After, and the words and details of its errors. Pure: what is told as a
// point in time is taken relative to the response's own Date.
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

#include "actors/model/provider.hpp"
#include "actors/model/providers/curl_loop.hpp"

namespace onboarding::model {

/// "174ms", "1.5s", "6m0s", "1h2m": Go's durations, which rate headers and error texts use. nullopt for anything else.
std::optional<std::chrono::milliseconds> parse_go_duration(std::string_view);

/// Headers retry-after-ms, retry-after in seconds, retry-after as a date; then the duration behind "try again in" or "retry in" in
/// the error's text. 0: no hint. At most a day.
std::chrono::milliseconds retry_hint(const HttpReply&, std::string_view text);

/// Until the next midnight in California, where Gemini's days begin; an hour when the response has no Date.
std::chrono::milliseconds until_pacific_midnight(const HttpReply&);

/// OpenAI's x-ratelimit-remaining-tokens and Anthropic's anthropic-ratelimit-tokens-remaining, with limit and reset, into
/// `remaining`, `limits` and `reset`. Of a project's and the organisation's tokens the scarcer count.
void read_rate_headers(const HttpReply&, CallResult&);

}  // namespace onboarding::model
