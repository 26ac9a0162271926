// Bugs on purpose, so that the simulation can show that it finds them. Only the target simulation_kafka_planted is built with
// ONBOARDING_PLANT; everywhere else planted() is false at compile time and nothing of this remains.
#pragma once

namespace onboarding::log::kafka {

enum class Plant {
  none,
  claim_tie,                     // of two claims of one epoch the later one counts too
  acknowledge_before_read_back,  // sent is taken for counted
  two_owners_serving,            // a replaced owner goes on acknowledging what it reads of its own
  gap_accepted,                  // a record counts though one before it was lost
  in_doubt_taken_as_lost,        // a failed send is refused, and its sequence is used again without a new claim
  barrier_without_read_back,     // reads are let through when the barrier is sent
  resumed_ahead,                 // a reader begins one message too late
  served_after_a_loss,           // a seat that was lost is still taken for owned
  one_claim_only,                // after a claim that did not count none is made again
  hand_over_forgotten            // what is dealt to another is kept, and claimed back when it was taken
};

#ifdef ONBOARDING_PLANT
inline Plant planted_bug = Plant::none;
inline bool planted(Plant bug) { return planted_bug == bug; }
#else
constexpr bool planted(Plant) { return false; }
#endif

}  // namespace onboarding::log::kafka
