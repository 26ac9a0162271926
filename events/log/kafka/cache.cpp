#include "events/log/kafka/cache.hpp"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>

namespace onboarding::log::kafka {
namespace {

std::uint64_t inode_of(const std::string& path) {
  struct stat file {};
  return ::stat(path.c_str(), &file) == 0 ? file.st_ino : 0;
}

/// Changes with every start of the machine: what was not synced before the last one may be anything.
std::string boot_id() {
  std::ifstream in("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(in, id);
  return id;
}

std::string place_key(std::uint32_t partition) { return "kafka:" + std::to_string(partition); }

std::optional<ReadTo> parse_place(std::string_view text) {
  const auto space = text.rfind(' ');
  if (space == std::string_view::npos) return std::nullopt;
  const auto at = parse_checkpoint(text.substr(0, space));
  if (!at) return std::nullopt;
  return ReadTo{*at, std::string(text.substr(space + 1))};
}

}  // namespace

Cache::Cache(Options options, WriterLock lock)
    : options_(std::move(options)),
      lock_(std::move(lock)),
      places_(options_.layout.partitions),
      heads_(options_.layout.partitions),
      index_(options_.layout.partitions, options_.idle_streams) {}

result<std::unique_ptr<Cache>> Cache::open(Options options) {
  auto lock = WriterLock::take(lock_path(options.path));
  if (!lock) return tl::unexpected(lock.error());
  std::unique_ptr<Cache> cache(new Cache(std::move(options), std::move(*lock)));
  auto loaded = cache->load();
  if (!loaded) return tl::unexpected(loaded.error());
  if (!*loaded) {
    const std::string why = cache->rebuilt_;
    auto anew = std::unique_ptr<Cache>(new Cache(cache->options_, std::move(cache->lock_)));
    cache = std::move(anew);
    cache->remove_files();
    cache->rebuilt_ = why;
    if (auto created = cache->create(); !created) return tl::unexpected(created.error());
  }
  cache->reads_ = std::make_shared<Reads>(cache->options_.path, cache->options_.max_waiting_reads);
  return cache;
}

void Cache::remove_files() const {
  for (const char* suffix : {"", "-wal", "-shm"}) ::unlink((options_.path + suffix).c_str());
}

result<bool> Cache::load() {
  struct stat file {};
  if (::stat(options_.path.c_str(), &file) != 0 || file.st_size == 0) return false;
  const auto unusable = [&](std::string why) {
    rebuilt_ = std::move(why);
    return false;
  };
  auto database = Database::open(options_.path, Database::Access::write);
  if (!database) return unusable(database.error().message());
  auto layout = read_layout(*database, options_.path);
  if (!layout) return unusable(layout.error().message());
  if (!*layout) return unusable("it is empty");
  if ((*layout)->log_id != options_.layout.log_id || (*layout)->partitions != options_.layout.partitions)
    return failure(Errc::wrong_layout,
                   options_.path + " holds log " + (*layout)->log_id + " of " + std::to_string((*layout)->partitions) +
                       " partitions, the topic holds log " + options_.layout.log_id + " of " +
                       std::to_string(options_.layout.partitions) +
                       ": is it the right topic? Its events are not this data folder's; if that is meant, delete the file");
  if (auto used = use(std::move(*database)); !used) return unusable(used.error().message());
  auto meta = database_.prepare("SELECT value FROM meta WHERE key=CAST(? AS TEXT)");
  if (!meta) return unusable(meta.error().message());
  const auto value_of = [&](const std::string& key) {
    const Using use(*meta);
    meta->bind(1, key);
    return meta->step() == SQLITE_ROW ? std::string(meta->bytes(0)) : std::string();
  };
  if (const std::string boot = value_of("boot"); boot != "closed" && boot != boot_id())
    return unusable("the machine stopped while it was written");
  Scan scan(database_, options_.layout);
  if (auto scanned = scan.run(); !scanned) return unusable(scanned.error().message());
  for (std::uint32_t partition = 0; partition < options_.layout.partitions; ++partition) {
    const std::string text = value_of(place_key(partition));
    if (text.empty() && scan.heads()[partition] == 0) continue;
    const auto place = parse_place(text);
    if (!place || place->at.sequence != scan.heads()[partition])
      return unusable("its checkpoint of partition " + std::to_string(partition) + " does not match its records");
    places_[partition] = *place;
  }
  heads_ = scan.heads();
  chain_ = Chain(scan.checksum());
  last_number_ = scan.records();
  last_stream_ = scan.streams().size();
  auto name = database_.prepare("SELECT name FROM streams WHERE number=?");
  if (!name) return unusable(name.error().message());
  for (std::size_t i = 0; i < scan.streams().size(); ++i) {
    const Scan::Stream& stream = scan.streams()[i];
    if (!stream.index.open && !stream.index.pending_turn) continue;
    const Using use(*name);
    name->bind(1, static_cast<std::int64_t>(i + 1));
    if (name->step() != SQLITE_ROW) return unusable("a stream has no name");
    StreamIndex::Entry& entry = index_.insert(name->bytes(0), stream.partition);
    entry.number = i + 1;
    index_.update(entry, stream.version, stream.index);
  }
  return true;
}

result<void> Cache::create() {
  std::error_code failed;
  std::filesystem::create_directories(std::filesystem::path(options_.path).parent_path(), failed);
  auto database = Database::open(options_.path, Database::Access::write);
  if (!database) return tl::unexpected(database.error());
  if (auto created = create_layout(*database, options_.layout); !created) return created;
  chain_ = Chain(Chain::genesis(options_.layout.log_id, options_.layout.partitions));
  return use(std::move(*database));
}

result<void> Cache::use(Database database) {
  database_ = std::move(database);
  inode_ = inode_of(options_.path);
  const std::string pragmas =
      "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA cache_size=-8192; PRAGMA journal_size_limit=" +
      std::to_string(options_.checkpoint_bytes);
  if (auto set = database_.require(pragmas.c_str()); !set) return set;
  return prepare();
}

result<void> Cache::prepare() {
  for (const auto& [statement, sql] : {
           std::pair(&begin_, "BEGIN IMMEDIATE"),
           std::pair(&commit_, "COMMIT"),
           std::pair(&insert_record_, insert_record_sql),
           std::pair(&insert_stream_, insert_stream_sql),
           std::pair(&find_stream_, "SELECT number, partition FROM streams WHERE name=?"),
           std::pair(&find_version_,
                     "SELECT first_version+count-1 FROM records WHERE stream=? ORDER BY first_version DESC LIMIT 1"),
           std::pair(&write_place_, "INSERT OR REPLACE INTO meta VALUES(CAST(? AS TEXT),CAST(? AS TEXT))"),
       }) {
    auto prepared = database_.prepare(sql);
    if (!prepared) return tl::unexpected(prepared.error());
    *statement = std::move(*prepared);
  }
  return {};
}

/// A stream that is not in memory is new, or idle for long. nullptr: there is none.
result<StreamIndex::Entry*> Cache::look_up(std::string_view stream) {
  if (StreamIndex::Entry* const known = index_.find(stream)) return known;
  std::uint64_t number = 0, version = 0;
  std::uint32_t partition = 0;
  {
    const Using use(find_stream_);
    find_stream_.bind(1, stream);
    const int code = find_stream_.step();
    if (code == SQLITE_DONE) return nullptr;
    if (code != SQLITE_ROW) return tl::unexpected(error("find a stream"));
    number = find_stream_.natural(0);
    partition = static_cast<std::uint32_t>(find_stream_.integer(1));
  }
  {
    const Using use(find_version_);
    find_version_.bind(1, static_cast<std::int64_t>(number));
    if (find_version_.step() != SQLITE_ROW) return tl::unexpected(error("find a version"));
    version = find_version_.natural(0);
  }
  const std::lock_guard lock(index_mutex_);
  StreamIndex::Entry& entry = index_.insert(stream, partition);
  entry.number = number;
  entry.version = version;
  return &entry;
}

result<Streams::Place> Cache::find(std::string_view stream) {
  const auto entry = look_up(stream);
  if (!entry) return tl::unexpected(entry.error());
  if (*entry == nullptr) return Streams::Place{};
  const StreamIndex::Entry& found = **entry;
  return Streams::Place{found.partition, found.batch == batch_ ? found.version_in_batch : found.version};
}

result<void> Cache::add(const Record& record) {
  if (!in_transaction_ && begin_.run() != SQLITE_OK) return tl::unexpected(error("begin"));
  in_transaction_ = true;
  auto found = look_up(record.stream);
  if (!found) return tl::unexpected(found.error());
  StreamIndex::Entry* entry = *found;
  if (entry == nullptr) {
    const std::lock_guard lock(index_mutex_);
    entry = &index_.insert(record.stream, record.partition);
  }
  StreamIndex::Entry& stream = *entry;
  if (stream.batch != batch_) {
    stream.batch = batch_;
    stream.version_in_batch = stream.version;
    stream.number_in_batch = stream.number;
  }
  const std::string where = std::to_string(record.partition) + ":" + std::to_string(record.first_sequence);
  if (record.first_version != stream.version_in_batch + 1 || stream.partition != record.partition)
    return failure(Errc::corrupt, "the record at " + where + " counts, and its version " + std::to_string(record.first_version) +
                                      " does not follow its stream's " + std::to_string(stream.version_in_batch));
  if (record.first_sequence != heads_[record.partition] + 1)
    return failure(Errc::corrupt, "the record at " + where + " does not follow " + std::to_string(heads_[record.partition]));

  ChainedRecord row;
  row.number = ++last_number_;
  row.partition = record.partition;
  row.first_sequence = record.first_sequence;
  row.first_version = record.first_version;
  row.count = record.count;
  row.flags = to_flags(record.index);
  row.due_at_us = record.index.due_at.time_since_epoch().count();
  row.time_us = record.time.time_since_epoch().count();
  row.record_id = record.record_id;
  row.payload = record.payload;
  if (stream.number_in_batch == 0) {
    row.stream_name = record.stream;
    stream.number_in_batch = ++last_stream_;
  }
  row.stream_number = stream.number_in_batch;
  if (insert(insert_record_, insert_stream_, row, chain_.advance(row)) != SQLITE_OK) return tl::unexpected(error("add a record"));

  heads_[record.partition] = record.last_sequence();
  stream.version_in_batch = record.last_version();
  bytes_since_checkpoint_ += record.payload.size() + 1024;
  staged_.push_back({&stream, record.last_version(), record.index});
  return {};
}

result<void> Cache::commit(const std::vector<std::pair<std::uint32_t, ReadTo>>& read) {
  if (!in_transaction_ && begin_.run() != SQLITE_OK) return tl::unexpected(error("begin"));
  in_transaction_ = true;
  for (const auto& [partition, place] : read) {
    const std::string key = place_key(partition), value = to_string(place.at) + ' ' + place.tag;
    write_place_.bind(1, key);
    write_place_.bind(2, value);
    if (write_place_.run() != SQLITE_OK) return tl::unexpected(error("write a checkpoint"));
    places_[partition] = place;
  }
  if (commits_++ == 0) {
    const std::string boot = boot_id();
    write_place_.bind(1, std::string_view("boot"));
    write_place_.bind(2, boot);
    if (write_place_.run() != SQLITE_OK) return tl::unexpected(error("write"));
  }
  if (commit_.run() != SQLITE_OK) return tl::unexpected(error("commit"));
  in_transaction_ = false;
  {
    const std::lock_guard lock(index_mutex_);
    for (const Staged& each : staged_) {
      each.stream->number = each.stream->number_in_batch;
      index_.update(*each.stream, each.version, each.index);
    }
    index_.trim();
  }
  staged_.clear();
  ++batch_;
  if (bytes_since_checkpoint_ >= options_.checkpoint_bytes) {
    bytes_since_checkpoint_ = 0;
    sqlite3_wal_checkpoint_v2(database_.handle(), nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
  }
  return {};
}

result<bool> Cache::put_back_if_gone() {
  if (inode_of(options_.path) == inode_) return false;
  // Closed as the last one of its file it would remove the WAL by its name, which is the new file's then.
  sqlite3_db_config(database_.handle(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  remove_files();
  std::error_code failed;
  std::filesystem::create_directories(std::filesystem::path(options_.path).parent_path(), failed);
  const std::string copy = options_.path + ".copy";
  ::unlink(copy.c_str());
  {
    auto target = Database::open(copy, Database::Access::write);
    if (!target) return tl::unexpected(target.error());
    sqlite3_backup* const backup = sqlite3_backup_init(target->handle(), "main", database_.handle(), "main");
    const int code = backup == nullptr ? SQLITE_ERROR : sqlite3_backup_step(backup, -1);
    sqlite3_backup_finish(backup);
    if (code != SQLITE_DONE) return tl::unexpected(target->error("write the cache again"));
  }
  if (std::rename(copy.c_str(), options_.path.c_str()) != 0)
    return failure(Errc::unreadable, options_.path + ": " + std::generic_category().message(errno));
  auto database = Database::open(options_.path, Database::Access::write);
  if (!database) return tl::unexpected(database.error());
  // Statements before their connection.
  for (Statement* each : {&begin_, &commit_, &insert_record_, &insert_stream_, &find_stream_, &find_version_, &write_place_})
    *each = Statement();
  if (auto used = use(std::move(*database)); !used) return tl::unexpected(used.error());
  auto reads = std::make_shared<Reads>(options_.path, options_.max_waiting_reads);
  {
    const std::lock_guard lock(reads_mutex_);
    reads.swap(reads_);
  }
  return true;  // the old reads answer what waits for them, and end, without the mutex
}

void Cache::close() {
  std::shared_ptr<Reads> reads;
  {
    const std::lock_guard lock(reads_mutex_);
    reads.swap(reads_);
  }
  reads.reset();
  if (commits_ == 0 || in_transaction_) return;
  // FULL for the last commit and the checkpoint: all that was written before is synced with it.
  if (database_.execute("PRAGMA synchronous=FULL") != SQLITE_OK) return;
  write_place_.bind(1, std::string_view("boot"));
  write_place_.bind(2, std::string_view("closed"));
  if (write_place_.run() == SQLITE_OK)
    sqlite3_wal_checkpoint_v2(database_.handle(), nullptr, SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr);
}

// ---- any thread

std::shared_ptr<Reads> Cache::reads() const {
  const std::lock_guard lock(reads_mutex_);
  return reads_;
}

void Cache::read_stream(std::uint32_t partition, std::string stream, std::uint64_t after_version, std::size_t max_records,
                        RecordsRead done) {
  if (const auto reads = this->reads())
    return reads->stream(partition, std::move(stream), after_version, max_records, std::move(done));
  done(failure(Errc::unreadable, "the log is closed"));
}

result<std::vector<Record>> Cache::read_partition(std::uint32_t partition, std::uint64_t after_sequence, std::size_t max_records,
                                                  std::size_t max_bytes) {
  if (const auto reads = this->reads()) return reads->partition(partition, after_sequence, max_records, max_bytes);
  return failure(Errc::unreadable, "the log is closed");
}

std::vector<OpenStream> Cache::pending(std::uint32_t partition, std::size_t limit) const {
  const std::lock_guard lock(index_mutex_);
  return index_.pending(partition, limit);
}

std::vector<OpenStream> Cache::due(std::uint32_t partition, domain::Timestamp due_before, std::size_t limit) const {
  const std::lock_guard lock(index_mutex_);
  return index_.due(partition, due_before, limit);
}

std::uint64_t Cache::open_count() const {
  const std::lock_guard lock(index_mutex_);
  return index_.open_count();
}

}  // namespace onboarding::log::kafka
