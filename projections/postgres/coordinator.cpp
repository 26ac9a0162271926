#include "projections/postgres/coordinator.hpp"

#include <pthread.h>
#include <spdlog/logger.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <utility>

#include "projections/postgres/archive.hpp"

namespace onboarding::projections {

namespace {

// The first half of the advisory locks that say "this worker lives"; the second is the worker. Any number nobody else uses.
constexpr std::int32_t alive_class = 1869505122;
// One process at a time deals out partitions: "onblease".
constexpr const char* dealing_lock = "SELECT pg_advisory_xact_lock(8029464485219890789)";
// While somebody waits for a position that another process writes.
constexpr std::chrono::milliseconds impatient{25};
constexpr int lane_niceness = 10;
constexpr int times_to_differ = 3;
constexpr std::chrono::seconds a_builds_turn{1};
// Both were equal, and follow the same log: a swap that waits for a lock need not look again for so long.
constexpr std::chrono::minutes comparison_holds{5};
// Somebody's lock on a table, told for this long after it was seen last: between two tries nobody waits for it.
constexpr std::chrono::seconds blocked_is_told{5};
constexpr double slow_seconds = 1;  // further behind than this: is it a lock?

std::int32_t new_worker() { return static_cast<std::int32_t>(std::random_device{}() >> 1U) | 1; }

std::string host_and_process() {
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  return std::string(host) + ":" + std::to_string(getpid());
}

std::uint64_t sum(const std::vector<std::uint64_t>& positions, const std::set<std::uint32_t>& of) {
  std::uint64_t all = 0;
  for (const std::uint32_t partition : of) all += positions[partition];
  return all;
}

}  // namespace

CoordinatorOptions coordinator_options(const PostgresOptions& postgres) {
  CoordinatorOptions options;
  options.near_events = postgres.near_events;
  options.filling.max_batch_events = 8'192;
  options.filling.max_batch_bytes = 8 << 20;
  options.filling.behind_events = 2'000;
  options.filling.partition_by_partition = true;
  options.lanes = std::clamp(std::thread::hardware_concurrency(), 1U, 4U);
  return options;
}

Coordinator::Coordinator(Pool& pool, const Generations& books, log::EventLog& log, privacy::KeyStore& keys, Progress& progress,
                         const PostgresOptions& options, CoordinatorOptions how, prometheus::Registry* registry)
    : pool_(pool),
      books_(books),
      log_(log),
      keys_(keys),
      progress_(progress),
      options_(options),
      how_(std::move(how)),
      registry_(registry),
      worker_(new_worker()),
      writer_(pool, books, options,
              [this] {
                const std::lock_guard lock(mutex_);
                return Assignment{worker_, 0, 1, [together = together_](const GenerationRow& row) {
                                    return together.contains({row.projection, row.number});
                                  }};
              }),
      runner_(log, keys, writer_, &progress, how_.following, options.logger.get(), registry),
      eraser_(pool, books, log, keys, options.logger) {}

Coordinator::~Coordinator() { stop(); }

void Coordinator::start(bool follows) {
  {
    const std::lock_guard lock(mutex_);
    if (running_) return;
    running_ = true;
    follows_ = follows;
  }
  if (follows) {
    following_ = std::make_unique<RunnerThread>(runner_, log_, progress_, how_.following);
    build_thread_ = std::thread([this] { build(); });
    pthread_setname_np(build_thread_.native_handle(), "proj-build");
    erase_thread_ = std::thread([this] { erase(); });
    pthread_setname_np(erase_thread_.native_handle(), "proj-erase");
  } else {
    subscription_ = log_.subscribe([this](std::uint32_t partition) { progress_.advanced(partition); });
  }
  lead_ = std::thread([this] { lead(); });
  pthread_setname_np(lead_.native_handle(), "proj-lead");
}

void Coordinator::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  subscription_.reset();
  if (build_thread_.joinable()) build_thread_.join();
  if (erase_thread_.joinable()) erase_thread_.join();
  if (lead_.joinable()) lead_.join();
  following_.reset();
  stop_lanes([](const Lane&) { return true; });
  if (connection_) {
    guarded([&] {  // another process need not wait to see that we are gone
      pqxx::work transaction(connection_->db);
      transaction.exec_params0("DELETE FROM projection_leases WHERE worker = $1", worker_);
      transaction.exec_params0("DELETE FROM projection_workers WHERE worker = $1", worker_);
      transaction.commit();
    });
    connection_.reset();
  }
}

void Coordinator::look() {
  const std::lock_guard lock(mutex_);
  look_ = build_ = true;
  changed_.notify_all();
}

void Coordinator::lead() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    look_ = false;
    const bool follows = follows_;
    lock.unlock();
    auto read = connect()
                    .and_then([&]() -> result<void> {
                      if (!follows || Steady::now() < next_renewal_) return {};
                      return renew_leases();
                    })
                    .and_then([&] { return read_books(); });
    if (read) {
      notice_locks();
      publish(*read);
      if (follows) place(*read);
    } else {
      connection_.reset();
      // Who follows is told by the runner.
      if (!follows) progress_.state(read.error().code == Errc::unavailable ? "database_down" : "stalled", read.error().message());
    }
    const bool waited_for = read && progress_.anybody_waits();
    lock.lock();
    const bool all_ours = ours_.size() == log_.partitions() && together_.size() >= books_.projections().size();
    // Of what others follow, only the books tell.
    const auto pause = all_ours ? how_.tick : waited_for ? impatient : how_.tick / 5;
    changed_.wait_for(lock, pause, [this] { return stopping_ || look_; });
  }
}

result<void> Coordinator::connect() {
  if (connection_ && connection_->db.is_open()) return {};
  auto lease = pool_.acquire();  // its breaker keeps us from asking a dead server all the time
  if (!lease) return tl::unexpected(lease.error());
  auto prepared = books_.prepare((*lease)->db);
  if (!prepared) {
    lease->broken();
    return prepared;
  }
  next_renewal_ = {};
  return guarded([&] {
    connection_.emplace(pool_.connection_string());
    pqxx::nontransaction session(connection_->db);
    session.exec_params1("SELECT pg_advisory_lock($1, $2)", alive_class, worker_);
  });
}

result<void> Coordinator::renew_leases() {
  next_renewal_ = Steady::now() + how_.renew;
  std::string trouble = blocked_.empty() ? progress_.trouble() : blocked_;
  for (Lane& lane : lanes_) {
    const std::lock_guard lock(lane.mutex);
    if (trouble.empty()) trouble = lane.why;
  }
  auto held = guarded([&] {
    pqxx::work transaction(connection_->db);
    transaction.exec1(dealing_lock);
    transaction.exec_params0(
        "INSERT INTO projection_workers (worker, name, until, trouble) VALUES ($1, $2, now() + $3 * interval '1 s', $4) "
        "ON CONFLICT (worker) DO UPDATE SET until = EXCLUDED.until, trouble = EXCLUDED.trouble",
        worker_, host_and_process(), how_.lease.count(), trouble);
    // Whoever hangs may hold rows that we need: its connections end.
    transaction.exec_params(
        "WITH locks AS MATERIALIZED (SELECT classid, objid, pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND "
        "objsubid = 2 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())), "
        "dead AS (DELETE FROM projection_workers w WHERE w.until < now() OR NOT EXISTS (SELECT FROM locks WHERE classid = "
        "$1::integer::oid AND objid = w.worker::oid) RETURNING worker) "
        "SELECT pg_terminate_backend(pid) FROM (SELECT DISTINCT pid FROM locks JOIN dead ON objid = worker::oid JOIN "
        "pg_stat_activity a USING (pid) WHERE classid IN ($1::integer::oid, $2::integer::oid) AND a.usename = current_user) AS "
        "held",
        alive_class, writer_class);
    transaction.exec0(
        "DELETE FROM projection_leases l WHERE NOT EXISTS (SELECT FROM projection_workers w WHERE w.worker = l.worker)");
    const auto workers = transaction.exec1("SELECT count(*) FROM projection_workers")[0].as<std::uint32_t>();
    const std::uint32_t share = (log_.partitions() + workers - 1) / workers;
    // More than our share is for others to take; what is free, we take up to it. The fence ends the former owner's batch.
    transaction.exec_params0(
        "DELETE FROM projection_leases WHERE partition IN (SELECT partition FROM projection_leases WHERE worker = $1 "
        "ORDER BY partition OFFSET $2)",
        worker_, share);
    transaction.exec_params(
        "WITH taken AS (INSERT INTO projection_leases SELECT p, $1 FROM generate_series(0, $2::integer - 1) p "
        "WHERE NOT EXISTS (SELECT FROM projection_leases WHERE partition = p) ORDER BY p "
        "LIMIT greatest(0, $3::integer - (SELECT count(*) FROM projection_leases WHERE worker = $1)) RETURNING partition), "
        "locked AS MATERIALIZED (SELECT c.ctid FROM projection_checkpoints c JOIN taken USING (partition) WHERE c.log_id = $4 "
        "ORDER BY c.projection, c.generation, c.partition FOR UPDATE OF c) "
        "UPDATE projection_checkpoints c SET fence = fence + 1 FROM taken, (SELECT count(*) FROM locked) AS l "
        "WHERE c.log_id = $4 AND c.partition = taken.partition",
        worker_, log_.partitions(), share, books_.log_id());
    std::set<std::uint32_t> ours;
    for (const auto& row : transaction.exec_params("SELECT partition FROM projection_leases WHERE worker = $1", worker_)) {
      ours.insert(row[0].as<std::uint32_t>());
    }
    transaction.commit();
    return ours;
  });
  if (!held) return tl::unexpected(held.error());
  bool changed = false;
  {
    const std::lock_guard lock(mutex_);
    changed = ours_ != *held;
    ours_ = std::move(*held);
  }
  if (changed) {
    following_->reopen();
    for (Lane& lane : lanes_) lane.runner->reopen();
  }
  return {};
}

result<Coordinator::Books> Coordinator::read_books() {
  return guarded([&] {
    Books books;
    pqxx::transaction<pqxx::repeatable_read, pqxx::readwrite_policy::read_only> snapshot(connection_->db);
    books.rows = books_.read(snapshot);
    books.controls = books_.controls(snapshot);
    for (const GenerationRow& row : books.rows) { books.positions[{row.projection, row.number}].assign(log_.partitions(), 0); }
    for (const auto& row : snapshot.exec_params("SELECT projection, generation, partition, sequence FROM projection_checkpoints "
                                                "WHERE log_id = $1 AND partition < $2",
                                                books_.log_id(), log_.partitions())) {
      const auto found = books.positions.find({row[0].as<std::string>(), row[1].as<std::uint32_t>()});
      if (found != books.positions.end()) found->second[row[2].as<std::uint32_t>()] = row[3].as<std::uint64_t>();
    }
    const auto others = snapshot.exec_params1(
        "SELECT coalesce(string_agg(name || ': ' || trouble, '; ' ORDER BY name) FILTER (WHERE trouble <> ''), ''), count(*) "
        "FROM projection_workers WHERE worker <> $1",
        worker_);
    books.trouble = others[0].as<std::string>();
    books.others = others[1].as<std::uint64_t>();
    for (const auto& row :
         snapshot.exec("SELECT projection, generation, count(*) FROM projection_parked_keys GROUP BY projection, generation")) {
      books.parked[{row[0].as<std::string>(), row[1].as<std::uint32_t>()}] = row[2].as<std::uint64_t>();
    }
    for (const auto& row :
         snapshot.exec("SELECT DISTINCT ON (projection) projection, generation, state, report::text "
                       "FROM projection_generations WHERE report IS NOT NULL ORDER BY projection, generation DESC")) {
      books.comparisons[row[0].as<std::string>()] = {row[1].as<std::uint32_t>(), row[2].as<std::string>(),
                                                     row[3].as<std::string>()};
    }
    return books;
  });
}

/// Who holds a lock that our writers wait for.
void Coordinator::notice_locks() {
  const auto all = progress_.status();
  const bool slow =
      std::any_of(all.begin(), all.end(), [](const ProjectionStatus& status) { return status.lag_seconds > slow_seconds; });
  if (slow) {
    auto held = guarded([&] {
      pqxx::read_transaction transaction(connection_->db);
      return books_.blockers(transaction, writer_class, worker_);
    });
    if (held && !held->empty()) {
      blocked_ = std::move(*held);
      blocked_seen_ = Steady::now();
    }
  }
  if (!slow || Steady::now() - blocked_seen_ > blocked_is_told) blocked_.clear();
}

void Coordinator::publish(const Books& books) {
  std::string why_of_lanes[2];
  for (Lane& lane : lanes_) {
    const std::lock_guard lock(lane.mutex);
    if (!lane.why.empty()) why_of_lanes[lane.live ? 1 : 0] = lane.why;
  }
  std::map<Key, std::string> whys;
  std::set<std::uint32_t> ours;
  std::set<Key> together;
  bool follows = false;
  {
    const std::lock_guard lock(mutex_);
    ours = ours_;
    together = together_;
    follows = follows_;
    for (const std::size_t live : {0, 1}) {
      for (const Key& key : apart_[live]) {
        if (!why_of_lanes[live].empty()) whys[key] = why_of_lanes[live];
      }
    }
  }
  if (!follows) progress_.state("running");
  const auto& projections = books_.projections();
  for (std::size_t index = 0; index < projections.size(); ++index) {
    const std::string& name = projections[index]->name();
    Progress::Seen seen;
    seen.positions.assign(log_.partitions(), 0);
    seen.here.assign(log_.partitions(), false);
    if (const auto control = books.controls.find(name); control != books.controls.end()) {
      seen.revision = control->second.revision;
      if (control->second.paused) {
        seen.state = "paused";
        seen.because = control->second.because;
      }
    }
    for (const GenerationRow& row : books.rows) {
      if (row.projection != name) continue;
      const Key key{name, row.number};
      const auto parked = books.parked.find(key);
      const std::uint64_t parked_keys = parked == books.parked.end() ? 0 : parked->second;
      if (row.state == "live") {
        seen.generation = row.number;
        seen.parked = parked_keys;
        seen.positions = books.positions.at(key);
        for (const std::uint32_t partition : ours) seen.here[partition] = seen.state.empty() && together.contains(key);
        seen.slow_because = !books.trouble.empty()              ? books.trouble
                            : ours.empty() && books.others == 0 ? "no process follows the log"
                                                                : "it is slow, or waits for PostgreSQL";
        if (seen.state.empty() && row.version != projections[index]->version()) {
          seen.state = "stale";
          seen.because = "its tables are of version " + std::to_string(row.version) + ", until those of version " +
                         std::to_string(projections[index]->version()) + " are built";
        } else if (seen.state.empty() && !blocked_.empty() && behind(books, key) > 0) {
          seen.state = "stalled";
          seen.because = blocked_;
        } else if (seen.state.empty() && whys.contains(key)) {
          seen.state = "stalled";
          seen.because = whys[key];
        }
        if (!row.detail.empty()) seen.because += (seen.because.empty() ? "" : "; ") + row.detail;
        continue;
      }
      GenerationStatus& other = seen.others.emplace_back();
      other.number = row.number;
      other.version = row.version;
      other.state = row.state;
      other.phase = row.state == "replay" && row.phase.empty() ? "done" : row.phase;
      other.swap = row.state == "building" ? row.swap : "";
      for (const std::uint64_t position : books.positions.at(key)) other.events += position;
      other.parked = parked_keys;
      other.detail = whys.contains(key) ? whys[key] : row.detail;
    }
    if (const auto compared = books.comparisons.find(name); compared != books.comparisons.end()) {
      seen.last_comparison = compared->second;
    }
    progress_.seen(index, std::move(seen));
  }
}

std::uint64_t Coordinator::behind(const Books& books, const Key& key) const {
  std::uint64_t events = 0;
  const auto& positions = books.positions.at(key);
  for (std::uint32_t partition = 0; partition < log_.partitions(); ++partition) {
    const std::uint64_t head = log_.head(partition);
    events += head - std::min(head, positions[partition]);
  }
  return events;
}

/// Which generations are followed together, and which are so far behind the others that they are filled apart, lest the others
/// wait for them.
void Coordinator::place(const Books& books) {
  std::set<std::uint32_t> ours;
  {
    const std::lock_guard lock(mutex_);
    ours = ours_;
  }
  std::uint64_t front = 0;
  bool any_live = false;
  for (const GenerationRow& row : books.rows) {
    if (!books_.is_followed(row, books.controls) || row.state != "live") continue;
    any_live = true;
    front = std::max(front, sum(books.positions.at({row.projection, row.number}), ours));
  }
  for (const std::uint32_t partition : ours) front += any_live ? 0 : log_.head(partition);

  // An idle runner meets no fence that would tell it of a change.
  std::map<std::string, std::uint64_t> revisions;
  for (const auto& [projection, control] : books.controls) revisions[projection] = control.revision;
  const bool revised = revisions != revisions_;
  revisions_ = std::move(revisions);

  const auto fills = [&](bool live) {
    return std::any_of(lanes_.begin(), lanes_.end(), [&](const Lane& lane) { return lane.live == live && !lane.done; });
  };
  std::set<Key> together, apart[2];
  for (const GenerationRow& row : books.rows) {
    if (!books_.is_followed(row, books.controls)) continue;
    const Key key{row.projection, row.number};
    const bool live = row.state == "live";
    const bool is_far = sum(books.positions.at(key), ours) + how_.near_events < front;
    const bool is_filled = apart_[live].contains(key) && fills(live);
    (is_far || is_filled ? apart[live] : together).insert(key);
  }
  bool anew[2] = {revised, revised}, follow_anew = revised;
  {
    const std::lock_guard lock(mutex_);
    for (const bool live : {false, true}) {
      anew[live] = anew[live] || apart_[live] != apart[live];
      apart_[live] = std::move(apart[live]);
    }
    follow_anew = follow_anew || together_ != together;
    together_ = std::move(together);
  }
  for (const bool live : {false, true}) run_lanes(live, anew[live]);
  if (follow_anew) following_->reopen();
}

void Coordinator::run_lanes(bool live, bool anew) {
  const auto of_kind = [live](const Lane& lane) { return lane.live == live; };
  if (apart_[live].empty()) return stop_lanes(of_kind);  // only this thread changes them
  if (std::none_of(lanes_.begin(), lanes_.end(), [&](const Lane& lane) { return lane.live == live && !lane.done; })) {
    stop_lanes(of_kind);
    return start_lanes(live);
  }
  for (Lane& lane : lanes_) {
    if (anew && lane.live == live) lane.runner->reopen();
  }
}

void Coordinator::start_lanes(bool live) {
  for (std::uint32_t number = 0; number < how_.lanes; ++number) {
    Lane& lane = lanes_.emplace_back();
    lane.live = live;
    lane.writer = std::make_unique<PostgresWriter>(pool_, books_, options_, [this, live, number] {
      const std::lock_guard lock(mutex_);
      return Assignment{worker_, number, how_.lanes, [apart = apart_[live]](const GenerationRow& row) {
                          return apart.contains({row.projection, row.number});
                        }};
    });
    lane.runner = std::make_unique<Runner>(log_, keys_, *lane.writer, nullptr, how_.filling, options_.logger.get(), registry_);
    lane.thread = std::thread([&lane] { run_lane(lane); });
    pthread_setname_np(lane.thread.native_handle(), "proj-lane");
  }
}

void Coordinator::stop_lanes(const std::function<bool(const Lane&)>& which) {
  for (Lane& lane : lanes_) {
    if (!which(lane)) continue;
    const std::lock_guard lock(lane.mutex);
    lane.stopping = true;
    lane.changed.notify_all();
  }
  lanes_.remove_if([](Lane& lane) {
    if (lane.stopping) lane.thread.join();
    return lane.stopping.load();
  });
}

void Coordinator::run_lane(Lane& lane) {
  setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), lane_niceness);  // what people wait for goes first
  while (!lane.stopping) {
    const Runner::Step step = lane.runner->step();
    const bool stuck = step.retry_after.count() > 0;
    if (!stuck && !step.behind) break;  // near enough to be followed with the others
    std::unique_lock lock(lane.mutex);
    lane.why = stuck ? step.why : "";
    if (stuck) lane.changed.wait_for(lock, step.retry_after, [&] { return lane.stopping.load(); });
  }
  lane.done = true;
}

void Coordinator::erase() {
  setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), lane_niceness);
  const auto stopped = [this] {
    const std::lock_guard lock(mutex_);
    return stopping_;
  };
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    changed_.wait_for(lock, how_.tick, [this] { return stopping_; });
    const auto ours = ours_;
    lock.unlock();
    const auto looked = stopped() || ours.empty() ? result<void>() : eraser_.look(ours, stopped);
    lock.lock();
    const std::string why = looked ? "" : looked.error().message();
    if (why != std::exchange(no_erasures_, why) && !why.empty() && options_.logger)
      options_.logger->warn("read models: erasures wait where nobody follows: {}", why);
  }
}

void Coordinator::build() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    changed_.wait_for(lock, how_.tick, [this] { return stopping_ || build_; });
    build_ = false;
    if (stopping_ || !ours_.contains(0)) continue;  // whoever has the first partition does it
    lock.unlock();
    // A connection of the pool's: comparing takes its time, and leases are to be renewed meanwhile.
    if (auto lease = pool_.acquire()) {
      auto read = guarded([&] {
        Books books;
        pqxx::work transaction((*lease)->db);
        const bool forgot = books_.forget_dropped(transaction);
        books.rows = books_.read(transaction);
        books.controls = books_.controls(transaction);
        for (const GenerationRow& row : books.rows) {
          auto& positions = books.positions[{row.projection, row.number}];
          positions.assign(log_.partitions(), 0);
          for (const auto& at :
               transaction.exec_params("SELECT partition, sequence FROM projection_checkpoints WHERE log_id = $1 AND "
                                       "projection = $2 AND generation = $3 AND partition < $4",
                                       books_.log_id(), row.projection, row.number, log_.partitions())) {
            positions[at[0].as<std::uint32_t>()] = at[1].as<std::uint64_t>();
          }
        }
        if (forgot) transaction.commit();
        return books;
      });
      if (!read) lease->broken();
      { const Pool::Lease given_back = std::move(*lease); }
      if (read) {
        for (const Projection* projection : books_.projections()) advance(*read, *projection);
      }
    }
    lock.lock();
  }
}

void Coordinator::advance(const Books& books, const Projection& projection) {
  const GenerationRow *live = nullptr, *building = nullptr;
  for (const GenerationRow& row : books.rows) {
    if (row.projection != projection.name()) continue;
    if (row.state == "live") live = &row;
    if (row.state == "building") building = &row;
  }
  const auto control = books.controls.find(projection.name());
  if (live == nullptr || (control != books.controls.end() && control->second.paused)) return;
  if (building == nullptr) {
    if (live->version == projection.version()) return;
    const auto begun = books_.change(
        pool_, {projection.name(), "rebuild", "onboardd", "version " + std::to_string(live->version) + " is replaced", {}},
        [&](pqxx::transaction_base& transaction, std::string&) -> result<void> {
          const auto still = books_.find(transaction, projection.name(), "live");
          if (!still || still->version == projection.version() || books_.find(transaction, projection.name(), "building"))
            return {};
          books_.begin(transaction, projection.name(), "building", "always");
          return {};
        });
    if (begun) look();
    return;
  }
  if (building->phase == "filling" && building->version == projection.version() && !building->outdated &&
      behind(books, {building->projection, building->number}) <= how_.near_events) {
    compare_and_swap(*live, *building);
  }
}

void Coordinator::compare_and_swap(const GenerationRow& live, const GenerationRow& building) {
  const Key key{building.projection, building.number};
  if (!analyzed_.contains(key)) {
    if (!books_.analyze(pool_, building)) return;  // given up meanwhile, or out of reach: again soon
    analyzed_.insert(key);
  }
  Generations::Comparison comparison;
  const auto ready = ready_.find(key);
  const bool is_ready = ready != ready_.end() && Steady::now() < ready->second.until;
  if (!is_ready && !leave_archived(pool_, building.schema, books_.find(building.projection)->tables())) return;
  const auto until = is_ready ? ready->second.until : Steady::time_point();
  if (is_ready) {
    comparison = ready->second.comparison;
  } else if (live.version == building.version) {
    auto compared = books_.compare(pool_, live, building);
    if (!compared) {
      if (options_.logger)
        options_.logger->warn("read models: {}: cannot compare: {}", live.projection, compared.error().message());
      return;
    }
    if (!compared->comparable) return;  // one of them is a batch ahead: again soon
    comparison = std::move(*compared);
    // What was read before a person's key was erased, and what was read after it, are equal again with the UserErased that follows.
    auto& differed = differed_[key];
    if (!comparison.equal && building.swap != "always" && ++differed < times_to_differ) return;
    differed = 0;
  } else {
    comparison.report = R"({"tables":[],"equal":false,"other_version":)" + std::to_string(live.version) + "}";
  }
  const auto is_still = [&](pqxx::transaction_base& transaction) {
    const auto now = books_.find(transaction, building.projection, "building");
    return now && now->number == building.number && now->phase == "filling" && now->swap == building.swap;
  };
  const bool swaps = building.swap == "always" || (building.swap == "if_equal" && comparison.equal);
  const bool drops = building.swap == "compare_only";
  const char* const action = swaps ? "swap" : drops ? "compare" : "ready";
  auto changed = books_.change(
      pool_,
      {building.projection,
       action,
       "onboardd",
       "generation " + std::to_string(building.number) + " has caught up",
       {},
       Steady::now() + a_builds_turn},  // others want to go live, too
      [&](pqxx::transaction_base& transaction, std::string& detail) -> result<void> {
        if (!is_still(transaction)) return failure(Errc::changed);
        detail = comparison.report;
        transaction.exec_params0(
            "UPDATE projection_generations SET report = $3::jsonb, changed_at = now() WHERE projection = $1 AND generation = $2",
            building.projection, building.number, comparison.report);
        if (swaps) {
          const auto now = books_.find(transaction, live.projection, "live");
          if (!now || now->number != live.number) return failure(Errc::changed);
          return books_.swap(transaction, live, building);
        }
        if (drops) {
          books_.raise_fences(transaction, building.projection);
          books_.give_up(transaction, building, comparison.equal ? "compared: equal" : "compared: different");
          return {};
        }
        transaction.exec_params0("UPDATE projection_generations SET phase = 'ready' WHERE projection = $1 AND generation = $2",
                                 building.projection, building.number);
        return {};
      });
  if (!changed && changed.error().code == Errc::not_possible) {  // nor will it be, until an operator acts
    const std::string why = changed.error().detail;
    changed =
        books_.change(pool_, {building.projection, "ready", "onboardd", why, {}},
                      [&](pqxx::transaction_base& transaction, std::string&) -> result<void> {
                        if (!is_still(transaction)) return failure(Errc::changed);
                        transaction.exec_params0(
                            "UPDATE projection_generations SET phase = 'ready', detail = $3, report = $4::jsonb, changed_at "
                            "= now() WHERE projection = $1 AND generation = $2",
                            building.projection, building.number, why, comparison.report);
                        return {};
                      });
    if (changed && options_.logger)
      options_.logger->warn("read models: {}: generation {} waits: {}", building.projection, building.number, why);
  } else if (options_.logger) {
    if (changed) {
      options_.logger->info("read models: {}: generation {}: {}", building.projection, building.number, action);
    } else if (changed.error().code != Errc::not_possible && changed.error().code != Errc::changed) {
      options_.logger->warn("read models: {}: generation {}: {}: {}", building.projection, building.number, action,
                            changed.error().message());
    }
  }
  ready_.erase(key);
  if (changed) return look();
  if (!swaps || changed.error().code != Errc::unavailable) return;
  ready_[key] = {std::move(comparison), is_ready ? until : Steady::now() + comparison_holds};
  tell_holders(live, building);
}

/// Why it does not go live, in its detail.
void Coordinator::tell_holders(const GenerationRow& live, const GenerationRow& building) {
  auto told = pool_.run([&](Connection& connection) {
    pqxx::work transaction(connection.db);
    const auto holders = books_.holders(transaction, live);
    if (holders.empty()) return;  // they come and go
    transaction.exec_params0(
        "UPDATE projection_generations SET detail = $3 WHERE projection = $1 AND generation = $2 AND state = 'building' AND "
        "detail "
        "<> $3",
        building.projection, building.number, "waits to go live: " + holders);
    transaction.commit();
  });
  if (!told && options_.logger)
    options_.logger->warn("read models: {}: who holds the tables cannot be told: {}", live.projection, told.error().message());
}

}  // namespace onboarding::projections
