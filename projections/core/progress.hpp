// How far the read models are: written by the runner, read by everybody. Wakes who waits for a position.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
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
/// `onboarding_projection_{lag_events,lag_seconds,parked,position,stalled,events_per_second}`; nothing in it ever waits for the database.
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

  // ---- of the runner that follows the log, about live generations
  void moved(std::size_t projection, std::uint32_t partition, std::uint64_t sequence);
  /// The oldest event of the partition that the runner has not written; nullopt: not known, or there is none.
  void oldest_waiting(std::uint32_t partition, std::optional<domain::Timestamp>);
  void parked(std::size_t projection, std::uint64_t keys);
  /// `state` as in ProjectionStatus; for all projections that the database says nothing else of.
  void state(std::string state, std::string because = {});
  /// What keeps the runner of this process from getting on; empty: nothing.
  std::string trouble() const;
  /// A log's head moved.
  void advanced(std::uint32_t partition);
  /// Wakes those who wait for a position that is reached now. Once after a batch's moves.
  void wake();
  /// `called` whenever somebody begins to wait: the runner need not gather a larger batch first.
  void on_waiting(std::function<void()> called);

  // ---- of whoever looks at the database
  struct Seen {
    std::uint64_t revision = 0;
    std::uint32_t generation = 0;
    std::string state, because;  // empty: as the runner says
    std::string slow_because;    // what is known of why it does not move, should it not
    std::uint64_t parked = 0;
    std::vector<std::uint64_t> positions;  // [partition]
    std::vector<bool> here;                // [partition]: our runner follows it, and knows better
    std::vector<GenerationStatus> others;  // without rates
    ComparisonStatus last_comparison;
  };
  void seen(std::size_t projection, Seen);
  /// Somebody waits for a position: look often.
  bool anybody_waits() const;

  // ---- everybody's side
  void wait_for(Freshness, std::function<void(bool reached, Lag)> done);
  std::vector<ProjectionStatus> status() const;
  /// By projection, then partition: the last event that the read model has.
  std::map<std::string, std::vector<std::uint64_t>> reached() const;
  /// Ends all waits as not reached, and the thread. Any number of times.
  void stop();

 private:
  using Steady = std::chrono::steady_clock;
  struct Waiter {
    Position wanted;
    std::size_t projection = 0;  // all when beyond the last
    Steady::time_point deadline;
    std::function<void(bool, Lag)> done;
  };
  struct Gauges {
    prometheus::Gauge *lag_events, *lag_seconds, *parked;
    std::vector<prometheus::Gauge*> position, stalled, rate;  // [partition]
  };
  /// How fast something grows, smoothed over some seconds.
  struct Rate {
    void at(std::uint64_t value, Steady::time_point now);
    double per_second = 0;
    std::uint64_t value = 0;
    std::optional<Steady::time_point> when;
  };
  struct Track {  // of one partition
    std::uint64_t position = 0;
    std::optional<domain::Timestamp> behind_since;
    domain::Timestamp moved_at;
    bool here = true;
    Rate rate{};
  };
  struct Line {  // of one projection
    std::vector<Track> tracks;
    std::uint64_t parked = 0;
    Seen seen;
    Rate rate;
    std::vector<std::pair<std::uint32_t, Rate>> others;  // by number of the generation
  };
  void run();
  void refresh();
  void measure_rates();                                                  // mutex held
  Position have(std::uint32_t partition, std::size_t projection) const;  // mutex held: the least, of all where beyond the last

  const std::vector<Name> names_;
  const log::EventLog& log_;
  const Clock& clock_;
  std::vector<Gauges> gauges_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Line> lines_;  // [projection]
  std::string state_ = "running", because_;
  std::vector<Waiter> waiters_;
  std::function<void()> on_waiting_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace onboarding::projections
