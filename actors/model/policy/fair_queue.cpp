#include "actors/model/policy/fair_queue.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "events/domain/assertion.hpp"

namespace onboarding::model {
namespace {

constexpr std::size_t kKeptSessions = 1'024;

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
  Entry e{request, now, request.priority, plan.virtual_time, now, 0, 0, promised};
  if (request.again) {
    e.tag = 0;
  } else if (const auto had = plan.finish.find(request.session); had != plan.finish.end()) {
    e.tag = std::max(e.tag, had->second);
  }
  if (!request.again) plan.finish[request.session] = e.tag + cost_of(request);
  // A plan that had nothing to ask for has saved nothing up.
  if (plan.waiting++ == 0) plan.pass = std::max(plan.pass, newest_pass_);
  classes_[key_of(e)].insert({e.tag, ticket});
  deadlines_.emplace(request.deadline, ticket);
  watch_age(e, ticket, now);
  urgency_.emplace(e.priority, ticket);
  ++sessions_[request.session];
  turns_[request.turn] = ticket;
  entries_.emplace(ticket, std::move(e));
}

void FairQueue::remove(Ticket ticket) {
  const auto it = entries_.find(ticket);
  ONBOARDING_ASSERT(it != entries_.end(), "only who waits can leave");
  const auto& e = it->second;
  const auto in_class = classes_.find(key_of(e));
  in_class->second.erase({e.tag, ticket});
  if (in_class->second.empty()) classes_.erase(in_class);
  deadlines_.erase({e.request.deadline, ticket});
  aging_.erase({e.ages, ticket});
  urgency_.erase({e.priority, ticket});
  --plans_[e.request.plan].waiting;
  if (const auto s = sessions_.find(e.request.session); --s->second == 0) sessions_.erase(s);
  if (const auto t = turns_.find(e.request.turn); t != turns_.end() && t->second == ticket) turns_.erase(t);
  entries_.erase(it);
}

void FairQueue::served(Ticket ticket) {
  const auto& e = entries_.at(ticket);
  auto& plan = plans_[e.request.plan];
  newest_pass_ = std::max(newest_pass_, plan.pass);
  plan.pass += cost_of(e.request) / plan.share;
  plan.virtual_time += cost_of(e.request) / static_cast<double>(plan.waiting);
  remove(ticket);
  if (plan.finish.size() > kKeptSessions + 2 * plan.waiting) forget_passed(plan);
}

// Where virtual time is past a session's last turn, that turn decides nothing any more. Cheap on average: half of them stay at
// most, so it is as many adds until the next time.
void FairQueue::forget_passed(Plan& plan) {
  std::erase_if(plan.finish, [&](const auto& f) { return f.second <= plan.virtual_time; });
}

void FairQueue::watch_age(Entry& e, Ticket ticket, Instant now) {
  e.ages = now + kAging;
  if (e.priority != Priority::waiting_client) aging_.emplace(e.ages, ticket);
}

void FairQueue::age(Instant now) {
  while (!aging_.empty() && aging_.begin()->first <= now) {
    const auto ticket = aging_.begin()->second;
    aging_.erase(aging_.begin());
    auto& e = entries_.at(ticket);
    const auto in_class = classes_.find(key_of(e));
    in_class->second.erase({e.tag, ticket});
    if (in_class->second.empty()) classes_.erase(in_class);
    urgency_.erase({e.priority, ticket});
    e.priority = static_cast<Priority>(static_cast<int>(e.priority) - 1);
    classes_[key_of(e)].insert({e.tag, ticket});
    urgency_.emplace(e.priority, ticket);
    watch_age(e, ticket, now);
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
  return std::prev(urgency_.end())->second;
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
std::size_t FairQueue::ahead(Priority priority, std::uint32_t plan, const Place& place) const {
  std::size_t own = 0, more_urgent = 0;
  std::vector<std::size_t> others(plans_.size(), 0);
  for (const auto& [key, order] : classes_) {
    if (key.priority < priority) more_urgent += order.size();
    else if (key.priority == priority && key.plan == plan) own += order.order_of_key(place);
    else if (key.priority == priority) others[key.plan] += order.size();
  }
  auto total = more_urgent + own;
  for (std::size_t p = 0; p < others.size(); ++p)
    total += std::min(others[p],
                      static_cast<std::size_t>(std::ceil(static_cast<double>(own + 1) * plans_[p].share / plans_[plan].share)));
  return total;
}

std::size_t FairQueue::position(Ticket ticket) const {
  const auto& e = entries_.at(ticket);
  return 1 + ahead(e.priority, e.request.plan, {e.tag, ticket});
}

std::size_t FairQueue::newcomers_position(Priority priority, std::uint32_t plan) const {
  return 1 + ahead(priority, plan, {plans_[plan].virtual_time, std::numeric_limits<Ticket>::max()});
}

std::optional<FairQueue::Ticket> FairQueue::of_turn(std::uint64_t turn) const {
  const auto it = turns_.find(turn);
  if (it == turns_.end()) return std::nullopt;
  return it->second;
}

}  // namespace onboarding::model
