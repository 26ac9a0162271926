// A small flow and a request on it, for the tests of the model side.
#pragma once

#include <memory>
#include <string>

#include "actors/model/extraction.hpp"

namespace onboarding::model {

inline std::shared_ptr<const domain::Flow> small_flow() {
  static const auto flow = [] {
    auto f = std::make_shared<domain::Flow>();
    f->name = "small";
    for (const auto& [name, type] : {std::pair{"full_name", domain::FieldType::person_name},
                                     {"email", domain::FieldType::email},
                                     {"company", domain::FieldType::company},
                                     {"team_size", domain::FieldType::integer}}) {
      domain::FieldSpec spec;
      spec.name = name;
      spec.type = type;
      spec.label = name;
      f->fields.push_back(spec);
    }
    return f;
  }();
  return flow;
}

inline std::shared_ptr<ExtractionRequest> request(std::string message) {
  auto r = std::make_shared<ExtractionRequest>();
  r->session_id = "ses_000_x";
  r->turn_id = "trn_x";
  r->plan = "free";
  r->locale = "en";
  r->user_key = "user-key-1";
  r->flow = small_flow();
  r->missing = {"full_name", "email", "company", "team_size"};
  r->asked = {"full_name"};
  r->message = std::move(message);
  return r;
}

}  // namespace onboarding::model
