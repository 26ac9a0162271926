#include "events/codec/envelope.hpp"

#include "events/codec/json.hpp"

namespace onboarding::codec {

namespace {

result<rapidjson::Document> parse_payload(const log::Record& record) {
  constexpr JsonLimits limits{.max_bytes = log::max_payload_bytes, .max_values = log::max_payload_bytes};
  auto document = parse_json(record.payload, limits);
  if (document && !document->IsObject()) return failure(Errc::malformed, "a payload is no object");
  return document;
}

}  // namespace

result<RecordMeta> read_meta(const log::Record& record) {
  const auto document = parse_payload(record);
  if (!document) return tl::unexpected(document.error());
  const auto text = [&](std::string_view name) { return std::string(string_member(*document, name)); };
  return RecordMeta{text("user"), text("blinded"), text("correlation"), text("causation"), text("traceparent"), text("plan")};
}

result<Seal> read_seal(const log::Record& record) {
  const auto document = parse_payload(record);
  if (!document) return tl::unexpected(document.error());
  Seal seal{std::string(string_member(*document, "user")), std::string(string_member(*document, "key"))};
  if (const rapidjson::Value* const events = find_member(*document, "events"); events && events->IsArray())
    for (const rapidjson::Value& event : events->GetArray())
      seal.erases = seal.erases || string_member(event, "type") == "UserErased";
  return seal;
}

}  // namespace onboarding::codec
