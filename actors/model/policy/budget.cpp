#include "actors/model/policy/budget.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "events/domain/assertion.hpp"

namespace onboarding::model {
namespace {

// A slot leaves the window as a whole, when all of it is older than the window. Four slots (200 ms of a minute) more than that
// are for the way to the provider: calls that leave 60.1 s apart may arrive 59.9 s apart. Together they cost 0.4 % of the limit.
constexpr std::int64_t kSlotsPerWindow = 1'200;
constexpr std::int64_t kSlots = kSlotsPerWindow + 5;

constexpr std::chrono::minutes kMinute{1};
constexpr std::chrono::hours kDay{24};
// Below this the bucket would be a metronome that timers cannot follow.
constexpr double kLeastBurstSeconds = 0.05;
// Of what the dearest call took, with each later one: a few cheaper ones make the bucket small again.
constexpr double kRemembered = 0.8;
// Providers round what remains (Anthropic: to thousands of tokens).
constexpr std::int64_t kRounding = 1'000;

std::chrono::nanoseconds window_of(Dimension d) {
  return d == Dimension::requests_per_day || d == Dimension::spend_per_day_nanodollars ? std::chrono::nanoseconds(kDay) : kMinute;
}

}  // namespace

RateLimit::RateLimit(std::int64_t limit, std::chrono::nanoseconds window, double burst_seconds, Instant start)
    : limit_(limit),
      window_(window.count()),
      slot_(window.count() / kSlotsPerWindow),
      burst_seconds_(burst_seconds),
      start_(start),
      last_(start),
      newest_(slot_of(start)),
      slots_(kSlots, 0) {
  derive();
  level_ = -capacity_;
}

void RateLimit::derive() {
  ONBOARDING_ASSERT(limit_ > 0, "a limit of zero is no limit and has no RateLimit");
  per_ns_ = static_cast<double>(limit_) / static_cast<double>(window_);
  if (burst_seconds_ <= 0) return;
  capacity_ = std::clamp(per_ns_ * 1e9 * std::max(burst_seconds_, kLeastBurstSeconds), 1.0, static_cast<double>(limit_));
  if (dearest_ > capacity_) capacity_ = std::max(capacity_, std::min(2 * dearest_, static_cast<double>(limit_) / 4));
}

void RateLimit::change(std::int64_t limit, Instant now) {
  advance(now);
  limit_ = limit;
  derive();
  level_ = std::min(level_, capacity_);
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

Instant RateLimit::admits_at(std::int64_t amount, Instant now) {
  advance(now);
  amount = clamp(amount);
  auto at = std::max(now, last_);
  if (capacity_ > 0) {
    dearest_ = std::max(dearest_, static_cast<double>(amount));
    derive();
    // A call dearer than even this waits for a full bucket and leaves it in debt; so may the last one of the process before, and
    // the one before a minute is over.
    if (fresh_) {
      const auto debt = std::clamp(2 * (static_cast<double>(amount) - capacity_), 0.0, static_cast<double>(limit_) / 2);
      level_ = std::min(capacity_, per_ns_ * static_cast<double>((last_ - start_).count()) - capacity_ - debt);
      fresh_ = false;
      owed_ = capacity_;
    } else if (capacity_ > owed_ && (last_ - start_).count() < window_) {
      level_ -= capacity_ - std::exchange(owed_, capacity_);  // the process before may have had such a bucket, too
    }
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
  dearest_ = std::max(kRemembered * dearest_, static_cast<double>(amount));
  derive();
  level_ = std::min(level_, capacity_) - static_cast<double>(amount);
  slot(newest_) += amount;
  used_ += amount;
}

void RateLimit::give_back(std::int64_t amount, Instant taken_at, Instant now) {
  advance(now);
  level_ = std::clamp(level_ + static_cast<double>(amount), -static_cast<double>(limit_), capacity_);
  const auto index = slot_of(taken_at);
  if (index <= newest_ - kSlots) return;
  slot(index) -= amount;
  used_ -= amount;
}

// What the process before took leaves the window as it came into it: at a bucket's pace, thought to have gone on until our start.
// What somebody else took leaves when the provider says that all is there again, at the latest after a window.
void RateLimit::at_most_remaining(std::int64_t remaining, std::chrono::nanoseconds reset, Instant now) {
  advance(now);
  auto foreign = (limit_ - used_) - std::max<std::int64_t>(remaining, 0);
  if (foreign <= 0) return;
  used_ += foreign;
  const auto begun = slot_of(start_);
  for (auto i = begun; foreign > 0 && i > newest_ - kSlots; --i) {
    const auto n = begun - i;
    const auto before =
        std::clamp<std::int64_t>(limit_ * (n + 1) / kSlotsPerWindow - limit_ * n / kSlotsPerWindow - slot(i), 0, foreign);
    slot(i) += before;
    foreign -= before;
  }
  const auto stays = reset.count() > 0 ? std::min(reset.count() / slot_ + 1, kSlots - 1) : kSlots - 1;
  slot(newest_ - (kSlots - 1) + stays) += foreign;
}

std::int64_t RateLimit::used(Instant now) {
  advance(now);
  return used_;
}

std::vector<std::pair<std::chrono::nanoseconds, std::int64_t>> RateLimit::history(Instant now) {
  advance(now);
  std::vector<std::pair<std::chrono::nanoseconds, std::int64_t>> all;
  for (auto i = newest_ - kSlots + 1; i <= newest_; ++i)
    if (slot(i) != 0) all.emplace_back(last_ - slot_begin(i), slot(i));
  return all;
}

void RateLimit::restore(std::chrono::nanoseconds age, std::int64_t amount, Instant now) {
  advance(now);
  const auto index = slot_of(last_ - std::max(age, std::chrono::nanoseconds(0)));
  if (index <= newest_ - kSlots) return;
  slot(index) += amount;
  used_ += amount;
}

double RateLimit::available(std::chrono::nanoseconds ahead, Instant now) {
  advance(now);
  if (capacity_ <= 0) return static_cast<double>(limit_ - used_);
  return level_ + per_ns_ * static_cast<double>(ahead.count());
}

std::string_view to_string(Dimension d) {
  switch (d) {
    case Dimension::requests_per_minute: return "requests_per_minute";
    case Dimension::requests_per_day: return "requests_per_day";
    case Dimension::tokens_per_minute: return "tokens_per_minute";
    case Dimension::input_tokens_per_minute: return "input_tokens_per_minute";
    case Dimension::output_tokens_per_minute: return "output_tokens_per_minute";
    case Dimension::spend_per_day_nanodollars: return "spend_per_day_nanodollars";
  }
  return "unknown";
}

Budget::Budget(const ProviderSettings& s, Instant start) : start_(start) { change(s, start); }

bool Budget::fits(const Cost& cost) const {
  for (std::size_t d = 0; d < kDimensions; ++d) {
    const auto most = limits_[d].in_force();
    if (most > 0 && amount(static_cast<Dimension>(d), cost) > most) return false;
  }
  return true;
}

void Budget::change(const ProviderSettings& s, Instant now) {
  counting_ = s.counting;
  burst_seconds_ = std::max(s.burst_seconds, kLeastBurstSeconds);
  max_concurrent_ = s.max_concurrent;
  limit(Dimension::requests_per_minute).configured = s.requests_per_minute;
  limit(Dimension::requests_per_day).configured = s.requests_per_day;
  limit(Dimension::tokens_per_minute).configured = static_cast<std::int64_t>(s.tokens_per_minute);
  limit(Dimension::input_tokens_per_minute).configured = static_cast<std::int64_t>(s.input_tokens_per_minute);
  limit(Dimension::output_tokens_per_minute).configured = static_cast<std::int64_t>(s.output_tokens_per_minute);
  limit(Dimension::spend_per_day_nanodollars).configured = static_cast<std::int64_t>(s.spend_per_day_nanodollars);
  for (std::size_t d = 0; d < kDimensions; ++d) apply(static_cast<Dimension>(d), now);
}

void Budget::apply(Dimension d, Instant now) {
  auto& l = limit(d);
  const auto window = window_of(d);
  const auto set = [&](std::optional<RateLimit>& rate, double burst) {
    if (l.in_force() == 0) rate.reset();
    else if (rate) rate->change(l.in_force(), now);
    else rate.emplace(l.in_force(), window, burst, now);
  };
  set(l.rate, window == kMinute ? burst_seconds_ : 0);
  if (d == Dimension::output_tokens_per_minute && !counting_.output_cap_reserved) set(produced_, 0);
}

std::int64_t Budget::amount(Dimension d, const Cost& c) const {
  const auto output = counting_.output_cap_reserved ? c.output_cap : c.output_tokens;
  switch (d) {
    case Dimension::tokens_per_minute: return c.input_tokens + output;
    case Dimension::input_tokens_per_minute: return c.input_tokens;
    case Dimension::output_tokens_per_minute: return output;
    case Dimension::spend_per_day_nanodollars: return c.nanodollars;
    default: return 1;
  }
}

std::int64_t Budget::amount(Dimension d, const Cost& c, const Spent& s) const {
  auto real = c;
  if (s.input_tokens >= 0) real.input_tokens = s.input_tokens - (counting_.cached_input_counts ? 0 : s.cached_input_tokens);
  if (s.output_tokens >= 0) real.output_tokens = s.output_tokens;
  if (s.nanodollars >= 0 || s.refused) real.nanodollars = std::max<std::int64_t>(s.nanodollars, 0);  // nobody bills a refusal
  return amount(d, real);
}

void Budget::forget_told() {
  for (auto& l : limits_) l.told = 0;
}

void Budget::expire_told(Instant now) {
  for (std::size_t d = 0; d < kDimensions; ++d)
    if (auto& l = limits_[d]; l.told > 0 && now - l.told_at >= kToldFor) {
      l.told = 0;
      apply(static_cast<Dimension>(d), now);
    }
}

Instant Budget::would_admit(const Cost& cost, Instant now) const {
  auto copy = *this;
  const auto at = copy.admits_at(cost, now);
  return at == Instant::max() ? now : at;
}

Instant Budget::admits_at(const Cost& cost, Instant now) {
  expire_told(now);
  if (max_concurrent_ > 0 && in_flight_ >= max_concurrent_) return Instant::max();
  auto at = std::max(now, hold_until_);
  if (max_concurrent_ > 0)
    at = std::max(at, start_ + std::chrono::nanoseconds(kPredecessorsCalls) * (in_flight_ + 1) / max_concurrent_);
  for (std::size_t d = 0; d < kDimensions; ++d)
    if (auto& rate = limits_[d].rate) at = std::max(at, rate->admits_at(amount(static_cast<Dimension>(d), cost), now));
  if (produced_) at = std::max(at, produced_->admits_at(cost.output_tokens, now));
  return at;
}

double Budget::left_after(const Cost& cost, Instant now) {
  double least = 1;
  for (std::size_t d = 0; d < kDimensions; ++d)
    if (auto& rate = limits_[d].rate) {
      const auto left = rate->limit() - rate->used(now) - rate->clamp(amount(static_cast<Dimension>(d), cost));
      least = std::min(least, static_cast<double>(left) / static_cast<double>(rate->limit()));
    }
  return least;
}

Reservation Budget::reserve(const Cost& cost, Instant now) {
  Reservation r{cost, now, {}};
  for (std::size_t d = 0; d < kDimensions; ++d) {
    auto& rate = limits_[d].rate;
    if (!rate) continue;
    r.taken[d] = rate->clamp(amount(static_cast<Dimension>(d), cost));
    rate->take(r.taken[d], now);
  }
  ++in_flight_;
  reserved_tokens_ += cost.input_tokens + cost.output_tokens;
  return r;
}

void Budget::settle(const Reservation& r, const Spent& spent, Instant now) {
  --in_flight_;
  reserved_tokens_ -= r.cost.input_tokens + r.cost.output_tokens;
  ONBOARDING_ASSERT(in_flight_ >= 0 && reserved_tokens_ >= 0, "a reservation is settled once");
  const bool free = !spent.was_sent || (spent.refused && !counting_.failed_calls_count);
  for (std::size_t d = 0; d < kDimensions; ++d) {
    auto& rate = limits_[d].rate;
    if (!rate || r.taken[d] == 0) continue;  // 0: the limit is newer than the call
    const auto back = r.taken[d] - (free ? 0 : amount(static_cast<Dimension>(d), r.cost, spent));
    if (back != 0) rate->give_back(back, r.taken_at, now);
  }
  if (produced_ && !free) produced_->take(spent.output_tokens >= 0 ? spent.output_tokens : r.cost.output_tokens, now);
}

std::vector<std::string> Budget::correct(const std::map<std::string, std::int64_t>& remaining,
                                         const std::map<std::string, std::int64_t>& limits,
                                         const std::map<std::string, std::chrono::milliseconds>& reset, Instant now) {
  static constexpr std::pair<const char*, Dimension> kNames[] = {{"requests", Dimension::requests_per_minute},
                                                                 {"tokens", Dimension::tokens_per_minute},
                                                                 {"input-tokens", Dimension::input_tokens_per_minute},
                                                                 {"output-tokens", Dimension::output_tokens_per_minute}};
  std::vector<std::string> changed;
  for (const auto& [name, d] : kNames) {
    auto& l = limit(d);
    if (!l.rate) continue;
    if (const auto told = limits.find(name); told != limits.end() && told->second > 0) {
      const auto before = l.in_force();
      l.told = told->second;
      l.told_at = now;
      if (l.in_force() != before) {
        apply(d, now);
        changed.emplace_back(to_string(d));
      }
    }
    const auto left = remaining.find(name);
    if (left == remaining.end()) continue;
    const auto rounding = d == Dimension::requests_per_minute || left->second % kRounding != 0 ? 0 : kRounding;
    const auto resets = reset.find(name);
    l.rate->at_most_remaining(std::min(left->second, l.rate->limit()) + rounding,
                              resets == reset.end() ? std::chrono::milliseconds(0) : resets->second, now);
  }
  return changed;
}

void Budget::hold_until(Instant t) { hold_until_ = std::max(hold_until_, t); }

std::vector<Budget::Use> Budget::use(Instant now) {
  expire_told(now);
  std::vector<Use> all;
  for (std::size_t d = 0; d < kDimensions; ++d)
    if (auto& rate = limits_[d].rate) all.push_back({to_string(static_cast<Dimension>(d)), rate->limit(), rate->used(now)});
  if (max_concurrent_ > 0) all.push_back({"max_concurrent", max_concurrent_, in_flight_});
  return all;
}

std::vector<std::pair<std::string_view, RateLimit*>> Budget::days() {
  std::vector<std::pair<std::string_view, RateLimit*>> all;
  for (std::size_t d = 0; d < kDimensions; ++d)
    if (auto& rate = limits_[d].rate; rate && window_of(static_cast<Dimension>(d)) != kMinute)
      all.emplace_back(to_string(static_cast<Dimension>(d)), &*rate);
  return all;
}

double Budget::calls_within(std::chrono::nanoseconds ahead, const Cost& cost, std::chrono::nanoseconds latency, Instant now) {
  const auto held = std::max(hold_until_ - now, std::chrono::nanoseconds(0));
  if (held > ahead) return 0;
  auto calls = static_cast<double>(ahead.count());  // one a nanosecond: no limit
  for (std::size_t d = 0; d < kDimensions; ++d) {
    auto& rate = limits_[d].rate;
    const auto each = amount(static_cast<Dimension>(d), cost);
    if (rate && each > 0) calls = std::min(calls, rate->available(ahead, now) / static_cast<double>(rate->clamp(each)));
  }
  if (max_concurrent_ > 0)
    calls = std::min(calls, static_cast<double>(max_concurrent_ - in_flight_) +
                                static_cast<double>(max_concurrent_) * static_cast<double>(ahead.count()) /
                                    static_cast<double>(std::max<std::int64_t>(latency.count(), 1)));
  return std::max(calls, 0.0);
}

}  // namespace onboarding::model
