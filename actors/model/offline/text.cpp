#include "actors/model/offline/text.hpp"

#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/utf8.h>

#include <array>
#include <utility>

namespace onboarding::model::offline {
namespace {

bool is_ascii(std::string_view s) {
  for (const char c : s)
    if (static_cast<unsigned char>(c) >= 0x80) return false;
  return true;
}

// Phones type curly quotes and long dashes; the rules know the ASCII ones.
constexpr std::array<std::pair<std::string_view, std::string_view>, 11> ascii_twins{{{"\u2018", "'"},
                                                                                     {"\u2019", "'"},
                                                                                     {"\u02bc", "'"},
                                                                                     {"\u201c", "\""},
                                                                                     {"\u201d", "\""},
                                                                                     {"\u2013", "-"},
                                                                                     {"\u2014", " - "},
                                                                                     {"\u2026", "..."},
                                                                                     {"\u00a0", " "},
                                                                                     {"\u202f", " "},
                                                                                     {"\u200b", ""}}};

std::string normalise(std::string_view message) {
  std::string text;
  if (is_ascii(message)) {
    text = message;
  } else {
    UErrorCode status = U_ZERO_ERROR;
    const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(status);
    nfc->normalize(icu::UnicodeString::fromUTF8(icu::StringPiece(message.data(), static_cast<int32_t>(message.size()))), status)
        .toUTF8String(text);
    for (const auto& [from, to] : ascii_twins)
      for (auto at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
        text.replace(at, from.size(), to);
  }
  std::string folded;
  folded.reserve(text.size());
  for (const char c : text) {
    const bool line = c == '\n' || c == '\r';
    if (line || c == ' ' || c == '\t') {
      if (folded.empty()) continue;
      if (folded.back() == ' ' && line) folded.back() = '\n';
      if (folded.back() != ' ' && folded.back() != '\n') folded += line ? '\n' : ' ';
    } else {
      folded += c;
    }
  }
  while (!folded.empty() && (folded.back() == ' ' || folded.back() == '\n')) folded.pop_back();
  return folded;
}

UChar32 code_point_at(std::string_view s, std::size_t at) {
  UChar32 c;
  auto i = static_cast<int32_t>(at);
  U8_NEXT(s.data(), i, static_cast<int32_t>(s.size()), c);
  return c;
}

bool digit(char c) { return c >= '0' && c <= '9'; }
bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || static_cast<unsigned char>(c) >= 0x80; }
bool space(char c) { return c == ' ' || c == '\n'; }

// One run without white space, brackets and sentence marks at its ends.
bool email_like(std::string_view s) { return s.find('@') != std::string_view::npos; }
bool url_like(std::string_view s) {
  if (s.starts_with("http://") || s.starts_with("https://") || s.starts_with("www.")) return true;
  const auto dot = s.rfind('.', s.find('/'));
  if (dot == std::string_view::npos || dot == 0 || s.find_first_of("()[]{}") < dot) return false;  // bob(at)example.com
  const auto tld = s.substr(dot + 1, s.find('/', dot) - dot - 1);
  if (tld.size() < 2 || tld.size() > 10) return false;
  for (const char c : tld)
    if (!(c >= 'a' && c <= 'z')) return false;
  return letter(s[dot - 1]) || digit(s[dot - 1]);
}

// A phone number spans spaces: from a digit, + or ( on, at least seven digits and only digits, spaces and ()-./+ between.
std::size_t phone_end(std::string_view s, std::size_t begin) {
  if (!(digit(s[begin]) || s[begin] == '+' || s[begin] == '(')) return begin;
  std::size_t digits = 0, last_digit = begin, i = begin;
  bool separated = s[begin] == '+' || s[begin] == '(';
  for (; i < s.size() && digits <= 15; ++i) {
    const char c = s[i];
    if (digit(c)) {
      ++digits;
      last_digit = i;
    } else if (c == ' ' || c == '-' || c == '(' || c == ')' || c == '/' || c == '.') {
      if (i + 1 < s.size() && c != '.' && (s[i + 1] == ' ') && c != ')' && c != '/') break;
      separated = separated || c == '-' || c == ' ';
    } else if (c != '+' || i != begin) {
      break;
    }
  }
  if (i < s.size() && letter(s[i]) && last_digit + 1 == i) return begin;
  return digits >= 7 && digits <= 15 && (separated || digits >= 8) ? last_digit + 1 : begin;
}

bool word_byte(std::string_view s, std::size_t i) {
  const char c = s[i];
  if ((static_cast<unsigned char>(c) & 0xc0) == 0xc0) {
    const UChar32 code = code_point_at(s, i);
    return u_isalpha(code) || u_charType(code) == U_NON_SPACING_MARK || u_charType(code) == U_COMBINING_SPACING_MARK;
  }
  if (letter(c) || digit(c)) return true;
  const bool inside = i > 0 && i + 1 < s.size() && (letter(s[i - 1]) || digit(s[i - 1])) && (letter(s[i + 1]) || digit(s[i + 1]));
  if (c == '\'' || c == '-' || c == '_') return inside;
  if (c == '.')
    return inside || (i > 0 && letter(s[i - 1]) && (i < 2 || !letter(s[i - 2])) &&
                      ((s[i - 1] >= 'A' && s[i - 1] <= 'Z') || (i > 1 && s[i - 2] == '.')));
  if (c == ',') return inside && digit(s[i - 1]) && digit(s[i + 1]) && i + 3 < s.size() && digit(s[i + 2]) && digit(s[i + 3]);
  return c == '+' && i > 0 && (letter(s[i - 1]) || digit(s[i - 1]));
}

std::string lower_ascii(std::string_view s) {
  std::string out(s);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return out;
}

bool begins_like_a_question(const Text& text) {
  static const std::vector<std::string> first{"what", "why",   "how",    "who",    "when",  "where", "which",
                                              "can",  "could", "do",     "does",   "did",   "is",    "are",
                                              "will", "would", "should", "what's", "who's", "whats", "must"};
  if (text.tokens.empty()) return false;
  if (text.lower(0) == "will" &&
      (text.size() == 1 || text.tokens[1].capitalised || text.tokens[1].kind == TokenKind::punctuation))
    return false;  // Will, Will Smith, Will & Sons
  for (const auto& w : first)
    if (text.lower(0) == w) return true;
  return false;
}

}  // namespace

Text read_text(std::string_view message) {
  Text text;
  text.raw = normalise(message);
  const std::string_view s = text.raw;
  bool capital_seen = false, sentence_start = true;
  for (std::size_t i = 0; i < s.size() && text.tokens.size() < max_tokens;) {
    if (space(s[i])) {
      if (s[i] == '\n') {
        text.tokens.push_back({TokenKind::punctuation, i, i + 1, "\n", false, false});
        sentence_start = true;
      }
      ++i;
      continue;
    }
    Token token;
    token.begin = i;
    token.starts_sentence = std::exchange(sentence_start, false);
    std::size_t run = i;
    while (run < s.size() && !space(s[run])) ++run;
    while (run > i && std::string_view(",;:!?\"')>].").find(s[run - 1]) != std::string_view::npos) --run;
    std::size_t run_begin = i;
    while (run_begin < run && std::string_view("\"'(<[").find(s[run_begin]) != std::string_view::npos) ++run_begin;
    const auto body = s.substr(run_begin, run - run_begin);
    const bool typed_here = run_begin == i;
    if (typed_here && !body.empty() && email_like(body)) {
      token.kind = TokenKind::email;
      token.end = run;
    } else if (typed_here && !body.empty() && url_like(lower_ascii(body)) && !digit(body.front())) {
      token.kind = TokenKind::url;
      token.end = run;
    } else if (const auto phone = phone_end(s, i); phone > i) {
      token.kind = TokenKind::phone;
      token.end = phone;
    } else if (static_cast<unsigned char>(s[i]) >= 0x80 && !u_isalpha(code_point_at(s, i)) && !u_isdigit(code_point_at(s, i))) {
      token.kind = TokenKind::punctuation;  // emoji, signs, currency
      token.end = i + 1;
      while (token.end < s.size() && (static_cast<unsigned char>(s[token.end]) & 0xc0) == 0x80) ++token.end;
    } else if (word_byte(s, i)) {
      std::size_t end = i;
      bool all_digits = true;
      while (end < s.size() && word_byte(s, end)) {
        if (letter(s[end])) all_digits = false;
        ++end;
      }
      token.end = end;
      token.kind = all_digits ? TokenKind::number : TokenKind::word;
    } else {
      token.kind = TokenKind::punctuation;
      token.end = i + 1;
      if (s[i] == '.' || s[i] == '!' || s[i] == '?') sentence_start = true;
    }
    const auto bytes = s.substr(token.begin, token.end - token.begin);
    token.lower = lower_ascii(bytes);
    if (token.kind == TokenKind::word) {
      const UChar32 c = code_point_at(s, token.begin);
      token.capitalised = u_isupper(c) || u_istitle(c) || (u_isalpha(c) && !u_islower(c));
      capital_seen = capital_seen || token.capitalised;
      if (!token.capitalised)  // iPhone, eBay, McDonald: a capital inside
        for (const char b : bytes) capital_seen = capital_seen || (b >= 'A' && b <= 'Z');
    }
    i = token.end;
    text.tokens.push_back(std::move(token));
  }
  text.all_lower = !capital_seen;
  text.question = text.raw.ends_with('?') || begins_like_a_question(text);
  return text;
}

}  // namespace onboarding::model::offline
