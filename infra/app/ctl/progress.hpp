// A progress bar on standard error, where that is a terminal; elsewhere a line now and then.
#pragma once

#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace onboarding::app {

class Progress {
 public:
  Progress(std::string unit, std::uint64_t at) : unit_(std::move(unit)), first_(at), began_(Clock::now()), shown_(began_) {}
  ~Progress() { done(); }

  void show(std::uint64_t at, std::uint64_t of) {
    const auto now = Clock::now();
    const bool terminal = ::isatty(STDERR_FILENO) != 0;
    if (now - shown_ < (terminal ? std::chrono::milliseconds(200) : std::chrono::milliseconds(10'000))) return;
    shown_ = now;
    const double seconds = std::chrono::duration<double>(now - began_).count();
    const double rate = static_cast<double>(at - first_) / seconds;
    const double left = rate > 0 && of > at ? static_cast<double>(of - at) / rate : 0;
    if (of == 0) {  // nobody knows how much it will be
      std::fprintf(stderr, "%s%llu %s, %.0f/s%s", terminal ? "\r" : "", static_cast<unsigned long long>(at), unit_.c_str(), rate,
                   terminal ? "\033[K" : "\n");
      std::fflush(stderr);
      drawn_ = terminal;
      return;
    }
    std::string bar;
    for (int i = 0; i < 30; ++i) bar += of > 0 && static_cast<std::uint64_t>(i) * of < at * 30 ? "█" : "·";
    std::fprintf(stderr, "%s%s %3.0f %%  %llu of %llu %s, %.0f/s, %.0f s left%s", terminal ? "\r" : "", bar.c_str(),
                 of > 0 ? 100.0 * static_cast<double>(at) / static_cast<double>(of) : 100.0, static_cast<unsigned long long>(at),
                 static_cast<unsigned long long>(of), unit_.c_str(), rate, left, terminal ? "\033[K" : "\n");
    std::fflush(stderr);
    drawn_ = terminal;
  }
  /// Ends the bar's line.
  void done() {
    if (drawn_) std::fputs("\r\033[K", stderr);
    drawn_ = false;
  }

 private:
  using Clock = std::chrono::steady_clock;
  const std::string unit_;
  const std::uint64_t first_;
  const Clock::time_point began_;
  Clock::time_point shown_;
  bool drawn_ = false;
};

}  // namespace onboarding::app
