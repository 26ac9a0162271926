#include "actors/model/policy/breaker.hpp"

#include <algorithm>

namespace onboarding::model {

bool Breaker::begin() {
  if (closed()) return false;
  probing_ = true;
  return true;
}

void Breaker::succeeded() { *this = Breaker(); }

bool Breaker::failed(Instant now, bool was_probe) {
  if (closed()) {
    if (++failures_ < kFailuresToOpen) return false;
    open_for_ = kFirstOpen;
  } else if (was_probe) {
    probing_ = false;
    open_for_ = std::min(open_for_ * 2, kLongestOpen);
  } else {
    return false;  // a call from before it opened tells nothing new
  }
  open_until_ = now + open_for_;
  return true;
}

bool Breaker::failed_for_long(Instant now, bool was_probe) {
  const bool news = closed() || was_probe;
  failures_ = kFailuresToOpen;
  if (was_probe) probing_ = false;
  open_until_ = std::max(open_until_, now + kOpenForLong);
  return news;
}

void Breaker::undecided(bool was_probe) {
  if (was_probe) probing_ = false;
}

}  // namespace onboarding::model
