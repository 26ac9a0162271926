#include "actors/model/policy/queue_mode.hpp"

namespace onboarding::model {

void QueueModeSwitch::set(QueueMode mode) { settings_.mode = mode; }

void QueueModeSwitch::rate_limited(Instant now) {
  if (errors_.size() >= kMaxErrors) errors_.pop_front();
  errors_.push_back(now);
}

std::int64_t QueueModeSwitch::errors(Instant now) {
  while (!errors_.empty() && errors_.front() <= now - kErrorsFor) errors_.pop_front();
  return static_cast<std::int64_t>(errors_.size());
}

bool QueueModeSwitch::update(std::size_t sessions_waiting, Instant now) {
  const auto before = queueing_;
  const auto errors_now = static_cast<std::size_t>(errors(now));
  if (settings_.mode != QueueMode::automatic) {
    queueing_ = settings_.mode == QueueMode::on;
    why_ = queueing_ ? "by hand" : "";
    calm_since_.reset();
  } else if (sessions_waiting > settings_.active_sessions_above || errors_now > settings_.rate_limit_errors_5m_above) {
    queueing_ = true;
    why_ = sessions_waiting > settings_.active_sessions_above ? "sessions wait for budget" : "providers' rate limits";
    calm_since_.reset();
  } else if (queueing_) {
    const bool calm =
        sessions_waiting <= settings_.active_sessions_above / 2 && errors_now <= settings_.rate_limit_errors_5m_above / 2;
    if (!calm) calm_since_.reset();
    else if (!calm_since_) calm_since_ = now;
    if (calm && now >= *calm_since_ + kCalmBefore) queueing_ = false, why_.clear(), calm_since_.reset();
  }
  return queueing_ != before;
}

std::optional<Instant> QueueModeSwitch::next_event() const {
  if (settings_.mode != QueueMode::automatic || !queueing_) return std::nullopt;
  if (calm_since_) return *calm_since_ + kCalmBefore;
  if (!errors_.empty()) return errors_.front() + kErrorsFor;
  return std::nullopt;
}

}  // namespace onboarding::model
