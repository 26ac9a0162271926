// model-use.json in the data folder: what the last 24 hours have used of limits a day, and the server's slot in the books of shared
// limits, so that a restart does not forget it. Written by a
// thread of its own ("model-use"), always the newest, so nobody waits for the disk. It is a count and no promise: a file that cannot be
// written is a warning, one that cannot be read is as if nothing had been used, said in a warning too.
#pragma once

#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "actors/model/day_use.hpp"

namespace onboarding::app {

class DayUseFile {
 public:
  explicit DayUseFile(const std::filesystem::path& data);
  /// Writes what is still to be written.
  ~DayUseFile();

  /// As it was at the start, and whether the process before had said that it was its last.
  const model::DayUse& kept() const { return kept_; }
  bool was_last() const { return was_last_; }
  /// Returns at once; any thread.
  void keep(model::DayUse, bool last);

 private:
  void read();
  void write_all();

  const std::filesystem::path file_;
  model::DayUse kept_;
  bool was_last_ = true;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<std::string> next_;
  bool ending_ = false;
  std::thread writer_;
};

}  // namespace onboarding::app
