#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <map>
#include <set>

#include "actors/model/policy/lease_desk.hpp"

namespace onboarding::model {
namespace {

using namespace std::chrono_literals;

const Instant kStart{1'000s};

ProviderSettings provider(std::string name, std::uint32_t weight, std::uint32_t requests_per_minute = 0) {
  ProviderSettings s;
  s.name = std::move(name);
  s.enabled = true;
  s.weight = weight;
  s.requests_per_minute = requests_per_minute;
  return s;
}

LeaseRequest wanted(Priority priority = Priority::waiting_client, Instant deadline = kStart + 30s) {
  LeaseRequest r;
  r.priority = priority;
  r.deadline = deadline;
  r.input_tokens = 100;
  r.output_tokens = 100;
  return r;
}

Settlement ended(CallError error = CallError::none) {
  Settlement s;
  s.error = error;
  s.was_sent = true;
  return s;
}

std::ptrdiff_t count(const std::vector<LeaseDesk::News>& news, std::string_view what) {
  return std::count_if(news.begin(), news.end(), [&](const auto& n) { return n.what == what; });
}

LeaseGrant ask_now(LeaseDesk& desk, const LeaseRequest& request, Instant now = kStart) {
  const auto ticket = desk.ask(request, now);
  for (const auto& d : desk.advance(now).decisions)
    if (d.ticket == ticket) return d.grant;
  ADD_FAILURE() << "still waiting";
  return {};
}

// A window of 10,000 tokens of which 7,000 are taken, and nothing to smooth.
class NearlyFullWindow : public testing::Test {
 protected:
  NearlyFullWindow() : desk_({settings()}, {}, kStart) { granted(ask(7'000)); }
  static ProviderSettings settings() {
    auto s = provider("a", 1);
    s.tokens_per_minute = 10'000;
    s.burst_seconds = 60;
    return s;
  }
  LeaseDesk::Ticket ask(std::uint32_t tokens) {
    auto r = wanted(Priority::waiting_client, now_ + 30s);
    r.input_tokens = tokens;
    r.output_tokens = 0;
    return desk_.ask(r, now_);
  }
  bool granted(LeaseDesk::Ticket ticket) {
    for (const auto& d : desk_.advance(now_).decisions) decided_.insert(d.ticket);
    return decided_.contains(ticket);
  }

  const Instant now_ = kStart + 200s;
  LeaseDesk desk_;
  std::set<LeaseDesk::Ticket> decided_;
};

TEST_F(NearlyFullWindow, goes_to_the_one_of_the_next_few_that_leaves_the_least_unused) {
  const auto too_dear = ask(5'000), cheap = ask(2'900), fits = ask(3'000);
  EXPECT_TRUE(granted(fits));
  EXPECT_FALSE(granted(cheap));
  EXPECT_FALSE(granted(too_dear));
}

TEST_F(NearlyFullWindow, is_kept_for_who_was_overtaken_often_enough) {
  const auto dear = ask(5'000);
  for (int i = 0; i < 12; ++i) ask(100);
  EXPECT_FALSE(granted(dear));
  EXPECT_EQ(decided_.size(), 1 + LeaseDesk::kMostOvertaken);
  EXPECT_EQ(desk_.waiting(), 5u);
}

TEST(LeaseDesk, decides_at_once_while_there_is_budget) {
  LeaseDesk desk({provider("a", 1)}, {}, kStart);
  const auto grant = ask_now(desk, wanted());
  EXPECT_EQ(grant.status, LeaseStatus::granted);
  EXPECT_EQ(desk.leases(), 1u);
  desk.settle(grant.id, ended(), kStart);
  EXPECT_EQ(desk.leases(), 0u);
  EXPECT_EQ(desk.next_event(), std::nullopt);
}

TEST(LeaseDesk, those_who_wait_are_served_by_priority_and_then_in_order) {
  LeaseDesk desk({provider("a", 1, 60)}, {}, kStart);
  const auto background = desk.ask(wanted(Priority::background), kStart);
  const auto first = desk.ask(wanted(Priority::waiting_client), kStart);
  const auto queued = desk.ask(wanted(Priority::queued_turn), kStart);
  const auto second = desk.ask(wanted(Priority::waiting_client), kStart);
  EXPECT_TRUE(desk.advance(kStart).decisions.empty());
  std::vector<LeaseDesk::Ticket> served;
  while (served.size() < 4) {
    const auto now = *desk.next_event();
    for (const auto& d : desk.advance(now).decisions) {
      EXPECT_EQ(d.grant.status, LeaseStatus::granted);
      served.push_back(d.ticket);
      desk.settle(d.grant.id, ended(), now);
    }
  }
  EXPECT_EQ(served, (std::vector{first, second, queued, background}));
}

TEST(LeaseDesk, tells_whoever_waits_in_vain_at_the_deadline) {
  LeaseDesk desk({provider("a", 1, 1)}, {}, kStart);
  const auto ticket = desk.ask(wanted(Priority::waiting_client, kStart + 2s), kStart);
  const auto round = desk.advance(kStart);
  EXPECT_TRUE(round.decisions.empty());
  EXPECT_EQ(round.refused_by_budget, std::vector<std::uint32_t>{0});
  ASSERT_EQ(desk.next_event(), kStart + 2s);
  const auto decisions = desk.advance(kStart + 2s).decisions;
  ASSERT_EQ(decisions.size(), 1u);
  EXPECT_EQ(decisions[0].ticket, ticket);
  EXPECT_EQ(decisions[0].grant.status, LeaseStatus::deadline);
}

TEST(LeaseDesk, a_full_queue_refuses_the_least_urgent_newest) {
  LeaseDesk desk({provider("a", 1, 1)}, {}, kStart, 2);
  desk.ask(wanted(Priority::queued_turn), kStart);
  const auto background = desk.ask(wanted(Priority::background), kStart);
  EXPECT_EQ(ask_now(desk, wanted(Priority::background)).status, LeaseStatus::queue_full);
  desk.ask(wanted(Priority::waiting_client), kStart);
  const auto decisions = desk.advance(kStart).decisions;
  ASSERT_EQ(decisions.size(), 1u);
  EXPECT_EQ(decisions[0].ticket, background);
  EXPECT_EQ(decisions[0].grant.status, LeaseStatus::queue_full);
  EXPECT_EQ(desk.waiting(), 2u);
}

TEST(LeaseDesk, moves_to_another_provider_rather_than_wait) {
  LeaseDesk desk({provider("a", 40, 1), provider("b", 0)}, {}, kStart);
  const auto grant = ask_now(desk, wanted());
  EXPECT_EQ(grant.provider, 1u);
}

TEST(LeaseDesk, tells_a_fallback_but_not_another_try_at_the_same_provider) {
  LeaseDesk desk({provider("a", 1), provider("b", 1)}, {}, kStart);
  auto elsewhere = wanted(), again = wanted();
  elsewhere.avoid = 0b01;
  again.exclude = ~ProviderSet{0b01};
  desk.ask(elsewhere, kStart);
  const auto news = desk.advance(kStart).news;
  ASSERT_EQ(count(news, "fallback"), 1);
  EXPECT_EQ(news[0].provider, 1u);
  desk.ask(again, kStart);
  EXPECT_EQ(count(desk.advance(kStart).news, "fallback"), 0);
}

TEST(LeaseDesk, five_failures_open_the_breaker_and_those_who_wait_are_told) {
  LeaseDesk desk({provider("a", 1)}, {}, kStart);
  for (int i = 0; i < 5; ++i) {
    const auto grant = ask_now(desk, wanted());
    desk.settle(grant.id, ended(CallError::unavailable), kStart);
    EXPECT_EQ(count(desk.advance(kStart).news, "breaker_opened"), i < 4 ? 0 : 1);
  }
  EXPECT_EQ(ask_now(desk, wanted()).status, LeaseStatus::no_provider);
  const auto later = kStart + 10s;
  const auto probe = ask_now(desk, wanted(Priority::waiting_client, kStart + 60s), later);
  EXPECT_EQ(probe.status, LeaseStatus::granted);
  EXPECT_EQ(ask_now(desk, wanted(), later).status, LeaseStatus::no_provider) << "the probe is out";
  desk.settle(probe.id, ended(), later);
  EXPECT_EQ(ask_now(desk, wanted(Priority::waiting_client, kStart + 60s), later).status, LeaseStatus::granted);
}

TEST(LeaseDesk, the_traffic_of_a_provider_that_dies_has_moved_within_a_second_and_nobody_waits_for_it) {
  LeaseDesk desk({provider("a", 40), provider("b", 40), provider("c", 20)}, {}, kStart);
  const auto death = kStart + 5s;
  std::multimap<Instant, LeaseGrant> calls;
  std::map<std::uint32_t, int> before, just_after, later;
  const auto ask = [&](Instant now, ProviderSet avoid) {
    auto r = wanted(Priority::waiting_client, now + 30s);
    r.avoid = avoid;
    const auto grant = ask_now(desk, r, now);
    ASSERT_EQ(grant.status, LeaseStatus::granted);
    ++(now < death ? before : now < death + 1s ? just_after : later)[grant.provider];
    const bool dead = grant.provider == 0 && now >= death;
    calls.emplace(now + (dead ? 20ms : 300ms), grant);
  };
  for (auto now = kStart; now < death + 9s; now += 5ms) {
    while (!calls.empty() && calls.begin()->first <= now) {
      const auto grant = calls.extract(calls.begin()).mapped();
      const bool lost = grant.provider == 0 && now >= death;
      desk.settle(grant.id, ended(lost ? CallError::connection : CallError::none), now);
      if (lost) ask(now, 1);
    }
    ask(now, 0);
  }
  EXPECT_NEAR(before[0], 400, 5);
  EXPECT_LT(just_after[0], 15);
  EXPECT_EQ(later[0], 0);
  EXPECT_GT(later[1] + later[2], 1'500);
}

TEST(LeaseDesk, a_probe_that_is_never_settled_expires_and_another_may_go) {
  LeaseDesk desk({provider("a", 1)}, {}, kStart);
  for (int i = 0; i < 5; ++i) desk.settle(ask_now(desk, wanted()).id, ended(CallError::connection), kStart);
  auto now = kStart + 10s;
  const auto probe = ask_now(desk, wanted(Priority::waiting_client, now + 1s), now);
  now = *desk.next_event();
  EXPECT_EQ(now, kStart + 11s + LeaseDesk::kExpiryMargin);
  EXPECT_EQ(desk.advance(now).expired, std::vector<LeaseId>{probe.id});
  now += 20s;
  EXPECT_EQ(ask_now(desk, wanted(Priority::waiting_client, now + 1s), now).status, LeaseStatus::granted);
}

TEST(LeaseDesk, no_money_opens_for_long_and_is_reported_once) {
  LeaseDesk desk({provider("a", 1)}, {}, kStart);
  const auto first = ask_now(desk, wanted()), second = ask_now(desk, wanted());
  desk.settle(first.id, ended(CallError::quota_exhausted), kStart);
  const auto news = desk.advance(kStart).news;
  ASSERT_EQ(count(news, "breaker_opened"), 1);
  EXPECT_TRUE(news[0].alert);
  desk.settle(second.id, ended(CallError::quota_exhausted), kStart);
  EXPECT_EQ(count(desk.advance(kStart).news, "breaker_opened"), 0);
  EXPECT_FALSE(desk.any_usable(kStart + 14min));
  EXPECT_TRUE(desk.any_usable(kStart + 15min));
}

TEST(LeaseDesk, what_one_person_writes_closes_a_provider_for_nobody) {
  for (const auto error : {CallError::refused, CallError::cut_off, CallError::invalid_answer, CallError::bad_request}) {
    LeaseDesk desk({provider("a", 1)}, {}, kStart);
    auto nasty = wanted();
    nasty.session = 7;
    for (int i = 0; i < 20; ++i) {
      const auto grant = ask_now(desk, nasty);
      ASSERT_EQ(grant.status, LeaseStatus::granted) << to_string(error) << i;
      desk.settle(grant.id, ended(error), kStart);
    }
    EXPECT_TRUE(desk.any_usable(kStart)) << to_string(error);
    EXPECT_EQ(desk.status(kStart).providers[0].last_error, to_string(error));
  }
}

TEST(LeaseDesk, a_model_that_writes_too_much_to_everybody_is_an_alert_once) {
  LeaseDesk desk({provider("a", 1)}, {}, kStart);
  const auto cut_off = [&desk](std::uint64_t session) {
    auto r = wanted();
    r.session = session;
    desk.settle(ask_now(desk, r).id, ended(CallError::cut_off), kStart);
    return desk.advance(kStart).news;
  };
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(cut_off(1).empty()) << "one person alone";
  for (std::uint64_t i = 2; i < 5; ++i) EXPECT_TRUE(cut_off(i).empty());
  const auto news = cut_off(5);
  ASSERT_EQ(news.size(), 1u);
  EXPECT_TRUE(news[0].alert);
  EXPECT_TRUE(cut_off(6).empty());
  desk.settle(ask_now(desk, wanted()).id, ended(), kStart);
  for (std::uint64_t i = 1; i < 5; ++i) EXPECT_TRUE(cut_off(i).empty()) << "an answer that was whole comes between";
}

TEST(LeaseDesk, a_refused_probe_is_no_verdict_and_another_may_go) {
  LeaseDesk desk({provider("a", 1)}, {}, kStart);
  for (int i = 0; i < 5; ++i) desk.settle(ask_now(desk, wanted()).id, ended(CallError::unavailable), kStart);
  const auto later = kStart + 10s;
  desk.settle(ask_now(desk, wanted(), later).id, ended(CallError::refused), later);
  desk.settle(ask_now(desk, wanted(), later).id, ended(), later);
  EXPECT_EQ(desk.status(later).providers[0].breaker, "ramping");
}

TEST(LeaseDesk, who_answers_garbage_to_everybody_is_noticed) {
  LeaseDesk desk({provider("a", 1)}, {}, kStart);
  for (std::uint64_t i = 1; i <= 5; ++i) {
    auto r = wanted();
    r.session = i;
    desk.settle(ask_now(desk, r).id, ended(CallError::invalid_answer), kStart);
  }
  EXPECT_FALSE(desk.any_usable(kStart));
}

TEST(LeaseDesk, a_model_that_is_not_there_is_an_alert_and_that_of_a_plan_concerns_only_the_plan) {
  PlanSettings plan;
  plan.name = "free";
  plan.models = {{"a", "tiny"}};
  LeaseDesk desk({provider("a", 1)}, {}, kStart, LeaseDesk::kMaxWaiting, {plan});
  auto free = wanted();
  free.plan = 1;
  desk.settle(ask_now(desk, free).id, ended(CallError::model_not_found), kStart);
  auto news = desk.advance(kStart).news;
  ASSERT_EQ(news.size(), 1u);
  EXPECT_TRUE(news[0].alert);
  EXPECT_NE(news[0].why.find("tiny"), std::string::npos);
  EXPECT_NE(ask_now(desk, free).status, LeaseStatus::granted);
  const auto other = ask_now(desk, wanted());
  ASSERT_EQ(other.status, LeaseStatus::granted);
  desk.settle(other.id, ended(CallError::model_not_found), kStart);
  news = desk.advance(kStart).news;
  ASSERT_EQ(count(news, "breaker_opened"), 1);
  EXPECT_TRUE(news[0].alert);
  EXPECT_FALSE(desk.any_usable(kStart));
}

TEST(LeaseDesk, a_hint_beyond_reason_is_an_alert_and_one_call_asks_again_after_a_minute) {
  LeaseDesk desk({provider("a", 1)}, {}, kStart);
  auto s = ended(CallError::rate_limited);
  s.retry_after = 24h;
  desk.settle(ask_now(desk, wanted()).id, s, kStart);
  const auto news = desk.advance(kStart).news;
  ASSERT_EQ(count(news, "held"), 1);
  EXPECT_TRUE(news[0].alert);
  EXPECT_EQ(desk.status(kStart).providers[0].held_ms, 60'000);
  EXPECT_EQ(desk.status(kStart).providers[0].wait_ms, 60'000);
  const auto later = kStart + 60s;
  for (int i = 0; i < 8; ++i) desk.ask(wanted(Priority::waiting_client, later + 30s), later);
  EXPECT_EQ(desk.advance(later).decisions.size(), 1u) << "not all who waited";
}

TEST(LeaseDesk, a_days_limit_pauses_for_as_long_as_it_says) {
  LeaseDesk desk({provider("a", 1)}, {}, kStart);
  auto s = ended(CallError::rate_limited);
  s.retry_after = 5h;
  s.day_limit = true;
  desk.settle(ask_now(desk, wanted()).id, s, kStart);
  EXPECT_TRUE(desk.advance(kStart).news.at(0).alert);
  EXPECT_EQ(desk.status(kStart).providers[0].held_ms, 5 * 3'600'000);
}

TEST(LeaseDesk, nobody_waits_for_a_larger_share_of_a_day_that_the_provider_says_is_over) {
  auto limits = provider("a", 1);
  limits.requests_per_day = 1'000;
  LeaseDesk desk({limits}, {}, kStart);
  desk.share([](const std::string&, std::int64_t whole) { return whole / 2; }, true, kStart);
  auto s = ended(CallError::rate_limited);
  s.retry_after = 5h;
  s.day_limit = true;
  desk.settle(ask_now(desk, wanted()).id, s, kStart);
  EXPECT_EQ(ask_now(desk, wanted()).status, LeaseStatus::deadline) << "told at once";
}

TEST(LeaseDesk, a_limit_that_a_header_told_goes_with_an_operators_change) {
  LeaseDesk desk({provider("a", 1, 600)}, {}, kStart);
  auto s = ended();
  s.limits = {{"requests", 1}};
  desk.settle(ask_now(desk, wanted(), kStart + 10s).id, s, kStart + 10s);
  EXPECT_EQ(desk.status(kStart + 10s).providers[0].limits[0].limit, 1);
  ProviderChange c;
  c.name = "a";
  c.enabled = true;
  ASSERT_FALSE(desk.change(c, kStart + 10s));
  EXPECT_EQ(desk.status(kStart + 10s).providers[0].limits[0].limit, 600);
}

TEST(LeaseDesk, a_refused_usage_is_told_once_and_a_broken_stream_is_booked_at_what_was_thought) {
  LeaseDesk desk({provider("a", 1)}, {}, kStart);
  desk.set_prices(0, "", 1'000, 1'000);
  auto s = ended();
  s.usage_refused = true;
  for (int i = 0; i < 3; ++i) {
    desk.settle(ask_now(desk, wanted()).id, s, kStart);
    EXPECT_EQ(count(desk.advance(kStart).news, "usage_refused"), i == 0 ? 1 : 0);
  }
  const auto before = desk.status(kStart).providers[0].spent_today_nanodollars;
  EXPECT_GT(before, 0);
  desk.settle(ask_now(desk, wanted()).id, ended(CallError::truncated), kStart);
  EXPECT_GT(desk.status(kStart).providers[0].spent_today_nanodollars, before);
  const auto broken = desk.status(kStart).providers[0].spent_today_nanodollars;
  desk.settle(ask_now(desk, wanted()).id, ended(CallError::unavailable), kStart);
  EXPECT_EQ(desk.status(kStart).providers[0].spent_today_nanodollars, broken) << "an error is not billed";
}

TEST(LeaseDesk, a_429_pauses_the_provider_for_its_hint_and_never_opens_the_breaker) {
  LeaseDesk desk({provider("a", 1)}, {}, kStart);
  auto now = kStart;
  for (int i = 0; i < 10; ++i) {
    const auto grant = ask_now(desk, wanted(Priority::waiting_client, now + 30s), now);
    auto s = ended(CallError::rate_limited);
    s.retry_after = 700ms;
    desk.settle(grant.id, s, now);
    const auto waiting = desk.ask(wanted(Priority::waiting_client, now + 30s), now);
    EXPECT_TRUE(desk.advance(now).decisions.empty()) << "healthy, only without budget: that is no reason for a worse answer";
    EXPECT_EQ(desk.next_event(), now + 700ms);
    now += 700ms;
    const auto decisions = desk.advance(now).decisions;
    ASSERT_EQ(decisions.size(), 1u);
    EXPECT_EQ(decisions[0].ticket, waiting);
    desk.settle(decisions[0].grant.id, ended(CallError::cancelled), now);
  }
}

TEST(LeaseDesk, a_429_without_a_hint_pauses_longer_each_time_but_not_for_calls_already_under_way) {
  LeaseDesk desk({provider("a", 1)}, {}, kStart);
  std::vector<LeaseGrant> under_way;
  for (int i = 0; i < 6; ++i) under_way.push_back(ask_now(desk, wanted()));
  for (const auto& g : under_way) desk.settle(g.id, ended(CallError::rate_limited), kStart);
  desk.ask(wanted(), kStart);
  desk.advance(kStart);
  EXPECT_EQ(desk.next_event(), kStart + 1s);
  const auto next = desk.advance(kStart + 1s).decisions;
  ASSERT_EQ(next.size(), 1u);
  desk.settle(next[0].grant.id, ended(CallError::rate_limited), kStart + 1s);
  desk.ask(wanted(), kStart + 1s);
  desk.advance(kStart + 1s);
  EXPECT_EQ(desk.next_event(), kStart + 3s);
}

TEST(LeaseDesk, a_longer_hold_is_not_shortened_by_a_shorter_one) {
  LeaseDesk desk({provider("a", 1)}, {}, kStart);
  const auto first = ask_now(desk, wanted()), second = ask_now(desk, wanted());
  auto s = ended(CallError::rate_limited);
  s.retry_after = 20s;
  desk.settle(first.id, s, kStart);
  s.retry_after = 1s;
  desk.settle(second.id, s, kStart);
  desk.ask(wanted(Priority::waiting_client, kStart + 60s), kStart);
  desk.advance(kStart);
  EXPECT_EQ(desk.next_event(), kStart + 20s);
  EXPECT_EQ(desk.status(kStart).providers[0].held_ms, 20'000);
}

TEST(LeaseDesk, tells_at_once_whoever_could_only_wait_beyond_the_deadline) {
  auto a = provider("a", 1);
  a.requests_per_day = 1;
  LeaseDesk desk({a}, {}, kStart);
  EXPECT_EQ(ask_now(desk, wanted()).status, LeaseStatus::granted);
  EXPECT_EQ(ask_now(desk, wanted()).status, LeaseStatus::deadline);
  EXPECT_EQ(desk.waiting(), 0u);
  LeaseDesk two({a, provider("b", 0)}, {}, kStart);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(ask_now(two, wanted()).status, LeaseStatus::granted) << "another one has budget";
}

TEST(LeaseDesk, ramps_a_provider_up_after_its_probe) {
  LeaseDesk desk({provider("a", 1)}, {}, kStart);
  for (int i = 0; i < 5; ++i) desk.settle(ask_now(desk, wanted()).id, ended(CallError::unavailable), kStart);
  const auto now = kStart + 10s;
  desk.settle(ask_now(desk, wanted(Priority::waiting_client, now + 60s), now).id, ended(), now);
  for (int i = 0; i < 6; ++i) desk.ask(wanted(Priority::waiting_client, now + 60s), now);
  EXPECT_EQ(desk.advance(now).decisions.size(), 1u);
  EXPECT_EQ(desk.next_event(), now + 1s);
  EXPECT_EQ(desk.advance(now + 1s).decisions.size(), 1u) << "two at once";
  EXPECT_EQ(desk.advance(now + 2s).decisions.size(), 2u) << "four at once";
}

TEST(LeaseDesk, learns_how_long_answers_are_where_the_real_output_counts) {
  auto settings = provider("a", 1);
  settings.output_tokens_per_minute = 6'000;
  settings.counting.output_cap_reserved = false;
  LeaseDesk desk({settings}, {}, kStart);
  auto r = wanted(Priority::waiting_client, kStart + 1h);
  r.output_tokens = 400;
  auto now = kStart;
  const auto one = [&](std::int64_t output) {
    const auto ticket = desk.ask(r, now);
    for (;;) {
      for (const auto& d : desk.advance(now).decisions) {
        EXPECT_EQ(d.ticket, ticket);
        auto s = ended();
        s.input_tokens = 100;
        s.output_tokens = output;
        desk.settle(d.grant.id, s, now);
        return;
      }
      now = *desk.next_event();
    }
  };
  for (int i = 0; i < 30; ++i) one(50);
  now += 5min;
  int at_once = 0;
  for (int i = 0; i < 20; ++i) desk.ask(r, now);
  for (const auto& d : desk.advance(now).decisions) at_once += d.grant.status == LeaseStatus::granted;
  EXPECT_EQ(at_once, 2) << "a second's refill is 100 tokens: two of 50, of the cap not one";
}

TEST(LeaseDesk, prefers_cheaper_providers_while_many_wait) {
  LeaseDesk desk({provider("dear", 1, 60), provider("cheap", 1, 60)}, {}, kStart);
  desk.set_prices(0, "", 1'000'000, 1'000'000);
  desk.set_prices(1, "", 100'000, 100'000);
  EXPECT_EQ(desk.status(kStart).providers[1].effective_weight, 1);
  for (std::uint64_t i = 0; i < 300; ++i) {
    auto r = wanted(Priority::queued_turn, kStart + 1h);
    r.session = i;
    desk.ask(r, kStart);
  }
  desk.advance(kStart);
  EXPECT_GT(desk.status(kStart).providers[1].effective_weight, 3);
  EXPECT_EQ(desk.status(kStart).providers[0].effective_weight, 1);
}

TEST(LeaseDesk, promises_a_place_and_a_time_that_hold) {
  LeaseDesk desk({provider("a", 1, 60)}, {}, kStart);
  std::map<LeaseDesk::Ticket, std::chrono::nanoseconds> promised;
  for (std::uint64_t i = 1; i <= 100; ++i) {
    auto r = wanted(Priority::queued_turn, kStart + 1h);
    r.turn = r.session = i;
    const auto ticket = desk.ask(r, kStart);
    desk.advance(kStart);
    promised[ticket] = desk.place({i, 0, 0}, kStart).eta;
    EXPECT_EQ(desk.place({i, 0, 0}, kStart).position, i);
  }
  auto now = kStart;
  while (desk.waiting() > 0) {
    now = *desk.next_event();
    for (const auto& d : desk.advance(now).decisions) {
      desk.settle(d.grant.id, ended(), now + 1s);
      EXPECT_NEAR(std::chrono::duration<double>(now + 1s - kStart).count(),
                  std::chrono::duration<double>(promised[d.ticket]).count(), 2.0)
          << d.ticket;
    }
  }
}

TEST(LeaseDesk, ten_thousand_may_wait_and_one_more_is_told) {
  LeaseDesk desk({provider("a", 1, 600)}, {}, kStart);
  for (std::uint64_t i = 0; i < LeaseDesk::kMaxWaiting; ++i) {
    auto r = wanted(Priority::queued_turn, kStart + 1h);
    r.session = r.turn = i;
    desk.ask(r, kStart);
  }
  desk.advance(kStart);
  EXPECT_EQ(ask_now(desk, wanted(Priority::queued_turn)).status, LeaseStatus::queue_full);
  auto now = kStart;
  std::size_t served = 0;
  while (desk.waiting() > 0) {
    now = *desk.next_event();
    for (const auto& d : desk.advance(now).decisions) {
      ASSERT_EQ(d.grant.status, LeaseStatus::granted);
      desk.settle(d.grant.id, ended(), now);
      ++served;
    }
  }
  EXPECT_EQ(served, LeaseDesk::kMaxWaiting);
  EXPECT_NEAR(std::chrono::duration<double>(now - kStart).count(), 1'000, 15) << "ten a second";
}

// The same inputs lead to the same decisions, and no provider is ever asked for more than its limits, whatever the interleaving of
// asks, settlements, expiries, changes and time.
TEST(LeaseDeskProperties, every_interleaving_is_repeatable_and_stays_within_every_limit) {
  struct Step {
    int what, wait_ms, priority, tokens, error;
  };
  EXPECT_TRUE(rc::check([] {
    std::vector<ProviderSettings> settings;
    for (const char* name : {"a", "b"}) {
      settings.push_back(provider(name, 1, static_cast<std::uint32_t>(*rc::gen::inRange(20, 120))));
      settings.back().tokens_per_minute = static_cast<std::uint64_t>(*rc::gen::inRange(10'000, 60'000));
      settings.back().max_concurrent = static_cast<std::uint32_t>(*rc::gen::inRange(1, 6));
      settings.back().counting.output_cap_reserved = *rc::gen::arbitrary<bool>();
      settings.back().timeout = 3s;
    }
    std::vector<Step> steps(static_cast<std::size_t>(*rc::gen::inRange(1, 250)));
    for (auto& s : steps)
      s = {*rc::gen::inRange(0, 5),
           *rc::gen::weightedOneOf<int>({{6, rc::gen::inRange(0, 400)}, {1, rc::gen::inRange(0, 30'000)}}),
           *rc::gen::inRange(0, 3), *rc::gen::inRange(1, 900),
           *rc::gen::weightedOneOf<int>({{8, rc::gen::just(0)}, {1, rc::gen::inRange(1, 15)}})};
    const auto play = [&] {
      std::vector<std::string> told;
      LeaseDesk desk(settings, {}, kStart);
      std::map<LeaseId, std::pair<std::uint32_t, std::int64_t>> open;
      std::vector<std::vector<Instant>> sent(2);
      std::map<LeaseDesk::Ticket, std::int64_t> asked;
      auto now = kStart;
      for (const auto& s : steps) {
        now += std::chrono::milliseconds(s.wait_ms);
        if (s.what < 3) {
          auto r = wanted(static_cast<Priority>(s.priority), now + 20s);
          r.input_tokens = static_cast<std::uint32_t>(s.tokens);
          asked[desk.ask(r, now)] = s.tokens + 100;
        } else if (!open.empty()) {
          const auto [id, lease] = *open.begin();
          auto done = ended(static_cast<CallError>(s.error));
          done.input_tokens = lease.second / 2;
          done.output_tokens = 10;
          desk.settle(id, done, now);
          open.erase(id);
        }
        const auto round = desk.advance(now);
        for (const auto& d : round.decisions) {
          told.push_back(std::to_string(d.ticket) + ":" + std::to_string(static_cast<int>(d.grant.status)) + "@" +
                         std::to_string(d.grant.provider));
          if (d.grant.status != LeaseStatus::granted) continue;
          open[d.grant.id] = {d.grant.provider, asked[d.ticket] - 100};
          auto& times = sent[d.grant.provider];
          times.push_back(now);
          RC_ASSERT(std::count_if(times.begin(), times.end(), [&](auto t) { return t > now - 60s; }) <=
                    settings[d.grant.provider].requests_per_minute);
        }
        for (const auto e : round.expired) open.erase(e);
        for (std::uint32_t p = 0; p < 2; ++p) RC_ASSERT(desk.in_flight(p) <= settings[p].max_concurrent);
        for (const auto& status : desk.status(now).providers)
          for (const auto& limit : status.limits) RC_ASSERT(limit.used <= limit.limit);
      }
      return told;
    };
    RC_ASSERT(play() == play());
  }));
}

TEST(LeaseDeskProperties, every_ticket_is_decided_once_and_nothing_is_outstanding_at_idle) {
  EXPECT_TRUE(rc::check([] {
    std::vector<ProviderSettings> settings;
    const auto providers = *rc::gen::inRange(1, 4);
    for (int p = 0; p < providers; ++p) {
      settings.push_back(provider(std::string(1, static_cast<char>('a' + p)),
                                  static_cast<std::uint32_t>(*rc::gen::inRange(0, 50)),
                                  static_cast<std::uint32_t>(*rc::gen::inRange(0, 120))));
      settings.back().max_concurrent = static_cast<std::uint32_t>(*rc::gen::inRange(0, 4));
      settings.back().enabled = *rc::gen::inRange(0, 6) > 0;
      settings.back().timeout = 3s;
    }
    LeaseDesk desk(settings, {}, kStart, static_cast<std::size_t>(*rc::gen::inRange(1, 20)));
    std::map<LeaseDesk::Ticket, int> decided;
    std::vector<LeaseId> open;
    auto now = kStart;
    const auto advance = [&] {
      const auto round = desk.advance(now);
      for (const auto& d : round.decisions) {
        RC_ASSERT(++decided[d.ticket] == 1);
        if (d.grant.status == LeaseStatus::granted) {
          RC_ASSERT(settings[d.grant.provider].enabled);
          open.push_back(d.grant.id);
        }
      }
      for (const auto e : round.expired) open.erase(std::find(open.begin(), open.end(), e));
    };
    const auto steps = *rc::gen::inRange(1, 200);
    for (int i = 0; i < steps; ++i) {
      now += std::chrono::milliseconds(*rc::gen::inRange(0, 2'000));
      advance();
      if (*rc::gen::inRange(0, 2) == 0 || open.empty()) {
        auto r =
            wanted(static_cast<Priority>(*rc::gen::inRange(0, 3)), now + std::chrono::milliseconds(*rc::gen::inRange(0, 20'000)));
        r.exclude = static_cast<ProviderSet>(*rc::gen::inRange(0, 8));
        decided.emplace(desk.ask(r, now), 0);
      } else if (*rc::gen::inRange(0, 4) > 0) {
        const auto error =
            static_cast<CallError>(*rc::gen::weightedOneOf<int>({{3, rc::gen::just(0)}, {2, rc::gen::inRange(1, 11)}}));
        desk.settle(open.back(), ended(error), now);
        open.pop_back();
      }
      advance();
    }
    while (const auto next = desk.next_event()) {
      RC_ASSERT(*next > now);
      now = *next;
      advance();
    }
    for (const auto& [ticket, times] : decided) RC_ASSERT(times == 1);
    RC_ASSERT(desk.waiting() == 0u);
    RC_ASSERT(desk.leases() == 0u);
    for (std::uint32_t p = 0; p < settings.size(); ++p) {
      RC_ASSERT(desk.budget(p).in_flight() == 0);
      RC_ASSERT(desk.budget(p).reserved_tokens() == 0);
    }
  }));
}

TEST(LeaseDesk, a_provider_that_hangs_gets_no_new_calls_while_another_can_have_them) {
  LeaseDesk desk({provider("a", 1), provider("b", 1)}, {}, kStart);
  std::vector<LeaseGrant> hanging;
  for (int i = 0; i < 4; ++i) {
    const auto grant = ask_now(desk, wanted());
    if (grant.provider == 0) hanging.push_back(grant);
    else desk.settle(grant.id, ended(), kStart + 100ms);
  }
  ASSERT_EQ(hanging.size(), 2u);
  const auto later = kStart + 5s;
  for (int i = 0; i < 6; ++i) {
    const auto grant = ask_now(desk, wanted(), later);
    EXPECT_EQ(grant.provider, 1u);
    desk.settle(grant.id, ended(), later);
  }
  EXPECT_EQ(desk.status(later).providers[0].breaker, "suspected");
  EXPECT_EQ(desk.in_flight(0), 2) << "nobody took the calls in flight away";
  desk.settle(hanging[0].id, ended(), later);
  std::set<std::uint32_t> used;
  for (int i = 0; i < 4; ++i) used.insert(ask_now(desk, wanted(), later).provider);
  EXPECT_EQ(used.size(), 2u) << "it answers";
}

TEST(LeaseDesk, a_provider_whose_calls_have_begun_to_answer_is_slow_and_does_not_hang) {
  LeaseDesk desk({provider("a", 1), provider("b", 1)}, {}, kStart);
  std::vector<LeaseGrant> slow;
  for (int i = 0; i < 6; ++i) {
    const auto grant = ask_now(desk, wanted());
    if (grant.provider == 0) slow.push_back(grant);
    else desk.settle(grant.id, ended(), kStart + 100ms);
  }
  ASSERT_EQ(slow.size(), 3u);
  for (int i = 0; i < 2; ++i) desk.began(slow[static_cast<std::size_t>(i)].id, kStart + 1s);
  desk.advance(kStart + 7s);
  EXPECT_EQ(desk.status(kStart + 7s).providers[0].breaker, "closed") << "one that waits for its first words is not enough";
  std::set<std::uint32_t> used;
  for (int i = 0; i < 4; ++i) used.insert(ask_now(desk, wanted(), kStart + 7s).provider);
  EXPECT_EQ(used.size(), 2u);
  desk.advance(kStart + 13s);
  EXPECT_EQ(desk.status(kStart + 13s).providers[0].breaker, "suspected") << "those after them hear nothing";
  desk.began(slow[2].id, kStart + 13s);
  desk.advance(kStart + 13s);
  EXPECT_EQ(desk.status(kStart + 13s).providers[0].breaker, "closed");
  desk.began(slow[2].id, kStart + 14s);
  desk.settle(slow[2].id, ended(), kStart + 14s);
  desk.began(slow[2].id, kStart + 15s);
  EXPECT_EQ(desk.in_flight(0), 4);
}

TEST(LeaseDesk, a_lone_provider_that_hangs_is_asked_all_the_same) {
  LeaseDesk desk({provider("a", 1)}, {}, kStart);
  ask_now(desk, wanted()), ask_now(desk, wanted());
  EXPECT_EQ(ask_now(desk, wanted(), kStart + 6s).status, LeaseStatus::granted);
}

class OverARestart : public testing::Test {
 protected:
  static constexpr std::int64_t kEpoch = 1'800'000'000;
  static LeaseDesk desk(Instant start) {
    auto s = provider("a", 1);
    s.model = "m";
    s.requests_per_day = 1'000;
    PlanSettings plan;
    plan.name = "free";
    plan.tokens_per_day = 100'000;
    return LeaseDesk({s}, {}, start, LeaseDesk::kMaxWaiting, {plan});
  }
  static void use(LeaseDesk& desk, int calls, Instant now) {
    for (int i = 0; i < calls; ++i) {
      auto r = wanted(Priority::waiting_client, now + 1s);
      r.plan = 1;
      auto s = ended();
      s.input_tokens = 90, s.output_tokens = 10, s.nanodollars = 7;
      desk.settle(ask_now(desk, r, now).id, s, now);
    }
  }
};

TEST_F(OverARestart, a_call_that_the_provider_refused_takes_nothing_of_a_plans_day) {
  auto before = desk(kStart);
  auto r = wanted();
  r.plan = 1;
  Settlement refused;
  refused.error = CallError::rate_limited;
  refused.was_sent = true;
  before.settle(ask_now(before, r).id, refused, kStart);
  EXPECT_EQ(before.status(kStart).plans[1].tokens_today, 0);
}

TEST_F(OverARestart, what_the_day_has_used_is_known_and_leaves_the_window_as_it_came) {
  auto before = desk(kStart);
  use(before, 100, kStart);
  use(before, 200, kStart + 10h);
  EXPECT_TRUE(before.day_use_moved());
  const auto kept = before.day_use(kEpoch, kStart + 11h);
  EXPECT_FALSE(before.day_use_changed());
  auto after = desk(kStart);  // whose clock begins anew
  after.restore(kept, false, kEpoch + 60, kStart);
  const auto status = after.status(kStart);
  EXPECT_EQ(status.providers[0].limits.at(0).used, 300);
  EXPECT_EQ(status.providers[0].spent_today_nanodollars, 2'100);
  EXPECT_EQ(status.plans[1].tokens_today, 30'000);
  EXPECT_EQ(after.status(kStart + 13h + 30min).providers[0].limits.at(0).used, 200) << "the first hundred are a day old";
  EXPECT_EQ(after.status(kStart + 23h + 30min).providers[0].limits.at(0).used, 0);
}

TEST_F(OverARestart, after_a_kill_no_more_is_used_than_the_limit_allows) {
  auto before = desk(kStart);
  DayUse kept;
  int used = 0;
  for (; used < 990; ++used) {
    use(before, 1, kStart);
    if (before.day_use_moved()) kept = before.day_use(kEpoch, kStart);
  }
  auto after = desk(kStart);
  after.restore(kept, true, kEpoch, kStart);
  const auto known = after.status(kStart).providers[0].limits.at(0).used;
  EXPECT_GE(known, used);
  EXPECT_LE(known, used + 1'000 * LeaseDesk::kDayMargin);
}

TEST_F(OverARestart, after_a_kill_the_margin_counts_as_used_now_whatever_was_used_before) {
  const auto used_after = [](const DayUse& kept, std::int64_t epoch) {
    auto after = desk(kStart);
    after.restore(kept, true, epoch, kStart);
    return after.status(kStart).providers[0].limits.at(0).used;
  };
  EXPECT_EQ(used_after(desk(kStart).day_use(kEpoch, kStart), kEpoch), 10) << "nothing was used when it was kept";
  auto before = desk(kStart);
  use(before, 100, kStart);
  EXPECT_EQ(used_after(before.day_use(kEpoch, kStart), kEpoch + 90'000), 10) << "what was used is more than a day old";
}

}  // namespace
}  // namespace onboarding::model
