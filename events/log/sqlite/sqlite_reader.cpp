// Looking at a log that another process may be writing: the read-only port, the verification, the counts.
#include <pthread.h>
#include <sys/stat.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <thread>

#include "events/log/sqlite/read_threads.hpp"
#include "events/log/sqlite/sqlite_log.hpp"
#include "events/log/subscribers.hpp"

namespace onboarding::log {
namespace {

constexpr auto poll_period = std::chrono::milliseconds(10);  // the port promises 20
constexpr std::size_t max_waiting_reads = 4096;

struct Opened {
  Rows rows;
  Layout layout;
  ino_t inode = 0;
};

ino_t inode_of(const std::string& path) {
  struct stat file {};
  return ::stat(path.c_str(), &file) == 0 ? file.st_ino : 0;
}

result<Opened> open_existing(const std::string& path) {
  const ino_t inode = inode_of(path);  // before: one that is replaced meanwhile is looked at again
  auto database = Database::open(path, Database::Access::read);
  if (!database) return tl::unexpected(database.error());
  auto layout = read_layout(*database, path);
  if (!layout) return tl::unexpected(layout.error());
  if (!*layout) return failure(Errc::wrong_layout, path + ": not an event log");
  auto rows = Rows::open(path);
  if (!rows) return tl::unexpected(rows.error());
  return Opened{std::move(*rows), std::move(**layout), inode};
}

class Reader final : public EventLog {
 public:
  Reader(const std::string& path, Opened opened)
      : path_(path),
        layout_(std::move(opened.layout)),
        inode_(opened.inode),
        rows_(std::move(opened.rows)),
        heads_(layout_.partitions),
        reads_(std::make_shared<Reads>(path, max_waiting_reads)) {}
  ~Reader() override {
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
    }
    wake_.notify_one();
    if (thread_.joinable()) thread_.join();
  }

  result<void> start() {
    if (auto seen = look(); !seen) return tl::unexpected(seen.error());
    thread_ = std::thread([this] { run(); });
    return {};
  }

  std::string log_id() const override { return layout_.log_id; }
  std::uint32_t partitions() const override { return layout_.partitions; }
  result<void> writable() const override { return failure(Errc::not_writable, "this process only reads the log"); }
  void append(Append, AppendDone done) override { done(Refused{{Errc::not_writable, "this process only reads the log"}}); }
  void read_stream(std::uint32_t partition, std::string stream, std::uint64_t after_version, std::size_t max_records,
                   RecordsRead done) override {
    reads()->stream(partition, std::move(stream), after_version, max_records, std::move(done));
  }
  result<std::vector<Record>> read_partition(std::uint32_t partition, std::uint64_t after_sequence, std::size_t max_records,
                                             std::size_t max_bytes) override {
    return reads()->partition(partition, after_sequence, max_records, max_bytes);
  }
  std::uint64_t head(std::uint32_t partition) const override { return heads_.at(partition); }
  std::unique_ptr<Subscription> subscribe(std::function<void(std::uint32_t)> on_advance) override {
    return subscribers_.add(std::move(on_advance));
  }
  result<std::vector<OpenStream>> pending_turns(std::uint32_t, std::size_t) override { return not_here(); }
  result<std::vector<OpenStream>> due(std::uint32_t, domain::Timestamp, std::size_t) override { return not_here(); }
  result<std::uint64_t> open_count() override { return not_here(); }

 private:
  static tl::unexpected<Failure> not_here() {
    return failure(Errc::unreadable, "only the writing process knows which streams are open");
  }

  std::shared_ptr<Reads> reads() const {
    const std::lock_guard lock(reads_mutex_);
    return reads_;
  }

  void run() {
    pthread_setname_np(pthread_self(), "log-poll");
    std::unique_lock lock(mutex_);
    while (!wake_.wait_for(lock, poll_period, [this] { return closing_; })) {
      lock.unlock();
      // A failed look changes nothing; the reads that follow will say what is wrong.
      if (auto advanced = look(); advanced && !advanced->empty()) subscribers_.notify(*advanced);
      lock.lock();
    }
  }

  /// A server's copy of the log in Kafka may be deleted and written again: the new file is read from here on, once it is whole.
  void follow_file() {
    const ino_t inode = inode_of(path_);
    if (inode == 0 || inode == inode_) return;
    auto opened = open_existing(path_);
    if (!opened || opened->layout.log_id != layout_.log_id || opened->layout.partitions != layout_.partitions) return;
    inode_ = opened->inode;
    rows_ = std::move(opened->rows);
    seen_version_ = -1;
    auto reads = std::make_shared<Reads>(path_, max_waiting_reads);
    const std::lock_guard lock(reads_mutex_);
    reads.swap(reads_);
  }

  /// The partitions that moved since the last look.
  result<std::vector<std::uint32_t>> look() {
    follow_file();
    std::vector<std::uint32_t> advanced;
    const auto version = rows_.data_version();
    if (!version) return tl::unexpected(version.error());
    if (*version == seen_version_) return advanced;
    for (std::uint32_t partition = 0; partition < layout_.partitions; ++partition) {
      const auto head = rows_.head(partition);
      if (!head) return tl::unexpected(head.error());
      if (heads_[partition].exchange(*head) != *head) advanced.push_back(partition);
    }
    seen_version_ = *version;  // asked before the heads: a commit in between is seen the next time
    return advanced;
  }

  const std::string path_;
  const Layout layout_;
  // The poll thread's.
  ino_t inode_;
  Rows rows_;
  std::int64_t seen_version_ = -1;
  std::vector<std::atomic<std::uint64_t>> heads_;
  Subscribers subscribers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool closing_ = false;
  mutable std::mutex reads_mutex_;
  std::shared_ptr<Reads> reads_;
  std::thread thread_;
};

result<std::uint64_t> count(Database& database, const char* sql) {
  auto statement = database.prepare(sql);
  if (!statement) return tl::unexpected(statement.error());
  if (statement->step() != SQLITE_ROW) return tl::unexpected(database.error("count"));
  return statement->natural(0);
}

std::uint64_t file_bytes(const std::string& path) {
  std::uint64_t bytes = 0;
  for (const char* suffix : {"", "-wal"}) {
    std::error_code missing;
    const auto size = std::filesystem::file_size(path + suffix, missing);
    if (!missing) bytes += size;
  }
  return bytes;
}

}  // namespace

result<std::unique_ptr<EventLog>> open_sqlite_reader(const std::string& path) {
  auto opened = open_existing(path);
  if (!opened) return tl::unexpected(opened.error());
  auto reader = std::make_unique<Reader>(path, std::move(*opened));
  if (auto started = reader->start(); !started) return tl::unexpected(started.error());
  return reader;
}

result<LogReport> verify_sqlite(const std::string& path, const std::function<void(std::uint64_t, std::uint64_t)>& progress,
                                bool is_copy) {
  auto opened = open_existing(path);
  if (!opened) return tl::unexpected(opened.error());
  // Before the scan: the head file is never ahead of the log, and a live log only grows.
  auto head = is_copy ? result<HeadFile::Read>(HeadFile::Read{}) : HeadFile::read(head_path(path));
  if (!head) return tl::unexpected(head.error());
  Database& database = opened->rows.database();
  auto total = count(database, "SELECT coalesce(max(number),0) FROM records");
  if (!total) return tl::unexpected(total.error());

  Scan scan(database, opened->layout);
  scan.expect(head->head);
  if (auto scanned = scan.run([&](std::uint64_t records) {
        if (progress) progress(records, std::max(records, *total));
      });
      !scanned)
    return tl::unexpected(scanned.error());
  if (!is_copy)
    if (auto judged = judge_head(path, *head, scan, opened->layout); !judged) return tl::unexpected(judged.error());
  auto integrity = database.prepare("PRAGMA integrity_check(1)");
  if (!integrity) return tl::unexpected(integrity.error());
  if (integrity->step() != SQLITE_ROW || integrity->bytes(0) != "ok")
    return failure(Errc::corrupt, path + ": SQLite's integrity check says: " + std::string(integrity->bytes(0)));

  LogReport report{
      opened->layout.log_id, scan.records(), scan.events(), scan.payload_bytes(), scan.streams().size(), file_bytes(path), {},
      head->head.number};
  for (std::uint32_t partition = 0; partition < opened->layout.partitions; ++partition)
    report.partitions.push_back({scan.counts()[partition], scan.heads()[partition]});
  return report;
}

result<LogReport> sqlite_stats(const std::string& path) {
  auto opened = open_existing(path);
  if (!opened) return tl::unexpected(opened.error());
  auto head = HeadFile::read(head_path(path));
  if (!head) return tl::unexpected(head.error());
  Database& database = opened->rows.database();
  LogReport report;
  report.log_id = opened->layout.log_id;
  report.file_bytes = file_bytes(path);
  report.acknowledged = head->head.number;
  report.partitions.resize(opened->layout.partitions);
  auto streams = count(database, "SELECT count(*) FROM streams");
  if (!streams) return tl::unexpected(streams.error());
  report.streams = *streams;
  auto rows = database.prepare("SELECT partition, count(*), sum(count), sum(length(payload)) FROM records GROUP BY partition");
  if (!rows) return tl::unexpected(rows.error());
  int code;
  while ((code = rows->step()) == SQLITE_ROW) {
    const std::uint64_t partition = rows->natural(0);
    if (partition >= report.partitions.size())
      return failure(Errc::corrupt, path + ": a record of partition " + std::to_string(partition));
    report.partitions[partition] = {rows->natural(1), rows->natural(2)};
    report.records += rows->natural(1);
    report.events += rows->natural(2);
    report.payload_bytes += rows->natural(3);
  }
  if (code != SQLITE_DONE) return tl::unexpected(database.error("count"));
  return report;
}

}  // namespace onboarding::log
