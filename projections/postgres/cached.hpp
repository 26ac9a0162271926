// Answers that may be some seconds old: one question at a time is under way for each, however many ask, and who comes while a stale
// answer is renewed gets the stale one at once. What took long to fetch is kept longer, so that asking costs PostgreSQL a tenth of its time
// at the most. Thread-safe.
#pragma once

#include <algorithm>
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
  /// An answer is kept at least so many times as long as it took.
  static constexpr int times_its_cost = 10;

  /// 0: nothing is kept.
  explicit Cached(std::chrono::milliseconds ttl, std::function<Clock::time_point()> now = Clock::now)
      : ttl_(ttl), now_(std::move(now)) {}

  /// `fetch(Done)` is called when a new answer is wanted, outside of all locks; it may answer later, but while this lives. True: the
  /// answer was there.
  template <class Fetch>
  bool get(std::uint32_t key, Done done, Fetch&& fetch) {
    if (ttl_.count() == 0) {
      fetch(std::move(done));
      return false;
    }
    std::shared_ptr<const T> known;
    bool begin = false;
    const auto now = now_();
    {
      const std::lock_guard lock(mutex_);
      Entry& entry = entries_[key];
      const auto age = now - entry.asked;
      if (entry.value && age < entry.keep * stale_ttls) known = entry.value;
      if (!known) entry.waiting.push_back(std::move(done));
      begin = !entry.asking && (!known || age >= entry.keep);
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
    Clock::duration keep{};
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
        entry.keep = std::max<Clock::duration>(ttl_, (now_() - asked) * times_its_cost);
      }
    }
    for (const Done& done : waiting) done(answer);
  }

  const std::chrono::milliseconds ttl_;
  const std::function<Clock::time_point()> now_;
  std::mutex mutex_;
  std::map<std::uint32_t, Entry> entries_;  // as many as there are different questions: `days` is bounded by the routes
};

}  // namespace onboarding::projections
