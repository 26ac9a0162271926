#include "events/codec/json.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "events/codec/codec.hpp"

namespace onboarding::codec {
namespace {

using rapidjson::Value;

tl::unexpected<Failure> refused(Errc code, std::size_t offset, const char* what) {
  return failure(make_error_code(code), "byte " + std::to_string(offset) + ": " + what);
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// How many of the bytes at `p` are one well-formed UTF-8 character beyond ASCII (Unicode 15, table 3-7); 0: none.
std::size_t utf8_length(const unsigned char* p, std::size_t left) {
  const auto continuation = [&](std::size_t i, unsigned low = 0x80, unsigned high = 0xBF) {
    return i < left && p[i] >= low && p[i] <= high;
  };
  const unsigned lead = p[0];
  if (lead >= 0xC2 && lead <= 0xDF) return continuation(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const unsigned low = lead == 0xE0 ? 0xA0 : 0x80, high = lead == 0xED ? 0x9F : 0xBF;
    return continuation(1, low, high) && continuation(2) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const unsigned low = lead == 0xF0 ? 0x90 : 0x80, high = lead == 0xF4 ? 0x8F : 0xBF;
    return continuation(1, low, high) && continuation(2) && continuation(3) ? 4 : 0;
  }
  return 0;
}

/// Bytes from `p` on that are plain inside a JSON string: ASCII, no control, quote or backslash. Eight at a time: most
/// of what we read are long base64 texts.
std::size_t plain_run(const char* p, std::size_t left) {
  constexpr std::uint64_t ones = 0x0101010101010101, tops = 0x8080808080808080;
  const auto has_zero = [](std::uint64_t v) { return (v - ones) & ~v & tops; };
  std::size_t i = 0;
  for (; i + 8 <= left; i += 8) {
    std::uint64_t v;
    std::memcpy(&v, p + i, 8);
    const std::uint64_t below_space = (v - ones * 0x20) & ~v & tops;
    if ((v & tops) | below_space | has_zero(v ^ (ones * '"')) | has_zero(v ^ (ones * '\\'))) break;
  }
  while (i < left && static_cast<unsigned char>(p[i]) >= 0x20 && static_cast<unsigned char>(p[i]) < 0x80 && p[i] != '"' &&
         p[i] != '\\')
    ++i;
  return i;
}

/// The pass that RapidJSON must not be trusted with: everything that grows without bound, and everything that it lets
/// through (NUL, lone surrogates, ill-formed UTF-8). The grammar between the tokens is RapidJSON's.
class Scan {
 public:
  Scan(std::string_view text, const JsonLimits& limits) : text_(text), limits_(limits) {}

  result<void> operator()() {
    std::size_t depth = 0, values = 0;
    while (at_ < text_.size()) {
      const char c = text_[at_];
      switch (c) {
        case '"':
          if (auto ok = string(); !ok) return ok;
          continue;
        case '{':
        case '[':
          if (++depth > limits_.max_depth) return refused(Errc::too_large, at_, "nested too deep");
          if (++values > limits_.max_values) return refused(Errc::too_large, at_, "too many values");
          break;
        case '}':
        case ']':
          if (depth-- == 0) return refused(Errc::malformed, at_, "closes what was not opened");
          break;
        case ',':
          if (++values > limits_.max_values) return refused(Errc::too_large, at_, "too many values");
          break;
        default:
          if (c == '-' || is_digit(c)) {
            if (auto ok = number(); !ok) return ok;
            continue;
          }
          if (static_cast<unsigned char>(c) >= 0x80)
            return refused(Errc::malformed, at_, "outside a string only ASCII may stand");
          if (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\r' && c != '\t')
            return refused(Errc::malformed, at_, "a control character");
      }
      ++at_;
    }
    return {};
  }

 private:
  result<void> string() {
    const std::size_t begin = ++at_;
    for (;;) {
      at_ += plain_run(text_.data() + at_, text_.size() - at_);
      if (at_ - begin > limits_.max_string_bytes) return refused(Errc::too_large, begin, "the string is too long");
      if (at_ >= text_.size()) return refused(Errc::malformed, begin, "the string does not end");
      const char c = text_[at_];
      if (c == '"') {
        ++at_;
        return {};
      }
      if (c == '\\') {
        if (auto ok = escape(); !ok) return ok;
      } else if (static_cast<unsigned char>(c) < 0x20) {
        return refused(Errc::malformed, at_, "a control character in a string");
      } else {
        const std::size_t length = utf8_length(reinterpret_cast<const unsigned char*>(text_.data()) + at_, text_.size() - at_);
        if (length == 0) return refused(Errc::malformed, at_, "not UTF-8");
        at_ += length;
      }
    }
  }

  /// Passes one escape; both halves of a surrogate pair. Unknown escapes are left to RapidJSON.
  result<void> escape() {
    const std::size_t begin = at_;
    const auto unit = code_unit();
    if (!unit) {
      at_ = std::min(at_ + 2, text_.size());
      return {};
    }
    if (*unit == 0) return refused(Errc::malformed, begin, "a NUL character");
    if (*unit >= 0xDC00 && *unit <= 0xDFFF) return refused(Errc::malformed, begin, "half a surrogate pair");
    if (*unit >= 0xD800 && *unit <= 0xDBFF) {
      const auto low = code_unit();
      if (!low || *low < 0xDC00 || *low > 0xDFFF) return refused(Errc::malformed, begin, "half a surrogate pair");
    }
    return {};
  }

  /// The value of `\uXXXX` here, passed; nullopt, and nothing passed, when something else stands here.
  std::optional<unsigned> code_unit() {
    if (at_ + 6 > text_.size() || text_[at_] != '\\' || text_[at_ + 1] != 'u') return std::nullopt;
    unsigned value = 0;
    for (std::size_t i = at_ + 2; i < at_ + 6; ++i) {
      const char c = text_[i];
      const int digit = is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
      if (digit < 0) return std::nullopt;
      value = value * 16 + static_cast<unsigned>(digit);
    }
    at_ += 6;
    return value;
  }

  /// Bounds a number's length and its exponent's (CVE-2024-38517, CVE-2024-39684 need huge ones), and a zero's more
  /// narrowly: RapidJSON's exact conversion of one that has 10^±23 in it, spelt out or not, is undefined behaviour.
  result<void> number() {
    const std::size_t begin = at_;
    std::size_t exponent_digits = 0;
    bool in_exponent = false, zero = true;
    for (; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (c == 'e' || c == 'E') in_exponent = true;
      else if (is_digit(c)) in_exponent ? void(++exponent_digits) : void(zero = zero && c == '0');
      else if (c != '.' && c != '-' && c != '+') break;
    }
    const std::size_t length = at_ - begin;
    if (length > limits_.max_number_chars || exponent_digits > 4 || (zero && (length > 16 || exponent_digits > 1)))
      return refused(Errc::too_large, begin, "the number is too long");
    return {};
  }

  std::string_view text_;
  const JsonLimits& limits_;
  std::size_t at_ = 0;
};

std::string_view view(const Value& string) { return {string.GetString(), string.GetStringLength()}; }

bool names_a_member_twice(const Value& object) {
  if (object.MemberCount() <= 16) {
    for (auto a = object.MemberBegin(); a != object.MemberEnd(); ++a)
      for (auto b = a + 1; b != object.MemberEnd(); ++b)
        if (view(a->name) == view(b->name)) return true;
    return false;
  }
  std::vector<std::string_view> names;
  names.reserve(object.MemberCount());
  for (const auto& member : object.GetObject()) names.push_back(view(member.name));
  std::sort(names.begin(), names.end());
  return std::adjacent_find(names.begin(), names.end()) != names.end();
}

/// What RapidJSON lets pass though it should not; nullptr: nothing. As deep as the scan allows.
const char* fault_in(const Value& value) {
  if (value.IsDouble()) {
    // It makes infinity of what rounds up beyond the largest double, and NaN of what rounds down to zero.
    return std::isfinite(value.GetDouble()) ? nullptr : "a number is no finite double";
  }
  if (value.IsArray()) {
    for (const auto& element : value.GetArray())
      if (const char* fault = fault_in(element)) return fault;
  } else if (value.IsObject()) {
    if (names_a_member_twice(value)) return "an object names a member twice";
    for (const auto& member : value.GetObject())
      if (const char* fault = fault_in(member.value)) return fault;
  }
  return nullptr;
}

void write_canonical(JsonWriter& writer, const Value& value) {
  if (value.IsArray()) {
    writer.StartArray();
    for (const auto& element : value.GetArray()) write_canonical(writer, element);
    writer.EndArray();
  } else if (value.IsObject()) {
    std::vector<const Value::Member*> members;
    members.reserve(value.MemberCount());
    for (const auto& member : value.GetObject()) members.push_back(&member);
    std::sort(members.begin(), members.end(), [](auto* a, auto* b) { return view(a->name) < view(b->name); });
    writer.StartObject();
    for (const auto* member : members) {
      write_key(writer, view(member->name));
      write_canonical(writer, member->value);
    }
    writer.EndObject();
  } else {
    value.Accept(writer);
  }
}

// UTF-8 was checked by the scan, with what RapidJSON's own check lets through; it need not be checked twice.
constexpr unsigned parse_flags = rapidjson::kParseIterativeFlag | rapidjson::kParseFullPrecisionFlag;

result<void> scan(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) return refused(Errc::too_large, limits.max_bytes, "the text goes on beyond the bound");
  return Scan(text, limits)();
}

result<void> check_parsed(const rapidjson::Document& document) {
  if (document.HasParseError()) return refused(Errc::malformed, document.GetErrorOffset(), "not JSON");
  if (const char* fault = fault_in(document)) return failure(make_error_code(Errc::malformed), fault);
  return {};
}

/// Digits only, exactly `count` of them.
std::optional<unsigned> decimal(std::string_view text, std::size_t at, std::size_t count) {
  unsigned value = 0;
  for (std::size_t i = at; i < at + count; ++i) {
    if (i >= text.size() || !is_digit(text[i])) return std::nullopt;
    value = value * 10 + static_cast<unsigned>(text[i] - '0');
  }
  return value;
}

}  // namespace

result<rapidjson::Document> parse_json(std::string_view text, const JsonLimits& limits) {
  rapidjson::Document document;
  if (auto ok = scan(text, limits); !ok) return tl::unexpected(ok.error());
  document.Parse<parse_flags>(text.data(), text.size());
  if (auto ok = check_parsed(document); !ok) return tl::unexpected(ok.error());
  return document;
}

result<void> parse_json_in_place(std::string& text, rapidjson::Document& document, const JsonLimits& limits) {
  if (auto ok = scan(text, limits); !ok) return ok;
  document.ParseInsitu<parse_flags | rapidjson::kParseInsituFlag>(text.data());
  return check_parsed(document);
}

std::string canonical_json(const Value& value) {
  rapidjson::StringBuffer buffer;
  JsonWriter writer(buffer);
  write_canonical(writer, value);
  return std::string(written(buffer));
}

bool append_string(std::string& out, std::string_view text) {
  static constexpr char hex[] = "0123456789abcdef";
  bool well_formed = true;
  out += '"';
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t plain = plain_run(text.data() + i, text.size() - i);
    out.append(text, i, plain);
    if ((i += plain) == text.size()) break;
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x80 || c == 0) {
      const std::size_t length =
          c == 0 ? 0 : utf8_length(reinterpret_cast<const unsigned char*>(text.data()) + i, text.size() - i);
      if (length == 0) {
        well_formed = false;
        out += "\xEF\xBF\xBD";
        ++i;
      } else {
        out.append(text, i, length);
        i += length;
      }
      continue;
    }
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default: out += {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
    }
    ++i;
  }
  out += '"';
  return well_formed;
}

bool is_text(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c == 0) return false;
    const std::size_t length =
        c < 0x80 ? 1 : utf8_length(reinterpret_cast<const unsigned char*>(text.data()) + i, text.size() - i);
    if (length == 0) return false;
    i += length;
  }
  return true;
}

const Value* find_member(const Value& object, std::string_view name) {
  if (!object.IsObject()) return nullptr;
  for (const auto& member : object.GetObject())
    if (view(member.name) == name) return &member.value;
  return nullptr;
}

std::string_view string_member(const Value& object, std::string_view name, std::string_view fallback) {
  const Value* member = find_member(object, name);
  return member && member->IsString() ? view(*member) : fallback;
}

std::int64_t int_member(const Value& object, std::string_view name, std::int64_t fallback) {
  const Value* member = find_member(object, name);
  return member && member->IsInt64() ? member->GetInt64() : fallback;
}

bool bool_member(const Value& object, std::string_view name, bool fallback) {
  const Value* member = find_member(object, name);
  return member && member->IsBool() ? member->GetBool() : fallback;
}

std::string format_time(std::chrono::sys_time<std::chrono::microseconds> time) {
  using namespace std::chrono;
  // Years of four digits are all that RFC 3339 can say.
  time = std::clamp(time, sys_time<microseconds>(sys_days(year(0) / 1 / 1)),
                    sys_time<microseconds>(sys_days(year(10000) / 1 / 1)) - microseconds(1));
  const auto day = floor<days>(time);
  const year_month_day date(day);
  auto rest = (time - day).count();
  std::string text = "0000-00-00T00:00:00.000000Z";
  const auto put = [&](std::size_t at, std::size_t count, std::int64_t value) {
    for (; count > 0; --count, value /= 10) text[at + count - 1] = static_cast<char>('0' + value % 10);
  };
  put(0, 4, static_cast<int>(date.year()));
  put(5, 2, static_cast<unsigned>(date.month()));
  put(8, 2, static_cast<unsigned>(date.day()));
  put(20, 6, rest % 1'000'000);
  rest /= 1'000'000;
  put(17, 2, rest % 60);
  put(14, 2, rest / 60 % 60);
  put(11, 2, rest / 3600);
  return text;
}

std::optional<std::chrono::sys_time<std::chrono::microseconds>> parse_time(std::string_view text) {
  using namespace std::chrono;
  if (text.size() < 20 || text[4] != '-' || text[7] != '-' || (text[10] | 0x20) != 't' || text[13] != ':' || text[16] != ':')
    return std::nullopt;
  const auto y = decimal(text, 0, 4), mo = decimal(text, 5, 2), d = decimal(text, 8, 2);
  const auto h = decimal(text, 11, 2), mi = decimal(text, 14, 2), s = decimal(text, 17, 2);
  if (!y || !mo || !d || !h || !mi || !s || *h > 23 || *mi > 59 || *s > 59) return std::nullopt;
  const year_month_day date(year(static_cast<int>(*y)), month(*mo), day(*d));
  if (!date.ok()) return std::nullopt;

  std::size_t at = 19;
  std::int64_t micros = 0;
  if (text[at] == '.') {
    std::int64_t unit = 100'000;  // digits beyond the sixth count nothing
    const std::size_t first = ++at;
    for (; at < text.size() && is_digit(text[at]); ++at, unit /= 10) micros += (text[at] - '0') * unit;
    if (at == first || at - first > 9) return std::nullopt;
  }
  minutes offset{0};
  if (at + 1 == text.size() && (text[at] | 0x20) == 'z') {
  } else if (at + 6 == text.size() && (text[at] == '+' || text[at] == '-') && text[at + 3] == ':') {
    const auto oh = decimal(text, at + 1, 2), om = decimal(text, at + 4, 2);
    if (!oh || !om || *oh > 23 || *om > 59) return std::nullopt;
    offset = minutes(static_cast<int>(*oh * 60 + *om)) * (text[at] == '-' ? -1 : 1);
  } else {
    return std::nullopt;
  }
  return sys_days(date) + hours(*h) + minutes(*mi) + seconds(*s) + microseconds(micros) - offset;
}

}  // namespace onboarding::codec
