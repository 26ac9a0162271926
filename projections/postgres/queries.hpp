// The queries of projections/queries.hpp, on threads of their own, with prepared statements.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "projections/core/progress.hpp"
#include "projections/postgres/cached.hpp"
#include "projections/postgres/replica.hpp"

namespace onboarding::projections {

/// Owns its threads ("pg-query"): one more is started when a query waits and all are busy, at most as many as the pool has
/// connections to give. Queries beyond `max_waiting` are refused as unavailable.
class PostgresQueries final : public Queries {
 public:
  static constexpr std::size_t max_waiting = 4096;

  /// `pool` and `progress` outlive it.
  PostgresQueries(Pool&, Progress&, const PostgresOptions&, prometheus::Registry* = nullptr);
  /// Ends the queries in hand; those that wait are answered as unavailable.
  ~PostgresQueries() override;
  /// From now on reads go there while it serves them, and to the pool when it does not. Before the first query.
  void read_from(std::unique_ptr<Replica> replica) { replica_ = std::move(replica); }

  void profile(UserSelector, Done<Profile>) override;
  void sessions_of_user(UserSelector, PageRequest, Done<SessionPage>) override;
  void sessions(SessionFilter, PageRequest, Done<SessionPage>) override;
  void stats(Done<Stats>) override;
  void completion(std::uint32_t days, Done<Completion>) override;
  void abandonment(std::uint32_t days, Done<std::vector<AbandonmentField>>) override;
  void funnel(Done<std::vector<FunnelStep>>) override;
  void messages(std::uint32_t days, Done<MessageBuckets>) override;
  void usage(std::uint32_t days, Done<std::vector<UsageRow>>) override;
  void quality(std::uint32_t days, Done<std::vector<QualityDay>>) override;
  void wait_for(Freshness, std::function<void(bool reached, Lag)>) override;
  std::vector<ProjectionStatus> projections() const override;
  DatabaseStatus database() const override;

 private:
  /// Runs `work(Connection&)` on a thread of ours and hands on its answer, or why there is none. Read where the rows are as fresh.
  template <class T, class Work>
  void ask(Freshness rows, Done<T> done, Work work);
  /// The same with an answer that may be kept.
  template <class T, class Work>
  void ask_cached(Cached<T>& cached, const char* name, std::uint32_t key, Done<T> done, Work work);
  /// A prepared statement; one that takes long is told of, by its name.
  template <class... Arguments>
  pqxx::result read(Connection&, const std::string& name, const std::string& sql, const Arguments&... arguments) const;
  void submit(std::function<void(bool refused)>);
  void run();

  Pool& pool_;
  Progress& progress_;
  const std::size_t max_threads_;
  const std::chrono::milliseconds slow_query_;
  const std::shared_ptr<spdlog::logger> logger_;
  prometheus::Family<prometheus::Counter>*slow_ = nullptr, *asked_ = nullptr;
  std::unique_ptr<Replica> replica_;  // null: none is configured
  Cached<Stats> stats_;
  Cached<Completion> completion_;
  Cached<std::vector<AbandonmentField>> abandonment_;
  Cached<std::vector<FunnelStep>> funnel_;
  Cached<MessageBuckets> messages_;
  Cached<std::vector<UsageRow>> usage_;
  Cached<std::vector<QualityDay>> quality_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void(bool refused)>> waiting_;
  std::size_t idle_threads_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace onboarding::projections
