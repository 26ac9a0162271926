// The queries of projections/queries.hpp, on threads of their own, with prepared statements.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "projections/core/progress.hpp"
#include "projections/postgres/pool.hpp"

namespace onboarding::projections {

/// Owns its threads ("pg-query"): one more is started when a query waits and all are busy, at most as many as the pool has
/// connections to give. Queries beyond `max_waiting` are refused as unavailable.
class PostgresQueries final : public Queries {
 public:
  static constexpr std::size_t max_waiting = 4096;

  /// `pool` and `progress` outlive it.
  PostgresQueries(Pool&, Progress&, const PostgresOptions&);
  /// Ends the queries in hand; those that wait are answered as unavailable.
  ~PostgresQueries() override;

  void profile(UserSelector, Done<Profile>) override;
  void sessions_of_user(UserSelector, Done<std::vector<SessionRow>>) override;
  void stats(Done<Stats>) override;
  void completion(std::uint32_t days, Done<Completion>) override;
  void abandonment(std::uint32_t days, Done<std::vector<AbandonmentField>>) override;
  void messages(std::uint32_t days, Done<MessageBuckets>) override;
  void usage(std::uint32_t days, Done<std::vector<UsageRow>>) override;
  void quality(std::uint32_t days, Done<std::vector<QualityDay>>) override;
  void wait_for(Freshness, std::function<void(bool reached, Lag)>) override;
  std::vector<ProjectionStatus> projections() const override;
  DatabaseStatus database() const override;

 private:
  /// Runs `work(Connection&)` on a thread of ours and hands on its answer, or why there is none.
  template <class T, class Work>
  void ask(Done<T> done, Work work);
  void submit(std::function<void(bool refused)>);
  void run();

  Pool& pool_;
  Progress& progress_;
  const std::size_t max_threads_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void(bool refused)>> waiting_;
  std::size_t idle_threads_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace onboarding::projections
