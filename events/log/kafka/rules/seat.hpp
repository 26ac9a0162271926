// What a server does about one partition: from what the group proposed, what the log says of its last claim, and the time. Pure; one per
// partition. The group only proposes: whether a claim counts, the log decides (ledger).
#pragma once

#include <chrono>
#include <cstdint>

#include "events/log/kafka/rules/planted.hpp"

namespace onboarding::log::kafka {

class Seat {
 public:
  using Time = std::chrono::steady_clock::time_point;
  struct Patience {
    std::chrono::milliseconds hand_over{300};  // so long a partition that another server holds is waited for
    std::chrono::milliseconds retry{200};      // after a claim that did not count
    std::chrono::milliseconds lost{
        12'000};  // after a loss to somebody whom the group does not know of, or not yet, while they hold it
  };
  enum class Do : std::uint8_t { nothing, claim, hand_over };

  explicit Seat(Patience patience) : patience_(patience) {}

  // ---- what happened
  void proposed(bool to_us, Time now) {
    if (to_us && !owned_) {
      theirs_until_ = now + patience_.hand_over;
      not_before_ = now;
    }
    wanted_ = to_us || (owned_ && planted(Plant::hand_over_forgotten));
  }
  void claimed(bool counted, Time now) {
    busy_ = !counted && planted(Plant::one_claim_only);
    owned_ = counted;
    if (!counted) not_before_ = now + patience_.retry;
  }
  /// Handed over; or another server's claim counted.
  void released() { busy_ = owned_ = false; }
  void lost(Time now) {
    owned_ = planted(Plant::served_after_a_loss);
    theirs_until_ = now + patience_.lost;
  }

  // ---- what is to be done; what it says is taken as begun
  /// `claimed`: by anybody, as far as the log was read.
  Do next(bool claimed, Time now) {
    if (busy_) return Do::nothing;
    if (owned_ == wanted_) return Do::nothing;
    if (wanted_ && (now < not_before_ || (claimed && now < theirs_until_))) return Do::nothing;
    busy_ = true;
    return wanted_ ? Do::claim : Do::hand_over;
  }
  bool owned() const { return owned_; }
  bool settled() const { return owned_ == wanted_ && !busy_; }

 private:
  Patience patience_;
  bool wanted_ = false, owned_ = false, busy_ = false;
  Time theirs_until_{};  // what another server holds is left to it until then
  Time not_before_{};
};

}  // namespace onboarding::log::kafka
