// How far the read models are: written by the runner, read by everybody. Wakes who waits for a position.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "events/clock.hpp"
#include "events/log/event_log.hpp"
#include "projections/queries.hpp"

namespace prometheus {
class Registry;
class Gauge;
}  // namespace prometheus

namespace onboarding::projections {

/// Thread-safe. Owns one thread ("proj-progress"), which ends waits whose time is over and refreshes the gauges
/// `onboarding_projection_{lag_events,lag_seconds,parked}{projection}`; nothing in it ever waits for the database.
class Progress {
 public:
  struct Name {
    std::string projection;
    std::uint32_t version = 1;
  };
  Progress(std::vector<Name>, const log::EventLog&, const Clock&, prometheus::Registry*);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // ---- the runner's side
  void moved(std::size_t projection, std::uint32_t partition, std::uint64_t sequence);
  /// The oldest event of the partition that is not in every read model; nullopt: not known, or there is none.
  void oldest_waiting(std::uint32_t partition, std::optional<domain::Timestamp>);
  void parked(std::size_t projection, std::uint64_t keys);
  /// `state` as in ProjectionStatus; for all projections.
  void state(std::string state, std::string because = {});
  /// A log's head moved.
  void advanced(std::uint32_t partition);
  /// Wakes those who wait for a position that is reached now. Once after a batch's moves.
  void wake();
  /// `called` whenever somebody begins to wait: the runner need not gather a larger batch first.
  void on_waiting(std::function<void()> called);

  // ---- everybody's side
  void wait_for(Freshness, std::function<void(bool reached, Lag)> done);
  std::vector<ProjectionStatus> status() const;
  /// By partition: the last event that every read model has.
  std::vector<std::uint64_t> reached() const;
  /// Ends all waits as not reached, and the thread. Any number of times.
  void stop();

 private:
  struct Waiter {
    Position wanted;
    std::chrono::steady_clock::time_point deadline;
    std::function<void(bool, Lag)> done;
  };
  struct Gauges {
    prometheus::Gauge *lag_events, *lag_seconds, *parked;
  };
  void run();
  void refresh_gauges();
  Position have(std::uint32_t partition) const;  // mutex held: the least of all projections

  const std::vector<Name> names_;
  const log::EventLog& log_;
  const Clock& clock_;
  std::vector<Gauges> gauges_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::vector<std::uint64_t>> positions_;             // [projection][partition]
  std::vector<std::optional<domain::Timestamp>> oldest_waiting_;  // [partition]
  std::vector<std::uint64_t> parked_;                             // [projection]
  std::string state_ = "running", because_;
  std::vector<Waiter> waiters_;
  std::function<void()> on_waiting_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace onboarding::projections
