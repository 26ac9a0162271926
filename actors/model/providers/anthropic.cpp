#include "actors/model/providers/anthropic.hpp"

namespace onboarding::model {
namespace {

using codec::find_member;
using codec::string_member;
using codec::write_key;
using codec::write_string;
using rapidjson::Value;

constexpr std::string_view kTool = "record_profile";

void write_message(codec::JsonWriter& w, std::string_view role, std::string_view content) {
  w.StartObject();
  write_key(w, "role"), write_string(w, role);
  write_key(w, "content"), write_string(w, content);
  w.EndObject();
}

void write_block(codec::JsonWriter& w, std::string_view text, bool cached) {
  if (text.empty()) return;  // an empty block is an error
  w.StartObject();
  write_key(w, "type"), write_string(w, "text");
  write_key(w, "text"), write_string(w, text);
  if (cached) {
    write_key(w, "cache_control"), w.StartObject();
    write_key(w, "type"), write_string(w, "ephemeral");
    w.EndObject();
  }
  w.EndObject();
}

// input_tokens leaves out what was read from or written to the cache: ours has them. Cumulative: the last one counts, and
// message_delta may tell the output only.
void read_usage(const Value& holder, Reading& r) {
  const auto* usage = find_member(holder, "usage");
  if (!usage || !usage->IsObject()) return;
  auto& u = r.result.usage;
  const auto known = [](std::int64_t n) { return n < 0 ? 0 : n; };
  const auto uncached_before =
      u.input_tokens < 0 ? -1 : u.input_tokens - known(u.cached_input_tokens) - known(u.cache_write_tokens);
  u.cached_input_tokens = tokens_member(*usage, "cache_read_input_tokens", u.cached_input_tokens);
  u.cache_write_tokens = tokens_member(*usage, "cache_creation_input_tokens", u.cache_write_tokens);
  const auto uncached = tokens_member(*usage, "input_tokens", uncached_before);
  if (uncached >= 0) u.input_tokens = uncached + known(u.cached_input_tokens) + known(u.cache_write_tokens);
  u.output_tokens = tokens_member(*usage, "output_tokens", u.output_tokens);
  merge_raw_usage(u, *usage);
}

void read_message(const Value& message, Reading& r) {
  if (const auto model = string_member(message, "model"); !model.empty()) r.result.served_model = loggable_code(model);
  read_usage(message, r);
}

}  // namespace

HttpCall AnthropicFormat::build(const ProviderSettings& settings, const Prompt& prompt, bool stream) const {
  rapidjson::StringBuffer buffer;
  codec::JsonWriter w(buffer);
  w.StartObject();
  write_key(w, "model"), write_string(w, model_of(settings, prompt));
  write_key(w, "max_tokens"), w.Uint(prompt.max_output_tokens);
  write_key(w, "system"), w.StartArray();
  write_block(w, prompt.system_stable, true);
  write_block(w, system_rest(prompt), false);
  w.EndArray();
  write_key(w, "messages"), w.StartArray();
  if (!prompt.history.empty() && !prompt.history.front().from_user) write_message(w, "user", "…");  // a user has to begin
  for (const auto& line : prompt.history)
    if (!line.text.empty()) write_message(w, line.from_user ? "user" : "assistant", line.text);
  write_message(w, "user", prompt.user_message);
  w.EndArray();
  write_key(w, "tools"), w.StartArray(), w.StartObject();
  write_key(w, "name"), write_string(w, kTool);
  write_key(w, "description"), write_string(w, "Records what the user has just given, and replies to the user.");
  write_key(w, "input_schema"), w.RawValue(prompt.schema_json.data(), prompt.schema_json.size(), rapidjson::kObjectType);
  w.EndObject(), w.EndArray();
  write_key(w, "tool_choice"), w.StartObject();
  write_key(w, "type"), write_string(w, "tool");
  write_key(w, "name"), write_string(w, kTool);
  w.EndObject();
  if (!prompt.safety_identifier.empty()) {
    write_key(w, "metadata"), w.StartObject();
    write_key(w, "user_id"), write_string(w, prompt.safety_identifier);
    w.EndObject();
  }
  if (stream) write_key(w, "stream"), w.Bool(true);
  w.EndObject();
  HttpCall call;
  call.url = settings.base_url + "/v1/messages";
  call.headers = {"Content-Type: application/json", "x-api-key: " + settings.api_key, "anthropic-version: 2023-06-01"};
  call.body = codec::written(buffer);
  return call;
}

void AnthropicFormat::read_whole(const Value& body, Reading& r) const {
  read_message(body, r);
  r.finish = string_member(body, "stop_reason");
  const auto* content = find_member(body, "content");
  if (!content || !content->IsArray()) return r.fail(CallError::invalid_answer, "no content");
  for (const auto& block : content->GetArray()) {
    if (!block.IsObject() || string_member(block, "type") != "tool_use" || string_member(block, "name") != kTool) continue;
    const auto* input = find_member(block, "input");
    if (!input || !input->IsObject()) return r.fail(CallError::invalid_answer, "no input of the tool");
    rapidjson::StringBuffer buffer;
    codec::JsonWriter w(buffer);
    input->Accept(w);
    return append_text(r, codec::written(buffer));
  }
}

void AnthropicFormat::read_event(std::string_view, const Value& data, Reading& r) const {
  const auto type = string_member(data, "type");
  if (type == "message_start") {
    if (const auto* message = find_member(data, "message"); message && message->IsObject()) read_message(*message, r);
  } else if (type == "content_block_delta") {
    const auto* delta = find_member(data, "delta");
    if (delta && delta->IsObject() && string_member(*delta, "type") == "input_json_delta")
      append_text(r, string_member(*delta, "partial_json"));
  } else if (type == "message_delta") {
    read_usage(data, r);
    if (const auto* delta = find_member(data, "delta"); delta && delta->IsObject())
      if (const auto reason = string_member(*delta, "stop_reason"); !reason.empty()) r.finish = reason;
  } else if (type == "message_stop") {
    r.ended = true;
  }
}

CallError AnthropicFormat::judge(std::string_view finish) const {
  if (finish == "model_context_window_exceeded") return CallError::context_too_long;
  if (finish == "max_tokens") return CallError::cut_off;
  if (finish == "refusal") return CallError::refused;
  return finish == "tool_use" || finish == "end_turn" ? CallError::none : CallError::invalid_answer;
}

}  // namespace onboarding::model
