// When messages are taken into the queue instead of being waited for. Pure. By hand: on or off. Automatic: on above so many
// sessions that wait for budget, or above so many rate-limit errors of providers in five minutes; off once both have been
// at half or less for kCalmBefore, so that it does not flutter.
#pragma once

#include <deque>
#include <optional>
#include <string>

#include "actors/model/policy/lease.hpp"
#include "actors/model/status.hpp"

namespace onboarding::model {

class QueueModeSwitch {
 public:
  static constexpr std::chrono::minutes kErrorsFor{5};
  static constexpr std::chrono::seconds kCalmBefore{10};
  /// More errors than this within kErrorsFor are not told apart.
  static constexpr std::size_t kMaxErrors = 10'000;

  explicit QueueModeSwitch(const QueueSettings& settings) : settings_(settings) { set(settings.mode); }

  void set(QueueMode);
  void rate_limited(Instant now);  // a provider's 429
  /// True when it went on or off by this. Call after each change of who waits, and at next_event().
  bool update(std::size_t sessions_waiting, Instant now);

  bool queueing() const { return queueing_; }
  QueueMode mode() const { return settings_.mode; }
  const std::string& why() const { return why_; }  // empty while it is off
  std::int64_t errors(Instant now);
  /// When update() has something to do though nothing changed; only while it is on by itself.
  std::optional<Instant> next_event() const;

 private:
  QueueSettings settings_;
  bool queueing_ = false;
  std::string why_;
  std::deque<Instant> errors_;
  std::optional<Instant> calm_since_;
};

}  // namespace onboarding::model
