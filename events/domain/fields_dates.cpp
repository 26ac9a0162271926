// Dates in the forms people write and say them. Never guessed: 03/04/2020 is two dates, and is refused with a question.
#include <unicode/dtfmtsym.h>
#include <unicode/locid.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <map>
#include <set>

#include "events/domain/readers.hpp"
#include "events/domain/unicode.hpp"

namespace onboarding::domain {

namespace {

using Words = std::vector<std::string>;

constexpr int first_year = 1000;  // what is earlier is a slip of the finger
constexpr int last_year = 9999;

/// Month names, full and short, folded, in the languages people answer in; the first language has the say.
const std::map<std::string, unsigned, std::less<>>& months() {
  static const auto table = [] {
    std::map<std::string, unsigned, std::less<>> names;
    for (const char* language : {"en", "de", "fr", "es", "it", "pt", "nl", "sv", "da", "nb", "pl", "tr", "ru", "uk"}) {
      UErrorCode status = U_ZERO_ERROR;
      const icu::DateFormatSymbols symbols(icu::Locale(language), status);
      if (U_FAILURE(status)) continue;
      for (const auto width : {icu::DateFormatSymbols::WIDE, icu::DateFormatSymbols::ABBREVIATED}) {
        int32_t count = 0;
        const icu::UnicodeString* of_width = symbols.getMonths(count, icu::DateFormatSymbols::FORMAT, width);
        for (int32_t i = 0; i < std::min(count, 12); ++i) {
          std::string name;
          of_width[i].toUTF8String(name);
          name = fold_words(name);
          if (!name.empty() && !std::isdigit(static_cast<unsigned char>(name[0])))
            names.emplace(name, static_cast<unsigned>(i + 1));
        }
      }
    }
    names.emplace("sept", 9U);
    return names;
  }();
  return table;
}

const std::map<std::string, unsigned, std::less<>>& ordinals() {
  static const std::map<std::string, unsigned, std::less<>> table = {
      {"first", 1},       {"second", 2},      {"third", 3},      {"fourth", 4},     {"fifth", 5},        {"sixth", 6},
      {"seventh", 7},     {"eighth", 8},      {"ninth", 9},      {"tenth", 10},     {"eleventh", 11},    {"twelfth", 12},
      {"thirteenth", 13}, {"fourteenth", 14}, {"fifteenth", 15}, {"sixteenth", 16}, {"seventeenth", 17}, {"eighteenth", 18},
      {"nineteenth", 19}, {"twentieth", 20},  {"thirtieth", 30}};
  return table;
}

tl::unexpected<Refusal> not_a_date() { return refuse("not_a_date", "I couldn't read a date in that."); }

Reading iso(int year, unsigned month, unsigned day) {
  if (year < 100) return refuse("short_year", "Could you give me the year with all four digits?");
  const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(month), std::chrono::day(day)};
  if (year < first_year || year > last_year || !date.ok()) return refuse("no_such_day", "There is no such day in the calendar.");
  std::string out = "0000-00-00";
  const auto put = [&](std::size_t at, int digits, int value) {
    for (; digits > 0; --digits, value /= 10)
      out[at + static_cast<std::size_t>(digits) - 1] = static_cast<char>('0' + value % 10);
  };
  put(0, 4, year);
  put(5, 2, static_cast<int>(month));
  put(8, 2, static_cast<int>(day));
  return out;
}

int to_int(std::string_view digits) {
  int value = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return value;
}

/// "3", "3rd", "3." or "third", "twenty first"; moves `at`. 0: no day.
unsigned read_day(const Words& words, std::size_t& at) {
  if (at >= words.size()) return 0;
  const std::string& word = words[at];
  if (std::isdigit(static_cast<unsigned char>(word[0]))) {
    const std::size_t end = std::min(word.find_first_not_of("0123456789"), word.size());
    static const std::set<std::string, std::less<>> endings = {"", "st", "nd", "rd", "th", "er", "o"};
    if (end > 2 || endings.count(word.substr(end)) == 0) return 0;
    ++at;
    return static_cast<unsigned>(to_int(word.substr(0, end)));
  }
  if (const auto found = ordinals().find(word); found != ordinals().end()) {
    ++at;
    return found->second;
  }
  if ((word == "twenty" || word == "thirty") && at + 1 < words.size()) {
    const auto found = ordinals().find(words[at + 1]);
    if (found == ordinals().end() || found->second > 9) return 0;
    at += 2;
    return (word == "twenty" ? 20 : 30) + found->second;
  }
  return 0;
}

/// "1990", "nineteen ninety", "two thousand and five", "twenty twenty". -1: none.
int read_year(const Words& words, std::size_t& at) {
  if (at >= words.size()) return -1;
  const std::string& word = words[at];
  if (std::isdigit(static_cast<unsigned char>(word[0]))) {
    if (word.find_first_not_of("0123456789") != std::string::npos || (word.size() != 4 && word.size() != 2)) return -1;
    ++at;
    return to_int(word);
  }
  const auto century = read_number_words(words, at);
  if (!century) return -1;
  if (*century >= 100) return static_cast<int>(*century);
  if (at < words.size() && (words[at] == "oh" || words[at] == "o")) ++at;
  const auto rest = read_number_words(words, at);
  if (!rest || *rest >= 100 || *century < 10) return static_cast<int>(*century);
  return static_cast<int>(*century * 100 + *rest);
}

/// Words that say nothing about which day it is.
bool is_filler(const std::string& word) {
  static const std::set<std::string, std::less<>> fillers = {
      "of",       "the",    "on",      "in",        "it's",     "its",    "it",       "is",     "was", "i",   "born", "my",
      "birthday", "date",   "birth",   "year",      "and",      "de",     "del",      "den",    "le",  "el",  "am",   "d",
      "since",    "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "mon", "tue", "tues", "wed",
      "thu",      "thur",   "thurs",   "fri",       "sat",      "sun",    "that",     "would",  "be",  "i'm"};
  return fillers.count(word) > 0;
}

/// "3rd of May 1990", "May 3, 1990", "1990 May 3".
Reading read_with_month_name(Words words) {
  words.erase(std::remove_if(words.begin(), words.end(), is_filler), words.end());
  const auto is_month = [](const std::string& word) { return months().count(word) > 0; };
  const auto named = std::find_if(words.begin(), words.end(), is_month);
  if (named == words.end() || std::count_if(words.begin(), words.end(), is_month) != 1) return not_a_date();
  const unsigned month = months().find(*named)->second;
  const auto month_at = static_cast<std::size_t>(named - words.begin());
  std::size_t at = 0;
  unsigned day = 0;
  int year = -1;
  if (month_at == 0) {  // month first
    at = 1;
    day = read_day(words, at);
    if (day > 0) year = read_year(words, at);
    if (day == 0 && read_year(words, at) > 0 && at == words.size()) return refuse("no_day", "Which day of the month was that?");
  } else {
    day = read_day(words, at);
    if (day > 0 && at == month_at) {  // day first
      at = month_at + 1;
      year = read_year(words, at);
    } else {  // year first
      at = 0;
      year = read_year(words, at);
      if (at != month_at) return not_a_date();
      at = month_at + 1;
      day = read_day(words, at);
    }
  }
  if (day == 0 || at != words.size()) return not_a_date();
  if (year < 0) return refuse("no_year", "Which year was that?");
  return iso(year, month, day);
}

/// Three groups of digits with the same separator.
Reading read_numeric(const std::array<std::string, 3>& parts, char separator) {
  if (parts[0].size() == 4) {
    if (parts[1].size() > 2 || parts[2].size() > 2) return not_a_date();
    return iso(to_int(parts[0]), static_cast<unsigned>(to_int(parts[1])), static_cast<unsigned>(to_int(parts[2])));
  }
  if (parts[0].size() > 2 || parts[1].size() > 2 || (parts[2].size() != 4 && parts[2].size() != 2)) return not_a_date();
  const auto first = static_cast<unsigned>(to_int(parts[0]));
  const auto second = static_cast<unsigned>(to_int(parts[1]));
  const int year = parts[2].size() == 4 ? to_int(parts[2]) : 0;
  // With points it is day.month.year everywhere; with slashes and dashes it depends on where one grew up.
  if (separator == '.' || first > 12 || first == second) return iso(year, second, first);
  if (second > 12) return iso(year, first, second);
  return refuse("ambiguous_date", "I can't tell the day from the month there; could you write the month as a word?");
}

std::optional<std::pair<std::array<std::string, 3>, char>> split_numeric(std::string_view token) {
  std::array<std::string, 3> parts;
  std::size_t part = 0;
  char separator = 0;
  for (const char c : token) {
    if (c >= '0' && c <= '9') {
      parts[part] += c;
    } else if ((c == '-' || c == '/' || c == '.') && (separator == 0 || c == separator) && part < 2 && !parts[part].empty()) {
      separator = c;
      ++part;
    } else {
      return std::nullopt;
    }
  }
  if (part != 2 || parts[2].empty()) return std::nullopt;
  return std::make_pair(parts, separator);
}

/// ASCII digits and separators; the CJK signs for year, month and day as dashes.
std::string with_plain_separators(const std::string& said) {
  std::string text = ascii_digits(said);
  if (!is_ascii(text)) {
    static const std::array<std::pair<const char*, const char*>, 9> signs = {{{"\u5E74", "-"},
                                                                              {"\u6708", "-"},
                                                                              {"\u65E5", " "},
                                                                              {"\uB144", "-"},
                                                                              {"\uC6D4", "-"},
                                                                              {"\uC77C", " "},
                                                                              {"\u2013", "-"},
                                                                              {"\u2010", "-"},
                                                                              {"\u2011", "-"}}};
    for (const auto& [from, to] : signs)
      for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from)) text.replace(at, 3, to);
  }
  // "2020 - 04 - 03", "3. 5. 1990"
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool blank = text[i] == ' ';
    const bool before = !out.empty() && std::string_view("-/.").find(out.back()) != std::string_view::npos;
    const bool after = i + 1 < text.size() && std::string_view("-/").find(text[i + 1]) != std::string_view::npos;
    const bool digit_follows = i + 1 < text.size() && std::isdigit(static_cast<unsigned char>(text[i + 1]));
    if (blank && ((before && digit_follows) || after)) continue;
    out += text[i];
  }
  return out;
}

bool all_digits(std::string_view text) { return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos; }

}  // namespace

Reading read_date(const std::string& said) {
  const std::string text = with_plain_separators(said);
  std::optional<Reading> numeric;
  bool others = false;  // words that are no filler
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    std::string_view token = trim(std::string_view(text).substr(at, end - at), ",;:!?()\"'");
    while (!token.empty() && token.back() == '.') token.remove_suffix(1);
    at = end + 1;
    // An ISO timestamp's day is a day.
    if (token.size() > 10 && token[4] == '-' && token[10] == 'T') token = token.substr(0, 10);
    if (const auto parts = split_numeric(token)) {
      if (numeric) return refuse("several_values", "I found more than one date in that; which one is it?");
      numeric = read_numeric(parts->first, parts->second);
    } else if (token.size() == 8 && all_digits(token)) {
      if (numeric) return refuse("several_values", "I found more than one date in that; which one is it?");
      numeric = iso(to_int(token.substr(0, 4)), static_cast<unsigned>(to_int(token.substr(4, 2))),
                    static_cast<unsigned>(to_int(token.substr(6, 2))));
    } else if (!token.empty() && !is_filler(fold_words(token))) {
      others = true;
    }
  }
  if (numeric && !others) return *numeric;
  if (numeric) return not_a_date();
  const Words words = words_of(text);
  for (const char* relative : {"today", "yesterday", "tomorrow", "ago", "last", "next"})
    if (std::find(words.begin(), words.end(), relative) != words.end())
      return refuse("relative_date", "Could you give me the date itself?");
  return read_with_month_name(words);
}

}  // namespace onboarding::domain
