// Logs live for ever: every event type as it was written once must decode to the same value for ever, and today's schema must
// be written in the same bytes. Files in tests/golden/events are never edited. A new type or schema adds a file:
// ONBOARDING_WRITE_GOLDEN=1 writes those that are missing and touches no other.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "events/codec/codec.hpp"
#include "events/codec/json.hpp"
#include "events/privacy/memory_key_store.hpp"

namespace onboarding::codec {
namespace {

using namespace std::chrono_literals;
using domain::Event;
using domain::FieldType;
using domain::Personal;

const std::filesystem::path folder = "tests/golden/events";
constexpr std::string_view stream = "ses_003_0123456789ABCDEFGHJKMNPQRS";
constexpr std::uint64_t version = 7, sequence = 4711;
const domain::Timestamp when{1'795'268'880'123'456us};
const RecordMeta meta{.user = "1dcc7f3a46b4461909bdc22144d8b712",
                      .blinded_user_id = "aa151eb58af8a464856b6fb5c456347b",
                      .correlation_id = "req_1",
                      .causation_id = "trn_1",
                      .traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                      .plan = "free"};

/// 0, 1, 2 …: the same bytes each time.
struct Counting final : RandomSource {
  std::uint8_t next = 0;
  void fill(std::span<std::uint8_t> out) override {
    for (auto& byte : out) byte = next++;
  }
};

privacy::SealingKeyPtr fixed_key() {
  auto key = std::make_shared<privacy::SealingKey>();
  key->id = "0011223344556677";
  for (std::uint8_t i = 0; i < 32; ++i) key->bytes[i] = i;
  return key;
}

const domain::Usage usage{612, 512, 0, 71, 7, R"({"prompt_tokens":612})"};

/// File name without .json, and the event that stands in it.
const std::vector<std::pair<std::string, Event>> golden = {
    {"FlowPublished.1", domain::FlowPublished{"default", 2, R"({"name":"default"})", std::string(64, 'c')}},
    {"SessionStarted.1", domain::SessionStarted{"zoe",
                                                "default",
                                                1,
                                                "b",
                                                "pro",
                                                "de-CH",
                                                1,
                                                std::string(64, 'a'),
                                                true,
                                                std::string(32, 'b'),
                                                std::string(64, 'd'),
                                                "Hi!\nWho are you?",
                                                {"full_name", "email"}}},
    {"SessionStarted.1.least", domain::SessionStarted{.user_id = "usr_1", .flow = "default", .token_hash = std::string(64, 'a')}},
    {"MessageReceived.1",
     domain::MessageReceived{"trn_1", "I'm Zoë \"Z\" O'Brien-Smith 😀", std::string(32, 'b'), std::string(64, 'd')}},
    {"MessageReceived.1.erased", domain::MessageReceived{"trn_1", Personal::forgotten(), "", ""}},
    {"TurnStarted.1", domain::TurnStarted{"trn_1", 2}},
    {"TurnQueued.1", domain::TurnQueued{"trn_1", "queue_mode"}},
    {"LlmCallStarted.1", domain::LlmCallStarted{"trn_1", 1, "openai", "gpt-4o-mini", "p1", when}},
    {"LlmCallSucceeded.1",
     domain::LlmCallSucceeded{"trn_1", 1, "openai", "gpt-4o-mini", "p1", "2026-11", usage, 512, R"({"reply":"Hi"})"}},
    {"LlmCallFailed.1",
     domain::LlmCallFailed{"trn_1", 2, "gemini", "flash", "p1", "2026-11", {}, 20'000, "timeout", "provider", ""}},
    {"FieldExtracted.1", domain::FieldExtracted{"trn_1", "email", {FieldType::email, "zoe@acme.io"}, true}},
    {"FieldExtracted.1.clear", domain::FieldExtracted{"trn_1", "team_size", {FieldType::integer, "40"}, false}},
    {"FieldCorrected.1", domain::FieldCorrected{"trn_1", "full_name", {FieldType::person_name, "Ann"}, true}},
    {"FieldRejected.1", domain::FieldRejected{"trn_1", "email", "zoe at acme", "no_at_sign"}},
    {"FieldDeclined.1", domain::FieldDeclined{"trn_1", "goal"}},
    {"FieldReasked.1", domain::FieldReasked{"trn_1", "email", 3}},
    {"AssistantReplied.1", domain::AssistantReplied{"trn_1", "And your e-mail?", {"email"}, "offline", false}},
    {"AssistantReplied.1.fallback",
     domain::AssistantReplied{"trn_1", "And your e-mail?", {"email"}, "offline", false, "timeout"}},
    {"AssistantReplied.1.error",
     domain::AssistantReplied{"trn_1", "We're experiencing technical difficulties.", {}, "none", true}},
    {"TurnFailed.1", domain::TurnFailed{"trn_1", "no_provider"}},
    {"SessionCompleted.1", domain::SessionCompleted{"trn_1"}},
    {"SessionAbandoned.1", domain::SessionAbandoned{"email"}},
    {"SessionResumed.1", domain::SessionResumed{}},
    {"TokenIssued.1", domain::TokenIssued{2, std::string(64, 'e')}},
    {"UserErased.1", domain::UserErased{}},
};

std::string read(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(in), {}};
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

std::string write(const Event& event) {
  Counting nonces;
  const bool nobody = std::holds_alternative<domain::FlowPublished>(event);
  const auto key = fixed_key();
  return encode(nobody ? RecordMeta{} : meta, stream, version, when, {&event, 1}, nobody ? nullptr : key.get(), nonces).value();
}

log::Record record_of(std::string payload) {
  log::Record record;
  record.partition = 3;
  record.first_sequence = sequence;
  record.stream = stream;
  record.first_version = version;
  record.count = 1;
  record.payload = std::move(payload);
  return record;
}

struct GoldenEvents : testing::Test {
  privacy::MemoryKeyStore keys;
  GoldenEvents() { keys.put(meta.user, fixed_key()); }
};

TEST_F(GoldenEvents, are_written_in_the_same_bytes_and_read_as_the_same_events_for_ever) {
  for (const auto& [name, event] : golden) {
    const auto file = folder / (name + ".json");
    if (std::getenv("ONBOARDING_WRITE_GOLDEN") && !exists(file)) std::ofstream(file, std::ios::binary) << write(event) << "\n";
    ASSERT_TRUE(exists(file)) << name;
    const auto bytes = read(file);
    const auto decoded = decode(record_of(bytes), keys);
    ASSERT_TRUE(decoded) << name << ": " << decoded.error().message();
    EXPECT_EQ(decoded->at(0).recorded, (domain::RecordedEvent{version, sequence, when, event})) << name;
    EXPECT_EQ(write(event), bytes) << name;
  }
}

TEST_F(GoldenEvents, show_every_type) {
  std::set<std::size_t> shown;
  for (const auto& [name, event] : golden) {
    shown.insert(event.index());
    EXPECT_TRUE(name.starts_with(domain::type_name(event)));
  }
  EXPECT_EQ(shown.size(), std::variant_size_v<Event>);
}

/// The made-up predecessor of MessageReceived@1: "Said@0" with `body` and `turn`.
void said_0_to_message_received_1(rapidjson::Value& data, rapidjson::Document::AllocatorType& allocator) {
  const auto rename = [&](const char* from, const char* to) {
    if (!data.HasMember(from)) return;
    rapidjson::Value moved = std::move(data[from]);
    data.RemoveMember(from);
    data.AddMember(rapidjson::StringRef(to), moved, allocator);
  };
  rename("turn", "turn_id");
  rename("body", "text");
}

TEST_F(GoldenEvents, of_an_old_type_with_a_sealed_text_under_an_old_name_are_read_as_todays) {
  const auto old = read(folder / "old" / "Said.0.json");
  EXPECT_EQ(decode(record_of(old), keys).error().code, Errc::unknown_type) << "without an upcaster";
  const auto registry = Upcasters().add("Said", 0, {"MessageReceived", 1, said_0_to_message_received_1});
  const auto decoded = decode(record_of(old), keys, registry).value();
  EXPECT_EQ(decoded[0].recorded.event, Event(domain::MessageReceived{"trn_1", "hello from before", "", ""}));
  EXPECT_EQ(decoded[0].schema_version, 1U);

  auto moved = record_of(old);
  moved.first_version += 1;
  EXPECT_EQ(decode(moved, keys, registry).error().code, privacy::Errc::forged) << "an old seal holds as well";
  auto told = old;
  told.insert(told.find("\"}"), R"(","path":"body)");
  EXPECT_EQ(decode(record_of(told), keys, registry).error().code, Errc::malformed) << "only we say where a text was sealed";
}

TEST_F(GoldenEvents, climb_several_schemas_one_after_the_other) {
  const auto none = [](rapidjson::Value&, rapidjson::Document::AllocatorType&) {};
  const auto registry =
      Upcasters().add("Said", 0, {"Said", 1, said_0_to_message_received_1}).add("Said", 1, {"MessageReceived", 1, none});
  const auto decoded = decode(record_of(read(folder / "old" / "Said.0.json")), keys, registry);
  EXPECT_EQ(decoded.value()[0].recorded.event, Event(domain::MessageReceived{"trn_1", "hello from before", "", ""}));
}

}  // namespace
}  // namespace onboarding::codec
