// What a person said for a field, parsed, validated and normalised into its stored form. The model's word is never
// enough: every value passes here. Pure; libphonenumber and ICU are used as tables and rules, not as I/O.
#pragma once

#include <string>
#include <string_view>

#include "events/domain/flow.hpp"

namespace onboarding::domain {

/// A value in stored form (api.md §2): dates ISO 8601, phones E.164, booleans "true"/"false", integers and numbers in
/// shortest decimal form, choices as the option's value, countries alpha-2, the rest NFC text with white space folded.
struct FieldValue {
  FieldType type = FieldType::text;
  std::string canonical;
  bool operator==(const FieldValue&) const = default;
};

/// Why a value was refused: `code` is stable and public (events, metrics), `sentence` is for the person and never
/// repeats the value.
struct Refusal {
  std::string code;      // e.g. "no_at_sign", "below_minimum", "not_an_option"
  std::string sentence;  // e.g. "That e-mail address has no @."
  bool operator==(const Refusal&) const = default;
};

/// Parses one value as said ("about forty", "zoe at acme dot io", "3rd of May 1990", "+49 (0) 89 / 123 456").
/// Input is hostile: any bytes, any length; over 4,096 bytes or not UTF-8 is refused.
tl::expected<FieldValue, Refusal> parse_field(const FieldSpec&, std::string_view as_said);

/// True for "skip", "rather not say", "no thanks" and the like: somebody declines to answer.
bool is_declining(std::string_view as_said);

}  // namespace onboarding::domain
