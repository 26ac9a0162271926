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
  return one_of(w,
                {"a",   "an", "the",  "of", "and", "for",   "to",      "in",      "at", "my", "our",         "we",          "i",
                 "is",  "on", "with", "by", "inc", "ltd",   "llc",     "gmbh",    "ag", "co", "corp",        "se",          "bv",
                 "plc", "sa", "s",    "de", "la",  "group", "company", "limited", "or", "be", "corporation", "incorporated"});
}

bool ascii(std::string_view w) { return domain::is_ascii(w); }

/// Letters that are not Latin ones, with or without marks: no emoji, no punctuation.
bool of_another_script(std::string_view w) {
  for (std::size_t i = 0; i < w.size();) {
    const auto lead = static_cast<unsigned char>(w[i]);
    const std::size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    char32_t c = length == 1 ? lead : lead & (0x7Fu >> length);
    for (std::size_t k = 1; k < length && i + k < w.size(); ++k) c = (c << 6) | (static_cast<unsigned char>(w[i + k]) & 0x3Fu);
    i += length;
    const bool latin = c < 0x370 || (c >= 0x1E00 && c < 0x1F00);
    const bool sign = (c >= 0x2000 && c < 0x2E80) || (c >= 0xFE00 && c < 0xFE70) || c >= 0x1F000;
    if (!latin && (!sign || (c >= 0x20000 && c < 0x32000))) return true;
  }
  return false;
}

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

/// Another spelling of the same word; of a name nothing else will do.
bool same_word(std::string_view wanted, std::string_view said) {
  if (wanted == said) return true;
  if (!ascii(wanted) && !ascii(said) && said.find(wanted) != said.npos) return true;  // no blanks between Chinese words
  const auto [shorter, longer] = std::minmax(wanted, said, [](auto a, auto b) { return a.size() < b.size(); });
  if (shorter.size() >= 3 && longer.size() == shorter.size() + 1 && longer.starts_with(shorter)) return true;  // Ann, Anne
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

/// Another ending or a usual abbreviation, too.
bool alike(std::string_view wanted, std::string_view said) {
  std::size_t common = 0;
  while (common < std::min(wanted.size(), said.size()) && wanted[common] == said[common]) ++common;
  if (common >= 3 && 2 * common >= std::max(wanted.size(), said.size())) return true;  // developing, developer
  if (common == said.size() && one_of(said, {"dev", "eng", "exec", "admin", "rep", "ops", "prof", "tech", "sec", "univ"}))
    return true;
  return same_word(wanted, said);
}

/// Mail hosts that everybody knows: their ending goes without saying.
bool known_host(std::string_view label) {
  return one_of(label, {"gmail", "googlemail", "hotmail", "outlook", "yahoo", "icloud", "gmx", "aol", "proton", "protonmail",
                        "live", "msn", "yandex", "fastmail"});
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
    other_script_ = other_script_ || std::any_of(line.words.begin(), line.words.end(), of_another_script);
  const auto& answer = lines_.front().words;
  if (!answer.empty() && !request.history.empty() && !request.history.back().from_user &&
      request.history.back().text.find('?') != std::string::npos &&
      one_of(answer.front(), {"yes", "yeah", "yep", "yup", "correct", "right", "exactly", "sure", "ok", "okay", "true", "ja",
                              "oui", "si", "sim", "da", "tak"}))
    agreed_ = domain::ascii_lower(request.history.back().text);
}

Said::Line Said::read(std::string_view text) {
  Line line;
  line.text = text;
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
  // "three full-timers and two part-timers", "5 plus 3": what is said as one count. "34 and 12" are two numbers.
  double sum = 0, last = 0;
  std::size_t counted_to = 0;
  const auto add = [&](double value, std::size_t next) {
    const auto scale = next < words.size() ? scale_of(words[next]) : 0;
    if (scale > 0) line.numbers.push_back(value * scale);
    line.numbers.push_back(value);
  };
  const auto count = [&](double value, std::size_t from, std::size_t to) {
    const bool plus = from > counted_to && from - counted_to <= 4 && one_of(words[from - 1], {"plus", "+"});
    const bool and_so_many = from >= counted_to + 2 && from - counted_to <= 4 && one_of(words[from - 1], {"and", "&"});
    const bool goes_on = counted_to > 0 && (plus || and_so_many);
    sum = goes_on ? sum + value : value;
    if (goes_on) line.numbers.push_back(sum);
    counted_to = to;
  };
  for (std::size_t i = 0; i < words.size();) {
    const auto& w = words[i];
    if (digit(w[0])) {
      std::string plain;
      for (const char c : w)
        if (digit(c)) plain += c;
      line.digits += plain;
      add(number_of(plain), i + 1);
      count(number_of(plain), i, i + 1);
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
      std::string grouped =
          plain;  // 1 200 000; no number has more groups, and who writes them without end shall not keep us busy
      for (auto k = i + 1; k < words.size() && k <= i + 5 && words[k].size() == 3 && digit(words[k][0]); ++k)
        line.numbers.push_back(number_of(grouped += words[k]));
      ++i;
      continue;
    }
    auto next = i;
    if (const auto value = domain::read_number_words(words, next)) {
      if (i > 0 && counted_to == i - 1 && words[i - 1] == "-" && *value < 10 && last >= 20 && last < 100)
        line.numbers.push_back(last + *value);  // twenty-five
      last = *value;
      add(*value, next);
      count(*value, i, next);
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

bool Said::name_word(std::string_view wanted) const {
  return std::any_of(lines_.begin(), lines_.end(), [&](const Line& line) {
    return std::any_of(line.words.begin(), line.words.end(), [&](const auto& w) { return same_word(wanted, w); });
  });
}

/// Two words that follow each other.
bool Said::pair(const Line& line, std::initializer_list<std::string_view> first, std::initializer_list<std::string_view> second) {
  for (std::size_t i = 0; i + 1 < line.words.size(); ++i)
    if (one_of(line.words[i], first) && one_of(line.words[i + 1], second)) return true;
  return false;
}

/// The words of a line run together give it: "zoe smith" for zoesmith, "S-M-Y-T-H" for Smyth; or their first letters do: "chief
/// technology officer" for CTO.
bool Said::spoken_apart(std::string_view wanted, bool by_initials) const {
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
      if (together == wanted.size() || (by_initials && initials == wanted.size() && wanted.size() <= 5)) return true;
    }
  return false;
}

/// Every word of it: who said "Ann" did not say "Ann Lee".
bool Said::name(const std::string& value, std::string_view known) const {
  const auto before = split(known), words = split(value);
  std::string together;
  for (const auto& w : words) together += w;
  if (spoken_apart(together, false)) return true;  // obrien for O'Brien
  for (const auto& w : words) {
    if (name_word(w) || spoken_apart(w, false) || (ascii(w) && other_script_)) continue;  // written in our letters
    if (std::any_of(before.begin(), before.end(), [&](const auto& b) { return same_word(w, b); })) continue;
    return false;
  }
  return true;
}

/// A part of its words that say something: of a company all, of a longer text a third.
bool Said::wording(const std::string& value, std::string_view known, std::size_t part) const {
  const auto words = split(value);
  if (words.empty()) return true;
  const bool content = std::any_of(words.begin(), words.end(), [](const auto& w) { return !empty_word(w); });
  const auto before = split(known);
  std::string together, initials;
  std::size_t wanted = 0, said = 0;
  for (const auto& w : words) {
    together += w;
    if (!empty_word(w)) initials += w[0];
    if (content && empty_word(w)) continue;
    ++wanted;
    const bool was_known = std::any_of(before.begin(), before.end(), [&](const auto& b) { return alike(w, b); });
    if (word(w) || spoken_apart(w) || was_known || (ascii(w) && other_script_)) ++said;
  }
  if (said * part >= wanted && said > 0) return true;
  if (one_of(together, {"selfemployed", "freelance", "freelancer", "none"}))
    return any_word({"myself", "self", "selfemployed", "freelance", "freelancer", "freelancing", "independent", "own", "solo",
                     "no", "none", "without"});
  if (spoken_apart(together)) return true;
  return std::any_of(lines_.begin(), lines_.end(), [&](const Line& line) {  // VP for Vice President of Sales
    return std::any_of(line.words.begin(), line.words.end(),
                       [&](const auto& w) { return w.size() > 1 && initials.starts_with(w); });
  });
}

/// Of an e-mail address both sides of the @, of another address the host's name.
bool Said::address(std::string_view value, std::string_view known) const {
  auto lower = domain::ascii_lower(value);
  const auto before = domain::ascii_lower(known);
  if (const auto scheme = lower.find("://"); scheme != lower.npos) lower.erase(0, scheme + 3);
  const auto at = lower.rfind('@');
  const auto known_at = before.rfind('@');
  std::string_view host = lower;
  if (at != lower.npos) {
    const auto local = split(std::string_view(lower).substr(0, at));
    std::string together;
    bool all = !local.empty();
    for (const auto& w : local) {
      together += w;
      all = all && (word(w) || spoken_apart(w));
    }
    const bool was_known = known_at != before.npos && before.substr(0, known_at) == lower.substr(0, at);
    if (!all && !spoken_apart(together) && !was_known) return false;
    host.remove_prefix(at + 1);
    if (known_at != before.npos && std::string_view(before).substr(known_at + 1) == host) return true;
  }
  host = host.substr(0, host.find_first_of("/?#:"));
  std::vector<std::string_view> labels, endings;
  for (std::size_t begin = 0; begin <= host.size();) {
    const auto end = std::min(host.find('.', begin), host.size());
    labels.push_back(host.substr(begin, end - begin));
    begin = end + 1;
  }
  const auto cut = [&] {
    endings.push_back(labels.back());
    labels.pop_back();
  };
  if (labels.size() > 1) cut();
  if (labels.size() > 1 && one_of(labels.back(), {"co", "com", "org", "net", "ac", "gov", "edu"})) cut();
  if (at == lower.npos && (!ascii(host) || other_script_)) return true;
  bool all = true, any = false;
  for (const auto label : labels) {
    if (label == "www") continue;
    std::string together;
    bool said = true;
    for (const auto& w : split(label)) {
      together += w;
      said = said && (w.size() > 1 || at != lower.npos) && word(w);
    }
    said = said || spoken_apart(together);
    all = all && said;
    any = any || said;
  }
  if (at == lower.npos) return any;
  const bool ends = known_host(labels.back()) || std::all_of(endings.begin(), endings.end(), [&](const auto& e) {
                      return name_word(e) || (!ascii(e) && other_script_);
                    });
  return all && ends;
}

bool Said::number(const domain::FieldSpec& spec, const std::string& value) const {
  const auto wanted = read(value).numbers;
  if (wanted.empty()) return true;  // for the validator to refuse
  bool any = false;
  for (const auto& line : lines_) {
    const auto& n = line.numbers;
    any = any || !n.empty();
    // Whoever counts himself in says so: "me and two others", "three colleagues and me".
    const bool me = pair(line, {"me", "myself", "i"}, {"and", "plus"}) || pair(line, {"and", "plus"}, {"me", "myself"}) ||
                    pair(line, {"besides", "beside", "including"}, {"me", "myself"});
    const bool half = std::find(line.words.begin(), line.words.end(), "half") != line.words.end();
    const auto others = std::count_if(line.words.begin(), line.words.end(), [](const auto& w) {
      return one_of(w, {"and", "my", "plus"});
    });
    for (const double v : wanted) {
      if (me && n.empty() && v <= 1 + static_cast<double>(others)) return true;  // me and my wife
      for (std::size_t i = 0; i < n.size(); ++i) {
        if (v == n[i] || (me && v == n[i] + 1) || (half && (v == n[i] / 2 || v == n[i] + 0.5))) return true;
        if (i + 1 < n.size() && line.range && v > n[i] && v < n[i + 1]) return true;
      }
    }
  }
  const auto alone = [](const Line& line) {
    return pair(line, {"just", "only"}, {"me", "i", "myself"}) || pair(line, {"me", "i"}, {"only", "alone"}) ||
           pair(line, {"my"}, {"own"});
  };
  for (const double v : wanted) {
    if (v == 1 && (any_word({"myself", "alone", "solo", "single", "solopreneur", "freelancer", "freelance"}) ||
                   std::any_of(lines_.begin(), lines_.end(), alone)))
      return true;
    if (v == 0 && any_word({"no", "none", "nobody", "nothing", "nil", "noone"})) return true;
  }
  // Number words that we do not know, of somebody who was asked for a number.
  return !any && (other_script_ || other_language_) && (request_.asked.empty() || asked(spec));
}

bool Said::asked(const domain::FieldSpec& spec) const {
  return std::find(request_.asked.begin(), request_.asked.end(), spec.name) != request_.asked.end();
}

/// Some word that says something of these stands in what was said.
bool Said::mentioned(std::string_view words) const {
  const auto all = split(words);
  return std::any_of(all.begin(), all.end(), [&](const auto& w) { return w.size() > 2 && !empty_word(w) && word(w); });
}

/// What was said may mean yes, no or a choice in more ways than we know. So the answer to the question that was asked is believed unless it
/// plainly says something else; what nobody asked for must have been touched upon.
bool Said::chosen(const domain::FieldSpec& spec, const std::string& value) const {
  const auto wanted = domain::parse_field(spec, value);
  if (!wanted) return true;  // for the validator to refuse
  const auto plainly = [&](const Line& line) { return domain::parse_field(spec, line.text); };
  if (const auto plain = plainly(lines_.front()); plain && (asked(spec) || spec.type != FieldType::boolean))
    return *plain == *wanted;
  if (asked(spec) || other_script_ || other_language_ || mentioned(spec.label) || mentioned(spec.name)) return true;
  const auto said_before = [&](const Line& line) {
    const auto said = plainly(line);
    return said && *said == *wanted;
  };
  if (std::any_of(lines_.begin(), lines_.end(), said_before)) return true;
  if (spec.type == FieldType::boolean)
    return any_word({"yes", "no", "not", "sure", "go", "fine", "ok", "okay", "please", "never", "dont", "agree", "want", "like"});
  if (spec.type == FieldType::country)  // a city, a nationality: where somebody is, which we have no map for
    return any_word({"in", "from", "at", "live", "living", "based", "am", "m", "country", "come", "born", "near"});
  return std::any_of(spec.options.begin(), spec.options.end(), [&](const domain::ChoiceOption& option) {
    return wanted->canonical == option.value &&
           (mentioned(option.value) ||
            std::any_of(option.labels.begin(), option.labels.end(), [&](const auto& label) { return mentioned(label); }));
  });
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
  const auto before = known == request_.collected.end() ? std::string_view() : std::string_view(known->second);
  switch (spec.type) {
    case FieldType::person_name: return name(value, before);
    case FieldType::company: return wording(value, before, 1);
    case FieldType::text: return wording(value, before, 3);
    case FieldType::email:
    case FieldType::url: return address(value, before);
    case FieldType::boolean:
    case FieldType::choice:
    case FieldType::country: return chosen(spec, value);
    case FieldType::integer:
    case FieldType::number: return number(spec, value);
    case FieldType::phone: return digits(value);
    case FieldType::postal_code: {
      const auto words = split(value);
      std::string together;
      for (const auto& w : words) together += w;
      return together.empty() || word(together) || spoken_apart(together) || digits(value);
    }
    case FieldType::date: return date(value);
  }
  return true;
}

}  // namespace onboarding::model
