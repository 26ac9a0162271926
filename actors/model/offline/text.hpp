// A message as tokens: what the extractor's rules look at. Pure, allocation-light, English punctuation, any script.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace onboarding::model::offline {

enum class TokenKind : std::uint8_t { word, number, email, url, phone, punctuation };

struct Token {
  TokenKind kind = TokenKind::word;
  std::size_t begin = 0, end = 0;  // bytes in Text::raw
  std::string lower;               // ASCII letters in lower case
  bool capitalised = false;        // begins with an upper-case letter, or a letter of a script without case
  bool starts_sentence = false;
};

struct Text {
  std::string raw;  // NFC, typographic quotes and dashes as ASCII, white space folded (new lines kept)
  std::vector<Token> tokens;
  bool all_lower = false;  // no capital anywhere: capitals say nothing
  bool question = false;   // ends with a question mark, or begins like a question

  std::string_view between(std::size_t first, std::size_t last) const {  // tokens [first, last)
    if (first >= last) return {};
    return std::string_view(raw).substr(tokens[first].begin, tokens[last - 1].end - tokens[first].begin);
  }
  const std::string& lower(std::size_t i) const { return tokens[i].lower; }
  std::size_t size() const { return tokens.size(); }
};

/// The rules look from every token at its neighbours, some far away: so many are read, what comes after them is not. More than a
/// person says in one message, and few enough that no message keeps a thread for more than some milliseconds.
inline constexpr std::size_t max_tokens = 600;

/// Input is valid UTF-8 of bounded length (the decider has refused all else).
Text read_text(std::string_view message);

}  // namespace onboarding::model::offline
