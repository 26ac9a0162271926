#include "actors/model/policy/lease_desk.hpp"

#include <algorithm>

#include "events/domain/assertion.hpp"

namespace onboarding::model {
namespace {

constexpr std::chrono::milliseconds kFirstHold{1'000}, kLongestHold{60'000};

}  // namespace

LeaseDesk::LeaseDesk(std::vector<ProviderSettings> settings, const std::vector<std::string>& fallback_order, Instant start,
                     std::size_t max_waiting)
    : settings_(std::move(settings)), routing_(settings_, fallback_order), max_waiting_(max_waiting) {
  ONBOARDING_ASSERT(settings_.size() <= 32, "a ProviderSet has 32 places");
  for (const auto& s : settings_) desks_.push_back({Budget(s, start), Breaker(), {}, {}});
  usable_before_ = usable(start);
}

ProviderSet LeaseDesk::usable(Instant now) const {
  ProviderSet set = 0;
  for (std::uint32_t p = 0; p < desks_.size(); ++p)
    if (settings_[p].enabled && desks_[p].breaker.admits(now)) set |= 1u << p;
  return set;
}

LeaseDesk::Ticket LeaseDesk::ask(const LeaseRequest& request, Instant now) {
  const auto ticket = next_ticket_++;
  const Place place{request.priority, ticket};
  if ((usable(now) & ~request.exclude) == 0) {
    deny(ticket, LeaseStatus::no_provider);
    return ticket;
  }
  if (waiting_.size() >= max_waiting_) {
    const auto last = waiting_.empty() ? waiting_.end() : std::prev(waiting_.end());
    if (last == waiting_.end() || last->first.first <= request.priority) {
      deny(ticket, LeaseStatus::queue_full);
      return ticket;
    }
    // The newest of the least urgent makes room for somebody more urgent.
    deny(last->first.second, LeaseStatus::queue_full);
    deadlines_.erase({last->second.request.deadline, last->first});
    waiting_.erase(last);
  }
  waiting_.emplace(place, Waiting{request});
  deadlines_.emplace(request.deadline, place);
  return ticket;
}

void LeaseDesk::deny(Ticket ticket, LeaseStatus status) { denied_.push_back({ticket, {status, 0, 0, {}}}); }

LeaseDesk::Round LeaseDesk::advance(Instant now) {
  Round round;
  expire(now, round);
  serve_queue(now, round);
  round.decisions.insert(round.decisions.end(), denied_.begin(), denied_.end());
  denied_.clear();
  return round;
}

void LeaseDesk::expire(Instant now, Round& round) {
  while (!expiries_.empty() && expiries_.begin()->first <= now) {
    const auto id = expiries_.begin()->second;
    const auto provider = leases_.at(id).provider;
    Settlement lost;
    lost.error = CallError::timeout;
    lost.was_sent = true;
    if (settle(id, lost, now) == Verdict::opened) round.opened.push_back(provider);
    round.expired.push_back(id);
  }
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    const auto place = deadlines_.begin()->second;
    deny(place.second, LeaseStatus::deadline);
    waiting_.erase(place);
    deadlines_.erase(deadlines_.begin());
  }
}

// In the order of priority, then of arrival. Who is refused by a provider's budget keeps those behind from taking it, so that a
// dear request is not starved by cheap ones; they may still take other providers.
void LeaseDesk::serve_queue(Instant now, Round& round) {
  ProviderSet able = usable(now);
  const bool look_at_all = (usable_before_ & ~able) != 0;
  usable_before_ = able;
  ProviderSet blocked = 0;
  wake_ = Instant::max();
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    if ((able & ~blocked) == 0 && able != 0 && !look_at_all) break;
    auto& [request, refused] = it->second;
    const ProviderSet allowed = able & ~request.exclude;
    if (allowed == 0) {
      deny(it->first.second, LeaseStatus::no_provider);
    } else {
      const Cost cost{request.input_tokens, request.output_tokens};
      ProviderSet with_budget = 0;
      for (std::uint32_t p = 0; p < desks_.size(); ++p) {
        const ProviderSet bit = 1u << p;
        if (!(allowed & bit) || (blocked & bit)) continue;
        const auto at = desks_[p].budget.admits_at(cost, now);
        if (at <= now) {
          with_budget |= bit;
          continue;
        }
        blocked |= bit;
        wake_ = std::min(wake_, at);
        if (!(refused & bit)) {
          refused |= bit;
          round.refused_by_budget.push_back(p);
        }
      }
      const auto chosen = routing_.choose(with_budget, request.avoid);
      if (!chosen) {
        ++it;
        continue;
      }
      round.decisions.push_back({it->first.second, grant(*chosen, request, now)});
      able = usable(now);  // a probe leaves no second place
    }
    deadlines_.erase({it->second.request.deadline, it->first});
    it = waiting_.erase(it);
  }
  if (!waiting_.empty())
    for (const auto& d : desks_)
      if (!d.breaker.closed() && d.breaker.open_until() > now) wake_ = std::min(wake_, d.breaker.open_until());
}

LeaseGrant LeaseDesk::grant(std::uint32_t provider, const LeaseRequest& request, Instant now) {
  auto& desk = desks_[provider];
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(request.deadline - now);
  const auto timeout = std::max(std::chrono::milliseconds(1), std::min(settings_[provider].timeout, left));
  const auto id = next_lease_++;
  const Lease lease{provider, desk.budget.reserve({request.input_tokens, request.output_tokens}, now), now + timeout + kExpiryMargin,
                    desk.breaker.begin()};
  leases_.emplace(id, lease);
  expiries_.emplace(lease.expires, id);
  ++desk.calls;
  return {LeaseStatus::granted, id, provider, timeout};
}

LeaseDesk::Verdict LeaseDesk::settle(LeaseId id, const Settlement& s, Instant now) {
  const auto it = leases_.find(id);
  if (it == leases_.end()) return Verdict::fine;
  const auto lease = it->second;
  leases_.erase(it);
  expiries_.erase({lease.expires, id});
  auto& desk = desks_[lease.provider];
  desk.budget.settle(lease.reservation, s.was_sent, s.input_tokens, s.output_tokens, now);
  desk.budget.at_most_remaining(s.remaining, now);
  return judge(desk, lease, s, now);
}

LeaseDesk::Verdict LeaseDesk::judge(PerProvider& desk, const Lease& lease, const Settlement& s, Instant now) {
  if (s.error != CallError::none && s.error != CallError::cancelled) ++desk.failures;
  switch (s.error) {
    case CallError::none:
      desk.breaker.succeeded();
      desk.hold = {};
      return Verdict::fine;
    case CallError::rate_limited:
    case CallError::slow_down:
      ++desk.rate_limited;
      desk.breaker.undecided(lease.probe);
      hold(desk, lease, s.retry_after, now);
      return Verdict::fine;
    case CallError::cancelled:
    case CallError::too_large:
    case CallError::context_too_long:  // tells about the request, not about the provider
      desk.breaker.undecided(lease.probe);
      return Verdict::fine;
    case CallError::quota_exhausted:
    case CallError::unauthorised:
      return desk.breaker.failed_for_long(now, lease.probe) ? Verdict::opened_for_long : Verdict::fine;
    case CallError::bad_request:
    case CallError::unavailable:
    case CallError::overloaded:
    case CallError::timeout:
    case CallError::connection:
    case CallError::truncated:
    case CallError::invalid_answer: break;
  }
  return desk.breaker.failed(now, lease.probe) ? Verdict::opened : Verdict::fine;
}

// The provider's hint counts; without one the pause doubles with each 429 in a row. Calls that were under way when the pause
// began do not prolong it beyond their own hint.
void LeaseDesk::hold(PerProvider& desk, const Lease& lease, std::chrono::milliseconds retry_after, Instant now) {
  if (lease.reservation.taken_at > desk.held_since || desk.hold.count() == 0) {
    desk.hold = desk.hold.count() == 0 ? kFirstHold : std::min(desk.hold * 2, kLongestHold);
    desk.held_since = now;
    if (retry_after.count() == 0) desk.budget.hold_until(now + desk.hold);
  }
  desk.budget.hold_until(now + std::min(retry_after, kLongestHold));
}

std::optional<Instant> LeaseDesk::next_event() const {
  auto at = wake_;
  if (!deadlines_.empty()) at = std::min(at, deadlines_.begin()->first);
  if (!expiries_.empty()) at = std::min(at, expiries_.begin()->first);
  if (at == Instant::max()) return std::nullopt;
  return at;
}

ProviderStatus LeaseDesk::status(std::uint32_t p) const {
  const auto& d = desks_[p];
  ProviderStatus s;
  s.name = settings_[p].name;
  s.model = settings_[p].model;
  s.enabled = settings_[p].enabled;
  s.healthy = d.breaker.closed();
  s.in_flight = d.budget.in_flight();
  s.calls_total = d.calls;
  s.failures_total = d.failures;
  s.rate_limited_total = d.rate_limited;
  return s;
}

}  // namespace onboarding::model
