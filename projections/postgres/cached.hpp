// Answers that may be some seconds old: one question at a time is under way for each, however many ask, and who comes while a stale
// answer is renewed gets the stale one at once. Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "events/domain/result.hpp"

namespace onboarding::projections {

template <class T>
class Cached {
 public:
  using Clock = std::chrono::steady_clock;
  using Done = std::function<void(result<T>)>;
  /// How long a stale answer is given while the new one is fetched, in times of `ttl`.
  static constexpr int stale_ttls = 5;

  /// 0: nothing is kept.
  explicit Cached(std::chrono::milliseconds ttl) : ttl_(ttl) {}

  /// `fetch(Done)` is called when a new answer is wanted, outside of all locks; it may answer later, but while this lives. True: the
  /// answer was there.
  template <class Fetch>
  bool get(std::uint32_t key, Clock::time_point now, Done done, Fetch&& fetch) {
    if (ttl_.count() == 0) {
      fetch(std::move(done));
      return false;
    }
    std::shared_ptr<const T> known;
    bool begin = false;
    {
      const std::lock_guard lock(mutex_);
      Entry& entry = entries_[key];
      const auto age = now - entry.asked;
      if (entry.value && age < ttl_ * stale_ttls) known = entry.value;
      if (!known) entry.waiting.push_back(std::move(done));
      begin = !entry.asking && (!known || age >= ttl_);
      entry.asking = entry.asking || begin;
    }
    if (begin) fetch([this, key, now](result<T> answer) { take(key, now, std::move(answer)); });
    if (known) done(*known);
    return known != nullptr;
  }

 private:
  struct Entry {
    std::shared_ptr<const T> value;
    Clock::time_point asked{};
    bool asking = false;
    std::vector<Done> waiting;
  };

  void take(std::uint32_t key, Clock::time_point asked, result<T> answer) {
    std::vector<Done> waiting;
    {
      const std::lock_guard lock(mutex_);
      Entry& entry = entries_[key];
      entry.asking = false;
      waiting.swap(entry.waiting);
      if (answer) {
        entry.value = std::make_shared<const T>(*answer);
        entry.asked = asked;
      }
    }
    for (const Done& done : waiting) done(answer);
  }

  const std::chrono::milliseconds ttl_;
  std::mutex mutex_;
  std::map<std::uint32_t, Entry> entries_;  // as many as there are different questions: `days` is bounded by the routes
};

}  // namespace onboarding::projections
