// Any bytes as a record's payload: decode() ends in events or a failure. Events that were read can be shown, and written and
// read again without a change.
#include <cstdint>

#include "events/codec/codec.hpp"
#include "events/codec/json.hpp"
#include "events/domain/assertion.hpp"
#include "events/privacy/memory_key_store.hpp"

using namespace onboarding;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static privacy::MemoryKeyStore keys;
  static const privacy::SealingKeyPtr key = [] {
    auto made = std::make_shared<privacy::SealingKey>();
    made->id = "0011223344556677";
    for (std::uint8_t i = 0; i < 32; ++i) made->bytes[i] = i;
    keys.put("1dcc7f3a46b4461909bdc22144d8b712", made);  // as in tests/golden
    keys.put("again", made);
    return made;
  }();
  log::Record record;
  record.partition = 3;
  record.first_sequence = 4711;
  record.stream = "ses_003_0123456789ABCDEFGHJKMNPQRS";
  record.first_version = 7;
  record.payload.assign(reinterpret_cast<const char*>(data), size);
  for (record.count = 1; record.count <= 2; ++record.count) {
    const auto decoded = codec::decode(record, keys);
    if (!decoded) continue;
    std::vector<domain::Event> events;
    for (const auto& event : *decoded) {
      for (const auto reveal : {codec::Reveal::sealed, codec::Reveal::open})
        ONBOARDING_ASSERT(codec::is_text(codec::to_cloud_event(event, "log", reveal)), "a CloudEvent is text");
      events.push_back(event.recorded.event);
    }
    codec::RecordMeta meta;
    meta.user = "again";
    const auto written =
        codec::encode(meta, record.stream, record.first_version, decoded->at(0).recorded.time, events, key.get());
    if (!written) continue;  // larger than it was
    auto again = record;
    again.payload = *written;
    const auto reread = codec::decode(again, keys);
    ONBOARDING_ASSERT(reread && reread->size() == events.size(), "what is written can be read");
    for (std::size_t i = 0; i < events.size(); ++i)
      ONBOARDING_ASSERT((*reread)[i].recorded.event == events[i], "and is the same");
  }
  return 0;
}
