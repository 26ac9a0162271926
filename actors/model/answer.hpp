// What a model wrote, read as api.md §3 says. Bytes are hostile.
#pragma once

#include <string>
#include <string_view>

#include "actors/model/extraction.hpp"

namespace onboarding::model {

/// Bounds of an answer that is still believed to be one.
inline constexpr std::size_t kMaxAnswerBytes = 32 * 1024;
inline constexpr std::size_t kMaxReplyBytes = 8 * 1024;
inline constexpr std::size_t kMaxValueBytes = 4'096;

/// The answer, or what is wrong with it: one short phrase without any of its text. Null values mean "not given"; a number or
/// a boolean counts as said by its literal text (models write 40 for "40" whatever the schema says). A field or ask that the
/// flow does not have, another member, another type, the canary or a line of our instructions anywhere in it make it no answer.
tl::expected<domain::ModelAnswer, std::string> parse_answer(std::string_view text, const domain::Flow&, std::string_view canary);

/// Takes out the values that the person did not say, in the message or in their lines before it (Said::supports tells how much of a
/// value must have been said). What is open because of that is asked for. How many were taken out.
/// The model's word is not enough (api.md §3): it may invent, and our own rules would find nothing wrong with an invented name.
std::size_t drop_unsaid(domain::ModelAnswer&, const ExtractionRequest&);

}  // namespace onboarding::model
