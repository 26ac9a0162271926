// What a provider's error means. One table for all of them: adding a provider, or an error that it invents, is a line there.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "actors/model/provider.hpp"

namespace onboarding::model {

/// What an error says of itself, wherever it stood: in the body of a response, or in a stream that had begun well.
struct ProviderError {
  int status = 0;                       // 0: told in a stream, without one (Gemini tells its own)
  std::vector<std::string_view> codes;  // every type, code, status and reason in it
  std::string_view text;
};

CallError classify(std::string_view provider, const ProviderError&);

}  // namespace onboarding::model
