#include "events/log/sqlite/sqlite_copy.hpp"

#include <filesystem>

#include "events/log/sqlite/layout.hpp"
#include "events/log/sqlite/writer_lock.hpp"

namespace onboarding::log {
namespace {

constexpr int pages_a_step = 1024;
constexpr std::int64_t records_a_step = 2000;

result<Layout> layout_of(Database& database, const std::string& path) {
  auto layout = read_layout(database, path);
  if (!layout) return tl::unexpected(layout.error());
  if (!*layout) return failure(Errc::wrong_layout, path + ": not an event log");
  return std::move(**layout);
}

result<void> copy_pages(Database& from, Database& to, const std::function<void(std::uint64_t, std::uint64_t)>& progress) {
  sqlite3_backup* copying = sqlite3_backup_init(to.handle(), "main", from.handle(), "main");
  if (copying == nullptr) return tl::unexpected(to.error("copy"));
  int code;
  while ((code = sqlite3_backup_step(copying, pages_a_step)) == SQLITE_OK)
    if (progress)
      progress(static_cast<std::uint64_t>(sqlite3_backup_pagecount(copying) - sqlite3_backup_remaining(copying)),
               static_cast<std::uint64_t>(sqlite3_backup_pagecount(copying)));
  sqlite3_backup_finish(copying);
  if (code != SQLITE_DONE) return tl::unexpected(to.error("copy"));
  return {};
}

result<void> write_head(const std::string& path, const Head& head) {
  auto file = HeadFile::open(head_path(path), head);
  if (!file) return tl::unexpected(file.error());
  if (auto written = file->write(head); !written) return written;
  return file->sync();
}

}  // namespace

result<CopiedLog> copy_sqlite(const std::string& from, const std::string& to,
                              const std::function<void(std::uint64_t, std::uint64_t)>& progress) {
  std::error_code ignored;
  if (std::filesystem::exists(to, ignored)) return failure(Errc::unreadable, to + " is there already");
  auto source = Database::open(from, Database::Access::read);
  if (!source) return tl::unexpected(source.error());
  auto layout = layout_of(*source, from);
  if (!layout) return tl::unexpected(layout.error());
  // Everything below is read in this transaction: a commit meanwhile neither gets in nor starts the copy anew.
  if (auto begun = source->require("BEGIN; SELECT count(*) FROM meta"); !begun) return tl::unexpected(begun.error());
  {
    auto target = Database::open(to, Database::Access::write);
    if (!target) return tl::unexpected(target.error());
    if (auto copied = copy_pages(*source, *target, progress); !copied) return tl::unexpected(copied.error());
  }
  CopiedLog copy{layout->log_id, 0, 0, std::vector<std::uint64_t>(layout->partitions)};
  auto heads = source->prepare("SELECT partition, max(first_sequence), count(*), sum(count) FROM records GROUP BY partition");
  if (!heads) return tl::unexpected(heads.error());
  int code;
  while ((code = heads->step()) == SQLITE_ROW) {
    if (heads->natural(0) >= layout->partitions) return failure(Errc::corrupt, from + ": a record of an unknown partition");
    copy.heads[heads->natural(0)] = heads->natural(3);  // contiguous from 1: the last sequence is the number of events
    copy.records += heads->natural(2);
    copy.events += heads->natural(3);
  }
  if (code != SQLITE_DONE) return tl::unexpected(source->error("count"));
  if (copy.records == 0) return copy;
  auto last = source->prepare("SELECT number, checksum FROM records ORDER BY number DESC LIMIT 1");
  if (!last) return tl::unexpected(last.error());
  if (last->step() != SQLITE_ROW || last->bytes(1).size() != sizeof(Checksum))
    return failure(Errc::corrupt, from + ": its last record has no checksum");
  Head head{layout->log_id, last->natural(0), {}};
  std::copy_n(last->bytes(1).begin(), sizeof(Checksum), head.checksum.begin());
  if (auto written = write_head(to, head); !written) return tl::unexpected(written.error());
  return copy;
}

result<void> rename_sqlite(const std::string& path, const std::string& log_id,
                           const std::function<void(std::uint64_t, std::uint64_t)>& progress) {
  const auto lock = WriterLock::take(lock_path(path));
  if (!lock) return tl::unexpected(lock.error());
  auto database = Database::open(path, Database::Access::write);
  if (!database) return tl::unexpected(database.error());
  const auto layout = layout_of(*database, path);
  if (!layout) return tl::unexpected(layout.error());
  auto rows = database->prepare(
      "SELECT r.number, r.partition, r.first_sequence, r.stream, r.first_version, r.count, r.flags, r.due_at, r.time, "
      "r.record_id, r.payload, s.name, (SELECT max(number) FROM records) FROM records r JOIN streams s ON s.number=r.stream "
      "WHERE r.number>? ORDER BY r.number LIMIT ?");
  if (!rows) return tl::unexpected(rows.error());
  auto update = database->prepare("UPDATE records SET checksum=?2 WHERE number=?1");
  if (!update) return tl::unexpected(update.error());
  if (auto begun = database->require("BEGIN IMMEDIATE"); !begun) return begun;
  Chain chain(Chain::genesis(log_id, layout->partitions));
  Head head{log_id, 0, chain.last()};
  for (std::vector<Checksum> fresh;; fresh.clear()) {
    const auto before = head.number;
    std::uint64_t total = 0;
    {
      const Using use(*rows);
      rows->bind(1, static_cast<std::int64_t>(before));
      rows->bind(2, records_a_step);
      int code;
      while ((code = rows->step()) == SQLITE_ROW) {
        ChainedRecord record;
        record.number = rows->natural(0);
        record.partition = static_cast<std::uint32_t>(rows->integer(1));
        record.first_sequence = rows->natural(2);
        record.stream_number = rows->natural(3);
        record.first_version = rows->natural(4);
        record.count = static_cast<std::uint32_t>(rows->integer(5));
        record.flags = static_cast<std::uint8_t>(rows->integer(6));
        record.due_at_us = rows->integer(7);
        record.time_us = rows->integer(8);
        record.record_id = rows->bytes(9);
        record.payload = rows->bytes(10);
        if (record.first_version == 1) record.stream_name = rows->bytes(11);
        total = rows->natural(12);
        if (record.number != before + fresh.size() + 1)
          return failure(Errc::corrupt, path + ": record " + std::to_string(before + fresh.size() + 1) + " is missing");
        fresh.push_back(chain.advance(record));
      }
      if (code != SQLITE_DONE) return tl::unexpected(database->error("read a record"));
    }
    if (fresh.empty()) break;
    for (const Checksum& checksum : fresh) {
      const Using use(*update);
      update->bind(1, static_cast<std::int64_t>(++head.number));
      update->bind(2, std::string_view(reinterpret_cast<const char*>(checksum.data()), checksum.size()));
      if (update->step() != SQLITE_DONE) return tl::unexpected(database->error("write a checksum"));
    }
    head.checksum = fresh.back();
    if (progress) progress(head.number, total);
  }
  const std::string finish = "UPDATE meta SET value='" + log_id + "' WHERE key='log_id'; COMMIT; PRAGMA wal_checkpoint(TRUNCATE)";
  if (auto finished = database->require(finish.c_str()); !finished) return finished;
  return write_head(path, head);
}

result<LogEnd> look_at_end(const std::string& path) {
  auto head = HeadFile::read(head_path(path));  // before the log: never ahead of it
  if (!head) return tl::unexpected(head.error());
  auto database = Database::open(path, Database::Access::read);
  if (!database) return tl::unexpected(database.error());
  auto layout = layout_of(*database, path);
  if (!layout) return tl::unexpected(layout.error());
  LogEnd end{layout->log_id, layout->partitions, 0, head->head.number, false, std::nullopt};
  auto last = database->prepare("SELECT number, time FROM records ORDER BY number DESC LIMIT 1");
  if (!last) return tl::unexpected(last.error());
  if (last->step() == SQLITE_ROW) {
    end.records = last->natural(0);
    end.last_time = domain::Timestamp(std::chrono::microseconds(last->integer(1)));
  }
  auto named = database->prepare("SELECT checksum FROM records WHERE number=?");
  if (!named) return tl::unexpected(named.error());
  named->bind(1, static_cast<std::int64_t>(head->head.number));
  const bool empty = end.records == 0 && head->state != HeadFile::State::damaged;
  end.head_fits =
      empty || (head->state == HeadFile::State::present && head->head.log_id == end.log_id && named->step() == SQLITE_ROW &&
                named->bytes(0) == std::string_view(reinterpret_cast<const char*>(head->head.checksum.data()), sizeof(Checksum)));
  return end;
}

}  // namespace onboarding::log
