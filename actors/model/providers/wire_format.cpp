#include "actors/model/providers/wire_format.hpp"

#include <algorithm>
#include <cctype>

#include "actors/model/providers/errors.hpp"
#include "actors/model/providers/rates.hpp"

namespace onboarding::model {
namespace {

using codec::find_member;
using codec::string_member;
using rapidjson::Value;

bool is_blank(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isspace(c); });
}

// Wherever a provider puts its codes: error.type, .code, .status, and in error.details an object or a list of them.
void collect_codes(const Value& error, ProviderError& out) {
  for (const auto* name : {"code", "type", "status", "reason", "error_code", "quotaId"})
    if (const auto code = string_member(error, name); !code.empty()) out.codes.push_back(code);
  for (const auto* name : {"details", "violations"}) {
    const auto* inner = find_member(error, name);
    if (!inner) continue;
    if (inner->IsObject()) collect_codes(*inner, out);
    if (inner->IsArray())
      for (const auto& item : inner->GetArray())
        if (item.IsObject()) collect_codes(item, out);
  }
}

// google.rpc.RetryInfo among the error's details.
std::optional<std::chrono::milliseconds> retry_info(const Value& error) {
  const auto* details = find_member(error, "details");
  if (!details || !details->IsArray()) return std::nullopt;
  for (const auto& item : details->GetArray())
    if (item.IsObject())
      if (const auto delay = string_member(item, "retryDelay"); !delay.empty()) return parse_go_duration(delay);
  return std::nullopt;
}

// Gemini names the quota; OpenAI the limit, in words ("on requests per day (RPD)").
bool names_a_day(const ProviderError& error) {
  return error.text.find(" per day") != error.text.npos ||
         std::any_of(error.codes.begin(), error.codes.end(),
                     [](std::string_view code) { return code.find("PerDay") != code.npos; });
}

// The answer is there: is it one?
void conclude(const WireFormat& format, Reading& r) {
  if (r.result.error != CallError::none) return;
  if (r.refused) return r.fail(CallError::refused, "refused");
  if (const auto error = format.judge(r.finish); error != CallError::none)
    return r.fail(error, "finish " + loggable_code(r.finish));
  if (is_blank(r.result.answer)) r.fail(CallError::invalid_answer, "empty");
}

void read_whole_body(const WireFormat& format, std::string_view text, Reading& r) {
  const auto body = codec::parse_json(text);
  if (!body || !body->IsObject()) return r.fail(CallError::invalid_answer, "the reply is no JSON object");
  if (const auto* error = find_member(*body, "error"); error && error->IsObject()) return read_error(format, error, nullptr, r);
  format.read_whole(*body, r);
  conclude(format, r);
}

}  // namespace

void Reading::fail(CallError error, std::string detail) {
  result.error = error;
  result.detail = std::move(detail);
}

CallResult transport_failure(const HttpReply& reply) {
  CallResult result;
  switch (reply.transport) {
    case Transport::timeout: result.error = CallError::timeout; break;
    case Transport::too_large:
    case Transport::stopped: result.error = CallError::invalid_answer; break;
    case Transport::cancelled: result.error = CallError::cancelled; break;
    default: result.error = CallError::connection; break;
  }
  result.detail = reply.detail;
  return result;
}

CallResult read_reply(const WireFormat& format, const HttpReply& reply) {
  Reading r;
  read_rate_headers(reply, r.result);
  if (reply.status == 200) {
    read_whole_body(format, reply.body, r);
  } else {
    const auto body = codec::parse_json(reply.body);
    const Value* error = body && body->IsObject() ? find_member(*body, "error") : nullptr;
    read_error(format, error && error->IsObject() ? error : nullptr, &reply, r);
  }
  return std::move(r.result);
}

Piece AnswerStream::feed(std::string_view bytes) {
  if (kind_ == unknown) {
    const auto first = std::find_if(bytes.begin(), bytes.end(), [](unsigned char c) { return !std::isspace(c); });
    if (first == bytes.end()) return Piece::idle;  // blank lines that keep the connection alive
    kind_ = *first == '{' ? json : events;
  }
  if (kind_ == json) {
    json_ += bytes;
    return Piece::alive;
  }
  auto worth = Piece::idle;
  const bool within = events_.feed(
      bytes, [&](std::string_view event, std::string_view data) { worth = std::max(worth, read_event(event, data)); });
  if (!within) reading_.fail(CallError::invalid_answer, "an event too large");
  return within ? worth : Piece::stop;
}

Piece AnswerStream::read_event(std::string_view event, std::string_view data) {
  auto& result = reading_.result;
  if (result.error != CallError::none) return Piece::stop;
  if (reading_.ended) return Piece::finished;
  if (data == "[DONE]") {
    reading_.ended = true;
    return Piece::finished;
  }
  const auto document = codec::parse_json(data);
  if (!document || !document->IsObject()) {
    reading_.fail(CallError::truncated, "an event that is no JSON object");
    return Piece::stop;
  }
  const auto before = result.answer.size();
  if (const auto* error = find_member(*document, "error"); error && error->IsObject())
    read_error(format_, error, nullptr, reading_);
  else format_.read_event(event, *document, reading_);
  if (result.error != CallError::none) return Piece::stop;
  if (result.answer.size() > before && on_text_) on_text_(std::string_view(result.answer).substr(before));
  return reading_.ended                  ? Piece::finished
         : result.answer.size() > before ? Piece::text
         : event == "ping"               ? Piece::idle
                                         : Piece::alive;
}

CallResult AnswerStream::end(const HttpReply& reply) {
  if (reply.status != 200 && reply.transport == Transport::ok) return read_reply(format_, reply);
  auto& result = reading_.result;
  read_rate_headers(reply, result);
  const bool whole = reply.transport == Transport::ok;
  if (result.error == CallError::none && whole) {
    if (kind_ == json) {
      read_whole_body(format_, json_, reading_);
      if (result.error == CallError::none && on_text_) on_text_(result.answer);
    } else {
      events_.end([&](std::string_view event, std::string_view data) { read_event(event, data); });
      if (result.error == CallError::none && !format_.is_end(reading_))
        reading_.fail(CallError::truncated, "the stream ended early");
      conclude(format_, reading_);
    }
  } else if (result.error == CallError::none) {
    const auto failure = transport_failure(reply);
    const bool cut = failure.error == CallError::connection && reply.status == 200;
    reading_.fail(cut ? CallError::truncated : failure.error, failure.detail);
  }
  return std::move(result);
}

std::string_view model_of(const ProviderSettings& settings, const Prompt& prompt) {
  return prompt.model.empty() ? settings.model : prompt.model;
}

std::string_view system_rest(const Prompt& prompt) { return std::string_view(prompt.system).substr(prompt.system_stable.size()); }

void append_text(Reading& r, std::string_view text) {
  if (r.result.answer.size() + text.size() > kMaxAnswerText) return r.fail(CallError::invalid_answer, "too much text");
  r.result.answer += text;
}

std::int64_t tokens_member(const Value& usage, std::string_view name, std::int64_t before) {
  constexpr std::int64_t kMost = 100'000'000;
  const auto n = codec::int_member(usage, name, -1);
  return n >= 0 && n <= kMost ? n : before;
}

void merge_raw_usage(domain::Usage& into, const Value& usage) {
  constexpr std::size_t kMaxRawUsage = 2'048;
  rapidjson::StringBuffer buffer;
  codec::JsonWriter w(buffer);
  w.StartObject();
  const auto add = [&w](const auto& member) {
    codec::write_key(w, {member.name.GetString(), member.name.GetStringLength()});
    member.value.Accept(w);
  };
  if (const auto before = codec::parse_json(into.raw); before && before->IsObject())
    for (const auto& member : before->GetObject())
      if (!usage.HasMember(member.name)) add(member);
  for (const auto& member : usage.GetObject()) add(member);
  w.EndObject();
  if (buffer.GetSize() <= kMaxRawUsage) into.raw = codec::written(buffer);
}

void read_error(const WireFormat& format, const Value* error, const HttpReply* reply, Reading& r) {
  ProviderError told;
  told.status = reply ? reply->status : static_cast<int>(codec::int_member(*error, "code"));
  if (error) {
    collect_codes(*error, told);
    told.text = string_member(*error, "message");
  }
  const auto code = told.codes.empty() ? std::string_view() : told.codes.front();
  r.fail(classify(format.provider(), told),
         (reply ? "status " + std::to_string(reply->status) : std::string("in stream")) + " " + loggable_code(code));
  const auto info = error ? retry_info(*error) : std::nullopt;
  const HttpReply none;
  r.result.retry_after = info.value_or(retry_hint(reply ? *reply : none, told.text));
  r.result.day_limit = r.result.error == CallError::rate_limited && names_a_day(told);
  if (r.result.day_limit && format.provider() == "gemini")
    r.result.retry_after = std::max(r.result.retry_after, until_pacific_midnight(reply ? *reply : none));
}

std::string loggable_code(std::string_view code) {
  std::string out;
  for (const unsigned char c : code.substr(0, 64))
    if (std::isalnum(c) || c == '_' || c == '.' || c == '-') out += static_cast<char>(c);
  return out;
}

}  // namespace onboarding::model
