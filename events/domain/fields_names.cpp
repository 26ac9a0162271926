// Names of people and of companies: kept as said, only judged, with what surrounds a name in a sentence taken off.
#include <algorithm>
#include <array>
#include <cctype>
#include <set>

#include "events/domain/readers.hpp"
#include "events/domain/unicode.hpp"

namespace onboarding::domain {

namespace {

constexpr std::uint32_t max_name_length = 200;
constexpr std::size_t max_name_words = 10;
constexpr std::size_t max_company_words = 15;

/// `said` without the opening of a sentence, the longest that fits. Openings are lower-case ASCII with straight apostrophes.
std::string_view without_opening(std::string_view said, const std::vector<std::string_view>& openings) {
  const auto length_of = [&](std::string_view opening) -> std::size_t {
    std::size_t at = 0;
    for (const char wanted : opening) {
      if (wanted == '\'' && said.substr(at, 3) == "\u2019") {
        at += 3;
        continue;
      }
      if (at >= said.size() || std::tolower(static_cast<unsigned char>(said[at])) != wanted) return 0;
      ++at;
    }
    return at;
  };
  std::size_t longest = 0;
  for (const std::string_view opening : openings) longest = std::max(longest, length_of(opening));
  return longest < said.size() ? said.substr(longest) : said;
}

std::string_view without_full_stop(std::string_view said) {
  said = trim(said, " ,;:!?");
  if (said.size() < 2 || said.back() != '.') return said;
  static const std::set<std::string, std::less<>> abbreviations = {"jr",  "sr",   "dr",   "st",   "esq", "phd",  "md",
                                                                   "inc", "co",   "corp", "ltd",  "llc", "bros", "plc",
                                                                   "pty", "gmbh", "cie",  "spol", "a",   "s"};
  const std::size_t blank = said.find_last_of(" ,");
  const std::string_view last = said.substr(blank == std::string_view::npos ? 0 : blank + 1);
  const std::string_view word = last.substr(0, last.size() - 1);
  const bool abbreviated = word.size() == 1 || word.find('.') != std::string_view::npos || abbreviations.count(lower(word)) > 0;
  return abbreviated ? said : said.substr(0, said.size() - 1);
}

bool looks_like_url(std::string_view said) {
  if (said.find("://") != std::string_view::npos) return true;
  return lower(said.substr(0, 4)) == "www.";
}

/// "acme.io", not "J.R.R." nor "St.John".
bool looks_like_domain(std::string_view word) {
  const std::size_t dot = word.rfind('.');
  if (dot == std::string_view::npos || word.find('.') < 3) return false;
  const std::string_view tld = word.substr(dot + 1);
  return tld.size() >= 2 && tld.size() <= 6 && std::all_of(tld.begin(), tld.end(), [](char c) { return c >= 'a' && c <= 'z'; });
}

bool may_stand_in_a_name(char32_t c) {
  static constexpr std::array<char32_t, 9> others = {' ', '\'', '-', '.', ',', 0x00B7, 0x30FB, 0x200C, 0x200D};
  // Middle dots join Catalan l·l and names in katakana; 05F3 and 05F4 are Hebrew punctuation inside names.
  return is_letter(c) || is_mark(c) || c == 0x05F3 || c == 0x05F4 || std::find(others.begin(), others.end(), c) != others.end();
}

/// Typographic apostrophes and hyphens as the plain ones, so that the same name stays the same name.
std::string plain_joints(std::string_view said) {
  if (is_ascii(said)) {
    std::string out(said);
    std::replace(out.begin(), out.end(), '`', '\'');
    return out;
  }
  std::string out;
  for (const char32_t c : code_points(said)) {
    const bool apostrophe = c == '`' || c == 0x00B4 || c == 0x2018 || c == 0x2019 || c == 0x201B || c == 0x2032 || c == 0x02BC;
    const bool hyphen = c == 0x2010 || c == 0x2011 || c == 0x2012 || c == 0x2013;
    append(out, apostrophe ? U'\'' : hyphen ? U'-' : c);
  }
  return out;
}

std::size_t count_words(std::string_view said) { return static_cast<std::size_t>(std::count(said.begin(), said.end(), ' ')) + 1; }

}  // namespace

Reading read_person_name(const FieldSpec& spec, const std::string& said) {
  static const std::vector<std::string_view> openings = {
      "my full name is ", "the name is ",     "the name's ",     "my name is ",   "my name's ", "name is ",
      "name: ",           "you can call me ", "please call me ", "just call me ", "call me ",   "i am called ",
      "i'm called ",      "this is ",         "it is ",          "it's ",         "i am ",      "i'm "};
  static const std::set<std::string, std::less<>> no_names = {
      "yes",          "yeah",    "yep",   "ok",  "okay", "sure", "hello", "hi",   "hey",  "nobody",    "anonymous", "idk",
      "i don't know", "unknown", "guess", "why", "what", "who",  "help",  "test", "null", "undefined", "name",      "my name"};
  if (said.find('@') != std::string::npos) return refuse("looks_like_email", "That looks like an e-mail address, not a name.");
  if (looks_like_url(said)) return refuse("looks_like_url", "That looks like a web address, not a name.");
  // Quotation marks around a name are the sentence's, not the name's.
  std::string name = plain_joints(without_full_stop(without_opening(trim(said, "\"' "), openings)));
  if (name.empty()) return refuse("no_letters", "I couldn't find a name in that.");
  bool letters = false;
  for (const char32_t c : code_points(name)) {
    if (is_digit(c)) return refuse("has_digits", "A name has no digits in it.");
    if (!may_stand_in_a_name(c)) return refuse("odd_character", "That has a character that names don't have.");
    letters = letters || is_letter(c);
  }
  if (!letters) return refuse("no_letters", "I couldn't find a name in that.");
  for (std::size_t at = 0; at < name.size();) {
    const std::size_t end = std::min(name.find(' ', at), name.size());
    if (looks_like_domain(std::string_view(name).substr(at, end - at)))
      return refuse("looks_like_url", "That looks like a web address, not a name.");
    at = end + 1;
  }
  if (no_names.count(fold_words(name)) > 0) return refuse("not_a_name", "That doesn't sound like a name.");
  if (const auto fits = check_length(spec, name, max_name_length); !fits) return tl::make_unexpected(fits.error());
  if (count_words(name) > max_name_words) return refuse("not_a_name", "That sounds like more than a name.");
  return name;
}

Reading read_company(const FieldSpec& spec, const std::string& said) {
  static const std::vector<std::string_view> openings = {"the company is called ",
                                                         "our company is called ",
                                                         "my company is called ",
                                                         "the company is ",
                                                         "our company is ",
                                                         "my company is ",
                                                         "we are called ",
                                                         "we're called ",
                                                         "it is called ",
                                                         "it's called ",
                                                         "i am working for ",
                                                         "i'm working for ",
                                                         "i am working at ",
                                                         "i'm working at ",
                                                         "i work with ",
                                                         "i work for ",
                                                         "i work at ",
                                                         "i am with ",
                                                         "i'm with ",
                                                         "i am from ",
                                                         "i'm from ",
                                                         "i am at ",
                                                         "i'm at ",
                                                         "we are ",
                                                         "we're ",
                                                         "it is ",
                                                         "it's ",
                                                         "company: "};
  // Only in lower case: "At Home" and "From Scratch" are names.
  static const std::array<std::string_view, 3> small_openings = {"at ", "from ", "with "};
  if (said.find('@') != std::string::npos && said.find(' ') == std::string::npos && said.find('@') > 0)
    return refuse("looks_like_email", "That looks like an e-mail address, not a company.");
  if (looks_like_url(said)) return refuse("looks_like_url", "That looks like a web address, not a company's name.");
  std::string_view name = without_opening(trim(said, "\" "), openings);
  for (const std::string_view opening : small_openings)
    if (name.substr(0, opening.size()) == opening && name.size() > opening.size()) name.remove_prefix(opening.size());
  const bool exclaims = !name.empty() && name.back() == '!';  // Yahoo!
  name = exclaims ? name : without_full_stop(name);
  const auto points = code_points(name);
  if (std::none_of(points.begin(), points.end(), [](char32_t c) { return is_letter(c) || is_digit(c); }))
    return refuse("no_letters", "I couldn't find a company's name in that.");
  static const std::set<std::string, std::less<>> no_names = {"yes", "yeah", "ok", "okay", "idk", "i don't know", "hello", "hi"};
  if (no_names.count(fold_words(name)) > 0) return refuse("not_a_name", "That doesn't sound like a company's name.");
  if (const auto fits = check_length(spec, name, max_name_length); !fits) return tl::make_unexpected(fits.error());
  if (count_words(name) > max_company_words) return refuse("not_a_name", "That sounds like more than a company's name.");
  return std::string(name);
}

}  // namespace onboarding::domain
