#include "events/codec/json.hpp"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "events/codec/codec.hpp"

namespace onboarding::codec {
namespace {

using namespace std::chrono_literals;

std::error_code refusal(std::string_view text, const JsonLimits& limits = {}) {
  const auto parsed = parse_json(text, limits);
  return parsed ? std::error_code{} : parsed.error().code;
}

TEST(StrictJson, bounds_what_grows) {
  EXPECT_FALSE(refusal(std::string(32, '[') + std::string(32, ']')));
  EXPECT_EQ(refusal(std::string(33, '[') + std::string(33, ']')), Errc::too_large);
  EXPECT_EQ(refusal(std::string(1'000'000, '[')), Errc::too_large);
  EXPECT_EQ(refusal("[1,2,3]", {.max_values = 2}), Errc::too_large);
  EXPECT_EQ(refusal("[1,2,3]", {.max_bytes = 6}), Errc::too_large);
  EXPECT_EQ(refusal(R"("abcd")", {.max_string_bytes = 3}), Errc::too_large);
  EXPECT_EQ(refusal(std::string(33, '1')), Errc::too_large);
  EXPECT_EQ(refusal("1e99999"), Errc::too_large);
  EXPECT_EQ(refusal("1e-99999"), Errc::too_large);
  EXPECT_EQ(refusal("0e90"), Errc::too_large);
  EXPECT_EQ(refusal("-0.00000000000000000000000"), Errc::too_large);
  EXPECT_FALSE(refusal("[0,-0,0.0,0e+1,0.00E-9]"));
}

TEST(StrictJson, refuses_what_other_readers_understand_differently) {
  for (const auto& text : {std::string(R"({"a":1,"a":2})"),
                           std::string(R"({"a":1,"\u0061":2})"),
                           std::string(R"([[{"x":{"a":1,"a":1}}]])"),
                           std::string("\"a\0b\"", 5),
                           std::string(R"("\u0000")"),
                           std::string("1\0002", 3),
                           std::string("[1]\0garbage", 11),
                           std::string("\xEF\xBB\xBF{}"),
                           std::string(R"("\udc00")"),
                           std::string(R"("\ud800")"),
                           std::string(R"("\ud800\u0041")"),
                           std::string("\"\xed\xa0\x80\""),
                           std::string("\"\xc0\xaf\""),
                           std::string("\"\xf4\x90\x80\x80\""),
                           std::string("\"\xe2\x82\""),
                           std::string("[1,]"),
                           std::string("{}{}"),
                           std::string("NaN"),
                           std::string("'a'"),
                           std::string("[1//2\n]"),
                           std::string("+1"),
                           std::string("01"),
                           std::string("1."),
                           std::string(".5"),
                           std::string("-"),
                           std::string("\"a\nb\""),
                           std::string("\"\\x41\""),
                           std::string(""),
                           std::string(" "),
                           std::string("tru"),
                           std::string("]"),
                           std::string("\"\\"),
                           std::string("[\"\\ud[\"\"\\"),
                           std::string("1e309"),
                           std::string("1.7976931348623159e308"),
                           std::string("9e-325")})
    EXPECT_EQ(refusal(text), Errc::malformed) << text;
}

TEST(StrictJson, finds_a_duplicate_among_many_members) {
  std::string object = "{\"m0\":0";
  for (int i = 1; i < 100; ++i) object += ",\"m" + std::to_string(i) + "\":0";
  EXPECT_FALSE(refusal(object + "}"));
  EXPECT_EQ(refusal(object + ",\"m50\":0}"), Errc::malformed);
}

TEST(StrictJson, names_the_place_and_never_the_text) {
  EXPECT_EQ(parse_json("[\"secret\", \"\xff\"]").error().detail, "byte 12: not UTF-8");
  EXPECT_EQ(parse_json(R"({"secret":tru})").error().detail.find("secret"), std::string::npos);
}

TEST(StrictJson, keeps_numbers_and_texts_exactly) {
  const auto parsed = parse_json(R"([9223372036854775807,-9223372036854775808,0.1,"\ud83d\ude00é\u00e9\/"])").value();
  EXPECT_EQ(parsed[0].GetInt64(), INT64_MAX);
  EXPECT_EQ(parsed[1].GetInt64(), INT64_MIN);
  EXPECT_EQ(parsed[2].GetDouble(), 0.1);
  EXPECT_STREQ(parsed[3].GetString(), "😀éé/");
}

TEST(StrictJson, survives_every_text_it_wrote_itself) {
  EXPECT_TRUE(rc::check([](const std::string& bytes) {
    std::string written;
    const bool text = append_string(written, bytes);
    RC_ASSERT(text == is_text(bytes));
    const auto parsed = parse_json(written);
    RC_ASSERT(parsed.has_value());
    if (text) RC_ASSERT(std::string(parsed->GetString(), parsed->GetStringLength()) == bytes);
  }));
}

TEST(StrictJson, reads_members_by_name_and_type) {
  const auto object = parse_json(R"({"s":"x","n":7,"b":true,"d":1.5})").value();
  EXPECT_EQ(string_member(object, "s"), "x");
  EXPECT_EQ(string_member(object, "n", "other"), "other");
  EXPECT_EQ(int_member(object, "n"), 7);
  EXPECT_EQ(int_member(object, "d", -1), -1);
  EXPECT_TRUE(bool_member(object, "b"));
  EXPECT_EQ(find_member(object, "missing"), nullptr);
  EXPECT_EQ(find_member(parse_json("[1]").value(), "s"), nullptr);
}

TEST(CanonicalJson, is_the_same_for_equal_content) {
  EXPECT_EQ(canonical_json(parse_json(R"( {"b": [1, 2], "a": {"y":"\u00e9", "x":null}} )").value()),
            canonical_json(parse_json("{\"a\":{\"x\":null,\"y\":\"é\"},\"b\":[1,2]}").value()));
  EXPECT_EQ(canonical_json(parse_json(R"({"b":1,"a":[3,1,2]})").value()), R"({"a":[3,1,2],"b":1})");
}

TEST(Times, are_written_and_read_back_over_all_years) {
  EXPECT_EQ(format_time(domain::Timestamp(1'795'268'880'123'456us)), "2026-11-21T13:48:00.123456Z");
  EXPECT_EQ(format_time(domain::Timestamp{}), "1970-01-01T00:00:00.000000Z");
  EXPECT_EQ(format_time(domain::Timestamp(-1us)), "1969-12-31T23:59:59.999999Z");
  EXPECT_TRUE(rc::check([] {
    const domain::Timestamp time(
        std::chrono::microseconds(*rc::gen::inRange<std::int64_t>(-62'167'219'200'000'000, 253'402'300'799'999'999)));
    RC_ASSERT(parse_time(format_time(time)) == time);
  }));
  EXPECT_EQ(format_time(domain::Timestamp::max()), "9999-12-31T23:59:59.999999Z");
  EXPECT_EQ(format_time(domain::Timestamp::min()), "0000-01-01T00:00:00.000000Z");
}

TEST(Times, are_read_with_offsets_and_fractions_and_nothing_else) {
  const auto noon = parse_time("2026-11-21T12:00:00Z").value();
  EXPECT_EQ(parse_time("2026-11-21T13:30:00+01:30"), noon);
  EXPECT_EQ(parse_time("2026-11-21t04:00:00.000-08:00"), noon);
  EXPECT_EQ(parse_time("2026-11-21T12:00:00.5z"), noon + 500ms);
  EXPECT_EQ(parse_time("2026-11-21T12:00:00.123456789Z"), noon + 123456us);
  for (const char* text : {"", "2026-11-21", "2026-11-21T12:00:00", "2026-02-29T12:00:00Z", "2026-13-01T12:00:00Z",
                           "2026-11-21T24:00:00Z", "2026-11-21T12:60:00Z", "2026-11-21T12:00:60Z", "2026-11-21T12:00:00.Z",
                           "2026-11-21T12:00:00.1234567890Z", "2026-11-21 12:00:00Z", "2026-11-21T12:00:00+0100",
                           "2026-11-21T12:00:00Zx", "+026-11-21T12:00:00Z", "2026-11-21T12:00:00+25:00"})
    EXPECT_FALSE(parse_time(text)) << text;
}

// ---- flow files

constexpr const char* flow_file = R"({"name":"default","locale":"en","greeting":"Hi","fields":[
  {"name":"full_name","type":"person_name","label":"name","prompt":"What should we call you?","required":true},
  {"name":"team_size","type":"integer","min":1,"max":1000000,"prompt":"How many?"},
  {"name":"heard_from","type":"choice","options":[{"value":"friend","labels":["a friend","colleague"]}],
   "required":false,"when":{"field":"role","is_not":"student"},"sensitive":false,"prompt":"?"}]})";

TEST(FlowFiles, are_read_as_they_are_meant) {
  const auto flow = parse_flow(flow_file).value();
  EXPECT_EQ(flow.name, "default");
  ASSERT_EQ(flow.fields.size(), 3U);
  EXPECT_EQ(flow.fields[0].type, domain::FieldType::person_name);
  EXPECT_TRUE(flow.fields[0].required && flow.fields[0].sensitive);
  EXPECT_EQ(flow.fields[1].max, 1'000'000.0);
  EXPECT_EQ(flow.fields[1].label, "team size") << "a name serves where there is no label";
  EXPECT_EQ(flow.fields[2].options[0].labels[1], "colleague");
  EXPECT_EQ(flow.fields[2].when->op, domain::Condition::Operator::is_not);
  EXPECT_EQ(flow.fields[2].when->value, "student");
  EXPECT_FALSE(flow.fields[2].required || flow.fields[2].sensitive);
}

TEST(FlowFiles, survive_being_written) {
  for (auto flow : {parse_flow(flow_file).value(), domain::default_flow()}) {
    EXPECT_EQ(parse_flow(write_flow(flow)).value(), flow);
    flow.fields[0].min = 0.1;
    flow.fields[0].max = 1e300;
    flow.fields[0].min_length = 3;
    EXPECT_EQ(parse_flow(write_flow(flow)).value(), flow);
  }
}

TEST(FlowFiles, are_refused_with_a_pointer_to_what_is_wrong) {
  const auto detail = [](std::string from, std::string to) {
    std::string text = flow_file;
    text.replace(text.find(from), from.size(), to);
    const auto flow = parse_flow(text);
    return flow ? "accepted" : flow.error().detail;
  };
  EXPECT_EQ(detail("\"min\"", "\"mim\""), "/fields/1/mim is not known");
  EXPECT_EQ(detail("\"locale\"", "\"lo/ca~le\""), "/lo~1ca~0le is not known");
  EXPECT_EQ(detail("\"person_name\"", "\"persona\""), "/fields/0/type is not a field type");
  EXPECT_EQ(detail("\"min\":1", "\"min\":\"1\""), "/fields/1/min must be a number");
  EXPECT_EQ(detail("\"required\":true", "\"required\":1"), "/fields/0/required must be true or false");
  EXPECT_EQ(detail("\"greeting\":\"Hi\",", ""), "/greeting is missing");
  EXPECT_EQ(detail("\"labels\":[\"a friend\"", "\"labels\":[7"), "/fields/2/options/0/labels must hold strings");
  EXPECT_EQ(detail("\"is_not\":\"student\"", "\"is_not\":\"a\",\"is\":\"b\""), "/fields/2/when needs either is or is_not");
  EXPECT_EQ(parse_flow("[]").error().detail, "/ must be an object");
  EXPECT_EQ(parse_flow("{").error().code, Errc::malformed);
}

}  // namespace
}  // namespace onboarding::codec
