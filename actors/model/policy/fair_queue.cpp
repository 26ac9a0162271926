#include "actors/model/policy/fair_queue.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "events/domain/assertion.hpp"

namespace onboarding::model {
namespace {

// Of what is learned of those who come back: the newest some 64; what is supposed at first counts like so many.
constexpr double kLearned = 64, kSupposed = 4;

std::int64_t tag_of(const LeaseRequest& r) { return r.again ? std::numeric_limits<std::int64_t>::min() : r.arrived; }

void insert(std::map<std::uint32_t, FairQueue::Order>& orders, std::uint32_t further, const FairQueue::Place& place) {
  if (further > 0) orders[further].insert(place);
}

void erase(std::map<std::uint32_t, FairQueue::Order>& orders, std::uint32_t further, const FairQueue::Place& place) {
  const auto it = orders.find(further);
  if (it == orders.end()) return;
  it->second.erase(place);
  if (it->second.empty()) orders.erase(it);
}

}  // namespace

FairQueue::FairQueue(const std::vector<std::uint32_t>& shares) {
  for (const auto share : shares) plans_.emplace_back().share = std::max<std::uint32_t>(share, 1);
}

const FairQueue::Entry* FairQueue::find(Ticket ticket) const {
  const auto it = entries_.find(ticket);
  return it == entries_.end() ? nullptr : &it->second;
}

void FairQueue::add(Ticket ticket, const LeaseRequest& request, Instant now, std::chrono::nanoseconds promised) {
  auto& plan = plans_[request.plan];
  if (const auto thinking = thinking_.find(request.session); thinking != thinking_.end()) {
    came_back(true, now - thinking->second.since);
    no_longer_thinks(request.session);
  }
  Entry e{request, now, request.priority, tag_of(request), now, 0, 0, promised};
  e.priority = begins_at(request, {e.tag, ticket});
  // A plan that had nothing to ask for has saved nothing up.
  if (plan.waiting++ == 0) plan.pass = std::max(plan.pass, newest_pass_);
  insert(plan.wait, further(request), {e.tag, ticket});
  deadlines_.emplace(request.deadline, ticket);
  put(e, ticket);
  watch_age(e, ticket, now);
  ++sessions_[request.session];
  turns_[request.turn] = ticket;
  entries_.emplace(ticket, std::move(e));
}

// Somebody of the same kind who came later may have moved up already: then it does not stand behind that one.
Priority FairQueue::begins_at(const LeaseRequest& request, const Place& place) const {
  for (int p = 0; p < static_cast<int>(request.priority); ++p) {
    const auto aged = by_age_.find({request.plan, request.priority, static_cast<Priority>(p)});
    if (aged != by_age_.end() && place < *aged->second.rbegin()) return static_cast<Priority>(p);
  }
  return request.priority;
}

void FairQueue::put(const Entry& e, Ticket ticket) {
  const Place place{e.tag, ticket};
  classes_[key_of(e)].insert(place);
  by_age_[aging_key(e)].insert(place);
  urgency_.insert({e.priority, place});
}

void FairQueue::take(const Entry& e, Ticket ticket) {
  const Place place{e.tag, ticket};
  const auto in_class = classes_.find(key_of(e));
  in_class->second.erase(place);
  if (in_class->second.empty()) classes_.erase(in_class);
  const auto aged = by_age_.find(aging_key(e));
  aged->second.erase(place);
  if (aged->second.empty()) by_age_.erase(aged);
  urgency_.erase({e.priority, place});
}

void FairQueue::remove(Ticket ticket) {
  const auto it = entries_.find(ticket);
  ONBOARDING_ASSERT(it != entries_.end(), "only who waits can leave");
  const auto& e = it->second;
  take(e, ticket);
  deadlines_.erase({e.request.deadline, ticket});
  aging_.erase({e.ages, ticket});
  auto& plan = plans_[e.request.plan];
  --plan.waiting;
  erase(plan.wait, further(e.request), {e.tag, ticket});
  if (const auto s = sessions_.find(e.request.session); --s->second == 0) sessions_.erase(s);
  if (const auto t = turns_.find(e.request.turn); t != turns_.end() && t->second == ticket) turns_.erase(t);
  entries_.erase(it);
}

void FairQueue::served(Ticket ticket, Instant now) {
  const auto& e = entries_.at(ticket);
  auto& plan = plans_[e.request.plan];
  newest_pass_ = std::max(newest_pass_, plan.pass);
  plan.pass += cost_of(e.request) / plan.share;
  if (const auto wants = further(e.request); wants > 0) {
    no_longer_thinks(e.request.session);
    insert(plan.think, wants, {e.request.arrived, e.request.session});
    thinking_[e.request.session] = {e.request.plan, wants, e.request.arrived, now};
    thinking_since_.emplace_back(now, e.request.session);
  }
  remove(ticket);
}

void FairQueue::no_longer_thinks(std::uint64_t session) {
  const auto it = thinking_.find(session);
  if (it == thinking_.end()) return;
  const auto& t = it->second;
  erase(plans_[t.plan].think, t.further, {t.arrived, session});
  thinking_.erase(it);
}

void FairQueue::came_back(bool yes, std::chrono::nanoseconds after) {
  learned_ = std::min(learned_ + 1, kLearned);
  come_back_ += ((yes ? 1 : 0) - come_back_) / (learned_ + kSupposed);
  if (yes) think_s_ += (std::chrono::duration<double>(after).count() - think_s_) / (learned_ + kSupposed);
}

void FairQueue::watch_age(Entry& e, Ticket ticket, Instant now) {
  e.ages = now + kAging;
  if (e.priority != Priority::waiting_client) aging_.emplace(e.ages, ticket);
}

void FairQueue::rise(Ticket ticket, Instant now) {
  auto& e = entries_.at(ticket);
  aging_.erase({e.ages, ticket});
  take(e, ticket);
  e.priority = static_cast<Priority>(static_cast<int>(e.priority) - 1);
  put(e, ticket);
  watch_age(e, ticket, now);
}

void FairQueue::age(Instant now) {
  while (!aging_.empty() && aging_.begin()->first <= now) {
    const auto ticket = aging_.begin()->second;
    const auto& e = entries_.at(ticket);
    const auto key = aging_key(e);
    const Place place{e.tag, ticket};
    rise(ticket, now);
    for (auto left = by_age_.find(key); left != by_age_.end() && *left->second.begin() < place; left = by_age_.find(key))
      rise(left->second.begin()->second, now);
  }
  const auto late = [&] { return !thinking_since_.empty() && thinking_since_.front().first + kComesBack <= now; };
  for (; late() || thinking_since_.size() > kMostThinking; thinking_since_.pop_front()) {
    const auto& [since, session] = thinking_since_.front();
    const auto it = thinking_.find(session);
    if (it == thinking_.end() || it->second.since != since) continue;
    if (late()) came_back(false, {});
    no_longer_thinks(session);
  }
}

std::vector<FairQueue::ClassKey> FairQueue::classes(Priority priority) const {
  std::vector<ClassKey> found;
  for (auto it = classes_.lower_bound({priority, 0, 0}); it != classes_.end() && it->first.priority == priority; ++it)
    found.push_back(it->first);
  return found;
}

std::vector<FairQueue::Ticket> FairQueue::first(const ClassKey& key, std::size_t at_most) const {
  std::vector<Ticket> tickets;
  const auto& order = classes_.at(key);
  for (auto it = order.begin(); it != order.end() && tickets.size() < at_most; ++it) tickets.push_back(it->second);
  return tickets;
}

std::size_t FairQueue::next_of(const std::vector<ClassKey>& keys) const {
  const auto rank = [&](const ClassKey& k) { return std::tuple(plans_[k.plan].pass, *classes_.at(k).begin()); };
  return static_cast<std::size_t>(
      std::min_element(keys.begin(), keys.end(), [&](const auto& a, const auto& b) { return rank(a) < rank(b); }) - keys.begin());
}

std::optional<FairQueue::Ticket> FairQueue::least_urgent() const {
  if (urgency_.empty()) return std::nullopt;
  return std::prev(urgency_.end())->second.second;
}

bool FairQueue::stands_before(const LeaseRequest& request, Ticket ticket) const {
  const auto& e = entries_.at(ticket);
  return std::pair(request.priority, tag_of(request)) < std::pair(e.priority, e.tag);
}

std::optional<FairQueue::Ticket> FairQueue::overdue(Instant now) const {
  if (deadlines_.empty() || deadlines_.begin()->first > now) return std::nullopt;
  return deadlines_.begin()->second;
}

std::optional<Instant> FairQueue::next_event() const {
  std::optional<Instant> at;
  if (!deadlines_.empty()) at = deadlines_.begin()->first;
  if (!aging_.empty()) at = std::min(*at, aging_.begin()->first);
  return at;
}

// Of the own plan: who stands before. Of another plan: as many as its share serves meanwhile.
FairQueue::Ahead FairQueue::ahead(Priority priority, std::uint32_t plan, const Place& place) const {
  Ahead a;
  a.think_s_ = std::max(think_s_, 0.1);
  a.come_back_ = come_back_;
  std::vector<Ahead::OfPlan> others(plans_.size());
  for (const auto& [key, order] : classes_) {
    if (key.priority < priority) a.more_urgent_ += order.size();
    else if (key.priority == priority && key.plan == plan) a.own_.now += order.order_of_key(place);
    else if (key.priority == priority) others[key.plan].now += order.size();
  }
  const Place came{place.first, std::numeric_limits<Ticket>::max()};
  for (const auto& [further, order] : plans_[plan].wait)
    a.own_.waiting[further] = static_cast<std::uint32_t>(order.order_of_key(place));
  for (const auto& [further, order] : plans_[plan].think)
    a.own_.thinking[further] = static_cast<std::uint32_t>(order.order_of_key(came));
  for (std::uint32_t p = 0; p < plans_.size(); ++p) {
    if (p == plan) continue;
    for (const auto& [further, order] : plans_[p].wait) others[p].waiting[further] = static_cast<std::uint32_t>(order.size());
    for (const auto& [further, order] : plans_[p].think) others[p].thinking[further] = static_cast<std::uint32_t>(order.size());
    others[p].ratio = plans_[p].share / plans_[plan].share;
    a.others_.push_back(others[p]);
  }
  return a;
}

FairQueue::Ahead FairQueue::ahead(Ticket ticket) const {
  const auto& e = entries_.at(ticket);
  return ahead(e.priority, e.request.plan, Place{e.tag, ticket});
}

FairQueue::Ahead FairQueue::ahead(Priority priority, std::uint32_t plan, std::int64_t arrived) const {
  LeaseRequest request;
  request.priority = priority;
  request.plan = plan;
  const Place place{arrived, std::numeric_limits<Ticket>::max()};
  return ahead(begins_at(request, place), plan, place);
}

// Somebody who was served comes back once every so often, as long as it wants turns. Of those who wait the first are served soon, the
// last at the end: on average, x times from which the time to think fits into the wait, x / 2, and fewer where all turns are had before.
double FairQueue::Ahead::more(const OfPlan& plan, double within_s) const {
  const auto x = within_s / think_s_;
  double turns = 0;
  for (std::uint32_t further = 1; further <= kMostFurther; ++further) {
    const double m = further;
    turns += plan.thinking[further] * std::min(m, x) + plan.waiting[further] * (x <= m ? x / 2 : m - m * m / (2 * x));
  }
  return come_back_ * turns;
}

double FairQueue::Ahead::turns(std::chrono::nanoseconds within) const {
  const auto s = std::chrono::duration<double>(within).count();
  // Of those who come back, as many as it may well be: a promise that is kept is worth more than one that is right on average.
  const auto back = more(own_, s);
  const auto own = static_cast<double>(own_.now) + back + std::sqrt(back);
  auto total = static_cast<double>(more_urgent_) + own;
  for (const auto& other : others_)
    total += std::min(static_cast<double>(other.now) + more(other, s), std::ceil((own + 1) * other.ratio));
  return total;
}

std::optional<FairQueue::Ticket> FairQueue::of_turn(std::uint64_t turn) const {
  const auto it = turns_.find(turn);
  if (it == turns_.end()) return std::nullopt;
  return it->second;
}

}  // namespace onboarding::model
