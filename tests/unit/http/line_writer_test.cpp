#include "http/line_writer.hpp"

#include <gtest/gtest.h>
#include <spdlog/sinks/base_sink.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace onboarding::http {
namespace {

/// Keeps what each call brought, as the formatter left it.
class Kept final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  std::vector<std::string> calls;
  std::atomic<std::size_t> count{0};

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t formatted;
    formatter_->format(message, formatted);
    calls.emplace_back(formatted.data(), formatted.size());
    ++count;
  }
  void flush_() override {}
};

TEST(LineWriter, writes_every_line_once_and_in_order) {
  const auto sink = std::make_shared<Kept>();
  std::string expected;
  {
    LineWriter lines(sink, "lines", 100'000);
    for (int i = 0; i < 20'000; ++i) {
      const std::string line = "line " + std::to_string(i);
      expected += line + "\n";
      lines.write(line);
    }
  }
  std::string written;
  for (const std::string& call : sink->calls) written += call;
  EXPECT_EQ(written, expected);
  EXPECT_LT(sink->calls.size(), 20'000u);
}

TEST(LineWriter, has_written_what_came_before_when_flush_returns) {
  const auto sink = std::make_shared<Kept>();
  LineWriter lines(sink, "lines", 10);
  lines.write("one");
  lines.write("two");
  lines.flush();
  std::string written;
  for (const std::string& call : sink->calls) written += call;
  EXPECT_EQ(written, "one\ntwo\n");
}

TEST(LineWriter, goes_on_by_itself_after_somebody_flushed) {
  const auto sink = std::make_shared<Kept>();
  LineWriter lines(sink, "lines", 10);
  for (int round = 0; round < 10; ++round) {
    lines.write("a warning");
    lines.flush();
    std::this_thread::sleep_for(
        std::chrono::milliseconds(round));  // the thread that was woken for nothing sleeps again, or does not yet
    const auto before = sink->count.load();
    lines.write("what comes later");
    const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (sink->count == before && std::chrono::steady_clock::now() < patience)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ASSERT_GT(sink->count, before) << "round " << round;
  }
}

TEST(LineWriter, counts_what_comes_beyond_its_bound) {
  const auto sink = std::make_shared<Kept>();
  {
    LineWriter lines(sink, "lines", 0);
    lines.write("no room");
    EXPECT_EQ(lines.dropped(), 1u);
  }
  EXPECT_TRUE(sink->calls.empty());
}

}  // namespace
}  // namespace onboarding::http
