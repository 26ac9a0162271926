#include "events/privacy/keys_file.hpp"

#include <fcntl.h>
#include <sodium.h>
#include <sqlite3.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "events/fault_point.hpp"
#include "events/privacy/secret_file.hpp"

namespace onboarding::privacy {
namespace {

FaultPoint before_commit("keys.before_commit");
FaultPoint after_commit("keys.after_commit");
FaultPoint before_scrub("keys.before_scrub");
FaultPoint after_scrub("keys.after_scrub");

constexpr int layout = 1;
constexpr std::size_t nonce_bytes = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES;
static_assert(wrapped_bytes == nonce_bytes + 32 + crypto_aead_xchacha20poly1305_ietf_ABYTES);

tl::unexpected<Failure> unreachable(sqlite3* db) {
  return failure(Errc::unreachable, std::string("keys.db: ") + sqlite3_errmsg(db));
}

bool run(sqlite3* db, const char* sql) { return sqlite3_exec(db, sql, nullptr, nullptr, nullptr) == SQLITE_OK; }

std::string wrapping_place(std::string_view user, std::string_view key_id) {
  return "onboarding key\n" + std::string(user) + "\n" + std::string(key_id);
}

SealingKeyPtr with_id(const std::vector<SealingKeyPtr>& keys, std::string_view key_id) {
  for (const auto& key : keys)
    if (key->id == key_id) return key;
  return nullptr;
}

}  // namespace

// ---- wrapping

std::string wrap(const WrappingKey& wrapping, const std::array<std::uint8_t, 32>& key, std::string_view user,
                 std::string_view key_id, RandomSource& random) {
  std::string out(wrapped_bytes, '\0');
  auto* bytes = reinterpret_cast<unsigned char*>(out.data());
  random.fill({bytes, nonce_bytes});
  const auto place = wrapping_place(user, key_id);
  crypto_aead_xchacha20poly1305_ietf_encrypt(bytes + nonce_bytes, nullptr, key.data(), key.size(),
                                             reinterpret_cast<const unsigned char*>(place.data()), place.size(), nullptr, bytes,
                                             wrapping.data());
  return out;
}

result<SealingKeyPtr> unwrap(const WrappingKey& wrapping, std::string_view wrapped, std::string_view user,
                             std::string_view key_id) {
  auto key = std::make_shared<SealingKey>();
  key->id = key_id;
  const auto* bytes = reinterpret_cast<const unsigned char*>(wrapped.data());
  const auto place = wrapping_place(user, key_id);
  if (wrapped.size() != wrapped_bytes ||
      crypto_aead_xchacha20poly1305_ietf_decrypt(
          key->bytes.data(), nullptr, nullptr, bytes + nonce_bytes, wrapped.size() - nonce_bytes,
          reinterpret_cast<const unsigned char*>(place.data()), place.size(), bytes, wrapping.data()) != 0)
    return failure(Errc::forged, "a key in keys.db does not open");
  return key;
}

// ---- handles

void KeysFile::CloseDatabase::operator()(sqlite3* db) const { sqlite3_close(db); }
void KeysFile::FinalizeStatement::operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
KeysFile::Lock::~Lock() {
  if (fd >= 0) ::close(fd);
}

/// A prepared statement, bound anew for each use; reset when the use ends, so that no read transaction stays open.
class KeysFile::Use {
 public:
  explicit Use(const Statement& statement) : statement_(statement.get()) {}
  Use(sqlite3* db, const char* sql) : own_(prepare(db, sql)), statement_(own_.get()) {}
  ~Use() {
    sqlite3_reset(statement_);
    sqlite3_clear_bindings(statement_);
  }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;
  Use& text(std::string_view value) {
    sqlite3_bind_text(statement_, ++bound_, value.empty() ? "" : value.data(), static_cast<int>(value.size()), SQLITE_STATIC);
    return *this;
  }
  Use& blob(std::string_view value) {
    sqlite3_bind_blob(statement_, ++bound_, value.data(), static_cast<int>(value.size()), SQLITE_STATIC);
    return *this;
  }
  Use& number(std::int64_t value) {
    sqlite3_bind_int64(statement_, ++bound_, value);
    return *this;
  }
  int step() { return sqlite3_step(statement_); }  // also of a statement that could not be prepared: SQLITE_MISUSE
  std::string_view column(int at) {
    const auto* data = static_cast<const char*>(sqlite3_column_blob(statement_, at));
    return {data ? data : "", static_cast<std::size_t>(sqlite3_column_bytes(statement_, at))};
  }
  std::int64_t number_at(int at) { return sqlite3_column_int64(statement_, at); }

 private:
  Statement own_;
  sqlite3_stmt* statement_;
  int bound_ = 0;
};

KeysFile::Statement KeysFile::prepare(sqlite3* db, const char* sql) {
  sqlite3_stmt* made = nullptr;
  sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &made, nullptr);
  return Statement(made);
}

// ---- the cache

const std::vector<SealingKeyPtr>* KeysFile::Cache::find(const std::string& user) {
  const auto found = index_.find(user);
  if (found == index_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found->second);
  return &found->second->keys;
}

SealingKeyPtr KeysFile::Cache::usable(const std::string& user) {
  return find(user) != nullptr && entries_.front().usable ? entries_.front().keys.back() : nullptr;
}

void KeysFile::Cache::put(const std::string& user, std::vector<SealingKeyPtr> keys, bool usable) {
  evict(user);
  entries_.push_front({user, std::move(keys), usable});
  index_[user] = entries_.begin();
  if (entries_.size() > capacity_) evict(std::string(entries_.back().user));
}

void KeysFile::Cache::evict(const std::string& user) {
  const auto found = index_.find(user);
  if (found == index_.end()) return;
  entries_.erase(found->second);
  index_.erase(found);
}

void KeysFile::Cache::clear() {
  index_.clear();
  entries_.clear();
}

// ---- opening

result<std::unique_ptr<KeysFile>> KeysFile::open(const std::filesystem::path& file, const WrappingKey& key, Options options) {
  std::unique_ptr<KeysFile> opened(new KeysFile(key, std::move(options)));
  if (auto ok = opened->open_for_writing(file); !ok) return tl::unexpected(ok.error());
  return opened;
}

result<std::unique_ptr<KeysFile>> KeysFile::open_read_only(const std::filesystem::path& file, const WrappingKey& key,
                                                           Options options) {
  std::unique_ptr<KeysFile> opened(new KeysFile(key, std::move(options)));
  opened->path_ = file;
  if (auto ok = opened->follow_file(); !ok) return tl::unexpected(ok.error());
  return opened;
}

bool KeysFile::damaged(const std::filesystem::path& file) {
  sqlite3* opened = nullptr;
  const int code = sqlite3_open_v2(file.c_str(), &opened, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, nullptr);
  const Database db(opened);
  if (code != SQLITE_OK) return code == SQLITE_NOTADB || code == SQLITE_CORRUPT;
  sqlite3_db_config(db.get(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  const Statement check = prepare(db.get(), "PRAGMA quick_check(1)");
  if (!check) return sqlite3_errcode(db.get()) == SQLITE_NOTADB || sqlite3_errcode(db.get()) == SQLITE_CORRUPT;
  Use use(check);
  const int stepped = use.step();
  return stepped == SQLITE_ROW ? use.column(0) != "ok" : stepped == SQLITE_NOTADB || stepped == SQLITE_CORRUPT;
}

KeysFile::~KeysFile() { sodium_memzero(wrapping_.data(), wrapping_.size()); }

result<void> KeysFile::lock_file(const std::filesystem::path& file) {
  const auto lock = file.string() + ".lock";
  lock_held_.fd = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock_held_.fd < 0) return failure(Errc::unreachable, "keys.db.lock cannot be opened");
  if (::flock(lock_held_.fd, LOCK_EX | LOCK_NB) != 0) return failure(Errc::unreachable, "keys.db: another process writes it");
  return {};
}

static result<void> check_mode(const std::filesystem::path& file) {
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0) return failure(Errc::unreachable, "keys.db is missing");
  if (!S_ISREG(status.st_mode) || (status.st_mode & 077) != 0)
    return failure(Errc::bad_secret_file, "keys.db may be read by others: its mode must be 0600");
  return {};
}

result<KeysFile::Database> KeysFile::open_database(const std::filesystem::path& file, bool writes) const {
  sqlite3* opened = nullptr;
  const int code = sqlite3_open_v2(
      file.c_str(), &opened,
      (writes ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY) | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, nullptr);
  Database db(opened);
  if (code != SQLITE_OK) return unreachable(db.get());
  sqlite3_busy_timeout(db.get(), static_cast<int>(options_.scrub_patience_ms));
  if (writes) {
    // temp_store: VACUUM must not put a copy of the keys into a temporary file.
    if (!run(db.get(), "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA secure_delete=ON; PRAGMA temp_store=MEMORY"))
      return unreachable(db.get());
  } else {
    // Only the writing connection checkpoints (SQLite's WAL-reset bug, fixed in 3.51.3).
    sqlite3_db_config(db.get(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  }
  return db;
}

result<void> KeysFile::open_for_writing(const std::filesystem::path& file) {
  if (auto locked = lock_file(file); !locked) return locked;
  // Made with its mode before SQLite sees it: the WAL inherits the mode.
  if (const int fd = ::open(file.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600); fd >= 0) ::close(fd);
  if (auto ok = check_mode(file); !ok) return ok;
  auto opened = open_database(file, true);
  if (!opened) return tl::unexpected(opened.error());
  write_db_ = std::move(*opened);
  sqlite3* db = write_db_.get();
  std::int64_t found = 0;
  {
    Use version(db, "PRAGMA user_version");
    if (version.step() != SQLITE_ROW) return unreachable(db);
    found = version.number_at(0);
  }
  if (found != 0 && found != layout) return failure(Errc::unreachable, "keys.db has a layout that this program does not know");
  const bool fresh = found == 0;
  if (fresh) {
    if (auto made = create_tables(); !made) return made;
    if (auto synced = sync_folder(file.parent_path()); !synced) return synced;
  }
  if (auto ok = check_wrapping(db); !ok) return ok;
  if (auto ok = read_kind(db); !ok) return ok;
  if (copy_of_ != options_.copy_of)
    return failure(Errc::bad_secret_file,
                   copy_of_.empty() ? "keys.db is an embedded key store, not a copy of the keys in Kafka"
                                    : "keys.db is a copy of the keys in Kafka's topic " + copy_of_ + " and no store of its own");
  select_usable_ = prepare(db, copy_of_.empty() ? "SELECT key_id, wrapped FROM keys WHERE user = ? ORDER BY n"
                                                : "SELECT key_id, wrapped FROM keys WHERE user = ?1 AND key_id NOT IN "
                                                  "(SELECT key_id FROM dead WHERE user = ?1) ORDER BY n");
  select_one_ = prepare(db, "SELECT 1 FROM keys WHERE user = ? AND key_id = ?");
  insert_ = prepare(db, "INSERT INTO keys (user, key_id, wrapped) VALUES (?, ?, ?)");
  if (!copy_of_.empty()) get_dead_ = prepare(db, "SELECT partition, wanted FROM dead WHERE user = ? AND key_id = ?");
  if (!select_usable_ || !select_one_ || !insert_ || (!copy_of_.empty() && !get_dead_)) return unreachable(db);
  if (auto finished = finish_interrupted_scrub(); !finished) return finished;
  return open_for_reading(file);
}

result<void> KeysFile::open_for_reading(const std::filesystem::path& file) {
  if (auto ok = check_mode(file); !ok) return ok;
  auto opened = open_database(file, false);
  if (!opened) return tl::unexpected(opened.error());
  for (Statement* each : {&select_keys_, &select_dead_, &data_version_, &erasures_}) each->reset();  // before their database
  read_db_ = std::move(*opened);
  sqlite3* db = read_db_.get();
  if (auto ok = check_wrapping(db); !ok) return ok;
  if (auto ok = read_kind(db); !ok) return ok;
  select_keys_ = prepare(db, "SELECT key_id, wrapped FROM keys WHERE user = ? ORDER BY n");
  data_version_ = prepare(db, "PRAGMA data_version");
  erasures_ = prepare(db, "SELECT value FROM meta WHERE name = 'erasures'");
  if (!copy_of_.empty()) select_dead_ = prepare(db, "SELECT 1 FROM dead WHERE user = ? AND key_id = ?");
  if (!select_keys_ || !data_version_ || !erasures_ || (!copy_of_.empty() && !select_dead_)) return unreachable(db);
  return {};
}

result<void> KeysFile::create_tables() {
  sqlite3* db = write_db_.get();
  const auto check = wrap(wrapping_, {}, "", "check", *options_.random);
  if (!run(db,
           "BEGIN IMMEDIATE;"
           "CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;"
           "CREATE TABLE keys (n INTEGER PRIMARY KEY, user TEXT NOT NULL, key_id TEXT NOT NULL, wrapped BLOB NOT NULL);"
           "CREATE INDEX keys_of_user ON keys (user);"
           "INSERT INTO meta VALUES ('erasures', 0), ('scrub_pending', 0);"))
    return unreachable(db);
  if (Use(db, "INSERT INTO meta VALUES ('check', ?)").blob(check).step() != SQLITE_DONE) return unreachable(db);
  if (!options_.copy_of.empty() &&
      (!run(db,
            "CREATE TABLE dead (user TEXT, key_id TEXT, partition INTEGER NOT NULL, wanted INTEGER NOT NULL, "
            "PRIMARY KEY (user, key_id)) WITHOUT ROWID;"
            "CREATE INDEX dead_wanted ON dead (user) WHERE wanted;") ||
       Use(db, "INSERT INTO meta VALUES ('copy_of', ?)").text(options_.copy_of).step() != SQLITE_DONE))
    return unreachable(db);
  if (!run(db, ("PRAGMA user_version=" + std::to_string(layout) + "; COMMIT").c_str())) return unreachable(db);
  return {};
}

/// With another master key every user would seem forged: say it at the start instead.
result<void> KeysFile::check_wrapping(sqlite3* db) const {
  Use check(db, "SELECT value FROM meta WHERE name = 'check'");
  if (check.step() != SQLITE_ROW) return unreachable(db);
  if (!unwrap(wrapping_, check.column(0), "", "check"))
    return failure(Errc::bad_secret_file, "keys.db was wrapped by another master.key");
  return {};
}

result<void> KeysFile::read_kind(sqlite3* db) {
  Use kind(db, "SELECT value FROM meta WHERE name = 'copy_of'");
  const int code = kind.step();
  if (code != SQLITE_ROW && code != SQLITE_DONE) return unreachable(db);
  copy_of_ = code == SQLITE_ROW ? kind.column(0) : "";
  return {};
}

// ---- reading

result<std::vector<SealingKeyPtr>> KeysFile::load(const Statement& select, sqlite3* db, std::string_view user) const {
  std::vector<SealingKeyPtr> keys;
  Use use(select);
  use.text(user);
  int code;
  while ((code = use.step()) == SQLITE_ROW) {
    auto key = unwrap(wrapping_, use.column(1), user, use.column(0));
    if (!key) return tl::unexpected(key.error());
    keys.push_back(std::move(*key));
  }
  if (code != SQLITE_DONE) return unreachable(db);
  return keys;
}

/// A copy of the keys in Kafka may be deleted and read anew under who only reads it. Needs read_mutex_.
result<void> KeysFile::follow_file() {
  struct stat file {};
  if (::stat(path_.c_str(), &file) == 0 && file.st_ino == inode_) return {};
  if (auto opened = open_for_reading(path_); !opened) return opened;
  inode_ = file.st_ino;
  seen_data_version_ = seen_erasures_ = -1;
  return {};
}

/// Another process erased somebody: nothing that is cached may be trusted. Needs read_mutex_.
result<void> KeysFile::follow_erasures() {
  Use version(data_version_);
  if (version.step() != SQLITE_ROW) return unreachable(read_db_.get());
  if (version.number_at(0) == seen_data_version_) return {};
  Use count(erasures_);
  if (count.step() != SQLITE_ROW) return unreachable(read_db_.get());
  if (count.number_at(0) != seen_erasures_) {
    const std::lock_guard lock(cache_mutex_);
    cache_.clear();
  }
  seen_data_version_ = version.number_at(0);
  seen_erasures_ = count.number_at(0);
  return {};
}

result<SealingKeyPtr> KeysFile::find(std::string_view user_text, std::string_view key_id) {
  const std::string user(user_text);
  const auto cached = [&]() -> SealingKeyPtr {
    const std::lock_guard lock(cache_mutex_);
    const auto* keys = cache_.find(user);
    return keys ? with_id(*keys, key_id) : nullptr;
  };
  if (writes()) {
    if (auto key = cached()) return key;
  }
  // Held from the reading to the caching, and by an erasure while it evicts: what was erased never comes back.
  const std::lock_guard reading(read_mutex_);
  if (!writes()) {
    if (!copy_of_.empty())
      if (auto ok = follow_file(); !ok) return tl::unexpected(ok.error());
    if (auto ok = follow_erasures(); !ok) return tl::unexpected(ok.error());
    if (auto key = cached()) return key;
  }
  auto keys = load(select_keys_, read_db_.get(), user);
  if (!keys) return tl::unexpected(keys.error());
  auto key = with_id(*keys, key_id);
  if (!keys->empty()) {
    const std::lock_guard lock(cache_mutex_);
    cache_.put(user, std::move(*keys), copy_of_.empty());
  }
  if (key) return key;
  if (copy_of_.empty()) return failure(Errc::erased);
  Use dead(select_dead_);
  const int code = dead.text(user).text(key_id).step();
  if (code == SQLITE_ROW) return failure(Errc::erased);
  if (code != SQLITE_DONE) return unreachable(read_db_.get());
  return failure(Errc::unreachable, "the copy of the keys in Kafka does not have this key yet");
}

SealingKeyPtr KeysFile::cached(const std::string& user) {
  const std::lock_guard lock(cache_mutex_);
  return cache_.usable(user);
}

void KeysFile::forget_cached(const std::string& user) {
  const std::lock_guard reading(read_mutex_);
  const std::lock_guard lock(cache_mutex_);
  cache_.evict(user);
}

// ---- writing

result<void> KeysFile::begin() {
  if (broken_) return failure(Errc::unreachable, "keys.db: an earlier write failed");
  removed_any_ = false;
  if (!run(write_db_.get(), "BEGIN IMMEDIATE")) return unreachable(write_db_.get());
  return {};
}

result<void> KeysFile::commit() {
  sqlite3* db = write_db_.get();
  result<void> done;
  if (before_commit.hit()) done = failure(Errc::unreachable, "keys.before_commit");
  if (done && !run(db, "COMMIT")) {
    // After a failed write or fsync nobody knows what the disk holds: serve nothing more from this process.
    broken_ = (sqlite3_extended_errcode(db) & 0xFF) == SQLITE_IOERR;
    done = unreachable(db);
  }
  if (!done) {
    roll_back();
    return done;
  }
  if (removed_any_) {
    vacuum_owed_ = vacuum_owed_ || must_scrub_;  // an earlier scrub failed: its bytes are not known any more
    must_scrub_ = true;                          // until it proved otherwise
  }
  if (after_commit.hit()) return failure(Errc::unreachable, "keys.after_commit");
  return {};
}

void KeysFile::roll_back() {
  if (sqlite3_get_autocommit(write_db_.get()) == 0) run(write_db_.get(), "ROLLBACK");
}

result<void> KeysFile::touch() {
  if (!run(write_db_.get(), "UPDATE meta SET value = value WHERE name = 'check'")) return unreachable(write_db_.get());
  return {};
}

result<std::vector<SealingKeyPtr>> KeysFile::usable_keys(std::string_view user) {
  return load(select_usable_, write_db_.get(), user);
}

result<void> KeysFile::insert(std::string_view user, std::string_view key_id, std::string_view wrapped) {
  if (Use(insert_).text(user).text(key_id).blob(wrapped).step() != SQLITE_DONE) return unreachable(write_db_.get());
  return {};
}

result<void> KeysFile::remove(std::string_view user, std::string_view key_id, std::vector<std::string>& removed) {
  sqlite3* db = write_db_.get();
  const auto before = removed.size();
  {
    Use select(db, "SELECT wrapped FROM keys WHERE user = ?1 AND (?2 = '' OR key_id = ?2)");
    select.text(user).text(key_id);
    int code;
    while ((code = select.step()) == SQLITE_ROW) removed.emplace_back(select.column(0));
    if (code != SQLITE_DONE) return unreachable(db);
  }
  if (removed.size() == before) return {};
  removed_any_ = true;
  if (Use(db, "DELETE FROM keys WHERE user = ?1 AND (?2 = '' OR key_id = ?2)").text(user).text(key_id).step() != SQLITE_DONE ||
      !run(db, "UPDATE meta SET value = value + 1 WHERE name = 'erasures' OR (name = 'scrub_pending' AND value = 0)"))
    return unreachable(db);
  return {};
}

void KeysFile::cache(const std::string& user, const SealingKeyPtr& key) {
  const std::lock_guard lock(cache_mutex_);
  cache_.put(user, {key}, true);
}

result<std::vector<KeysFile::Row>> KeysFile::rows(std::int64_t after, int limit) {
  Use select(write_db_.get(), "SELECT n, user, key_id, wrapped FROM keys WHERE n > ? ORDER BY n LIMIT ?");
  select.number(after).number(limit);
  std::vector<Row> rows;
  int code;
  while ((code = select.step()) == SQLITE_ROW)
    rows.push_back(
        {select.number_at(0), std::string(select.column(1)), std::string(select.column(2)), std::string(select.column(3))});
  if (code != SQLITE_DONE) return unreachable(write_db_.get());
  return rows;
}

// ---- a copy

result<bool> KeysFile::has(std::string_view user, std::string_view key_id) {
  Use select(select_one_);
  const int code = select.text(user).text(key_id).step();
  if (code != SQLITE_ROW && code != SQLITE_DONE) return unreachable(write_db_.get());
  return code == SQLITE_ROW;
}

result<std::vector<std::string>> KeysFile::key_ids(std::string_view user) {
  Use select(write_db_.get(), "SELECT key_id FROM keys WHERE user = ?");
  select.text(user);
  std::vector<std::string> ids;
  int code;
  while ((code = select.step()) == SQLITE_ROW) ids.emplace_back(select.column(0));
  if (code != SQLITE_DONE) return unreachable(write_db_.get());
  return ids;
}

result<void> KeysFile::mark_dead(const Dead& dead) {
  if (Use(write_db_.get(), "INSERT OR REPLACE INTO dead VALUES (?, ?, ?, ?)")
          .text(dead.user)
          .text(dead.key_id)
          .number(dead.partition)
          .number(dead.wanted ? 1 : 0)
          .step() != SQLITE_DONE)
    return unreachable(write_db_.get());
  return {};
}

result<std::optional<KeysFile::Dead>> KeysFile::dead(std::string_view user, std::string_view key_id) {
  Use select(get_dead_);
  const int code = select.text(user).text(key_id).step();
  if (code == SQLITE_DONE) return std::nullopt;
  if (code != SQLITE_ROW) return unreachable(write_db_.get());
  return Dead{std::string(user), std::string(key_id), select.number_at(0), select.number_at(1) != 0};
}

result<bool> KeysFile::has_dead(std::string_view user) {
  Use select(write_db_.get(), "SELECT 1 FROM dead WHERE user = ? LIMIT 1");
  const int code = select.text(user).step();
  if (code != SQLITE_ROW && code != SQLITE_DONE) return unreachable(write_db_.get());
  return code == SQLITE_ROW;
}

result<std::vector<KeysFile::Dead>> KeysFile::wanted(int limit) {
  Use select(write_db_.get(), "SELECT user, key_id, partition FROM dead WHERE wanted LIMIT ?");
  select.number(limit);
  std::vector<Dead> dead;
  int code;
  while ((code = select.step()) == SQLITE_ROW)
    dead.push_back({std::string(select.column(0)), std::string(select.column(1)), select.number_at(2), true});
  if (code != SQLITE_DONE) return unreachable(write_db_.get());
  return dead;
}

result<std::optional<std::string>> KeysFile::note(std::string_view name) {
  Use select(write_db_.get(), "SELECT value FROM meta WHERE name = ?");
  const int code = select.text(name).step();
  if (code == SQLITE_DONE) return std::nullopt;
  if (code != SQLITE_ROW) return unreachable(write_db_.get());
  return std::string(select.column(0));
}

result<void> KeysFile::keep_note(std::string_view name, std::string_view value) {
  if (Use(write_db_.get(), "INSERT OR REPLACE INTO meta VALUES (?, ?)").text(name).text(value).step() != SQLITE_DONE)
    return unreachable(write_db_.get());
  return {};
}

// ---- leaving no copy

/// secure_delete overwrites a deleted row, but not a copy that an earlier page split left in unused space, and the WAL
/// keeps whole pages. So: empty the WAL, search the file for the very bytes, and rebuild it if they are there.
result<void> KeysFile::scrub(const std::vector<std::string>& removed) {
  if (before_scrub.hit()) return failure(Errc::unreachable, "keys.before_scrub");
  sqlite3* db = write_db_.get();
  if (auto emptied = empty_wal(); !emptied) return emptied;
  constexpr std::size_t worth_searching = 64;  // more at once: rebuilding is cheaper
  const bool known = !removed.empty() && removed.size() <= worth_searching && !vacuum_owed_;
  if (!known || holds_any(removed)) {
    vacuum_owed_ = true;
    if (!run(db, "VACUUM")) return unreachable(db);
    if (auto emptied = empty_wal(); !emptied) return emptied;
  }
  if (!run(db, "UPDATE meta SET value = 0 WHERE name = 'scrub_pending'")) return unreachable(db);
  must_scrub_ = vacuum_owed_ = false;
  if (after_scrub.hit()) return failure(Errc::unreachable, "keys.after_scrub");
  return {};
}

result<void> KeysFile::empty_wal() {
  sqlite3* db = write_db_.get();
  if (sqlite3_wal_checkpoint_v2(db, nullptr, SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr) != SQLITE_OK) {
    vacuum_owed_ = true;  // the next one no longer knows what to search for
    return unreachable(db);
  }
  return {};
}

/// Reads through SQLite's own descriptor: closing another one of the same file would drop its locks.
bool KeysFile::holds_any(const std::vector<std::string>& needles) {
  sqlite3_file* file = nullptr;
  sqlite3_int64 size = 0;
  if (sqlite3_file_control(write_db_.get(), "main", SQLITE_FCNTL_FILE_POINTER, &file) != SQLITE_OK || !file || !file->pMethods ||
      file->pMethods->xFileSize(file, &size) != SQLITE_OK)
    return true;
  constexpr sqlite3_int64 step = 1 << 20;
  std::string block;
  for (sqlite3_int64 at = 0; at < size; at += step) {
    block.resize(static_cast<std::size_t>(std::min<sqlite3_int64>(step + wrapped_bytes, size - at)));
    if (file->pMethods->xRead(file, block.data(), static_cast<int>(block.size()), at) != SQLITE_OK) return true;
    for (const auto& needle : needles)
      if (::memmem(block.data(), block.size(), needle.data(), needle.size())) return true;
  }
  return false;
}

result<void> KeysFile::finish_interrupted_scrub() {
  {
    Use pending(write_db_.get(), "SELECT value FROM meta WHERE name = 'scrub_pending'");
    if (pending.step() != SQLITE_ROW) return unreachable(write_db_.get());
    if (pending.number_at(0) == 0) return {};
  }
  return scrub({});
}

}  // namespace onboarding::privacy
