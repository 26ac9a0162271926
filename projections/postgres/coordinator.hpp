// What happens beside the runner that follows the log: which partitions are ours, which generations are filled apart, when a
// build is compared and goes live, and what the books say of all that. Private to projections/postgres.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "events/clock.hpp"
#include "projections/core/runner.hpp"
#include "projections/postgres/erasure.hpp"
#include "projections/postgres/generations.hpp"
#include "projections/postgres/writer.hpp"

namespace onboarding::projections {

struct CoordinatorOptions {
  RunnerOptions following;
  RunnerOptions filling;                  // of a generation far behind
  std::uint64_t near_events = 20'000;     // less behind than this: it is followed with the others
  std::uint32_t lanes = 2;                // threads and connections that fill a generation
  std::chrono::milliseconds tick{500};    // how often the books are read
  std::chrono::milliseconds renew{1000};  // how often our leases are renewed
  std::chrono::seconds lease{6};          // how long they hold without that
};
/// Usual ones for this machine.
CoordinatorOptions coordinator_options(const PostgresOptions&);

/// Owns the threads "proj-lead" (leases, books), "proj-build" (compares, lets generations change places), "proj-erase" (persons, in
/// tables that nobody follows), "proj-runner", and "proj-lane" while something is filled.
class Coordinator {
 public:
  /// All arguments outlive it; `registry` may be null.
  Coordinator(Pool&, const Generations&, log::EventLog&, privacy::KeyStore&, Progress&, const PostgresOptions&,
              CoordinatorOptions, prometheus::Registry* registry);
  ~Coordinator();  // stops

  /// With `follows` this process shares in the work; without, it only tells how far others are.
  void start(bool follows);
  /// Ends what is in hand and gives the leases back. Any number of times.
  void stop();
  /// Something was changed: look now.
  void look();

 private:
  using Key = std::pair<std::string, std::uint32_t>;  // projection, number
  using Steady = std::chrono::steady_clock;
  struct Books {
    std::vector<GenerationRow> rows;
    std::map<std::string, Controls> controls;
    std::map<Key, std::vector<std::uint64_t>> positions;  // [partition]
    std::map<Key, std::uint64_t> parked;
    std::map<std::string, ComparisonStatus> comparisons;
    std::string trouble;       // of other workers, by their names
    std::uint64_t others = 0;  // workers
  };
  /// Fills what is far behind, of a part of our partitions: live generations, or the others.
  struct Lane {
    bool live = false;
    std::unique_ptr<PostgresWriter> writer;
    std::unique_ptr<Runner> runner;
    std::atomic<bool> stopping{false}, done{false};
    std::mutex mutex;
    std::condition_variable changed;
    std::string why;  // it does not get on
    std::thread thread;
  };

  void lead();
  result<void> connect();
  result<void> renew_leases();
  result<Books> read_books();
  void notice_locks();
  void publish(const Books&);
  void place(const Books&);
  void run_lanes(bool live, bool anew);
  void start_lanes(bool live);
  void stop_lanes(const std::function<bool(const Lane&)>& which);
  static void run_lane(Lane&);
  void erase();
  void build();
  void advance(const Books&, const Projection&);
  void compare_and_swap(const GenerationRow& live, const GenerationRow& building);
  void tell_holders(const GenerationRow& live, const GenerationRow& building);
  std::uint64_t behind(const Books&, const Key&) const;

  Pool& pool_;
  const Generations& books_;
  log::EventLog& log_;
  privacy::KeyStore& keys_;
  Progress& progress_;
  const PostgresOptions options_;
  const CoordinatorOptions how_;
  prometheus::Registry* const registry_;
  const std::int32_t worker_;

  PostgresWriter writer_;
  Runner runner_;
  std::unique_ptr<RunnerThread> following_;
  std::unique_ptr<log::Subscription> subscription_;  // of who only looks

  // Of proj-lead alone.
  std::optional<Connection> connection_;
  Steady::time_point next_renewal_{};
  std::list<Lane> lanes_;
  std::map<std::string, std::uint64_t> revisions_;  // as the runners know them
  std::string blocked_;                             // what our writers wait for
  Steady::time_point blocked_seen_{};

  // Of proj-erase alone.
  Eraser eraser_;
  std::string no_erasures_;  // why

  // Of proj-build alone.
  std::map<Key, int> differed_;  // comparisons in a row
  /// A build that may go live and waits for a lock: what was compared holds for a while.
  struct Ready {
    Generations::Comparison comparison;
    Steady::time_point until;
  };
  std::map<Key, Ready> ready_;
  std::set<Key> analyzed_;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool follows_ = false, look_ = false, build_ = false, stopping_ = false, running_ = false;
  std::set<std::uint32_t> ours_;  // partitions
  std::set<Key> together_;        // followed by the one runner
  std::set<Key> apart_[2];        // filled by lanes: the others, and [1] live ones
  std::thread lead_, build_thread_, erase_thread_;
};

}  // namespace onboarding::projections
