// keys.db: the embedded key store (infra/docs/FORMAT.md, "keys.db"). One writing process; others open it read-only.
// SQLite, WAL, synchronous=FULL, secure_delete; keys wrapped by the master key; apart from the log, so that erasing a
// key makes every copy of the log forget.
//
// Threads: every method may be called from any thread. obtain() and erase() are carried out by a writer thread of the
// store's own ("keys-writer") with group commit: whoever waits together shares one fsync. Their callbacks run there (or,
// for a cached key, on the caller's thread) and must not block. Destroying the store carries out what was accepted.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "events/clock.hpp"
#include "events/privacy/key_store.hpp"

namespace onboarding::privacy {

struct SqliteKeyStoreOptions {
  std::size_t cached_users = 20'000;        // keys kept opened in memory, least recently used dropped and wiped
  std::size_t max_queued = 65'536;          // beyond: Errc::unreachable at once
  std::size_t max_batch = 4'096;            // operations that share a commit
  std::uint32_t scrub_patience_ms = 5'000;  // how long an erasure waits for readers to leave the WAL
  RandomSource* random = &system_random();
};

class SqliteKeyStore final : public KeyStore {
 public:
  /// Opens or creates `file`, mode 0600. Errc::bad_secret_file when it is wrapped by another master key or readable by
  /// others; Errc::unreachable when it cannot be opened, or another process writes it. An erasure that a crash cut off
  /// is finished here.
  static result<std::unique_ptr<SqliteKeyStore>> open(const std::filesystem::path& file,
                                                      const std::array<std::uint8_t, 32>& wrapping_key,
                                                      SqliteKeyStoreOptions = {});
  /// For other processes: find() only; obtain() and erase() answer Errc::unreachable. Sees erasures of the writing
  /// process at once.
  static result<std::unique_ptr<SqliteKeyStore>> open_read_only(const std::filesystem::path& file,
                                                                const std::array<std::uint8_t, 32>& wrapping_key,
                                                                SqliteKeyStoreOptions = {});
  ~SqliteKeyStore() override;

  void obtain(std::string user, Obtained done) override;
  result<SealingKeyPtr> find(std::string_view user, std::string_view key_id) override;
  void erase(std::string user, std::function<void(result<void>)> done) override;
  /// Why the last commit failed: Errc::unreachable. It is tried again every second until one succeeds. Any thread.
  result<void> writable() const;

 private:
  struct Impl;
  explicit SqliteKeyStore(std::unique_ptr<Impl>);
  std::unique_ptr<Impl> impl_;
};

}  // namespace onboarding::privacy
