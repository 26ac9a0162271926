// Numbers as people say them: digits with separators of any habit, English number words, approximations, head counts.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "events/domain/readers.hpp"
#include "events/domain/unicode.hpp"

namespace onboarding::domain {

namespace {

constexpr double max_magnitude = 1e15;  // every whole number up to here is exact in a double

using Words = std::vector<std::string>;
using Table = std::map<std::string, double, std::less<>>;

const Table& small_numbers() {
  static const Table table = {{"zero", 0},     {"one", 1},      {"two", 2},        {"three", 3},     {"four", 4},
                              {"five", 5},     {"six", 6},      {"seven", 7},      {"eight", 8},     {"nine", 9},
                              {"ten", 10},     {"eleven", 11},  {"twelve", 12},    {"thirteen", 13}, {"fourteen", 14},
                              {"fifteen", 15}, {"sixteen", 16}, {"seventeen", 17}, {"eighteen", 18}, {"nineteen", 19},
                              {"twenty", 20},  {"thirty", 30},  {"forty", 40},     {"fourty", 40},   {"fifty", 50},
                              {"sixty", 60},   {"seventy", 70}, {"eighty", 80},    {"ninety", 90}};
  return table;
}

const Table& large_numbers() {
  static const Table table = {{"hundred", 1e2}, {"thousand", 1e3}, {"million", 1e6},   {"billion", 1e9}, {"dozen", 12},
                              {"dozens", 12},   {"hundreds", 1e2}, {"thousands", 1e3}, {"millions", 1e6}};
  return table;
}

std::optional<double> look_up(const Table& table, const std::string& word) {
  const auto found = table.find(word);
  return found == table.end() ? std::nullopt : std::optional<double>(found->second);
}

std::string canonical(double value) {
  if (value == 0) value = 0;  // no negative zero
  std::array<char, 64> buffer{};
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::fixed);
  return error == std::errc() ? std::string(buffer.data(), end) : std::string();
}

std::optional<double> parse_decimal(std::string_view digits) {
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

bool all_digits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

/// Groups of three, also the Indian "1,00,000".
bool well_grouped(std::string_view digits, char mark) {
  for (bool first = true;; first = false) {
    const std::size_t end = digits.find(mark);
    const std::size_t size = std::min(end, digits.size());
    const bool last = end == std::string_view::npos;
    if (size == 0 || size > 3 || (last && size != 3) || (!first && !last && size == 1)) return false;
    if (last) return true;
    digits.remove_prefix(end + 1);
  }
}

/// "1,200", "1.200,50", "1'200", "1200", "1.5" as plain decimal text; nullopt when the separators make no sense.
/// A lone comma before anything but three digits is a decimal comma; a lone point is a decimal point, unless a whole
/// number is wanted and three digits follow.
std::optional<std::string> plain_decimal(std::string token, bool whole) {
  token.erase(std::remove_if(token.begin(), token.end(), [](char c) { return c == '\'' || c == '_'; }), token.end());
  const std::size_t last = token.find_last_of(".,");
  if (last == std::string::npos) return all_digits(token) ? std::optional<std::string>(token) : std::nullopt;
  const char mark = token[last];
  const char other = mark == '.' ? ',' : '.';
  const bool has_other = token.find(other) != std::string::npos;
  const bool repeated = token.find(mark) != last;
  if (has_other && repeated) return std::nullopt;
  const bool three_follow = token.size() - last - 1 == 3 && last >= 1 && last <= 3 && token[0] != '0';
  const bool groups = repeated || (!has_other && three_follow && (mark == ',' || whole));
  std::string integer = groups ? token : token.substr(0, last);
  const std::string fraction = groups ? "" : token.substr(last + 1);
  const char group_mark = groups ? mark : other;
  if ((groups || has_other) && !well_grouped(integer, group_mark)) return std::nullopt;
  integer.erase(std::remove(integer.begin(), integer.end(), group_mark), integer.end());
  if (integer.empty()) integer = "0";
  if (!all_digits(integer) || (!groups && !all_digits(fraction))) return std::nullopt;
  return groups ? integer : integer + "." + fraction;
}

/// A token that begins with a digit: its value, with a scale right behind it ("2k", "1.5m", "40ish", "40+").
std::optional<double> read_digits(std::string_view token, bool whole) {
  const std::size_t end = std::min(token.find_first_not_of("0123456789.,'_"), token.size());
  std::string_view digits = trim(token.substr(0, end), ",'_");
  if (!digits.empty() && digits.back() == '.') digits.remove_suffix(1);
  const std::string_view suffix = token.substr(end);
  static const std::map<std::string, int, std::less<>> scales = {
      {"", 0},        {"k", 3},         {"m", 6},       {"mio", 6},     {"mn", 6},      {"bn", 9},   {"b", 9},      {"+", 0},
      {"%", 0},       {"ish", 0},       {"-ish", 0},    {"k+", 3},      {"kish", 3},    {"m+", 6},   {"ppl", 0},    {"people", 0},
      {"persons", 0}, {"employees", 0}, {"-person", 0}, {"-people", 0}, {"-strong", 0}, {"-man", 0}, {"-member", 0}};
  const auto scale = scales.find(suffix);
  if (scale == scales.end()) return std::nullopt;
  // "1.200k" is 1.2 thousand, never 1,200 thousand.
  const auto plain = plain_decimal(std::string(digits), whole && scale->second == 0);
  if (!plain || plain->size() > 32) return std::nullopt;
  return parse_decimal(*plain + "e" + std::to_string(scale->second));
}

/// Lower-case tokens: signs, currency, brackets and closing punctuation taken off, hyphens between letters opened, groups of
/// digits joined ("1 200 000").
Words tokens_of(const std::string& said) {
  std::string text = ascii_digits(lower(said));
  const auto replace_all = [&](std::string_view from, std::string_view to) {
    for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
      text.replace(at, from.size(), to);
  };
  if (!is_ascii(text)) {
    for (const char* dash : {"\u2010", "\u2011", "\u2012", "\u2013", "\u2014", "\u2212"}) replace_all(dash, "-");
    for (const char* curly : {"\u2019", "\u02BC"}) replace_all(curly, "'");
    for (const char* sign : {"\u20AC", "\u00A3", "\u00A5", "\u2248", "\u066C"}) replace_all(sign, " ");
    replace_all("\u066B", ".");
  }
  for (char& c : text)
    if (std::string_view("$~()[]\"!?;:=<>*").find(c) != std::string_view::npos) c = ' ';
  for (std::size_t i = 1; i + 1 < text.size(); ++i)
    if (text[i] == '-' && std::isalpha(static_cast<unsigned char>(text[i - 1])) &&
        std::isalpha(static_cast<unsigned char>(text[i + 1])))
      text[i] = ' ';

  Words tokens;
  bool group_open = false;  // the last token is digits that a group of three may continue
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    std::string_view token = trim(std::string_view(text).substr(at, end - at), ",");
    while (!token.empty() && token.back() == '.') token.remove_suffix(1);
    at = end + 1;
    if (token.empty()) continue;
    if (group_open && token.size() == 3 && all_digits(token)) {
      tokens.back() += token;
      continue;
    }
    group_open = all_digits(token) && token.size() <= 3 && token[0] != '0';
    tokens.emplace_back(token);
  }
  return tokens;
}

bool contains(const Words& words, const Words& phrase) {
  return std::search(words.begin(), words.end(), phrase.begin(), phrase.end()) != words.end();
}

/// "40-50", "40 to 50", "between forty and fifty".
bool is_range(const Words& tokens) {
  for (const std::string& token : tokens) {
    const std::size_t dash = token.find('-', 1);
    if (dash != std::string::npos && dash + 1 < token.size() && std::isdigit(static_cast<unsigned char>(token[0])) &&
        std::isdigit(static_cast<unsigned char>(token[dash + 1])))
      return true;
  }
  const auto is_number = [&](std::size_t i) {
    return i < tokens.size() && (std::isdigit(static_cast<unsigned char>(tokens[i][0])) || look_up(small_numbers(), tokens[i]) ||
                                 look_up(large_numbers(), tokens[i]));
  };
  for (std::size_t i = 1; i + 1 < tokens.size(); ++i)
    if ((tokens[i] == "to" || tokens[i] == "or" || tokens[i] == "-") && is_number(i - 1) && is_number(i + 1)) return true;
  return std::find(tokens.begin(), tokens.end(), "between") != tokens.end();
}

/// Head counts without a number in them.
std::optional<double> read_head_count(const Words& tokens) {
  static const std::set<std::string, std::less<>> alone = {"just me",
                                                           "only me",
                                                           "me",
                                                           "myself",
                                                           "just myself",
                                                           "only myself",
                                                           "just i",
                                                           "solo",
                                                           "alone",
                                                           "i'm alone",
                                                           "i am alone",
                                                           "on my own",
                                                           "i'm on my own",
                                                           "it's just me",
                                                           "its just me",
                                                           "it is just me",
                                                           "it's only me",
                                                           "just me right now",
                                                           "just me for now",
                                                           "just me so far",
                                                           "me myself and i",
                                                           "only me so far",
                                                           "i work alone",
                                                           "i'm solo",
                                                           "i'm a solo founder",
                                                           "solo founder",
                                                           "one man show",
                                                           "one woman show",
                                                           "one man band",
                                                           "just me at the moment",
                                                           "it's just me for now",
                                                           "it's just me right now",
                                                           "i'm by myself",
                                                           "by myself",
                                                           "a team of one"};
  static const std::set<std::string, std::less<>> nobody = {"none", "nobody", "no one", "noone", "nil", "nothing"};
  static const std::set<std::string, std::less<>> company = {"cofounder", "co-founder", "founder",         "wife",
                                                             "husband",   "partner",    "brother",         "sister",
                                                             "friend",    "colleague",  "business partner"};
  std::string phrase;
  for (const std::string& token : tokens) phrase += (phrase.empty() ? "" : " ") + token;
  if (alone.count(phrase) > 0) return 1;
  if (nobody.count(phrase) > 0) return 0;
  for (const char* opening : {"just me and my ", "me and my ", "it's me and my ", "it's just me and my "})
    if (phrase.rfind(opening, 0) == 0 && company.count(std::string_view(phrase).substr(std::string_view(opening).size())) > 0)
      return 2;
  return std::nullopt;
}

/// "me and two others": the speaker counts too.
bool counts_speaker_besides(const Words& tokens) {
  for (const Words& opening :
       {Words{"me", "and"}, Words{"me", "plus"}, Words{"myself", "and"}, Words{"myself", "plus"}, Words{"i", "and"}})
    if (contains(tokens, opening)) return true;
  return contains(tokens, {"besides", "me"}) || contains(tokens, {"plus", "me"}) || contains(tokens, {"and", "me"}) ||
         contains(tokens, {"and", "myself"}) || contains(tokens, {"apart", "from", "me"});
}

struct Found {
  std::vector<double> values;
  bool unreadable = false;  // something with digits that is no number
};

Found find_numbers(const Words& tokens, bool whole) {
  Found found;
  for (std::size_t at = 0; at < tokens.size();) {
    const bool minus = tokens[at] == "minus" || tokens[at] == "negative" || (tokens[at].size() > 1 && tokens[at][0] == '-');
    std::string token = tokens[at];
    std::size_t next = at;
    if (minus && token[0] == '-') token.erase(0, 1);
    else if (minus && at + 1 < tokens.size()) token = tokens[next = at + 1];
    if (!token.empty() && token[0] == '+' && token.size() > 1) token.erase(0, 1);
    std::optional<double> value;
    if (!token.empty() && (std::isdigit(static_cast<unsigned char>(token[0])) || (token[0] == '.' && token.size() > 1))) {
      value = read_digits(token, whole);
      if (!value) found.unreadable = true;
      ++next;
      // "2 million", "5 hundred", "3 dozen", "2 k"
      for (; value && next < tokens.size(); ++next) {
        const auto scale = tokens[next] == "k" ? std::optional<double>(1e3) : look_up(large_numbers(), tokens[next]);
        if (!scale) break;
        value = std::round(*value * *scale * 1e6) / 1e6;
      }
    } else {
      value = read_number_words(tokens, next);
      if (!value) next = at + 1;
    }
    if (value) found.values.push_back(minus ? -*value : *value);
    at = std::max(next, at + 1);
  }
  return found;
}

tl::expected<double, Refusal> read_quantity(const Words& tokens, bool whole) {
  const auto has = [&](const char* word) { return std::find(tokens.begin(), tokens.end(), word) != tokens.end(); };
  if (const auto count = read_head_count(tokens)) return *count;
  if (is_range(tokens)) return refuse("a_range", "That's a range; which single number comes closest?");
  if (contains(tokens, {"less", "than"}) || contains(tokens, {"fewer", "than"}) || has("under") || has("below"))
    return refuse("not_exact", "Could you give me a number instead of a limit? A good guess is fine.");
  const Found found = find_numbers(tokens, whole);
  if (found.unreadable) return refuse("not_a_number", "I couldn't read a number in that.");
  if (found.values.empty()) {
    for (const char* vague :
         {"few", "several", "some", "many", "lots", "handful", "dozens", "hundreds", "thousands", "loads", "plenty", "various"})
      if (has(vague)) return refuse("not_exact", "Could you put a number on that? A good guess is fine.");
    return refuse("not_a_number", "I couldn't find a number in that.");
  }
  for (const double value : found.values)
    if (value != found.values.front()) return refuse("several_values", "I found more than one number in that; which one is it?");
  return found.values.front() + (counts_speaker_besides(tokens) ? 1 : 0);
}

}  // namespace

std::optional<double> read_number_words(const Words& words, std::size_t& at) {
  std::size_t i = at;
  const auto is = [&](std::size_t index, const char* word) { return index < words.size() && words[index] == word; };
  double total = 0;  // of finished thousands, millions …
  double group = 0;  // below a thousand, being built
  double unit = -1;  // the last small number, to tell "twenty five" from "twenty thirty"
  bool any = false;
  if (is(i, "half") && is(i + 1, "a") && is(i + 2, "dozen")) {
    at = i + 3;
    return 6;
  }
  if ((is(i, "a") || is(i, "an") || is(i, "the") || is(i, "one")) && is(i + 1, "couple")) ++i;
  if (is(i, "couple")) {
    ++i;
    if (is(i, "of")) ++i;
    group = 2;
    any = true;
    unit = 2;
  } else if ((is(i, "a") || is(i, "an")) && i + 1 < words.size() && look_up(large_numbers(), words[i + 1])) {
    ++i;
    group = 1;
    any = true;
    unit = 1;
  }
  for (; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (const auto small = look_up(small_numbers(), word)) {
      const bool after_tens = unit >= 20 && *small >= 1 && *small <= 9;
      const bool fits = unit < 0 || after_tens;
      if (!fits) break;
      group += *small;
      unit = after_tens ? *small : (*small == 0 ? 1 : *small);
      any = true;
      continue;
    }
    const auto large = look_up(large_numbers(), word);
    if (large && any) {
      if (*large == 1e2 || *large == 12) {
        group *= *large;
      } else {
        total += group * *large;
        group = 0;
      }
      unit = -1;
      continue;
    }
    const bool and_more = word == "and" && any && unit < 0 && i + 1 < words.size() && look_up(small_numbers(), words[i + 1]);
    if (!and_more) break;
  }
  if (!any) return std::nullopt;
  double value = total + group;
  if (is(i, "point") && i + 1 < words.size() && look_up(small_numbers(), words[i + 1]).value_or(10) < 10) {
    std::string decimals = ".";
    for (++i; i < words.size() && look_up(small_numbers(), words[i]).value_or(10) < 10; ++i)
      decimals += static_cast<char>('0' + static_cast<int>(*look_up(small_numbers(), words[i])));
    value += parse_decimal("0" + decimals).value_or(0);
  } else if (is(i, "and") && is(i + 1, "a") && (is(i + 2, "half") || is(i + 2, "quarter"))) {
    value += is(i + 2, "half") ? 0.5 : 0.25;
    i += 3;
  }
  at = i;
  return value;
}

Reading read_number(const FieldSpec& spec, const std::string& said) {
  const bool whole = spec.type == FieldType::integer;
  const auto value = read_quantity(tokens_of(said), whole);
  if (!value) return tl::make_unexpected(value.error());
  if (!std::isfinite(*value) || std::abs(*value) > max_magnitude)
    return refuse("too_large", "That number is larger than I can take.");
  if (whole && *value != std::floor(*value)) return refuse("not_whole", "I need a whole number there.");
  if (spec.min && *value < *spec.min)
    return refuse("below_minimum", "That's too small; the least I can take is " + canonical(*spec.min) + ".");
  if (spec.max && *value > *spec.max)
    return refuse("above_maximum", "That's too large; the most I can take is " + canonical(*spec.max) + ".");
  return canonical(*value);
}

}  // namespace onboarding::domain
