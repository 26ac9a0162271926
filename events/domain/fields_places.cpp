// Countries and postal codes.
#include <unicode/locid.h>
#include <unicode/uloc.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "events/domain/readers.hpp"
#include "events/domain/unicode.hpp"

namespace onboarding::domain {

namespace {

using Words = std::vector<std::string>;
using Names = std::map<std::string, std::string, std::less<>>;  // folded name → alpha-2

/// What people call countries beside the names that ICU knows.
constexpr std::array<std::pair<const char*, const char*>, 66> other_names = {{{"usa", "US"},
                                                                              {"u s a", "US"},
                                                                              {"u s", "US"},
                                                                              {"united states of america", "US"},
                                                                              {"the states", "US"},
                                                                              {"states", "US"},
                                                                              {"america", "US"},
                                                                              {"uk", "GB"},
                                                                              {"u k", "GB"},
                                                                              {"great britain", "GB"},
                                                                              {"britain", "GB"},
                                                                              {"england", "GB"},
                                                                              {"scotland", "GB"},
                                                                              {"wales", "GB"},
                                                                              {"northern ireland", "GB"},
                                                                              {"holland", "NL"},
                                                                              {"the netherlands", "NL"},
                                                                              {"czech republic", "CZ"},
                                                                              {"czechia", "CZ"},
                                                                              {"slovak republic", "SK"},
                                                                              {"south korea", "KR"},
                                                                              {"korea", "KR"},
                                                                              {"republic of korea", "KR"},
                                                                              {"north korea", "KP"},
                                                                              {"russian federation", "RU"},
                                                                              {"ivory coast", "CI"},
                                                                              {"cote d'ivoire", "CI"},
                                                                              {"burma", "MM"},
                                                                              {"myanmar", "MM"},
                                                                              {"uae", "AE"},
                                                                              {"u a e", "AE"},
                                                                              {"emirates", "AE"},
                                                                              {"turkey", "TR"},
                                                                              {"turkiye", "TR"},
                                                                              {"hong kong", "HK"},
                                                                              {"macau", "MO"},
                                                                              {"macao", "MO"},
                                                                              {"republic of china", "TW"},
                                                                              {"people's republic of china", "CN"},
                                                                              {"prc", "CN"},
                                                                              {"mainland china", "CN"},
                                                                              {"viet nam", "VN"},
                                                                              {"lao", "LA"},
                                                                              {"eire", "IE"},
                                                                              {"republic of ireland", "IE"},
                                                                              {"swaziland", "SZ"},
                                                                              {"macedonia", "MK"},
                                                                              {"cape verde", "CV"},
                                                                              {"cabo verde", "CV"},
                                                                              {"east timor", "TL"},
                                                                              {"vatican", "VA"},
                                                                              {"the vatican", "VA"},
                                                                              {"holy see", "VA"},
                                                                              {"palestine", "PS"},
                                                                              {"drc", "CD"},
                                                                              {"dr congo", "CD"},
                                                                              {"democratic republic of the congo", "CD"},
                                                                              {"republic of the congo", "CG"},
                                                                              {"the gambia", "GM"},
                                                                              {"the bahamas", "BS"},
                                                                              {"the philippines", "PH"},
                                                                              {"brasil", "BR"},
                                                                              {"bosnia", "BA"},
                                                                              {"trinidad", "TT"},
                                                                              {"st lucia", "LC"},
                                                                              {"deutschland", "DE"}}};

/// Folded words; "and" left out, since some write "&".
Words country_words(std::string_view text) {
  Words words = words_of(text);
  words.erase(std::remove(words.begin(), words.end(), "and"), words.end());
  return words;
}

std::string country_key(std::string_view text) {
  std::string key;
  for (const std::string& word : country_words(text)) key += (key.empty() ? "" : " ") + word;
  return key;
}

const Names& country_names() {
  static const Names table = [] {
    Names names;
    // The languages people answer in, English first, since the first one to claim a name keeps it.
    static constexpr std::array<const char*, 21> languages = {"en", "de", "fr", "es", "it", "pt", "nl", "sv", "da", "nb", "fi",
                                                              "pl", "cs", "tr", "ru", "uk", "ar", "hi", "ja", "ko", "zh"};
    for (const auto& [name, code] : other_names) names.emplace(name, code);
    for (const char* language : languages) {
      for (const char* const* code = uloc_getISOCountries(); *code; ++code) {
        icu::UnicodeString display;
        icu::Locale("", *code).getDisplayCountry(icu::Locale(language), display);
        std::string name;
        display.toUTF8String(name);
        name = country_key(name);
        if (!name.empty()) names.emplace(name, *code);
      }
    }
    names.erase("congo");  // there are two
    return names;
  }();
  return table;
}

const Names& country_codes() {
  static const Names table = [] {
    Names codes;
    for (const char* const* code = uloc_getISOCountries(); *code; ++code) {
      codes.emplace(*code, *code);
      if (const char* alpha3 = icu::Locale("", *code).getISO3Country(); *alpha3) codes.emplace(alpha3, *code);
    }
    return codes;
  }();
  return table;
}

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return out;
}

/// A flag: two regional indicators.
std::optional<std::string> read_flag(const std::string& said) {
  std::string code;
  for (const char32_t c : code_points(said))
    if (c >= 0x1F1E6 && c <= 0x1F1FF) code += static_cast<char>('A' + (c - 0x1F1E6));
  return code.size() == 2 ? std::optional<std::string>(code) : std::nullopt;
}

/// A code on its own. Two small letters that are an English word are that word ("it", "in", "no").
std::optional<std::string> read_code(std::string_view said) {
  static const std::set<std::string, std::less<>> small_words = {"am", "as", "at",  "be",  "by",  "do", "id", "in",
                                                                 "is", "it", "la",  "ma",  "me",  "my", "no", "pa",
                                                                 "so", "to", "and", "can", "per", "are"};
  if ((said.size() != 2 && said.size() != 3) || !is_ascii(said) || small_words.count(said) > 0) return std::nullopt;
  const auto found = country_codes().find(upper(said));
  return found == country_codes().end() ? std::nullopt : std::optional<std::string>(found->second);
}

/// Countries named in a sentence: at each word the longest name that begins there.
std::set<std::string> named_in(const Words& words) {
  constexpr std::size_t longest_name = 8;  // in words
  constexpr std::size_t shortest = 3;      // in bytes: shorter words mean too many things
  std::set<std::string> codes;
  for (std::size_t at = 0; at < words.size();) {
    std::size_t taken = 1;
    const std::string* code = nullptr;
    std::string name;
    for (std::size_t i = at; i < words.size() && i < at + longest_name; ++i) {
      name += (name.empty() ? "" : " ") + words[i];
      const auto found = name.size() >= shortest ? country_names().find(name) : country_names().end();
      if (found == country_names().end()) continue;
      code = &found->second;
      taken = i - at + 1;
    }
    if (code) codes.insert(*code);
    at += taken;
  }
  return codes;
}

// ---- postal codes

/// N a digit, A a letter, everything else itself; separators may be left out when said.
const std::vector<std::string_view>* templates_of(const std::string& region) {
  static const std::map<std::string, std::vector<std::string_view>, std::less<>> table = [] {
    std::map<std::string, std::vector<std::string_view>, std::less<>> t;
    const auto all = [&](std::string_view form, std::initializer_list<const char*> regions) {
      for (const char* r : regions) t[r].push_back(form);
    };
    all("NNNN", {"AT", "AU", "BE", "BG", "CH", "CY", "DK", "GE", "HU", "LI", "LU",
                 "NO", "NZ", "PH", "SI", "TN", "ZA", "BD", "AM", "MK", "PY", "AL"});
    all("NNNNN",
        {"DE", "ES", "FI", "FR", "IT", "MX", "TR", "US", "UA", "HR", "EE", "KR", "TH", "MY", "ID", "SA", "EG", "MA", "RS",
         "BA", "ME", "LT", "PK", "LK", "VN", "KE", "KW", "MC", "SM", "VA", "PE", "UY", "DZ", "JO", "NP", "CU", "GT"});
    all("NNNNN-NNNN", {"US"});
    all("NNNNNN", {"CN", "IN", "RU", "SG", "RO", "KZ", "BY", "CO", "EC", "NG", "UZ", "KG", "TJ", "TM", "MN"});
    all("NNNNNNN", {"IL", "CL"});
    all("NNNNNNNNNN", {"IR"});
    all("NNN NN", {"SE", "CZ", "SK", "GR"});
    all("NNN-NNNN", {"JP"});
    all("NNNN-NNN", {"PT"});
    all("NN-NNN", {"PL"});
    all("NNNNN-NNN", {"BR"});
    all("NNNN AA", {"NL"});
    all("ANA NAN", {"CA"});
    for (const char* form : {"AN NAA", "ANN NAA", "AAN NAA", "AANN NAA", "ANA NAA", "AANA NAA"})
      all(form, {"GB", "JE", "GG", "IM"});
    for (const char* form : {"NNN", "NNNNN", "NNNNNN"}) all(form, {"TW"});
    for (const char* form : {"ANNNNAAA", "NNNN"}) all(form, {"AR"});
    for (const char* form : {"ANN XXXX", "ANA XXXX"}) all(form, {"IE"});
    all("AAA NNNN", {"MT"});
    all("AANNN", {"AD"});
    all("NNN", {"IS", "FO"});
    all("LV-NNNN", {"LV"});
    return t;
  }();
  const auto found = table.find(region);
  return found == table.end() ? nullptr : &found->second;
}

/// `compact` has letters and digits only.
std::optional<std::string> fit(std::string_view form, std::string_view compact) {
  std::string out;
  for (const char f : form) {
    if (f == ' ' || f == '-') {
      out += f;
      continue;
    }
    if (compact.empty()) return std::nullopt;
    const char c = compact.front();
    const bool digit = c >= '0' && c <= '9';
    const bool letter = c >= 'A' && c <= 'Z';
    const bool fits = f == 'N' ? digit : f == 'A' ? letter : f == 'X' ? digit || letter : c == f;
    if (!fits) return std::nullopt;
    out += c;
    compact.remove_prefix(1);
  }
  return compact.empty() ? std::optional<std::string>(out) : std::nullopt;
}

std::string without_words(const std::string& said) {
  static const std::set<std::string, std::less<>> words = {"my",   "the", "zip",  "code",  "zipcode",   "postcode", "postal",
                                                           "post", "plz", "is",   "it's",  "its",       "it",       "cap",
                                                           "cp",   "pin", "zip:", "code:", "postcode:", "plz:",     "that's"};
  std::string_view rest = trim(said, " .,;:!?\"'()");
  for (std::size_t blank; (blank = rest.find(' ')) != std::string_view::npos && words.count(lower(rest.substr(0, blank))) > 0;)
    rest.remove_prefix(blank + 1);
  return std::string(rest);
}

std::string compacted(std::string_view text) {
  std::string out;
  for (const char c : text)
    if (c != ' ' && c != '-') out += c;
  return out;
}

}  // namespace

Reading read_country(const std::string& said) {
  if (const auto flag = read_flag(said)) {
    if (country_codes().count(*flag) > 0) return *flag;
  }
  const std::string_view bare = trim(said, " .,;:!?\"'()");
  if (const auto code = read_code(bare)) return *code;
  const std::string name = country_key(said);
  if (name == "congo")
    return refuse("several_values", "There are two countries of that name; which one is it, Kinshasa or Brazzaville?");
  if (const auto found = country_names().find(name); found != country_names().end()) return found->second;
  const std::set<std::string> named = named_in(country_words(said));
  if (named.size() == 1) return *named.begin();
  if (named.size() > 1) return refuse("several_values", "I found more than one country in that; which one is it?");
  return refuse("not_a_country", "I don't know a country of that name.");
}

Reading read_postal_code(const FieldSpec& spec, const std::string& said) {
  const std::string code = upper(ascii_digits(without_words(said)));
  const auto allowed = [](char c) { return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == ' ' || c == '-'; };
  if (code.empty() || !std::all_of(code.begin(), code.end(), allowed))
    return refuse("not_a_postal_code", "That doesn't look like a postal code.");
  std::string compact = compacted(code);
  if (const auto* forms = templates_of(spec.region)) {
    const auto try_forms = [&]() -> std::optional<std::string> {
      for (const std::string_view form : *forms)
        if (auto fitted = fit(form, compact)) return fitted;
      return std::nullopt;
    };
    if (auto fitted = try_forms()) return *fitted;
    // "D-10115", "SE 114 55": the country in front; "LV-1010" has it in the code, and may lack it.
    const std::size_t digits = std::min(compact.find_first_of("0123456789"), compact.size());
    if (spec.region == "LV" && digits == 0) compact.insert(0, "LV");
    if (digits == 1 || digits == 2) compact.erase(0, digits);
    if (auto fitted = try_forms()) return *fitted;
    return refuse("wrong_form", "Postal codes don't look like that there.");
  }
  const bool has_digit = std::any_of(compact.begin(), compact.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (!has_digit || compact.size() < 2 || compact.size() > 12)
    return refuse("not_a_postal_code", "That doesn't look like a postal code.");
  return code;
}

}  // namespace onboarding::domain
