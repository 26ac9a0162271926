#include "actors/session/admission.hpp"

namespace onboarding::session {

result<void> Admission::enter() {
  // Counted first, looked at second: whoever closes either sees us inside or is seen by us.
  const std::size_t before = inside_.fetch_add(1);
  if (closed_.load()) {
    leave();
    return failure(make_error_code(GatewayErrc::draining));
  }
  if (before >= limit_) {
    leave();
    return failure(make_error_code(GatewayErrc::overloaded));
  }
  return {};
}

void Admission::leave() {
  if (inside_.fetch_sub(1) == 1 && closed_.load()) tell_when_empty();
}

void Admission::close(std::function<void()> done) {
  {
    const std::lock_guard lock(mutex_);
    on_empty_.push_back(std::move(done));
  }
  closed_.store(true);
  if (inside_.load() == 0) tell_when_empty();
}

void Admission::tell_when_empty() {
  std::vector<std::function<void()>> waiting;
  {
    const std::lock_guard lock(mutex_);
    waiting.swap(on_empty_);
  }
  for (const auto& done : waiting) done();
}

}  // namespace onboarding::session
