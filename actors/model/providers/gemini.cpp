#include "actors/model/providers/gemini.hpp"

#include <cctype>

#include "actors/model/providers/models.hpp"

namespace onboarding::model {
namespace {

using codec::find_member;
using codec::JsonWriter;
using codec::string_member;
using codec::write_key;
using codec::write_string;
using rapidjson::Value;

void write_parts(JsonWriter& w, std::initializer_list<std::string_view> texts) {
  write_key(w, "parts"), w.StartArray();
  for (const auto text : texts) {
    if (text.empty()) continue;
    w.StartObject();
    write_key(w, "text"), write_string(w, text);
    w.EndObject();
  }
  w.EndArray();
}

void write_content(JsonWriter& w, std::string_view role, std::string_view text) {
  w.StartObject();
  write_key(w, "role"), write_string(w, role);
  write_parts(w, {text});
  w.EndObject();
}

// JSON Schema → the subset of OpenAPI: upper-case types, nullable for a union with null, and the order of members told,
// else they are written by name and the reply comes last.
void write_schema(JsonWriter& w, const Value& schema) {
  w.StartObject();
  if (const auto* type = find_member(schema, "type")) {
    const auto upper = [&](const Value& name) {
      std::string text = name.IsString() ? name.GetString() : "";
      for (auto& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
      if (text == "NULL") write_key(w, "nullable"), w.Bool(true);
      else write_key(w, "type"), write_string(w, text);
    };
    if (type->IsArray())
      for (const auto& name : type->GetArray()) upper(name);
    else upper(*type);
  }
  if (const auto* properties = find_member(schema, "properties"); properties && properties->IsObject()) {
    write_key(w, "properties"), w.StartObject();
    for (const auto& p : properties->GetObject()) {
      write_key(w, {p.name.GetString(), p.name.GetStringLength()});
      write_schema(w, p.value);
    }
    w.EndObject();
    write_key(w, "propertyOrdering"), w.StartArray();
    for (const auto& p : properties->GetObject()) p.name.Accept(w);
    w.EndArray();
  }
  if (const auto* items = find_member(schema, "items"); items && items->IsObject())
    write_key(w, "items"), write_schema(w, *items);
  for (const auto* name : {"required", "enum", "description"})
    if (const auto* value = find_member(schema, name)) write_key(w, name), value->Accept(w);
  w.EndObject();
}

// A path segment: a model's name comes from the configuration.
std::string escaped(std::string_view text) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const unsigned char c : text) {
    if (std::isalnum(c) || c == '-' || c == '.' || c == '_') out += static_cast<char>(c);
    else out += {'%', kHex[c >> 4], kHex[c & 15]};
  }
  return out;
}

// Thoughts are told beside the answer's tokens, and cost the same.
void read_usage(const Value& body, Reading& r) {
  const auto* usage = find_member(body, "usageMetadata");
  if (!usage || !usage->IsObject()) return;
  auto& u = r.result.usage;
  u.input_tokens = tokens_member(*usage, "promptTokenCount", u.input_tokens);
  u.cached_input_tokens = tokens_member(*usage, "cachedContentTokenCount", u.cached_input_tokens);
  u.reasoning_tokens = tokens_member(*usage, "thoughtsTokenCount", u.reasoning_tokens);
  const auto answer = tokens_member(*usage, "candidatesTokenCount", -1);
  if (answer >= 0 || u.reasoning_tokens >= 0)
    u.output_tokens = std::max<std::int64_t>(answer, 0) + std::max<std::int64_t>(u.reasoning_tokens, 0);
  merge_raw_usage(u, *usage);
}

}  // namespace

HttpCall GeminiFormat::build(const ProviderSettings& settings, const Prompt& prompt, bool stream) const {
  rapidjson::StringBuffer buffer;
  JsonWriter w(buffer);
  const auto model = model_of(settings, prompt);
  w.StartObject();
  write_key(w, "systemInstruction"), w.StartObject();
  write_parts(w, {prompt.system_stable, system_rest(prompt)});
  w.EndObject();
  write_key(w, "contents"), w.StartArray();
  if (!prompt.history.empty() && !prompt.history.front().from_user) write_content(w, "user", "…");  // a user has to begin
  for (const auto& line : prompt.history)
    if (!line.text.empty()) write_content(w, line.from_user ? "user" : "model", line.text);
  write_content(w, "user", prompt.user_message);
  w.EndArray();
  write_key(w, "generationConfig"), w.StartObject();
  write_key(w, "responseMimeType"), write_string(w, "application/json");
  if (const auto schema = codec::parse_json(prompt.schema_json); schema && schema->IsObject())
    write_key(w, "responseSchema"), write_schema(w, *schema);
  write_key(w, "maxOutputTokens"), w.Uint(prompt.max_output_tokens);
  if (const auto thinking = thinking_of(model); thinking.budget >= 0 || !thinking.level.empty()) {
    write_key(w, "thinkingConfig"), w.StartObject();
    if (thinking.budget >= 0) write_key(w, "thinkingBudget"), w.Int(thinking.budget);
    else write_key(w, "thinkingLevel"), write_string(w, thinking.level);
    w.EndObject();
  }
  w.EndObject(), w.EndObject();
  HttpCall call;
  call.url =
      settings.base_url + "/v1beta/models/" + escaped(model) + (stream ? ":streamGenerateContent?alt=sse" : ":generateContent");
  call.headers = {"Content-Type: application/json", "x-goog-api-key: " + settings.api_key};
  call.body = codec::written(buffer);
  return call;
}

void GeminiFormat::read_whole(const Value& body, Reading& r) const {
  read_event({}, body, r);
  if (r.finish.empty() && r.result.error == CallError::none) r.fail(CallError::invalid_answer, "no candidate");
}

void GeminiFormat::read_event(std::string_view, const Value& data, Reading& r) const {
  if (const auto model = string_member(data, "modelVersion"); !model.empty()) r.result.served_model = loggable_code(model);
  read_usage(data, r);
  if (const auto* feedback = find_member(data, "promptFeedback"); feedback && feedback->IsObject())
    if (const auto reason = string_member(*feedback, "blockReason"); !reason.empty())
      return r.fail(CallError::refused, "blocked " + loggable_code(reason));
  const auto* candidates = find_member(data, "candidates");
  if (!candidates || !candidates->IsArray() || candidates->Empty() || !(*candidates)[0].IsObject()) return;
  const auto& candidate = (*candidates)[0];
  const auto* content = find_member(candidate, "content");
  const auto* parts = content && content->IsObject() ? find_member(*content, "parts") : nullptr;
  if (parts && parts->IsArray())
    for (const auto& part : parts->GetArray())
      if (part.IsObject() && !codec::bool_member(part, "thought")) append_text(r, string_member(part, "text"));
  if (const auto finish = string_member(candidate, "finishReason"); !finish.empty()) r.finish = finish;
}

CallError GeminiFormat::judge(std::string_view finish) const {
  if (finish == "STOP") return CallError::none;
  if (finish == "MAX_TOKENS") return CallError::cut_off;
  static constexpr std::string_view kRefusals[] = {"SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"};
  return std::find(std::begin(kRefusals), std::end(kRefusals), finish) != std::end(kRefusals) ? CallError::refused
                                                                                              : CallError::invalid_answer;
}

}  // namespace onboarding::model
