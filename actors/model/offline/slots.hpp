// Which fields of a flow play which part: the person's name, the company, the job title, the size of the team, the goal.
// Found by type, and for free text and numbers by the words of name and label, so that any flow can be read.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "actors/model/offline/text.hpp"
#include "events/domain/flow.hpp"

namespace onboarding::model::offline {

class Slots {
 public:
  explicit Slots(const domain::Flow&);
  /// Of a flow version that is shared and never changes; kept per thread, for the newest few flows.
  static const Slots& of(const std::shared_ptr<const domain::Flow>&);

  const domain::FieldSpec* name = nullptr;
  const domain::FieldSpec* email = nullptr;
  const domain::FieldSpec* company = nullptr;
  const domain::FieldSpec* role = nullptr;
  const domain::FieldSpec* team_size = nullptr;
  const domain::FieldSpec* goal = nullptr;

  /// The token behind the field's label when one begins at token i ("e-mail address", "job title"); else i.
  std::size_t match_label(const domain::FieldSpec&, const Text&, std::size_t i) const;

 private:
  std::vector<std::pair<const domain::FieldSpec*, std::vector<std::vector<std::string>>>> labels_;  // longest first
};

}  // namespace onboarding::model::offline
