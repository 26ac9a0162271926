#include "actors/model/policy/budget.hpp"

#include <algorithm>
#include <cmath>

#include "events/domain/assertion.hpp"

namespace onboarding::model {
namespace {

// A slot leaves the window as a whole, when all of it is older than the window. Two slots more than that are for the way
// to the provider: calls that leave 60.1 s apart may arrive 59.9 s apart. Together they cost half a percent of the limit.
constexpr std::int64_t kSlotsPerWindow = 600;
constexpr std::int64_t kSlots = kSlotsPerWindow + 3;

constexpr std::chrono::minutes kMinute{1};
constexpr std::chrono::hours kDay{24};
// Below this the bucket would be a metronome that timers cannot follow.
constexpr double kLeastBurstSeconds = 0.05;

}  // namespace

RateLimit::RateLimit(std::int64_t limit, std::chrono::nanoseconds window, double burst_seconds, Instant start)
    : limit_(limit),
      slot_(window.count() / kSlotsPerWindow),
      per_ns_(static_cast<double>(limit) / static_cast<double>(window.count())),
      capacity_(burst_seconds <= 0 ? 0 : std::clamp(per_ns_ * 1e9 * std::max(burst_seconds, kLeastBurstSeconds), 1.0, static_cast<double>(limit))),
      last_(start),
      newest_(slot_of(start)),
      slots_(kSlots, 0) {
  ONBOARDING_ASSERT(limit > 0, "a limit of zero is no limit and has no RateLimit");
}

// Counted from one window before the clock's zero, so that no index is negative.
std::int64_t RateLimit::slot_of(Instant t) const { return t.time_since_epoch().count() / slot_ + kSlots; }

Instant RateLimit::slot_begin(std::int64_t index) const { return Instant(std::chrono::nanoseconds((index - kSlots) * slot_)); }

void RateLimit::advance(Instant now) {
  if (now <= last_) return;
  level_ = std::min(capacity_, level_ + per_ns_ * static_cast<double>((now - last_).count()));
  last_ = now;
  const auto current = slot_of(now);
  if (current - newest_ >= kSlots) {
    std::fill(slots_.begin(), slots_.end(), 0);
    used_ = 0;
  } else {
    for (auto i = newest_ + 1; i <= current; ++i) {
      used_ -= slot(i);
      slot(i) = 0;
    }
  }
  newest_ = current;
}

bool RateLimit::admits(std::int64_t amount, Instant now) { return admits_at(amount, now) <= now; }

Instant RateLimit::admits_at(std::int64_t amount, Instant now) {
  advance(now);
  amount = clamp(amount);
  auto at = std::max(now, last_);
  if (capacity_ > 0) {
    // A call dearer than the bucket waits for a full one and leaves it in debt.
    const auto missing = std::min(static_cast<double>(amount), capacity_) - level_;
    if (missing > 1e-6) at += std::chrono::nanoseconds(static_cast<std::int64_t>(std::ceil(missing / per_ns_)));
  }
  auto used = used_;
  for (auto i = newest_ - kSlots + 1; used + amount > limit_ && i <= newest_; ++i) {
    if (slot(i) == 0) continue;
    used -= slot(i);
    at = std::max(at, slot_begin(i + kSlots));
  }
  return at;
}

void RateLimit::take(std::int64_t amount, Instant now) {
  advance(now);
  amount = clamp(amount);
  level_ -= static_cast<double>(amount);
  slot(newest_) += amount;
  used_ += amount;
}

void RateLimit::give_back(std::int64_t amount, Instant taken_at, Instant now) {
  advance(now);
  level_ = std::min(capacity_, level_ + static_cast<double>(amount));
  const auto index = slot_of(taken_at);
  if (index <= newest_ - kSlots) return;
  slot(index) -= amount;
  used_ -= amount;
}

void RateLimit::at_most_remaining(std::int64_t remaining, Instant now) {
  advance(now);
  const auto foreign = (limit_ - used_) - std::max<std::int64_t>(remaining, 0);
  if (foreign <= 0) return;
  slot(newest_) += foreign;
  used_ += foreign;
}

std::int64_t RateLimit::used(Instant now) {
  advance(now);
  return used_;
}

Budget::Budget(const ProviderSettings& s, Instant start) : max_concurrent_(s.max_concurrent) {
  const auto limit = [&](Dimension d, std::uint64_t value, std::chrono::nanoseconds window, double burst) {
    if (value > 0) limits_[d].emplace(static_cast<std::int64_t>(value), window, burst, start);
  };
  const auto burst = std::max(s.burst_seconds, kLeastBurstSeconds);
  limit(requests_minute, s.requests_per_minute, kMinute, burst);
  limit(requests_day, s.requests_per_day, kDay, 0);
  limit(tokens, s.tokens_per_minute, kMinute, burst);
  limit(input_tokens, s.input_tokens_per_minute, kMinute, burst);
  limit(output_tokens, s.output_tokens_per_minute, kMinute, burst);
}

std::int64_t Budget::amount(Dimension d, const Cost& c) const {
  switch (d) {
    case tokens: return c.input_tokens + c.output_tokens;
    case input_tokens: return c.input_tokens;
    case output_tokens: return c.output_tokens;
    default: return 1;
  }
}

bool Budget::admits(const Cost& cost, Instant now) { return admits_at(cost, now) <= now; }

Instant Budget::admits_at(const Cost& cost, Instant now) {
  if (max_concurrent_ > 0 && in_flight_ >= max_concurrent_) return Instant::max();
  auto at = std::max(now, hold_until_);
  for (int d = 0; d < dimensions; ++d)
    if (limits_[d]) at = std::max(at, limits_[d]->admits_at(amount(static_cast<Dimension>(d), cost), now));
  return at;
}

Reservation Budget::reserve(const Cost& cost, Instant now) {
  for (int d = 0; d < dimensions; ++d)
    if (limits_[d]) limits_[d]->take(amount(static_cast<Dimension>(d), cost), now);
  ++in_flight_;
  reserved_tokens_ += cost.input_tokens + cost.output_tokens;
  return {cost, now};
}

void Budget::settle(const Reservation& r, bool was_sent, std::int64_t in, std::int64_t out, Instant now) {
  --in_flight_;
  reserved_tokens_ -= r.cost.input_tokens + r.cost.output_tokens;
  ONBOARDING_ASSERT(in_flight_ >= 0 && reserved_tokens_ >= 0, "a reservation is settled once");
  const Cost spent{in < 0 ? r.cost.input_tokens : in, out < 0 ? r.cost.output_tokens : out};
  for (int d = 0; d < dimensions; ++d) {
    if (!limits_[d]) continue;
    const auto dimension = static_cast<Dimension>(d);
    // What was taken is the estimate, or the limit where that is less.
    const auto taken = std::min(amount(dimension, r.cost), limits_[d]->limit());
    const auto back = was_sent ? taken - amount(dimension, spent) : taken;
    if (back != 0) limits_[d]->give_back(back, r.taken_at, now);
  }
}

void Budget::at_most_remaining(const std::map<std::string, std::int64_t>& remaining, Instant now) {
  static constexpr std::pair<const char*, Dimension> kNames[] = {
      {"requests", requests_minute}, {"tokens", tokens}, {"input-tokens", input_tokens}, {"output-tokens", output_tokens}};
  for (const auto& [name, d] : kNames)
    if (auto it = remaining.find(name); it != remaining.end() && limits_[d]) limits_[d]->at_most_remaining(it->second, now);
}

void Budget::hold_until(Instant t) { hold_until_ = std::max(hold_until_, t); }

}  // namespace onboarding::model
