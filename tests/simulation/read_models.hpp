// The read models' own projections, folded over a whole log in memory: the rows that PostgreSQL would hold, to be compared
// with what the sessions themselves know.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "events/domain/session.hpp"
#include "projections/core/fold.hpp"

namespace onboarding::simulation {

using Projections = std::vector<std::unique_ptr<projections::Projection>>;
using MakeProjections = std::function<Projections()>;

class ReadModels {
 public:
  explicit ReadModels(Projections);
  /// In the order of a partition. What a projection refuses is a complaint.
  void apply(const codec::DecodedEvent&);

  /// Where the rows of a session, its conversation and its person say something else than the session's state. Persons with
  /// several sessions are compared by `newest`: the value of each field that was learned last.
  std::vector<std::string> differences(const std::string& session, const std::string& user_key, const domain::State&,
                                       const std::map<std::string, std::string>& newest) const;
  const std::vector<std::string>& complaints() const { return complaints_; }

 private:
  using Row = std::map<std::string, projections::Cell>;  // by column; what was never written is missing
  std::vector<Row> rows(const std::string& table, const std::string& key_column, const std::string& key) const;

  Projections projections_;
  std::vector<projections::Fold> folds_;
  std::vector<std::string> complaints_;
};

}  // namespace onboarding::simulation
