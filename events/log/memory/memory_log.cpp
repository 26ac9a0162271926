#include "events/log/memory/memory_log.hpp"

#include <pthread.h>

#include "events/domain/assertion.hpp"
#include "events/log/append_rules.hpp"
#include "events/log/stream_index.hpp"

namespace onboarding::log {

class MemoryStore {
 public:
  MemoryStore(std::uint32_t partition_count, std::string id)
      : log_id(std::move(id)), partitions(partition_count), index_(partition_count, 0) {}

  std::uint64_t open() {
    const std::lock_guard lock(mutex_);
    return ++owner_;
  }

  AppendOutcome write(const Append& append, std::uint64_t owner, bool resent) {
    const std::lock_guard lock(mutex_);
    if (owner != owner_) return Fenced{};
    auto& stream = streams_[append.stream];
    auto& records = partitions.at(append.partition);
    if (resent) {
      for (const Place place : stream)
        if (const Record& record = at(place); record.record_id == append.record_id)
          return Durable{{record.partition, record.first_sequence}, record.first_version};
    }
    const std::uint64_t found = stream.empty() ? 0 : at(stream.back()).last_version();
    if (!stream.empty() && stream.back().partition != append.partition)
      return Refused{{Errc::out_of_bounds, "the stream lies in partition " + std::to_string(stream.back().partition)}};
    if (found != append.expected_version) return Conflict{found};
    const std::uint64_t first_sequence = records.empty() ? 1 : records.back().last_sequence() + 1;
    stream.push_back({append.partition, records.size()});
    records.push_back({append.partition,
                       first_sequence,
                       append.stream,
                       found + 1,
                       append.count,
                       append.record_id,
                       append.index,
                       append.time,
                       append.payload,
                       {}});
    auto* entry = index_.find(append.stream);
    index_.update(entry != nullptr ? *entry : index_.insert(append.stream, append.partition), found + append.count, append.index);
    return Durable{{append.partition, first_sequence}, found + 1};
  }

  std::vector<Record> read_stream(std::uint32_t partition, const std::string& name, std::uint64_t after_version,
                                  std::size_t max_records) const {
    const std::lock_guard lock(mutex_);
    std::vector<Record> found;
    const auto stream = streams_.find(name);
    if (stream == streams_.end()) return found;
    for (const Place place : stream->second) {
      if (found.size() == max_records || place.partition != partition) break;
      if (at(place).last_version() > after_version) found.push_back(at(place));
    }
    return found;
  }

  std::vector<Record> read_partition(std::uint32_t partition, std::uint64_t after_sequence, std::size_t max_records,
                                     std::size_t max_bytes) const {
    const std::lock_guard lock(mutex_);
    const auto& records = partitions.at(partition);
    std::vector<Record> found;
    std::size_t bytes = 0;
    for (auto record = std::ranges::upper_bound(records, after_sequence, {}, &Record::first_sequence);
         record != records.end() && found.size() < max_records && (found.empty() || bytes + record->payload.size() <= max_bytes);
         ++record) {
      bytes += record->payload.size();
      found.push_back(*record);
    }
    return found;
  }

  std::uint64_t head(std::uint32_t partition) const {
    const std::lock_guard lock(mutex_);
    const auto& records = partitions.at(partition);
    return records.empty() ? 0 : records.back().last_sequence();
  }

  template <class Question>
  auto ask(Question question) const {
    const std::lock_guard lock(mutex_);
    return question(index_);
  }

  const std::string log_id;

 private:
  struct Place {
    std::uint32_t partition;
    std::size_t number;
  };
  const Record& at(Place place) const { return partitions[place.partition][place.number]; }

 public:
  std::vector<std::vector<Record>> partitions;

 private:
  mutable std::mutex mutex_;
  std::uint64_t owner_ = 0;
  std::unordered_map<std::string, std::vector<Place>> streams_;
  StreamIndex index_;
};

std::shared_ptr<MemoryStore> make_memory_store(std::uint32_t partitions, std::string log_id) {
  ONBOARDING_ASSERT(partitions > 0, "a log has at least one partition");
  return std::make_shared<MemoryStore>(partitions, std::move(log_id));
}

FaultCounts& FaultCounts::operator+=(const FaultCounts& other) {
  durable += other.durable;
  late += other.late;
  duplicate += other.duplicate;
  in_doubt_written += other.in_doubt_written;
  in_doubt_lost += other.in_doubt_lost;
  fenced += other.fenced;
  refused += other.refused;
  failed_read += other.failed_read;
  slow_read += other.slow_read;
  lost_at_crash += other.lost_at_crash;
  written_at_crash += other.written_at_crash;
  callbacks_dropped += other.callbacks_dropped;
  return *this;
}

MemoryLog::MemoryLog(std::shared_ptr<MemoryStore> store, Mode mode, std::size_t max_waiting)
    : store_(std::move(store)), mode_(mode), max_waiting_(max_waiting), owner_(store_->open()), fenced_(partitions()) {
  if (mode_ == Mode::threaded) thread_ = std::thread([this] { run(); });
}

MemoryLog::~MemoryLog() { close(); }

void MemoryLog::close() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  if (mode_ == Mode::controlled) drain();
}

void MemoryLog::run() {
  pthread_setname_np(pthread_self(), "log-memory");
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return closing_ || !appends_.empty() || !reads_.empty(); });
      if (appends_.empty() && reads_.empty()) return;
    }
    drain();
  }
}

// ---- the driver

bool MemoryLog::idle() const {
  const std::lock_guard lock(mutex_);
  return appends_.empty() && reads_.empty() && completions_.empty() && advanced_.empty();
}

void MemoryLog::drain() {
  do {
    while (step_append(Fate::durable) || step_read()) {}
    Completion completion;
    {
      const std::lock_guard lock(mutex_);
      if (!completions_.empty()) {
        completion = std::move(completions_.front());
        completions_.pop_front();
      }
    }
    if (completion) completion();
    deliver_notices();
  } while (!idle());
}

bool MemoryLog::step_append(Fate fate) {
  WaitingAppend next;
  {
    const std::lock_guard lock(mutex_);
    if (appends_.empty()) return false;
    next = std::move(appends_.front());
    appends_.pop_front();
  }
  carry_out(std::move(next), fate);
  return true;
}

bool MemoryLog::step_read(bool failed) {
  WaitingRead next;
  {
    const std::lock_guard lock(mutex_);
    if (reads_.empty()) return false;
    next = std::move(reads_.front());
    reads_.pop_front();
  }
  carry_out(std::move(next), failed, false);
  return true;
}

bool MemoryLog::step(std::mt19937_64& random, const Faults& faults) {
  // The library's distributions differ between implementations; a seed must mean the same everywhere.
  const auto below = [&](std::size_t bound) { return static_cast<std::size_t>(random() % bound); };
  double left = static_cast<double>(random() >> 11) * 0x1p-53;
  const auto chosen = [&](double probability) { return (left -= probability) < 0; };

  // Appends of one partition are carried out in order: only the oldest of each may move.
  std::vector<std::size_t> oldest;
  std::vector<char> seen(partitions());
  for (std::size_t i = 0; i < appends_.size(); ++i)
    if (!std::exchange(seen[appends_[i].append.partition], 1)) oldest.push_back(i);
  const std::size_t moves = oldest.size() + reads_.size() + completions_.size() + !advanced_.empty();
  if (moves == 0) return false;
  std::size_t move = below(moves);

  if (move < oldest.size()) {
    const auto place = appends_.begin() + static_cast<std::ptrdiff_t>(oldest[move]);
    WaitingAppend next = std::move(*place);
    appends_.erase(place);
    const Fate fate = chosen(faults.late)               ? Fate::late
                      : chosen(faults.duplicate)        ? Fate::duplicate
                      : chosen(faults.in_doubt_written) ? Fate::in_doubt_written
                      : chosen(faults.in_doubt_lost)    ? Fate::in_doubt_lost
                      : chosen(faults.fenced)           ? Fate::fenced
                      : chosen(faults.refused)          ? Fate::refused
                                                        : Fate::durable;
    carry_out(std::move(next), fate);
    return true;
  }
  move -= oldest.size();
  if (move < reads_.size()) {
    const auto place = reads_.begin() + static_cast<std::ptrdiff_t>(move);
    WaitingRead next = std::move(*place);
    reads_.erase(place);
    const bool failed = chosen(faults.failed_read);
    carry_out(std::move(next), failed, chosen(faults.slow_read));
    return true;
  }
  move -= reads_.size();
  if (move < completions_.size()) {
    const auto place = completions_.begin() + static_cast<std::ptrdiff_t>(move);
    const Completion completion = std::move(*place);
    completions_.erase(place);
    completion();
    return true;
  }
  return deliver_notices();
}

void MemoryLog::carry_out(WaitingAppend waiting, Fate fate) {
  const Append& append = waiting.append;
  const auto write = [&] {
    AppendOutcome outcome = fenced_[append.partition] ? Fenced{} : store_->write(append, owner_, waiting.resent);
    if (std::holds_alternative<Durable>(outcome)) {
      const std::lock_guard lock(mutex_);
      if (std::ranges::find(advanced_, append.partition) == advanced_.end()) advanced_.push_back(append.partition);
    }
    return outcome;
  };
  // What was written before can end in nothing but its acknowledgement, however often it is sent.
  if (waiting.resent && fate != Fate::late) fate = Fate::durable;
  switch (fate) {
    case Fate::durable: ++counts_.durable; return waiting.done(write());
    case Fate::late: {
      ++counts_.late;
      AppendOutcome outcome = write();
      const std::lock_guard lock(mutex_);
      completions_.emplace_back([outcome = std::move(outcome), done = std::move(waiting.done)] { done(outcome); });
      return;
    }
    case Fate::duplicate: {
      ++counts_.duplicate;
      if (const AppendOutcome outcome = write(); !std::holds_alternative<Durable>(outcome)) return waiting.done(outcome);
      waiting.resent = true;
      const std::lock_guard lock(mutex_);
      appends_.push_back(std::move(waiting));
      return;
    }
    case Fate::in_doubt_written:
      ++counts_.in_doubt_written;
      write();
      return waiting.done(InDoubt{{Errc::unreadable, "the acknowledgement was lost"}});
    case Fate::in_doubt_lost:
      ++counts_.in_doubt_lost;
      return waiting.done(InDoubt{{Errc::unreadable, "the acknowledgement was lost"}});
    case Fate::fenced:
      ++counts_.fenced;
      fenced_[append.partition] = true;
      return waiting.done(Fenced{});
    case Fate::refused: ++counts_.refused; return waiting.done(Refused{{Errc::not_writable, "the disk is full"}});
  }
}

void MemoryLog::carry_out(WaitingRead waiting, bool failed, bool slow) {
  counts_.failed_read += failed;
  if (failed) return waiting.done(failure(Errc::unreadable, "the disk does not answer"));
  auto records = store_->read_stream(waiting.partition, waiting.stream, waiting.after_version, waiting.max_records);
  if (!slow) return waiting.done(std::move(records));
  ++counts_.slow_read;
  const std::lock_guard lock(mutex_);
  completions_.emplace_back(
      [records = std::move(records), done = std::move(waiting.done)]() mutable { done(std::move(records)); });
}

bool MemoryLog::deliver_notices() {
  std::vector<std::uint32_t> advanced;
  {
    const std::lock_guard lock(mutex_);
    advanced.swap(advanced_);
  }
  subscribers_.notify(advanced);
  return !advanced.empty();
}

void MemoryLog::crash(std::mt19937_64& random) {
  ONBOARDING_ASSERT(mode_ == Mode::controlled, "only a simulated process can crash");
  std::vector<std::uint64_t> waiting(partitions()), written(partitions());
  for (const auto& each : appends_) waiting[each.append.partition] += !each.resent;
  for (std::uint32_t partition = 0; partition < partitions(); ++partition)
    if (waiting[partition] > 0) written[partition] = random() % (waiting[partition] + 1);
  for (const auto& each : appends_) {
    if (each.resent) continue;
    if (written[each.append.partition] == 0 || fenced_[each.append.partition]) {
      ++counts_.lost_at_crash;
      continue;
    }
    --written[each.append.partition];
    counts_.written_at_crash += std::holds_alternative<Durable>(store_->write(each.append, owner_, false));
  }
  counts_.callbacks_dropped += appends_.size() + reads_.size() + completions_.size();
  crashed_ = true;
  appends_.clear();
  reads_.clear();
  completions_.clear();
  advanced_.clear();
}

// ---- the port

std::string MemoryLog::log_id() const { return store_->log_id; }
std::uint32_t MemoryLog::partitions() const { return static_cast<std::uint32_t>(store_->partitions.size()); }

result<void> MemoryLog::writable() const {
  const std::lock_guard lock(mutex_);
  if (closing_ || crashed_) return failure(Errc::not_writable, "the log is shutting down");
  return {};
}

void MemoryLog::append(Append append, AppendDone done) {
  std::optional<Failure> refusal = objection(append, partitions());
  {
    const std::lock_guard lock(mutex_);
    if (crashed_) return;
    if (closing_) refusal = Failure{Errc::not_writable, "the log is shutting down"};
    if (!refusal && appends_.size() >= max_waiting_) refusal = Failure{Errc::overloaded, {}};
    if (!refusal) appends_.push_back({std::move(append), std::move(done)});
  }
  if (refusal) return done(Refused{*std::move(refusal)});
  wake_.notify_one();
}

void MemoryLog::read_stream(std::uint32_t partition, std::string stream, std::uint64_t after_version, std::size_t max_records,
                            RecordsRead done) {
  {
    const std::lock_guard lock(mutex_);
    if (crashed_) return;
    if (!closing_ && reads_.size() < max_waiting_) {
      reads_.push_back({partition, std::move(stream), after_version, max_records, std::move(done)});
      done = nullptr;
    }
  }
  if (done) return done(failure(Errc::overloaded));
  wake_.notify_one();
}

result<std::vector<Record>> MemoryLog::read_partition(std::uint32_t partition, std::uint64_t after_sequence,
                                                      std::size_t max_records, std::size_t max_bytes) {
  return store_->read_partition(partition, after_sequence, max_records, max_bytes);
}

std::uint64_t MemoryLog::head(std::uint32_t partition) const { return store_->head(partition); }

std::unique_ptr<Subscription> MemoryLog::subscribe(std::function<void(std::uint32_t)> on_advance) {
  return subscribers_.add(std::move(on_advance));
}

result<std::vector<OpenStream>> MemoryLog::pending_turns(std::uint32_t partition, std::size_t limit) {
  return store_->ask([&](const StreamIndex& index) { return index.pending(partition, limit); });
}

result<std::vector<OpenStream>> MemoryLog::due(std::uint32_t partition, domain::Timestamp due_before, std::size_t limit) {
  return store_->ask([&](const StreamIndex& index) { return index.due(partition, due_before, limit); });
}

result<std::uint64_t> MemoryLog::open_count() {
  return store_->ask([](const StreamIndex& index) { return index.open_count(); });
}

}  // namespace onboarding::log
