#include "actors/model/policy/lease_desk.hpp"

#include <algorithm>
#include <limits>

#include "events/domain/assertion.hpp"

namespace onboarding::model {
namespace {

// What a limit a minute may keep somebody waiting, debts at a start included.
constexpr std::chrono::minutes kSoon{5};
constexpr std::chrono::milliseconds kFirstHold{1'000}, kLongestHold{60'000};
constexpr std::chrono::seconds kKeptTogether{900};
// Of a limit a day that is shared: what a server holds beyond what it used, at rest and while somebody waits; tokens of some calls at least.
// It is held in whole steps, so that the day behind does not give it back drop by drop.
constexpr std::int64_t kDaySteps = 100, kDayStepsInUse = 32, kDayTokens = 4'000;
// Sessions in a row whose answers ended at their cap: an alert.
constexpr std::size_t kCutOffsToTell = 5;
// So many calls that are overdue, and no answer meanwhile, make a provider suspected of hanging.
constexpr std::size_t kSuspicious = 2;
constexpr std::chrono::seconds kLeastOverdue{5};
constexpr double kOverdueLatencies = 4;
// Before anything was learned of a provider.
constexpr std::chrono::milliseconds kSupposedLatency{1'000};
constexpr double kSupposedOutput = 100;
// A newcomer's forecast stands so long, and while the queue is as long within a twentieth: it is asked for with every call.
constexpr std::chrono::milliseconds kForecastFor{100};

std::vector<std::uint32_t> shares_of(const std::vector<PlanSettings>& plans) {
  std::vector<std::uint32_t> shares{1};
  for (const auto& p : plans) shares.push_back(p.share);
  return shares;
}

std::string seconds(std::chrono::nanoseconds t) {
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(t).count();
  return std::to_string(ms / 1000) + "." + std::to_string(ms % 1000 / 100) + " s";
}

std::int64_t milliseconds_until(Instant t, Instant now) {
  return std::max<std::int64_t>(0, std::chrono::duration_cast<std::chrono::milliseconds>(t - now).count());
}

}  // namespace

LeaseDesk::LeaseDesk(std::vector<ProviderSettings> settings, const std::vector<std::string>& fallback_order, Instant start,
                     std::size_t max_waiting, const std::vector<PlanSettings>& plans, const QueueSettings& queue)
    : settings_(std::move(settings)),
      routing_(settings_, fallback_order),
      queue_(shares_of(plans)),
      queue_mode_(queue),
      max_waiting_(max_waiting) {
  ONBOARDING_ASSERT(settings_.size() <= 32, "a ProviderSet has 32 places");
  desks_.resize(settings_.size());
  for (std::uint32_t p = 0; p < settings_.size(); ++p) add_lane(p, settings_[p].model, start);
  plans_.emplace_back();
  for (const auto& plan : plans) {
    plans_.push_back({plan, std::nullopt});
    if (plan.tokens_per_day > 0)
      plans_.back().tokens.emplace(static_cast<std::int64_t>(plan.tokens_per_day), std::chrono::hours(24), 0, start);
  }
  for (const auto& plan : plans_) {
    auto& lanes = lane_of_.emplace_back();
    for (std::uint32_t p = 0; p < settings_.size(); ++p) {
      const auto named = plan.settings.models.find(settings_[p].name);
      lanes.push_back(named == plan.settings.models.end() || named->second.empty() ? p : add_lane(p, named->second, start));
    }
  }
  weigh(start);
}

std::uint32_t LeaseDesk::add_lane(std::uint32_t provider, const std::string& model, Instant start) {
  for (std::uint32_t l = 0; l < lanes_.size(); ++l)
    if (lanes_[l].provider == provider && lanes_[l].model == model) return l;
  ONBOARDING_ASSERT(lanes_.size() < 64, "a LaneSet has 64 places");
  lanes_.push_back({provider, model, Budget(settings_[provider], start), {}, {}, {}, 0, 0});
  return static_cast<std::uint32_t>(lanes_.size() - 1);
}

ProviderSet LeaseDesk::usable(Instant now) const {
  ProviderSet set = 0;
  for (std::uint32_t p = 0; p < desks_.size(); ++p)
    if (settings_[p].enabled && desks_[p].breaker.admits(now)) set |= 1u << p;
  return set;
}

// While it hangs, new calls would wait for their time-out, too: they go to others, where there are any. It is given calls again when its
// overdue calls have ended: by an answer, of which the first words are enough, or by their time-outs, which the breaker counts.
void LeaseDesk::suspect(std::uint32_t p, Instant now) {
  auto& desk = desks_[p];
  std::size_t overdue = 0;
  for (const auto& [since, id] : desk.calls_since) {
    const auto& latency = lanes_[leases_.at(id).lane].latency_ms;
    const auto usual = std::chrono::duration<double, std::milli>(latency.known() ? kOverdueLatencies * latency.upper(1) : 0);
    const auto most =
        std::max(std::chrono::nanoseconds(kLeastOverdue), std::chrono::duration_cast<std::chrono::nanoseconds>(usual));
    if (now - since < most || now - desk.answered_at < most || ++overdue == kSuspicious) break;
  }
  if (std::exchange(desk.suspected, overdue >= kSuspicious) == desk.suspected) return;
  tell(desk.suspected ? "suspected" : "trusted", p,
       desk.suspected ? "calls are overdue and none is answered: new ones go elsewhere" : "no calls are overdue any more");
}

ProviderSet LeaseDesk::trusted(ProviderSet allowed) const {
  auto set = allowed;
  for (std::uint32_t p = 0; p < desks_.size(); ++p)
    if (desks_[p].suspected) set &= ~(ProviderSet{1} << p);
  return set != 0 ? set : allowed;
}

LeaseDesk::Ticket LeaseDesk::ask(const LeaseRequest& request, Instant now) {
  const auto ticket = next_ticket_++;
  asked_input_.learn(request.input_tokens);
  asked_cap_.learn(request.output_tokens);
  if ((usable(now) & ~request.exclude) == 0) {
    deny(ticket, LeaseStatus::no_provider);
    return ticket;
  }
  if (queue_.size() >= max_waiting_) {
    const auto last = queue_.least_urgent();
    if (!last || !queue_.stands_before(request, *last)) {
      deny(ticket, LeaseStatus::queue_full);
      return ticket;
    }
    // The last of the least urgent makes room for somebody before.
    leave(*last, LeaseStatus::queue_full, now);
  }
  queue_.add(ticket, request, now, std::chrono::nanoseconds(0));
  came_.push_back(ticket);
  return ticket;
}

void LeaseDesk::deny(Ticket ticket, LeaseStatus status) { denied_.push_back({ticket, {status, 0, 0, {}}}); }

void LeaseDesk::leave(Ticket ticket, LeaseStatus status, Instant now) {
  // Who waited in vain waited longer than was said, if that was less.
  const auto& e = queue_.at(ticket);
  if (status == LeaseStatus::deadline && e.promised.count() > 0) forecast_.learn(e.promised, now - e.asked, now);
  deny(ticket, status);
  queue_.remove(ticket);
}

LeaseDesk::Round LeaseDesk::advance(Instant now) {
  Round round;
  expire(now, round);
  for (std::uint32_t p = 0; p < desks_.size(); ++p) suspect(p, now);
  queue_.age(now);
  serve_queue(now, round);
  for (const auto ticket : came_)
    if (queue_.find(ticket)) {
      auto& e = queue_.at(ticket);
      e.promised = std::min<std::chrono::nanoseconds>(forecast(queue_.ahead(ticket), e.request.plan, now),
                                                      std::max(e.request.deadline - now, std::chrono::nanoseconds(1)));
    }
  came_.clear();
  if (queue_mode_.update(queue_.sessions(), now))
    tell(queue_mode_.queueing() ? "queue_mode_on" : "queue_mode_off", std::nullopt,
         queue_mode_.queueing() ? queue_mode_.why() : "calm again");
  weigh(now);
  round.decisions.insert(round.decisions.end(), denied_.begin(), denied_.end());
  denied_.clear();
  round.news = std::exchange(news_, {});
  round.actual_over_promised = std::exchange(actual_over_promised_, {});
  return round;
}

void LeaseDesk::expire(Instant now, Round& round) {
  while (!expiries_.empty() && expiries_.begin()->first <= now) {
    const auto id = expiries_.begin()->second;
    Settlement lost;
    lost.error = CallError::timeout;
    lost.was_sent = true;
    settle(id, lost, now);
    round.expired.push_back(id);
  }
  while (const auto late = queue_.overdue(now)) leave(*late, LeaseStatus::deadline, now);
}

// Who is refused by a lane's budget keeps those behind from taking it, so that a dear request is not starved by cheap ones; they
// may still take other lanes.
void LeaseDesk::serve_queue(Instant now, Round& round) {
  LaneSet blocked = 0;
  wake_ = Instant::max();
  for (int priority = 0; priority < FairQueue::kPriorities; ++priority) {
    auto classes = queue_.classes(static_cast<Priority>(priority));
    while (!classes.empty()) {
      const auto next = queue_.next_of(classes);
      const auto key = classes[next];
      const auto before = queue_.size();
      const auto first = queue_.first(key, kLookAhead);
      const auto fits = fitting(key, first, blocked, now);
      const bool decided = serve(first[fits], blocked, now, round);
      for (std::size_t i = 0; decided && i < fits; ++i) ++queue_.at(first[i]).overtaken;
      ONBOARDING_ASSERT(decided == (queue_.size() < before), "who is decided waits no more");
      if (!decided || !queue_.has(key)) classes.erase(classes.begin() + static_cast<std::ptrdiff_t>(next));
    }
  }
  if (queue_.size() > 0)
    for (const auto& d : desks_)
      if (!d.breaker.closed() && d.breaker.open_until() > now) wake_ = std::min(wake_, d.breaker.open_until());
}

// A window that holds few calls would stay unused by half a call on average, if it always had to be the next one's turn.
std::size_t LeaseDesk::fitting(const FairQueue::ClassKey& key, const std::vector<Ticket>& first, LaneSet blocked, Instant now) {
  if (first.size() == 1 || queue_.at(first.front()).overtaken >= kMostOvertaken) return 0;
  const auto allowed = trusted(usable(now) & ~key.exclude);
  std::size_t best = 0;
  double best_left = -1;
  for (std::uint32_t p = 0; p < desks_.size(); ++p) {
    const auto lane = lane_of_[key.plan][p];
    if (!((allowed >> p) & 1u) || ((blocked >> lane) & 1u)) continue;
    for (std::size_t i = 0; i < first.size(); ++i) {
      const auto cost = estimate(lanes_[lane], queue_.at(first[i]).request);
      if (allowed_ && (lanes_[lane].starved || !lanes_[lane].budget.fits(cost))) continue;
      const Cost twice{2 * cost.input_tokens, 2 * cost.output_tokens, 2 * cost.output_cap, 2 * cost.nanodollars};
      if (i == 0 && lanes_[lane].budget.left_after(twice, now) >= 0) return 0;
      const auto left = lanes_[lane].budget.left_after(cost, now);
      // The least that is left; while nothing fits, what will fit first.
      if (best_left < 0 ? left > best_left : left >= 0 && left < best_left) best = i, best_left = left;
    }
  }
  return best;
}

// Every budget that it may use is used up far beyond its deadline, as no limit a minute ever is: a limit a day,
// or a provider's long pause. Where the end of a call may free a place, nobody knows when.
bool LeaseDesk::hopeless(const LeaseRequest& request, ProviderSet allowed, Instant now) {
  for (std::uint32_t p = 0; p < desks_.size(); ++p) {
    if (!((allowed >> p) & 1u)) continue;
    auto& lane = lanes_[lane_of_[request.plan][p]];
    // A larger share mends no pause.
    if (lane.may_grow && lane.budget.held_until() <= request.deadline + kSoon) return false;
    const auto at = admits_at(lane, request, now);
    if (at <= request.deadline + kSoon || at == Instant::max()) return false;
  }
  return true;
}

// False: it goes on waiting.
bool LeaseDesk::serve(Ticket ticket, LaneSet& blocked, Instant now, Round& round) {
  auto& e = queue_.at(ticket);
  const auto& request = e.request;
  const ProviderSet allowed = trusted(usable(now) & ~request.exclude);
  if (allowed == 0) return leave(ticket, LeaseStatus::no_provider, now), true;
  auto& plan = plans_[request.plan];
  if (plan.tokens) {
    const std::int64_t tokens = request.input_tokens + request.output_tokens;
    // What is dearer than the whole is tried, what is dearer than a share would break the others'.
    const bool beyond_share = allowed_ && (plan.starved || tokens > plan.tokens->limit());
    if (beyond_share || !plan.tokens->admits(tokens, now)) {
      if (allowed_ && (plan.starved || plan.may_grow)) {
        plan.lacks = std::max(plan.lacks, tokens);
        return false;
      }
      return leave(ticket, LeaseStatus::plan_limit, now), true;
    }
  }
  ProviderSet with_budget = 0;
  for (std::uint32_t p = 0; p < desks_.size(); ++p) {
    const auto lane = lane_of_[request.plan][p];
    const LaneSet bit = LaneSet{1} << lane;
    if (!((allowed >> p) & 1u) || (blocked & bit)) continue;
    const auto at = admits_at(lanes_[lane], request, now);
    if (at <= now) {
      with_budget |= 1u << p;
      continue;
    }
    blocked |= bit;
    wake_ = std::min(wake_, at);
    if (!(e.refused & bit)) {
      e.refused |= bit;
      ++desks_[p].held_back;
      round.refused_by_budget.push_back(p);
    }
  }
  const auto chosen = routing_.choose(with_budget, request.avoid);
  // Nothing comes free before the answer is of no use: told now, the offline extractor can answer now.
  if (!chosen && hopeless(request, allowed, now)) return leave(ticket, LeaseStatus::deadline, now), true;
  if (!chosen) return false;
  // Not when it is the same one's turn again, whether nobody else can or nobody else may.
  const auto bit = ProviderSet{1} << *chosen;
  if (((request.avoid | request.exclude) & ~bit) != 0 && !(request.avoid & bit) && request.exclude != ~bit)
    tell("fallback", *chosen, "another provider failed or cannot take this request");
  round.decisions.push_back({ticket, grant(lane_of_[request.plan][*chosen], ticket, now)});
  return true;
}

Cost LeaseDesk::estimate(const Lane& lane, const LeaseRequest& r) const {
  const auto index = static_cast<std::uint32_t>(&lane - lanes_.data());
  Cost c;
  c.input_tokens = estimates_.input_tokens(lane.provider, r.script, r.input_tokens, lane.budget.in_flight());
  c.output_tokens = estimates_.output_tokens(index, r.flow, r.output_tokens, lane.budget.in_flight());
  c.output_cap = r.output_tokens;
  c.nanodollars = (c.input_tokens * lane.input_price + c.output_tokens * lane.output_price) / 1'000;
  return c;
}

Instant LeaseDesk::admits_at(Lane& lane, const LeaseRequest& request, Instant now) {
  const auto& desk = desks_[lane.provider];
  if (desk.in_flight >= desk.breaker.most_in_flight(now)) return desk.breaker.next_step(now);
  const auto cost = estimate(lane, request);
  if (allowed_ && (lane.starved || !lane.budget.fits(cost))) return Instant::max();
  return lane.budget.admits_at(cost, now);
}

LeaseGrant LeaseDesk::grant(std::uint32_t lane_index, Ticket ticket, Instant now) {
  const auto& e = queue_.at(ticket);
  const auto& request = e.request;
  auto& lane = lanes_[lane_index];
  auto& desk = desks_[lane.provider];
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(request.deadline - now);
  const auto timeout = std::max(std::chrono::milliseconds(1), std::min(settings_[lane.provider].timeout, left));
  const auto id = next_lease_++;
  Lease lease{lane_index,
              lane.budget.reserve(estimate(lane, request), now),
              now + timeout + kExpiryMargin,
              desk.breaker.begin(),
              request.plan,
              0,
              request.turn,
              request.flow,
              request.script,
              request.input_tokens,
              e.asked,
              e.promised,
              request.session};
  if (auto& tokens = plans_[request.plan].tokens) {
    lease.plan_tokens = tokens->clamp(request.input_tokens + request.output_tokens);
    tokens->take(lease.plan_tokens, now);
  }
  // Whatever has no limit counts, too, if only a little: it is kept at times.
  auto part = 1e-9;
  for (const auto& [name, rate] : lane.budget.days())
    part = std::max(
        part, (name == to_string(Dimension::requests_per_day) ? 1.0 : static_cast<double>(lease.reservation.cost.nanodollars)) /
                  static_cast<double>(rate->limit()));
  if (const auto& tokens = plans_[request.plan].tokens)
    part = std::max(part, static_cast<double>(lease.plan_tokens) / static_cast<double>(tokens->limit()));
  day_taken_ += part;
  if (lease.probe) tell("probe", lane.provider, "the breaker's time is over");
  expiries_.emplace(lease.expires, id);
  running_.insert(lease.turn);
  desk.calls_since.emplace(now, id);
  leases_.emplace(id, std::move(lease));
  ++desk.calls;
  ++desk.in_flight;
  queue_.served(ticket, now);
  return {LeaseStatus::granted, id, lane.provider, timeout};
}

void LeaseDesk::began(LeaseId id, Instant now) {
  const auto it = leases_.find(id);
  if (it == leases_.end()) return;
  auto& desk = desks_[lanes_[it->second.lane].provider];
  desk.calls_since.erase({it->second.reservation.taken_at, id});
  desk.answered_at = now;
}

void LeaseDesk::settle(LeaseId id, const Settlement& s, Instant now) {
  const auto it = leases_.find(id);
  if (it == leases_.end()) return;
  const auto lease = it->second;
  leases_.erase(it);
  expiries_.erase({lease.expires, id});
  running_.erase(running_.find(lease.turn));
  auto& lane = lanes_[lease.lane];
  desks_[lane.provider].calls_since.erase({lease.reservation.taken_at, id});
  --desks_[lane.provider].in_flight;
  const bool refused = s.error != CallError::none && s.error != CallError::timeout && s.error != CallError::connection &&
                       s.error != CallError::truncated && s.error != CallError::cancelled &&
                       s.error != CallError::invalid_answer && s.error != CallError::refused && s.error != CallError::cut_off;
  Spent spent{s.was_sent, refused, s.input_tokens, s.cached_input_tokens, s.output_tokens, s.nanodollars};
  if (spent.nanodollars < 0 && (s.input_tokens >= 0 || s.output_tokens >= 0))
    spent.nanodollars = (std::max<std::int64_t>(s.input_tokens, 0) * lane.input_price +
                         std::max<std::int64_t>(s.output_tokens, 0) * lane.output_price) /
                        1'000;
  lane.budget.settle(lease.reservation, spent, now);
  for (const auto& name : lane.budget.correct(s.remaining, s.limits, s.reset, now))
    tell("limit_corrected", lane.provider, "the provider's headers tell another " + name);
  // A stream that broke off was begun, and is billed: at what was thought.
  const auto cost = spent.nanodollars >= 0 ? spent.nanodollars : refused ? 0 : lease.reservation.cost.nanodollars;
  if (spent.was_sent && cost > 0) desks_[lane.provider].spent.take(cost, now);
  if (s.usage_refused && !desks_[lane.provider].usage_refused)
    tell("usage_refused", lane.provider, "it tells more tokens than the call can have used; our estimate stands", true);
  if (s.usage_refused || s.input_tokens >= 0) desks_[lane.provider].usage_refused = s.usage_refused;
  if (auto& tokens = plans_[lease.plan].tokens) {
    const auto real = !s.was_sent           ? 0
                      : s.input_tokens >= 0 ? s.input_tokens + std::max<std::int64_t>(s.output_tokens, 0)
                      : refused             ? 0
                                            : lease.plan_tokens;
    tokens->give_back(lease.plan_tokens - real, lease.reservation.taken_at, now);
  }
  learn(lease, s, now);
  judge(lane.provider, lease, s, now);
}

void LeaseDesk::learn(const Lease& lease, const Settlement& s, Instant now) {
  if (s.error != CallError::none) return;
  auto& lane = lanes_[lease.lane];
  if (s.input_tokens >= 0) {
    const auto counted = s.input_tokens - (settings_[lane.provider].counting.cached_input_counts ? 0 : s.cached_input_tokens);
    estimates_.learn_input(lane.provider, lease.script, lease.estimated_input, counted);
    lane.input.learn(static_cast<double>(counted));
  }
  if (s.output_tokens >= 0) {
    estimates_.learn_output(lease.lane, lease.flow, s.output_tokens);
    lane.output.learn(static_cast<double>(s.output_tokens));
  }
  lane.latency_ms.learn(std::chrono::duration<double, std::milli>(now - lease.reservation.taken_at).count());
  if (lease.promised.count() == 0) return;
  const auto actual = now - lease.asked;
  forecast_.learn(lease.promised, actual, now);
  actual_over_promised_.push_back(static_cast<double>(actual.count()) / static_cast<double>(lease.promised.count()));
}

void LeaseDesk::judge(std::uint32_t p, const Lease& lease, const Settlement& s, Instant now) {
  auto& desk = desks_[p];
  if (s.error != CallError::none && s.error != CallError::cancelled) {
    ++desk.failures;
    desk.last_error = to_string(s.error);
  }
  switch (s.error) {
    case CallError::none:
      desk.hold = {};
      desk.answered_at = now;
      desk.blamed.clear();
      desk.cut_off.clear();
      if (desk.breaker.succeeded(now, lease.probe)) tell("breaker_closed", p, "the probe succeeded: ramping up");
      return;
    case CallError::rate_limited:
    case CallError::slow_down:
      ++desk.rate_limited;
      queue_mode_.rate_limited(now);
      desk.breaker.undecided(lease.probe);
      hold(p, lease, s, now);
      return;
    case CallError::cut_off:
      if (desk.cut_off.size() < kCutOffsToTell && desk.cut_off.insert(lease.session).second &&
          desk.cut_off.size() == kCutOffsToTell)
        tell("cut_off", p, "the answers to " + std::to_string(kCutOffsToTell) + " sessions in a row were longer than their cap",
             true);
      [[fallthrough]];
    case CallError::cancelled:
    case CallError::too_large:
    case CallError::refused:
    case CallError::context_too_long:  // tells about the request, not about the provider
      desk.breaker.undecided(lease.probe);
      return;
    case CallError::model_not_found:
      // A plan's own model is missing to that plan alone.
      if (auto& lane = lanes_[lease.lane]; lane.model != settings_[p].model) {
        desk.breaker.undecided(lease.probe);
        if (lane.budget.held_until() <= now)
          tell("held", p,
               lane.model + " is not there: check the plans' models; no call of it for " + seconds(Breaker::kOpenForLong), true);
        return lane.budget.hold_until(now + Breaker::kOpenForLong);
      }
      [[fallthrough]];
    case CallError::quota_exhausted:
    case CallError::unauthorised:
      if (desk.breaker.failed_for_long(now, lease.probe))
        tell("breaker_opened", p,
             std::string(to_string(s.error)) +
                 (s.error == CallError::model_not_found ? ": check its model and its base_url"
                                                        : ": check its key and its account") +
                 "; no call for " + seconds(desk.breaker.open_until() - now),
             true);
      return;
    case CallError::bad_request:
    case CallError::invalid_answer:
      // May be the work of what one person wrote: of each session one counts, so that nobody closes it for all, and whoever answers
      // everybody so is noticed.
      if (lease.session != 0 && !desk.blamed.insert(lease.session).second && !lease.probe) {
        desk.breaker.undecided(lease.probe);
        return;
      }
      break;
    case CallError::unavailable:
    case CallError::overloaded:
    case CallError::timeout:
    case CallError::connection:
    case CallError::truncated: break;
  }
  if (desk.breaker.failed(now, lease.probe))
    tell("breaker_opened", p, std::string(to_string(s.error)) + ": no call for " + seconds(desk.breaker.open_until() - now));
}

// The provider's hint counts, within reason; without one the pause doubles with each 429 in a row. Calls that were under way when the pause
// began do not prolong it beyond their own hint. After slow_down, and after a hint beyond reason, the provider is ramped up again.
void LeaseDesk::hold(std::uint32_t p, const Lease& lease, const Settlement& s, Instant now) {
  auto& desk = desks_[p];
  auto& budget = lanes_[lease.lane].budget;
  const auto before = budget.held_until();
  if (lease.reservation.taken_at > desk.held_since || desk.hold.count() == 0) {
    desk.hold = desk.hold.count() == 0 ? kFirstHold : std::min(desk.hold * 2, kLongestHold);
    desk.held_since = now;
    if (s.retry_after.count() == 0) budget.hold_until(now + desk.hold);
  }
  const auto hint =
      std::min<std::chrono::milliseconds>(s.retry_after, s.day_limit ? std::chrono::seconds(kLongestDayHint) : kLongestHint);
  budget.hold_until(now + hint);
  // The pause of a plan's own model is nothing to those who use the provider's.
  const bool asks_too_much = hint < s.retry_after && lanes_[lease.lane].model == settings_[p].model;
  if (s.error == CallError::slow_down || asks_too_much) desk.breaker.ramp_from(budget.held_until());
  if (budget.held_until() > std::max(before, now))
    tell("held", p,
         std::string(to_string(s.error)) + " for " + seconds(budget.held_until() - now) +
             (s.day_limit            ? ": a limit of the day is used up"
              : hint < s.retry_after ? ", though it asks for " + seconds(s.retry_after)
                                     : ""),
         s.retry_after > kLongestHint);
}

std::optional<Instant> LeaseDesk::next_event() const {
  auto at = wake_;
  if (const auto next = queue_.next_event()) at = std::min(at, *next);
  if (const auto next = queue_mode_.next_event()) at = std::min(at, *next);
  if (!expiries_.empty()) at = std::min(at, expiries_.begin()->first);
  if (at == Instant::max()) return std::nullopt;
  return at;
}

std::optional<std::string> LeaseDesk::change(const ProviderChange& c, Instant now) {
  const auto named = std::find_if(settings_.begin(), settings_.end(), [&](const auto& s) { return s.name == c.name; });
  if (named == settings_.end()) return "no provider of this name is configured, with its key";
  if (c.weight && *c.weight > kGreatestWeight) return "a weight is at most " + std::to_string(kGreatestWeight);
  const auto p = static_cast<std::uint32_t>(named - settings_.begin());
  auto& s = *named;
  std::string why;
  const auto set = [&](auto& value, const auto& wanted, const char* name) {
    if (!wanted) return;
    value = *wanted;
    why += (why.empty() ? "" : ", ") + std::string(name) + " = " + std::to_string(*wanted);
  };
  set(s.enabled, c.enabled, "enabled");
  set(s.weight, c.weight, "weight");
  set(s.requests_per_minute, c.requests_per_minute, "requests_per_minute");
  set(s.requests_per_day, c.requests_per_day, "requests_per_day");
  set(s.max_concurrent, c.max_concurrent, "max_concurrent");
  set(s.tokens_per_minute, c.tokens_per_minute, "tokens_per_minute");
  set(s.input_tokens_per_minute, c.input_tokens_per_minute, "input_tokens_per_minute");
  set(s.output_tokens_per_minute, c.output_tokens_per_minute, "output_tokens_per_minute");
  set(s.spend_per_day_nanodollars, c.spend_per_day_nanodollars, "spend_per_day_nanodollars");
  const bool mended = c.enabled.value_or(false);  // by whoever switches it on
  for (auto& lane : lanes_) {
    if (lane.provider != p) continue;
    lane.budget.forget_told();
    apply_limits(lane, now);
    if (mended) lane.budget.end_hold();
  }
  if (mended) desks_[p].breaker.retry_now(now);
  weigh(now);
  tell("changed", p, why.empty() ? "nothing" : why);
  return std::nullopt;
}

namespace {

/// Visits every limit of a setting that is there, with its name.
template <class Settings, class Visit>
void each_limit(Settings& s, Visit&& visit) {
  const auto one = [&](std::string_view name, auto& value) {
    if (value > 0) visit(name, value);
  };
  one(to_string(Dimension::requests_per_minute), s.requests_per_minute);
  one(to_string(Dimension::requests_per_day), s.requests_per_day);
  one(to_string(Dimension::tokens_per_minute), s.tokens_per_minute);
  one(to_string(Dimension::input_tokens_per_minute), s.input_tokens_per_minute);
  one(to_string(Dimension::output_tokens_per_minute), s.output_tokens_per_minute);
  one(to_string(Dimension::spend_per_day_nanodollars), s.spend_per_day_nanodollars);
  one("max_concurrent", s.max_concurrent);
}

std::string limit_name(const ProviderSettings& s, const std::string& model, std::string_view limit) {
  return s.name + "/" + model + "/" + std::string(limit);
}

}  // namespace

std::map<std::string, LeaseDesk::Want> LeaseDesk::wants(Instant now) {
  std::map<std::string, Want> all;
  for (auto& lane : lanes_) {
    std::map<std::string_view, std::int64_t> used;
    for (const auto& use : lane.budget.use(now)) used[use.name] = use.used;
    each_limit(settings_[lane.provider], [&](std::string_view name, const auto& value) {
      const auto whole = static_cast<std::int64_t>(value);
      const auto full_name = limit_name(settings_[lane.provider], lane.model, name);
      if (name.find("per_day") != name.npos) all[full_name] = want_of_day(full_name, whole, used[name]);
      else all[full_name] = {whole, waiting() > 0 ? whole : std::min(whole, used[name] * 3 / 2 + whole / 100)};
    });
  }
  for (auto& plan : plans_)
    if (plan.tokens)
      all[plan.limit_name()] = want_of_day(plan.limit_name(), static_cast<std::int64_t>(plan.settings.tokens_per_day),
                                           plan.tokens->used(now), std::exchange(plan.lacks, 0));
  return all;
}

LeaseDesk::Want LeaseDesk::want_of_day(const std::string& name, std::int64_t whole, std::int64_t used, std::int64_t lacks) {
  const auto step = std::max<std::int64_t>(whole / kDaySteps, 1);
  auto more = waiting() > 0 ? std::max(step, whole / kDayStepsInUse) : step;
  if (waiting() > 0 && name.find("tokens") != name.npos) more = std::max(more, kDayTokens);
  more = std::max(more, lacks);
  const auto wanted = used == 0 && waiting() == 0 ? 0 : std::min(whole, (used + more + step - 1) / step * step);
  day_wanted_[name] = wanted;
  return {whole, wanted};
}

// It has all that it asked for: if it asks for more, it may get that.
bool LeaseDesk::may_grow(const std::string& name, std::int64_t whole, std::int64_t mine) const {
  const auto asked = day_asked_.find(name);
  return in_touch_ && mine < whole && (asked == day_asked_.end() || mine >= asked->second);
}

void LeaseDesk::share(AllowedOf allowed, bool in_touch, Instant now) {
  allowed_ = std::move(allowed);
  in_touch_ = in_touch;
  for (auto& lane : lanes_) apply_limits(lane, now);
  for (auto& plan : plans_) {
    if (!plan.tokens) continue;
    const auto whole = static_cast<std::int64_t>(plan.settings.tokens_per_day);
    const auto mine = allowed_(plan.limit_name(), whole);
    plan.starved = mine <= 0;
    plan.may_grow = may_grow(plan.limit_name(), whole, mine);
    plan.tokens->change(std::max<std::int64_t>(mine, 1), now);
  }
}

void LeaseDesk::apply_limits(Lane& lane, Instant now) {
  auto s = settings_[lane.provider];
  lane.starved = lane.may_grow = false;
  if (allowed_)
    each_limit(s, [&](std::string_view name, auto& value) {
      const auto full_name = limit_name(s, lane.model, name);
      const auto whole = static_cast<std::int64_t>(value);
      const auto mine = allowed_(full_name, whole);
      lane.starved = lane.starved || mine <= 0;
      if (name.find("per_day") != name.npos) lane.may_grow = lane.may_grow || may_grow(full_name, whole, mine);
      value = static_cast<std::decay_t<decltype(value)>>(std::max<std::int64_t>(mine, 1));
    });
  lane.budget.change(s, now);
}

void LeaseDesk::each_day(const std::function<void(const std::string& name, RateLimit&)>& visit) {
  for (auto& lane : lanes_)
    for (const auto& [name, rate] : lane.budget.days()) visit(limit_name(settings_[lane.provider], lane.model, name), *rate);
  for (std::uint32_t p = 0; p < desks_.size(); ++p) visit(settings_[p].name + "/spent", desks_[p].spent);
  for (auto& plan : plans_)
    if (plan.tokens) visit("plan/" + plan.settings.name, *plan.tokens);
}

DayUse LeaseDesk::day_use(std::int64_t epoch_now, Instant now) {
  DayUse all;
  each_day([&](const std::string& name, RateLimit& rate) {
    auto& entry = all.of[name];
    std::int64_t began = 0;  // a file's worth: what was used within kKeptTogether counts as used at the end of it
    for (const auto& [age, amount] : rate.history(now)) {
      const auto at = epoch_now - std::chrono::duration_cast<std::chrono::seconds>(age).count();
      if (entry.used.empty() || at - began >= kKeptTogether.count()) entry.used.emplace_back(began = at, 0);
      entry.used.back().first = at;
      entry.used.back().second += amount;
    }
    if (rate.limit() != kNoLimit)
      entry.margin = std::max<std::int64_t>(1, static_cast<std::int64_t>(kDayMargin * static_cast<double>(rate.limit())));
  });
  day_taken_ = 0;
  return all;
}

void LeaseDesk::restore(const DayUse& kept, bool margin, std::int64_t epoch_now, Instant now) {
  each_day([&](const std::string& name, RateLimit& rate) {
    const auto found = kept.of.find(name);
    if (found == kept.of.end()) return;
    const auto& [used, more] = found->second;
    for (const auto& [at, amount] : used) rate.restore(std::chrono::seconds(epoch_now - at), amount, now);
    if (margin) rate.restore(std::chrono::seconds(0), more, now);  // it may have been used just now
  });
}

std::vector<std::pair<std::uint32_t, std::string>> LeaseDesk::models() const {
  std::vector<std::pair<std::uint32_t, std::string>> all;
  for (const auto& lane : lanes_) all.emplace_back(lane.provider, lane.model);
  return all;
}

void LeaseDesk::set_prices(std::uint32_t provider, std::string_view model, std::int64_t input, std::int64_t output) {
  for (auto& lane : lanes_)
    if (lane.provider == provider && lane.model == model) lane.input_price = input, lane.output_price = output;
}

// Until enough of its calls are known, what was asked for lately.
Cost LeaseDesk::usual_cost(const Lane& lane) const {
  const auto whole = [](double tokens) { return static_cast<std::int64_t>(std::max(tokens, 1.0)); };
  Cost c;
  c.input_tokens = whole(lane.input.known() ? lane.input.mean() : asked_input_.mean());
  c.output_tokens = whole(lane.output.known() ? lane.output.mean() : std::min(asked_cap_.mean(), kSupposedOutput));
  c.output_cap = whole(asked_cap_.mean());
  c.nanodollars = (c.input_tokens * lane.input_price + c.output_tokens * lane.output_price) / 1'000;
  return c;
}

std::chrono::nanoseconds LeaseDesk::forecast(const FairQueue::Ahead& ahead, std::uint32_t plan, Instant now) {
  struct Source {
    Lane* lane;
    Cost cost;
    std::chrono::nanoseconds latency, closed_for;
  };
  std::vector<Source> sources;
  double latency_ms = 0;
  for (std::uint32_t p = 0; p < desks_.size(); ++p) {
    if (!settings_[p].enabled) continue;
    auto& lane = lanes_[lane_of_[plan][p]];
    Source s{&lane, usual_cost(lane), kSupposedLatency, std::chrono::nanoseconds(0)};
    if (lane.latency_ms.known()) s.latency = std::chrono::nanoseconds(static_cast<std::int64_t>(lane.latency_ms.mean() * 1e6));
    if (!desks_[p].breaker.closed())
      s.closed_for = std::max<std::chrono::nanoseconds>(desks_[p].breaker.open_until() - now, s.closed_for);
    latency_ms = std::max(latency_ms, std::chrono::duration<double, std::milli>(s.latency).count());
    sources.push_back(s);
  }
  const auto admitted = [&](std::chrono::nanoseconds ahead) {
    double calls = 0;
    for (const auto& s : sources)
      if (ahead >= s.closed_for) calls += s.lane->budget.calls_within(ahead - s.closed_for, s.cost, s.latency, now);
    return calls;
  };
  return forecast_.wait([&](std::chrono::nanoseconds within) { return 1 + ahead.turns(within); }, admitted,
                        std::chrono::nanoseconds(static_cast<std::int64_t>(latency_ms * 1e6)));
}

QueuePlace LeaseDesk::place_of(const FairQueue::Ahead& ahead, std::uint32_t plan, Instant now) {
  return {static_cast<std::uint32_t>(FairQueue::position(ahead)),
          std::chrono::duration_cast<std::chrono::milliseconds>(forecast(ahead, plan, now))};
}

QueuePlace LeaseDesk::place(const Standing& of, Instant now) {
  if (running_.contains(of.turn)) return {};
  const auto ticket = queue_.of_turn(of.turn);
  if (!ticket)
    return queue_.size() == 0 ? QueuePlace{} : place_of(queue_.ahead(Priority::queued_turn, of.plan, of.arrived), of.plan, now);
  const auto& request = queue_.at(*ticket).request;
  auto place = place_of(queue_.ahead(*ticket), request.plan, now);
  // At its deadline it is answered in any case.
  place.eta = std::clamp(std::chrono::duration_cast<std::chrono::milliseconds>(request.deadline - now),
                         std::chrono::milliseconds(0), place.eta);
  return place;
}

QueuePlace LeaseDesk::newcomer(Instant now) {
  const auto ahead = queue_.ahead(Priority::queued_turn, 0, std::numeric_limits<std::int64_t>::max());
  const auto position = static_cast<std::uint32_t>(FairQueue::position(ahead));
  const auto moved = position > newcomer_.position ? position - newcomer_.position : newcomer_.position - position;
  if (now >= newcomer_until_ || moved * 20 > position) {
    newcomer_ = place_of(ahead, 0, now);
    newcomer_until_ = now + kForecastFor;
  }
  return {position, newcomer_.eta};
}

void LeaseDesk::weigh(Instant now) {
  std::vector<std::uint32_t> weights;
  std::vector<std::int64_t> prices;
  for (std::uint32_t p = 0; p < settings_.size(); ++p) {
    weights.push_back(settings_[p].weight);
    prices.push_back(usual_cost(lanes_[p]).nanodollars);
  }
  const auto pressure = queue_.size() == 0 ? 0.0 : spike_pressure(newcomer(now).eta);
  routing_.set_weights(weights_in_force(weights, prices, pressure));
}

void LeaseDesk::tell(std::string_view what, std::optional<std::uint32_t> provider, std::string why, bool alert) {
  news_.push_back({what, provider, std::move(why), alert});
}

ModelStatus LeaseDesk::status(Instant now) {
  ModelStatus m;
  for (std::uint32_t p = 0; p < settings_.size(); ++p) {
    auto& d = desks_[p];
    auto& s = m.providers.emplace_back();
    s.name = settings_[p].name;
    s.model = settings_[p].model;
    s.enabled = settings_[p].enabled;
    s.healthy = d.breaker.closed();
    s.breaker = d.suspected && s.healthy ? "suspected" : d.breaker.state(now);
    if (!s.healthy) s.breaker_opens_in_ms = milliseconds_until(d.breaker.open_until(), now);
    s.last_error = d.last_error;
    s.weight = settings_[p].weight;
    s.effective_weight = routing_.weight(p);
    s.in_flight = d.in_flight;
    s.calls_total = d.calls;
    s.failures_total = d.failures;
    s.rate_limited_total = d.rate_limited;
    s.held_back_total = d.held_back;
    s.spent_today_nanodollars = d.spent.used(now);
    s.wait_ms = milliseconds_until(lanes_[p].budget.would_admit(usual_cost(lanes_[p]), now), now);
    for (auto& lane : lanes_) {
      if (lane.provider != p) continue;
      s.held_ms = std::max(s.held_ms, milliseconds_until(lane.budget.held_until(), now));
      for (const auto& u : lane.budget.use(now))
        s.limits.push_back(
            {lane.model == s.model ? std::string(u.name) : std::string(u.name) + " of " + lane.model, u.limit, u.used});
    }
    // Whoever waits waits for all that could serve him.
    if (s.enabled) s.waiting = static_cast<std::int64_t>(queue_.size());
  }
  for (std::uint32_t i = 0; i < plans_.size(); ++i) {
    auto& plan = plans_[i];
    m.plans.push_back({i == 0 ? "" : plan.settings.name, plan.settings.share, static_cast<std::int64_t>(queue_.waiting(i)),
                       plan.tokens ? plan.tokens->used(now) : 0, static_cast<std::int64_t>(plan.settings.tokens_per_day)});
  }
  m.waiting = static_cast<std::int64_t>(queue_.size());
  m.queue_mode = queue_mode_.mode();
  m.queueing = queue_mode_.queueing();
  m.queueing_why = queue_mode_.why();
  m.rate_limit_errors_5m = queue_mode_.errors(now);
  return m;
}

}  // namespace onboarding::model
