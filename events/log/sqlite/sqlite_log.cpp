#include "events/log/sqlite/sqlite_log.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <thread>

#include "events/domain/assertion.hpp"
#include "events/fault_point.hpp"
#include "events/log/append_rules.hpp"
#include "events/log/recent_records.hpp"
#include "events/log/sqlite/read_threads.hpp"
#include "events/log/sqlite/writer_lock.hpp"
#include "events/log/subscribers.hpp"

namespace onboarding::log {
namespace {

// In the order of the steps (FORMAT.md). before_write stands for a full disk, before_commit for a commit whose end is unknown.
FaultPoint before_head_is_made{"log.before_head_is_made"};
FaultPoint before_write{"log.before_write"};
FaultPoint before_commit{"log.before_commit"};
FaultPoint after_commit_before_head{"log.after_commit_before_head"};
FaultPoint after_head_before_ack{"log.after_head_before_ack"};
FaultPoint after_ack{"log.after_ack"};
FaultPoint before_head_sync{"log.before_head_sync"};
FaultPoint before_checkpoint{"log.before_checkpoint"};
FaultPoint after_checkpoint{"log.after_checkpoint"};

using SteadyClock = std::chrono::steady_clock;
constexpr auto head_sync_period = std::chrono::seconds(1);
constexpr auto probe_period = std::chrono::seconds(1);
constexpr auto idle_before_checkpoint = std::chrono::milliseconds(20);
constexpr std::size_t page_bytes = 8192;
// Where many append at once, a commit waits this long for others: a sync costs more than all else in it. Whoever appends
// alone never waits.
constexpr auto gathering = std::chrono::milliseconds(1);
constexpr double crowd = 2;  // appends a commit, lately

void say_and_end(const Failure& why) {
  std::fprintf(stderr, "the event log failed and nothing is acknowledged any more: %s\n", why.message().c_str());
  ::_exit(70);
}

class Writer final : public SqliteLog {
 public:
  Writer(SqliteOptions options, WriterLock lock, Database database, HeadFile head_file, const Layout& layout, const Scan& scan)
      : options_(std::move(options)),
        lock_(std::move(lock)),
        database_(std::move(database)),
        head_file_(std::move(head_file)),
        layout_(layout),
        chain_(scan.checksum()),
        last_number_(scan.records()),
        last_stream_(scan.streams().size()),
        heads_(scan.heads()),
        published_heads_(layout.partitions),
        index_(layout.partitions, options_.idle_streams),
        recent_(layout.partitions, options_.recent_bytes),
        reads_(options_.path, options_.max_waiting_reads) {
    for (std::uint32_t partition = 0; partition < layout_.partitions; ++partition)
      published_heads_[partition] = heads_[partition];
    if (!options_.on_fatal) options_.on_fatal = say_and_end;
  }
  ~Writer() override { close(); }

  result<void> prepare(const Scan&);
  void start() {
    thread_ = std::thread([this] { run(); });
  }
  void close() override;

  std::string log_id() const override { return layout_.log_id; }
  std::uint32_t partitions() const override { return layout_.partitions; }
  result<void> writable() const override;
  void append(Append, AppendDone) override;
  void read_stream(std::uint32_t partition, std::string stream, std::uint64_t after_version, std::size_t max_records,
                   RecordsRead done) override {
    reads_.stream(partition, std::move(stream), after_version, max_records, std::move(done));
  }
  result<std::vector<Record>> read_partition(std::uint32_t partition, std::uint64_t after_sequence, std::size_t max_records,
                                             std::size_t max_bytes) override {
    if (auto recent = recent_.read(partition, after_sequence, max_records, max_bytes)) return *std::move(recent);
    return reads_.partition(partition, after_sequence, max_records, max_bytes);
  }
  std::uint64_t head(std::uint32_t partition) const override { return published_heads_.at(partition); }
  std::unique_ptr<Subscription> subscribe(std::function<void(std::uint32_t)> on_advance) override {
    followed_ = true;
    return subscribers_.add(std::move(on_advance));
  }
  result<std::vector<OpenStream>> pending_turns(std::uint32_t partition, std::size_t limit) override {
    const std::lock_guard lock(index_mutex_);
    return index_.pending(partition, limit);
  }
  result<std::vector<OpenStream>> due(std::uint32_t partition, domain::Timestamp due_before, std::size_t limit) override {
    const std::lock_guard lock(index_mutex_);
    return index_.due(partition, due_before, limit);
  }
  result<std::uint64_t> open_count() override {
    const std::lock_guard lock(index_mutex_);
    return index_.open_count();
  }

 private:
  /// An append on its way through the writer: what was asked, and what became of it once the batch is durable.
  struct Waiting {
    enum class Verdict : std::uint8_t { written, conflict, elsewhere };
    Append append;
    AppendDone done;
    Verdict verdict = Verdict::written;
    StreamIndex::Entry* stream = nullptr;
    std::uint64_t first_sequence = 0;
    std::uint64_t version_found = 0;
  };
  /// What ends a batch early. full: rolled back, nothing was written. fatal: unknown or unusable.
  enum class End { done, full, fatal };

  void run();
  void carry_out();
  End write(Failure& why);
  int write(Waiting&);
  int look_up(Waiting&);
  void acknowledge();
  void keep(Waiting&);
  void refuse(const Failure&);
  void give_up(const Failure&);
  SteadyClock::time_point next_chore(SteadyClock::time_point now) const;
  void do_chores();
  void probe();
  void checkpoint();
  void sync_head();
  void set_writable(std::optional<Failure> why_not);

  SqliteOptions options_;
  WriterLock lock_;
  Database database_;
  HeadFile head_file_;
  const Layout layout_;
  Statement begin_, commit_, rollback_, insert_record_, insert_stream_, find_stream_, find_version_, probe_;

  // The writer thread's own.
  Chain chain_;
  std::uint64_t last_number_, last_stream_;
  std::vector<std::uint64_t> heads_;
  std::vector<Waiting> batch_;
  std::uint64_t batch_number_ = 0;
  double appends_a_commit_ = 1;
  std::vector<std::uint32_t> advanced_;  // partitions, of this batch
  int wal_pages_ = 0, wal_pages_at_checkpoint_ = 0;
  bool head_unsynced_ = false, failed_ = false;
  SteadyClock::time_point head_synced_at_{}, probed_at_{}, idle_since_{};

  std::vector<std::atomic<std::uint64_t>> published_heads_;
  std::mutex index_mutex_;  // only the writer thread changes the index, under it; it reads without
  StreamIndex index_;
  Subscribers subscribers_;
  std::atomic<bool> followed_{false};  // somebody subscribed: new records are kept for them
  RecentRecords recent_;

  mutable std::mutex mutex_;  // of all below
  std::condition_variable wake_;
  std::vector<Waiting> waiting_;
  std::size_t waiting_bytes_ = 0;
  bool writer_sleeps_ = false, closing_ = false;
  std::optional<Failure> not_writable_;  // changed by the writer thread only, which reads it without the lock

  Reads reads_;
  std::thread thread_;
};

result<void> Writer::prepare(const Scan& scan) {
  for (const auto& [statement, sql] : {
           std::pair(&begin_, "BEGIN IMMEDIATE"),
           std::pair(&commit_, "COMMIT"),
           std::pair(&rollback_, "ROLLBACK"),
           std::pair(&insert_record_, insert_record_sql),
           std::pair(&insert_stream_, insert_stream_sql),
           std::pair(&find_stream_, "SELECT number, partition FROM streams WHERE name=?"),
           std::pair(&find_version_,
                     "SELECT first_version+count-1 FROM records WHERE stream=? ORDER BY first_version DESC LIMIT 1"),
           std::pair(&probe_, "UPDATE meta SET value=value+1 WHERE key='probe'"),
       }) {
    auto prepared = database_.prepare(sql);
    if (!prepared) return tl::unexpected(prepared.error());
    *statement = std::move(*prepared);
  }
  sqlite3_wal_hook(
      database_.handle(),
      [](void* writer, sqlite3*, const char*, int pages) {
        static_cast<Writer*>(writer)->wal_pages_ = pages;
        return SQLITE_OK;
      },
      this);

  auto name = database_.prepare("SELECT name FROM streams WHERE number=?");
  if (!name) return tl::unexpected(name.error());
  for (std::size_t i = 0; i < scan.streams().size(); ++i) {
    const Scan::Stream& stream = scan.streams()[i];
    if (!stream.index.open && !stream.index.pending_turn) continue;
    const Using use(*name);
    name->bind(1, static_cast<std::int64_t>(i + 1));
    if (name->step() != SQLITE_ROW) return tl::unexpected(database_.error("read a stream's name"));
    StreamIndex::Entry& entry = index_.insert(name->bytes(0), stream.partition);
    entry.number = i + 1;
    index_.update(entry, stream.version, stream.index);
  }
  return head_file_.write({layout_.log_id, last_number_, chain_.last()}).and_then([&] { return head_file_.sync(); });
}

void Writer::close() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

result<void> Writer::writable() const {
  const std::lock_guard lock(mutex_);
  if (closing_) return failure(Errc::not_writable, "the log is shutting down");
  if (not_writable_) return tl::unexpected(*not_writable_);
  return {};
}

void Writer::append(Append append, AppendDone done) {
  auto refusal = objection(append, layout_.partitions);
  bool wake = false;
  {
    const std::lock_guard lock(mutex_);
    if (closing_) refusal = Failure{Errc::not_writable, "the log is shutting down"};
    if (!refusal && not_writable_) refusal = *not_writable_;
    if (!refusal && (waiting_.size() >= options_.max_waiting || waiting_bytes_ >= options_.max_waiting_bytes))
      refusal = Failure{Errc::overloaded, std::to_string(waiting_.size()) + " appends wait"};
    if (!refusal) {
      waiting_bytes_ += append.payload.size();
      waiting_.push_back({std::move(append), std::move(done)});
      wake = std::exchange(writer_sleeps_, false);
    }
  }
  if (refusal) return done(Refused{*std::move(refusal)});  // NOLINT(bugprone-use-after-move): moved only where none is
  if (wake) wake_.notify_one();
}

// ---- the writer thread

void Writer::run() {
  pthread_setname_np(pthread_self(), "log-write");
  head_synced_at_ = idle_since_ = SteadyClock::now();
  for (;;) {
    bool stop = false;
    std::vector<Waiting> waiting;
    {
      std::unique_lock lock(mutex_);
      if (waiting_.empty() && !closing_) {
        writer_sleeps_ = true;
        const auto due = next_chore(SteadyClock::now());
        const auto ready = [this] { return closing_ || !waiting_.empty(); };
        if (due == SteadyClock::time_point::max()) wake_.wait(lock, ready);
        else wake_.wait_until(lock, due, ready);
        writer_sleeps_ = false;
      }
      if (appends_a_commit_ >= crowd) wake_.wait_for(lock, gathering, [this] { return closing_; });
      stop = closing_ && waiting_.empty();
      waiting.swap(waiting_);
      waiting_bytes_ = 0;
    }
    for (std::size_t begin = 0; begin < waiting.size(); begin += options_.max_batch) {
      const std::size_t end = std::min(waiting.size(), begin + options_.max_batch);
      batch_.assign(std::make_move_iterator(waiting.begin() + static_cast<std::ptrdiff_t>(begin)),
                    std::make_move_iterator(waiting.begin() + static_cast<std::ptrdiff_t>(end)));
      carry_out();
    }
    if (!waiting.empty()) {
      idle_since_ = SteadyClock::now();
      appends_a_commit_ += (static_cast<double>(waiting.size()) - appends_a_commit_) / 16;
    }
    if (stop) break;
    do_chores();
  }
  if (!failed_) {
    checkpoint();
    sync_head();
  }
}

void Writer::carry_out() {
  if (not_writable_) return refuse(*not_writable_);
  const Chain chain = chain_;
  const auto heads = heads_;
  const auto number = last_number_, stream = last_stream_;
  ++batch_number_;
  advanced_.clear();
  Failure why;
  const End end = write(why);
  if (end == End::done) return acknowledge();

  chain_ = chain;
  heads_ = heads;
  last_number_ = number;
  last_stream_ = stream;
  if (end == End::fatal) return give_up(why);
  rollback_.run();  // an error when SQLite has rolled back by itself
  if (sqlite3_get_autocommit(database_.handle()) == 0) return give_up(database_.error("roll back"));
  why = {Errc::not_writable, "there is no room for the log"};
  set_writable(why);
  refuse(why);
}

Writer::End Writer::write(Failure& why) {
  const auto ended = [&](int code) {
    const End end = Database::full(code) ? End::full : End::fatal;
    why = database_.error("append");
    return end;
  };
  if (const int code = begin_.run(); code != SQLITE_OK) return ended(code);
  if (before_write.hit()) return End::full;
  for (Waiting& each : batch_)
    if (const int code = write(each); code != SQLITE_OK) return ended(code);
  if (before_commit.hit()) {
    why = {Errc::unreadable, "a fault was asked for at the commit"};
    return End::fatal;
  }
  if (const int code = commit_.run(); code != SQLITE_OK) return ended(code);
  after_commit_before_head.hit();
  if (advanced_.empty()) return End::done;
  if (auto written = head_file_.write({layout_.log_id, last_number_, chain_.last()}); !written) {
    why = written.error();
    return End::fatal;
  }
  head_unsynced_ = true;
  after_head_before_ack.hit();
  return End::done;
}

int Writer::write(Waiting& waiting) {
  const Append& append = waiting.append;
  waiting.stream = index_.find(append.stream);
  if (waiting.stream == nullptr)
    if (const int code = look_up(waiting); code != SQLITE_OK) return code;
  StreamIndex::Entry& stream = *waiting.stream;
  if (stream.batch != batch_number_) {
    stream.batch = batch_number_;
    stream.version_in_batch = stream.version;
    stream.number_in_batch = stream.number;
  }
  waiting.version_found = stream.version_in_batch;
  if (stream.version_in_batch != 0 && stream.partition != append.partition) {
    waiting.verdict = Waiting::Verdict::elsewhere;
    return SQLITE_OK;
  }
  if (stream.version_in_batch != append.expected_version) {
    waiting.verdict = Waiting::Verdict::conflict;
    return SQLITE_OK;
  }

  ChainedRecord record;
  record.number = ++last_number_;
  record.partition = append.partition;
  record.first_sequence = heads_[append.partition] + 1;
  record.first_version = append.expected_version + 1;
  record.count = append.count;
  record.flags = to_flags(append.index);
  record.due_at_us = append.index.due_at.time_since_epoch().count();
  record.time_us = append.time.time_since_epoch().count();
  record.record_id = append.record_id;
  record.payload = append.payload;
  if (record.first_version == 1) {
    record.stream_name = append.stream;
    stream.partition = append.partition;
    stream.number_in_batch = ++last_stream_;
  }
  record.stream_number = stream.number_in_batch;
  if (const int code = insert(insert_record_, insert_stream_, record, chain_.advance(record)); code != SQLITE_OK) return code;

  if (heads_[append.partition] == published_heads_[append.partition]) advanced_.push_back(append.partition);
  heads_[append.partition] += append.count;
  stream.version_in_batch += append.count;
  waiting.verdict = Waiting::Verdict::written;
  waiting.first_sequence = record.first_sequence;
  return SQLITE_OK;
}

/// A stream that is not in memory is new, or idle for long.
int Writer::look_up(Waiting& waiting) {
  std::uint64_t number = 0, version = 0;
  std::uint32_t partition = waiting.append.partition;
  {
    const Using use(find_stream_);
    find_stream_.bind(1, waiting.append.stream);
    const int code = find_stream_.step();
    if (code == SQLITE_ROW) {
      number = find_stream_.natural(0);
      partition = static_cast<std::uint32_t>(find_stream_.integer(1));
    } else if (code != SQLITE_DONE) {
      return code;
    }
  }
  if (number != 0) {
    const Using use(find_version_);
    find_version_.bind(1, static_cast<std::int64_t>(number));
    if (const int code = find_version_.step(); code != SQLITE_ROW) return code == SQLITE_DONE ? SQLITE_CORRUPT : code;
    version = find_version_.natural(0);
  }
  const std::lock_guard lock(index_mutex_);
  waiting.stream = &index_.insert(waiting.append.stream, partition);
  waiting.stream->number = number;
  waiting.stream->version = version;
  return SQLITE_OK;
}

void Writer::acknowledge() {
  {
    const std::lock_guard lock(index_mutex_);
    for (Waiting& each : batch_) {
      if (each.verdict != Waiting::Verdict::written) continue;
      each.stream->number = each.stream->number_in_batch;
      index_.update(*each.stream, each.append.expected_version + each.append.count, each.append.index);
    }
    index_.trim();
  }
  if (followed_)
    for (Waiting& each : batch_)
      if (each.verdict == Waiting::Verdict::written) keep(each);
  for (const std::uint32_t partition : advanced_) published_heads_[partition] = heads_[partition];
  for (Waiting& each : batch_) {
    switch (each.verdict) {
      case Waiting::Verdict::written:
        each.done(Durable{{each.append.partition, each.first_sequence}, each.append.expected_version + 1});
        break;
      case Waiting::Verdict::conflict: each.done(Conflict{each.version_found}); break;
      case Waiting::Verdict::elsewhere: each.done(Refused{{Errc::out_of_bounds, "the stream lies in another partition"}}); break;
    }
  }
  after_ack.hit();
  subscribers_.notify(advanced_);
  batch_.clear();
}

/// For those who follow; takes the append's texts.
void Writer::keep(Waiting& written) {
  Append& append = written.append;
  recent_.add({append.partition,
               written.first_sequence,
               std::move(append.stream),
               append.expected_version + 1,
               append.count,
               std::move(append.record_id),
               append.index,
               append.time,
               std::move(append.payload),
               {}});
}

void Writer::refuse(const Failure& why) {
  for (Waiting& each : batch_) each.done(Refused{why});
  batch_.clear();
}

void Writer::give_up(const Failure& why) {
  failed_ = true;
  set_writable(Failure{Errc::not_writable, why.message()});
  {
    const std::lock_guard lock(mutex_);
    std::ranges::move(waiting_, std::back_inserter(batch_));
    waiting_.clear();
  }
  for (Waiting& each : batch_) each.done(InDoubt{why});
  batch_.clear();
  options_.on_fatal(why);
}

void Writer::set_writable(std::optional<Failure> why_not) {
  const std::string what = why_not ? why_not->message() : "";
  {
    const std::lock_guard lock(mutex_);
    not_writable_ = std::move(why_not);
  }
  if (options_.on_room) options_.on_room(what);
}

// ---- chores between batches

SteadyClock::time_point Writer::next_chore(SteadyClock::time_point now) const {
  auto due = SteadyClock::time_point::max();
  if (failed_) return due;
  if (not_writable_) due = std::min(due, probed_at_ + probe_period);
  if (head_unsynced_) due = std::min(due, head_synced_at_ + head_sync_period);
  if (static_cast<std::size_t>(wal_pages_ - wal_pages_at_checkpoint_) * page_bytes >= options_.checkpoint_bytes / 32)
    due = std::min(due, idle_since_ + idle_before_checkpoint);
  return std::max(due, now);
}

void Writer::do_chores() {
  if (failed_) return;
  const auto now = SteadyClock::now();
  if (not_writable_ && now >= probed_at_ + probe_period) {
    probed_at_ = now;
    probe();
  }
  if (wal_pages_ < wal_pages_at_checkpoint_) wal_pages_at_checkpoint_ = 0;  // the WAL began again from its start
  const auto since = static_cast<std::size_t>(wal_pages_ - wal_pages_at_checkpoint_) * page_bytes;
  if (since >= options_.checkpoint_bytes ||
      (since >= options_.checkpoint_bytes / 32 && now >= idle_since_ + idle_before_checkpoint))
    checkpoint();
  if (head_unsynced_ && now >= head_synced_at_ + head_sync_period) sync_head();
}

void Writer::probe() {
  if (begin_.run() != SQLITE_OK) return;
  if (!before_write.hit() && probe_.run() == SQLITE_OK && commit_.run() == SQLITE_OK) set_writable(std::nullopt);
  else rollback_.run();
}

void Writer::checkpoint() {
  before_checkpoint.hit();
  // Passive: waits for nobody; what a reader still needs stays in the WAL until the next time.
  errno = 0;
  const int code = sqlite3_wal_checkpoint_v2(database_.handle(), nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
  const bool harmless = code == SQLITE_OK || (code & 0xff) == SQLITE_BUSY || Database::full(code);
  wal_pages_at_checkpoint_ = wal_pages_;
  after_checkpoint.hit();
  if (!harmless) give_up(database_.error("checkpoint"));
}

void Writer::sync_head() {
  before_head_sync.hit();
  head_synced_at_ = SteadyClock::now();
  if (!std::exchange(head_unsynced_, false)) return;
  if (auto synced = head_file_.sync(); !synced) give_up(synced.error());
}

// ---- opening

/// The frames that a killed process left in the WAL may still be in the page cache only; they are read as durable.
result<void> sync_wal(const std::string& path) {
  const int descriptor = ::open((path + "-wal").c_str(), O_RDWR | O_CLOEXEC);
  if (descriptor < 0) return {};
  const bool synced = ::fdatasync(descriptor) == 0;
  ::close(descriptor);
  if (!synced) return failure(Errc::unreadable, path + "-wal: sync: " + std::generic_category().message(errno));
  return {};
}

}  // namespace

result<std::unique_ptr<SqliteLog>> SqliteLog::open(SqliteOptions options) {
  ONBOARDING_ASSERT(options.partitions > 0 && options.partitions <= 999, "a session id has three digits for its partition");
  auto lock = WriterLock::take(lock_path(options.path));
  if (!lock) return tl::unexpected(lock.error());
  auto head = HeadFile::read(head_path(options.path));
  if (!head) return tl::unexpected(head.error());

  struct stat file {};
  const bool exists = ::stat(options.path.c_str(), &file) == 0 && file.st_size > 0;
  if (!exists && head->state == HeadFile::State::present && head->head.number > 0 && !options.rebuild_head)
    return failure(Errc::shorter_than_head,
                   options.path + " is missing or empty, acknowledged were " + std::to_string(head->head.number) + " records");

  auto database = Database::open(options.path, Database::Access::write);
  if (!database) return tl::unexpected(database.error());
  auto layout = read_layout(*database, options.path);
  if (!layout) return tl::unexpected(layout.error());
  if (!*layout) {
    if (head->state == HeadFile::State::present && head->head.number > 0 && !options.rebuild_head)
      return failure(Errc::shorter_than_head,
                     options.path + " is empty, acknowledged were " + std::to_string(head->head.number) + " records");
    std::array<std::uint8_t, 16> id{};
    (options.random != nullptr ? *options.random : system_random()).fill(id);
    char hex[33];
    sodium_bin2hex(hex, sizeof hex, id.data(), id.size());
    const Layout made{hex, options.partitions};
    if (auto created = create_layout(*database, made); !created) return tl::unexpected(created.error());
    before_head_is_made.hit();
    head->state = HeadFile::State::absent;
    *layout = made;
  }
  if ((*layout)->partitions != options.partitions)
    return failure(Errc::wrong_layout, options.path + " has " + std::to_string((*layout)->partitions) +
                                           " partitions, asked for were " + std::to_string(options.partitions));
  const std::string pragmas =
      "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-8192; PRAGMA journal_size_limit=" +
      std::to_string(options.checkpoint_bytes);
  if (auto set = database->require(pragmas.c_str()); !set) return tl::unexpected(set.error());
  if (auto synced = sync_wal(options.path); !synced) return tl::unexpected(synced.error());

  Scan scan(*database, **layout);
  if (head->state == HeadFile::State::present) scan.expect(head->head);
  if (auto scanned = scan.run(); !scanned) return tl::unexpected(scanned.error());
  if (!options.rebuild_head)
    if (auto judged = judge_head(options.path, *head, scan, **layout); !judged) return tl::unexpected(judged.error());

  auto head_file = HeadFile::open(head_path(options.path), {(*layout)->log_id, scan.records(), scan.checksum()});
  if (!head_file) return tl::unexpected(head_file.error());
  auto writer =
      std::make_unique<Writer>(std::move(options), std::move(*lock), std::move(*database), std::move(*head_file), **layout, scan);
  if (auto prepared = writer->prepare(scan); !prepared) return tl::unexpected(prepared.error());
  writer->start();
  return writer;
}

}  // namespace onboarding::log
