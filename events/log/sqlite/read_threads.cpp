#include "events/log/sqlite/read_threads.hpp"

#include <pthread.h>

namespace onboarding::log {

Reads::Reads(std::string path, std::size_t max_waiting)
    : path_(std::move(path)), max_waiting_(max_waiting), thread_([this] { run(); }) {}

Reads::~Reads() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void Reads::stream(std::uint32_t partition, std::string name, std::uint64_t after_version, std::size_t max_records,
                   RecordsRead done) {
  {
    const std::lock_guard lock(mutex_);
    if (waiting_.size() < max_waiting_ && !closing_) {
      waiting_.push_back({partition, std::move(name), after_version, max_records, std::move(done)});
      wake_.notify_one();
      return;
    }
  }
  done(failure(Errc::overloaded, "too many reads wait"));
}

void Reads::run() {
  pthread_setname_np(pthread_self(), "log-read");
  for (;;) {
    Waiting next;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return closing_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      next = std::move(waiting_.front());
      waiting_.pop_front();
    }
    auto rows = borrow();
    if (!rows) {
      next.done(tl::unexpected(rows.error()));
      continue;
    }
    auto records = rows->stream(next.partition, next.name, next.after_version, next.max_records);
    if (records) give_back(std::move(*rows));
    next.done(std::move(records));
  }
}

result<std::vector<Record>> Reads::partition(std::uint32_t partition, std::uint64_t after_sequence, std::size_t max_records,
                                             std::size_t max_bytes) {
  auto rows = borrow();
  if (!rows) return tl::unexpected(rows.error());
  auto records = rows->partition(partition, after_sequence, max_records, max_bytes);
  if (records) give_back(std::move(*rows));
  return records;
}

result<Rows> Reads::borrow() {
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      Rows rows = std::move(idle_.back());
      idle_.pop_back();
      return rows;
    }
  }
  return Rows::open(path_);
}

void Reads::give_back(Rows rows) {
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(rows));
}

}  // namespace onboarding::log
