// The prompt of an extraction: ours in the system part, a prefix that is stable per flow and process first; the user's
// message last and byte for byte. The text is versioned: a change of wording is a change of kPromptVersion.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "actors/model/extraction.hpp"
#include "actors/model/provider.hpp"

namespace onboarding::model {

inline constexpr std::string_view kPromptVersion = "extract-1";

/// The answer's cap in tokens, reserved in full: six short values and a reply of a few sentences.
inline constexpr std::uint32_t kMaxOutputTokens = 400;

/// `canary` stands in the system part and must never come out: an answer that holds it is no answer (answer.hpp).
Prompt build_prompt(const ExtractionRequest&, std::string_view canary);

/// An upper estimate of the tokens of a text in any of today's tokenizers, by script: no tokenizer is at hand, and
/// characters / 4 falls short on everything but English.
std::uint32_t estimate_tokens(std::string_view utf8);

}  // namespace onboarding::model
