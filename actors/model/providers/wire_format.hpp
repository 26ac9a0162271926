// What differs between providers: how a request is written and how a reply is read. Pure; all transport is CurlLoop's.
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

#include "actors/model/provider.hpp"
#include "actors/model/providers/curl_loop.hpp"

namespace onboarding::model {

class WireFormat {
 public:
  virtual ~WireFormat() = default;
  /// The call, without its timeout.
  virtual HttpCall build(const ProviderSettings&, const Prompt&) const = 0;
  /// A complete HTTP response, whatever its status. Bytes are hostile.
  virtual CallResult parse(const HttpReply&) const = 0;
};

/// "174ms", "1.5s", "6m0s", "1h2m": Go's durations, which rate headers and error texts use. nullopt for anything else.
std::optional<std::chrono::milliseconds> parse_go_duration(std::string_view);

/// Headers retry-after-ms, then retry-after in seconds, then the duration behind `words` in the error's text; 0: no hint.
std::chrono::milliseconds retry_hint(const HttpReply&, std::string_view text, std::string_view words);

/// A provider's code or type, fit for a log: letters, digits, `_.-`, at most 64; anything else is left out.
std::string loggable_code(std::string_view);

}  // namespace onboarding::model
