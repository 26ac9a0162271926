#include "events/log/sqlite/layout.hpp"

#include "events/domain/assertion.hpp"

namespace onboarding::log {
namespace {

constexpr int format = 1;
constexpr int application = 0x4f424c47;  // "OBLG"

// Names are blobs: any byte may stand in them. Streams are numbered in the order of their first records, so that the records
// of sessions that live at the same time lie together in records_by_stream; by name they would touch a page each.
constexpr const char* tables[] = {
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "CREATE TABLE streams(number INTEGER PRIMARY KEY, partition INTEGER NOT NULL, name BLOB NOT NULL)",
    "CREATE UNIQUE INDEX streams_by_name ON streams(name)",
    "CREATE TABLE records(number INTEGER PRIMARY KEY, partition INTEGER NOT NULL, first_sequence INTEGER NOT NULL, "
    "stream INTEGER NOT NULL, first_version INTEGER NOT NULL, count INTEGER NOT NULL, flags INTEGER NOT NULL, "
    "due_at INTEGER NOT NULL, time INTEGER NOT NULL, record_id BLOB NOT NULL, checksum BLOB NOT NULL, payload BLOB NOT NULL)",
    "CREATE UNIQUE INDEX records_by_partition ON records(partition, first_sequence)",
    "CREATE UNIQUE INDEX records_by_stream ON records(stream, first_version)",
};

constexpr std::size_t rows_per_transaction = 2000;

std::uint64_t mix(std::uint64_t x) {  // splitmix64's finaliser
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}
std::uint64_t mix(std::uint64_t a, std::uint64_t b, std::uint64_t c) { return mix(a ^ mix(b ^ mix(c))); }

// Columns of every SELECT that yields records.
#define RECORD_COLUMNS \
  "r.partition, r.first_sequence, r.first_version, r.count, r.flags, r.due_at, r.time, r.record_id, r.payload, s.name"

Record to_record(const Statement& row) {
  Record record;
  record.partition = static_cast<std::uint32_t>(row.integer(0));
  record.first_sequence = row.natural(1);
  record.first_version = row.natural(2);
  record.count = static_cast<std::uint32_t>(row.integer(3));
  record.index = to_index(static_cast<std::uint8_t>(row.integer(4)), row.integer(5));
  record.time = domain::Timestamp(std::chrono::microseconds(row.integer(6)));
  record.record_id = row.bytes(7);
  record.payload = row.bytes(8);
  record.stream = row.bytes(9);
  return record;
}

}  // namespace

std::string head_path(const std::string& path) { return path + ".head"; }
std::string lock_path(const std::string& path) { return path + ".lock"; }

int insert(Statement& insert_record, Statement& insert_stream, const ChainedRecord& record, const Checksum& checksum) {
  if (!record.stream_name.empty()) {
    insert_stream.bind(1, static_cast<std::int64_t>(record.stream_number));
    insert_stream.bind(2, std::int64_t{record.partition});
    insert_stream.bind(3, record.stream_name);
    if (const int code = insert_stream.run(); code != SQLITE_OK) return code;
  }
  insert_record.bind(1, static_cast<std::int64_t>(record.number));
  insert_record.bind(2, std::int64_t{record.partition});
  insert_record.bind(3, static_cast<std::int64_t>(record.first_sequence));
  insert_record.bind(4, static_cast<std::int64_t>(record.stream_number));
  insert_record.bind(5, static_cast<std::int64_t>(record.first_version));
  insert_record.bind(6, std::int64_t{record.count});
  insert_record.bind(7, std::int64_t{record.flags});
  insert_record.bind(8, record.due_at_us);
  insert_record.bind(9, record.time_us);
  insert_record.bind(10, record.record_id);
  insert_record.bind(11, std::string_view(reinterpret_cast<const char*>(checksum.data()), checksum.size()));
  insert_record.bind(12, record.payload);
  return insert_record.run();
}

std::uint8_t to_flags(const domain::RecoveryIndex& index) {
  return static_cast<std::uint8_t>(index.open | index.pending_turn << 1);
}

domain::RecoveryIndex to_index(std::uint8_t flags, std::int64_t due_at_us) {
  return {(flags & 1) != 0, (flags & 2) != 0, domain::Timestamp(std::chrono::microseconds(due_at_us))};
}

result<std::optional<Layout>> read_layout(Database& database, const std::string& path) {
  auto schema = database.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid");
  if (!schema) return tl::unexpected(schema.error());
  std::vector<std::string> found;
  int code;
  while ((code = schema->step()) == SQLITE_ROW) found.emplace_back(schema->bytes(0));
  if (code != SQLITE_DONE) return tl::unexpected(database.error("read the schema"));
  schema->reset();
  if (found.empty()) return std::nullopt;
  if (!std::ranges::equal(found, tables))
    return failure(Errc::wrong_layout, path + ": its tables are not those of an event log of format " + std::to_string(format));

  auto meta = database.prepare(
      "SELECT (SELECT value FROM meta WHERE key='log_id'), (SELECT value FROM meta WHERE key='partitions'), "
      "(SELECT value FROM meta WHERE key='format')");
  if (!meta) return tl::unexpected(meta.error());
  if (meta->step() != SQLITE_ROW) return tl::unexpected(database.error("read the layout"));
  Layout layout{std::string(meta->bytes(0)), static_cast<std::uint32_t>(meta->integer(1))};
  if (meta->integer(2) != format)
    return failure(Errc::wrong_layout,
                   path + ": format " + std::to_string(meta->integer(2)) + ", this program knows " + std::to_string(format));
  if (layout.log_id.size() != 32 || layout.partitions == 0 || layout.partitions > 999)
    return failure(Errc::corrupt, path + ": its log id or partition count is not one; restore the log from a copy");
  return layout;
}

result<void> create_layout(Database& database, const Layout& layout) {
  std::string sql = "PRAGMA page_size=8192; PRAGMA application_id=" + std::to_string(application) +
                    "; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; BEGIN IMMEDIATE; ";
  for (const char* table : tables) sql += std::string(table) + "; ";
  sql += "INSERT INTO meta VALUES('log_id','" + layout.log_id + "'),('partitions'," + std::to_string(layout.partitions) +
         "),('format'," + std::to_string(format) + "),('probe',0); COMMIT";
  return database.require(sql.c_str());
}

// ---- the scan

tl::unexpected<Failure> Scan::damaged(std::uint64_t number, std::string_view what) const {
  return failure(Errc::corrupt, "record " + std::to_string(number) + " " + std::string(what) +
                                    "; restore the log from a copy, `onboardctl events verify` shows what is left");
}

result<void> Scan::run(const std::function<void(std::uint64_t)>& progress) {
  auto rows = database_.prepare(
      "SELECT number, partition, first_sequence, stream, first_version, count, flags, due_at, time, record_id, "
      "checksum, payload FROM records WHERE number > ? ORDER BY number LIMIT ?");
  if (!rows) return tl::unexpected(rows.error());
  auto stream_row = database_.prepare("SELECT partition, name FROM streams WHERE number=?");
  if (!stream_row) return tl::unexpected(stream_row.error());
  for (;;) {
    const Using use(*rows);
    rows->bind(1, static_cast<std::int64_t>(records_));
    rows->bind(2, static_cast<std::int64_t>(rows_per_transaction));
    std::size_t got = 0;
    int code;
    while ((code = rows->step()) == SQLITE_ROW) {
      if (auto checked = check(*rows, *stream_row); !checked) return checked;
      ++got;
    }
    if (code != SQLITE_DONE) return tl::unexpected(database_.error("read record " + std::to_string(records_ + 1)));
    if (progress) progress(records_);
    if (got < rows_per_transaction) break;
  }
  return check_indexes();
}

result<void> Scan::check(Statement& row, Statement& stream_row) {
  const std::uint64_t number = records_ + 1;
  ChainedRecord record;
  record.number = row.natural(0);
  record.partition = static_cast<std::uint32_t>(row.integer(1));
  record.first_sequence = row.natural(2);
  record.stream_number = row.natural(3);
  record.first_version = row.natural(4);
  record.count = static_cast<std::uint32_t>(row.integer(5));
  record.flags = static_cast<std::uint8_t>(row.integer(6));
  record.due_at_us = row.integer(7);
  record.time_us = row.integer(8);
  record.record_id = row.bytes(9);
  const std::string_view checksum = row.bytes(10);
  record.payload = row.bytes(11);
  if (record.number != number) return damaged(number, "is missing");
  if (record.partition != row.integer(1) || record.count != row.integer(5) || record.flags != row.integer(6))
    return damaged(number, "holds a number that is out of range");

  const Using use(stream_row);
  if (record.first_version == 1) {
    stream_row.bind(1, row.integer(3));
    if (stream_row.step() != SQLITE_ROW || stream_row.integer(0) != row.integer(1))
      return damaged(number, "has lost its stream's name");
    record.stream_name = stream_row.bytes(1);
  }
  const Checksum& expected = chain_.advance(record);
  if (checksum != std::string_view(reinterpret_cast<const char*>(expected.data()), expected.size()))
    return damaged(number, "(" + std::to_string(record.partition) + ":" + std::to_string(record.first_sequence) +
                               ") does not match its checksum");
  // What the checksum vouches for was written by us: from here on a mismatch is a bug of the writer, found all the same.
  if (record.partition >= layout_.partitions || record.first_sequence != heads_[record.partition] + 1)
    return damaged(number, "does not follow in sequence");
  if (record.first_version == 1) {
    if (record.stream_number != streams_.size() + 1) return damaged(number, "does not follow in the streams' numbers");
    streams_.push_back({record.partition, 0, {}});
    by_name_ += mix(std::hash<std::string_view>{}(record.stream_name), record.stream_number, record.partition);
  }
  if (record.stream_number == 0 || record.stream_number > streams_.size()) return damaged(number, "is of an unknown stream");
  Stream& stream = streams_[record.stream_number - 1];
  if (record.first_version != stream.version + 1 || record.partition != stream.partition || record.count == 0)
    return damaged(number, "does not follow in version");

  stream.version += record.count;
  stream.index = to_index(record.flags, record.due_at_us);
  heads_[record.partition] += record.count;
  ++counts_[record.partition];
  events_ += record.count;
  payload_bytes_ += record.payload.size();
  by_partition_ += mix(record.partition, record.first_sequence, number);
  by_stream_ += mix(record.stream_number, record.first_version, number);
  records_ = number;
  if (number == head_.number) head_matches_ = expected == head_.checksum;
  return {};
}

// A damaged index would hide records or let a version be given twice; what it holds is compared with what it must hold by an
// order-free fingerprint, and that it is sorted, in one pass without touching the rows.
result<void> Scan::check_indexes() {
  const auto wrong = [&](const char* index) {
    return failure(Errc::corrupt,
                   std::string("the index ") + index +
                       " does not match the records; restore the log from a copy, or rebuild it with `sqlite3 <log> \"REINDEX " +
                       index + "\"`");
  };
  for (const auto& [index, columns, expected] : {std::tuple("records_by_partition", "partition, first_sequence", by_partition_),
                                                 std::tuple("records_by_stream", "stream, first_version", by_stream_)}) {
    auto rows = database_.prepare(std::string("SELECT ") + columns + ", number FROM records INDEXED BY " + index + " ORDER BY " +
                                  columns);
    if (!rows) return tl::unexpected(rows.error());
    std::pair<std::uint64_t, std::uint64_t> before{0, 0};
    std::uint64_t found = 0;
    int code;
    while ((code = rows->step()) == SQLITE_ROW) {
      const std::pair now{rows->natural(0), rows->natural(1)};
      if (now <= before) return wrong(index);
      before = now;
      if (rows->natural(2) <= records_) found += mix(now.first, now.second, rows->natural(2));
    }
    if (code != SQLITE_DONE) return tl::unexpected(database_.error("read an index"));
    if (found != expected) return wrong(index);
  }
  auto names = database_.prepare("SELECT name, number FROM streams INDEXED BY streams_by_name ORDER BY name");
  if (!names) return tl::unexpected(names.error());
  std::string before;
  std::uint64_t found = 0;
  int code;
  while ((code = names->step()) == SQLITE_ROW) {
    const std::string_view name = names->bytes(0);
    if (name <= before) return wrong("streams_by_name");
    before = name;
    const std::uint64_t number = names->natural(1);
    if (number >= 1 && number <= streams_.size())
      found += mix(std::hash<std::string_view>{}(name), number, streams_[number - 1].partition);
  }
  if (code != SQLITE_DONE) return tl::unexpected(database_.error("read an index"));
  if (found != by_name_) return wrong("streams_by_name");
  return {};
}

result<void> judge_head(const std::string& path, const HeadFile::Read& head, const Scan& scan, const Layout& layout) {
  const std::string file = head_path(path);
  const std::string way_out =
      "; restore the log from a copy, or, knowing what may be lost, accept it as it is with `onboardctl events rebuild-head`";
  if (head.state == HeadFile::State::absent && scan.records() > 0)
    return failure(Errc::corrupt, file + " is missing, so nobody can tell whether all acknowledged records are there" + way_out);
  if (head.state == HeadFile::State::damaged)
    return failure(Errc::corrupt, file + " is damaged, so nobody can tell whether all acknowledged records are there" + way_out);
  if (head.state == HeadFile::State::absent) return {};
  if (head.head.log_id != layout.log_id)
    return failure(Errc::wrong_layout, file + " belongs to log " + head.head.log_id + ", not to " + layout.log_id + way_out);
  if (head.head.number > scan.records())
    return failure(Errc::shorter_than_head, path + " ends with record " + std::to_string(scan.records()) +
                                                ", acknowledged were " + std::to_string(head.head.number) + way_out);
  if (!scan.head_matches())
    return failure(Errc::corrupt,
                   file + " names another record " + std::to_string(head.head.number) + " than the log holds" + way_out);
  return {};
}

// ---- reading

result<Rows> Rows::open(const std::string& path) {
  auto database = Database::open(path, Database::Access::read);
  if (!database) return tl::unexpected(database.error());
  Rows rows(std::move(*database));
  for (const auto& [statement, sql] : {
           std::pair(&rows.stream_number_, "SELECT number, partition FROM streams WHERE name=?"),
           // Begins at the record that holds the version after the given one, which need not be a record's last.
           std::pair(&rows.stream_records_,
                     "SELECT " RECORD_COLUMNS
                     " FROM records r JOIN streams s ON s.number=r.stream WHERE r.stream=?1 AND r.first_version>="
                     "coalesce((SELECT max(first_version) FROM records WHERE stream=?1 AND first_version<=?2+1),0) "
                     "AND r.first_version+r.count-1>?2 ORDER BY r.first_version LIMIT ?3"),
           std::pair(&rows.partition_records_, "SELECT " RECORD_COLUMNS " FROM records r JOIN streams s ON s.number=r.stream "
                                               "WHERE r.partition=? AND r.first_sequence>? ORDER BY r.first_sequence LIMIT ?"),
           std::pair(&rows.head_,
                     "SELECT first_sequence+count-1 FROM records WHERE partition=? ORDER BY first_sequence DESC LIMIT 1"),
           std::pair(&rows.data_version_, "PRAGMA data_version"),
       }) {
    auto prepared = rows.database_.prepare(sql);
    if (!prepared) return tl::unexpected(prepared.error());
    *statement = std::move(*prepared);
  }
  return rows;
}

result<std::vector<Record>> Rows::stream(std::uint32_t partition, std::string_view name, std::uint64_t after_version,
                                         std::size_t max_records) {
  std::vector<Record> records;
  std::int64_t number = 0;
  {
    const Using use(stream_number_);
    stream_number_.bind(1, name);
    const int code = stream_number_.step();
    if (code == SQLITE_DONE || (code == SQLITE_ROW && stream_number_.integer(1) != partition)) return records;
    if (code != SQLITE_ROW) return tl::unexpected(database_.error("find a stream"));
    number = stream_number_.integer(0);
  }
  const Using use(stream_records_);
  stream_records_.bind(1, number);
  stream_records_.bind(2, static_cast<std::int64_t>(std::min<std::uint64_t>(after_version, INT64_MAX - 1)));
  stream_records_.bind(3, static_cast<std::int64_t>(std::min<std::size_t>(max_records, INT64_MAX)));
  int code;
  while ((code = stream_records_.step()) == SQLITE_ROW) {
    records.push_back(to_record(stream_records_));
    const Record& last = records.back();
    const bool follows = records.size() == 1 ? last.first_version <= after_version + 1
                                             : last.first_version == records[records.size() - 2].last_version() + 1;
    if (!follows)
      return failure(Errc::corrupt, "the versions of a stream of partition " + std::to_string(partition) + " have a gap");
  }
  if (code != SQLITE_DONE) return tl::unexpected(database_.error("read a stream"));
  return records;
}

result<std::vector<Record>> Rows::partition(std::uint32_t partition, std::uint64_t after_sequence, std::size_t max_records,
                                            std::size_t max_bytes) {
  std::vector<Record> records;
  std::size_t bytes = 0;
  const Using use(partition_records_);
  partition_records_.bind(1, static_cast<std::int64_t>(partition));
  partition_records_.bind(2, static_cast<std::int64_t>(std::min<std::uint64_t>(after_sequence, INT64_MAX)));
  partition_records_.bind(3, static_cast<std::int64_t>(std::min<std::size_t>(max_records, INT64_MAX)));
  int code;
  while ((code = partition_records_.step()) == SQLITE_ROW) {
    bytes += partition_records_.bytes(8).size();
    if (!records.empty() && bytes > max_bytes) return records;
    records.push_back(to_record(partition_records_));
    if (records.size() > 1 && records.back().first_sequence != records[records.size() - 2].last_sequence() + 1)
      return failure(Errc::corrupt, "the sequences of partition " + std::to_string(partition) + " have a gap after " +
                                        std::to_string(records[records.size() - 2].last_sequence()));
  }
  if (code != SQLITE_DONE) return tl::unexpected(database_.error("read a partition"));
  return records;
}

result<std::uint64_t> Rows::head(std::uint32_t partition) {
  const Using use(head_);
  head_.bind(1, static_cast<std::int64_t>(partition));
  const int code = head_.step();
  if (code == SQLITE_ROW) return head_.natural(0);
  if (code != SQLITE_DONE) return tl::unexpected(database_.error("read a head"));
  return 0;
}

result<std::int64_t> Rows::data_version() {
  const Using use(data_version_);
  if (data_version_.step() != SQLITE_ROW) return tl::unexpected(database_.error("read the data version"));
  return data_version_.integer(0);
}

}  // namespace onboarding::log
