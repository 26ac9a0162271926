// What a turn costs in the codec: its two records (the message, and the outcome with four sealed texts), encoded and
// decoded with their sealing. The bounds: 15 µs and 25 µs for both records together.
#include <benchmark/benchmark.h>

#include "events/codec/codec.hpp"
#include "events/codec/json.hpp"
#include "events/privacy/memory_key_store.hpp"

namespace {

using namespace onboarding;
using namespace std::chrono_literals;

const std::string stream = "ses_003_0123456789ABCDEFGHJKMNPQRS", turn = "trn_0123456789ABCDEFGHJKMNPQRS";
const domain::Timestamp when{1'795'268'880'123'456us};

const std::vector<domain::Event> message = {
    domain::MessageReceived{turn, "I'm Zoë O'Brien-Smith from Acme GmbH, zoe at acme dot io, about forty of us",
                            std::string(32, 'a'), std::string(64, 'b')},
    domain::TurnStarted{turn, 1}};
const std::vector<domain::Event> outcome = {
    domain::LlmCallStarted{turn, 1, "openai", "gpt-4o-mini-2024-07-18", "p1", when},
    domain::LlmCallSucceeded{
        turn,
        1,
        "openai",
        "gpt-4o-mini-2024-07-18",
        "p1",
        "2026-11",
        {612, 0, -1, 71, 0, R"({"prompt_tokens":612,"completion_tokens":71})"},
        512,
        R"({"reply":"Nice to meet you, Zoë! What do you do at Acme?","fields":{"full_name":"Zoë O'Brien-Smith","email":"zoe at acme dot io"},"asks":["role"]})"},
    domain::FieldExtracted{turn, "full_name", {domain::FieldType::person_name, "Zoë O'Brien-Smith"}, true},
    domain::FieldExtracted{turn, "email", {domain::FieldType::email, "zoe@acme.io"}, true},
    domain::AssistantReplied{turn, "Nice to meet you, Zoë! What do you do at Acme?", {"role"}, "openai", false}};

struct Turn {
  privacy::MemoryKeyStore keys;
  privacy::SealingKeyPtr key;
  codec::RecordMeta meta{std::string(32, 'u'),
                         std::string(32, 'v'),
                         "req_0123456789ABCDEFGHJKMNPQRS",
                         turn,
                         "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                         "free"};

  Turn() {
    keys.obtain(meta.user, [&](auto obtained) { key = *obtained; });
  }
  std::string encode(const std::vector<domain::Event>& events) const {
    return *codec::encode(meta, stream, 5, when, events, key.get());
  }
  log::Record record(const std::vector<domain::Event>& events) const {
    log::Record record;
    record.partition = 3;
    record.first_sequence = 1;
    record.stream = stream;
    record.first_version = 5;
    record.count = static_cast<std::uint32_t>(events.size());
    record.payload = encode(events);
    return record;
  }
};

void encode_a_turn(benchmark::State& state) {
  const Turn turn;
  for (auto _ : state) {
    benchmark::DoNotOptimize(turn.encode(message));
    benchmark::DoNotOptimize(turn.encode(outcome));
  }
  state.counters["bytes"] = static_cast<double>(turn.encode(message).size() + turn.encode(outcome).size());
}
BENCHMARK(encode_a_turn);

void decode_a_turn(benchmark::State& state) {
  Turn turn;
  const auto first = turn.record(message), second = turn.record(outcome);
  for (auto _ : state) {
    benchmark::DoNotOptimize(codec::decode(first, turn.keys));
    benchmark::DoNotOptimize(codec::decode(second, turn.keys));
  }
}
BENCHMARK(decode_a_turn);

void parse_a_turn(benchmark::State& state) {
  const Turn turn;
  const auto first = turn.encode(message), second = turn.encode(outcome);
  for (auto _ : state) {
    benchmark::DoNotOptimize(codec::parse_json(first));
    benchmark::DoNotOptimize(codec::parse_json(second));
  }
}
BENCHMARK(parse_a_turn);

void cloud_event(benchmark::State& state) {
  Turn turn;
  const auto decoded = *codec::decode(turn.record(outcome), turn.keys);
  for (auto _ : state) benchmark::DoNotOptimize(codec::to_cloud_event(decoded[1], "log"));
}
BENCHMARK(cloud_event);

}  // namespace

BENCHMARK_MAIN();
