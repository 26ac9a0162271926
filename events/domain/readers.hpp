// One reader per family of field types. Each takes what clean() left of a value, never empty, and gives the stored form.
// Refusal codes are public: they stand in events and metrics. README.md lists them.
#pragma once

#include <string>
#include <string_view>

#include "events/domain/fields.hpp"

namespace onboarding::domain {

using Reading = tl::expected<std::string, Refusal>;  // the canonical form

inline tl::unexpected<Refusal> refuse(std::string code, std::string sentence) {
  return tl::unexpected<Refusal>(Refusal{std::move(code), std::move(sentence)});
}

Reading read_person_name(const FieldSpec&, const std::string& said);
Reading read_company(const FieldSpec&, const std::string& said);
Reading read_text(const FieldSpec&, const std::string& said);
Reading read_email(const std::string& said);
Reading read_url(const std::string& said);
Reading read_phone(const FieldSpec&, const std::string& said);
Reading read_date(const std::string& said);
Reading read_number(const FieldSpec&, const std::string& said);  // integer and number
Reading read_boolean(const std::string& said);
Reading read_choice(const FieldSpec&, const std::string& said);
Reading read_country(const std::string& said);
Reading read_postal_code(const FieldSpec&, const std::string& said);

/// Within the field's bounds in code points, or those of its type.
tl::expected<void, Refusal> check_length(const FieldSpec&, std::string_view value, std::uint32_t default_max);

/// The domain in lower case, IDN kept; nullopt unless it could be registered under a top-level domain.
std::optional<std::string> read_domain(std::string_view said);

/// A cardinal number in English words from words[at] on ("two hundred and fifty", "a dozen", "one point five"); `at` moves
/// behind it. nullopt when there is none.
std::optional<double> read_number_words(const std::vector<std::string>& words, std::size_t& at);

}  // namespace onboarding::domain
