#include <gtest/gtest.h>

#include "events/export/check.hpp"
#include "events/export/survey.hpp"
#include "events/privacy/no_keys.hpp"
#include "tests/integration/postgres/history.hpp"

namespace onboarding::exporting {
namespace {

using testing::History;

/// Writes a payload as it is, whatever it says.
void append_raw(History& history, History::Session& session, std::string payload, std::uint32_t count = 1) {
  log::Append append;
  append.partition = session.partition;
  append.stream = session.id;
  append.expected_version = session.version;
  append.record_id.assign(16, 'r');
  append.count = count;
  append.time = history.now;
  append.payload = std::move(payload);
  std::promise<log::AppendOutcome> outcome;
  history.log.append(std::move(append), [&](log::AppendOutcome ended) { outcome.set_value(std::move(ended)); });
  ASSERT_TRUE(std::holds_alternative<log::Durable>(outcome.get_future().get()));
  session.version += count;
}

TEST(EventCheck, finds_nothing_in_a_log_of_every_kind_of_event_with_its_keys_and_without) {
  History history;
  history.live(30, 400);
  auto forgotten = history.start({"eve", true});
  history.turn(forgotten, "forget me");
  history.erase({&forgotten});
  const auto with_keys = check_events(history.log, history.keys);
  ASSERT_TRUE(with_keys);
  EXPECT_EQ(with_keys->damaged, 0u) << (with_keys->damage.empty() ? "" : with_keys->damage.front());
  EXPECT_EQ(with_keys->events, history.told.size());
  privacy::NoKeys no_keys;
  const auto without = check_events(history.log, no_keys);
  ASSERT_TRUE(without);
  EXPECT_EQ(without->damaged, 0u);
  EXPECT_GT(without->unopened, with_keys->unopened);
  EXPECT_GT(with_keys->unopened, 0u) << "somebody was erased";
}

TEST(EventCheck, says_where_a_record_is_that_nobody_can_read_and_goes_on_behind_it) {
  History history;
  auto session = history.start({"ann", true});
  append_raw(history, session, "{\"format\":1");
  history.turn(session, "hello");
  const auto check = check_events(history.log, history.keys);
  ASSERT_TRUE(check);
  EXPECT_EQ(check->damaged, 1u);
  ASSERT_EQ(check->damage.size(), 1u);
  EXPECT_NE(check->damage[0].find(to_string(Position{session.partition, 2})), std::string::npos) << check->damage[0];
  EXPECT_NE(check->damage[0].find(session.id + " v2"), std::string::npos) << check->damage[0];
  EXPECT_EQ(check->events, session.version);
}

TEST(EventCheck, finds_a_seal_that_was_moved_to_another_place) {
  History history;
  auto session = history.start({"ann", true});
  history.turn(session, "hello");
  const auto records = history.log.read_partition(session.partition, 0, 10, 1 << 20);
  ASSERT_TRUE(records);
  const auto& message = records->at(1);  // the same bytes as a later record: sealed for another version
  append_raw(history, session, message.payload, message.count);
  const auto check = check_events(history.log, history.keys);
  ASSERT_TRUE(check);
  EXPECT_GE(check->damaged, 1u);
  EXPECT_NE(check->damage.at(0).find("does not decode"), std::string::npos) << check->damage[0];
}

TEST(EventCheck, is_a_failure_and_no_damage_while_the_keys_are_out_of_reach) {
  History history;
  auto session = history.start({"ann", true});
  history.keys.set_reachable(false);
  EXPECT_FALSE(check_events(history.log, history.keys));
}

TEST(Survey, counts_what_was_told) {
  History history;
  history.live(30, 300);
  std::uint64_t reported = 0;
  const auto found = survey(history.log, [&](std::uint64_t at, std::uint64_t of) {
    EXPECT_LE(at, of);
    reported = at;
  });
  ASSERT_TRUE(found);
  EXPECT_EQ(found->all.events, history.told.size());
  EXPECT_EQ(reported, history.told.size());
  EXPECT_EQ(found->sessions, 30u);
  std::map<std::string, std::uint64_t> types;
  std::set<std::string> users;
  for (const auto& told : history.told) {
    ++types[std::string(domain::type_name(told.event))];
    users.insert(told.user_key);
  }
  EXPECT_EQ(found->types, types);
  EXPECT_EQ(found->users, users.size());
  EXPECT_EQ(*found->all.first, history.told.front().time);
  EXPECT_EQ(*found->all.last, history.told.back().time);
  std::uint64_t by_day = 0, by_partition = 0;
  for (const auto& [day, counts] : found->days) by_day += counts.events;
  for (const auto& partition : found->partitions) by_partition += partition.events;
  EXPECT_EQ(by_day, history.told.size());
  EXPECT_EQ(by_partition, history.told.size());
  EXPECT_LT(found->compressed_bytes, found->all.payload_bytes);
}

}  // namespace
}  // namespace onboarding::exporting
