// What operators do to projections. Implemented in projections/postgres on a thread of its own. Every action is one change that
// is compared with what the operator saw, and noted with who and why in projection_audit.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "events/domain/result.hpp"
#include "events/ids.hpp"

namespace onboarding::projections {

struct Action {
  std::string projection;
  /// pause, resume, restart (look anew at everything), reset (empty the live tables and begin at the log's beginning), rebuild
  /// (beside the live tables; again: with another `swap`), cancel (the build), rollback (the previous generation goes live),
  /// discard (the previous generation), retry (parked events), skip (one parked event, then the ones behind it are retried).
  std::string verb;
  std::string actor, reason;
  /// ProjectionStatus::revision as it was seen; nullopt: whatever it is now. Not for retry and skip.
  std::optional<std::uint64_t> revision;
  /// Of a rebuild, once it is compared: if_equal, always, never, compare_only.
  std::string swap = "if_equal";
  /// Of retry (none: all keys) and skip: the parked key, and the position of its poison event as it was seen.
  std::string key;
  std::optional<Position> position;
};

struct Outcome {
  std::uint64_t revision = 0;
  std::uint64_t released_events = 0, released_keys = 0, still_parked = 0;  // of retry and skip
  std::string detail;
};

struct ParkedRow {
  std::string key;
  Position position;          // of the event that cannot be applied
  std::uint64_t waiting = 0;  // events, it included
  std::string error, parked_at;
};

class Control {
 public:
  virtual ~Control() = default;
  template <class T>
  using Done = std::function<void(result<T>)>;

  /// Errc::not_found (no such projection, or nothing is parked there), changed, not_possible, unavailable. A rebuild has begun
  /// when it is answered, nothing more: its progress is told by Queries::projections().
  virtual void act(Action, Done<Outcome>) = 0;
  /// Of the live generation, in order of key, at most 1,000.
  virtual void parked(std::string projection, Done<std::vector<ParkedRow>>) = 0;
};

}  // namespace onboarding::projections
