// A second opinion on what events mean, written without a look at the decider: as simple as can be, so that it is
// plainly right. It also knows what no history may contain.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "events/domain/session.hpp"

namespace onboarding::simulation {

class SimpleModel {
 public:
  void apply(const domain::RecordedEvent&);
  /// Where the decider's state says something else.
  std::vector<std::string> differences(const domain::State&) const;
  /// What may never happen.
  std::vector<std::string> complaints() const;

 private:
  struct Exchange {
    std::string text, reply;
    int replies = 0;
    std::map<std::string, std::string> values;
  };
  std::string status_ = "none";
  std::uint64_t events_ = 0;
  std::map<std::string, std::string> values_;
  std::map<std::string, Exchange> exchanges_;
  std::vector<std::string> order_, answered_order_;
  std::multiset<std::string> keys_;
  std::vector<std::string> wrong_;
};

}  // namespace onboarding::simulation
