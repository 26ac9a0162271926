// The books of shared model limits in PostgreSQL, for servers that use the same provider accounts. The arithmetic is
// actors/model/shares; here it is only made one transaction under one lock, in the database's time.
#pragma once

#include <memory>
#include <string>

#include "actors/model/shares/share_store.hpp"

namespace onboarding::projections {

/// Brings the schema up on first use. A thread of its own ("pg-shares"); of requests that wait, the older are answered with
/// Errc::unavailable. Errors: Errc::unavailable when `url` is no libpq connection string, and for a renewal that failed.
result<std::unique_ptr<model::ShareStore>> make_share_store(const std::string& url, model::ShareRules);

}  // namespace onboarding::projections
