// The chained checksum: each record's checksum covers the one before it, so that no record can change, move, vanish or be
// put in without the head of the chain being another. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace onboarding::log {

using Checksum = std::array<std::uint8_t, 16>;

/// All that is stored of a record. Integers enter the checksum as little-endian of their width.
struct ChainedRecord {
  std::uint64_t number = 0;  // in the log: 1, 2, 3 … in the order of commits
  std::uint32_t partition = 0;
  std::uint64_t first_sequence = 0;
  std::uint64_t stream_number = 0;
  std::uint64_t first_version = 0;
  std::uint32_t count = 0;
  std::uint8_t flags = 0;  // 1: open, 2: pending turn
  std::int64_t due_at_us = 0;
  std::int64_t time_us = 0;
  std::string_view record_id;
  std::string_view stream_name;  // of a stream's first record; empty for all others: the number stands for it
  std::string_view payload;
};

class Chain {
 public:
  /// Where the chain of a log begins: no record of one log fits into another.
  static Checksum genesis(std::string_view log_id, std::uint32_t partitions);

  explicit Chain(const Checksum& last = {}) : last_(last) {}
  const Checksum& advance(const ChainedRecord&);
  const Checksum& last() const { return last_; }

 private:
  Checksum last_;
  std::string scratch_;
};

}  // namespace onboarding::log
