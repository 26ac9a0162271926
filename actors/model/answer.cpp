#include "actors/model/answer.hpp"

#include <algorithm>

#include "actors/model/leak_guard.hpp"
#include "actors/model/said.hpp"
#include "events/codec/json.hpp"

namespace onboarding::model {
namespace {

using rapidjson::Value;
using Wrong = tl::unexpected<std::string>;

std::string_view text_of(const Value& v) { return {v.GetString(), v.GetStringLength()}; }

// RapidJSON keeps numbers as values: written again they are the shortest decimal, which is what was said but for "40.0" and "4e1".
std::string literal(const Value& v) {
  rapidjson::StringBuffer buffer;
  codec::JsonWriter w(buffer);
  v.Accept(w);
  return std::string(codec::written(buffer));
}

std::optional<std::string> read_fields(const Value& fields, const domain::Flow& flow, domain::ModelAnswer& answer) {
  if (!fields.IsObject()) return "fields is no object";
  for (const auto& m : fields.GetObject()) {
    const auto name = text_of(m.name);
    if (!flow.find(name)) return "a field that the flow does not have";
    if (m.value.IsNull()) continue;
    if (m.value.IsObject() || m.value.IsArray()) return "a value that is neither text nor null";
    auto value = m.value.IsString() ? std::string(text_of(m.value)) : literal(m.value);
    if (value.size() > kMaxValueBytes) return "a value too long";
    answer.fields.emplace_back(name, std::move(value));
  }
  return std::nullopt;
}

std::optional<std::string> read_asks(const Value& asks, const domain::Flow& flow, domain::ModelAnswer& answer) {
  if (asks.IsNull()) return std::nullopt;
  if (!asks.IsArray()) return "asks is no list";
  for (const auto& a : asks.GetArray()) {
    if (!a.IsString() || !flow.find(text_of(a))) return "an ask that is no field";
    answer.asks.emplace_back(text_of(a));
  }
  return std::nullopt;
}

}  // namespace

std::size_t drop_unsaid(domain::ModelAnswer& answer, const ExtractionRequest& request) {
  if (answer.fields.empty()) return 0;
  const Said said(request);
  const bool asked_nothing = answer.asks.empty();
  return std::erase_if(answer.fields, [&](const auto& field) {
    const auto* spec = request.flow->find(field.first);
    if (spec == nullptr || said.supports(*spec, field.second)) return false;
    if (std::find(answer.asks.begin(), answer.asks.end(), field.first) == answer.asks.end()) {
      answer.asks.push_back(field.first);
      if (asked_nothing && answer.asks.size() == 1) answer.reply += " " + spec->prompt;
    }
    return true;
  });
}

tl::expected<domain::ModelAnswer, std::string> parse_answer(std::string_view text, const domain::Flow& flow,
                                                            std::string_view canary) {
  const auto document = codec::parse_json(text, {.max_bytes = kMaxAnswerBytes, .max_depth = 4, .max_values = 1'000});
  if (!document) return Wrong("not one JSON document");
  if (!document->IsObject()) return Wrong("no object");
  domain::ModelAnswer answer;
  const Value* reply = nullptr;
  const Value* fields = nullptr;
  for (const auto& m : document->GetObject()) {
    const auto name = text_of(m.name);
    std::optional<std::string> wrong;
    if (name == "reply") reply = &m.value;
    else if (name == "fields") fields = &m.value, wrong = read_fields(m.value, flow, answer);
    else if (name == "asks") wrong = read_asks(m.value, flow, answer);
    else wrong = "an unknown member";
    if (wrong) return Wrong(std::move(*wrong));
  }
  if (!reply || !reply->IsString() || !fields) return Wrong("reply or fields missing");
  answer.reply = text_of(*reply);
  if (answer.reply.empty() || answer.reply.size() > kMaxReplyBytes) return Wrong("reply empty or too long");
  auto all = answer.reply;  // together: it may come in parts
  for (const auto& [name, value] : answer.fields) all += value;
  if (LeakGuard(canary).leaks(all)) return Wrong("the prompt came out");
  return answer;
}

}  // namespace onboarding::model
