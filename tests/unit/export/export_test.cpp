#include <gtest/gtest.h>

#include <map>

#include "events/codec/json.hpp"
#include "events/export/event_export.hpp"
#include "events/privacy/memory_key_store.hpp"
#include "events/privacy/no_keys.hpp"
#include "tests/integration/postgres/history.hpp"

namespace onboarding::exporting {
namespace {

using testing::History;

struct Line {
  std::string id, type, subject, cursor;
};

std::vector<Line> lines_of(std::string_view text) {
  std::vector<Line> lines;
  while (!text.empty()) {
    const auto end = text.find('\n');
    const auto document = codec::parse_json(text.substr(0, end));
    EXPECT_TRUE(document && document->IsObject()) << text.substr(0, end);
    const auto member = [&](const char* name) { return std::string(codec::string_member(*document, name)); };
    lines.push_back({member("id"), member("type"), member("subject"), member("cursor")});
    text.remove_prefix(end + 1);
  }
  return lines;
}

class Export : public ::testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 40; ++i) {
      auto session = history.start({"user " + std::to_string(i % 7), true});
      history.turn(session, "I am Ann Lee", {{"full_name", "Ann Lee"}});
      sessions.push_back(session.id);
    }
  }
  std::vector<Line> all(Filter filter = {}, const std::string& after = {}) {
    auto cursor = Cursor::parse(after, history.log);
    EXPECT_TRUE(cursor);
    EventExport events(history.log, no_keys, std::move(filter), *cursor, codec::Reveal::sealed);
    std::string text;
    for (bool more = true; more;) {
      const auto page = events.page(text);
      EXPECT_TRUE(page);
      more = page && *page;
    }
    EXPECT_EQ(events.read(), events.total());
    return lines_of(text);
  }

  History history;
  privacy::NoKeys no_keys;
  std::vector<std::string> sessions;
};

TEST_F(Export, tells_every_event_once_and_each_partition_in_order) {
  const auto lines = all();
  std::map<std::string, std::uint64_t> last;
  std::uint64_t total = 0;
  for (std::uint32_t p = 0; p < history.log.partitions(); ++p) total += history.log.head(p);
  EXPECT_EQ(lines.size(), total);
  for (const auto& line : lines) {
    const auto slash = line.id.find('/'), colon = line.id.find(':');
    auto& before = last[line.id.substr(slash, colon - slash)];
    const auto sequence = std::stoull(line.id.substr(colon + 1));
    EXPECT_EQ(sequence, before + 1);
    before = sequence;
  }
}

TEST_F(Export, goes_on_behind_any_cursor_it_gave_with_exactly_the_rest) {
  const auto lines = all();
  std::size_t cursors = 0;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].cursor.empty()) continue;
    ++cursors;
    const auto rest = all({}, lines[i].cursor);
    ASSERT_EQ(rest.size(), lines.size() - i - 1);
    if (!rest.empty()) { EXPECT_EQ(rest.front().id, lines[i + 1].id); }
  }
  EXPECT_GE(cursors, history.log.partitions() / 2);
}

TEST_F(Export, filters_by_type_session_user_flow_and_time) {
  Filter types;
  types.types = {"SessionStarted", "FieldExtracted"};
  for (const auto& line : all(types)) EXPECT_TRUE(line.type == "SessionStarted" || line.type == "FieldExtracted");
  EXPECT_EQ(all(types).size(), 80u);

  Filter session;
  session.session = sessions[3];
  for (const auto& line : all(session)) EXPECT_EQ(line.subject, sessions[3]);
  EXPECT_GT(all(session).size(), 2u);

  Filter user;
  user.types = {"SessionStarted"};
  user.blinded_user = history.secrets.blinded_user_id("user 2");
  EXPECT_EQ(all(user).size(), 6u);

  Filter flow;
  flow.flow = "default";
  EXPECT_EQ(all(flow).size(), all().size());
  flow.flow = "another";
  EXPECT_TRUE(all(flow).empty());

  Filter never;
  never.before = domain::Timestamp{};
  EXPECT_TRUE(all(never).empty());
  Filter later;
  later.since = domain::Timestamp::max();
  EXPECT_TRUE(all(later).empty());
}

TEST_F(Export, refuses_a_cursor_that_is_none_of_its_own) {
  const auto lines = all();
  std::string good;
  for (const auto& line : lines)
    if (!line.cursor.empty()) good = line.cursor;
  for (const std::string& bad : {std::string("x"), std::string("not a cursor"), good.substr(0, good.size() - 2), good + "AAAA"})
    EXPECT_FALSE(Cursor::parse(bad, history.log)) << bad;
  History other(1, "another-log");
  EXPECT_FALSE(Cursor::parse(good, other.log));
  History shorter(1);
  const auto beyond = Cursor::parse(good, shorter.log);
  ASSERT_FALSE(beyond);
  EXPECT_NE(beyond.error().detail.find("beyond the end"), std::string::npos);
}

TEST_F(Export, knows_every_type_by_its_name) {
  Filter filter;
  filter.types = {"SessionStarted", "UserErased", "Sessionstarted"};
  EXPECT_EQ(unknown_type(filter), "Sessionstarted");
}

}  // namespace
}  // namespace onboarding::exporting
