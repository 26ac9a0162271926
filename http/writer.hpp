// The thread behind every connection's output and time-outs ("http-writer"): one epoll loop of our own. Whoever answers
// sends at once, on his own thread; only what the socket does not take waits here, so that a slow reader costs itself
// and nobody else.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "events/domain/result.hpp"

namespace onboarding::http {

/// Milliseconds of the monotonic clock.
inline std::int64_t monotonic_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// What the loop knows of a connection, or of an answer that is written piece by piece.
class Channel {
 public:
  virtual ~Channel() = default;
  virtual void on_writable() {}
  virtual void on_deadline(std::int64_t now_ms) = 0;
  virtual void on_drain() {}  // the server begins to shut down
  /// True while an answer has not been handed to the kernel.
  virtual bool owes() const { return false; }
  /// True while a client may still begin a request on it.
  virtual bool may_ask() const { return false; }
  /// Ends it now if nothing is under way; otherwise after what is.
  virtual void close_when_idle() {}
  virtual void cut(std::string_view) {}

  static constexpr std::int64_t never = INT64_MAX;
  std::atomic<std::int64_t> deadline_ms{never};
  std::uint64_t channel_id = 0;  // given by Writer::add
};

class Writer {
 public:
  static result<std::shared_ptr<Writer>> start();
  ~Writer();
  void stop();  // joins; no callback runs afterwards

  void add(std::shared_ptr<Channel>);
  void remove(const Channel&);
  std::vector<std::shared_ptr<Channel>> channels() const;
  /// Calls on_writable once when `fd` takes bytes again. False: it could not be watched.
  bool watch(int fd, const Channel&);
  void unwatch(int fd);
  /// Runs on the loop's thread. Dropped once stopped.
  void post(std::function<void()>);

 private:
  Writer(int epoll, int wake) : epoll_(epoll), wake_(wake) {}
  void run();
  void fire_deadlines();

  const int epoll_, wake_;
  mutable std::mutex mutex_;
  std::unordered_map<std::uint64_t, std::shared_ptr<Channel>> channels_;
  std::vector<std::function<void()>> posted_;
  std::uint64_t next_id_ = 1;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace onboarding::http
