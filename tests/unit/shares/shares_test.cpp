#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "actors/model/shares/share_holder.hpp"

namespace onboarding::model {
namespace {

using namespace std::chrono_literals;

constexpr ArbiterTime noon{1'800'000'000'000};

TEST(ShareBook, lends_all_but_the_floors_to_the_only_one_who_wants_it) {
  ShareBook book(1'000, {});
  EXPECT_EQ(floor_of(1'000, {}), 12);
  EXPECT_EQ(book.renew(0, 5'000, noon), 1'000 - 12 * 8);
  EXPECT_EQ(book.renew(0, 300, noon + 5s), 300);
}

TEST(ShareBook, lends_nobody_more_than_an_equal_part_at_once_so_that_who_asks_a_second_later_finds_something) {
  ShareBook book(1'000, {});
  const std::int64_t pool = 1'000 - 12 * 8;
  EXPECT_EQ(book.renew(0, 5'000, noon, 2), pool / 2);
  EXPECT_EQ(book.renew(1, 5'000, noon + 1s, 2), pool / 2);
  EXPECT_EQ(book.renew(0, 5'000, noon + 5s, 2), pool / 2);
  ShareBook lone(1'000, {});
  EXPECT_EQ(lone.renew(0, 5'000, noon, 2), pool / 2);
  EXPECT_EQ(lone.renew(0, 5'000, noon + 5s, 2), pool * 3 / 4) << "nobody else asked: half of the rest";
  EXPECT_EQ(lone.renew(1, 5'000, noon + 6s, 2), pool / 4);
  ShareBook quiet(1'000, {});
  std::int64_t got = 0;
  for (auto t = 0s; t <= 60s; t += 5s) got = quiet.renew(0, 5'000, noon + t, 8);
  EXPECT_EQ(got, pool) << "in the end all of it";
}

TEST(ShareBook, divides_by_demand_and_moves_a_share_only_after_the_provider_s_window) {
  ShareBook book(1'000, {});
  const auto pool = book.renew(0, 5'000, noon);
  EXPECT_EQ(book.renew(1, 100, noon + 1s), 0) << "all is lent";
  EXPECT_EQ(book.renew(0, 5'000, noon + 5s), pool - 100) << "the other one wants a hundred";
  EXPECT_EQ(book.renew(1, 100, noon + 6s), 0) << "what was given up may still be in the provider's window";
  // Its old share ran until 15 s; then the margin and the window.
  for (auto t = 10s; t < 77s; t += 5s) {
    EXPECT_EQ(book.renew(0, 5'000, noon + t), pool - 100);
    EXPECT_EQ(book.renew(1, 100, noon + t), 0);
  }
  EXPECT_EQ(book.renew(1, 100, noon + 77s), 100);
}

TEST(ShareBook, gives_a_server_back_at_once_what_it_gave_up_itself) {
  ShareBook book(1'000, {});
  const auto pool = book.renew(0, 5'000, noon);
  EXPECT_EQ(book.renew(0, 10, noon + 1s), 10);
  EXPECT_EQ(book.renew(0, 5'000, noon + 2s), pool);
  EXPECT_TRUE(book.cooling().empty());
}

TEST(ShareBook, takes_back_what_a_silent_server_held_after_margin_and_window) {
  ShareBook book(1'000, {});
  const auto pool = book.renew(0, 5'000, noon);
  EXPECT_EQ(book.renew(1, 5'000, noon + 17s + 59s), 0);
  EXPECT_EQ(book.renew(1, 5'000, noon + 17s + 60s), pool);
}

TEST(SlotBook, keeps_a_server_s_slot_over_restarts_and_has_no_more_than_it_has) {
  ShareRules rules;
  rules.max_servers = 2;
  SlotBook slots(rules, {});
  EXPECT_EQ(slots.claim("a", noon), 0u);
  EXPECT_EQ(slots.claim("b", noon + 1s), 1u);
  EXPECT_EQ(slots.alive(noon + 2s), 2u);
  EXPECT_EQ(slots.alive(noon + 17s + 500ms), 1u);
  EXPECT_EQ(slots.claim("a", noon + 1h), 0u);
  EXPECT_EQ(slots.claim("c", noon + 2h), std::nullopt);
  EXPECT_EQ(slots.claim("c", noon + 26h), std::nullopt) << "of a limit a day it may have used its share for two hours";
  EXPECT_EQ(slots.claim("c", noon + 26h + 5s), 1u) << "b was silent for so long: it has no floor any more";
}

TEST(ShareHolder, falls_to_its_floor_when_it_cannot_renew_and_to_nothing_after_a_day) {
  ShareHolder holder({});
  const Instant start(1h);
  EXPECT_EQ(holder.allowed("x", 1'000, start), 0);
  holder.take({3, {{"x", 500}}}, start);
  EXPECT_EQ(holder.allowed("x", 1'000, start + 14s), 512);
  EXPECT_EQ(holder.allowed("y", 1'000, start + 14s), 12);
  EXPECT_EQ(holder.allowed("x", 1'000, start + 15s), 12);
  holder.take({3, {{"x_per_day", 500}}}, start);
  EXPECT_EQ(holder.allowed("x_per_day", 1'000, start + 1h), 512) << "an hour without the books stops nobody";
  EXPECT_EQ(holder.allowed("x_per_day", 1'000, start + 2h), 12);
  EXPECT_EQ(holder.allowed("x", 1'000, start + 24h), 0);
  holder.take({std::nullopt, {}}, start + 1min);
  EXPECT_EQ(holder.allowed("x", 1'000, start + 1min), 0) << "more servers than slots";
}

TEST(ShareHolder, has_its_floor_after_a_restart_while_its_slot_is_certainly_still_its_own) {
  const Instant start(1h);
  const auto after = [&](std::uint32_t slot, std::chrono::nanoseconds age) {
    ShareHolder holder({});
    holder.restore(slot, age, start);
    return holder;
  };
  EXPECT_EQ(after(3, 1min).allowed("x", 1'000, start), 12);
  EXPECT_EQ(after(3, 1min).allowed("requests_per_day", 1'000, start), 12);
  EXPECT_EQ(after(3, 1min).allowed("x", 1'000, start + 12h), 0) << "unless it hears from the books";
  EXPECT_EQ(after(3, 12h).allowed("x", 1'000, start), 0) << "clocks may be off by hours";
  EXPECT_EQ(after(3, -1s).allowed("x", 1'000, start), 0) << "the clock was set back: nobody knows how far";
  EXPECT_EQ(after(8, 1min).allowed("x", 1'000, start), 0) << "there are fewer slots now";
  auto heard = after(3, 1min);
  heard.take({4, {{"x", 500}}}, start + 1s);
  EXPECT_EQ(heard.slot(), 4u);
  EXPECT_EQ(heard.allowed("x", 1'000, start + 2s), 512);
}

/// Servers that come, want, are cut off, die and come back, with answers that are lost or late: whatever they do, the most that
/// each was allowed within any window, summed, is never more than the limit.
RC_GTEST_PROP(Shares, are_together_never_more_than_the_limit_in_any_window, ()) {
  const ShareRules rules;
  constexpr std::int64_t limit = 1'000;
  constexpr int servers = 4;
  ShareBook book(limit, rules);
  SlotBook slots(rules, {});
  std::vector<ShareHolder> holders(servers, ShareHolder(rules));
  struct Late {
    int server;
    ShareAnswer answer;
    Instant asked_at;
    std::int64_t arrives;
  };
  std::vector<Late> on_the_way;
  std::vector<std::vector<std::int64_t>> allowed(servers);  // by second
  const auto drawn = *rc::gen::container<std::vector<std::uint32_t>>(600, rc::gen::inRange<std::uint32_t>(0, 1'000'000));
  for (std::size_t second = 0; second < drawn.size(); ++second) {
    const auto dice = drawn[second];
    const int server = static_cast<int>(dice % servers);
    const ArbiterTime now = noon + std::chrono::seconds(second);
    const Instant local(std::chrono::seconds(second + 1));
    if (dice / servers % 3 != 0) {
      const auto slot = slots.claim(std::string(1, static_cast<char>('a' + server)), now);
      ShareAnswer answer{slot, {}};
      answer.shares["x"] = book.renew(*slot, dice / 16 % 5 == 0 ? 0 : dice / 64 % 1'500, now, slots.alive(now));
      const auto fate = dice / 4'096 % 8;  // 0: lost; 1: late; else at once
      if (fate == 1) on_the_way.push_back({server, answer, local, static_cast<std::int64_t>(second) + 4});
      if (fate > 1) holders[server].take(answer, local);
    } else if (dice / 8 % 11 == 0) {
      const auto slot = holders[server].slot();
      holders[server] = ShareHolder(rules);  // died, and comes back with its slot, or knows nothing
      if (slot && dice / 128 % 2 == 0) holders[server].restore(*slot, std::chrono::seconds(dice / 256 % 100'000), local);
    }
    for (auto& late : on_the_way)
      if (late.arrives == static_cast<std::int64_t>(second) && holders[late.server].slot())
        holders[late.server].take(late.answer, late.asked_at);
    std::int64_t most = 0;
    for (int s = 0; s < servers; ++s) {
      allowed[s].push_back(holders[s].allowed("x", limit, local));
      const auto begin = allowed[s].end() - static_cast<std::ptrdiff_t>(std::min<std::size_t>(60, allowed[s].size()));
      most += *std::max_element(begin, allowed[s].end());
    }
    RC_ASSERT(most <= limit);
  }
}

}  // namespace
}  // namespace onboarding::model
