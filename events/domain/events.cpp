#include "events/domain/events.hpp"

#include <array>

namespace onboarding::domain {

std::string_view type_name(const Event& event) {
  // In the order of the variant's alternatives.
  static constexpr std::array<std::string_view, std::variant_size_v<Event>> names = {
      "FlowPublished",    "SessionStarted",   "MessageReceived", "TurnStarted",      "TurnQueued",
      "LlmCallStarted",   "LlmCallSucceeded", "LlmCallFailed",   "FieldExtracted",   "FieldCorrected",
      "FieldRejected",    "FieldDeclined",    "FieldReasked",    "AssistantReplied", "TurnFailed",
      "SessionCompleted", "SessionAbandoned", "SessionResumed",  "TokenIssued",      "UserErased"};
  return names[event.index()];
}

}  // namespace onboarding::domain
