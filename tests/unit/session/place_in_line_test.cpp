#include <gtest/gtest.h>

#include "actors/session/place_in_line.hpp"

namespace onboarding::session {
namespace {

using namespace std::chrono_literals;

const domain::Timestamp kBegan{1'000'000s};
constexpr auto kAbandon = 30min;

domain::State begun() {
  domain::State state;
  auto flow = std::make_shared<domain::Flow>();
  flow->fields.resize(6);
  state.flow = flow;
  state.created_at = kBegan;
  return state;
}

void say(domain::State& state, domain::Timestamp at, std::chrono::seconds answered_after = 1s) {
  domain::Turn turn;
  turn.turn_id = std::to_string(state.turns.size());
  turn.received_at = at;
  turn.replied_at = at + answered_after;
  state.turns.push_back(turn);
}

TEST(PlaceInLine, is_where_the_session_began_for_each_of_its_turns) {
  auto state = begun();
  EXPECT_EQ(place_in_line(state, "new", kBegan + 1min, kAbandon), kBegan);
  say(state, kBegan + 1min);
  say(state, kBegan + 20min);
  EXPECT_EQ(place_in_line(state, "1", kBegan + 25min, kAbandon), kBegan);
  EXPECT_EQ(place_in_line(state, "new", kBegan + 25min, kAbandon), kBegan);
}

TEST(PlaceInLine, of_who_was_away_as_long_as_an_abandonment_is_where_it_came_back) {
  auto state = begun();
  say(state, kBegan + 1min);
  say(state, kBegan + 40min);
  say(state, kBegan + 41min);
  EXPECT_EQ(place_in_line(state, "0", {}, kAbandon), kBegan);
  EXPECT_EQ(place_in_line(state, "1", {}, kAbandon), kBegan + 40min);
  EXPECT_EQ(place_in_line(state, "2", {}, kAbandon), kBegan + 40min);
  EXPECT_EQ(place_in_line(state, "new", kBegan + 90min, kAbandon), kBegan + 90min);
}

TEST(PlaceInLine, is_not_lost_by_waiting_long_for_an_answer) {
  auto state = begun();
  say(state, kBegan + 1min, 29min);
  EXPECT_EQ(place_in_line(state, "new", kBegan + 35min, kAbandon), kBegan);
}

TEST(PlaceInLine, of_a_session_that_is_complete_is_where_it_was_completed) {
  auto state = begun();
  say(state, kBegan + 1min);
  state.completed_at = kBegan + 1min + 1s;
  EXPECT_EQ(place_in_line(state, "0", {}, kAbandon), kBegan);
  EXPECT_EQ(place_in_line(state, "new", kBegan + 2min, kAbandon), *state.completed_at);
}

TEST(PlaceInLine, is_good_for_twice_as_many_turns_as_the_flow_has_fields) {
  auto state = begun();
  for (int i = 0; i < 12; ++i) say(state, kBegan + i * 1min);
  EXPECT_EQ(place_in_line(state, "11", {}, kAbandon), kBegan);
  EXPECT_EQ(place_in_line(state, "new", kBegan + 13min, kAbandon), kBegan + 13min);
  say(state, kBegan + 13min);
  EXPECT_EQ(place_in_line(state, "12", kBegan + 20min, kAbandon), kBegan + 13min) << "as it was before the restart";
}

}  // namespace
}  // namespace onboarding::session
