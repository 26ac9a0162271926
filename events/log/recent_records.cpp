#include "events/log/recent_records.hpp"

#include <algorithm>

namespace onboarding::log {

void RecentRecords::add(Record record) {
  const std::lock_guard lock(mutex_);
  bytes_ += size_of(record);
  order_.push_back(record.partition);
  partitions_[record.partition].push_back(std::move(record));
  while (bytes_ > max_bytes_) {
    std::deque<Record>& oldest = partitions_[order_.front()];
    bytes_ -= size_of(oldest.front());
    oldest.pop_front();
    order_.pop_front();
  }
}

std::optional<std::vector<Record>> RecentRecords::read(std::uint32_t partition, std::uint64_t after_sequence,
                                                       std::size_t max_records, std::size_t max_bytes) const {
  const std::lock_guard lock(mutex_);
  const std::deque<Record>& kept = partitions_[partition];
  if (kept.empty() || after_sequence + 1 < kept.front().first_sequence) return std::nullopt;
  auto next = std::upper_bound(kept.begin(), kept.end(), after_sequence,
                               [](std::uint64_t after, const Record& record) { return after < record.first_sequence; });
  std::vector<Record> records;
  for (std::size_t bytes = 0; next != kept.end() && records.size() < max_records; ++next) {
    bytes += next->payload.size();
    if (!records.empty() && bytes > max_bytes) break;
    records.push_back(*next);
  }
  return records;
}

}  // namespace onboarding::log
