// The reply to one turn on its way from a model to those who look on, past the session's actor. Thread-safe.
#pragma once

#include <algorithm>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "actors/gateway.hpp"
#include "actors/model/extraction.hpp"

namespace onboarding::session {

class ReplyRelay final : public model::ReplyWatch {
 public:
  explicit ReplyRelay(std::string turn_id) : turn_id_(std::move(turn_id)) {}

  /// Whoever comes while it is written gets first what there is.
  void add(std::shared_ptr<SessionWatcher> watcher) {
    const std::lock_guard lock(mutex_);
    if (!so_far_.empty()) watcher->writing(turn_id_, so_far_, true);
    watchers_.push_back(std::move(watcher));
  }

  bool watched() const override {
    const std::lock_guard lock(mutex_);
    return std::any_of(watchers_.begin(), watchers_.end(), [](const auto& watcher) { return watcher->interested(); });
  }

  void write(std::string_view text, bool restart) override {
    const std::lock_guard lock(mutex_);
    if (restart) so_far_.clear();
    so_far_ += text;
    for (const auto& watcher : watchers_) watcher->writing(turn_id_, text, restart);
  }

 private:
  const std::string turn_id_;
  mutable std::mutex mutex_;
  std::string so_far_;  // no longer than an answer may be
  std::vector<std::shared_ptr<SessionWatcher>> watchers_;
};

}  // namespace onboarding::session
