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

// Behind and not moving for this long is a stall.
constexpr std::chrono::seconds stall_after{10};
// The share of the newest half second in a rate.
constexpr double newest_share = 0.2;

prometheus::Gauge* gauge(prometheus::Registry& registry, const char* name, const char* help, const std::string& projection,
                         std::optional<std::uint32_t> partition = {}) {
  prometheus::Labels labels = {{"projection", projection}};
  if (partition) labels.emplace("partition", std::to_string(*partition));
  return &prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add(labels);
}

}  // namespace

Progress::Progress(std::vector<Name> names, const log::EventLog& log, const Clock& clock, prometheus::Registry* registry)
    : names_(std::move(names)), log_(log), clock_(clock), lines_(names_.size()) {
  for (Line& line : lines_) line.tracks.assign(log.partitions(), Track{0, {}, clock.now(), true});
  if (registry != nullptr) {
    for (const auto& [name, version] : names_) {
      Gauges& made = gauges_.emplace_back(Gauges{
          gauge(*registry, "onboarding_projection_lag_events", "Events the read model does not have yet.", name),
          gauge(*registry, "onboarding_projection_lag_seconds", "Age of the oldest event the read model does not have.", name),
          gauge(*registry, "onboarding_projection_parked", "Keys whose events wait behind one that cannot be applied.", name),
          {},
          {},
          {}});
      for (std::uint32_t partition = 0; partition < log.partitions(); ++partition) {
        made.position.push_back(
            gauge(*registry, "onboarding_projection_position", "The last event the read model has.", name, partition));
        made.stalled.push_back(gauge(*registry, "onboarding_projection_stalled",
                                     "1 where the read model is behind and has not moved from its position for ten seconds.",
                                     name, partition));
        made.rate.push_back(gauge(*registry, "onboarding_projection_events_per_second",
                                  "How fast the read model moves, over some seconds.", name, partition));
      }
    }
  }
  thread_ = std::thread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), "proj-progress");
}

Progress::~Progress() { stop(); }

void Progress::moved(std::size_t projection, std::uint32_t partition, std::uint64_t sequence) {
  const domain::Timestamp now = clock_.now();
  const std::lock_guard lock(mutex_);
  Track& track = lines_[projection].tracks[partition];
  if (track.position != sequence) track.moved_at = now;
  track.position = sequence;
}

void Progress::oldest_waiting(std::uint32_t partition, std::optional<domain::Timestamp> time) {
  const std::lock_guard lock(mutex_);
  for (Line& line : lines_) {
    if (line.tracks[partition].here) line.tracks[partition].behind_since = time;
  }
}

void Progress::parked(std::size_t projection, std::uint64_t keys) {
  const std::lock_guard lock(mutex_);
  lines_[projection].parked = keys;
}

void Progress::state(std::string state, std::string because) {
  const std::lock_guard lock(mutex_);
  state_ = std::move(state);
  because_ = std::move(because);
}

std::string Progress::trouble() const {
  const std::lock_guard lock(mutex_);
  return state_ == "running" ? "" : because_;
}

void Progress::advanced(std::uint32_t partition) {
  const domain::Timestamp now = clock_.now();
  const std::lock_guard lock(mutex_);
  for (Line& line : lines_) {
    if (!line.tracks[partition].behind_since) line.tracks[partition].behind_since = now;
  }
}

void Progress::seen(std::size_t projection, Seen seen) {
  std::vector<std::uint64_t> heads;
  for (std::uint32_t partition = 0; partition < log_.partitions(); ++partition) heads.push_back(log_.head(partition));
  const domain::Timestamp now = clock_.now();
  {
    const std::lock_guard lock(mutex_);
    Line& line = lines_[projection];
    for (std::uint32_t partition = 0; partition < heads.size(); ++partition) {
      Track& track = line.tracks[partition];
      track.here = seen.here[partition];
      if (track.here) continue;
      if (track.position != seen.positions[partition]) {
        track.position = seen.positions[partition];
        track.moved_at = now;
        track.behind_since.reset();
      }
      if (track.position >= heads[partition]) {
        track.behind_since.reset();
      } else if (!track.behind_since) {
        track.behind_since = now;
      }
    }
    line.parked = seen.parked;
    line.seen = std::move(seen);
  }
  wake();
}

void Progress::wake() {
  std::vector<std::pair<std::function<void(bool, Lag)>, Lag>> reached;
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(waiters_, [&](Waiter& waiter) {
      const Position at = have(waiter.wanted.partition, waiter.projection);
      if (at < waiter.wanted) return false;
      reached.emplace_back(std::move(waiter.done), Lag{at, waiter.wanted, 0});
      return true;
    });
  }
  for (auto& [done, lag] : reached) done(true, lag);
}

bool Progress::anybody_waits() const {
  const std::lock_guard lock(mutex_);
  return !waiters_.empty();
}

void Progress::on_waiting(std::function<void()> called) {
  const std::lock_guard lock(mutex_);
  on_waiting_ = std::move(called);
}

Position Progress::have(std::uint32_t partition, std::size_t projection) const {
  if (projection < lines_.size()) return {partition, lines_[projection].tracks[partition].position};
  std::uint64_t least = UINT64_MAX;
  for (const Line& line : lines_) least = std::min(least, line.tracks[partition].position);
  return {partition, least};
}

std::map<std::string, std::vector<std::uint64_t>> Progress::reached() const {
  const std::lock_guard lock(mutex_);
  std::map<std::string, std::vector<std::uint64_t>> all;
  for (std::size_t i = 0; i < lines_.size(); ++i) {
    for (const Track& track : lines_[i].tracks) all[names_[i].projection].push_back(track.position);
  }
  return all;
}

void Progress::wait_for(Freshness freshness, std::function<void(bool, Lag)> done) {
  if (!freshness.at_least) return done(true, {});
  const Position wanted = *freshness.at_least;
  Lag lag{{wanted.partition, 0}, wanted, wanted.sequence};
  bool reached = false, waits = false;
  if (wanted.partition < log_.partitions()) {
    const auto projection = static_cast<std::size_t>(
        std::find_if(names_.begin(), names_.end(), [&](const Name& name) { return name.projection == freshness.projection; }) -
        names_.begin());
    const std::lock_guard lock(mutex_);
    lag.have = have(wanted.partition, projection);
    reached = lag.have >= wanted;
    lag.events = reached ? 0 : wanted.sequence - lag.have.sequence;
    waits = !reached && freshness.wait_ms > 0 && !stopping_ && waiters_.size() < max_waiters;
    if (waits) {
      const auto period = std::chrono::milliseconds(std::min(freshness.wait_ms, max_wait_ms));
      waiters_.push_back({wanted, projection, Steady::now() + period, std::move(done)});
      changed_.notify_all();
      if (on_waiting_) on_waiting_();
    }
  }
  if (!waits) done(reached, lag);
}

std::vector<ProjectionStatus> Progress::status() const {
  // The log is asked before the lock is taken: it may hold a lock of its own while it calls advanced().
  std::vector<std::uint64_t> heads;
  std::uint64_t events = 0;
  for (std::uint32_t partition = 0; partition < log_.partitions(); ++partition)
    events += heads.emplace_back(log_.head(partition));
  const domain::Timestamp now = clock_.now();
  const std::lock_guard lock(mutex_);
  std::vector<ProjectionStatus> all;
  for (std::size_t i = 0; i < names_.size(); ++i) {
    const Line& line = lines_[i];
    ProjectionStatus status;
    status.name = names_[i].projection;
    status.version = names_[i].version;
    // A database that is down is nobody's pause.
    const bool told = !line.seen.state.empty() && state_ != "database_down";
    status.state = told ? line.seen.state : state_;
    status.stalled_because = told ? line.seen.because : because_;
    status.parked = line.parked;
    status.revision = line.seen.revision;
    status.generation = line.seen.generation;
    status.events_per_second = line.rate.per_second;
    bool any_stalled = false;
    for (std::uint32_t partition = 0; partition < heads.size(); ++partition) {
      const Track& track = line.tracks[partition];
      PartitionStatus of{partition, track.position, 0, 0, {}, track.rate.per_second};
      if (heads[partition] > track.position) {
        of.lag_events = heads[partition] - track.position;
        if (track.behind_since) {
          of.lag_seconds = std::max(0.0, std::chrono::duration<double>(now - *track.behind_since).count());
          const domain::Timestamp still = std::max(track.moved_at, *track.behind_since);
          if (now - still >= stall_after) of.stalled_since = still;
        }
      }
      any_stalled = any_stalled || of.stalled_since;
      status.lag_events += of.lag_events;
      status.lag_seconds = std::max(status.lag_seconds, of.lag_seconds);
      status.partitions.push_back(of);
    }
    if (any_stalled && status.state == "running") {
      status.state = "stalled";
      status.stalled_because = line.seen.slow_because;
    }
    status.others = line.seen.others;
    status.last_comparison = line.seen.last_comparison;
    for (GenerationStatus& other : status.others) {
      other.of_events = std::max(events, other.events);
      for (const auto& [number, rate] : line.others) {
        if (number == other.number) other.events_per_second = rate.per_second;
      }
      if (other.events_per_second > 0) {
        other.seconds_left = static_cast<double>(other.of_events - other.events) / other.events_per_second;
      }
    }
    all.push_back(std::move(status));
  }
  return all;
}

void Progress::Rate::at(std::uint64_t now_at, Steady::time_point now) {
  if (when && now_at >= value && now > *when) {
    const double fresh = static_cast<double>(now_at - value) / std::chrono::duration<double>(now - *when).count();
    per_second = per_second == 0 ? fresh : per_second * (1 - newest_share) + fresh * newest_share;
    if (per_second < 0.1) per_second = 0;
  }
  value = now_at;
  when = now;
}

void Progress::measure_rates() {
  const auto now = Steady::now();
  for (Line& line : lines_) {
    std::uint64_t events = 0;
    for (Track& track : line.tracks) {
      events += track.position;
      track.rate.at(track.position, now);
    }
    line.rate.at(events, now);
    std::vector<std::pair<std::uint32_t, Rate>> others;
    for (const GenerationStatus& other : line.seen.others) {
      const auto known =
          std::find_if(line.others.begin(), line.others.end(), [&](const auto& o) { return o.first == other.number; });
      others.emplace_back(other.number, known == line.others.end() ? Rate{} : known->second).second.at(other.events, now);
    }
    line.others = std::move(others);
  }
}

void Progress::refresh() {
  {
    const std::lock_guard lock(mutex_);
    measure_rates();
  }
  if (gauges_.empty()) return;
  const auto all = status();
  for (std::size_t i = 0; i < all.size(); ++i) {
    gauges_[i].lag_events->Set(static_cast<double>(all[i].lag_events));
    gauges_[i].lag_seconds->Set(all[i].lag_seconds);
    gauges_[i].parked->Set(static_cast<double>(all[i].parked));
    for (const PartitionStatus& of : all[i].partitions) {
      gauges_[i].position[of.partition]->Set(static_cast<double>(of.position));
      gauges_[i].stalled[of.partition]->Set(of.stalled_since ? 1 : 0);
      gauges_[i].rate[of.partition]->Set(of.events_per_second);
    }
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
      refresh();
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
      const Position at = have(waiter.wanted.partition, waiter.projection);
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
