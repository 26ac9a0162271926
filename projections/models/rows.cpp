#include "projections/models/rows.hpp"

#include "projections/models/models.hpp"
#include "projections/queries.hpp"

namespace onboarding::projections {

rows::Row& rows::Row::set(std::size_t column, Cell cell) {
  upsert_.values.emplace_back(column, std::move(cell));
  return *this;
}

result<void> rows::check_person(const codec::DecodedEvent& event) {
  if (event.meta && !event.meta->user.empty()) return {};
  return failure(Errc::poison, "an event of a session without a user key");
}

std::vector<std::unique_ptr<Projection>> make_all_projections() {
  std::vector<std::unique_ptr<Projection>> all;
  all.push_back(make_profile_projection());
  all.push_back(make_sessions_projection());
  all.push_back(make_conversation_projection());
  all.push_back(make_usage_projection());
  all.push_back(make_flows_projection());
  return all;
}

}  // namespace onboarding::projections
