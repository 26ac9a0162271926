#include "projections/postgres/control.hpp"

#include <pthread.h>

#include <algorithm>
#include <limits>

#include "events/codec/json.hpp"
#include "projections/core/retry.hpp"
#include "projections/postgres/archive.hpp"
#include "projections/postgres/writer.hpp"

namespace onboarding::projections {

namespace {

constexpr std::size_t most_retried_at_once = 1000;  // events in one transaction, unless the person was erased
constexpr auto all_that_wait = std::size_t{1} << 62;
constexpr int most_overtaken = 20;  // by other changes, while a key is retried

bool too_late(const Action& action) { return action.deadline && std::chrono::steady_clock::now() >= *action.deadline; }

/// In the order of (key, generation): where the keys behind this one begin.
std::pair<std::string, std::uint32_t> behind_all_of(const std::string& key) {
  return {key, std::numeric_limits<std::uint32_t>::max()};
}

/// Whose wish the build that is under way is.
std::string began_by(pqxx::transaction_base& transaction, const std::string& projection) {
  const auto rows = transaction.exec_params(
      "SELECT actor || ' (' || action || to_char(at AT TIME ZONE 'UTC', ' \"at\" YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') || ')' FROM "
      "projection_audit WHERE projection = $1 AND action = 'rebuild' ORDER BY id DESC LIMIT 1",
      projection);
  return rows.empty() ? "somebody" : rows[0][0].as<std::string>();
}

std::string retry_detail(const ParkedKey& key, std::uint32_t generation, bool skips, std::uint64_t released_events) {
  rapidjson::StringBuffer buffer;
  codec::JsonWriter w(buffer);
  w.StartObject();
  codec::write_key(w, "key");
  codec::write_string(w, key.key);
  codec::write_key(w, skips ? "skipped" : "position");
  codec::write_string(w, to_string(Position{key.partition, key.sequence}));
  codec::write_key(w, "generation");
  w.Uint(generation);
  codec::write_key(w, "released_events");
  w.Uint64(released_events);
  w.EndObject();
  return std::string(codec::written(buffer));
}

}  // namespace

PostgresControl::PostgresControl(Pool& pool, const Generations& books, log::EventLog& log, privacy::KeyStore& keys,
                                 const PostgresOptions& options, std::function<void()> changed)
    : pool_(pool), books_(books), log_(log), keys_(keys), options_(options), changed_(std::move(changed)) {
  thread_ = std::thread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), "proj-control");
}

PostgresControl::~PostgresControl() {
  std::deque<std::function<void(bool)>> left;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    left.swap(waiting_);
    submitted_.notify_all();
  }
  for (auto& task : left) task(true);
  thread_.join();
}

void PostgresControl::submit(std::function<void(bool)> task) {
  {
    const std::lock_guard lock(mutex_);
    if (!stopping_ && waiting_.size() < max_waiting) {
      waiting_.push_back(std::move(task));
      submitted_.notify_all();
      return;
    }
  }
  task(true);
}

void PostgresControl::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    submitted_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (waiting_.empty()) continue;
    auto task = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    task(false);
    lock.lock();
  }
}

void PostgresControl::act(Action action, Done<Outcome> done) {
  submit([this, action = std::move(action), done = std::move(done)](bool refused) {
    if (refused) return done(failure(Errc::unavailable, "too many actions wait"));
    if (too_late(action)) return done(failure(Errc::unavailable, "others were served first; nothing was done, try again"));
    auto outcome = carry_out(action);
    if (outcome) changed_();
    done(std::move(outcome));
  });
}

void PostgresControl::parked(std::string projection, std::string after, Done<std::vector<ParkedRow>> done) {
  submit([this, projection = std::move(projection), after = std::move(after), done = std::move(done)](bool refused) {
    if (refused) return done(failure(Errc::unavailable, "too many actions wait"));
    if (books_.find(projection) == nullptr) return done(failure(Errc::not_found, "there is no projection " + projection));
    auto rows = read_parked(projection, {}, behind_all_of(after));
    if (rows && rows->size() == options_.parked_page && rows->front().key != rows->back().key) {  // a page ends with a whole key
      const std::string last = rows->back().key;
      while (rows->back().key == last) rows->pop_back();
    }
    done(std::move(rows));
  });
}

result<Outcome> PostgresControl::carry_out(const Action& action) {
  if (action.verb == "retry" || action.verb == "skip") return retry(action);
  if (action.verb == "rollback") {
    auto left = leave_archived_of_previous(action.projection);
    if (!left) return tl::unexpected(left.error());
  }
  Outcome outcome;
  auto changed =
      books_.change(pool_, {action.projection, action.verb, action.actor, action.reason, action.revision, action.deadline},
                    [&](pqxx::transaction_base& transaction, std::string& detail) -> result<void> {
                      if (auto done = change(transaction, action, outcome.generation); !done) return done;
                      outcome.revision = books_.controls(transaction)[action.projection].revision + 1;
                      if (outcome.generation > 0) detail = "{\"generation\": " + std::to_string(outcome.generation) + "}";
                      return {};
                    });
  if (!changed) return tl::unexpected(changed.error());
  return outcome;
}

/// The previous generation was filled before, perhaps, and never heard of it.
result<void> PostgresControl::leave_archived_of_previous(const std::string& projection) {
  auto previous = pool_.run([&](Connection& connection) {
    pqxx::read_transaction transaction(connection.db);
    return books_.find(transaction, projection, "previous");
  });
  if (!previous) return tl::unexpected(previous.error());
  if (!*previous || books_.find(projection) == nullptr) return {};
  return leave_archived(pool_, (*previous)->schema, books_.find(projection)->tables());
}

result<void> PostgresControl::change(pqxx::transaction_base& transaction, const Action& action, std::uint32_t& generation) {
  const std::string& name = action.projection;
  const auto live = books_.find(transaction, name, "live"), building = books_.find(transaction, name, "building"),
             previous = books_.find(transaction, name, "previous");
  const Controls controls = books_.controls(transaction)[name];
  const auto not_possible = [](std::string why) { return failure(Errc::not_possible, std::move(why)); };

  if (action.verb == "pause" || action.verb == "resume") {
    const bool pause = action.verb == "pause";
    if (controls.paused == pause) return not_possible(name + (pause ? " is paused already" : " is not paused"));
    books_.raise_fences(transaction, name);
    transaction.exec_params0("UPDATE projection_controls SET paused = $2, because = $3 WHERE projection = $1", name, pause,
                             pause ? "paused by " + action.actor + (action.reason.empty() ? "" : ": " + action.reason) : "");
    return {};
  }
  if (action.verb == "restart") {
    books_.raise_fences(transaction, name);
    return {};
  }
  if (action.verb == "reset") {
    books_.reset(transaction, *live);
    generation = live->number;
    return {};
  }
  if (action.verb == "rebuild") {
    if (controls.paused) return not_possible(name + " is paused: resume it first");
    if (!building) {
      generation = books_.begin(transaction, name, "building", action.swap).number;
      return {};
    }
    // Who asked first is told what became of their wish: who wishes otherwise says what they saw of it.
    if (building->phase == "filling" && building->swap != action.swap && !action.revision)
      return failure(Errc::changed, "generation " + std::to_string(building->number) + " is being rebuilt (swap " +
                                        building->swap + ") for " + began_by(transaction, name) +
                                        ": cancel it, or name revision " + std::to_string(controls.revision) +
                                        " to change what becomes of it");
    transaction.exec_params0(
        "UPDATE projection_generations SET swap = $3, phase = 'filling', detail = '', changed_at = now() WHERE projection = $1 "
        "AND generation "
        "= $2",
        name, building->number, action.swap);
    generation = building->number;
    return {};
  }
  if (action.verb == "cancel" || action.verb == "discard") {
    const auto& which = action.verb == "cancel" ? building : previous;
    if (!which) return not_possible(action.verb == "cancel" ? "nothing is being built" : "there is no previous generation");
    books_.raise_fences(transaction, name);
    books_.give_up(transaction, *which, action.verb + " by " + action.actor);
    generation = which->number;
    return {};
  }
  if (action.verb == "rollback") {
    if (!previous) return not_possible("there is no previous generation");
    if (previous->version != books_.find(name)->version())
      return not_possible("the previous generation is of version " + std::to_string(previous->version) +
                          ", which this program does not follow: start the program it belongs to");
    if (previous->outdated) return not_possible("the previous generation's tables are older than a migration: discard it");
    generation = previous->number;
    return books_.swap(transaction, *live, *previous);
  }
  return not_possible("there is no action " + action.verb);
}

result<std::vector<ParkedRow>> PostgresControl::read_parked(const std::string& projection, const std::string& key,
                                                            const std::pair<std::string, std::uint32_t>& behind) {
  return pool_.run([&](Connection& connection) {
    pqxx::nontransaction session(connection.db);
    std::vector<ParkedRow> rows;
    for (const auto& row : session.exec_params(
             "SELECT k.parked_key, k.generation, g.state = 'live', k.partition, k.sequence, k.error, to_char(k.parked_at AT TIME "
             "ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), (SELECT count(*) FROM projection_parked_events e WHERE (e.log_id, "
             "e.projection, e.generation, e.partition, e.parked_key) = (k.log_id, k.projection, k.generation, k.partition, "
             "k.parked_key)) FROM projection_parked_keys k JOIN projection_generations g USING (projection, generation) "
             "WHERE k.log_id = $1 AND k.projection = $2 AND g.state IN ('live', 'building') AND ($3 = '' OR k.parked_key = $3) "
             "AND (k.parked_key, k.generation) > ($4, $5::bigint) ORDER BY k.parked_key, k.generation LIMIT $6",
             books_.log_id(), projection, key, behind.first, behind.second, options_.parked_page)) {
      rows.push_back({row[0].as<std::string>(),
                      row[1].as<std::uint32_t>(),
                      row[2].as<bool>(),
                      {row[3].as<std::uint32_t>(), row[4].as<std::uint64_t>()},
                      row[7].as<std::uint64_t>(),
                      row[5].as<std::string>(),
                      row[6].as<std::string>()});
    }
    return rows;
  });
}

result<std::vector<std::uint64_t>> PostgresControl::waiting(const std::string& projection, std::uint32_t generation,
                                                            const ParkedRow& row, std::size_t most, std::uint64_t after) {
  return pool_.run([&](Connection& connection) {
    pqxx::nontransaction session(connection.db);
    std::vector<std::uint64_t> sequences;
    for (const auto& found : session.exec_params(
             "SELECT sequence FROM projection_parked_events WHERE log_id = $1 AND projection = $2 AND generation = $3 AND "
             "partition = $4 AND parked_key = $5 AND sequence > $7 ORDER BY sequence LIMIT $6",
             books_.log_id(), projection, generation, row.position.partition, row.key, most, after)) {
      sequences.push_back(found[0].as<std::uint64_t>());
    }
    return sequences;
  });
}

/// What the keys of one action have in common.
struct PostgresControl::Retrying {
  Retrying(PostgresControl& control, const Action& asked)
      : action(asked),
        projection(*control.books_.find(asked.projection)),
        writer(control.pool_, control.books_, control.options_, [&asked] {
          return Assignment{0, 0, 1, [&asked](const GenerationRow& row) {
                              return row.projection == asked.projection && (row.state == "live" || row.state == "building");
                            }};
        }) {}

  /// How things are is read anew after every failure.
  result<void> open() {
    if (is_open) return {};
    auto read = writer.open();
    if (!read) return tl::unexpected(read.error());
    opened = std::move(*read);
    folds.assign(opened.generations.size(), Fold(projection));
    skipped.clear();
    for (const SkippedEvent& event : opened.skipped) skipped.insert(event.position);
    is_open = true;
    return {};
  }
  std::optional<std::size_t> index_of(std::uint32_t generation) const {
    for (std::size_t i = 0; i < opened.generations.size(); ++i) {
      if (opened.generations[i].number == generation) return i;
    }
    return std::nullopt;
  }

  const Action& action;
  const Projection& projection;
  PostgresWriter writer;
  bool is_open = false;
  Opened opened;
  std::vector<Fold> folds;  // [generation]
  std::set<Position> skipped;
};

result<Outcome> PostgresControl::retry(const Action& action) {
  if (books_.find(action.projection) == nullptr) return failure(Errc::not_found, "there is no projection " + action.projection);
  if (action.verb == "skip" && (action.key.empty() || !action.position))
    return failure(Errc::not_possible, "name the key and the position of the event to skip");
  Retrying retrying(*this, action);
  Outcome outcome, of_builds;
  std::string last_key;
  for (auto behind = behind_all_of(action.after);;) {
    auto rows = read_parked(action.projection, action.key, behind);
    if (!rows) return tl::unexpected(rows.error());
    if (rows->empty() && last_key.empty() && !action.key.empty())
      return failure(Errc::not_found, "nothing is parked by that key");
    if (rows->empty()) return outcome;
    for (const ParkedRow& row : *rows) {
      const bool another = row.key != last_key;
      if (another && !last_key.empty() && too_late(action)) outcome.complete = false;
      if (!outcome.complete) return outcome;
      if (another && action.position && *action.position != row.position)
        return failure(Errc::changed, "the key is parked at " + to_string(row.position) + " now");
      const bool skips = action.verb == "skip" && row.position == *action.position;
      auto& counted = another ? outcome : of_builds;  // a key counts once
      if (auto done = retry_key(retrying, row, skips, counted); !done) return tl::unexpected(done.error());
      outcome.complete = outcome.complete && of_builds.complete;
      if (!outcome.complete) return outcome;
      last_key = row.key;
      outcome.after = row.key;
      behind = {row.key, row.generation};
    }
  }
}

result<void> PostgresControl::retry_key(Retrying& all, const ParkedRow& row, bool skip_first, Outcome& outcome) {
  const Action& action = all.action;
  ParkedKey key{0, row.position.partition, row.key, row.position.sequence, row.error};
  std::size_t most = most_retried_at_once;
  std::uint64_t scanned = 0, last_erasure = 0;  // of what waits: looked at up to here; the last erasure found
  for (int overtaken = 0;;) {
    if (auto opened = all.open(); !opened) return opened;
    const auto index = all.index_of(row.generation);
    if (!index && row.live)
      return failure(Errc::not_possible, action.projection + " is paused, or its tables are of another version");
    if (!index) return {};  // the build is another program's
    key.generation = *index;
    // A person's key goes only after the erasure is in the log: what waits may be readable, and is not to be seen again.
    const auto unseen = waiting(action.projection, row.generation, row, all_that_wait, scanned);
    if (!unseen) return tl::unexpected(unseen.error());
    const auto found = last_erasure_of(log_, key.partition, *unseen);
    if (!found) return tl::unexpected(found.error());
    last_erasure = std::max(last_erasure, *found);
    if (!unseen->empty()) scanned = unseen->back();
    if (last_erasure >= key.sequence) most = all_that_wait;
    auto waits = waiting(action.projection, row.generation, row, most);
    if (!waits) return tl::unexpected(waits.error());

    std::set<std::uint64_t> skipped;
    if (skip_first) skipped.insert(key.sequence);
    for (auto at = all.skipped.lower_bound({key.partition, 0}); at != all.skipped.end() && at->partition == key.partition; ++at) {
      skipped.insert(at->sequence);
    }
    for (Fold& fold : all.folds) fold.clear();
    Fold& fold = all.folds[*index];
    auto retried = retry_parked(all.projection, log_, keys_, key, *waits, skipped, last_erasure >= key.sequence, fold);
    if (!retried) return tl::unexpected(retried.error());
    if (retried->erased && waits->size() == most && most != all_that_wait) {  // all of it or nothing
      most = all_that_wait;
      continue;
    }
    retried->skips_first = skip_first;
    retried->last_waiting = scanned;
    std::uint64_t released = 0;
    const auto write = [&] {
      const auto up_to = std::upper_bound(waits->begin(), waits->end(), retried->up_to);
      released = static_cast<std::uint64_t>(up_to - waits->begin());
      retried->audit = {action.verb, action.actor, action.reason, retry_detail(key, row.generation, skip_first, released)};
      WriteBatch batch;
      for (const Fold& each : all.folds) batch.folds.push_back(&each);
      batch.retried.push_back(*retried);
      auto written = all.writer.send(batch).and_then([&] { return all.writer.finish(); });
      all.is_open = written || written.error().code == Errc::poison;
      return written;
    };
    auto written = write();
    if (!written && written.error().code == Errc::poison) {
      if (waits->size() > 1 && !retried->erased) {
        most = 1;  // which of them PostgreSQL refuses shows when they go one by one
        continue;
      }
      fold.clear();
      retried->error = written.error().detail;
      retried->up_to = key.sequence - 1;
      written = write();
    }
    if (!written && written.error().code == Errc::fenced) {
      // Something was changed meanwhile; was it this key?
      auto now = waiting(action.projection, row.generation, row, 1);
      if (!now) return tl::unexpected(now.error());
      if (now->empty() || now->front() != key.sequence || ++overtaken == most_overtaken)
        return failure(Errc::changed, "somebody else retried that key");
      continue;
    }
    if (!written) return tl::unexpected(written.error());
    if (skip_first) all.skipped.insert({key.partition, key.sequence});
    overtaken = 0;

    outcome.released_events += released;
    auto left = waiting(action.projection, row.generation, row, 1);
    if (!left) return tl::unexpected(left.error());
    if (left->empty() || !retried->error.empty() || released == 0) {
      ++(left->empty() ? outcome.released_keys : outcome.still_parked);
      return {};
    }
    if (too_late(action)) {
      outcome.complete = false;
      return {};
    }
    key.sequence = left->front();
    skip_first = false;
  }
}

}  // namespace onboarding::projections
