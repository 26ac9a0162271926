#include "actors/model/providers/sse.hpp"

#include <gtest/gtest.h>

#include <random>

namespace onboarding::model {
namespace {

using Events = std::vector<std::pair<std::string, std::string>>;

Events read(const std::vector<std::string_view>& pieces, std::size_t bound = 1'000) {
  SseReader reader(bound);
  Events events;
  const auto keep = [&](std::string_view event, std::string_view data) { events.emplace_back(event, data); };
  for (const auto piece : pieces)
    if (!reader.feed(piece, keep)) return {{"too large", ""}};
  reader.end(keep);
  return events;
}

TEST(Sse, events_have_names_and_data_and_comments_say_nothing) {
  EXPECT_EQ(read({": keep-alive\n\nevent: ping\ndata: {}\n\ndata:one\ndata: two\n\n\n\nid: 7\nretry: 10\n\n"}),
            (Events{{"ping", "{}"}, {"", "one\ntwo"}}));
}

TEST(Sse, an_event_without_data_is_none_and_its_name_does_not_stay) {
  EXPECT_EQ(read({"event: a\n\ndata: x\n\n"}), (Events{{"", "x"}}));
}

TEST(Sse, an_event_that_only_lacks_its_blank_line_counts) {
  EXPECT_EQ(read({"data: x"}), (Events{{"", "x"}}));
  EXPECT_EQ(read({"data: x\n"}), (Events{{"", "x"}}));
}

TEST(Sse, a_byte_order_mark_is_skipped) {
  EXPECT_EQ(read({"\xEF\xBB\xBF"
                  "data: x\n\n"}),
            (Events{{"", "x"}}));
}

TEST(Sse, every_line_ending_split_anywhere_gives_the_same_events) {
  const Events wanted = {{"", "{\"a\":1}"}, {"stop", "é"}, {"", "x\ny"}};
  for (const std::string end : {"\n", "\r\n", "\r"}) {
    const std::string whole = "data: {\"a\":1}" + end + end + ":c" + end + "event: stop" + end + "data: é" + end + end +
                              "data: x" + end + "data: y" + end + end;
    for (std::size_t i = 0; i <= whole.size(); ++i)
      for (std::size_t j = i; j <= whole.size(); ++j)
        ASSERT_EQ(read({std::string_view(whole).substr(0, i), std::string_view(whole).substr(i, j - i),
                        std::string_view(whole).substr(j)}),
                  wanted)
            << i << ' ' << j;
  }
}

TEST(Sse, an_endless_line_or_event_is_refused) {
  const std::string line(600, 'x');
  EXPECT_EQ(read({line, line}), (Events{{"too large", ""}}));
  EXPECT_EQ(read({"data: " + line + "\ndata: " + line + "\n\n"}), (Events{{"too large", ""}}));
}

TEST(Sse, any_bytes_are_survived_and_splits_do_not_matter) {
  std::mt19937 random(7);
  constexpr std::string_view kBytes = "data:event \r\n\n\r:{}\"\\\xEF\xBB\xBF\x00x";
  for (int round = 0; round < 2'000; ++round) {
    std::string bytes;
    for (auto n = random() % 60; n > 0; --n) bytes += kBytes[random() % kBytes.size()];
    std::vector<std::string_view> singly;
    for (std::size_t i = 0; i < bytes.size(); ++i) singly.push_back(std::string_view(bytes).substr(i, 1));
    ASSERT_EQ(read({bytes}), read(singly)) << testing::PrintToString(bytes);
  }
}

}  // namespace
}  // namespace onboarding::model
