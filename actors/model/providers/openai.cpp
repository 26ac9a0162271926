#include "actors/model/providers/openai.hpp"

#include <array>
#include <cstdint>

#include "actors/model/providers/models.hpp"

namespace onboarding::model {
namespace {

using codec::find_member;
using codec::string_member;
using codec::write_key;
using codec::write_string;
using rapidjson::Value;

void write_message(codec::JsonWriter& w, std::string_view role, std::string_view content) {
  w.StartObject();
  write_key(w, "role"), write_string(w, role);
  write_key(w, "content"), write_string(w, content);
  w.EndObject();
}

// The same for every turn that shares the stable part, so that they meet at the same cache (FNV-1a).
std::string cache_key(std::string_view stable) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const unsigned char c : stable) hash = (hash ^ c) * 0x100000001b3;
  std::array<char, 17> hex;
  std::snprintf(hex.data(), hex.size(), "%016llx", static_cast<unsigned long long>(hash));
  return "onboarding-" + std::string(hex.data());
}

// DeepSeek tells its cache's part beside, OpenAI within the details.
void read_usage(const Value& body, Reading& r) {
  const auto* usage = find_member(body, "usage");
  if (!usage || !usage->IsObject()) return;
  auto& u = r.result.usage;
  u.input_tokens = tokens_member(*usage, "prompt_tokens", u.input_tokens);
  u.output_tokens = tokens_member(*usage, "completion_tokens", u.output_tokens);
  u.cached_input_tokens = tokens_member(*usage, "prompt_cache_hit_tokens", u.cached_input_tokens);
  if (const auto* details = find_member(*usage, "prompt_tokens_details"); details && details->IsObject()) {
    u.cached_input_tokens = tokens_member(*details, "cached_tokens", u.cached_input_tokens);
    u.cache_write_tokens = tokens_member(*details, "cache_write_tokens", u.cache_write_tokens);
  }
  if (const auto* details = find_member(*usage, "completion_tokens_details"); details && details->IsObject())
    u.reasoning_tokens = tokens_member(*details, "reasoning_tokens", u.reasoning_tokens);
  merge_raw_usage(u, *usage);
}

void read_model(const Value& body, Reading& r) {
  if (const auto model = string_member(body, "model"); !model.empty()) r.result.served_model = loggable_code(model);
}

const Value* first_choice(const Value& body) {
  const auto* choices = find_member(body, "choices");
  return choices && choices->IsArray() && !choices->Empty() && (*choices)[0].IsObject() ? &(*choices)[0] : nullptr;
}

// {"reply":"…","fields":{"full_name":"…",…},"asks":[]} for the fields of the schema.
std::string example_of(const std::string& schema_json) {
  const auto schema = codec::parse_json(schema_json);
  const Value* fields = schema && schema->IsObject() ? find_member(*schema, "properties") : nullptr;
  for (const auto* name : {"fields", "properties"}) fields = fields && fields->IsObject() ? find_member(*fields, name) : nullptr;
  rapidjson::StringBuffer buffer;
  codec::JsonWriter w(buffer);
  w.StartObject();
  write_key(w, "reply"), write_string(w, "text for the user");
  write_key(w, "fields"), w.StartObject();
  std::string_view last;
  if (fields && fields->IsObject())
    for (const auto& field : fields->GetObject()) {
      const bool first = last.empty();
      last = {field.name.GetString(), field.name.GetStringLength()};
      write_key(w, last);
      if (first) write_string(w, "as the user said it");
      else w.Null();
    }
  w.EndObject();
  write_key(w, "asks"), w.StartArray();
  if (!last.empty()) write_string(w, last);
  w.EndArray(), w.EndObject();
  return std::string(codec::written(buffer));
}

}  // namespace

HttpCall ChatCompletions::build(const ProviderSettings& settings, const Prompt& prompt, bool stream) const {
  rapidjson::StringBuffer buffer;
  codec::JsonWriter w(buffer);
  const auto model = model_of(settings, prompt);
  w.StartObject();
  write_key(w, "model"), write_string(w, model);
  write_key(w, "messages"), w.StartArray();
  write_system(w, prompt);
  for (const auto& line : prompt.history) write_message(w, line.from_user ? "user" : "assistant", line.text);
  write_message(w, "user", prompt.user_message);
  w.EndArray();
  write_options(w, model, prompt);
  if (stream) {
    write_key(w, "stream"), w.Bool(true);
    write_key(w, "stream_options"), w.StartObject();
    write_key(w, "include_usage"), w.Bool(true);
    w.EndObject();
  }
  w.EndObject();
  HttpCall call;
  call.url = settings.base_url + "/chat/completions";
  call.headers = {"Content-Type: application/json", "Authorization: Bearer " + settings.api_key};
  call.body = codec::written(buffer);
  return call;
}

void ChatCompletions::read_whole(const Value& body, Reading& r) const {
  read_model(body, r);
  read_usage(body, r);
  const auto* choice = first_choice(body);
  const auto* message = choice ? find_member(*choice, "message") : nullptr;
  if (!message || !message->IsObject()) return r.fail(CallError::invalid_answer, "no message");
  append_text(r, string_member(*message, "content"));
  r.refused = !string_member(*message, "refusal").empty();
  r.finish = string_member(*choice, "finish_reason");
}

void ChatCompletions::read_event(std::string_view, const Value& data, Reading& r) const {
  read_model(data, r);
  read_usage(data, r);
  const auto* choice = first_choice(data);
  if (!choice) return;  // the chunk with the usage, or one about moderation
  if (const auto* delta = find_member(*choice, "delta"); delta && delta->IsObject()) {
    append_text(r, string_member(*delta, "content"));
    r.refused = r.refused || !string_member(*delta, "refusal").empty();
  }
  if (const auto finish = string_member(*choice, "finish_reason"); !finish.empty()) r.finish = finish;
}

CallError ChatCompletions::judge(std::string_view finish) const {
  if (finish == "insufficient_system_resource") return CallError::overloaded;  // DeepSeek gave up in the middle
  if (finish == "length") return CallError::cut_off;
  if (finish == "content_filter") return CallError::refused;
  return finish == "stop" ? CallError::none : CallError::invalid_answer;
}

void OpenAiFormat::write_system(codec::JsonWriter& w, const Prompt& prompt) const {
  write_message(w, "developer", prompt.system);
}

void OpenAiFormat::write_options(codec::JsonWriter& w, std::string_view model, const Prompt& prompt) const {
  write_key(w, "max_completion_tokens"), w.Uint(prompt.max_output_tokens);
  if (const auto level = thinking_of(model).level; !level.empty()) write_key(w, "reasoning_effort"), write_string(w, level);
  write_key(w, "response_format"), w.StartObject();
  write_key(w, "type"), write_string(w, "json_schema");
  write_key(w, "json_schema"), w.StartObject();
  write_key(w, "name"), write_string(w, "profile_extract");
  write_key(w, "strict"), w.Bool(true);
  write_key(w, "schema"), w.RawValue(prompt.schema_json.data(), prompt.schema_json.size(), rapidjson::kObjectType);
  w.EndObject(), w.EndObject();
  if (!prompt.system_stable.empty()) write_key(w, "prompt_cache_key"), write_string(w, cache_key(prompt.system_stable));
  if (!prompt.safety_identifier.empty()) write_key(w, "safety_identifier"), write_string(w, prompt.safety_identifier);
  write_key(w, "store"), w.Bool(false);
}

void DeepSeekFormat::write_system(codec::JsonWriter& w, const Prompt& prompt) const {
  std::string system = prompt.system_stable;
  system += "Answer in json. An example of the json: " + example_of(prompt.schema_json) + "\n";
  system += system_rest(prompt);
  write_message(w, "system", system);
}

void DeepSeekFormat::write_options(codec::JsonWriter& w, std::string_view, const Prompt& prompt) const {
  write_key(w, "max_tokens"), w.Uint(prompt.max_output_tokens);
  write_key(w, "response_format"), w.StartObject();
  write_key(w, "type"), write_string(w, "json_object");
  w.EndObject();
  write_key(w, "thinking"), w.StartObject();
  write_key(w, "type"), write_string(w, "disabled");
  w.EndObject();
}

}  // namespace onboarding::model
