#include "http/writer.hpp"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace onboarding::http {
namespace {
constexpr int sweep_ms = 100;  // how late a time-out may be noticed
constexpr std::uint64_t wake_id = 0;
}  // namespace

result<std::shared_ptr<Writer>> Writer::start() {
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  const int wake = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  const auto error = std::error_code(errno, std::generic_category());
  auto writer = std::shared_ptr<Writer>(new Writer(epoll, wake));
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = wake_id;
  if (epoll < 0 || wake < 0 || ::epoll_ctl(epoll, EPOLL_CTL_ADD, wake, &event) != 0)
    return failure(error, "the writer's event loop");
  writer->thread_ = std::thread([w = writer.get()] {
    ::pthread_setname_np(::pthread_self(), "http-writer");
    w->run();
  });
  return writer;
}

Writer::~Writer() {
  stop();
  if (epoll_ >= 0) ::close(epoll_);
  if (wake_ >= 0) ::close(wake_);
}

void Writer::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    posted_.clear();
    channels_.clear();
  }
  const std::uint64_t one = 1;
  if (wake_ >= 0 && ::write(wake_, &one, sizeof one) < 0) {}  // full means that it is awake anyway
  if (thread_.joinable() && thread_.get_id() != std::this_thread::get_id()) thread_.join();
}

void Writer::add(std::shared_ptr<Channel> channel) {
  std::lock_guard lock(mutex_);
  channel->channel_id = next_id_++;
  if (!stopping_) channels_.emplace(channel->channel_id, std::move(channel));
}

void Writer::remove(const Channel& channel) {
  std::shared_ptr<Channel> last;  // destroyed outside the lock
  std::lock_guard lock(mutex_);
  const auto found = channels_.find(channel.channel_id);
  if (found == channels_.end()) return;
  last = std::move(found->second);
  channels_.erase(found);
}

std::vector<std::shared_ptr<Channel>> Writer::channels() const {
  std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Channel>> all;
  all.reserve(channels_.size());
  for (const auto& [id, channel] : channels_) all.push_back(channel);
  return all;
}

bool Writer::watch(int fd, const Channel& channel) {
  epoll_event event{};
  event.events = EPOLLOUT | EPOLLONESHOT;
  event.data.u64 = channel.channel_id;
  return ::epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event) == 0 || ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) == 0;
}

void Writer::unwatch(int fd) { ::epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr); }

void Writer::post(std::function<void()> work) {
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return;
    posted_.push_back(std::move(work));
  }
  const std::uint64_t one = 1;
  if (::write(wake_, &one, sizeof one) < 0) {}
}

void Writer::run() {
  std::array<epoll_event, 256> events;
  std::int64_t next_sweep = monotonic_ms() + sweep_ms;
  for (;;) {
    const int ready = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), sweep_ms);
    std::vector<std::function<void()>> work;
    for (int i = 0; i < ready; ++i) {
      if (events[i].data.u64 == wake_id) {
        std::uint64_t count;
        if (::read(wake_, &count, sizeof count) < 0) {}
        continue;
      }
      std::shared_ptr<Channel> channel;
      {
        std::lock_guard lock(mutex_);
        const auto found = channels_.find(events[i].data.u64);
        if (found != channels_.end()) channel = found->second;
      }
      if (channel) channel->on_writable();
    }
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return;
      work.swap(posted_);
    }
    for (const auto& task : work) task();
    if (monotonic_ms() >= next_sweep) {
      fire_deadlines();
      next_sweep = monotonic_ms() + sweep_ms;
    }
  }
}

void Writer::fire_deadlines() {
  const auto now = monotonic_ms();
  std::vector<std::shared_ptr<Channel>> due;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [id, channel] : channels_)
      if (channel->deadline_ms.load(std::memory_order_relaxed) <= now) due.push_back(channel);
  }
  for (const auto& channel : due) channel->on_deadline(now);
}

}  // namespace onboarding::http
