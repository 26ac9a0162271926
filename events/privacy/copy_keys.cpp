#include "events/privacy/copy_keys.hpp"

#include <sodium.h>
#include <sqlite3.h>

#include <array>
#include <fstream>
#include <memory>

#include "events/privacy/key_store.hpp"
#include "events/privacy/keys_file.hpp"
#include "events/privacy/secret_file.hpp"

namespace onboarding::privacy {
namespace {

struct Close {
  void operator()(sqlite3* db) const { sqlite3_close(db); }
};
using Database = std::unique_ptr<sqlite3, Close>;

result<Database> open(const std::filesystem::path& file, int flags) {
  sqlite3* db = nullptr;
  const int code = sqlite3_open_v2(file.c_str(), &db, flags, nullptr);
  Database opened(db);
  if (code != SQLITE_OK) return failure(Errc::unreachable, file.string() + ": " + sqlite3_errmsg(db));
  sqlite3_busy_timeout(db, 5000);
  return opened;
}

}  // namespace

result<void> copy_keys(const std::filesystem::path& from, const std::filesystem::path& to) {
  std::error_code ignored;
  if (std::filesystem::exists(to, ignored)) return failure(Errc::unreachable, to.string() + " is there already");
  auto source = open(from, SQLITE_OPEN_READONLY);
  if (!source) return tl::unexpected(source.error());
  // Only the writing process may checkpoint.
  sqlite3_db_config(source->get(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  auto target = open(to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
  if (!target) return tl::unexpected(target.error());
  sqlite3_backup* copying = sqlite3_backup_init(target->get(), "main", source->get(), "main");
  int code = copying == nullptr ? SQLITE_ERROR : SQLITE_BUSY;
  // All at once: in one read transaction, which the writer does not wait for.
  for (int tries = 0; tries < 100 && (code == SQLITE_BUSY || code == SQLITE_LOCKED); ++tries) {
    code = sqlite3_backup_step(copying, -1);
    if (code == SQLITE_BUSY || code == SQLITE_LOCKED) sqlite3_sleep(20);
  }
  sqlite3_backup_finish(copying);
  if (code != SQLITE_DONE) return failure(Errc::unreachable, from.string() + ": copy: " + sqlite3_errmsg(target->get()));
  return {};
}

result<void> keys_from_copy(const std::filesystem::path& file, const std::string& topic,
                            const std::array<std::uint8_t, 32>& wrapping_key) {
  KeysFile::Options of_copy;
  of_copy.copy_of = topic;
  const std::filesystem::path made = file.string() + ".embedded-new";
  std::error_code error;
  for (const char* end : {"", "-wal", "-shm"}) std::filesystem::remove(made.string() + end, error);
  {
    auto copy = KeysFile::open(file, wrapping_key, of_copy);
    if (!copy) return tl::unexpected(copy.error());
    auto store = KeysFile::open(made, wrapping_key, {});
    if (!store) return tl::unexpected(store.error());
    result<void> done = (*store)->begin();
    for (std::int64_t after = 0; done;) {
      const auto rows = (*copy)->rows(after, 1024);
      if (!rows) return tl::unexpected(rows.error());
      if (rows->empty()) break;
      for (const KeysFile::Row& row : *rows) {
        const auto dead = (*copy)->dead(row.user, row.key_id);
        if (!dead) return tl::unexpected(dead.error());
        if (done && !*dead) done = (*store)->insert(row.user, row.key_id, row.wrapped);
      }
      after = rows->back().n;
    }
    if (done) done = (*store)->commit();
    if (!done) return done;
  }
  std::filesystem::rename(made, file, error);
  if (error) return failure(Errc::unreachable, file.string() + ": " + error.message());
  std::filesystem::remove(made.string() + ".lock", error);
  return sync_folder(file.parent_path());
}

result<std::string> sha256_of_file(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  crypto_hash_sha256_state state;
  crypto_hash_sha256_init(&state);
  std::array<char, 1 << 16> bytes;
  while (in.read(bytes.data(), bytes.size()), in.gcount() > 0)
    crypto_hash_sha256_update(&state, reinterpret_cast<const unsigned char*>(bytes.data()),
                              static_cast<unsigned long long>(in.gcount()));
  if (!in.eof()) return failure(Errc::unreachable, file.string() + ": cannot be read");
  std::array<unsigned char, crypto_hash_sha256_BYTES> hash;
  crypto_hash_sha256_final(&state, hash.data());
  std::string hex(hash.size() * 2 + 1, '\0');
  sodium_bin2hex(hex.data(), hex.size(), hash.data(), hash.size());
  hex.pop_back();
  return hex;
}

}  // namespace onboarding::privacy
