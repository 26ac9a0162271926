#include "actors/model/providers/openai.hpp"

#include <charconv>

#include "events/codec/json.hpp"

namespace onboarding::model {
namespace {

using codec::find_member;
using codec::int_member;
using codec::string_member;
using codec::write_key;
using codec::write_string;
using rapidjson::Value;

// What an error reply means, first match counts. An empty code or text matches any; `status` 4 and 5 stand for 4xx and 5xx.
struct ErrorRule {
  int status;
  std::string_view code;  // error.code or error.type
  std::string_view text;  // somewhere in error.message
  CallError means;
};
constexpr ErrorRule kErrorRules[] = {
    {429, "insufficient_quota", "", CallError::quota_exhausted},
    {429, "credit_balance_exhausted", "", CallError::quota_exhausted},
    {429, "organization_spend_limit_exceeded", "", CallError::quota_exhausted},
    {429, "project_spend_limit_exceeded", "", CallError::quota_exhausted},
    {429, "organization_usage_limit_exceeded", "", CallError::quota_exhausted},
    {429, "", "Request too large", CallError::context_too_long},  // over the limit by itself: waiting does not help
    {429, "", "", CallError::rate_limited},
    {503, "slow_down", "", CallError::rate_limited},
    {400, "context_length_exceeded", "", CallError::context_too_long},
    {400, "", "maximum context length", CallError::context_too_long},
    {401, "", "", CallError::unauthorised},
    {402, "", "", CallError::quota_exhausted},
    {403, "", "", CallError::unauthorised},
    {408, "", "", CallError::timeout},
    {413, "", "", CallError::context_too_long},
    {4, "", "", CallError::bad_request},
    {5, "", "", CallError::unavailable},
};

CallError classify(int status, std::string_view type, std::string_view code, std::string_view text) {
  for (const auto& r : kErrorRules)
    if ((r.status == status || r.status == status / 100) && (r.code.empty() || r.code == code || r.code == type) &&
        text.find(r.text) != text.npos)
      return r.means;
  return CallError::unavailable;  // 1xx to 3xx without an answer: no server of this API
}

void write_message(codec::JsonWriter& w, std::string_view role, std::string_view content) {
  w.StartObject();
  write_key(w, "role"), write_string(w, role);
  write_key(w, "content"), write_string(w, content);
  w.EndObject();
}

domain::Usage read_usage(const Value& usage) {
  domain::Usage u;
  u.input_tokens = int_member(usage, "prompt_tokens", -1);
  u.output_tokens = int_member(usage, "completion_tokens", -1);
  if (const auto* details = find_member(usage, "prompt_tokens_details"); details && details->IsObject()) {
    u.cached_input_tokens = int_member(*details, "cached_tokens", -1);
    u.cache_write_tokens = int_member(*details, "cache_write_tokens", -1);
  }
  if (const auto* details = find_member(usage, "completion_tokens_details"); details && details->IsObject())
    u.reasoning_tokens = int_member(*details, "reasoning_tokens", -1);
  constexpr std::size_t kMaxRawUsage = 2'048;
  rapidjson::StringBuffer buffer;
  codec::JsonWriter w(buffer);
  usage.Accept(w);
  if (buffer.GetSize() <= kMaxRawUsage) u.raw = codec::written(buffer);
  return u;
}

void read_rate_headers(const HttpReply& reply, CallResult& result) {
  constexpr std::string_view kPrefix = "x-ratelimit-remaining-";
  for (const auto& [name, value] : reply.headers) {
    if (name.compare(0, kPrefix.size(), kPrefix) != 0) continue;
    std::int64_t n = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), n);
    if (error == std::errc() && end == value.data() + value.size() && n >= 0) result.remaining[name.substr(kPrefix.size())] = n;
  }
}

void fail(CallResult& result, CallError error, std::string detail) {
  result.error = error;
  result.detail = std::move(detail);
}

void read_completion(const Value& body, CallResult& result) {
  result.served_model = loggable_code(string_member(body, "model"));
  if (const auto* usage = find_member(body, "usage"); usage && usage->IsObject()) result.usage = read_usage(*usage);
  const auto* choices = find_member(body, "choices");
  if (!choices || !choices->IsArray() || choices->Empty() || !(*choices)[0].IsObject())
    return fail(result, CallError::invalid_answer, "no choice");
  const auto& choice = (*choices)[0];
  const auto* message = find_member(choice, "message");
  if (!message || !message->IsObject()) return fail(result, CallError::invalid_answer, "no message");
  result.answer = string_member(*message, "content");
  const auto finish = string_member(choice, "finish_reason");
  if (finish != "stop") return fail(result, CallError::invalid_answer, "finish_reason " + loggable_code(finish));
  if (result.answer.empty()) return fail(result, CallError::invalid_answer, "empty or refused");
}

void read_error(const HttpReply& reply, const Value* body, CallResult& result) {
  std::string_view type, code, text;
  if (body && body->IsObject())
    if (const auto* error = find_member(*body, "error"); error && error->IsObject()) {
      type = string_member(*error, "type");
      code = string_member(*error, "code");
      text = string_member(*error, "message");
    }
  fail(result, classify(reply.status, type, code, text),
       "status " + std::to_string(reply.status) + " " + loggable_code(code.empty() ? type : code));
  if (result.error == CallError::rate_limited) result.retry_after = retry_hint(reply, text, "Please try again in ");
}

}  // namespace

HttpCall OpenAiFormat::build(const ProviderSettings& settings, const Prompt& prompt) const {
  rapidjson::StringBuffer buffer;
  codec::JsonWriter w(buffer);
  w.StartObject();
  write_key(w, "model"), write_string(w, settings.model);
  write_key(w, "messages"), w.StartArray();
  write_message(w, "system", prompt.system);
  for (const auto& line : prompt.history) write_message(w, line.from_user ? "user" : "assistant", line.text);
  write_message(w, "user", prompt.user_message);
  w.EndArray();
  write_key(w, "max_completion_tokens"), w.Uint(prompt.max_output_tokens);
  write_key(w, "response_format"), w.StartObject();
  write_key(w, "type"), write_string(w, "json_schema");
  write_key(w, "json_schema"), w.StartObject();
  write_key(w, "name"), write_string(w, "profile_extract");
  write_key(w, "strict"), w.Bool(true);
  write_key(w, "schema"), w.RawValue(prompt.schema_json.data(), prompt.schema_json.size(), rapidjson::kObjectType);
  w.EndObject(), w.EndObject();
  if (!prompt.safety_identifier.empty()) write_key(w, "safety_identifier"), write_string(w, prompt.safety_identifier);
  write_key(w, "store"), w.Bool(false);
  w.EndObject();
  HttpCall call;
  call.url = settings.base_url + "/chat/completions";
  call.headers = {"Content-Type: application/json", "Authorization: Bearer " + settings.api_key};
  call.body = codec::written(buffer);
  return call;
}

CallResult OpenAiFormat::parse(const HttpReply& reply) const {
  CallResult result;
  read_rate_headers(reply, result);
  const auto body = codec::parse_json(reply.body);
  if (reply.status != 200)
    read_error(reply, body ? &*body : nullptr, result);
  else if (!body || !body->IsObject())
    fail(result, CallError::invalid_answer, "the reply is no JSON object");
  else
    read_completion(*body, result);
  return result;
}

}  // namespace onboarding::model
