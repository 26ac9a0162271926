// Who wants to know that a partition's head moved. Thread-safe.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "events/log/event_log.hpp"

namespace onboarding::log {

class Subscribers {
 public:
  using OnAdvance = std::function<void(std::uint32_t partition)>;

  /// May outlive the log. Its destructor waits for a callback that runs on another thread; a callback may destroy its
  /// own subscription.
  std::unique_ptr<Subscription> add(OnAdvance);
  /// Calls every subscriber for each partition, on the calling thread.
  void notify(std::span<const std::uint32_t> partitions);

 private:
  struct Subscriber {
    std::recursive_mutex running;
    OnAdvance on_advance;
    bool alive = true;
  };
  class Handle;
  std::mutex mutex_;
  std::vector<std::weak_ptr<Subscriber>> subscribers_;
};

}  // namespace onboarding::log
