// What of a request depends on the model's generation. Data, dated with defaults.hpp.
#pragma once

#include <string_view>

namespace onboarding::model {

/// How a model is told not to think long: extraction needs none of it, and its tokens count as output.
struct Thinking {
  std::string_view model;  // the beginning of its name
  std::string_view level;  // OpenAI's reasoning_effort, Gemini's thinkingLevel; empty: not sent
  int budget = -1;         // Gemini's thinkingBudget; -1: not sent
};

/// The longest beginning that fits; nothing is sent for a model that is not listed.
Thinking thinking_of(std::string_view model);

}  // namespace onboarding::model
