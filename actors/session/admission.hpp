// How many requests are accepted and not yet answered, and the way back to each caller. Mailboxes are unbounded: this
// count, taken before anything is sent, is what bounds them.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "actors/gateway.hpp"
#include "actors/session/planted.hpp"

namespace onboarding::session {

class Admission {
 public:
  explicit Admission(std::size_t limit) : limit_(limit) {}

  /// Counts one request in, or says why not.
  result<void> enter();
  void leave();
  /// From now on nothing is let in; `done` is called once nobody is inside.
  void close(std::function<void()> done);
  bool closed() const { return closed_.load(); }
  std::size_t inside() const { return inside_.load(std::memory_order_relaxed); }

 private:
  void tell_when_empty();

  const std::size_t limit_;
  std::atomic<std::size_t> inside_{0};
  std::atomic<bool> closed_{false};
  std::mutex mutex_;
  std::vector<std::function<void()>> on_empty_;
};

/// Answers one caller exactly once: a reply that is dropped without an answer (its actor died) answers `in_doubt`.
/// Belongs to one actor at a time.
template <class T>
class Reply {
 public:
  Reply(Gateway::Done<T> done, std::shared_ptr<Admission> admission) : done_(std::move(done)), admission_(std::move(admission)) {}
  Reply(Reply&& other) noexcept : done_(std::exchange(other.done_, nullptr)), admission_(std::move(other.admission_)) {}
  Reply& operator=(Reply&&) = delete;
  ~Reply() { (*this)(failure(make_error_code(GatewayErrc::in_doubt))); }

  bool open() const { return static_cast<bool>(done_); }
  void operator()(result<T> answer) {
    if (!done_) return;
    const auto done = std::exchange(done_, nullptr);
    if (planted(Plant::double_answer)) done(answer);
    done(std::move(answer));
    admission_->leave();
  }

 private:
  Gateway::Done<T> done_;
  std::shared_ptr<Admission> admission_;
};

/// Callbacks that the log, the key store or a blocking look-up still owe us. The actor system outlives them.
class CallbacksUnderWay {
 public:
  void begin() { count_.fetch_add(1, std::memory_order_relaxed); }
  void end() {
    if (count_.fetch_sub(1, std::memory_order_release) == 1) count_.notify_all();
  }
  std::size_t count() const { return count_.load(std::memory_order_acquire); }
  void wait_for_none() const {
    for (std::size_t left = count(); left != 0; left = count()) count_.wait(left);
  }

 private:
  std::atomic<std::size_t> count_{0};
};

}  // namespace onboarding::session
