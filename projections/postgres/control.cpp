#include "projections/postgres/control.hpp"

#include <pthread.h>

#include <algorithm>

#include "events/codec/json.hpp"
#include "projections/core/retry.hpp"
#include "projections/postgres/writer.hpp"

namespace onboarding::projections {

namespace {

constexpr std::size_t most_parked_shown = 1000;
constexpr std::size_t most_retried_at_once = 1000;  // events in one transaction

std::string generation_detail(const GenerationRow& row) { return "{\"generation\": " + std::to_string(row.number) + "}"; }

std::string retry_detail(const ParkedKey& key, bool skips, std::uint64_t released_events) {
  rapidjson::StringBuffer buffer;
  codec::JsonWriter w(buffer);
  w.StartObject();
  codec::write_key(w, "key");
  codec::write_string(w, key.key);
  codec::write_key(w, skips ? "skipped" : "position");
  codec::write_string(w, to_string(Position{key.partition, key.sequence}));
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
    auto outcome = carry_out(action);
    if (outcome) changed_();
    done(std::move(outcome));
  });
}

void PostgresControl::parked(std::string projection, Done<std::vector<ParkedRow>> done) {
  submit([this, projection = std::move(projection), done = std::move(done)](bool refused) {
    if (refused) return done(failure(Errc::unavailable, "too many actions wait"));
    if (books_.find(projection) == nullptr) return done(failure(Errc::not_found, "there is no projection " + projection));
    done(read_parked(projection, {}, most_parked_shown));
  });
}

result<Outcome> PostgresControl::carry_out(const Action& action) {
  if (action.verb == "retry" || action.verb == "skip") return retry(action);
  Outcome outcome;
  auto changed = books_.change(pool_, {action.projection, action.verb, action.actor, action.reason, action.revision},
                               [&](pqxx::transaction_base& transaction, std::string& detail) -> result<void> {
                                 if (auto done = change(transaction, action, detail); !done) return done;
                                 outcome.revision = books_.controls(transaction)[action.projection].revision + 1;
                                 outcome.detail = detail;
                                 return {};
                               });
  if (!changed) return tl::unexpected(changed.error());
  return outcome;
}

result<void> PostgresControl::change(pqxx::transaction_base& transaction, const Action& action, std::string& detail) {
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
    detail = generation_detail(*live);
    return {};
  }
  if (action.verb == "rebuild") {
    if (controls.paused) return not_possible(name + " is paused: resume it first");
    if (!building) {
      detail = generation_detail(books_.begin(transaction, name, "building", action.swap));
      return {};
    }
    transaction.exec_params0(
        "UPDATE projection_generations SET swap = $3, phase = 'filling', detail = '', changed_at = now() WHERE projection = $1 "
        "AND generation "
        "= $2",
        name, building->number, action.swap);
    detail = generation_detail(*building);
    return {};
  }
  if (action.verb == "cancel" || action.verb == "discard") {
    const auto& which = action.verb == "cancel" ? building : previous;
    if (!which) return not_possible(action.verb == "cancel" ? "nothing is being built" : "there is no previous generation");
    books_.raise_fences(transaction, name);
    books_.give_up(transaction, *which, action.verb + " by " + action.actor);
    detail = generation_detail(*which);
    return {};
  }
  if (action.verb == "rollback") {
    if (!previous) return not_possible("there is no previous generation");
    if (previous->version != books_.find(name)->version())
      return not_possible("the previous generation is of version " + std::to_string(previous->version) +
                          ", which this program does not follow: start the program it belongs to");
    detail = generation_detail(*previous);
    return books_.swap(transaction, *live, *previous);
  }
  return not_possible("there is no action " + action.verb);
}

result<std::vector<ParkedRow>> PostgresControl::read_parked(const std::string& projection, const std::string& key,
                                                            std::size_t most) {
  return pool_.run([&](Connection& connection) {
    pqxx::nontransaction session(connection.db);
    std::vector<ParkedRow> rows;
    for (const auto& row : session.exec_params(
             "SELECT k.parked_key, k.partition, k.sequence, k.error, to_char(k.parked_at AT TIME ZONE 'UTC', "
             "'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), (SELECT count(*) FROM projection_parked_events e WHERE (e.log_id, e.projection, "
             "e.generation, e.partition, e.parked_key) = (k.log_id, k.projection, k.generation, k.partition, k.parked_key)) "
             "FROM projection_parked_keys k JOIN projection_generations g USING (projection, generation) "
             "WHERE k.log_id = $1 AND k.projection = $2 AND g.state = 'live' AND ($3 = '' OR k.parked_key = $3) "
             "ORDER BY k.parked_key, k.partition LIMIT $4",
             books_.log_id(), projection, key, most)) {
      rows.push_back({row[0].as<std::string>(),
                      {row[1].as<std::uint32_t>(), row[2].as<std::uint64_t>()},
                      row[5].as<std::uint64_t>(),
                      row[3].as<std::string>(),
                      row[4].as<std::string>()});
    }
    return rows;
  });
}

result<Outcome> PostgresControl::retry(const Action& action) {
  if (books_.find(action.projection) == nullptr) return failure(Errc::not_found, "there is no projection " + action.projection);
  auto rows = read_parked(action.projection, action.key, most_parked_shown);
  if (!rows) return tl::unexpected(rows.error());
  if (!action.key.empty() && rows->empty()) return failure(Errc::not_found, "nothing is parked by that key");
  if (action.verb == "skip" && (action.key.empty() || !action.position))
    return failure(Errc::not_possible, "name the key and the position of the event to skip");
  Outcome outcome;
  for (const ParkedRow& row : *rows) {
    if (!action.key.empty() && action.position && *action.position != row.position)
      return failure(Errc::changed, "the key is parked at " + to_string(row.position) + " now");
    const ParkedKey key{0, row.position.partition, row.key, row.position.sequence, row.error};
    if (auto done = retry_key(action, key, action.verb == "skip", outcome); !done) return tl::unexpected(done.error());
  }
  return outcome;
}

result<void> PostgresControl::retry_key(const Action& action, ParkedKey key, bool skip_first, Outcome& outcome) {
  const Projection& projection = *books_.find(action.projection);
  PostgresWriter writer(pool_, books_, options_, [&] {
    return Assignment{0, 0, 1,
                      [&](const GenerationRow& row) { return row.projection == action.projection && row.state == "live"; }};
  });
  std::size_t most = most_retried_at_once;
  Fold fold(projection);
  for (;;) {
    auto opened = writer.open();
    if (!opened) return tl::unexpected(opened.error());
    if (opened->generations.empty())
      return failure(Errc::not_possible, action.projection + " is paused, or its tables are of another version");
    const std::uint32_t number = opened->generations[0].number;
    auto waiting = pool_.run([&](Connection& connection) {
      pqxx::nontransaction session(connection.db);
      std::vector<std::uint64_t> sequences;
      for (const auto& row : session.exec_params(
               "SELECT sequence FROM projection_parked_events WHERE log_id = $1 AND projection = $2 AND generation = $3 AND "
               "partition = $4 AND parked_key = $5 ORDER BY sequence LIMIT $6",
               books_.log_id(), action.projection, number, key.partition, key.key, most)) {
        sequences.push_back(row[0].as<std::uint64_t>());
      }
      return sequences;
    });
    if (!waiting) return tl::unexpected(waiting.error());

    std::set<std::uint64_t> skipped;
    if (skip_first) skipped.insert(key.sequence);
    for (const SkippedEvent& event : opened->skipped) {
      if (event.position.partition == key.partition) skipped.insert(event.position.sequence);
    }
    fold.clear();
    auto retried = retry_parked(projection, log_, keys_, key, *waiting, skipped, fold);
    if (!retried) return tl::unexpected(retried.error());
    retried->skips_first = skip_first;
    std::uint64_t released = 0;
    const auto write = [&] {
      const auto up_to = std::upper_bound(waiting->begin(), waiting->end(), retried->up_to);
      released = static_cast<std::uint64_t>(up_to - waiting->begin());
      retried->audit = {action.verb, action.actor, action.reason, retry_detail(key, skip_first, released)};
      WriteBatch batch;
      batch.folds.push_back(&fold);
      batch.retried.push_back(*retried);
      return writer.send(batch).and_then([&] { return writer.finish(); });
    };
    auto written = write();
    if (!written && written.error().code == Errc::poison) {
      if (waiting->size() > 1) {
        most = 1;  // which of them PostgreSQL refuses shows when they go one by one
        continue;
      }
      fold.clear();
      retried->error = written.error().detail;
      retried->up_to = key.sequence - 1;
      written = write();
    }
    if (!written && written.error().code == Errc::fenced) return failure(Errc::changed, "somebody else retried that key");
    if (!written) return tl::unexpected(written.error());

    outcome.released_events += released;
    auto left = read_parked(action.projection, key.key, 1);
    if (!left) return tl::unexpected(left.error());
    const bool free = left->empty() || left->front().position.partition != key.partition;
    if (free || !retried->error.empty() || released == 0) {
      ++(free ? outcome.released_keys : outcome.still_parked);
      return {};
    }
    key.sequence = left->front().position.sequence;
    skip_first = false;
  }
}

}  // namespace onboarding::projections
