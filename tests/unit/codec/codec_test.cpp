#include "events/codec/codec.hpp"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "events/codec/json.hpp"
#include "events/privacy/memory_key_store.hpp"

namespace onboarding::codec {
namespace {

using namespace std::chrono_literals;
using domain::Event;
using domain::Personal;
using privacy::MemoryKeyStore;
using privacy::SealingKeyPtr;

constexpr std::string_view stream = "ses_003_0123456789ABCDEFGHJKMNPQRS";
constexpr std::uint64_t first_version = 7, first_sequence = 4711;
const domain::Timestamp when{1'795'268'880'123'456us};

SealingKeyPtr obtain(privacy::KeyStore& keys, const std::string& user) {
  SealingKeyPtr key;
  keys.obtain(user, [&](auto obtained) { key = obtained.value(); });
  return key;
}

log::Record record_of(std::string payload, std::uint32_t count) {
  log::Record record;
  record.partition = 3;
  record.first_sequence = first_sequence;
  record.stream = stream;
  record.first_version = first_version;
  record.count = count;
  record.time = when;
  record.payload = std::move(payload);
  return record;
}

RecordMeta meta() {
  return {.user = "u1",
          .blinded_user_id = "b1",
          .correlation_id = "req_1",
          .causation_id = "trn_1",
          .traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
          .plan = "free"};
}

struct ACodec : testing::Test {
  MemoryKeyStore keys;
  SealingKeyPtr key = obtain(keys, "u1");

  log::Record record(const std::vector<Event>& events) {
    auto payload = encode(meta(), stream, first_version, when, events, key.get());
    EXPECT_TRUE(payload) << payload.error().message();
    return record_of(std::move(*payload), static_cast<std::uint32_t>(events.size()));
  }
  std::error_code refusal(const log::Record& record) {
    const auto decoded = decode(record, keys);
    return decoded ? std::error_code{} : decoded.error().code;
  }
};

void replace(std::string& text, std::string_view from, std::string_view to) {
  const auto at = text.find(from);
  ASSERT_NE(at, text.npos) << from;
  text.replace(at, from.size(), to);
}

// ---- random events

rc::Gen<std::string> any_bytes() { return rc::gen::arbitrary<std::string>(); }
rc::Gen<std::string> any_text() {
  return rc::gen::container<std::string>(
      rc::gen::element('a', 'B', '"', '\\', '\n', '\t', '\x01', '\x1f', '\x7f', ' ', '/', '{'));
}
Personal any_personal() {
  if (*rc::gen::inRange(0, 10) == 0) return Personal::forgotten();
  return Personal(*any_bytes());
}

/// Fills the members of an event with anything that they may hold.
struct Filler {
  void fill(std::string& s) { s = *any_text() + "é漢😀"; }
  void fill(std::uint32_t& n) { n = *rc::gen::arbitrary<std::uint32_t>(); }
  void fill(std::int64_t& n) { n = *rc::gen::arbitrary<std::int64_t>(); }
  void fill(bool& b) { b = *rc::gen::arbitrary<bool>(); }
  void fill(Personal& p) { p = any_personal(); }
  void fill(domain::Timestamp& t) { t = when + std::chrono::microseconds(*rc::gen::arbitrary<int>()); }
  void fill(std::vector<std::string>& v) { v = *rc::gen::container<std::vector<std::string>>(any_text()); }
  void fill(domain::Usage& u) {
    for (auto* n : {&u.input_tokens, &u.cached_input_tokens, &u.cache_write_tokens, &u.output_tokens, &u.reasoning_tokens})
      fill(*n);
    fill(u.raw);
  }
  void fill(domain::FieldValue& v) {
    v.type = static_cast<domain::FieldType>(*rc::gen::inRange(0, 13));
    fill(v.canonical);
  }
  template <class... M>
  void all(M&... members) {
    (fill(members), ...);
  }

  void operator()(domain::FlowPublished& e) { all(e.name, e.version, e.definition, e.content_hash); }
  void operator()(domain::SessionStarted& e) {
    all(e.user_id, e.flow, e.flow_version, e.variant, e.plan, e.locale, e.token_generation, e.token_hash, e.vouched,
        e.idempotency_key_hash, e.request_fingerprint, e.greeting, e.asks);
  }
  void operator()(domain::MessageReceived& e) { all(e.turn_id, e.text, e.idempotency_key_hash, e.request_fingerprint); }
  void operator()(domain::TurnStarted& e) { all(e.turn_id, e.activation); }
  void operator()(domain::TurnQueued& e) { all(e.turn_id, e.reason); }
  void operator()(domain::LlmCallStarted& e) { all(e.turn_id, e.attempt, e.provider, e.model, e.prompt_version, e.started_at); }
  void operator()(domain::LlmCallSucceeded& e) {
    all(e.turn_id, e.attempt, e.provider, e.model, e.prompt_version, e.price_version, e.usage, e.latency_ms, e.raw_answer);
  }
  void operator()(domain::LlmCallFailed& e) {
    all(e.turn_id, e.attempt, e.provider, e.model, e.prompt_version, e.price_version, e.usage, e.latency_ms, e.error, e.origin,
        e.raw_answer);
  }
  void operator()(domain::FieldExtracted& e) { all(e.turn_id, e.field, e.value, e.sensitive); }
  void operator()(domain::FieldCorrected& e) { all(e.turn_id, e.field, e.value, e.sensitive); }
  void operator()(domain::FieldRejected& e) { all(e.turn_id, e.field, e.value, e.reason); }
  void operator()(domain::FieldDeclined& e) { all(e.turn_id, e.field); }
  void operator()(domain::FieldReasked& e) { all(e.turn_id, e.field, e.times); }
  void operator()(domain::AssistantReplied& e) { all(e.turn_id, e.text, e.asks, e.source, e.error); }
  void operator()(domain::TurnFailed& e) { all(e.turn_id, e.reason); }
  void operator()(domain::SessionCompleted& e) { all(e.turn_id); }
  void operator()(domain::SessionAbandoned& e) { all(e.at_field); }
  void operator()(domain::SessionResumed&) {}
  void operator()(domain::TokenIssued& e) { all(e.generation, e.token_hash); }
  void operator()(domain::UserErased&) {}
};

template <std::size_t... I>
Event any_event(std::size_t index, std::index_sequence<I...>) {
  Event event;
  ((I == index ? void(event.emplace<I>()) : void()), ...);
  std::visit(Filler{}, event);
  return event;
}
Event any_event() {
  constexpr auto count = std::variant_size_v<Event>;
  return any_event(*rc::gen::inRange<std::size_t>(0, count), std::make_index_sequence<count>());
}

// ---- round trips

TEST_F(ACodec, gives_back_any_events_exactly) {
  EXPECT_TRUE(rc::check([&] {
    std::vector<Event> events;
    for (int n = *rc::gen::inRange(1, 6); n > 0; --n) events.push_back(any_event());
    const auto decoded = decode(record(events), keys);
    RC_ASSERT(decoded.has_value());
    RC_ASSERT(decoded->size() == events.size());
    for (std::size_t i = 0; i < events.size(); ++i) {
      RC_ASSERT((*decoded)[i].recorded == (domain::RecordedEvent{first_version + i, first_sequence + i, when, events[i]}));
      RC_ASSERT((*decoded)[i].stream == stream);
      RC_ASSERT((*decoded)[i].position() == (Position{3, first_sequence + i}));
    }
  }));
}

TEST_F(ACodec, gives_back_what_the_events_have_in_common) {
  const auto decoded = decode(record({domain::MessageReceived{.turn_id = "trn_1", .text = "hello"}}), keys).value();
  const RecordMeta &in = *decoded[0].meta, out = meta();
  EXPECT_EQ(in.user, out.user);
  EXPECT_EQ(in.blinded_user_id, out.blinded_user_id);
  EXPECT_EQ(in.correlation_id, out.correlation_id);
  EXPECT_EQ(in.causation_id, out.causation_id);
  EXPECT_EQ(in.traceparent, out.traceparent);
  EXPECT_EQ(in.plan, out.plan);
}

TEST_F(ACodec, needs_no_key_for_a_record_without_a_person) {
  keys.set_reachable(false);
  const Event published = domain::FlowPublished{"default", 2, R"({"name":"default"})", "ab"};
  const auto payload = encode({}, "flow-default", 2, when, {&published, 1}, nullptr).value();
  auto record = record_of(payload, 1);
  EXPECT_EQ(decode(record, keys).value()[0].recorded.event, published);
}

TEST_F(ACodec, shows_no_personal_text_in_the_bytes) {
  const auto payload =
      record(
          {domain::SessionStarted{
               .user_id = "SECRET-user", .flow = "default", .token_hash = "h", .greeting = "SECRET-greeting", .asks = {"email"}},
           domain::MessageReceived{.turn_id = "t", .text = "SECRET-text"},
           domain::LlmCallSucceeded{.turn_id = "t", .raw_answer = "SECRET-raw"},
           domain::LlmCallFailed{.turn_id = "t", .raw_answer = "SECRET-raw"},
           domain::FieldExtracted{"t", "email", {domain::FieldType::email, "SECRET-value"}, true},
           domain::FieldCorrected{"t", "email", {domain::FieldType::email, "SECRET-value"}, true},
           domain::FieldRejected{"t", "email", "SECRET-rejected", "no_at_sign"},
           domain::AssistantReplied{.turn_id = "t", .text = "SECRET-reply", .source = "offline"}})
          .payload;
  EXPECT_EQ(payload.find("SECRET"), payload.npos) << payload;
}

TEST_F(ACodec, leaves_a_value_that_is_not_sensitive_clear_even_after_erasure) {
  const Event clear = domain::FieldExtracted{"t", "team_size", {domain::FieldType::integer, "40"}, false};
  const auto written = record({clear});
  keys.erase("u1", [](auto) {});
  const auto decoded = decode(written, keys).value();
  EXPECT_EQ(decoded[0].recorded.event, clear);
  EXPECT_FALSE(decoded[0].erased);
}

// ---- sealing

TEST_F(ACodec, forgets_with_the_key) {
  const auto written = record({domain::MessageReceived{.turn_id = "t", .text = "hello"},
                               domain::FieldExtracted{"t", "email", {domain::FieldType::email, "a@b.example"}, true},
                               domain::TurnStarted{.turn_id = "t"}});
  keys.erase("u1", [](auto) {});
  const auto decoded = decode(written, keys).value();
  EXPECT_EQ(std::get<domain::MessageReceived>(decoded[0].recorded.event).text, Personal::forgotten());
  EXPECT_TRUE(decoded[0].erased);
  EXPECT_EQ(std::get<domain::FieldExtracted>(decoded[1].recorded.event).value.canonical, "");
  EXPECT_TRUE(decoded[1].erased);
  EXPECT_FALSE(decoded[2].erased) << "nothing was sealed in it";
}

TEST_F(ACodec, tells_a_key_out_of_reach_from_an_erased_one) {
  const auto written = record({domain::MessageReceived{.turn_id = "t", .text = "hello"}});
  keys.set_reachable(false);
  EXPECT_EQ(refusal(written), Errc::key_unreachable);
}

TEST_F(ACodec, opens_a_sealed_text_nowhere_else) {
  const auto written =
      record({domain::MessageReceived{.turn_id = "t", .text = "one"}, domain::MessageReceived{.turn_id = "t", .text = "two"},
              domain::FieldRejected{"t", "email", "three", "no_at_sign"}});
  ASSERT_EQ(refusal(written), std::error_code{});
  const auto sealed = [&](int n) {
    std::size_t at = 0;
    for (int i = 0; i <= n; ++i) at = written.payload.find(R"({"sealed":)", at + 1);
    return written.payload.substr(at, written.payload.find('}', at) + 1 - at);
  };
  auto other_version = written;
  other_version.first_version += 1;
  EXPECT_EQ(refusal(other_version), privacy::Errc::forged);
  auto other_stream = written;
  other_stream.stream.back() = 'X';
  EXPECT_EQ(refusal(other_stream), privacy::Errc::forged);
  auto other_event = written;
  replace(other_event.payload, sealed(0), sealed(1));
  EXPECT_EQ(refusal(other_event), privacy::Errc::forged);
  auto other_member = record({domain::LlmCallFailed{.turn_id = "t", .raw_answer = "raw"}});
  replace(other_member.payload, "LlmCallFailed", "LlmCallSucceeded");
  EXPECT_EQ(refusal(other_member), privacy::Errc::forged);
  auto with_a_path_of_its_own = written;
  replace(with_a_path_of_its_own.payload, sealed(0), sealed(0).insert(sealed(0).size() - 1, R"(,"path":"text")"));
  EXPECT_EQ(refusal(with_a_path_of_its_own), Errc::malformed);
}

TEST_F(ACodec, refuses_every_flipped_bit_of_a_sealed_text) {
  const auto written = record({domain::MessageReceived{.turn_id = "t", .text = "a text"}});
  const auto begin = written.payload.find(R"("sealed":")") + 10, end = written.payload.find('"', begin);
  for (auto at = begin; at < end; ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      auto flipped = written;
      flipped.payload[at] = static_cast<char>(flipped.payload[at] ^ 1 << bit);
      EXPECT_TRUE(refusal(flipped)) << at << " bit " << bit;
    }
  }
}

TEST_F(ACodec, draws_a_fresh_nonce_for_every_text) {
  std::set<std::string> nonces;
  for (int i = 0; i < 20; ++i) {
    const auto payload =
        record({domain::MessageReceived{.turn_id = "t", .text = "x"}, domain::MessageReceived{.turn_id = "t", .text = "x"}})
            .payload;
    for (auto at = payload.find(R"("sealed":")"); at != payload.npos; at = payload.find(R"("sealed":")", at + 1))
      nonces.insert(payload.substr(at + 10, 32));
  }
  EXPECT_EQ(nonces.size(), 40U);
}

// ---- hostile and foreign bytes

TEST_F(ACodec, refuses_what_it_could_not_read_again) {
  const Event bad_utf8 = domain::TurnFailed{"t", "\xff"};
  EXPECT_EQ(encode(meta(), stream, 1, when, {&bad_utf8, 1}, key.get()).error().code, Errc::malformed);
  const Event nul = domain::TurnFailed{"t", std::string("a\0b", 3)};
  EXPECT_EQ(encode(meta(), stream, 1, when, {&nul, 1}, key.get()).error().code, Errc::malformed);
  const Event in_usage = domain::LlmCallSucceeded{.turn_id = "t", .usage = {.raw = "\xc0\x80"}};
  EXPECT_EQ(encode(meta(), stream, 1, when, {&in_usage, 1}, key.get()).error().detail, "LlmCallSucceeded.raw is not text");
  const Event huge = domain::MessageReceived{.turn_id = "t", .text = std::string(log::max_payload_bytes, 'x')};
  EXPECT_EQ(encode(meta(), stream, 1, when, {&huge, 1}, key.get()).error().code, Errc::too_large);
}

TEST_F(ACodec, seals_texts_that_are_not_utf8_as_they_are) {
  const Event raw = domain::LlmCallFailed{.turn_id = "t", .raw_answer = std::string("\xff\0\xc0", 3)};
  const auto decoded = decode(record({raw}), keys).value();
  EXPECT_EQ(decoded[0].recorded.event, raw);
  const auto cloud_event = to_cloud_event(decoded[0], "log_1", Reveal::open);
  EXPECT_TRUE(is_text(cloud_event)) << "what cannot be shown is replaced";
}

TEST_F(ACodec, names_what_is_wrong_with_a_record) {
  const auto good = record({domain::TurnStarted{"t", 2}});
  const auto changed = [&](std::string_view from, std::string_view to) {
    auto bad = good;
    replace(bad.payload, from, to);
    return decode(bad, keys).error();
  };
  EXPECT_EQ(changed("TurnStarted", "TurnBegan").code, Errc::unknown_type);
  EXPECT_EQ(changed(R"("schema":1)", R"("schema":2)").code, Errc::unknown_schema);
  EXPECT_EQ(changed(R"("schema":1)", R"("schema":0)").code, Errc::malformed);
  EXPECT_EQ(changed(R"("format":1)", R"("format":2)").code, Errc::malformed);
  EXPECT_EQ(changed(R"("activation":2)", R"("activation":-2)").detail,
            "3:4711 event 1: TurnStarted.activation is not a number of 32 bits");
  EXPECT_EQ(changed(R"("activation":2)", R"("other":2)").detail, "3:4711 event 1: TurnStarted.activation is missing");
  EXPECT_EQ(changed(R"("turn_id":"t")", R"("turn_id":7)").detail, "3:4711 event 1: TurnStarted.turn_id is not a string");
  EXPECT_EQ(changed(R"("turn_id":"t")", R"("activation":1)").code, Errc::malformed) << "a member twice";
  auto miscounted = good;
  miscounted.count = 2;
  EXPECT_EQ(refusal(miscounted), Errc::malformed);
}

TEST_F(ACodec, ignores_members_that_a_newer_program_added) {
  auto newer = record({domain::TurnStarted{"t", 2}});
  replace(newer.payload, R"("activation":2)", R"("added_later":[1,{}],"activation":2)");
  EXPECT_EQ(decode(newer, keys).value()[0].recorded.event, Event(domain::TurnStarted{"t", 2}));
}

TEST_F(ACodec, never_takes_a_clear_text_for_a_sealed_one) {
  auto clear = record({domain::MessageReceived{.turn_id = "t", .text = Personal::forgotten()}});
  for (const char* other :
       {R"("hello")", "{}", "[]", "null", R"({"erased":false})", R"({"sealed":7})", R"({"sealed":""})", R"({"sealed":"AAAA"})"}) {
    auto changed = clear;
    replace(changed.payload, R"({"erased":true})", other);
    EXPECT_TRUE(refusal(changed)) << other;
  }
}

TEST_F(ACodec, survives_any_prefix_and_any_changed_byte_of_a_record) {
  const auto good = record({domain::MessageReceived{.turn_id = "t", .text = "hi"},
                            domain::FieldExtracted{"t", "email", {domain::FieldType::email, "a@b.example"}, true}});
  for (std::size_t n = 0; n < good.payload.size(); ++n) {
    auto cut = good;
    cut.payload.resize(n);
    EXPECT_TRUE(refusal(cut));
    for (const char c : {'\0', '"', '{', '}', '[', ',', '\x80', '9', 'e', '\\'}) {
      auto changed = good;
      changed.payload[n] = c;
      (void)decode(changed, keys);
    }
  }
}

// ---- CloudEvents

TEST_F(ACodec, shows_an_event_as_a_cloud_event_with_personal_texts_only_on_request) {
  const auto written = record({domain::MessageReceived{.turn_id = "trn_1", .text = "I'm Zoë"}});
  const auto decoded = decode(written, keys).value()[0];
  const std::string head =
      R"({"specversion":"1.0","id":"log_1/3:4711","source":"/onboarding/log_1","type":"MessageReceived","subject":")" +
      std::string(stream) +
      R"(","time":"2026-11-21T13:48:00.123456Z","datacontenttype":"application/json","partition":3,"sequence":"4711","version":7,"schemaversion":1,)"
      R"("correlationid":"req_1","causationid":"trn_1","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","plan":"free","userkey":"u1",)"
      R"("data":{"turn_id":"trn_1","text":)";
  EXPECT_EQ(to_cloud_event(decoded, "log_1"), head + R"("[sealed]"}})");
  EXPECT_EQ(to_cloud_event(decoded, "log_1", Reveal::open), head + "\"I'm Zoë\"}}");
  keys.erase("u1", [](auto) {});
  EXPECT_EQ(to_cloud_event(decode(written, keys).value()[0], "log_1", Reveal::open), head + R"("[erased]"}})");
}

TEST_F(ACodec, makes_valid_json_of_any_event_and_hides_every_personal_text) {
  EXPECT_TRUE(rc::check([&] {
    const auto decoded = decode(record({any_event()}), keys);
    RC_ASSERT(decoded.has_value());
    for (const auto reveal : {Reveal::sealed, Reveal::open})
      RC_ASSERT(parse_json(to_cloud_event((*decoded)[0], "log", reveal)).has_value());
  }));
  for (const Event& event : std::vector<Event>{domain::FieldExtracted{"t", "email", {domain::FieldType::email, "SECRET"}, true},
                                               domain::FieldRejected{"t", "email", "SECRET", "r"},
                                               domain::AssistantReplied{.turn_id = "t", .text = "SECRET", .source = "offline"}}) {
    const auto shown = to_cloud_event(decode(record({event}), keys).value()[0], "log");
    EXPECT_EQ(shown.find("SECRET"), shown.npos) << shown;
  }
}

// ---- errors

TEST(CodecErrors, each_have_a_sentence) {
  for (int code = 1; code <= static_cast<int>(Errc::too_large); ++code)
    EXPECT_NE(make_error_code(static_cast<Errc>(code)).message(), make_error_code(static_cast<Errc>(0)).message());
}

}  // namespace
}  // namespace onboarding::codec
