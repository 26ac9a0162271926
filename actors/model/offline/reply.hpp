// What the host says back: acknowledges what was said, answers a question, asks for the next thing. English; in a flow of another
// language only the flow's own prompts.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "actors/model/extraction.hpp"
#include "actors/model/offline/text.hpp"

namespace onboarding::model::offline {

/// Whether the prompts are English. What a person's machine is set to says little about what they write.
bool reads_english(const domain::Flow&);

/// `found`: field and value as said; `still_missing`: open fields after these, in order; `either`: the known fields that a
/// correction may mean, where that is not certain.
domain::ModelAnswer compose_answer(const ExtractionRequest&, const Text&,
                                   const std::vector<std::pair<std::string, std::string>>& found,
                                   const std::vector<std::string>& still_missing, bool declined_required,
                                   const std::vector<const domain::FieldSpec*>& either);

}  // namespace onboarding::model::offline
