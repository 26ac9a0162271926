// What the host says. The model's words are used where they are true; what our own code decided (a refusal, a field that
// is still missing, completion) always reaches the person. Our own sentences are English; prompts are the flow's.
#pragma once

#include <string>
#include <vector>

#include "events/domain/session.hpp"

namespace onboarding::domain {

/// A value that was refused in this turn.
struct RefusedField {
  const FieldSpec* field = nullptr;
  std::string sentence;     // why, for the person
  bool open = true;         // it has no value: to be asked again
  std::uint32_t times = 1;  // how often a value for it was refused by now
};

/// What a turn came to, as far as the reply must tell it.
struct TurnOutcome {
  const Flow* flow = nullptr;
  std::vector<const FieldSpec*> accepted;  // extracted or corrected, in the flow's order
  std::vector<RefusedField> refused;
  std::vector<const FieldSpec*> missing;  // after this turn, in the flow's order
  bool complete = false;                  // after this turn
  bool completes = false;                 // by this turn
};

struct Reply {
  std::string text;
  std::vector<std::string> asks;
};

/// The first thing a person reads.
Reply greet(const Flow&);
/// The answer to a turn, from what the model would say and what became of it.
Reply compose(const ModelAnswer&, const TurnOutcome&);
/// The answer when nobody could read the message. Begins "We're experiencing technical difficulties" (api.md §1).
std::string technical_difficulties();
/// A required field that somebody would rather not answer.
std::string why_required(const FieldSpec&);

}  // namespace onboarding::domain
