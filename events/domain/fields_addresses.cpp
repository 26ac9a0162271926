// E-mail addresses, web addresses and phone numbers, written or spoken ("zoe at acme dot io").
#include <idn2.h>
#include <phonenumbers/phonenumberutil.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <memory>
#include <set>

#include "events/domain/readers.hpp"
#include "events/domain/unicode.hpp"

namespace onboarding::domain {

namespace {

using Words = std::vector<std::string>;

constexpr std::size_t max_domain_bytes = 253;
constexpr std::size_t max_label_bytes = 63;
constexpr std::size_t max_local_bytes = 64;   // RFC 5321
constexpr std::size_t max_email_bytes = 254;  // what fits into an SMTP path
constexpr std::size_t max_url_bytes = 2048;

bool is_alnum(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

struct Idn2Deleter {
  void operator()(char* text) const { idn2_free(text); }
};
using Idn2String = std::unique_ptr<char, Idn2Deleter>;

/// Letters, digits and hyphens, two labels or more, a top-level domain that is no number.
bool is_ascii_domain(std::string_view domain) {
  if (domain.empty() || domain.size() > max_domain_bytes) return false;
  std::size_t labels = 0;
  std::string_view label;
  for (std::size_t at = 0; at <= domain.size(); at += label.size() + 1, ++labels) {
    label = domain.substr(at, std::min(domain.find('.', at), domain.size()) - at);
    if (label.empty() || label.size() > max_label_bytes || label.front() == '-' || label.back() == '-') return false;
    if (!std::all_of(label.begin(), label.end(), [](char c) { return is_alnum(c) || c == '-'; })) return false;
  }
  const bool numeric = std::all_of(label.begin(), label.end(), [](char c) { return c >= '0' && c <= '9'; });
  return labels >= 2 && label.size() >= 2 && !numeric;
}

/// "(at)", "[dot]" and their like, which keep harvesters out, as words; every @ as a word of its own.
Words spoken_tokens(const std::string& said) {
  std::string text;
  for (std::size_t i = 0; i < said.size(); ++i) {
    const char c = said[i];
    const char close = c == '(' ? ')' : c == '[' ? ']' : c == '{' ? '}' : 0;
    const std::size_t end = close ? said.find(close, i) : std::string::npos;
    if (end != std::string::npos && end - i <= 12) {
      const std::string inside(trim(lower(said.substr(i + 1, end - i - 1)), " "));
      if (inside == "at" || inside == "dot" || inside == "@" || inside == ".") {
        text += ' ' + inside + ' ';
        i = end;
        continue;
      }
    }
    if (c == '@') text += " @ ";
    else text += c;
  }
  Words tokens;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    if (end > at) tokens.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return tokens;
}

/// The character that a spoken word stands for inside an address; empty: none.
std::string_view spoken_joint(const std::string& token) {
  static const std::map<std::string, std::string_view, std::less<>> joints = {
      {"dot", "."},   {"point", "."}, {"period", "."},     {".", "."}, {"dash", "-"}, {"hyphen", "-"},
      {"minus", "-"}, {"-", "-"},     {"underscore", "_"}, {"_", "_"}, {"plus", "+"}, {"+", "+"}};
  const auto found = joints.find(lower(token));
  return found == joints.end() ? std::string_view() : found->second;
}

bool is_single(const std::string& token) { return token.size() == 1 && is_alnum(token[0]); }

/// What stands left of the @, read backwards from it: joints hold words together, single letters are being spelled.
std::string local_before(const Words& tokens, std::size_t at) {
  std::string local;
  bool joined = true;  // the next token to the left still belongs to the address
  for (std::size_t i = at; i-- > 0 && joined;) {
    const std::string_view joint = spoken_joint(tokens[i]);
    if (!joint.empty() && i > 0) {
      local.insert(0, joint);
      continue;
    }
    local.insert(0, tokens[i]);
    const bool after_joint = i > 0 && !spoken_joint(tokens[i - 1]).empty();
    const bool spelled = i > 0 && is_single(tokens[i]) && is_single(tokens[i - 1]);
    joined = after_joint || spelled;
  }
  return local;
}

std::string domain_after(const Words& tokens, std::size_t at) {
  std::string domain;
  bool joined = true;
  for (std::size_t i = at + 1; i < tokens.size() && joined; ++i) {
    const std::string_view joint = spoken_joint(tokens[i]);
    const bool more_follows = i + 1 < tokens.size();
    if (!joint.empty() && more_follows) {
      domain += joint;
      continue;
    }
    domain += tokens[i];
    // "acme. io" and "acme .io": a point at the seam holds too.
    joined = more_follows && (!spoken_joint(tokens[i + 1]).empty() || (tokens[i + 1].size() > 1 && tokens[i + 1][0] == '.'));
  }
  return domain;
}

tl::expected<void, Refusal> check_local(const std::string& local) {
  if (local.empty()) return refuse("no_local_part", "There is nothing before the @ in that e-mail address.");
  if (local.size() > max_local_bytes) return refuse("too_long", "The part before the @ is longer than e-mail allows.");
  if (local.front() == '.' || local.back() == '.' || local.find("..") != std::string::npos)
    return refuse("stray_dot", "There is a dot too many before the @ of that e-mail address.");
  for (const char32_t c : code_points(local)) {
    const bool allowed = c < 0x80
                             ? is_alnum(static_cast<char>(c)) ||
                                   std::string_view("!#$%&'*+/=?^_`{|}~-.").find(static_cast<char>(c)) != std::string_view::npos
                             : is_letter(c) || is_mark(c) || is_digit(c);
    if (!allowed) return refuse("odd_character", "That e-mail address has a character that can't stand there.");
  }
  return {};
}

Reading assemble_email(std::string local, std::string domain) {
  // "mailto:", "email:", and the brackets and quotes of a sentence.
  if (const std::size_t colon = local.rfind(':'); colon != std::string::npos) local.erase(0, colon + 1);
  while (!local.empty() && std::string_view("(<[\"'").find(local.front()) != std::string_view::npos) local.erase(0, 1);
  while (!domain.empty() && std::string_view(".,;:!?)>]\"'").find(domain.back()) != std::string_view::npos) domain.pop_back();
  if (const auto fine = check_local(local); !fine) return tl::make_unexpected(fine.error());
  if (domain.empty()) return refuse("no_domain", "There is nothing after the @ in that e-mail address.");
  if (domain.find('.') == std::string::npos && is_ascii(domain))
    return refuse("no_dot_in_domain", "The part after the @ has no dot in it, as in example.com.");
  const auto read = read_domain(domain);
  if (!read) return refuse("bad_domain", "The part after the @ isn't a domain that can exist.");
  if (local.size() + 1 + read->size() > max_email_bytes)
    return refuse("too_long", "That e-mail address is longer than e-mail allows.");
  return local + "@" + *read;
}

/// "plus four nine …", "double five", as digits; nullopt unless all of it is such words.
std::optional<std::string> spoken_digits(const std::string& said) {
  static const std::map<std::string, char, std::less<>> digits = {{"zero", '0'}, {"oh", '0'},    {"o", '0'},     {"one", '1'},
                                                                  {"two", '2'},  {"three", '3'}, {"four", '4'},  {"five", '5'},
                                                                  {"six", '6'},  {"seven", '7'}, {"eight", '8'}, {"nine", '9'}};
  std::string out;
  std::size_t times = 1;
  for (const std::string& word : words_of(said)) {
    if (word == "plus" && out.empty()) {
      out = "+";
    } else if (word == "double" || word == "triple") {
      times = word == "double" ? 2 : 3;
    } else if (const auto digit = digits.find(word); digit != digits.end()) {
      out.append(times, digit->second);
      times = 1;
    } else if (word.find_first_not_of("0123456789") == std::string::npos) {
      out += word;
    } else {
      return std::nullopt;
    }
  }
  return out;
}

}  // namespace

std::optional<std::string> read_domain(std::string_view said) {
  std::string domain = lower(said);
  if (is_ascii(domain)) return is_ascii_domain(domain) ? std::optional<std::string>(domain) : std::nullopt;
  char* raw = nullptr;
  if (idn2_to_ascii_8z(domain.c_str(), &raw, IDN2_NONTRANSITIONAL) != IDN2_OK) return std::nullopt;
  const Idn2String ascii(raw);
  if (!is_ascii_domain(ascii.get())) return std::nullopt;
  if (idn2_to_unicode_8z8z(ascii.get(), &raw, 0) != IDN2_OK) return std::nullopt;
  const Idn2String unicode(raw);
  return std::string(unicode.get());
}

Reading read_email(const std::string& said) {
  // The common case first: one word with an @ in it.
  const std::size_t first_at = said.find('@');
  if (first_at != std::string::npos && said.find(' ') == std::string::npos && said.find('@', first_at + 1) == std::string::npos)
    return assemble_email(said.substr(0, first_at), said.substr(first_at + 1));

  const Words tokens = spoken_tokens(said);
  std::vector<std::size_t> ats;
  for (std::size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] == "@") ats.push_back(i);
  // Spoken, the last one counts: "reach me at zoe at acme dot io".
  for (std::size_t i = tokens.size(); i-- > 0 && ats.empty();)
    if (lower(tokens[i]) == "at") ats.push_back(i);
  if (ats.empty()) return refuse("no_at_sign", "That e-mail address has no @.");
  std::optional<Reading> best;
  for (std::size_t i = 0; i < ats.size(); ++i) {
    if (i > 0 && ats[i] <= ats[i - 1] + 2) return refuse("several_at_signs", "That e-mail address has more than one @.");
    Reading next = assemble_email(local_before(tokens, ats[i]), domain_after(tokens, ats[i]));
    if (best && *best && next && **best != *next)
      return refuse("several_values", "I found more than one e-mail address in that; which one is it?");
    if (!best || (!*best && next)) best = std::move(next);
  }
  return *best;
}

Reading read_url(const std::string& said) {
  std::string text(trim(said, " \"'<>()[],;!"));
  while (!text.empty() && (text.back() == '.' || text.back() == '?')) text.pop_back();
  if (text.find(' ') != std::string::npos) {
    // One word of a sentence, or spoken.
    Words tokens = spoken_tokens(text);
    std::string joined;
    std::string candidate;
    for (const std::string& token : tokens) {
      const std::string word = lower(token);
      joined += word == "dot" || word == "point"     ? "."
                : word == "slash"                    ? "/"
                : word == "dash" || word == "hyphen" ? "-"
                : word == "colon"                    ? ":"
                                                     : token;
      const std::string_view bare = trim(token, "\"'<>()[],;!?");
      const std::size_t dot = bare.find('.');
      if (dot == std::string_view::npos || dot == 0 || dot + 1 >= bare.size()) continue;
      if (!candidate.empty() && candidate != bare)
        return refuse("several_values", "I found more than one web address in that; which one is it?");
      candidate = bare;
      while (!candidate.empty() && candidate.back() == '.') candidate.pop_back();
    }
    const bool spoken = std::any_of(tokens.begin(), tokens.end(), [](const std::string& token) { return lower(token) == "dot"; });
    text = candidate.empty() && spoken ? joined : candidate;
  }
  if (text.empty()) return refuse("not_a_url", "I couldn't find a web address in that.");
  if (text.size() > max_url_bytes) return refuse("too_long", "That web address is too long.");
  const std::size_t scheme_end = text.find("://");
  std::string scheme = "https";
  if (scheme_end != std::string::npos) {
    scheme = lower(text.substr(0, scheme_end));
    text.erase(0, scheme_end + 3);
  } else if (const std::size_t colon = text.find(':');
             colon != std::string::npos &&
             (colon + 1 >= text.size() || !std::isdigit(static_cast<unsigned char>(text[colon + 1])))) {
    scheme = lower(text.substr(0, colon));  // "javascript:", "mailto:"
  }
  if (scheme != "http" && scheme != "https")
    return refuse("bad_scheme", "I can only take addresses that begin with http or https.");
  const std::size_t host_end = std::min(text.find_first_of("/?#"), text.size());
  std::string host = text.substr(0, host_end);
  std::string rest = text.substr(host_end);
  if (host.find('@') != std::string::npos)
    return refuse("has_credentials", "Please leave out the part before the @ of that web address.");
  std::string port;
  if (const std::size_t colon = host.find(':'); colon != std::string::npos) {
    port = host.substr(colon + 1);
    host.erase(colon);
    int number = 0;
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
    if (error != std::errc() || end != port.data() + port.size() || number < 1 || number > 65535)
      return refuse("bad_port", "The port in that web address can't exist.");
    const bool usual = (scheme == "https" && number == 443) || (scheme == "http" && number == 80);
    port = usual ? "" : ":" + std::to_string(number);
  }
  const auto domain = read_domain(host);
  if (!domain) return refuse("bad_domain", "That isn't a web address that can exist.");
  if (rest.find_first_of(" \"<>\\^`{|}") != std::string::npos)
    return refuse("odd_character", "That web address has a character that can't stand there.");
  if (rest == "/") rest.clear();
  return scheme + "://" + *domain + port + rest;
}

Reading read_phone(const FieldSpec& spec, const std::string& said) {
  using i18n::phonenumbers::PhoneNumber;
  using i18n::phonenumbers::PhoneNumberUtil;
  std::string text = ascii_digits(said);
  if (const auto spoken = spoken_digits(text); spoken && text.find_first_of("0123456789") == std::string::npos) text = *spoken;
  // Without a region nothing is known of dialling prefixes; 00 is the one that ITU recommends.
  if (spec.region.empty() && text.rfind("00", 0) == 0) text.replace(0, 2, "+");
  if (text.find_first_of("0123456789") == std::string::npos)
    return refuse("not_a_phone", "I couldn't find a phone number in that.");
  const PhoneNumberUtil& util = *PhoneNumberUtil::GetInstance();
  PhoneNumber number;
  switch (util.Parse(text, spec.region.empty() ? "ZZ" : spec.region, &number)) {
    case PhoneNumberUtil::NO_PARSING_ERROR: break;
    case PhoneNumberUtil::INVALID_COUNTRY_CODE_ERROR:
      return refuse("no_country_code", "Could you give me the number with its country code, beginning with a +?");
    case PhoneNumberUtil::TOO_SHORT_NSN:
    case PhoneNumberUtil::TOO_SHORT_AFTER_IDD: return refuse("too_short", "That phone number is too short.");
    case PhoneNumberUtil::TOO_LONG_NSN: return refuse("too_long", "That phone number is too long.");
    default: return refuse("not_a_phone", "I couldn't find a phone number in that.");
  }
  if (!util.IsValidNumber(number)) {
    switch (util.IsPossibleNumberWithReason(number)) {
      case PhoneNumberUtil::TOO_SHORT: return refuse("too_short", "That phone number is too short.");
      case PhoneNumberUtil::TOO_LONG: return refuse("too_long", "That phone number is too long.");
      default: return refuse("no_such_number", "That phone number can't exist; is there a digit wrong?");
    }
  }
  std::string out;
  util.Format(number, PhoneNumberUtil::E164, &out);
  return out;
}

}  // namespace onboarding::domain
