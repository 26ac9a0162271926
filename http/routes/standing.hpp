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
  write_member(w, "events_per_second", p.events_per_second);
  write_member(w, "parked", p.parked);
  if (details && !p.stalled_because.empty()) write_member(w, "detail", p.stalled_because);
}

/// Those partitions that `shown` picks.
template <class Shown>
void write_partitions(JsonWriter& w, std::string_view member, const projections::ProjectionStatus& p, const Shown& shown) {
  std::vector<projections::PartitionStatus> picked;
  for (const auto& of : p.partitions)
    if (shown(of)) picked.push_back(of);
  write_objects(w, member, picked, [&](const projections::PartitionStatus& of) {
    write_member(w, "partition", of.partition);
    write_member(w, "position", to_string(Position{of.partition, of.position}));
    write_member(w, "lag_events", of.lag_events);
    write_member(w, "lag_seconds", of.lag_seconds);
    write_member(w, "events_per_second", of.events_per_second);
    if (of.stalled_since) write_member(w, "stalled_since", codec::format_time(*of.stalled_since));
  });
}

/// The member `projections`: by name, with those partitions that do not get on.
inline void write_standings(JsonWriter& w, const std::vector<projections::ProjectionStatus>& all, bool details) {
  write_key(w, "projections");
  w.StartObject();
  for (const auto& projection : all) {
    write_key(w, projection.name);
    w.StartObject();
    write_standing(w, projection, details);
    write_partitions(w, "stalled", projection, [](const auto& of) { return of.stalled_since.has_value(); });
    w.EndObject();
  }
  w.EndObject();
}

}  // namespace onboarding::http
