#include "http/openapi.hpp"

#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <charconv>
#include <vector>

#include "events/domain/assertion.hpp"
#include "http/problem.hpp"
#include "http/routes/assets.hpp"

namespace onboarding::http {
namespace {

using rapidjson::Value;

struct Line {
  std::size_t number, indent;
  std::string_view text;  // without indentation, comment and trailing space
};

struct Malformed {
  std::size_t line;
  std::string what;
};

class YamlParser {
 public:
  YamlParser(std::string_view text, rapidjson::Document::AllocatorType& allocator) : allocator_(allocator) {
    std::size_t number = 0;
    while (!text.empty()) {
      const auto end = std::min(text.find('\n'), text.size());
      auto line = text.substr(0, end);
      text.remove_prefix(std::min(end + 1, text.size()));
      ++number;
      const auto indent = std::min(line.find_first_not_of(' '), line.size());
      line.remove_prefix(indent);
      line = without_comment(line);
      if (!line.empty()) lines_.push_back({number, indent, line});
    }
  }

  Value document() {
    auto value = block(0);
    if (at_ < lines_.size()) fail("is indented like nothing before it");
    return value;
  }

 private:
  [[noreturn]] void fail(std::string what) const {
    throw Malformed{at_ < lines_.size() ? lines_[at_].number : 0, std::move(what)};
  }

  static std::string_view without_comment(std::string_view line) {
    bool quoted = false;
    for (std::size_t i = 0; i < line.size(); ++i) {
      if (line[i] == '"' && (i == 0 || line[i - 1] != '\\')) quoted = !quoted;
      if (line[i] == '#' && !quoted && (i == 0 || line[i - 1] == ' ')) line = line.substr(0, i);
    }
    while (!line.empty() && (line.back() == ' ' || line.back() == '\r')) line.remove_suffix(1);
    return line;
  }

  static bool is_item(std::string_view text) { return text == "-" || text.substr(0, 2) == "- "; }

  /// Where a mapping's key ends: ": " or a final ":", outside quotes and brackets.
  static std::size_t key_end(std::string_view text) {
    bool quoted = false;
    if (!text.empty() && (text.front() == '{' || text.front() == '[')) return text.npos;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '"') quoted = !quoted;
      if (text[i] == ':' && !quoted && (i + 1 == text.size() || text[i + 1] == ' ')) return i;
    }
    return text.npos;
  }

  Value block(std::size_t indent) {
    if (at_ >= lines_.size() || lines_[at_].indent < indent) return Value(rapidjson::kNullType);
    const auto own = lines_[at_].indent;
    if (is_item(lines_[at_].text)) return sequence(own);
    if (key_end(lines_[at_].text) == std::string_view::npos) return scalar_line();
    return mapping(own);
  }

  Value sequence(std::size_t indent) {
    Value list(rapidjson::kArrayType);
    while (at_ < lines_.size() && lines_[at_].indent == indent && is_item(lines_[at_].text)) {
      auto& line = lines_[at_];
      const auto skipped = std::min(line.text.find_first_not_of(' ', 1), line.text.size());
      if (skipped == line.text.size()) {
        ++at_;
        list.PushBack(block(indent + 1), allocator_);
      } else {
        line.indent += skipped;  // what follows the dash is a block of its own
        line.text.remove_prefix(skipped);
        list.PushBack(block(line.indent), allocator_);
      }
    }
    return list;
  }

  Value mapping(std::size_t indent) {
    Value map(rapidjson::kObjectType);
    while (at_ < lines_.size() && lines_[at_].indent == indent) {
      const auto text = lines_[at_].text;
      const auto colon = key_end(text);
      if (colon == text.npos) fail("is not `key: value`");
      auto key = scalar(text.substr(0, colon), true);
      if (map.HasMember(key)) fail("repeats a key");
      auto rest = text.substr(colon + 1);
      rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
      if (rest.empty()) {
        ++at_;
        // A sequence may stand as deep as its key.
        const bool same_depth = at_ < lines_.size() && lines_[at_].indent == indent && is_item(lines_[at_].text);
        auto value = block(same_depth ? indent : indent + 1);
        map.AddMember(std::move(key), std::move(value), allocator_);
      } else {
        lines_[at_].text = rest;
        auto value = scalar_line();
        map.AddMember(std::move(key), std::move(value), allocator_);
      }
    }
    if (at_ < lines_.size() && lines_[at_].indent > indent) fail("is indented too deep");
    return map;
  }

  Value scalar_line() {
    auto text = lines_[at_].text;
    auto value = flow(text);
    if (!text.empty()) fail("goes on after its value");
    ++at_;
    return value;
  }

  static void skip_spaces(std::string_view& text) { text.remove_prefix(std::min(text.find_first_not_of(' '), text.size())); }

  /// A value at the front of `text`, which is consumed. Outside brackets a plain scalar goes to the end of the line.
  Value flow(std::string_view& text, bool inside = false) {
    skip_spaces(text);
    if (text.empty()) fail("lacks a value");
    const char open = text.front();
    if (open == '[' || open == '{') {
      Value collection(open == '[' ? rapidjson::kArrayType : rapidjson::kObjectType);
      const char close = open == '[' ? ']' : '}';
      text.remove_prefix(1);
      for (skip_spaces(text); !text.empty() && text.front() != close; skip_spaces(text)) {
        if (open == '[') {
          collection.PushBack(flow(text, true), allocator_);
        } else {
          const auto colon = key_end(text);
          if (colon == text.npos) fail("has a flow mapping without a colon");
          auto key = scalar(text.substr(0, colon), true);
          text.remove_prefix(colon + 1);
          collection.AddMember(std::move(key), flow(text, true), allocator_);
        }
        skip_spaces(text);
        if (!text.empty() && text.front() == ',') text.remove_prefix(1);
        else if (text.empty() || text.front() != close) fail("has an open bracket");
      }
      if (text.empty()) fail("has an open bracket");
      text.remove_prefix(1);
      return collection;
    }
    std::size_t end = text.size();
    if (open == '"') {
      end = 1;
      while (end < text.size() && text[end] != '"') end += text[end] == '\\' ? 2 : 1;
      if (end >= text.size()) fail("has an open quote");
      ++end;
    } else if (inside) {
      end = std::min(text.find_first_of(",]}"), text.size());
    }
    auto value = scalar(text.substr(0, end), false);
    text.remove_prefix(end);
    return value;
  }

  Value scalar(std::string_view text, bool as_key) {
    while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
    if (!text.empty() && text.front() == '"') {
      rapidjson::Document quoted(&allocator_);
      quoted.Parse(text.data(), text.size());
      if (quoted.HasParseError() || !quoted.IsString()) fail("has a malformed quoted text");
      return Value(quoted.GetString(), quoted.GetStringLength(), allocator_);
    }
    if (!as_key) {
      if (text == "true" || text == "false") return Value(text == "true");
      if (text == "null") return Value(rapidjson::kNullType);
      std::int64_t whole = 0;
      if (const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), whole);
          error == std::errc() && end == text.data() + text.size())
        return Value(whole);
      double real = 0;
      if (const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), real);
          error == std::errc() && end == text.data() + text.size())
        return Value(real);
      if (!text.empty() && std::string_view("&*!|>'%@`").find(text.front()) != std::string_view::npos)
        fail("uses YAML that is not understood here");
    }
    return Value(text.data(), static_cast<rapidjson::SizeType>(text.size()), allocator_);
  }

  rapidjson::Document::AllocatorType& allocator_;
  std::vector<Line> lines_;
  std::size_t at_ = 0;
};

}  // namespace

result<rapidjson::Document> parse_yaml(std::string_view text) {
  rapidjson::Document document;
  try {
    static_cast<Value&>(document) = YamlParser(text, document.GetAllocator()).document();
  } catch (const Malformed& error) { return failure(Errc::internal, "line " + std::to_string(error.line) + " " + error.what); }
  return document;
}

const std::string& openapi_json() {
  static const std::string json = [] {
    const auto document = parse_yaml(asset("openapi.yaml"));
    ONBOARDING_ASSERT(document.has_value(), "the embedded OpenAPI document parses (a unit test says so)");
    rapidjson::StringBuffer buffer;
    rapidjson::Writer<rapidjson::StringBuffer> writer(buffer);
    document->Accept(writer);
    return std::string(buffer.GetString(), buffer.GetSize());
  }();
  return json;
}

}  // namespace onboarding::http
