#include "actors/model/reply_reader.hpp"

#include <gtest/gtest.h>

#include <cctype>

#include "actors/model/answer.hpp"
#include "actors/model/prompt.hpp"
#include "events/codec/json.hpp"
#include "tests/unit/model/request.hpp"

namespace onboarding::model {
namespace {

constexpr const char* kCanary = "ref-canary";

std::string shown(std::string_view text, const std::vector<std::size_t>& cuts, bool* leaked = nullptr) {
  ReplyReader reader(kCanary);
  std::string out;
  std::size_t from = 0;
  const auto feed = [&](std::size_t to) {
    const auto more = reader.feed(text.substr(from, to - from));
    EXPECT_TRUE(codec::is_text(more)) << "half a character came out";
    out += more;
    from = to;
  };
  for (const auto cut : cuts) feed(cut);
  feed(text.size());
  if (leaked) *leaked = reader.leaked();
  return out;
}

std::vector<std::size_t> every_byte(std::string_view text) {
  std::vector<std::size_t> cuts;
  for (std::size_t i = 1; i < text.size(); ++i) cuts.push_back(i);
  return cuts;
}

TEST(ReplyReader, gives_the_reply_wherever_the_text_is_split) {
  const std::string text =
      R"( {"fields":{"reply":"not this","x":["reply",{"reply":1}]},"r\u0065ply" : "Grüß \"dich\" \\ \u00e9\ud83d\ude00 日本 ref-can't\n","asks":["reply"]} )";
  const std::string reply = "Grüß \"dich\" \\ é😀 日本 ref-can't\n";
  EXPECT_EQ(shown(text, {}), reply);
  EXPECT_EQ(shown(text, every_byte(text)), reply);
  for (std::size_t i = 0; i <= text.size(); ++i)
    for (std::size_t j = i; j <= text.size(); ++j) ASSERT_EQ(shown(text, {i, j}), reply) << i << ' ' << j;
}

TEST(ReplyReader, the_reply_comes_as_it_grows) {
  ReplyReader reader(kCanary);
  EXPECT_EQ(reader.feed(R"({"reply":"He)"), "He");
  EXPECT_EQ(reader.feed("llo re"), "llo ") << "the rest could be the beginning of the canary";
  EXPECT_EQ(reader.feed("d"), "red");
  EXPECT_EQ(reader.feed(" ref-"), " ");
  EXPECT_EQ(reader.feed(R"(","fields":{}})"), "ref-") << "it was not the canary";
  EXPECT_TRUE(reader.complete());
}

TEST(ReplyReader, no_part_of_the_canary_comes_out_wherever_it_is_split) {
  for (const std::string said : {"ref-canary", "\\u0072ef-can\\u0061ry", "ref-ref-canary", "rref-canary and more"}) {
    const auto text = R"({"reply":"My reference: )" + said + R"(","fields":{}})";
    for (std::size_t i = 0; i <= text.size(); ++i)
      for (std::size_t j = i; j <= text.size(); ++j) {
        bool leaked = false;
        const auto out = shown(text, {i, j}, &leaked);
        ASSERT_TRUE(leaked) << said << i << ' ' << j;
        ASSERT_EQ(out.find("ref-can"), std::string::npos) << out;
      }
    bool leaked = false;
    EXPECT_EQ(shown(text, every_byte(text), &leaked).find("ref-can"), std::string::npos);
    EXPECT_TRUE(leaked);
  }
}

TEST(ReplyReader, the_canary_in_disguise_does_not_come_out_either) {
  const std::string digits = "0f1e2d3c4b5a69788796a5b4";
  for (const std::string said :
       {"REF-0F1E2D3C4B5A69788796A5B4", "0 f 1 e 2 d 3 c 4 b 5 a 6 9 7 8 8 7 9 6 a 5 b 4", "4b5a69788796a5b4c3d2e1f0"}) {
    ReplyReader reader("ref-" + digits);
    std::string out;
    for (const char c : R"({"reply":"It is )" + said + R"( now")") out += reader.feed({&c, 1});
    EXPECT_TRUE(reader.leaked()) << said;
    EXPECT_LE(out.size(), std::string("It is REF-").size()) << out;
  }
}

TEST(ReplyReader, after_the_canary_nothing_more_comes) {
  ReplyReader reader(kCanary);
  reader.feed(R"({"reply":"x ref-canary)");
  EXPECT_TRUE(reader.leaked());
  EXPECT_EQ(reader.feed(R"( and the rest","fields":{}})"), "");
  EXPECT_FALSE(reader.complete());
}

TEST(ReplyReader, no_line_of_our_instructions_comes_out_although_the_canary_is_far) {
  const auto system = build_prompt(*request("hello"), kCanary).system;
  for (std::size_t line = 0; line < system.find(kCanary); line = system.find('\n', line) + 1) {
    rapidjson::StringBuffer text;
    codec::JsonWriter w(text);
    w.StartObject();
    codec::write_key(w, "reply"), codec::write_string(w, "My prompt is: " + system.substr(line));
    codec::write_key(w, "fields"), w.StartObject(), w.EndObject(), w.EndObject();
    const std::string answer(codec::written(text));
    for (std::size_t piece = 1; piece < 60; ++piece) {
      std::vector<std::size_t> cuts;
      for (auto at = piece; at < answer.size(); at += piece) cuts.push_back(at);
      bool leaked = false;
      auto out = shown(answer, cuts, &leaked);
      while (!out.empty() && !std::isalnum(static_cast<unsigned char>(out.back()))) out.pop_back();  // a dash says nothing
      ASSERT_TRUE(std::string("My prompt is: ").starts_with(out)) << line << ' ' << piece << ' ' << out;
      ASSERT_TRUE(leaked);
    }
    EXPECT_FALSE(parse_answer(answer, *small_flow(), kCanary));
  }
}

TEST(ReplyReader, malformed_text_ends_what_is_shown) {
  for (const auto* text : {"", "Hello", "[\"reply\"]", R"({"reply":5})", R"({"reply":["x"]})", R"({"other":"x"})",
                           R"({"reply":"\x"})", R"({"reply":"\uZZ")", R"({}{"reply":"x"})", "{{{{{{{{{{{{{\"reply\":\"x\"}"})
    EXPECT_EQ(shown(text, {}), "") << text;
  EXPECT_EQ(shown(R"({"reply":"\ud83d!"})", {}), "\xEF\xBF\xBD!") << "half a pair";
}

TEST(ReplyReader, a_reply_that_is_too_long_for_an_answer_stops) {
  ReplyReader reader(kCanary);
  reader.feed(R"({"reply":")");
  std::size_t shown = 0;
  for (int i = 0; i < 100; ++i) shown += reader.feed(std::string(1'000, 'x')).size();
  EXPECT_LE(shown, kMaxReplyBytes);
}

}  // namespace
}  // namespace onboarding::model
