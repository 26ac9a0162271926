#include "events/log/subscribers.hpp"

namespace onboarding::log {

class Subscribers::Handle final : public Subscription {
 public:
  explicit Handle(std::shared_ptr<Subscriber> subscriber) : subscriber_(std::move(subscriber)) {}
  ~Handle() override {
    const std::lock_guard lock(subscriber_->running);
    subscriber_->alive = false;
  }

 private:
  std::shared_ptr<Subscriber> subscriber_;
};

std::unique_ptr<Subscription> Subscribers::add(OnAdvance on_advance) {
  auto subscriber = std::make_shared<Subscriber>();
  subscriber->on_advance = std::move(on_advance);
  const std::lock_guard lock(mutex_);
  std::erase_if(subscribers_, [](const auto& gone) { return gone.expired(); });
  subscribers_.push_back(subscriber);
  return std::make_unique<Handle>(std::move(subscriber));
}

void Subscribers::notify(std::span<const std::uint32_t> partitions) {
  std::vector<std::shared_ptr<Subscriber>> now;
  {
    const std::lock_guard lock(mutex_);
    now.reserve(subscribers_.size());
    for (const auto& weak : subscribers_)
      if (auto subscriber = weak.lock()) now.push_back(std::move(subscriber));
  }
  for (const auto& subscriber : now) {
    const std::lock_guard lock(subscriber->running);
    for (const std::uint32_t partition : partitions)
      if (subscriber->alive) subscriber->on_advance(partition);
  }
}

}  // namespace onboarding::log
