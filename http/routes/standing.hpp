// How projections stand, as every answer that speaks of them tells it.
#pragma once

#include <vector>

#include "http/routes/write.hpp"
#include "projections/queries.hpp"

namespace onboarding::http {

/// `details`: with what the database said, which is not for strangers.
inline void write_standing(JsonWriter& w, const projections::ProjectionStatus& p, bool details) {
  write_member(w, "version", p.version);
  write_member(w, "state", p.state);
  write_member(w, "lag_events", p.lag_events);
  write_member(w, "lag_seconds", p.lag_seconds);
  write_member(w, "parked", p.parked);
  if (details && !p.stalled_because.empty()) write_member(w, "detail", p.stalled_because);
}

/// The member `projections`: by name.
inline void write_standings(JsonWriter& w, const std::vector<projections::ProjectionStatus>& all, bool details) {
  write_key(w, "projections");
  w.StartObject();
  for (const auto& projection : all) {
    write_key(w, projection.name);
    w.StartObject();
    write_standing(w, projection, details);
    w.EndObject();
  }
  w.EndObject();
}

}  // namespace onboarding::http
