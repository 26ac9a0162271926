#include "events/domain/unicode.hpp"

#include <unicode/bytestream.h>
#include <unicode/casemap.h>
#include <unicode/normalizer2.h>
#include <unicode/regex.h>
#include <unicode/stringoptions.h>
#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <map>
#include <memory>

namespace onboarding::domain {

namespace {

constexpr int max_marks_in_a_row = 6;     // Vietnamese and pointed Hebrew need three or four; beyond is decoration
constexpr int32_t regex_time_limit = 50;  // ICU's unit: steps of the engine, about a millisecond each
constexpr int32_t regex_stack_bytes = 1 << 20;
constexpr std::size_t max_cached_patterns = 64;

char32_t next_code_point(std::string_view text, std::size_t& at) {
  UChar32 c = 0;
  auto i = static_cast<int32_t>(at);
  U8_NEXT_OR_FFFD(text.data(), i, static_cast<int32_t>(text.size()), c);
  at = static_cast<std::size_t>(i);
  return static_cast<char32_t>(c);
}

std::string normalized(const icu::Normalizer2* form, std::string_view text) {
  UErrorCode status = U_ZERO_ERROR;
  std::string out;
  icu::StringByteSink<std::string> sink(&out);
  form->normalizeUTF8(0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), sink, nullptr, status);
  return U_FAILURE(status) ? std::string(text) : out;
}

const icu::Normalizer2* nfc() {
  static const icu::Normalizer2* const form = [] {
    UErrorCode status = U_ZERO_ERROR;
    return icu::Normalizer2::getNFCInstance(status);
  }();
  return form;
}

const icu::Normalizer2* nfd() {
  static const icu::Normalizer2* const form = [] {
    UErrorCode status = U_ZERO_ERROR;
    return icu::Normalizer2::getNFDInstance(status);
  }();
  return form;
}

bool is_space(char32_t c) { return u_isUWhiteSpace(static_cast<UChar32>(c)); }

/// Bidirectional controls, zero-width blanks, soft hyphens, byte order marks: they change no meaning, only equality.
bool is_invisible(char32_t c) {
  return c == 0xAD || c == 0x034F || c == 0x061C || c == 0x180E || c == 0x200B || c == 0x200E || c == 0x200F ||
         (c >= 0x202A && c <= 0x202E) || (c >= 0x2060 && c <= 0x206F) || c == 0xFEFF;
}

bool is_joiner(char32_t c) { return c == 0x200C || c == 0x200D; }

bool is_apostrophe(char32_t c) { return c == '\'' || c == 0x2019 || c == 0x2018 || c == 0x02BC; }

/// ASCII only: no normalisation to do.
std::optional<std::string> clean_ascii(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  bool blank = false;
  for (const char c : text) {
    if (c == ' ' || (c >= '\t' && c <= '\r')) {
      blank = !out.empty();
      continue;
    }
    if (c < ' ' || c == 0x7F) return std::nullopt;
    if (blank) out += ' ';
    blank = false;
    out += c;
  }
  return out;
}

const icu::RegexPattern* compiled(const std::string& pattern) {
  // One cache a thread: a flow has few patterns, and compiling costs a hundred times more than matching.
  thread_local std::map<std::string, std::unique_ptr<icu::RegexPattern>> cache;
  const auto found = cache.find(pattern);
  if (found != cache.end()) return found->second.get();
  if (cache.size() >= max_cached_patterns) cache.clear();
  UErrorCode status = U_ZERO_ERROR;
  UParseError where;
  std::unique_ptr<icu::RegexPattern> compiled_now(
      icu::RegexPattern::compile(icu::UnicodeString::fromUTF8(pattern), where, status));
  if (U_FAILURE(status)) compiled_now.reset();
  return cache.emplace(pattern, std::move(compiled_now)).first->second.get();
}

}  // namespace

bool is_letter(char32_t c) { return u_isalpha(static_cast<UChar32>(c)); }
bool is_digit(char32_t c) { return u_isdigit(static_cast<UChar32>(c)); }
bool is_mark(char32_t c) {
  const auto type = u_charType(static_cast<UChar32>(c));
  return type == U_NON_SPACING_MARK || type == U_COMBINING_SPACING_MARK || type == U_ENCLOSING_MARK;
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

std::vector<char32_t> code_points(std::string_view text) {
  std::vector<char32_t> out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) out.push_back(next_code_point(text, at));
  return out;
}

std::size_t length_in_code_points(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

void append(std::string& out, char32_t code_point) {
  char buffer[U8_MAX_LENGTH];
  int32_t length = 0;
  U8_APPEND_UNSAFE(buffer, length, static_cast<UChar32>(code_point));
  out.append(buffer, static_cast<std::size_t>(length));
}

std::optional<std::string> clean(std::string_view text) {
  if (is_ascii(text)) return clean_ascii(text);
  std::string out;
  out.reserve(text.size());
  bool blank = false;
  int marks = 0;
  std::string joiners;  // kept only between two visible characters
  for (const char32_t c : code_points(normalized(nfc(), text))) {
    if (is_space(c)) {
      blank = !out.empty();
      joiners.clear();
      continue;
    }
    if (is_invisible(c)) continue;
    if (u_charType(static_cast<UChar32>(c)) == U_CONTROL_CHAR) return std::nullopt;
    if (is_joiner(c)) {
      if (!out.empty() && !blank && joiners.empty()) append(joiners, c);
      continue;
    }
    marks = is_mark(c) ? marks + 1 : 0;
    if (marks > max_marks_in_a_row) return std::nullopt;
    if (blank) out += ' ';
    out += joiners;
    blank = false;
    joiners.clear();
    append(out, c);
  }
  return out;
}

std::string lower(std::string_view text) {
  std::string out;
  if (is_ascii(text)) {
    out = text;
    for (char& c : out)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    return out;
  }
  UErrorCode status = U_ZERO_ERROR;
  icu::StringByteSink<std::string> sink(&out);
  icu::CaseMap::utf8ToLower("", 0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), sink, nullptr, status);
  return normalized(nfc(), U_FAILURE(status) ? std::string(text) : out);
}

std::string fold_words(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  bool blank = false;
  const auto put = [&](char32_t c) {
    if (blank && !out.empty()) out += ' ';
    blank = false;
    append(out, c);
  };
  if (is_ascii(text)) {
    for (const char c : text) {
      if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '\'') put(static_cast<char32_t>(c));
      else if (c >= 'A' && c <= 'Z') put(static_cast<char32_t>(c - 'A' + 'a'));
      else blank = true;
    }
    return out;
  }
  const std::string plain = normalized(nfd(), lower(text));
  for (std::size_t at = 0; at < plain.size();) {
    const char32_t c = next_code_point(plain, at);
    if (c < 0x80 ? (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') : is_letter(c) || is_digit(c)) put(c);
    else if (is_apostrophe(c)) put('\'');
    else if (!is_mark(c) && !is_joiner(c)) blank = true;
  }
  return out;
}

std::vector<std::string> words_of(std::string_view text) { return words_of_folded(fold_words(text)); }

std::vector<std::string> words_of_folded(std::string_view folded) {
  std::vector<std::string> words;
  for (std::size_t at = 0; at < folded.size();) {
    const std::size_t end = std::min(folded.find(' ', at), folded.size());
    words.emplace_back(folded.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

std::string ascii_digits(std::string_view text) {
  if (is_ascii(text)) return std::string(text);
  std::string out;
  for (const char32_t c : code_points(text)) {
    const int32_t digit = u_charDigitValue(static_cast<UChar32>(c));
    append(out, digit >= 0 && is_digit(c) ? static_cast<char32_t>('0' + digit) : c);
  }
  return out;
}

bool starts_with_word(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix && (text.size() == prefix.size() || text[prefix.size()] == ' ');
}

std::string_view trim(std::string_view text, std::string_view ascii_characters) {
  const std::size_t first = text.find_first_not_of(ascii_characters);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(ascii_characters) - first + 1);
}

bool matches(const std::string& pattern, std::string_view text) {
  const icu::RegexPattern* expression = compiled(pattern);
  if (!expression) return false;
  UErrorCode status = U_ZERO_ERROR;
  const icu::UnicodeString input = icu::UnicodeString::fromUTF8(icu::StringPiece(text.data(), static_cast<int32_t>(text.size())));
  const std::unique_ptr<icu::RegexMatcher> matcher(expression->matcher(input, status));
  if (U_FAILURE(status)) return false;
  matcher->setTimeLimit(regex_time_limit, status);
  matcher->setStackLimit(regex_stack_bytes, status);
  const bool whole = matcher->matches(status);
  return U_SUCCESS(status) && whole;
}

}  // namespace onboarding::domain
