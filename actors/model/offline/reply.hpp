// What the host says back: acknowledges what was said, answers a question, asks for the next thing. English.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "actors/model/extraction.hpp"
#include "actors/model/offline/text.hpp"

namespace onboarding::model::offline {

/// `found`: field and value as said; `still_missing`: open fields after these, in order.
domain::ModelAnswer compose_answer(const ExtractionRequest&, const Text&,
                                   const std::vector<std::pair<std::string, std::string>>& found,
                                   const std::vector<std::string>& still_missing, bool declined_required);

}  // namespace onboarding::model::offline
