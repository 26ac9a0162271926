#include "actors/model/said.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <set>

#include "events/domain/readers.hpp"
#include "events/domain/text.hpp"
#include "events/domain/unicode.hpp"

namespace onboarding::model {
namespace {

using domain::FieldType;
using Words = std::vector<std::string>;

bool one_of(std::string_view word, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}
bool digit(char c) { return c >= '0' && c <= '9'; }

/// Folded words; "O'Brien" is two, as is "I'm".
Words split(std::string_view text) {
  auto folded = domain::fold_words(text);
  std::replace(folded.begin(), folded.end(), '\'', ' ');
  Words words;
  for (std::size_t begin = 0; begin < folded.size();) {
    const auto end = std::min(folded.find(' ', begin), folded.size());
    if (end > begin) words.push_back(folded.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

/// Says nothing about which company, role or goal it is.
bool empty_word(std::string_view w) {
  return one_of(w, {"a",  "an", "the", "of",   "and", "for", "to",  "in",    "at",      "my",      "our", "we",
                    "i",  "is", "on",  "with", "by",  "inc", "ltd", "llc",   "gmbh",    "ag",      "co",  "corp",
                    "se", "bv", "plc", "sa",   "s",   "de",  "la",  "group", "company", "limited", "or",  "be"});
}

bool ascii(std::string_view w) { return domain::is_ascii(w); }

/// One letter left out, added, changed or swapped with its neighbour.
bool one_slip(std::string_view a, std::string_view b) {
  if (a.size() < b.size()) std::swap(a, b);
  if (b.size() < 4 || a.size() - b.size() > 1) return false;
  std::size_t i = 0;
  while (i < b.size() && a[i] == b[i]) ++i;
  if (a.size() > b.size()) return b.size() > 4 && a.substr(i + 1) == b.substr(i);
  if (i + 1 < b.size() && a[i] == b[i + 1] && a[i + 1] == b[i] && a.substr(i + 2) == b.substr(i + 2)) return true;
  return b.size() > 4 && (i == b.size() || a.substr(i + 1) == b.substr(i + 1));
}

bool alike(std::string_view wanted, std::string_view said) {
  if (wanted == said) return true;
  if (!ascii(wanted) && !ascii(said) && said.find(wanted) != said.npos) return true;  // no blanks between Chinese words
  std::size_t common = 0;
  while (common < std::min(wanted.size(), said.size()) && wanted[common] == said[common]) ++common;
  if (common >= 3 && 2 * common >= std::max(wanted.size(), said.size())) return true;  // developing, developer
  if (common == said.size() && one_of(said, {"dev", "eng", "exec", "admin", "rep", "ops", "prof", "tech", "sec", "univ"}))
    return true;
  if (!ascii(wanted) && ascii(said)) {  // Sørlie, Sorlie: the other letters in order, one for each that ASCII has not
    std::size_t foreign = 0, at = 0;
    for (const char c : wanted) {
      if (static_cast<unsigned char>(c) >= 0x80) foreign += (static_cast<unsigned char>(c) & 0xc0) == 0xc0;
      else if ((at = said.find(c, at)) == said.npos) return false;
      else ++at;
    }
    return 2 * foreign < said.size() && said.size() <= wanted.size();
  }
  return one_slip(wanted, said);
}

double scale_of(std::string_view w) {
  if (one_of(w, {"k", "thousand", "thousands", "tsd"})) return 1e3;
  if (one_of(w, {"m", "mio", "mn", "million", "millions"})) return 1e6;
  if (one_of(w, {"hundred", "hundreds"})) return 1e2;
  return one_of(w, {"dozen", "dozens"}) ? 12 : 0;
}

std::optional<double> ordinal(std::string_view w) {
  static constexpr std::array<std::pair<std::string_view, double>, 9> irregular{{{"first", 1},
                                                                                 {"second", 2},
                                                                                 {"third", 3},
                                                                                 {"fifth", 5},
                                                                                 {"eighth", 8},
                                                                                 {"ninth", 9},
                                                                                 {"twelfth", 12},
                                                                                 {"twentieth", 20},
                                                                                 {"thirtieth", 30}}};
  for (const auto& [word, value] : irregular)
    if (w == word) return value;
  if (w.size() < 5 || !w.ends_with("th")) return std::nullopt;
  std::size_t at = 0;
  return domain::read_number_words({std::string(w.substr(0, w.size() - 2))}, at);
}

double number_of(std::string_view digits) {
  double value = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return value;
}

/// The month that a word names, or 0.
int month_of(std::string_view w) {
  static constexpr std::array<std::string_view, 12> months{"january", "february", "march",     "april",   "may",      "june",
                                                           "july",    "august",   "september", "october", "november", "december"};
  if (w.size() >= 3)
    for (std::size_t m = 0; m < months.size(); ++m)
      if (months[m].starts_with(w) || (w == "sept" && m == 8)) return static_cast<int>(m) + 1;
  return 0;
}

}  // namespace

Said::Said(const ExtractionRequest& request) : request_(request) {
  const auto language = [](std::string_view locale) { return domain::ascii_lower(locale.substr(0, locale.find_first_of("-_"))); };
  other_language_ = (!request.locale.empty() && language(request.locale) != "en") || language(request.flow->locale) != "en";
  lines_.push_back(read(request.message));
  for (const auto& line : request.history)
    if (line.from_user) lines_.push_back(read(line.text));
  for (const auto& line : lines_)
    other_script_ = other_script_ || std::any_of(line.words.begin(), line.words.end(), [](const auto& w) { return !ascii(w); });
  const auto& answer = lines_.front().words;
  if (!answer.empty() && !request.history.empty() && !request.history.back().from_user &&
      request.history.back().text.find('?') != std::string::npos &&
      one_of(answer.front(), {"yes", "yeah", "yep", "yup", "correct", "right", "exactly", "sure", "ok", "okay", "true", "ja",
                              "oui", "si", "sim", "da", "tak"}))
    agreed_ = domain::ascii_lower(request.history.back().text);
}

Said::Line Said::read(std::string_view text) {
  Line line;
  line.words = split(text);
  const auto raw = domain::lower(domain::ascii_digits(text));
  // Numbers: runs of digits with the marks within them, and number words; each with the scale behind it.
  Words words;
  for (std::size_t i = 0; i < raw.size();) {
    std::size_t end = i;
    if (digit(raw[i])) {
      while (end < raw.size() && (digit(raw[end]) || ((raw[end] == '.' || raw[end] == ',' || raw[end] == '\'') &&
                                                      end + 1 < raw.size() && digit(raw[end + 1]))))
        ++end;
    } else {
      while (end < raw.size() && ((raw[end] >= 'a' && raw[end] <= 'z') || static_cast<unsigned char>(raw[end]) >= 0x80)) ++end;
    }
    if (end == i) end = i + 1;
    if (raw[i] != ' ') words.push_back(raw.substr(i, end - i));
    i = end;
  }
  const auto add = [&](double value, std::size_t next) {
    if (next < words.size())
      if (const auto scale = scale_of(words[next]); scale > 0) line.numbers.push_back(value * scale);
    line.numbers.push_back(value);
  };
  for (std::size_t i = 0; i < words.size();) {
    const auto& w = words[i];
    if (digit(w[0])) {
      std::string plain;
      for (const char c : w)
        if (digit(c)) plain += c;
      line.digits += plain;
      add(number_of(plain), i + 1);
      if (const auto mark = w.find_last_of(".,"); mark != w.npos) {  // 1.5, 1,5; and 14.5.1990
        auto decimal = w;
        decimal[mark] = '.';
        if (decimal.find_first_of(",.'") == mark) add(number_of(decimal), i + 1);
        for (std::size_t b = 0; b < w.size();) {
          const auto e = std::min(w.find_first_of(".,'", b), w.size());
          line.numbers.push_back(number_of(std::string_view(w).substr(b, e - b)));
          b = e + 1;
        }
      }
      std::string grouped = plain;  // 1 200 000
      for (auto k = i + 1; k < words.size() && words[k].size() == 3 && digit(words[k][0]); ++k)
        line.numbers.push_back(number_of(grouped += words[k]));
      ++i;
      continue;
    }
    auto next = i;
    if (const auto value = domain::read_number_words(words, next)) {
      add(*value, next);
      if (*value < 100) line.digits += std::to_string(static_cast<int>(*value));
      i = next;
      continue;
    }
    if (const auto value = ordinal(w)) line.numbers.push_back(*value);
    if (one_of(w, {"both", "pair", "duo", "couple"})) line.numbers.push_back(2);
    if (w == "trio") line.numbers.push_back(3);
    if (one_of(w, {"oh", "o"})) line.digits += '0';
    if (one_of(w, {"double", "triple"}) && i + 1 < words.size()) {
      auto twice = i + 1;
      const auto value = digit(words[twice][0]) ? number_of(words[twice]) : domain::read_number_words(words, twice).value_or(10);
      if (value < 10) line.digits.append(w == "double" ? 1 : 2, static_cast<char>('0' + static_cast<int>(value)));
    }
    if (line.numbers.size() > 0 && one_of(w, {"-", "\u2013", "to", "or", "and"})) line.range = true;
    ++i;
  }
  return line;
}

bool Said::any_word(std::initializer_list<std::string_view> words) const {
  return std::any_of(lines_.begin(), lines_.end(), [&](const Line& line) {
    return std::any_of(line.words.begin(), line.words.end(), [&](const auto& w) { return one_of(w, words); });
  });
}

bool Said::word(std::string_view wanted) const {
  return std::any_of(lines_.begin(), lines_.end(), [&](const Line& line) {
    return std::any_of(line.words.begin(), line.words.end(), [&](const auto& w) { return alike(wanted, w); });
  });
}

/// The words of a line run together give it: "zoe smith" for zoesmith, "S-M-Y-T-H" for Smyth; or their first letters do: "chief
/// technology officer" for CTO.
bool Said::spoken_apart(std::string_view wanted) const {
  if (wanted.size() < 2) return false;
  for (const auto& line : lines_)
    for (std::size_t i = 0; i < line.words.size(); ++i) {
      std::size_t together = 0, initials = 0;
      for (std::size_t k = i; k < line.words.size() && together < wanted.size(); ++k) {
        if (wanted.substr(together, line.words[k].size()) != line.words[k]) break;
        together += line.words[k].size();
      }
      while (i + initials < line.words.size() && initials < wanted.size() && wanted[initials] == line.words[i + initials][0])
        ++initials;
      if (together == wanted.size() || (initials == wanted.size() && wanted.size() <= 5)) return true;
    }
  return false;
}

bool Said::wording(const std::string& value, std::string_view known) const {
  const auto words = split(value);
  if (words.empty()) return true;
  const bool content = std::any_of(words.begin(), words.end(), [](const auto& w) { return !empty_word(w); });
  const auto before = split(known);
  std::string together, initials;
  for (const auto& w : words) {
    together += w;
    if (!empty_word(w)) initials += w[0];
    if (content && empty_word(w)) continue;
    if (word(w) || spoken_apart(w)) return true;
    if (std::any_of(before.begin(), before.end(), [&](const auto& b) { return alike(w, b); })) return true;
    if (ascii(w) && other_script_) return true;  // written in our letters
  }
  if (one_of(together, {"selfemployed", "freelance", "freelancer", "none"}))
    return any_word({"myself", "self", "selfemployed", "freelance", "freelancer", "freelancing", "independent", "own", "solo",
                     "no", "none", "without"});
  if (spoken_apart(together)) return true;
  return std::any_of(lines_.begin(), lines_.end(), [&](const Line& line) {  // VP for Vice President of Sales
    return std::any_of(line.words.begin(), line.words.end(),
                       [&](const auto& w) { return w.size() > 1 && initials.starts_with(w); });
  });
}

bool Said::address(std::string_view value) const {
  auto lower = domain::ascii_lower(value);
  if (const auto scheme = lower.find("://"); scheme != lower.npos) lower.erase(0, scheme + 3);
  const auto at = lower.rfind('@');
  std::string_view host = lower;
  if (at != lower.npos) {
    const auto local = split(std::string_view(lower).substr(0, at));
    std::string together;
    for (const auto& w : local) {
      together += w;
      if (word(w)) return true;
    }
    if (spoken_apart(together)) return true;
    host.remove_prefix(at + 1);
  }
  host = host.substr(0, host.find_first_of("/?#:"));
  std::vector<std::string_view> labels;
  for (std::size_t begin = 0; begin <= host.size();) {
    const auto end = std::min(host.find('.', begin), host.size());
    labels.push_back(host.substr(begin, end - begin));
    begin = end + 1;
  }
  if (labels.size() > 1) labels.pop_back();
  if (labels.size() > 1 && one_of(labels.back(), {"co", "com", "org", "net", "ac", "gov", "edu"})) labels.pop_back();
  if (!ascii(host) || (other_script_ && at == lower.npos)) return true;
  for (const auto label : labels) {
    if (label == "www") continue;
    std::string together;
    for (const auto& w : split(label)) {
      together += w;
      if (w.size() > 1 && word(w)) return true;
    }
    if (spoken_apart(together)) return true;
  }
  return false;
}

bool Said::number(const std::string& value) const {
  const auto wanted = read(value).numbers;
  if (wanted.empty()) return true;  // for the validator to refuse
  bool any = false;
  for (const auto& line : lines_) {
    const auto& n = line.numbers;
    any = any || !n.empty();
    const bool me = std::any_of(line.words.begin(), line.words.end(), [](const auto& w) {
      return one_of(w, {"me", "myself", "i", "us"});
    });
    const bool half = std::find(line.words.begin(), line.words.end(), "half") != line.words.end();
    double total = 0;
    for (const double x : n) total += x;
    const auto others = std::count_if(line.words.begin(), line.words.end(), [](const auto& w) {
      return one_of(w, {"and", "my", "plus"});
    });
    for (const double v : wanted) {
      if (v == total || (me && v == total + 1)) return true;
      if (me && n.empty() && others > 0 && v <= 1 + static_cast<double>(others)) return true;  // me and my wife
      for (std::size_t i = 0; i < n.size(); ++i) {
        if (v == n[i] || (me && v == n[i] + 1) || (half && (v == n[i] / 2 || v == n[i] + 0.5))) return true;
        if (i + 1 < n.size() && (v == n[i] + n[i + 1] || (line.range && v > n[i] && v < n[i + 1]))) return true;
      }
    }
  }
  for (const double v : wanted) {
    if (v == 1 && any_word({"me", "myself", "alone", "solo", "own", "single", "solopreneur", "freelancer", "freelance", "only"}))
      return true;
    if (v == 0 && any_word({"no", "none", "nobody", "nothing", "nil", "noone"})) return true;
  }
  return !any && (other_script_ || other_language_);  // number words that we do not know
}

bool Said::digits(std::string_view wanted) const {
  constexpr std::size_t enough = 6;  // codes of countries and areas are added and left out
  std::string plain;
  for (const char c : domain::ascii_digits(wanted))
    if (digit(c)) plain += c;
  const auto tail = plain.substr(plain.size() - std::min(plain.size(), enough));
  std::string all;  // a number may be given in two messages
  for (auto line = lines_.rbegin(); line != lines_.rend(); ++line) all += line->digits;
  return tail.empty() || all.find(tail) != all.npos || (all.empty() && (other_script_ || other_language_));
}

bool Said::date(const std::string& value) const {
  const auto wanted = read(value);
  std::set<int> small;
  int year = -1;
  for (const double n : wanted.numbers) {
    if (n >= 1000 && n < 10'000) year = static_cast<int>(n);
    else if (n < 100) small.insert(static_cast<int>(n));
  }
  for (const auto& w : wanted.words)
    if (const int month = month_of(w)) small.insert(month);
  if (year < 0 && small.empty()) return true;
  if (any_word({"today",    "tomorrow", "yesterday", "next",    "last",   "ago",     "week",
                "weeks",    "month",    "months",    "weekend", "monday", "tuesday", "wednesday",
                "thursday", "friday",   "saturday",  "sunday",  "now",    "years",   "days"}))
    return true;
  for (const auto& line : lines_) {
    std::set<int> said;
    for (const double n : line.numbers)
      if (n >= 0 && n < 10'000) said.insert(static_cast<int>(n));
    for (std::size_t i = 0; i + 1 < line.numbers.size(); ++i)
      if (line.numbers[i] + line.numbers[i + 1] < 100) said.insert(static_cast<int>(line.numbers[i] + line.numbers[i + 1]));
    for (const auto& w : line.words)
      if (const int month = month_of(w)) said.insert(month);
    if (year >= 0 && (said.contains(year) || (year % 100 > 31 && said.contains(year % 100)) ||
                      line.digits.find(std::to_string(year)) != line.digits.npos))
      return true;
    if (small.empty() || !std::all_of(small.begin(), small.end(), [&](int n) { return said.contains(n); })) continue;
    return true;
  }
  return other_script_ ||
         (other_language_ && std::all_of(lines_.begin(), lines_.end(), [](const Line& l) { return l.digits.empty(); }));
}

bool Said::supports(const domain::FieldSpec& spec, const std::string& value) const {
  if (!agreed_.empty())
    if (const auto at = agreed_.find(domain::ascii_lower(value)); at != agreed_.npos && !value.empty()) {
      const auto inner = [&](std::size_t i) {
        return i < agreed_.size() && (digit(agreed_[i]) || (agreed_[i] >= 'a' && agreed_[i] <= 'z'));
      };
      if (!(at > 0 && inner(at - 1)) && !inner(at + value.size())) return true;
    }
  const auto known = request_.collected.find(spec.name);
  switch (spec.type) {
    case FieldType::person_name:
    case FieldType::company:
    case FieldType::text: return wording(value, known == request_.collected.end() ? std::string_view() : known->second);
    case FieldType::email:
    case FieldType::url: return address(value);
    case FieldType::integer:
    case FieldType::number: return number(value);
    case FieldType::phone: return digits(value);
    case FieldType::postal_code: {
      const auto words = split(value);
      std::string together;
      for (const auto& w : words) together += w;
      return together.empty() || word(together) || spoken_apart(together) || digits(value);
    }
    case FieldType::date: return date(value);
    default: return true;
  }
}

}  // namespace onboarding::model
