// The file keys.db (infra/docs/FORMAT.md, "keys.db"): wrapped keys in SQLite (WAL, synchronous=FULL, secure_delete), a bounded cache of
// opened ones, and erasure that leaves no copy. No thread of its own. Private to the key stores.
//
// The file is an embedded store's, which alone knows these keys, or a copy of the keys in a topic; it stays what it was made as. A copy also
// knows which keys are **dead**: named by a counted UserErased, or erased in the topic. Nothing is sealed with a dead key any more; it
// opens what it sealed until it is removed.
#pragma once

#include <sys/types.h>

#include <array>
#include <filesystem>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "events/clock.hpp"
#include "events/privacy/key_store.hpp"

struct sqlite3;
struct sqlite3_stmt;

namespace onboarding::privacy {

using WrappingKey = std::array<std::uint8_t, 32>;
inline constexpr std::size_t wrapped_bytes = 72;

/// 72 bytes that open only under this wrapping key, for this user and key id.
std::string wrap(const WrappingKey&, const std::array<std::uint8_t, 32>& key, std::string_view user, std::string_view key_id,
                 RandomSource&);
/// Errc::forged
result<SealingKeyPtr> unwrap(const WrappingKey&, std::string_view wrapped, std::string_view user, std::string_view key_id);

class KeysFile {
 public:
  struct Options {
    std::size_t cached_users = 20'000;        // used last; the others are dropped and wiped
    std::uint32_t scrub_patience_ms = 5'000;  // how long an erasure waits for readers to leave the WAL
    RandomSource* random = &system_random();
    std::string copy_of = {};  // the topic; empty: the file is the only store
  };
  struct Row {
    std::int64_t n = 0;
    std::string user, key_id, wrapped;
  };
  struct Dead {
    std::string user, key_id;
    std::int64_t partition = -1;  // of the log, whose owner sees to it; -1: only the topic said so
    bool wanted = false;          // the topic still has, or has again, a key that must go
  };

  /// Errc::bad_secret_file when it is wrapped by another master key, readable by others, or the other kind of file; Errc::unreachable
  /// when it cannot be opened or another process writes it. An erasure that a crash cut off is finished here.
  static result<std::unique_ptr<KeysFile>> open(const std::filesystem::path&, const WrappingKey&, Options);
  /// Either kind of file, beside its writer: find() only.
  static result<std::unique_ptr<KeysFile>> open_read_only(const std::filesystem::path&, const WrappingKey&, Options);
  ~KeysFile();
  /// There is a file, and it is no sound database.
  static bool damaged(const std::filesystem::path&);

  // ---- any thread
  /// Errc::erased when it is not here; where another process writes a copy, only when it is dead, else Errc::unreachable: it may be on its
  /// way.
  result<SealingKeyPtr> find(std::string_view user, std::string_view key_id);
  /// The user's newest key, when it is in memory.
  SealingKeyPtr cached(const std::string& user);
  void forget_cached(const std::string& user);
  bool writes() const { return write_db_ != nullptr; }

  // ---- one thread, of the process that writes
  result<void> begin();
  /// `broken()` afterwards when nobody knows any more what the disk holds.
  result<void> commit();
  void roll_back();
  /// Writes what is there once more: whether the disk takes it, the commit says.
  result<void> touch();
  bool broken() const { return broken_; }
  /// Oldest first, without those that are dead.
  result<std::vector<SealingKeyPtr>> usable_keys(std::string_view user);
  result<void> insert(std::string_view user, std::string_view key_id, std::string_view wrapped);
  /// The one, or all of the user's when `key_id` is empty; what was removed is appended to `removed`, to be scrubbed after the commit.
  result<void> remove(std::string_view user, std::string_view key_id, std::vector<std::string>& removed);
  /// Brings what is cached to what was committed.
  void cache(const std::string& user, const SealingKeyPtr&);
  /// Leaves no copy of what was removed, also of what an earlier call could not.
  result<void> scrub(const std::vector<std::string>& removed);
  bool scrub_owed() const { return must_scrub_; }
  result<std::vector<Row>> rows(std::int64_t after, int limit);

  // ---- of a copy
  result<bool> has(std::string_view user, std::string_view key_id);
  result<std::vector<std::string>> key_ids(std::string_view user);
  result<void> mark_dead(const Dead&);
  result<std::optional<Dead>> dead(std::string_view user, std::string_view key_id);
  result<bool> has_dead(std::string_view user);
  result<std::vector<Dead>> wanted(int limit);
  result<std::optional<std::string>> note(std::string_view name);
  result<void> keep_note(std::string_view name, std::string_view value);

 private:
  struct CloseDatabase {
    void operator()(sqlite3*) const;
  };
  struct FinalizeStatement {
    void operator()(sqlite3_stmt*) const;
  };
  using Database = std::unique_ptr<sqlite3, CloseDatabase>;
  using Statement = std::unique_ptr<sqlite3_stmt, FinalizeStatement>;
  class Use;
  /// The opened keys of the users seen last, newest key last.
  class Cache {
   public:
    explicit Cache(std::size_t capacity) : capacity_(capacity) {}
    const std::vector<SealingKeyPtr>* find(const std::string& user);
    /// The newest, if it may seal.
    SealingKeyPtr usable(const std::string& user);
    void put(const std::string& user, std::vector<SealingKeyPtr> keys, bool usable);
    void evict(const std::string& user);
    void clear();

   private:
    struct Entry {
      std::string user;
      std::vector<SealingKeyPtr> keys;
      bool usable;  // the newest is not dead
    };
    std::size_t capacity_;
    std::list<Entry> entries_;  // used last first
    std::unordered_map<std::string, std::list<Entry>::iterator> index_;
  };

  KeysFile(const WrappingKey& key, Options options)
      : wrapping_(key), options_(std::move(options)), cache_(options_.cached_users) {}
  result<void> lock_file(const std::filesystem::path&);
  result<Database> open_database(const std::filesystem::path&, bool writes) const;
  result<void> open_for_writing(const std::filesystem::path&);
  result<void> open_for_reading(const std::filesystem::path&);
  result<void> create_tables();
  result<void> check_wrapping(sqlite3*) const;
  result<void> read_kind(sqlite3*);
  static Statement prepare(sqlite3*, const char* sql);
  result<void> follow_file();
  result<std::vector<SealingKeyPtr>> load(const Statement&, sqlite3*, std::string_view user) const;
  result<void> follow_erasures();
  result<void> empty_wal();
  bool holds_any(const std::vector<std::string>& needles);
  result<void> finish_interrupted_scrub();

  WrappingKey wrapping_;
  const Options options_;
  std::string copy_of_;  // as the file says

  // Members end in reverse: statements before their databases, the lock last.
  struct Lock {
    int fd = -1;
    ~Lock();
  } lock_held_;

  Database write_db_;
  Statement select_usable_, select_one_, insert_, get_dead_;
  bool broken_ = false;
  bool must_scrub_ = false;   // removed rows were committed and not yet proved gone
  bool removed_any_ = false;  // in the transaction under way
  bool vacuum_owed_ = false;  // what to search for is not known any more

  std::mutex read_mutex_;       // before cache_mutex_
  std::filesystem::path path_;  // of who only reads
  ino_t inode_ = 0;
  Database read_db_;
  Statement select_keys_, select_dead_, data_version_, erasures_;
  std::int64_t seen_data_version_ = -1, seen_erasures_ = -1;

  std::mutex cache_mutex_;
  Cache cache_;
};

}  // namespace onboarding::privacy
