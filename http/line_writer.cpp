#include "http/line_writer.hpp"

#include <pthread.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/sink.h>

#include <chrono>

namespace onboarding::http {
namespace {
constexpr std::chrono::milliseconds gathering{20};
constexpr std::size_t kept_bytes = 1 << 20;  // a burst's buffer is not kept for ever
}  // namespace

LineWriter::LineWriter(spdlog::sink_ptr sink, const char* thread_name, std::size_t max_waiting_lines)
    : sink_(std::move(sink)), max_waiting_(max_waiting_lines) {
  sink_->set_formatter(std::make_unique<spdlog::pattern_formatter>("%v", spdlog::pattern_time_type::utc, ""));
  thread_ = std::thread([this, thread_name] {
    ::pthread_setname_np(::pthread_self(), thread_name);
    run();
  });
}

LineWriter::~LineWriter() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_one();
  thread_.join();
  flush();
}

void LineWriter::write(std::string_view line) {
  bool wake = false;
  {
    const std::lock_guard lock(mutex_);
    if (lines_ == max_waiting_) {
      dropped_.fetch_add(1, std::memory_order_relaxed);
      return;
    }
    waiting_.append(line).push_back('\n');
    lines_++;
    wake = std::exchange(asleep_, false);
  }
  if (wake) wake_.notify_one();
}

void LineWriter::flush() {
  const std::lock_guard sink_lock(sink_mutex_);
  std::size_t lines = 0;
  {
    const std::lock_guard lock(mutex_);
    waiting_.swap(leaving_);
    lines = std::exchange(lines_, 0);
  }
  if (lines == 0) return;
  try {
    sink_->log(spdlog::details::log_msg({}, spdlog::level::info, leaving_));
    sink_->flush();
  } catch (const std::exception&) {  // a full disk
    dropped_.fetch_add(lines, std::memory_order_relaxed);
  }
  leaving_.clear();
  if (leaving_.capacity() > kept_bytes) leaving_ = {};
}

void LineWriter::run() {
  std::unique_lock lock(mutex_);
  while (!ending_) {
    // Asleep again also when somebody else's flush() took the lines that woke it.
    wake_.wait(lock, [this] { return !(asleep_ = !ending_ && lines_ == 0); });
    wake_.wait_for(lock, gathering, [this] { return ending_; });
    lock.unlock();
    flush();
    lock.lock();
  }
}

}  // namespace onboarding::http
