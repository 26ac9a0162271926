#include "projections/core/progress.hpp"

#include <prometheus/gauge.h>
#include <prometheus/registry.h>
#include <pthread.h>

#include <algorithm>

namespace onboarding::projections {

namespace {

constexpr std::chrono::milliseconds gauge_interval{500};
// A client's request waits 25 s at most; what asks for more is cut to this.
constexpr std::uint32_t max_wait_ms = 60'000;
// Beyond this many at once, waiting costs more than asking again.
constexpr std::size_t max_waiters = 10'000;

prometheus::Gauge& gauge(prometheus::Registry& registry, const char* name, const char* help, const std::string& projection) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({{"projection", projection}});
}

}  // namespace

Progress::Progress(std::vector<Name> names, const log::EventLog& log, const Clock& clock, prometheus::Registry* registry)
    : names_(std::move(names)),
      log_(log),
      clock_(clock),
      positions_(names_.size(), std::vector<std::uint64_t>(log.partitions(), 0)),
      oldest_waiting_(log.partitions()),
      parked_(names_.size(), 0) {
  if (registry != nullptr) {
    for (const Name& name : names_) {
      gauges_.push_back(
          {&gauge(*registry, "onboarding_projection_lag_events", "Events the read model does not have yet.", name.projection),
           &gauge(*registry, "onboarding_projection_lag_seconds", "Age of the oldest event the read model does not have.",
                  name.projection),
           &gauge(*registry, "onboarding_projection_parked", "Keys whose events wait behind one that cannot be applied.",
                  name.projection)});
    }
  }
  thread_ = std::thread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), "proj-progress");
}

Progress::~Progress() { stop(); }

void Progress::moved(std::size_t projection, std::uint32_t partition, std::uint64_t sequence) {
  const std::lock_guard lock(mutex_);
  positions_[projection][partition] = sequence;
}

void Progress::oldest_waiting(std::uint32_t partition, std::optional<domain::Timestamp> time) {
  const std::lock_guard lock(mutex_);
  oldest_waiting_[partition] = time;
}

void Progress::parked(std::size_t projection, std::uint64_t keys) {
  const std::lock_guard lock(mutex_);
  parked_[projection] = keys;
}

void Progress::state(std::string state, std::string because) {
  const std::lock_guard lock(mutex_);
  state_ = std::move(state);
  because_ = std::move(because);
}

void Progress::advanced(std::uint32_t partition) {
  const std::lock_guard lock(mutex_);
  if (partition < oldest_waiting_.size() && !oldest_waiting_[partition]) oldest_waiting_[partition] = clock_.now();
}

void Progress::wake() {
  std::vector<std::pair<std::function<void(bool, Lag)>, Lag>> reached;
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(waiters_, [&](Waiter& waiter) {
      const Position at = have(waiter.wanted.partition);
      if (at < waiter.wanted) return false;
      reached.emplace_back(std::move(waiter.done), Lag{at, waiter.wanted, 0});
      return true;
    });
  }
  for (auto& [done, lag] : reached) done(true, lag);
}

void Progress::on_waiting(std::function<void()> called) {
  const std::lock_guard lock(mutex_);
  on_waiting_ = std::move(called);
}

Position Progress::have(std::uint32_t partition) const {
  std::uint64_t least = UINT64_MAX;
  for (const auto& of_projection : positions_) least = std::min(least, of_projection[partition]);
  return {partition, least};
}

std::vector<std::uint64_t> Progress::reached() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::uint64_t> sequences;
  for (std::uint32_t partition = 0; partition < log_.partitions(); ++partition) sequences.push_back(have(partition).sequence);
  return sequences;
}

void Progress::wait_for(Freshness freshness, std::function<void(bool, Lag)> done) {
  if (!freshness.at_least) return done(true, {});
  const Position wanted = *freshness.at_least;
  Lag lag{{wanted.partition, 0}, wanted, wanted.sequence};
  bool reached = false, waits = false;
  if (wanted.partition < log_.partitions()) {
    const std::lock_guard lock(mutex_);
    lag.have = have(wanted.partition);
    reached = lag.have >= wanted;
    lag.events = reached ? 0 : wanted.sequence - lag.have.sequence;
    waits = !reached && freshness.wait_ms > 0 && !stopping_ && waiters_.size() < max_waiters;
    if (waits) {
      const auto period = std::chrono::milliseconds(std::min(freshness.wait_ms, max_wait_ms));
      waiters_.push_back({wanted, std::chrono::steady_clock::now() + period, std::move(done)});
      changed_.notify_all();
      if (on_waiting_) on_waiting_();
    }
  }
  if (!waits) done(reached, lag);
}

std::vector<ProjectionStatus> Progress::status() const {
  // The log is asked before the lock is taken: it may hold a lock of its own while it calls advanced().
  std::vector<std::uint64_t> heads(oldest_waiting_.size());
  for (std::uint32_t partition = 0; partition < heads.size(); ++partition) heads[partition] = log_.head(partition);
  const domain::Timestamp now = clock_.now();
  const std::lock_guard lock(mutex_);
  std::vector<ProjectionStatus> all;
  for (std::size_t i = 0; i < names_.size(); ++i) {
    ProjectionStatus status;
    status.name = names_[i].projection;
    status.version = names_[i].version;
    status.state = state_;
    status.stalled_because = because_;
    status.parked = parked_[i];
    for (std::uint32_t partition = 0; partition < heads.size(); ++partition) {
      const std::uint64_t at = positions_[i][partition];
      if (heads[partition] <= at) continue;
      status.lag_events += heads[partition] - at;
      if (oldest_waiting_[partition]) {
        const std::chrono::duration<double> age = now - *oldest_waiting_[partition];
        status.lag_seconds = std::max(status.lag_seconds, age.count());
      }
    }
    all.push_back(std::move(status));
  }
  return all;
}

void Progress::refresh_gauges() {
  if (gauges_.empty()) return;
  const auto all = status();
  for (std::size_t i = 0; i < all.size(); ++i) {
    gauges_[i].lag_events->Set(static_cast<double>(all[i].lag_events));
    gauges_[i].lag_seconds->Set(all[i].lag_seconds);
    gauges_[i].parked->Set(static_cast<double>(all[i].parked));
  }
}

void Progress::run() {
  auto next_refresh = std::chrono::steady_clock::now();
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const auto now = std::chrono::steady_clock::now();
    if (now >= next_refresh) {
      next_refresh = now + gauge_interval;
      lock.unlock();
      refresh_gauges();
      lock.lock();
      continue;
    }
    auto next = next_refresh;
    std::vector<std::pair<std::function<void(bool, Lag)>, Lag>> late;
    std::erase_if(waiters_, [&](Waiter& waiter) {
      if (waiter.deadline > now) {
        next = std::min(next, waiter.deadline);
        return false;
      }
      const Position at = have(waiter.wanted.partition);
      late.emplace_back(std::move(waiter.done), Lag{at, waiter.wanted, waiter.wanted.sequence - at.sequence});
      return true;
    });
    if (!late.empty()) {
      lock.unlock();
      for (auto& [done, lag] : late) done(false, lag);
      lock.lock();
      continue;
    }
    changed_.wait_until(lock, next);
  }
}

void Progress::stop() {
  std::vector<Waiter> left;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    left.swap(waiters_);
    changed_.notify_all();
  }
  for (Waiter& waiter : left) waiter.done(false, Lag{{waiter.wanted.partition, 0}, waiter.wanted, waiter.wanted.sequence});
  if (thread_.joinable()) thread_.join();
}

}  // namespace onboarding::projections
