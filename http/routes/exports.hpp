// The threads that feed exports: few, named, and joined before the server goes.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace onboarding::http {

class Router;
struct Api;

class Exports {
 public:
  static constexpr std::size_t most = 8;  // at the same time; beyond, 503

  ~Exports() { stop(); }
  /// Takes a place; false: there is none. Then start(), or leave() when it came to nothing.
  bool room();
  void leave();
  void start(std::function<void()> work);
  void stop();

  // For the work.
  bool ending();
  void wait(std::chrono::milliseconds most_time);  // until woken, at most so long
  void wake();

 private:
  struct Thread {
    std::shared_ptr<std::atomic<bool>> done;
    std::jthread thread;
  };
  std::mutex mutex_;
  std::condition_variable woken_;
  std::vector<Thread> threads_;
  std::size_t running_ = 0;
  std::uint64_t wakes_ = 0;
  bool ending_ = false;
};

/// /api/events, admin. `exports` outlives the server's requests.
void add_event_routes(Router&, Api&, Exports& exports);

}  // namespace onboarding::http
