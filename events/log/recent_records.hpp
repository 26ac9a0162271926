// The newest records of each partition, kept in memory for readers that follow closely, bounded by their bytes. Holds a
// contiguous end of each partition, or nothing of it. Thread-safe.
#pragma once

#include <deque>
#include <mutex>
#include <optional>
#include <vector>

#include "events/log/event_log.hpp"

namespace onboarding::log {

class RecentRecords {
 public:
  RecentRecords(std::uint32_t partitions, std::size_t max_bytes) : max_bytes_(max_bytes), partitions_(partitions) {}

  /// The partition's next record.
  void add(Record);
  /// What EventLog::read_partition gives; nullopt when it begins before what is kept.
  std::optional<std::vector<Record>> read(std::uint32_t partition, std::uint64_t after_sequence, std::size_t max_records,
                                          std::size_t max_bytes) const;

 private:
  static std::size_t size_of(const Record& record) {
    return sizeof(Record) + record.stream.size() + record.record_id.size() + record.payload.size();
  }

  const std::size_t max_bytes_;
  mutable std::mutex mutex_;
  std::vector<std::deque<Record>> partitions_;
  std::deque<std::uint32_t> order_;  // the partition of each record kept, oldest first
  std::size_t bytes_ = 0;
};

}  // namespace onboarding::log
