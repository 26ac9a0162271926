#include "events/privacy/sqlite_key_store.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <sqlite3.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <condition_variable>
#include <cstring>
#include <deque>
#include <list>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "events/fault_point.hpp"
#include "events/privacy/new_key.hpp"
#include "events/privacy/secret_file.hpp"

namespace onboarding::privacy {
namespace {

FaultPoint before_commit("keys.before_commit");
FaultPoint after_commit("keys.after_commit");
FaultPoint before_scrub("keys.before_scrub");
FaultPoint after_scrub("keys.after_scrub");

constexpr int layout = 1;
// Commits follow one another no faster than this, so that those who come meanwhile share the next one.
constexpr auto between_commits = std::chrono::milliseconds(5);
constexpr std::size_t nonce_bytes = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES;
constexpr std::size_t wrapped_bytes = nonce_bytes + 32 + crypto_aead_xchacha20poly1305_ietf_ABYTES;
using WrappingKey = std::array<std::uint8_t, 32>;

// ------------------------------------------------------------------------------------------------------------ SQLite

struct Close {
  void operator()(sqlite3* db) const { sqlite3_close(db); }
};
using Database = std::unique_ptr<sqlite3, Close>;

tl::unexpected<Failure> unreachable(sqlite3* db) {
  return failure(Errc::unreachable, std::string("keys.db: ") + sqlite3_errmsg(db));
}

/// A prepared statement, bound anew for each use; reset when the use ends, so that no read transaction stays open.
class Statement {
 public:
  Statement() = default;
  Statement(sqlite3* db, const char* sql) {
    sqlite3_stmt* made = nullptr;
    sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &made, nullptr);
    statement_.reset(made);
  }
  explicit operator bool() const { return statement_ != nullptr; }

  class Use {
   public:
    explicit Use(sqlite3_stmt* statement) : statement_(statement) {}
    ~Use() {
      sqlite3_reset(statement_);
      sqlite3_clear_bindings(statement_);
    }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    Use& text(int at, std::string_view value) {
      sqlite3_bind_text(statement_, at, value.data(), static_cast<int>(value.size()), SQLITE_STATIC);
      return *this;
    }
    Use& blob(int at, std::string_view value) {
      sqlite3_bind_blob(statement_, at, value.data(), static_cast<int>(value.size()), SQLITE_STATIC);
      return *this;
    }
    int step() { return sqlite3_step(statement_); }
    std::string_view column(int at) {
      const auto* data = static_cast<const char*>(sqlite3_column_blob(statement_, at));
      return {data ? data : "", static_cast<std::size_t>(sqlite3_column_bytes(statement_, at))};
    }
    std::int64_t number(int at) { return sqlite3_column_int64(statement_, at); }

   private:
    sqlite3_stmt* statement_;
  };
  Use use() { return Use(statement_.get()); }

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

bool run(sqlite3* db, const char* sql) { return sqlite3_exec(db, sql, nullptr, nullptr, nullptr) == SQLITE_OK; }

// ---------------------------------------------------------------------------------------------------------- wrapping

std::string wrapping_place(std::string_view user, std::string_view key_id) {
  return "onboarding key\n" + std::string(user) + "\n" + std::string(key_id);
}

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

// ------------------------------------------------------------------------------------------------------------- cache

/// The opened keys of the users seen last, newest key last. Guarded by its owner.
class Cache {
 public:
  explicit Cache(std::size_t capacity) : capacity_(capacity) {}

  const std::vector<SealingKeyPtr>* find(const std::string& user) {
    const auto found = index_.find(user);
    if (found == index_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, found->second);
    return &found->second->keys;
  }
  void put(const std::string& user, std::vector<SealingKeyPtr> keys) {
    evict(user);
    entries_.push_front({user, std::move(keys)});
    index_[user] = entries_.begin();
    if (entries_.size() > capacity_) evict(std::string(entries_.back().user));
  }
  void evict(const std::string& user) {
    const auto found = index_.find(user);
    if (found == index_.end()) return;
    entries_.erase(found->second);
    index_.erase(found);
  }
  void clear() {
    index_.clear();
    entries_.clear();
  }

 private:
  struct Entry {
    std::string user;
    std::vector<SealingKeyPtr> keys;
  };
  std::size_t capacity_;
  std::list<Entry> entries_;  // used last first
  std::unordered_map<std::string, std::list<Entry>::iterator> index_;
};

struct Request {
  std::string user;
  KeyStore::Obtained obtained;               // an obtain
  std::function<void(result<void>)> erased;  // or an erasure
};

}  // namespace

// ------------------------------------------------------------------------------------------------------------- store

struct SqliteKeyStore::Impl {
  Impl(const WrappingKey& key, SqliteKeyStoreOptions given) : wrapping(key), options(given), cache(given.cached_users) {}
  ~Impl() {
    if (writer.joinable()) {
      {
        const std::lock_guard lock(queue_mutex);
        stopping = true;
      }
      queue_changed.notify_one();
      writer.join();
    }
    sodium_memzero(wrapping.data(), wrapping.size());
  }

  // ---- opening

  result<void> lock_file(const std::filesystem::path& file) {
    const auto lock = file.string() + ".lock";
    lock_held.fd = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock_held.fd < 0) return failure(Errc::unreachable, "keys.db.lock cannot be opened");
    if (::flock(lock_held.fd, LOCK_EX | LOCK_NB) != 0) return failure(Errc::unreachable, "keys.db: another process writes it");
    return {};
  }

  static result<void> check_mode(const std::filesystem::path& file) {
    struct stat status {};
    if (::stat(file.c_str(), &status) != 0) return failure(Errc::unreachable, "keys.db is missing");
    if (!S_ISREG(status.st_mode) || (status.st_mode & 077) != 0)
      return failure(Errc::bad_secret_file, "keys.db may be read by others: its mode must be 0600");
    return {};
  }

  result<Database> open_database(const std::filesystem::path& file, bool writes) const {
    sqlite3* opened = nullptr;
    const int code = sqlite3_open_v2(
        file.c_str(), &opened,
        (writes ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY) | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, nullptr);
    Database db(opened);
    if (code != SQLITE_OK) return unreachable(db.get());
    sqlite3_busy_timeout(db.get(), static_cast<int>(options.scrub_patience_ms));
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

  result<void> open_for_writing(const std::filesystem::path& file) {
    if (auto locked = lock_file(file); !locked) return locked;
    // Made with its mode before SQLite sees it: the WAL inherits the mode.
    if (const int fd = ::open(file.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600); fd >= 0) ::close(fd);
    if (auto ok = check_mode(file); !ok) return ok;
    auto opened = open_database(file, true);
    if (!opened) return tl::unexpected(opened.error());
    write_db = std::move(*opened);
    sqlite3* db = write_db.get();
    if (Statement version(db, "PRAGMA user_version"); !version) {
      return unreachable(db);
    } else {
      auto use = version.use();
      if (use.step() != SQLITE_ROW) return unreachable(db);
      const auto found = use.number(0);
      if (found != 0 && found != layout)
        return failure(Errc::unreachable, "keys.db has a layout that this program does not know");
      if (found == 0) fresh = true;
    }
    if (fresh) {
      if (auto made = create_tables(); !made) return made;
      if (auto synced = sync_folder(file.parent_path()); !synced) return synced;
    }
    if (auto ok = check_wrapping(db); !ok) return ok;
    select_mine = {db, "SELECT key_id, wrapped FROM keys WHERE user = ? ORDER BY n"};
    insert = {db, "INSERT INTO keys (user, key_id, wrapped) VALUES (?, ?, ?)"};
    remove = {db, "DELETE FROM keys WHERE user = ?"};
    count_erasure = {db, "UPDATE meta SET value = value + 1 WHERE name = 'erasures' OR (name = 'scrub_pending' AND value = 0)"};
    scrub_done = {db, "UPDATE meta SET value = 0 WHERE name = 'scrub_pending'"};
    if (!select_mine || !insert || !remove || !count_erasure || !scrub_done) return unreachable(db);
    if (auto finished = finish_interrupted_scrub(); !finished) return finished;
    return open_for_reading(file);
  }

  result<void> open_for_reading(const std::filesystem::path& file) {
    if (auto ok = check_mode(file); !ok) return ok;
    auto opened = open_database(file, false);
    if (!opened) return tl::unexpected(opened.error());
    read_db = std::move(*opened);
    if (auto ok = check_wrapping(read_db.get()); !ok) return ok;
    select_keys = {read_db.get(), "SELECT key_id, wrapped FROM keys WHERE user = ? ORDER BY n"};
    data_version = {read_db.get(), "PRAGMA data_version"};
    erasures = {read_db.get(), "SELECT value FROM meta WHERE name = 'erasures'"};
    if (!select_keys || !data_version || !erasures) return unreachable(read_db.get());
    return {};
  }

  result<void> create_tables() {
    sqlite3* db = write_db.get();
    const auto check = wrap(wrapping, {}, "", "check", *options.random);
    if (!run(db,
             "BEGIN IMMEDIATE;"
             "CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;"
             "CREATE TABLE keys (n INTEGER PRIMARY KEY, user TEXT NOT NULL, key_id TEXT NOT NULL, wrapped BLOB NOT NULL);"
             "CREATE INDEX keys_of_user ON keys (user);"
             "INSERT INTO meta VALUES ('erasures', 0), ('scrub_pending', 0);"))
      return unreachable(db);
    {
      Statement put(db, "INSERT INTO meta VALUES ('check', ?)");
      if (!put || put.use().blob(1, check).step() != SQLITE_DONE) return unreachable(db);
    }
    if (!run(db, ("PRAGMA user_version=" + std::to_string(layout) + "; COMMIT").c_str())) return unreachable(db);
    return {};
  }

  /// With another master key every user would seem forged: say it at the start instead.
  result<void> check_wrapping(sqlite3* db) const {
    Statement get(db, "SELECT value FROM meta WHERE name = 'check'");
    if (!get) return unreachable(db);
    auto use = get.use();
    if (use.step() != SQLITE_ROW) return unreachable(db);
    if (!unwrap(wrapping, use.column(0), "", "check"))
      return failure(Errc::bad_secret_file, "keys.db was wrapped by another master.key");
    return {};
  }

  // ---- reading

  static SealingKeyPtr with_id(const std::vector<SealingKeyPtr>& keys, std::string_view key_id) {
    for (const auto& key : keys)
      if (key->id == key_id) return key;
    return nullptr;
  }

  result<std::vector<SealingKeyPtr>> load(Statement& select, sqlite3* db, const std::string& user) const {
    std::vector<SealingKeyPtr> keys;
    auto use = select.use();
    use.text(1, user);
    int code;
    while ((code = use.step()) == SQLITE_ROW) {
      auto key = unwrap(wrapping, use.column(1), user, use.column(0));
      if (!key) return tl::unexpected(key.error());
      keys.push_back(std::move(*key));
    }
    if (code != SQLITE_DONE) return unreachable(db);
    return keys;
  }

  /// Another process erased somebody: nothing that is cached may be trusted. Needs read_mutex.
  result<void> follow_erasures() {
    auto version = data_version.use();
    if (version.step() != SQLITE_ROW) return unreachable(read_db.get());
    if (version.number(0) == seen_data_version) return {};
    auto count = erasures.use();
    if (count.step() != SQLITE_ROW) return unreachable(read_db.get());
    if (count.number(0) != seen_erasures) {
      const std::lock_guard lock(cache_mutex);
      cache.clear();
    }
    seen_data_version = version.number(0);
    seen_erasures = count.number(0);
    return {};
  }

  result<SealingKeyPtr> find(const std::string& user, std::string_view key_id) {
    const auto cached = [&]() -> SealingKeyPtr {
      const std::lock_guard lock(cache_mutex);
      const auto* keys = cache.find(user);
      return keys ? with_id(*keys, key_id) : nullptr;
    };
    if (writes()) {
      if (auto key = cached()) return key;
    }
    // Held from the reading to the caching, and by an erasure while it evicts: what was erased never comes back.
    const std::lock_guard reading(read_mutex);
    if (!writes()) {
      if (auto ok = follow_erasures(); !ok) return tl::unexpected(ok.error());
      if (auto key = cached()) return key;
    }
    auto keys = load(select_keys, read_db.get(), user);
    if (!keys) return tl::unexpected(keys.error());
    auto key = with_id(*keys, key_id);
    if (!keys->empty()) {
      const std::lock_guard lock(cache_mutex);
      cache.put(user, std::move(*keys));
    }
    if (!key) return failure(Errc::erased);
    return key;
  }

  // ---- writing

  bool writes() const { return write_db != nullptr; }

  /// False, and the request untouched, when there is no writer or it has too much to do.
  bool enqueue(Request& request) {
    {
      const std::lock_guard lock(queue_mutex);
      if (!writes() || queue.size() >= options.max_queued) return false;
      queue.push_back(std::move(request));
    }
    queue_changed.notify_one();
    return true;
  }

  void serve() {
    pthread_setname_np(pthread_self(), "keys-writer");
    std::chrono::steady_clock::time_point next_commit{};
    for (;;) {
      std::vector<Request> batch;
      {
        std::unique_lock lock(queue_mutex);
        queue_changed.wait(lock, [&] { return stopping || !queue.empty(); });
        if (queue.empty()) return;
        queue_changed.wait_until(lock, next_commit, [&] { return stopping; });
        while (!queue.empty() && batch.size() < options.max_batch) {
          batch.push_back(std::move(queue.front()));
          queue.pop_front();
        }
      }
      carry_out(batch);
      next_commit = std::chrono::steady_clock::now() + between_commits;
    }
  }

  void carry_out(std::vector<Request>& batch) {
    std::vector<SealingKeyPtr> keys(batch.size());
    std::vector<std::string> erased;  // wrapped keys that must not be found in the file any more
    auto committed = broken ? failure(Errc::unreachable, "keys.db: an earlier write failed") : commit(batch, keys, erased);
    publish(batch, keys, committed.has_value());
    for (std::size_t i = 0; i < batch.size(); ++i)
      if (batch[i].obtained) batch[i].obtained(committed ? result<SealingKeyPtr>(keys[i]) : tl::unexpected(committed.error()));
    const bool erases = std::any_of(batch.begin(), batch.end(), [](const Request& r) { return r.erased != nullptr; });
    if (!erases) return;
    if (committed && (!erased.empty() || must_vacuum)) committed = scrub(erased);
    for (auto& request : batch)
      if (request.erased) request.erased(committed);
  }

  result<void> commit(const std::vector<Request>& batch, std::vector<SealingKeyPtr>& keys, std::vector<std::string>& erased) {
    sqlite3* db = write_db.get();
    if (!run(db, "BEGIN IMMEDIATE")) return unreachable(db);
    auto done = write(batch, keys, erased);
    if (done && before_commit.hit()) done = failure(Errc::unreachable, "keys.before_commit");
    if (done && !run(db, "COMMIT")) {
      // After a failed write or fsync nobody knows what the disk holds: serve nothing more from this process.
      broken = (sqlite3_extended_errcode(db) & 0xFF) == SQLITE_IOERR;
      done = unreachable(db);
    }
    if (!done) {
      if (sqlite3_get_autocommit(db) == 0) run(db, "ROLLBACK");
      return done;
    }
    if (!erased.empty()) must_vacuum = true;  // until the scrub proved otherwise
    if (after_commit.hit()) return failure(Errc::unreachable, "keys.after_commit");
    return {};
  }

  result<void> write(const std::vector<Request>& batch, std::vector<SealingKeyPtr>& keys, std::vector<std::string>& erased) {
    sqlite3* db = write_db.get();
    for (std::size_t i = 0; i < batch.size(); ++i) {
      const std::string& user = batch[i].user;
      if (batch[i].erased) {
        const auto before = erased.size();
        auto use = select_mine.use();
        use.text(1, user);
        int code;
        while ((code = use.step()) == SQLITE_ROW) erased.emplace_back(use.column(1));
        if (code != SQLITE_DONE) return unreachable(db);
        if (erased.size() == before) continue;
        if (remove.use().text(1, user).step() != SQLITE_DONE || count_erasure.use().step() != SQLITE_DONE) return unreachable(db);
      } else {
        auto mine = load(select_mine, db, user);
        if (!mine) return tl::unexpected(mine.error());
        if (mine->empty()) {
          auto key = new_key(*options.random);
          const auto wrapped = wrap(wrapping, key->bytes, user, key->id, *options.random);
          if (insert.use().text(1, user).text(2, key->id).blob(3, wrapped).step() != SQLITE_DONE) return unreachable(db);
          mine->push_back(std::move(key));
        }
        keys[i] = mine->back();
      }
    }
    return {};
  }

  /// Brings the cache to what was committed, in the batch's order. An erased user leaves it even when the outcome is unknown.
  void publish(const std::vector<Request>& batch, const std::vector<SealingKeyPtr>& keys, bool committed) {
    const std::lock_guard reading(read_mutex);
    const std::lock_guard lock(cache_mutex);
    for (std::size_t i = 0; i < batch.size(); ++i) {
      if (batch[i].erased) cache.evict(batch[i].user);
      else if (committed) cache.put(batch[i].user, {keys[i]});
    }
  }

  // ---- leaving no copy

  /// secure_delete overwrites a deleted row, but not a copy that an earlier page split left in unused space, and the WAL
  /// keeps whole pages. So: empty the WAL, search the file for the very bytes, and rebuild it if they are there.
  result<void> scrub(const std::vector<std::string>& erased) {
    if (before_scrub.hit()) return failure(Errc::unreachable, "keys.before_scrub");
    sqlite3* db = write_db.get();
    if (auto emptied = empty_wal(); !emptied) return emptied;
    constexpr std::size_t worth_searching = 64;  // more at once: rebuilding is cheaper
    const bool known = !erased.empty() && erased.size() <= worth_searching && !vacuum_owed;
    if (!known || holds_any(erased)) {
      vacuum_owed = true;
      if (!run(db, "VACUUM")) return unreachable(db);
      if (auto emptied = empty_wal(); !emptied) return emptied;
    }
    if (scrub_done.use().step() != SQLITE_DONE) return unreachable(db);
    must_vacuum = vacuum_owed = false;
    if (after_scrub.hit()) return failure(Errc::unreachable, "keys.after_scrub");
    return {};
  }

  result<void> empty_wal() {
    sqlite3* db = write_db.get();
    if (sqlite3_wal_checkpoint_v2(db, nullptr, SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr) != SQLITE_OK) {
      vacuum_owed = true;  // the next one no longer knows what to search for
      return unreachable(db);
    }
    return {};
  }

  /// Reads through SQLite's own descriptor: closing another one of the same file would drop its locks.
  bool holds_any(const std::vector<std::string>& needles) {
    sqlite3_file* file = nullptr;
    sqlite3_int64 size = 0;
    if (sqlite3_file_control(write_db.get(), "main", SQLITE_FCNTL_FILE_POINTER, &file) != SQLITE_OK || !file || !file->pMethods ||
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

  result<void> finish_interrupted_scrub() {
    Statement pending(write_db.get(), "SELECT value FROM meta WHERE name = 'scrub_pending'");
    if (!pending) return unreachable(write_db.get());
    {
      auto use = pending.use();
      if (use.step() != SQLITE_ROW) return unreachable(write_db.get());
      if (use.number(0) == 0) return {};
    }
    return scrub({});
  }

  WrappingKey wrapping;
  SqliteKeyStoreOptions options;
  bool fresh = false;

  // Members end in reverse: statements before their databases, the lock last.
  struct Lock {
    int fd = -1;
    ~Lock() {
      if (fd >= 0) ::close(fd);
    }
  } lock_held;

  // The writer's, and the opener's before it starts.
  Database write_db;
  Statement select_mine, insert, remove, count_erasure, scrub_done;
  bool broken = false;
  bool must_vacuum = false;  // erased rows were committed and not yet proved gone
  bool vacuum_owed = false;  // what to search for is not known any more

  std::mutex read_mutex;  // before cache_mutex
  Database read_db;
  Statement select_keys, data_version, erasures;
  std::int64_t seen_data_version = -1, seen_erasures = -1;

  std::mutex cache_mutex;
  Cache cache;

  std::mutex queue_mutex;
  std::condition_variable queue_changed;
  std::deque<Request> queue;
  bool stopping = false;
  std::thread writer;
};

result<std::unique_ptr<SqliteKeyStore>> SqliteKeyStore::open(const std::filesystem::path& file, const WrappingKey& wrapping_key,
                                                             SqliteKeyStoreOptions options) {
  auto impl = std::make_unique<Impl>(wrapping_key, options);
  if (auto opened = impl->open_for_writing(file); !opened) return tl::unexpected(opened.error());
  impl->writer = std::thread([&store = *impl] { store.serve(); });
  return std::unique_ptr<SqliteKeyStore>(new SqliteKeyStore(std::move(impl)));
}

result<std::unique_ptr<SqliteKeyStore>> SqliteKeyStore::open_read_only(const std::filesystem::path& file,
                                                                       const WrappingKey& wrapping_key,
                                                                       SqliteKeyStoreOptions options) {
  auto impl = std::make_unique<Impl>(wrapping_key, options);
  if (auto opened = impl->open_for_reading(file); !opened) return tl::unexpected(opened.error());
  return std::unique_ptr<SqliteKeyStore>(new SqliteKeyStore(std::move(impl)));
}

SqliteKeyStore::SqliteKeyStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SqliteKeyStore::~SqliteKeyStore() = default;

void SqliteKeyStore::obtain(std::string user, Obtained done) {
  SealingKeyPtr cached;
  if (impl_->writes()) {
    const std::lock_guard lock(impl_->cache_mutex);
    if (const auto* keys = impl_->cache.find(user)) cached = keys->back();
  }
  if (cached) return done(std::move(cached));
  Request request{std::move(user), std::move(done), nullptr};
  if (!impl_->enqueue(request)) request.obtained(failure(Errc::unreachable, "keys.db cannot be written now"));
}

result<SealingKeyPtr> SqliteKeyStore::find(std::string_view user, std::string_view key_id) {
  return impl_->find(std::string(user), key_id);
}

void SqliteKeyStore::erase(std::string user, std::function<void(result<void>)> done) {
  Request request{std::move(user), nullptr, std::move(done)};
  if (!impl_->enqueue(request)) request.erased(failure(Errc::unreachable, "keys.db cannot be written now"));
}

}  // namespace onboarding::privacy
