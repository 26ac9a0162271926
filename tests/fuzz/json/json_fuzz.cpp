// Any bytes: parse_json() ends in a document or a failure. A document, written again, is the same document; both ways of
// parsing agree; what is read from it never crashes.
#include <cstdint>

#include "events/codec/codec.hpp"
#include "events/codec/json.hpp"
#include "events/domain/assertion.hpp"

using namespace onboarding;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto parsed = codec::parse_json(text);
  std::string copy(text);
  rapidjson::Document in_place;
  ONBOARDING_ASSERT(codec::parse_json_in_place(copy, in_place).has_value() == parsed.has_value(), "both ways agree");
  if (parsed) {
    ONBOARDING_ASSERT(codec::is_text(text), "only UTF-8 is accepted");
    const auto canonical = codec::canonical_json(*parsed);
    ONBOARDING_ASSERT(codec::canonical_json(in_place) == canonical, "both ways read the same");
    const auto again = codec::parse_json(canonical, {.max_string_bytes = 8 << 20, .max_number_chars = 64});
    if (again) ONBOARDING_ASSERT(codec::canonical_json(*again) == canonical, "writing and reading change nothing");
    if (canonical.size() < 1 << 16) ONBOARDING_ASSERT(again.has_value(), "what is written can be read");
  }
  if (const auto flow = codec::parse_flow(text)) {
    const auto again = codec::parse_flow(codec::write_flow(*flow));
    ONBOARDING_ASSERT(again && *again == *flow, "a flow survives being written");
  }
  if (const auto time = codec::parse_time(text))
    ONBOARDING_ASSERT(codec::parse_time(codec::format_time(*time)).has_value(), "a time stays a time");
  return 0;
}
