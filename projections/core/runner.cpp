#include "projections/core/runner.hpp"

#include <prometheus/counter.h>
#include <prometheus/registry.h>
#include <pthread.h>
#include <spdlog/logger.h>

#include <algorithm>

#include "events/domain/assertion.hpp"
#include "projections/core/retry.hpp"

namespace onboarding::projections {

namespace {

// Heads are looked at this often even if no advance was announced: a lost wake-up costs a moment, not the read model.
constexpr std::chrono::milliseconds look_again{1000};
constexpr const char* no_keys = "the key store cannot be reached";

prometheus::Counter* counter(prometheus::Registry* registry, const char* name, const char* help) {
  return registry == nullptr ? nullptr : &prometheus::BuildCounter().Name(name).Help(help).Register(*registry).Add({});
}
void count(prometheus::Counter* counter, std::size_t by = 1) {
  if (counter != nullptr) counter->Increment(static_cast<double>(by));
}

}  // namespace

Runner::Runner(log::EventLog& log, privacy::KeyStore& keys, ReadModelWriter& writer, Progress* progress, RunnerOptions options,
               spdlog::logger* logger, prometheus::Registry* registry)
    : log_(log),
      keys_(keys),
      writer_(writer),
      progress_(progress),
      options_(options),
      logger_(logger),
      batches_(counter(registry, "onboarding_projection_batches_total", "Batches written to the read models.")),
      events_(counter(registry, "onboarding_projection_events_total", "Events written to the read models.")),
      rows_(counter(registry, "onboarding_projection_rows_total", "Rows written to the read models.")),
      failures_(
          counter(registry, "onboarding_projection_failures_total", "Batches or openings that failed and are tried again.")) {}

std::string Runner::parked_id(std::size_t generation, std::string_view key) {
  std::string id = std::to_string(generation);
  id.push_back('/');
  return id.append(key);
}

std::uint64_t Runner::least_position(std::uint32_t partition) const {
  std::uint64_t least = generations_.empty() ? log_.head(partition) : UINT64_MAX;
  for (const auto& of_generation : checkpoints_) least = std::min(least, of_generation[partition].sequence);
  return least;
}

void Runner::tell_state(const char* state, std::string because) {
  if (progress_ != nullptr) progress_->state(state, std::move(because));
}

void Runner::tell_moved(std::size_t generation, std::uint32_t partition) {
  if (progress_ == nullptr || !generations_[generation].live) return;
  progress_->moved(generations_[generation].index, partition, checkpoints_[generation][partition].sequence);
}

Runner::Step Runner::step() {
  if (reopen_.exchange(false) && opened_) {
    if (sent_) {
      if (auto before = finish_sent(); !before) return failed(before.error());
    }
    opened_ = false;
  }
  if (!opened_) {
    if (const Step opening = open(); opening.kind == Step::Kind::failed) return opening;
  }
  auto items = collect();
  if (!items) return failed(items.error());
  std::size_t events = 0;
  const auto finish = [&]() -> result<void> {
    if (!sent_) return {};
    return finish_sent().map([&](std::size_t written) { events += written; });
  };
  if (auto before = finish(); !before) return failed(before.error());
  if (keys_unreachable_) tell_state("stalled", no_keys);
  if (items->empty()) {
    if (events > 0) return {.kind = Step::Kind::progressed, .events = events};
    // Commits are not flushed: what was written a moment ago may be gone with the server, and no event may come to show it.
    if (!writer_.connected()) return failed({Errc::unavailable, "the connection is gone"});
    if (keys_unreachable_) return {.retry_after = options_.last_retry, .why = no_keys};
    if (incomplete_) return failed({make_error_code(log::Errc::unreadable), "the log does not give the next event"});
    return {};
  }
  sent_.emplace(Sent{std::move(*items), {}});
  sent_->prepared = prepare(sent_->items, all_, nullptr);
  if (auto sent = writer_.send(sent_->prepared.batch); !sent) return failed(sent.error());
  if (behind()) return {.kind = Step::Kind::progressed, .events = events, .behind = true};
  if (auto written = finish(); !written) return failed(written.error());
  return {.kind = Step::Kind::progressed, .events = events};
}

bool Runner::behind() const {
  std::uint64_t unread = 0;
  for (const std::uint32_t partition : partitions_)
    unread += log_.head(partition) - std::min(read_[partition], log_.head(partition));
  return unread >= options_.behind_events;
}

result<std::size_t> Runner::finish_sent() {
  const Sent sent = *std::exchange(sent_, std::nullopt);
  if (auto written = writer_.finish()) {
    note(sent.prepared);
  } else if (written.error().code != Errc::poison) {
    return tl::unexpected(written.error());
  } else if (auto parts = take_apart(sent.items, all_, written.error()); !parts) {
    return tl::unexpected(parts.error());
  }
  failures_in_a_row_ = 0;
  if (!keys_unreachable_) tell_state("running");
  std::size_t events = 0;
  for (const Item& item : sent.items) {
    events += item.last_sequence - item.first_sequence + 1;
    // The next event of the partition is about as old as this one, until it is read.
    if (progress_ != nullptr) {
      progress_->oldest_waiting(item.partition,
                                log_.head(item.partition) > item.last_sequence ? std::optional(item.time) : std::nullopt);
    }
  }
  if (progress_ != nullptr) progress_->wake();
  return events;
}

Runner::Step Runner::open() {
  auto opened = writer_.open();
  if (!opened) return failed(opened.error());
  ONBOARDING_ASSERT(opened->generations.size() <= 64, "generations fit a mask");
  for (std::size_t generation = 0; generation < opened->generations.size(); ++generation) {
    for (const std::uint32_t partition : opened->partitions) {
      const std::uint64_t sequence = opened->checkpoints[generation][partition].sequence;
      if (sequence > log_.head(partition)) {
        return failed({Errc::beyond_end, opened->generations[generation].projection->name() + " stands at " +
                                             to_string(Position{partition, sequence}) + ", the log ends at " +
                                             std::to_string(log_.head(partition))});
      }
    }
  }
  generations_ = std::move(opened->generations);
  partitions_ = std::move(opened->partitions);
  checkpoints_ = std::move(opened->checkpoints);
  all_ = generations_.size() == 64 ? ~Mask{0} : (Mask{1} << generations_.size()) - 1;
  folds_.clear();
  for (const Generation& generation : generations_) folds_.emplace_back(*generation.projection);
  read_.clear();
  for (std::uint32_t partition = 0; partition < log_.partitions(); ++partition) read_.push_back(least_position(partition));
  parked_.clear();
  parked_keys_.assign(generations_.size(), 0);
  for (const ParkedKey& key : opened->parked) {
    parked_.insert(parked_id(key.generation, key.key));
    ++parked_keys_[key.generation];
  }
  skipped_.clear();
  for (const SkippedEvent& event : opened->skipped) skipped_.emplace(event.projection, event.position);
  // Only now: what was found before a refusal is nobody's business.
  for (std::size_t generation = 0; generation < generations_.size(); ++generation) {
    for (const std::uint32_t partition : partitions_) tell_moved(generation, partition);
    if (progress_ != nullptr && generations_[generation].live) {
      progress_->parked(generations_[generation].index, parked_keys_[generation]);
    }
  }
  tell_state("running");
  if (progress_ != nullptr) progress_->wake();
  opened_ = true;
  if (logger_ != nullptr && failures_in_a_row_ > 0) logger_->info("read models: going on after {} failures", failures_in_a_row_);
  return {};
}

Runner::Step Runner::failed(const Failure& why) {
  opened_ = false;  // whether the batch was written, the checkpoints say
  sent_.reset();
  count(failures_);
  const bool overtaken = why.code == Errc::fenced;  // by an operator or another runner: nothing is wrong
  const auto shift = std::min<std::uint32_t>(failures_in_a_row_, 16);
  const auto retry =
      std::min((overtaken ? std::chrono::milliseconds(1) : options_.first_retry) * (1 << shift), options_.last_retry);
  if (logger_ != nullptr && !overtaken && failures_in_a_row_ < 3)
    logger_->warn("read models: {}; next try in {} ms", why.message(), retry.count());
  ++failures_in_a_row_;
  const bool down = why.code == Errc::unavailable && !writer_.connected();  // else it answers, and somebody holds a lock
  if (!overtaken) tell_state(down ? "database_down" : "stalled", why.message());
  return {.kind = Step::Kind::failed, .retry_after = retry, .why = why.message()};
}

result<std::vector<Runner::Item>> Runner::collect() {
  std::vector<Item> items;
  std::size_t events = 0, bytes = 0;
  keys_unreachable_ = incomplete_ = false;
  const std::size_t first = next_;
  for (std::size_t i = 0; i < partitions_.size() && events < options_.max_batch_events && bytes < options_.max_batch_bytes; ++i) {
    const std::size_t place = (first + i) % partitions_.size();
    const std::uint32_t partition = partitions_[place];
    const std::uint64_t after = read_[partition];
    if (log_.head(partition) <= after) continue;
    auto records = log_.read_partition(partition, after, options_.max_batch_events - events, options_.max_batch_bytes - bytes);
    if (!records) return tl::unexpected(records.error());
    next_ = options_.partition_by_partition ? place : place + 1;  // who comes after a full batch is first in the next one
    if (!records->empty() && progress_ != nullptr) progress_->oldest_waiting(partition, records->front().time);
    std::uint64_t expected = after + 1;
    for (log::Record& record : *records) {
      if (record.last_sequence() < expected) continue;  // delivered again
      if (record.first_sequence != expected) {
        incomplete_ = true;  // out of order, or something is missing: asked for again from here
        break;
      }
      expected = record.last_sequence() + 1;
      auto decoded = codec::decode(record, keys_);
      if (!decoded && decoded.error().code == codec::Errc::key_unreachable) {
        keys_unreachable_ = true;  // this partition waits; the others go on
        break;
      }
      Item item{partition,
                record.first_sequence,
                record.last_sequence(),
                std::move(record.stream),
                std::move(record.resume_token),
                record.time,
                {},
                {}};
      if (decoded) {
        item.events = std::move(*decoded);
      } else {
        item.undecodable = decoded.error().message();
      }
      events += record.count;
      bytes += record.payload.size();
      std::string().swap(record.payload);  // a batch's are as much memory as half of its events
      read_[partition] = item.last_sequence;
      items.push_back(std::move(item));
    }
  }
  return items;
}

result<void> Runner::write(std::span<const Item> items, Mask mask) {
  auto written = write_once(items, mask, nullptr);
  if (written || written.error().code != Errc::poison) return written;
  return take_apart(items, mask, written.error());
}

result<void> Runner::take_apart(std::span<const Item> items, Mask mask, const Failure& refusal) {
  if (items.size() > 1) {
    const std::size_t half = items.size() / 2;
    if (auto first = write(items.first(half), mask); !first) return first;
    return write(items.subspan(half), mask);
  }
  if ((mask & (mask - 1)) != 0) {  // more than one generation: which of them is it?
    for (std::size_t generation = 0; generation < generations_.size(); ++generation) {
      const Mask alone = mask & (Mask{1} << generation);
      if (alone == 0) continue;
      if (auto one = write(items, alone); !one) return one;
    }
    return {};
  }
  return write_once(items, mask, &refusal.detail);
}

result<void> Runner::write_once(std::span<const Item> items, Mask mask, const std::string* park_because) {
  const Prepared prepared = prepare(items, mask, park_because);
  if (prepared.batch.moves.empty()) return {};
  if (auto sent = writer_.send(prepared.batch); !sent) return sent;
  if (auto written = writer_.finish(); !written) return written;
  note(prepared);
  return {};
}

Runner::Prepared Runner::prepare(std::span<const Item> items, Mask mask, const std::string* park_because) {
  Prepared prepared;
  WriteBatch& batch = prepared.batch;
  std::unordered_set<std::string> newly_parked;
  for (Fold& fold : folds_) fold.clear();
  for (std::size_t generation = 0; generation < generations_.size(); ++generation) {
    batch.folds.push_back(&folds_[generation]);
    if ((mask >> generation & 1U) == 0) continue;
    const auto& checkpoints = checkpoints_[generation];
    std::vector<const Item*> last(log_.partitions(), nullptr);
    for (const Item& item : items) {
      if (item.last_sequence <= checkpoints[item.partition].sequence) continue;
      apply(item, generation, park_because, batch, newly_parked);
      last[item.partition] = &item;
      prepared.events += item.last_sequence - item.first_sequence + 1;
    }
    for (std::uint32_t partition = 0; partition < last.size(); ++partition) {
      if (last[partition] == nullptr) continue;
      batch.moves.push_back({generation, partition, checkpoints[partition].sequence, last[partition]->last_sequence,
                             checkpoints[partition].fence, last[partition]->resume_token});
    }
    prepared.rows += folds_[generation].rows();
  }
  return prepared;
}

void Runner::note(const Prepared& prepared) {
  for (const Move& move : prepared.batch.moves) {
    checkpoints_[move.generation][move.partition].sequence = move.to;
    tell_moved(move.generation, move.partition);
  }
  for (const ParkedKey& key : prepared.batch.parked_keys) {
    const Generation& generation = generations_[key.generation];
    parked_.insert(parked_id(key.generation, key.key));
    ++parked_keys_[key.generation];
    if (progress_ != nullptr && generation.live) progress_->parked(generation.index, parked_keys_[key.generation]);
    if (logger_ != nullptr) {
      logger_->error("read models: {} (generation {}) parked a key at {}: {}", generation.projection->name(), generation.number,
                     to_string(Position{key.partition, key.sequence}), key.error);
    }
  }
  count(batches_);
  count(events_, prepared.events);
  count(rows_, prepared.rows);
}

void Runner::apply(const Item& item, std::size_t generation, const std::string* park_because, WriteBatch& batch,
                   std::unordered_set<std::string>& newly_parked) {
  const auto is_parked = [&](const std::string& key) {
    const std::string id = parked_id(generation, key);
    return parked_.contains(id) || newly_parked.contains(id);
  };
  const auto wait_behind = [&](const std::string& key, std::uint64_t sequence) {
    batch.parked_events.push_back({generation, item.partition, key, sequence, item.stream});
  };
  const auto park = [&](const std::string& key, std::uint64_t sequence, const std::string& error) {
    if (!is_parked(key)) {
      newly_parked.insert(parked_id(generation, key));
      batch.parked_keys.push_back({generation, item.partition, key, sequence, error});
    }
    wait_behind(key, sequence);
  };
  const std::string stream_key = "stream/" + item.stream;
  if (!item.undecodable.empty()) {
    for (std::uint64_t sequence = item.first_sequence; sequence <= item.last_sequence; ++sequence) {
      park(stream_key, sequence, item.undecodable);
    }
    return;
  }
  for (const codec::DecodedEvent& event : item.events) {
    const std::uint64_t sequence = event.recorded.sequence;
    const bool erases = std::holds_alternative<domain::UserErased>(event.recorded.event) && park_because == nullptr;
    if (options_.until && event.recorded.time > *options_.until) {
      if (erases) batch.erasures.push_back({&event, generation});
      continue;
    }
    if (!skipped_.empty() && skipped_.contains({generations_[generation].index, {item.partition, sequence}})) continue;
    if (!parked_.empty() || !newly_parked.empty()) {
      const std::string key = key_of(event);
      if (const std::string* parked = is_parked(key) ? &key : is_parked(stream_key) ? &stream_key : nullptr) {
        wait_behind(*parked, sequence);
        if (erases) batch.erasures.push_back({&event, generation});  // forgetting somebody does not wait
        continue;
      }
    }
    if (park_because != nullptr) {
      park(key_of(event), sequence, *park_because);
      continue;
    }
    operations_.clear();
    if (auto applied = generations_[generation].projection->apply(event, operations_)) {
      folds_[generation].add(std::move(operations_));
    } else {
      park(key_of(event), sequence, applied.error().message());
    }
  }
}

RunnerThread::RunnerThread(Runner& runner, log::EventLog& log, Progress& progress, RunnerOptions options)
    : runner_(runner), log_(log), progress_(progress), options_(options) {
  progress_.on_waiting([this] { signal(urgent_); });
  subscription_ = log_.subscribe([this](std::uint32_t partition) {
    progress_.advanced(partition);
    signal(advanced_);
  });
  thread_ = std::thread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), "proj-runner");
}

RunnerThread::~RunnerThread() { stop(); }

void RunnerThread::stop() {
  subscription_.reset();
  progress_.on_waiting({});
  signal(stopping_);
  if (thread_.joinable()) thread_.join();
}

void RunnerThread::reopen() {
  runner_.reopen();
  signal(reopen_);
}

void RunnerThread::signal(bool& flag) {
  const std::lock_guard lock(mutex_);
  if (flag) return;
  flag = true;
  changed_.notify_all();
}

void RunnerThread::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    advanced_ = urgent_ = reopen_ = false;
    lock.unlock();
    const auto began = std::chrono::steady_clock::now();
    const Runner::Step step = runner_.step();
    lock.lock();
    switch (step.kind) {
      case Runner::Step::Kind::progressed: {
        const auto gather = std::min<std::chrono::microseconds>(options_.gather_per_event * step.events, options_.max_gather);
        if (step.behind) break;
        changed_.wait_until(lock, began + gather, [this] { return stopping_ || urgent_ || reopen_; });
        break;
      }
      case Runner::Step::Kind::idle: {
        const auto period = step.retry_after.count() > 0 ? step.retry_after : look_again;
        changed_.wait_for(lock, period, [this] { return stopping_ || advanced_ || reopen_; });
        break;
      }
      case Runner::Step::Kind::failed: changed_.wait_for(lock, step.retry_after, [this] { return stopping_ || reopen_; }); break;
    }
  }
}

}  // namespace onboarding::projections
