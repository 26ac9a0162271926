#include "actors/model/policy/breaker.hpp"

#include <algorithm>

namespace onboarding::model {

std::int64_t Breaker::most_in_flight(Instant now) const {
  if (!ramping(now)) return std::numeric_limits<std::int64_t>::max();
  if (now < ramp_began_) return 1;
  return std::int64_t{1} << std::chrono::duration_cast<std::chrono::seconds>(now - ramp_began_).count();
}

Instant Breaker::next_step(Instant now) const {
  return ramp_began_ + std::chrono::duration_cast<std::chrono::seconds>(now - ramp_began_) + std::chrono::seconds(1);
}

std::string_view Breaker::state(Instant now) const {
  if (open_) return probing_ ? "probing" : "open";
  return ramping(now) ? "ramping" : "closed";
}

bool Breaker::begin() {
  if (closed()) return false;
  probing_ = true;
  return true;
}

bool Breaker::succeeded(Instant now, bool was_probe) {
  if (open_ && !was_probe) return false;  // a call from before it opened tells nothing new
  failures_ = 0;
  if (!open_) {
    if (!ramping(now)) open_for_ = std::chrono::seconds(0);
    return false;
  }
  open_ = probing_ = false;
  ramp_began_ = now;
  return true;
}

bool Breaker::failed(Instant now, bool was_probe) {
  if (open_ && !was_probe) return false;
  ++failures_;
  if (!open_ && failures_ < (ramping(now) ? kFailuresOnRamp : kFailuresToOpen)) return false;
  open_ = true;
  probing_ = false;
  open_for_ = open_for_.count() == 0 ? kFirstOpen : std::min(open_for_ * 2, kLongestOpen);
  open_until_ = std::max(open_until_, now + open_for_);
  return true;
}

bool Breaker::failed_for_long(Instant now, bool was_probe) {
  const bool news = closed() || was_probe;
  open_ = true;
  if (was_probe) probing_ = false;
  open_until_ = std::max(open_until_, now + kOpenForLong);
  return news;
}

void Breaker::undecided(bool was_probe) {
  if (was_probe) probing_ = false;
}

void Breaker::retry_now(Instant now) {
  if (open_) open_until_ = now;
}

}  // namespace onboarding::model
