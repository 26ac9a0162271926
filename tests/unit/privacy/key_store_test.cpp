#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <future>
#include <thread>

#include "events/fault_point.hpp"
#include "events/privacy/memory_key_store.hpp"
#include "events/privacy/sqlite_key_store.hpp"
#include "tests/contract/privacy/key_store_contract.hpp"
#include "tests/unit/privacy/temporary_folder.hpp"

#include <sqlite3.h>

namespace onboarding::privacy {
namespace {

constexpr std::array<std::uint8_t, 32> wrapping{1, 2, 3};

/// Everybody at once, so that they share commits.
void obtain_all(KeyStore& store, const std::vector<std::string>& users) {
  std::atomic<std::size_t> answered = 0;
  std::promise<void> all;
  for (const auto& user : users)
    store.obtain(user, [&](auto) {
      if (++answered == users.size()) all.set_value();
    });
  all.get_future().wait();
}
std::vector<std::string> users(int count) {
  std::vector<std::string> names;
  for (int i = 0; i < count; ++i) names.push_back("user" + std::to_string(i * 7919 % 1009));
  return names;
}

TEST(MemoryKeys, can_be_out_of_reach_and_come_back) {
  MemoryKeyStore store;
  const auto key = obtain(store, "zoe").value();
  store.set_reachable(false);
  EXPECT_EQ(obtain(store, "zoe").error().code, Errc::unreachable);
  EXPECT_EQ(store.find("zoe", key->id).error().code, Errc::unreachable);
  EXPECT_EQ(erase(store, "zoe").error().code, Errc::unreachable);
  store.set_reachable(true);
  EXPECT_EQ(store.find("zoe", key->id).value()->bytes, key->bytes);
}

TEST(MemoryKeys, that_come_while_an_erasure_asks_are_not_its_own) {
  MemoryKeyStore store;
  const auto zoe = obtain(store, "zoe").value();
  auto later = std::make_shared<SealingKey>();
  later->id = "0123456789abcdef";
  const auto answered_by = [&](const result<void>& answer) {
    result<void> how = failure(Errc::lost);
    store.erase_if(
        "zoe",
        [&](const auto& confirmed) {
          if (answer) store.put("zoe", later);
          confirmed(answer);
        },
        [&](result<void> ended) { how = std::move(ended); });
    return how;
  };
  EXPECT_EQ(answered_by(failure(Errc::unreachable)).error().code, Errc::unreachable);
  EXPECT_TRUE(store.find("zoe", zoe->id));
  EXPECT_TRUE(answered_by({}));
  EXPECT_FALSE(store.find("zoe", zoe->id));
  EXPECT_TRUE(store.find("zoe", later->id));
}

// ---- keys.db

struct KeysDb : testing::Test {
  TemporaryFolder folder;
  std::filesystem::path file = folder.path / "keys.db";

  std::unique_ptr<SqliteKeyStore> open() { return SqliteKeyStore::open(file, wrapping).value(); }
  ~KeysDb() override { FaultPoint::arm(""); }

  std::string bytes_of(const char* suffix) const {
    std::ifstream in(file.string() + suffix, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  bool anywhere(const std::string& needle) const {
    for (const char* suffix : {"", "-wal", "-shm", "-journal"})
      if (bytes_of(suffix).find(needle) != std::string::npos) return true;
    return false;
  }
  /// The stored form of a user's key, read by a stranger to the store.
  std::string wrapped_key(const std::string& user) const {
    sqlite3* db = nullptr;
    sqlite3_open_v2(file.c_str(), &db, SQLITE_OPEN_READONLY, nullptr);
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
    sqlite3_stmt* statement = nullptr;
    sqlite3_prepare_v2(db, "SELECT wrapped FROM keys WHERE user = ?", -1, &statement, nullptr);
    sqlite3_bind_text(statement, 1, user.c_str(), -1, SQLITE_STATIC);
    std::string wrapped;
    if (sqlite3_step(statement) == SQLITE_ROW)
      wrapped.assign(static_cast<const char*>(sqlite3_column_blob(statement, 0)),
                     static_cast<std::size_t>(sqlite3_column_bytes(statement, 0)));
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return wrapped;
  }
};

TEST_F(KeysDb, keeps_keys_over_a_restart_and_out_of_the_file_in_clear) {
  auto store = open();
  const auto key = obtain(*store, "zoe").value();
  store.reset();
  store = open();
  EXPECT_EQ(store->find("zoe", key->id).value()->bytes, key->bytes);
  EXPECT_EQ(obtain(*store, "zoe").value()->id, key->id);
  EXPECT_FALSE(anywhere(std::string(key->bytes.begin(), key->bytes.end())));
  struct stat status {};
  ASSERT_EQ(::stat(file.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
}

TEST_F(KeysDb, leaves_no_copy_of_an_erased_key_in_any_of_its_files) {
  auto store = open();
  obtain_all(*store, users(150));
  obtain(*store, "zoe");
  obtain_all(*store, users(300));
  const auto id = obtain(*store, "zoe").value()->id;
  const auto wrapped = wrapped_key("zoe");
  ASSERT_EQ(wrapped.size(), 72U);
  ASSERT_TRUE(anywhere(wrapped)) << "else this test proves nothing";
  ASSERT_TRUE(erase(*store, "zoe"));
  EXPECT_FALSE(anywhere(wrapped));
  EXPECT_FALSE(anywhere(id)) << "nor its name";
  EXPECT_TRUE(obtain(*store, "user0"));
}

TEST_F(KeysDb, leaves_no_copy_of_many_users_erased_one_by_one_in_any_order) {
  auto store = open();
  std::vector<std::string> wrapped;
  const auto names = users(400);
  obtain_all(*store, names);
  for (const auto& name : names) wrapped.push_back(wrapped_key(name));
  for (int n = 0; n < 40; ++n) {
    const int i = n * 37 % 399;
    ASSERT_TRUE(erase(*store, names[static_cast<std::size_t>(i)]));
    EXPECT_FALSE(anywhere(wrapped[static_cast<std::size_t>(i)])) << i;
  }
  EXPECT_TRUE(anywhere(wrapped[399])) << "the living are still there";
}

TEST_F(KeysDb, finds_more_users_than_it_keeps_in_memory) {
  SqliteKeyStoreOptions options;
  options.cached_users = 3;
  auto store = SqliteKeyStore::open(file, wrapping, options).value();
  std::vector<SealingKeyPtr> keys;
  for (int i = 0; i < 10; ++i) keys.push_back(obtain(*store, "user" + std::to_string(i)).value());
  for (int i = 9; i >= 0; --i)
    EXPECT_EQ(store->find("user" + std::to_string(i), keys[static_cast<std::size_t>(i)]->id).value()->bytes,
              keys[static_cast<std::size_t>(i)]->bytes);
}

TEST_F(KeysDb, is_refused_with_another_master_key_or_when_others_may_read_it) {
  open();
  EXPECT_EQ(SqliteKeyStore::open(file, {9}).error().code, Errc::bad_secret_file);
  EXPECT_EQ(SqliteKeyStore::open_read_only(file, {9}).error().code, Errc::bad_secret_file);
  ::chmod(file.c_str(), 0644);
  EXPECT_EQ(SqliteKeyStore::open(file, wrapping).error().code, Errc::bad_secret_file);
}

TEST_F(KeysDb, has_one_writer) {
  auto store = open();
  EXPECT_EQ(SqliteKeyStore::open(file, wrapping).error().code, Errc::unreachable);
  store.reset();
  EXPECT_TRUE(SqliteKeyStore::open(file, wrapping));
}

TEST_F(KeysDb, tells_while_it_cannot_be_written_and_finds_out_by_itself_when_it_can_again) {
  const auto store = open();
  EXPECT_TRUE(store->writable());
  FaultPoint::arm("keys.before_commit=error");
  EXPECT_FALSE(obtain(*store, "zoe"));
  const auto is = [&](bool writable) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (store->writable().has_value() != writable && std::chrono::steady_clock::now() < deadline)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return store->writable().has_value() == writable;
  };
  EXPECT_TRUE(is(false));
  EXPECT_FALSE(obtain(*store, "ann"));
  EXPECT_FALSE(store->writable());
  FaultPoint::arm("");
  EXPECT_TRUE(is(true)) << "nobody asked for a key meanwhile";
  EXPECT_TRUE(obtain(*store, "zoe"));
}

TEST_F(KeysDb, is_unreachable_when_it_is_no_database_or_missing) {
  EXPECT_EQ(SqliteKeyStore::open_read_only(file, wrapping).error().code, Errc::unreachable);
  EXPECT_EQ(SqliteKeyStore::open(folder.path / "missing" / "keys.db", wrapping).error().code, Errc::unreachable);
  std::ofstream(file) << std::string(8192, 'x');
  ::chmod(file.c_str(), 0600);
  EXPECT_EQ(SqliteKeyStore::open(file, wrapping).error().code, Errc::unreachable);
}

TEST_F(KeysDb, does_not_open_a_key_that_was_moved_to_another_user) {
  auto store = open();
  const auto zoe = obtain(*store, "zoe").value();
  obtain(*store, "ann");
  store.reset();
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(file.c_str(), &db), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(db, "UPDATE keys SET wrapped = (SELECT wrapped FROM keys WHERE user = 'zoe') WHERE user = 'ann'",
                         nullptr, nullptr, nullptr),
            SQLITE_OK);
  sqlite3_close(db);
  store = open();
  EXPECT_EQ(obtain(*store, "ann").error().code, Errc::forged);
  EXPECT_EQ(store->find("zoe", zoe->id).value()->bytes, zoe->bytes);
}

TEST_F(KeysDb, is_followed_by_a_reader_that_writes_nothing) {
  auto store = open();
  auto reader = SqliteKeyStore::open_read_only(file, wrapping).value();
  const auto zoe = obtain(*store, "zoe").value(), ann = obtain(*store, "ann").value();
  EXPECT_EQ(reader->find("zoe", zoe->id).value()->bytes, zoe->bytes);
  EXPECT_EQ(reader->find("ann", ann->id).value()->bytes, ann->bytes);
  EXPECT_EQ(obtain(*reader, "zoe").error().code, Errc::unreachable);
  EXPECT_EQ(erase(*reader, "zoe").error().code, Errc::unreachable);
  ASSERT_TRUE(erase(*store, "zoe"));
  EXPECT_EQ(reader->find("zoe", zoe->id).error().code, Errc::erased) << "though it had been cached";
  EXPECT_EQ(reader->find("ann", ann->id).value()->bytes, ann->bytes);
}

TEST_F(KeysDb, waits_for_a_reader_in_the_wal_before_it_says_erased) {
  SqliteKeyStoreOptions options;
  options.scrub_patience_ms = 50;
  auto store = SqliteKeyStore::open(file, wrapping, options).value();
  obtain(*store, "ann");
  obtain(*store, "zoe");
  const auto wrapped = wrapped_key("zoe");
  sqlite3* reader = nullptr;
  sqlite3_open_v2(file.c_str(), &reader, SQLITE_OPEN_READONLY, nullptr);
  sqlite3_db_config(reader, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  sqlite3_exec(reader, "BEGIN; SELECT count(*) FROM keys", nullptr, nullptr, nullptr);
  EXPECT_EQ(erase(*store, "zoe").error().code, Errc::unreachable) << "a copy is still in the WAL";
  sqlite3_close(reader);
  EXPECT_TRUE(erase(*store, "zoe"));
  EXPECT_FALSE(anywhere(wrapped));
}

// ---- faults

TEST_F(KeysDb, gives_no_key_that_was_not_committed) {
  auto store = open();
  FaultPoint::arm("keys.before_commit=error");
  EXPECT_EQ(obtain(*store, "zoe").error().code, Errc::unreachable);
  FaultPoint::arm("");
  EXPECT_EQ(wrapped_key("zoe"), "");
  EXPECT_TRUE(obtain(*store, "zoe"));
}

TEST_F(KeysDb, gives_the_committed_key_when_the_answer_was_lost) {
  auto store = open();
  FaultPoint::arm("keys.after_commit=error");
  EXPECT_EQ(obtain(*store, "zoe").error().code, Errc::unreachable);
  FaultPoint::arm("");
  const auto wrapped = wrapped_key("zoe");
  EXPECT_NE(wrapped, "");
  EXPECT_TRUE(obtain(*store, "zoe"));
  EXPECT_EQ(wrapped_key("zoe"), wrapped);
}

TEST_F(KeysDb, finishes_an_erasure_that_failed_on_the_way_when_asked_again) {
  auto store = open();
  for (const char* point : {"keys.before_commit", "keys.after_commit", "keys.before_scrub", "keys.after_scrub"}) {
    obtain(*store, "zoe");
    const auto wrapped = wrapped_key("zoe");
    FaultPoint::arm(std::string(point) + "=error");
    EXPECT_EQ(erase(*store, "zoe").error().code, Errc::unreachable) << point;
    FaultPoint::arm("");
    EXPECT_TRUE(erase(*store, "zoe")) << point;
    EXPECT_FALSE(anywhere(wrapped)) << point;
  }
}

/// A crash at each step, in a process of its own: what was answered holds, and an erasure that had been committed ends.
TEST_F(KeysDb, survives_a_crash_at_every_step) {
  for (const char* point : {"keys.before_commit", "keys.after_commit", "keys.before_scrub", "keys.after_scrub"}) {
    const bool committed = std::string_view(point) != "keys.before_commit";
    std::string kept;
    {
      auto store = open();
      kept = obtain(*store, "kept").value()->id;
      obtain(*store, "zoe");
    }
    const auto wrapped = wrapped_key("zoe");
    ASSERT_NE(wrapped, "");
    const pid_t child = ::fork();
    if (child == 0) {
      auto store = open();
      FaultPoint::arm(std::string(point) + "=crash");
      erase(*store, "zoe");
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << point;
    auto store = open();
    EXPECT_EQ(store->find("kept", kept).value()->id, kept);
    EXPECT_EQ(anywhere(wrapped), !committed) << point;
    ASSERT_TRUE(erase(*store, "zoe"));
    EXPECT_FALSE(anywhere(wrapped)) << point;
  }
}

}  // namespace
}  // namespace onboarding::privacy
