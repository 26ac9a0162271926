// Log lines on their way out: gathered for a moment and written many at once, because a write and a wake-up a line cost
// more than making the line. One thread, a bounded number of lines.
#pragma once

#include <spdlog/common.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

namespace onboarding::http {

class LineWriter {
 public:
  /// `sink`'s formatter is replaced: lines leave it as they came.
  LineWriter(spdlog::sink_ptr sink, const char* thread_name, std::size_t max_waiting_lines);
  ~LineWriter();  // writes what waits

  /// Any thread; never waits for the sink. At the bound the line is dropped, and counted.
  void write(std::string_view line);
  /// Writes what waits before it returns: for what must be seen even if the process ends now.
  void flush();
  std::uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  void run();

  const spdlog::sink_ptr sink_;
  const std::size_t max_waiting_;
  std::atomic<std::uint64_t> dropped_{0};

  std::mutex mutex_;
  std::condition_variable wake_;
  std::string waiting_;
  std::size_t lines_ = 0;
  bool asleep_ = false, ending_ = false;

  std::mutex sink_mutex_;  // before mutex_
  std::string leaving_;
  std::thread thread_;
};

}  // namespace onboarding::http
