#include "projections/postgres/replica.hpp"

#include <prometheus/gauge.h>
#include <prometheus/registry.h>
#include <pthread.h>

namespace onboarding::projections {

namespace {

constexpr std::chrono::milliseconds look_interval{250};
// Marks of an hour in which the replica did not move: it has long been left by then, and only the newest ones matter.
constexpr std::size_t max_marks = 16'384;

// Of commits that are visible the record is in the log, if not yet on the disk: hence the place of insertion.
constexpr const char* primary_statement = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
constexpr const char* replica_statement =
    "SELECT pg_is_in_recovery(), coalesce(pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0'), 0)::bigint";

}  // namespace

Replica::Replica(std::string replica, std::string primary, const PostgresOptions& options, const Progress& progress,
                 prometheus::Registry* registry)
    : primary_url_(std::move(primary)), options_(options), progress_(progress), pool_(std::move(replica), options_, nullptr) {
  if (registry != nullptr) {
    const auto gauge = [&](const char* name, const char* help) {
      return &prometheus::BuildGauge().Name(name).Help(help).Register(*registry).Add({});
    };
    lag_gauge_ = gauge("onboarding_postgres_replica_lag_seconds", "Age of the oldest change that the replica does not have.");
    in_use_gauge_ = gauge("onboarding_postgres_replica_in_use", "1 while reads go to the replica.");
  }
  thread_ = std::thread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), "pg-replica");
}

Replica::~Replica() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    closing_.notify_all();
  }
  pool_.close();
  thread_.join();
}

bool Replica::serves(const std::string& projection, const std::optional<Position>& at_least) const {
  const std::lock_guard lock(mutex_);
  if (!in_use_ || !at_least) return in_use_;
  const auto has = has_.find(projection);
  return has != has_.end() && at_least->partition < has->second.size() && has->second[at_least->partition] >= at_least->sequence;
}

void Replica::failed(const std::string& why) {
  const std::lock_guard lock(mutex_);
  in_use_ = false;
  detail_ = why;
  show();
}

ReplicaStatus Replica::status() const {
  const std::lock_guard lock(mutex_);
  return {true, in_use_, lag_seconds_, detail_};
}

void Replica::run() {
  std::unique_lock lock(mutex_);
  while (!closed_) {
    lock.unlock();
    mark_primary();
    look_at_replica();
    lock.lock();
    closing_.wait_for(lock, look_interval, [this] { return closed_; });
  }
}

/// While the primary is away nothing new is written, and what the replica had is still all there is.
void Replica::mark_primary() {
  auto reached = progress_.reached();  // before the place is asked for
  auto place = guarded([&] {
    if (!primary_) primary_ = std::make_unique<Connection>(primary_url_);
    return pqxx::nontransaction(primary_->db).exec1(primary_statement)[0].as<std::uint64_t>();
  });
  if (!place) return primary_.reset();
  marks_.push_back({Clock::now(), *place, std::move(reached)});
  if (marks_.size() > max_marks) marks_.pop_front();
}

void Replica::look_at_replica() {
  struct Look {
    bool is_replica;
    std::uint64_t place;
  };
  auto look = [](Connection& connection) {
    const auto row = pqxx::nontransaction(connection.db).exec1(replica_statement);
    return Look{row[0].as<bool>(), row[1].as<std::uint64_t>()};
  };
  const auto seen = pool_.once(look);
  Reached has;
  if (seen) {
    while (!marks_.empty() && marks_.front().place <= seen->place) {
      has = std::move(marks_.front().reached);
      marks_.pop_front();
    }
  }
  const std::lock_guard lock(mutex_);
  if (!has.empty()) has_ = std::move(has);
  const auto lag = marks_.empty() ? Clock::duration::zero() : Clock::now() - marks_.front().at;
  lag_seconds_ = std::chrono::duration<double>(lag).count();
  detail_ = !seen                            ? seen.error().detail
            : !seen->is_replica              ? "it is no replica (any more)"
            : has_.empty()                   ? "it has not caught up yet"
            : lag > options_.replica_max_lag ? "it lags"
                                             : "";
  in_use_ = detail_.empty();
  show();
}

void Replica::show() {
  if (lag_gauge_ == nullptr) return;
  lag_gauge_->Set(lag_seconds_);
  in_use_gauge_->Set(in_use_ ? 1 : 0);
}

}  // namespace onboarding::projections
