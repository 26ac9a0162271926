// What operators do to projections. Implemented in projections/postgres on a thread of its own. Every action is one change that
// is compared with what the operator saw, and noted with who and why in projection_audit.
#pragma once

#include <chrono>
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
  /// (beside the live tables; again: with another `swap`, which needs a `revision` while they are filled), cancel (the build), rollback (the previous generation goes live),
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
  /// Of a retry of all keys: only of those behind this one, Outcome::after of the retry before.
  std::string after;
  /// Nothing is begun later than this: whoever asked does not wait any longer. A retry ends there, where it is.
  std::optional<std::chrono::steady_clock::time_point> deadline;
};

struct Outcome {
  std::uint64_t revision = 0;
  std::uint32_t generation = 0;  // that was begun or changed by a rebuild, reset, cancel, discard or rollback; 0: none
  std::uint64_t released_events = 0, released_keys = 0, still_parked = 0;  // of retry and skip
  bool complete = true;  // false: the deadline ended it; a retry of the same with `after` goes on
  std::string after;
};

struct ParkedRow {
  std::string key;
  std::uint32_t generation = 1;  // where it is parked: in the live one, or in the one that is being built
  bool live = true;
  Position position;          // of the event that cannot be applied
  std::uint64_t waiting = 0;  // events, it included
  std::string error, parked_at;
};

class Control {
 public:
  virtual ~Control() = default;
  template <class T>
  using Done = std::function<void(result<T>)>;

  /// Errc::not_found (no such projection, or nothing is parked there), changed, not_possible, unavailable (nothing was done, but
  /// where PostgreSQL broke off). Retry and skip reach the live generation and the one that is being built. A rebuild has begun
  /// when it is answered, nothing more: its progress is told by Queries::projections().
  virtual void act(Action, Done<Outcome>) = 0;
  /// Of the live generation and of one that is being built, in order of (key, generation), those behind the key `after`; at most 1,000.
  virtual void parked(std::string projection, std::string after, Done<std::vector<ParkedRow>>) = 0;
};

}  // namespace onboarding::projections
