// read_stream off the caller's thread, and read_partition on the caller's: connections of their own, never the writer's.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "events/log/sqlite/layout.hpp"

namespace onboarding::log {

class Reads {
 public:
  Reads(std::string path, std::size_t max_waiting);
  /// Answers what waits, then joins.
  ~Reads();

  void stream(std::uint32_t partition, std::string name, std::uint64_t after_version, std::size_t max_records, RecordsRead done);
  result<std::vector<Record>> partition(std::uint32_t partition, std::uint64_t after_sequence, std::size_t max_records,
                                        std::size_t max_bytes);

 private:
  struct Waiting {
    std::uint32_t partition;
    std::string name;
    std::uint64_t after_version;
    std::size_t max_records;
    RecordsRead done;
  };
  void run();
  /// A connection nobody else uses; one that failed is not taken back.
  result<Rows> borrow();
  void give_back(Rows);

  const std::string path_;
  const std::size_t max_waiting_;
  std::mutex mutex_;  // of all below
  std::condition_variable wake_;
  std::deque<Waiting> waiting_;
  std::vector<Rows> idle_;  // connections, at most as many as threads ever read at once
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace onboarding::log
