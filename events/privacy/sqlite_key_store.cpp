#include "events/privacy/sqlite_key_store.hpp"

#include <pthread.h>
#include <sodium.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

#include "events/privacy/keys_file.hpp"
#include "events/privacy/new_key.hpp"

namespace onboarding::privacy {
namespace {

// Commits follow one another no faster than this, so that those who come meanwhile share the next one.
constexpr auto between_commits = std::chrono::milliseconds(5);
constexpr auto between_probes = std::chrono::seconds(1);  // while the file cannot be written

struct Request {
  std::string user;
  KeyStore::Obtained obtained;               // an obtain
  std::function<void(result<void>)> erased;  // or an erasure
};

KeysFile::Options file_options(const SqliteKeyStoreOptions& options) {
  return {options.cached_users, options.scrub_patience_ms, options.random, {}};
}

}  // namespace

struct SqliteKeyStore::Impl {
  Impl(std::unique_ptr<KeysFile> opened, const WrappingKey& key, const SqliteKeyStoreOptions& given)
      : file(std::move(opened)), wrapping(key), options(given) {}
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

  /// False, and the request untouched, when there is no writer or it has too much to do.
  bool enqueue(Request& request) {
    {
      const std::lock_guard lock(queue_mutex);
      if (!file->writes() || queue.size() >= options.max_queued) return false;
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
        const auto wanted = [&] { return stopping || !queue.empty(); };
        if (unwritable) queue_changed.wait_for(lock, between_probes, wanted);
        else queue_changed.wait(lock, wanted);
        if (queue.empty() && stopping) return;
        queue_changed.wait_until(lock, next_commit, [&] { return stopping; });
        while (!queue.empty() && batch.size() < options.max_batch) {
          batch.push_back(std::move(queue.front()));
          queue.pop_front();
        }
      }
      const auto committed = carry_out(batch);
      const std::lock_guard lock(queue_mutex);
      unwritable = committed ? std::nullopt : std::optional(committed.error());
      next_commit = std::chrono::steady_clock::now() + between_commits;
    }
  }

  /// Whether it was committed.
  result<void> carry_out(std::vector<Request>& batch) {
    std::vector<SealingKeyPtr> keys(batch.size());
    std::vector<std::string> removed;  // wrapped keys that must not be found in the file any more
    auto committed = file->begin();
    if (committed) {
      if (unwritable) committed = file->touch();
      if (committed) committed = write(batch, keys, removed);
      if (committed) committed = file->commit();
      else file->roll_back();
    }
    const auto outcome = committed;
    // In the batch's order. An erased user leaves the cache even when the outcome is unknown.
    for (std::size_t i = 0; i < batch.size(); ++i) {
      if (batch[i].erased) file->forget_cached(batch[i].user);
      else if (committed) file->cache(batch[i].user, keys[i]);
    }
    for (std::size_t i = 0; i < batch.size(); ++i)
      if (batch[i].obtained) batch[i].obtained(committed ? result<SealingKeyPtr>(keys[i]) : tl::unexpected(committed.error()));
    if (std::none_of(batch.begin(), batch.end(), [](const Request& r) { return r.erased != nullptr; })) return outcome;
    if (committed && file->scrub_owed()) committed = file->scrub(removed);
    for (auto& request : batch)
      if (request.erased) request.erased(committed);
    return outcome;
  }

  result<void> write(const std::vector<Request>& batch, std::vector<SealingKeyPtr>& keys, std::vector<std::string>& removed) {
    for (std::size_t i = 0; i < batch.size(); ++i) {
      const std::string& user = batch[i].user;
      if (batch[i].erased) {
        if (auto done = file->remove(user, {}, removed); !done) return done;
        continue;
      }
      auto mine = file->usable_keys(user);
      if (!mine) return tl::unexpected(mine.error());
      if (mine->empty()) {
        auto key = new_key(*options.random);
        const auto wrapped = wrap(wrapping, key->bytes, user, key->id, *options.random);
        if (auto done = file->insert(user, key->id, wrapped); !done) return done;
        mine->push_back(std::move(key));
      }
      keys[i] = mine->back();
    }
    return {};
  }

  const std::unique_ptr<KeysFile> file;
  WrappingKey wrapping;
  const SqliteKeyStoreOptions options;

  std::mutex queue_mutex;
  std::condition_variable queue_changed;
  std::deque<Request> queue;
  bool stopping = false;
  std::optional<Failure> unwritable;  // changed by the writer alone
  std::thread writer;
};

result<std::unique_ptr<SqliteKeyStore>> SqliteKeyStore::open(const std::filesystem::path& file, const WrappingKey& wrapping_key,
                                                             SqliteKeyStoreOptions options) {
  auto opened = KeysFile::open(file, wrapping_key, file_options(options));
  if (!opened) return tl::unexpected(opened.error());
  auto impl = std::make_unique<Impl>(std::move(*opened), wrapping_key, options);
  impl->writer = std::thread([&store = *impl] { store.serve(); });
  return std::unique_ptr<SqliteKeyStore>(new SqliteKeyStore(std::move(impl)));
}

result<std::unique_ptr<SqliteKeyStore>> SqliteKeyStore::open_read_only(const std::filesystem::path& file,
                                                                       const WrappingKey& wrapping_key,
                                                                       SqliteKeyStoreOptions options) {
  auto opened = KeysFile::open_read_only(file, wrapping_key, file_options(options));
  if (!opened) return tl::unexpected(opened.error());
  auto impl = std::make_unique<Impl>(std::move(*opened), wrapping_key, options);
  return std::unique_ptr<SqliteKeyStore>(new SqliteKeyStore(std::move(impl)));
}

SqliteKeyStore::SqliteKeyStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SqliteKeyStore::~SqliteKeyStore() = default;

void SqliteKeyStore::obtain(std::string user, Obtained done) {
  if (impl_->file->writes())
    if (auto cached = impl_->file->cached(user)) return done(std::move(cached));
  Request request{std::move(user), std::move(done), nullptr};
  if (!impl_->enqueue(request)) request.obtained(failure(Errc::unreachable, "keys.db cannot be written now"));
}

result<SealingKeyPtr> SqliteKeyStore::find(std::string_view user, std::string_view key_id) {
  return impl_->file->find(user, key_id);
}

result<void> SqliteKeyStore::writable() const {
  const std::lock_guard lock(impl_->queue_mutex);
  if (impl_->unwritable) return tl::unexpected(*impl_->unwritable);
  return {};
}

void SqliteKeyStore::erase(std::string user, std::function<void(result<void>)> done) {
  Request request{std::move(user), nullptr, std::move(done)};
  if (!impl_->enqueue(request)) request.erased(failure(Errc::unreachable, "keys.db cannot be written now"));
}

}  // namespace onboarding::privacy
