// The read models (api.md §5) as pure functions. Their DDL stands in migrations/.
#pragma once

#include <memory>
#include <vector>

#include "projections/core/projection.hpp"

namespace onboarding::projections {

/// `users`, `user_profiles`: who a person is, by user key.
std::unique_ptr<Projection> make_profile_projection();
/// `onboarding_sessions`, `session_analytics`, `turn_outcomes`: how sessions go.
std::unique_ptr<Projection> make_sessions_projection();
/// `conversation_messages`: what was said.
std::unique_ptr<Projection> make_conversation_projection();
/// `token_usage`: what the models used.
std::unique_ptr<Projection> make_usage_projection();
/// `flow_fields`: what the published flows ask for, in order.
std::unique_ptr<Projection> make_flows_projection();

/// All of them.
std::vector<std::unique_ptr<Projection>> make_all_projections();

}  // namespace onboarding::projections
