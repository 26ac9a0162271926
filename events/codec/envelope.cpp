#include "events/codec/envelope.hpp"

#include "events/codec/json.hpp"

namespace onboarding::codec {

result<RecordMeta> read_meta(const log::Record& record) {
  constexpr JsonLimits limits{.max_bytes = log::max_payload_bytes, .max_values = log::max_payload_bytes};
  const auto document = parse_json(record.payload, limits);
  if (!document) return tl::unexpected(document.error());
  if (!document->IsObject()) return failure(Errc::malformed, "a payload is no object");
  const auto text = [&](std::string_view name) { return std::string(string_member(*document, name)); };
  return RecordMeta{text("user"), text("blinded"), text("correlation"), text("causation"), text("traceparent"), text("plan")};
}

}  // namespace onboarding::codec
