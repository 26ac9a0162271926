// A streaming replica of the read models' database, and whether reads may go there: while it answers, is still a replica, and is not
// further behind than allowed. How far it is, is told by the write-ahead log: what the read models had reached was noted beside the
// primary's place in it; a replica that has replayed that place has all of it.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "projections/core/progress.hpp"
#include "projections/postgres/pool.hpp"

namespace onboarding::projections {

/// Thread-safe. Owns a thread ("pg-replica") that looks at both every 250 ms, and a pool of its own.
class Replica {
 public:
  /// `progress` outlives it.
  Replica(std::string replica, std::string primary, const PostgresOptions&, const Progress&, prometheus::Registry*);
  ~Replica();
  Replica(const Replica&) = delete;
  Replica& operator=(const Replica&) = delete;

  /// Whether a read of the projection's rows may go there that must see this position, if any.
  bool serves(const std::string& projection, const std::optional<Position>& at_least) const;
  Pool& pool() { return pool_; }
  /// A read broke off: it is not used before the next look.
  void failed(const std::string& why);
  ReplicaStatus status() const;

 private:
  using Clock = std::chrono::steady_clock;
  using Reached = std::map<std::string, std::vector<std::uint64_t>>;  // by projection, then partition
  /// At `at` the primary's log was at `place`, and the read models had at least `reached`.
  struct Mark {
    Clock::time_point at;
    std::uint64_t place = 0;
    Reached reached;
  };
  void run();
  void mark_primary();
  void look_at_replica();
  void show();  // mutex held

  const std::string primary_url_;
  const PostgresOptions options_;
  const Progress& progress_;
  Pool pool_;
  std::unique_ptr<Connection> primary_;  // of the thread; the pool may be exhausted, this must not wait for it
  std::deque<Mark> marks_;               // of the thread: those that the replica has not reached yet, oldest first

  mutable std::mutex mutex_;
  std::condition_variable closing_;
  bool closed_ = false, in_use_ = false;
  double lag_seconds_ = 0;
  Reached has_;
  std::string detail_ = "not looked at yet";
  prometheus::Gauge *lag_gauge_ = nullptr, *in_use_gauge_ = nullptr;
  std::thread thread_;
};

}  // namespace onboarding::projections
