// Text as people type it, brought to one form: Unicode rules by ICU. Thread-safe; ASCII, the common case, never reaches ICU.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace onboarding::domain {

/// NFC, white space folded to single blanks and trimmed, marks that show nothing dropped (joiners inside words stay).
/// nullopt when there are control characters other than white space, or more combining marks in a row than any script
/// stacks. `text` is well-formed.
std::optional<std::string> clean(std::string_view text);

/// For comparing words: lower case, diacritics dropped, everything but letters, digits and apostrophes is a single blank,
/// curly apostrophes straight.
std::string fold_words(std::string_view text);
std::vector<std::string> words_of(std::string_view text);
/// The same of a text that was folded already.
std::vector<std::string> words_of_folded(std::string_view folded);

/// Lower case by Unicode's rules, NFC.
std::string lower(std::string_view text);
/// Decimal digits of all scripts as ASCII ones.
std::string ascii_digits(std::string_view text);

std::vector<char32_t> code_points(std::string_view text);
void append(std::string& out, char32_t code_point);
std::size_t length_in_code_points(std::string_view text);

bool is_letter(char32_t);
bool is_mark(char32_t);   // combining
bool is_digit(char32_t);  // decimal, of any script

bool is_ascii(std::string_view);
bool starts_with_word(std::string_view text, std::string_view prefix);
/// `text` without any of the characters at its ends.
std::string_view trim(std::string_view text, std::string_view ascii_characters);

/// Whether the whole of `text` matches an ICU regular expression; false too when it does not compile or takes too long.
bool matches(const std::string& pattern, std::string_view text);

}  // namespace onboarding::domain
