#include "actors/model/providers/models.hpp"

namespace onboarding::model {
namespace {

constexpr Thinking kThinking[] = {
    // OpenAI: before 5.1 the default is "medium"; since then none, and nothing needs to be said.
    {"gpt-5", "minimal", -1},
    {"gpt-5.", "", -1},
    {"gpt-5-pro", "", -1},
    {"o1", "low", -1},
    {"o3", "low", -1},
    {"o4", "low", -1},
    // Gemini: a budget of tokens in 2.5, a level since 3. Pro models cannot do without.
    {"gemini-2.5", "", 0},
    {"gemini-2.5-pro", "", 128},
    {"gemini-3", "minimal", -1},
    {"gemini-3-pro", "low", -1},
    {"gemini-3.1-pro", "low", -1},
    {"gemini-3.5-pro", "low", -1},
    {"gemini-3.8-pro", "low", -1},
};

}  // namespace

Thinking thinking_of(std::string_view model) {
  Thinking best;
  for (const auto& t : kThinking)
    if (model.substr(0, t.model.size()) == t.model && t.model.size() > best.model.size()) best = t;
  return best;
}

}  // namespace onboarding::model
