// A folder that goes away, appends with little to say, and calls that wait for their answer.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <future>
#include <string>

#include "events/log/sqlite/sqlite_log.hpp"

namespace onboarding::log {

class Scratch {
 public:
  Scratch() {
    // Memory where there is some: what these tests look at does not depend on the disk, and they sync thousands of times.
    const auto base =
        std::filesystem::is_directory("/dev/shm") ? std::filesystem::path("/dev/shm") : std::filesystem::temp_directory_path();
    std::string pattern = (base / "log_test.XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  ~Scratch() { std::filesystem::remove_all(folder_); }
  std::string path(const std::string& name = "events.db") const { return (folder_ / name).string(); }

 private:
  std::filesystem::path folder_;
};

inline std::string slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void spill(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

inline Append make_append(const std::string& stream, std::uint64_t expected_version, std::uint32_t partition = 0,
                          std::uint32_t count = 1) {
  static std::uint64_t last_id = 0;
  Append append;
  append.partition = partition;
  append.stream = stream;
  append.expected_version = expected_version;
  append.record_id.assign(16, 'r');
  ++last_id;
  std::memcpy(append.record_id.data(), &last_id, sizeof last_id);
  append.count = count;
  append.index = {true, last_id % 2 == 0, domain::Timestamp(std::chrono::microseconds(static_cast<std::int64_t>(last_id)))};
  append.time = domain::Timestamp(std::chrono::microseconds(1'700'000'000'000'000));
  append.payload = "{\"stream\":\"" + stream + "\",\"after\":" + std::to_string(expected_version) + "}";
  return append;
}

inline AppendOutcome append_now(EventLog& log, Append append) {
  auto outcome = std::make_shared<std::promise<AppendOutcome>>();
  auto future = outcome->get_future();
  log.append(std::move(append), [outcome](AppendOutcome o) { outcome->set_value(std::move(o)); });
  if (future.wait_for(std::chrono::seconds(60)) != std::future_status::ready) throw std::runtime_error("the log never answered");
  return future.get();
}

inline bool durable_now(EventLog& log, Append append) {
  return std::holds_alternative<Durable>(append_now(log, std::move(append)));
}

/// Waits for a condition with a deadline.
template <class Condition>
bool eventually(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace onboarding::log
