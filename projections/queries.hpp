// What http/ asks the read models. Implemented in projections/postgres on threads of its own; a fake serves the HTTP tests.
// Every call is asynchronous; `done` exactly once, on a thread of the pool; Errc::unavailable when PostgreSQL is down.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "events/domain/personal.hpp"
#include "events/domain/result.hpp"
#include "events/ids.hpp"

namespace onboarding::projections {

enum class Errc {
  unavailable = 1,  // PostgreSQL cannot be reached, or the pool is exhausted
  foreign_log,      // the database belongs to another log
  beyond_end,       // a checkpoint lies beyond the log's end
  not_found,
  bad_migration,  // a migration was edited after it was applied, or is missing
  poison,         // an event could not be applied
  fenced,         // another runner moved a checkpoint: read it again
  changed,        // somebody else changed it since it was looked at
  not_possible    // not in the state that it is in
};
std::error_code make_error_code(Errc);

struct Profile {
  std::string user_id;
  bool vouched = false;
  std::vector<std::pair<std::string, std::string>> fields;  // field → stored value, in order of name
  std::vector<std::pair<std::string, std::string>> types;   // field → type name
  domain::Timestamp updated_at;
  std::string etag;
};

struct SessionRow {
  std::string session_id, user_id, status, flow, plan;  // user_id: empty once the person was erased
  domain::Timestamp created_at;
  std::optional<domain::Timestamp> completed_at;
  std::int64_t total_messages_count = 0;
  std::string user_key;
  std::int64_t flow_version = 0;
  domain::Timestamp updated_at;
};
/// Lists are told newest first, page by page: the next one begins behind the last row of the one before, whatever came since.
struct SessionPlace {
  domain::Timestamp created_at;
  std::string session_id;
};
struct PageRequest {
  std::optional<SessionPlace> after;
  std::uint32_t limit = 100;
};
struct SessionPage {
  std::vector<SessionRow> rows;
  std::optional<SessionPlace> next;  // there is more
};
/// All that is set must hold.
struct SessionFilter {
  std::string status, flow, plan, user_id;
  std::optional<domain::Timestamp> since, before;  // created_at
};

struct Stats {
  std::int64_t active_sessions = 0, completed_today = 0;
  double completion_rate_7d = 0, avg_duration_minutes = 0, error_rate_1h = 0;  // NaN never: 0 when there is nothing
};
struct CompletionDay {
  std::string day;  // YYYY-MM-DD, UTC, of the session's start
  std::int64_t started = 0, completed = 0;
  double rate = 0, average_minutes = 0;
  double p50_minutes = 0, p90_minutes = 0, p99_minutes = 0;
};
struct Completion : CompletionDay {  // of all days together; `day` is empty
  std::int64_t days = 30;
  std::vector<CompletionDay> by_day;
};
struct AbandonmentField {
  std::string field;
  std::int64_t count = 0, asked = 0;
  double share_of_abandoned = 0, share_of_asked = 0;
};
struct FunnelStep {
  std::string flow;
  std::int64_t flow_version = 1, step = 0;
  std::string name, field;  // "started", "asked" and "filled" with their field, "completed"
  std::int64_t sessions = 0;
  double share_of_started = 0;
};
struct MessageBuckets {
  std::int64_t under_8 = 0, from_8_to_10 = 0, from_11_to_15 = 0, over_15 = 0;
  double average = 0;
};

/// What model calls used and cost. Nanodollars: billionths of a US dollar, list prices.
struct UsageFigures {
  std::int64_t calls = 0, failed_calls = 0;
  std::int64_t unreported_calls = 0, unpriced_calls = 0;  // of the calls: what they used, or what that costs, is not known
  std::int64_t input_tokens = 0;                          // including the two next ones
  std::int64_t cached_input_tokens = 0, cache_write_tokens = 0;
  std::int64_t output_tokens = 0, reasoning_tokens = 0;  // reasoning is part of the output
  std::int64_t latency_ms = 0;                           // sum
  std::int64_t cost_nanodollars = 0;
};
struct UsageRow {
  std::string day;  // YYYY-MM-DD, UTC, of the call's end
  std::string provider, model, plan;
  UsageFigures figures;
};

/// What the rates of GET /api/metrics/quality are made of, over the sessions that began on a day.
struct QualityFigures {
  std::int64_t sessions = 0;
  std::int64_t fields_asked = 0, asked_fields_filled = 0;  // each field once a session
  std::int64_t questions = 0, reasked = 0;
  std::int64_t values_said = 0, values_rejected = 0;
  std::int64_t replies = 0, fallback_replies = 0, failed_turns = 0;
  std::int64_t calls = 0, failed_calls = 0;
};
struct QualityDay {
  std::string day;  // YYYY-MM-DD, UTC, of the session's start
  QualityFigures figures;
};

/// Whose rows: one user key (a session token's user), or all rows of a client's user_id (application or operator key).
struct UserSelector {
  std::string user_key;  // empty: by user_id
  std::string user_id;
  std::optional<Position> at_least = {};  // read nowhere where this is not
};

/// Read-your-writes: wait until the read model has the event at `at_least`.
struct Freshness {
  std::optional<Position> at_least;
  std::uint32_t wait_ms = 0;
  std::string projection{};  // whose rows are asked for; empty: all of them must have it
};
struct Lag {
  Position have, want;
  std::uint64_t events = 0;
};

struct PartitionStatus {
  std::uint32_t partition = 0;
  std::uint64_t position = 0, lag_events = 0;
  double lag_seconds = 0;
  std::optional<domain::Timestamp> stalled_since;  // behind, and has not moved since then, for ten seconds or more
  double events_per_second = 0;
};
/// A set of a projection's tables beside the live one.
struct GenerationStatus {
  std::uint32_t number = 1, version = 1;
  std::string state;                        // "building", "previous", "replay"
  std::string phase;                        // of a build: "filling", "ready" (compared, waits for an operator)
  std::string swap;                         // "if_equal", "always", "never", "compare_only"
  std::uint64_t events = 0, of_events = 0;  // it has, of the log's
  double events_per_second = 0, seconds_left = 0;
  std::uint64_t parked = 0;
  std::string detail;  // why it does not get on
};
/// What a build was compared to find.
struct ComparisonStatus {
  std::uint32_t generation = 0;  // that was compared with the live one; 0: none was yet
  std::string state;             // what became of it: "building" (it waits), "live", "previous", "gone"
  std::string report;            // JSON
};
struct ProjectionStatus {
  std::string name;
  std::uint32_t version = 1;
  std::string state;  // "running", "stalled", "paused", "stale" (of another version, being rebuilt), "database_down"
  std::uint64_t lag_events = 0;
  double lag_seconds = 0;
  std::uint64_t parked = 0;
  std::string stalled_because;
  std::uint64_t revision = 0;  // counts the changes that operators and rebuilds made
  std::uint32_t generation = 0;
  double events_per_second = 0;
  std::vector<PartitionStatus> partitions{};
  std::vector<GenerationStatus> others{};
  ComparisonStatus last_comparison{};
};
struct ReplicaStatus {
  bool configured = false, in_use = false;
  double lag_seconds = 0;
  std::string detail;  // why it is not used
};
struct DatabaseStatus {
  bool reachable = false;
  bool breaker_open = false;
  std::uint32_t pool_in_use = 0, pool_idle = 0, pool_max = 0, pool_waiting = 0;
  double ping_ms = 0;
  std::string detail;
  ReplicaStatus replica = {};
};

class Queries {
 public:
  virtual ~Queries() = default;
  template <class T>
  using Done = std::function<void(result<T>)>;

  /// Both: Errc::poison while an event of that person waits behind one that could not be applied: what is there is stale.
  virtual void profile(UserSelector, Done<Profile>) = 0;
  virtual void sessions_of_user(UserSelector, PageRequest, Done<SessionPage>) = 0;
  virtual void sessions(SessionFilter, PageRequest, Done<SessionPage>) = 0;
  /// This and those below: of a few seconds ago at the most where `postgres.metrics_ttl_seconds` allows it.
  virtual void stats(Done<Stats>) = 0;
  virtual void completion(std::uint32_t days, Done<Completion>) = 0;
  virtual void abandonment(std::uint32_t days, Done<std::vector<AbandonmentField>>) = 0;
  /// In order of flow, version, step; over all time.
  virtual void funnel(Done<std::vector<FunnelStep>>) = 0;
  virtual void messages(std::uint32_t days, Done<MessageBuckets>) = 0;
  /// The last `days` UTC days with today, in order of day, provider, model, plan.
  virtual void usage(std::uint32_t days, Done<std::vector<UsageRow>>) = 0;
  /// In order of day.
  virtual void quality(std::uint32_t days, Done<std::vector<QualityDay>>) = 0;
  /// Answers true once every read model has the position, false with the time over; `lag` says how far it is.
  virtual void wait_for(Freshness, std::function<void(bool reached, Lag)>) = 0;
  /// Cheap, from memory; never blocks.
  virtual std::vector<ProjectionStatus> projections() const = 0;
  virtual DatabaseStatus database() const = 0;
};

}  // namespace onboarding::projections

template <>
struct std::is_error_code_enum<onboarding::projections::Errc> : std::true_type {};
