// Where things begin and end in a message: one function per kind of thing, each over tokens, none with state.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "actors/model/offline/text.hpp"
#include "events/domain/flow.hpp"

namespace onboarding::model::offline {

/// Tokens [first, last).
struct Span {
  std::size_t first = 0, last = 0;
};
struct Cue {
  std::size_t first = 0;  // where the value would begin
  bool strong = false;    // "my name is": what follows is a name, whatever it looks like
};

// A cue function answers where the value begins when a cue begins at token i; for the plain ones `i` itself means: no cue.
std::optional<Cue> name_cue(const Text&, std::size_t i);
std::size_t role_cue(const Text&, std::size_t i);
std::size_t company_cue(const Text&, std::size_t i);
std::size_t goal_cue(const Text&, std::size_t i);

// An end function answers where a value that begins at i ends; `i` means: nothing of the kind stands there.
std::size_t name_end(const Text&, std::size_t i, bool expected);
std::size_t role_end(const Text&, std::size_t i);
std::size_t company_end(const Text&, std::size_t i, bool expected);
std::size_t goal_end(const Text&, std::size_t i);
std::size_t clause_end(const Text&, std::size_t i);

/// An address that begins at token i: written (also malformed, with an @) or spoken ("zoe at acme dot io").
std::optional<Span> email_span(const Text&, std::size_t i);
/// A number in digits or words at token i, behind words of approximation; with a range's second half. first: the number itself.
std::optional<Span> number_phrase(const Text&, std::size_t i);
/// How surely a number counts people: 2 "forty employees", 1 "we're forty", 0 says nothing, -1 counts something else.
int people_weight(const Text&, Span number);
/// "just me", "on my own", "solo": a team of one.
bool solo_phrase(const Text&, std::size_t i);
bool no_company_phrase(const Text&);
/// The parts of a list separated by commas, semicolons, slashes or lines.
std::vector<Span> split_list(const Text&);

// ---- words within a stored value

bool holds_words(domain::FieldType);
std::vector<std::string_view> words_of(const std::string& value);
std::string lowered(std::string_view);
/// Where `word` stands in `value`, ignoring ASCII case, at word boundaries on its letters' sides; npos when nowhere.
std::size_t find_word(std::string_view value, std::string_view word);
std::size_t edit_distance(std::string_view a, std::string_view b);
/// `word` without the last occurrence of the letter.
std::string without_letter(std::string_view word, char letter);

}  // namespace onboarding::model::offline
