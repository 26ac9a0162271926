// The prompt of an extraction: ours in the system part, first what is the same for all turns of a flow version in this process; the
// user's message last and byte for byte. What the user ever wrote stands in user messages, or as JSON values under "This turn".
// The text is versioned: a change of wording is a change of kPromptVersion.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "actors/model/extraction.hpp"
#include "actors/model/provider.hpp"

namespace onboarding::model {

inline constexpr std::string_view kPromptVersion = "extract-2";

/// The answer's cap in tokens, reserved in full: six short values and a reply of a few sentences.
inline constexpr std::uint32_t kMaxOutputTokens = 256;

/// What a conversation needs to be understood; longer ones cost tokens and add nothing. A prompt that was too long for a model is
/// built again with less, at last with 0.
inline constexpr std::uint32_t kHistoryTokens = 1'500;

/// `canary` stands in the system part and must never come out: an answer that holds it is no answer (answer.hpp), and a reply that is
/// shown while it is written stops before it (reply_reader.hpp). The newest lines of the history are kept, whole, up to the bound.
Prompt build_prompt(const ExtractionRequest&, std::string_view canary, std::uint32_t history_tokens = kHistoryTokens);

/// How the lines of our own instructions begin. A text that holds one repeats the prompt, whether it came to the canary or not.
std::span<const std::string_view> instruction_marks();

/// An upper estimate of the tokens of a text in any of today's tokenizers, by script: no tokenizer is at hand, and characters / 4
/// falls short on everything but English. Up to half too much for what people write; random letters may be a tenth more than told.
std::uint32_t estimate_tokens(std::string_view utf8);

}  // namespace onboarding::model
