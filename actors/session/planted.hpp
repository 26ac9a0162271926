// Bugs on purpose, so that the simulation can show that it finds them. Only the target simulation_planted is built with
// ONBOARDING_PLANT; everywhere else planted() is false at compile time and nothing of this remains.
#pragma once

namespace onboarding::session {

enum class Plant {
  none,
  acknowledge_before_durable,
  lost_timer,
  skipped_version_check,
  double_answer,
  activation_not_counted,
  stale_outcome_accepted,
  repeat_without_key,
  passivation_without_handshake,
  token_generation_not_checked,
  time_going_back
};

#ifdef ONBOARDING_PLANT
inline Plant planted_bug = Plant::none;
inline bool planted(Plant bug) { return planted_bug == bug; }
#else
constexpr bool planted(Plant) { return false; }
#endif

}  // namespace onboarding::session
