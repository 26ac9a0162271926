// A flow file: api.md §2. Every member must be known: a misspelt one would silently change what people are asked.
#include <cmath>
#include <span>

#include "events/codec/codec.hpp"
#include "events/codec/json.hpp"

namespace onboarding::codec {
namespace {

using rapidjson::Value;

constexpr std::string_view flow_members[] = {"name", "locale", "greeting", "fields", "faq"};
constexpr std::string_view faq_members[] = {"questions", "answer"};
constexpr std::string_view field_members[] = {"name", "type",       "label",      "prompt",  "required", "sensitive", "min",
                                              "max",  "min_length", "max_length", "pattern", "region",   "options",   "when"};
constexpr std::string_view option_members[] = {"value", "labels"};
constexpr std::string_view condition_members[] = {"field", "is", "is_not"};

std::string_view view(const Value& string) { return {string.GetString(), string.GetStringLength()}; }

/// A name as a part of a JSON pointer (RFC 6901).
std::string pointer_part(std::string_view name) {
  std::string part = "/";
  for (const char c : name) {
    if (c == '~') part += "~0";
    else if (c == '/') part += "~1";
    else part += c;
  }
  return part;
}

/// One object of the file: takes members by type, keeps the first thing wrong with its JSON pointer.
class ObjectReader {
 public:
  ObjectReader(const Value& value, std::string pointer, std::optional<Failure>& error)
      : value_(value), pointer_(std::move(pointer)), error_(error) {
    if (!value_.IsObject()) wrong("", "must be an object");
  }

  void only(std::span<const std::string_view> known) {
    if (error_) return;
    for (const auto& member : value_.GetObject())
      if (std::find(known.begin(), known.end(), view(member.name)) == known.end())
        return wrong(view(member.name), "is not known");
  }
  const Value* find(std::string_view name, bool needed = false) {
    if (error_) return nullptr;
    const Value* member = find_member(value_, name);
    if (!member && needed) wrong(name, "is missing");
    return member;
  }
  void string(std::string_view name, std::string& out, bool needed = false) {
    if (const Value* member = find(name, needed))
      member->IsString() ? void(out = view(*member)) : wrong(name, "must be a string");
  }
  void boolean(std::string_view name, bool& out) {
    if (const Value* member = find(name)) member->IsBool() ? void(out = member->GetBool()) : wrong(name, "must be true or false");
  }
  void number(std::string_view name, std::optional<double>& out) {
    if (const Value* member = find(name)) member->IsNumber() ? void(out = member->GetDouble()) : wrong(name, "must be a number");
  }
  void count(std::string_view name, std::optional<std::uint32_t>& out) {
    if (const Value* member = find(name))
      member->IsUint() ? void(out = member->GetUint()) : wrong(name, "must be a whole number, not negative");
  }
  const Value* array(std::string_view name, bool needed = false) {
    const Value* member = find(name, needed);
    if (member && !member->IsArray()) return wrong(name, "must be a list"), nullptr;
    return member;
  }
  void wrong(std::string_view name, const char* what) {
    if (error_) return;
    const std::string pointer = pointer_ + (name.empty() ? "" : pointer_part(name));
    error_ = Failure{Errc::malformed, (pointer.empty() ? "/" : pointer) + " " + what};
  }
  std::string pointer(std::string_view name) const { return pointer_ + pointer_part(name); }

 private:
  const Value& value_;
  std::string pointer_;
  std::optional<Failure>& error_;
};

domain::FieldSpec read_field(const Value& value, const std::string& pointer, std::optional<Failure>& error) {
  domain::FieldSpec field;
  ObjectReader object(value, pointer, error);
  object.only(field_members);
  object.string("name", field.name, true);
  std::string type;
  object.string("type", type, true);
  if (const auto known = domain::field_type(type)) field.type = *known;
  else object.wrong("type", "is not a field type");
  object.string("label", field.label);
  object.string("prompt", field.prompt, true);
  object.boolean("required", field.required);
  object.boolean("sensitive", field.sensitive);
  object.number("min", field.min);
  object.number("max", field.max);
  object.count("min_length", field.min_length);
  object.count("max_length", field.max_length);
  object.string("pattern", field.pattern);
  object.string("region", field.region);
  if (const Value* options = object.array("options")) {
    for (rapidjson::SizeType i = 0; i < options->Size() && !error; ++i) {
      domain::ChoiceOption option;
      ObjectReader entry((*options)[i], object.pointer("options") + "/" + std::to_string(i), error);
      entry.only(option_members);
      entry.string("value", option.value, true);
      if (const Value* labels = entry.array("labels")) {
        for (const auto& label : labels->GetArray()) {
          if (label.IsString()) option.labels.emplace_back(view(label));
          else entry.wrong("labels", "must hold strings");
        }
      }
      field.options.push_back(std::move(option));
    }
  }
  if (const Value* when = object.find("when")) {
    domain::Condition condition;
    ObjectReader entry(*when, object.pointer("when"), error);
    entry.only(condition_members);
    entry.string("field", condition.field, true);
    if (const bool is = entry.find("is"), is_not = entry.find("is_not"); is == is_not)
      entry.wrong("", "needs either is or is_not");
    else condition.op = is ? domain::Condition::Operator::is : domain::Condition::Operator::is_not;
    entry.string(condition.op == domain::Condition::Operator::is ? "is" : "is_not", condition.value, true);
    field.when = std::move(condition);
  }
  if (field.label.empty()) {  // "team_size" reads "team size"
    field.label = field.name;
    std::replace(field.label.begin(), field.label.end(), '_', ' ');
  }
  return field;
}

void write_number(JsonWriter& writer, double number) {
  constexpr double exact = 9007199254740992.0;  // 2^53: up to here every whole number is itself
  if (std::trunc(number) == number && std::abs(number) <= exact) writer.Int64(static_cast<std::int64_t>(number));
  else writer.Double(number);
}

void write_field(JsonWriter& writer, const domain::FieldSpec& field) {
  const auto text = [&](std::string_view name, std::string_view value) {
    if (value.empty()) return;
    write_key(writer, name);
    write_string(writer, value);
  };
  writer.StartObject();
  text("name", field.name);
  text("type", domain::to_string(field.type));
  text("label", field.label);
  write_key(writer, "prompt");
  write_string(writer, field.prompt);
  write_key(writer, "required");
  writer.Bool(field.required);
  write_key(writer, "sensitive");
  writer.Bool(field.sensitive);
  for (const auto& [name, bound] : {std::pair("min", field.min), std::pair("max", field.max)})
    if (bound) write_key(writer, name), write_number(writer, *bound);
  for (const auto& [name, bound] : {std::pair("min_length", field.min_length), std::pair("max_length", field.max_length)})
    if (bound) write_key(writer, name), writer.Uint(*bound);
  text("pattern", field.pattern);
  text("region", field.region);
  if (!field.options.empty()) {
    write_key(writer, "options");
    writer.StartArray();
    for (const auto& option : field.options) {
      writer.StartObject();
      write_key(writer, "value");
      write_string(writer, option.value);
      write_key(writer, "labels");
      writer.StartArray();
      for (const auto& label : option.labels) write_string(writer, label);
      writer.EndArray();
      writer.EndObject();
    }
    writer.EndArray();
  }
  if (field.when) {
    write_key(writer, "when");
    writer.StartObject();
    write_key(writer, "field");
    write_string(writer, field.when->field);
    write_key(writer, field.when->op == domain::Condition::Operator::is ? "is" : "is_not");
    write_string(writer, field.when->value);
    writer.EndObject();
  }
  writer.EndObject();
}

}  // namespace

result<domain::Flow> parse_flow(std::string_view json) {
  const auto document = parse_json(json);
  if (!document) return tl::unexpected(document.error());
  std::optional<Failure> error;
  domain::Flow flow;
  ObjectReader object(*document, "", error);
  object.only(flow_members);
  object.string("name", flow.name, true);
  object.string("locale", flow.locale);
  object.string("greeting", flow.greeting, true);
  if (const Value* fields = object.array("fields", true))
    for (rapidjson::SizeType i = 0; i < fields->Size() && !error; ++i)
      flow.fields.push_back(read_field((*fields)[i], "/fields/" + std::to_string(i), error));
  if (const Value* faq = object.array("faq"))
    for (rapidjson::SizeType i = 0; i < faq->Size() && !error; ++i) {
      const auto at = "/faq/" + std::to_string(i);
      ObjectReader entry((*faq)[i], at, error);
      entry.only(faq_members);
      auto& read = flow.faq.emplace_back();
      entry.string("answer", read.answer, true);
      if (const Value* questions = entry.array("questions", true))
        for (const auto& question : questions->GetArray()) {
          if (question.IsString()) read.questions.emplace_back(view(question));
          else entry.wrong("questions", "must hold strings");
        }
    }
  if (error) return tl::unexpected(*error);
  return flow;
}

std::string write_flow(const domain::Flow& flow) {
  rapidjson::StringBuffer buffer;
  JsonWriter writer(buffer);
  writer.StartObject();
  for (const auto& [name, text] :
       {std::pair("name", &flow.name), std::pair("locale", &flow.locale), std::pair("greeting", &flow.greeting)}) {
    write_key(writer, name);
    write_string(writer, *text);
  }
  write_key(writer, "fields");
  writer.StartArray();
  for (const auto& field : flow.fields) write_field(writer, field);
  writer.EndArray();
  if (!flow.faq.empty()) {
    write_key(writer, "faq");
    writer.StartArray();
    for (const auto& entry : flow.faq) {
      writer.StartObject();
      write_key(writer, "questions");
      writer.StartArray();
      for (const auto& question : entry.questions) write_string(writer, question);
      writer.EndArray();
      write_key(writer, "answer");
      write_string(writer, entry.answer);
      writer.EndObject();
    }
    writer.EndArray();
  }
  writer.EndObject();
  return std::string(written(buffer));
}

}  // namespace onboarding::codec
