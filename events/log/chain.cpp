#include "events/log/chain.hpp"

#include <sodium.h>

#include <bit>
#include <cstring>

namespace onboarding::log {
namespace {

static_assert(std::endian::native == std::endian::little, "the checksum is defined over little-endian integers");

template <class Number>
void put(char*& at, Number value) {
  std::memcpy(at, &value, sizeof value);
  at += sizeof value;
}

void put(char*& at, std::string_view bytes) {
  at += bytes.copy(at, bytes.size());  // unlike memcpy, it takes a view of nothing
}

Checksum hash(std::string_view bytes) {
  Checksum checksum;
  crypto_generichash(checksum.data(), checksum.size(), reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
                     nullptr, 0);
  return checksum;
}

constexpr std::size_t fixed_bytes = 16 + 8 + 4 + 8 + 8 + 8 + 4 + 1 + 8 + 8 + 2 + 2;

}  // namespace

Checksum Chain::genesis(std::string_view log_id, std::uint32_t partitions) {
  return hash(std::string(log_id) + ':' + std::to_string(partitions));
}

const Checksum& Chain::advance(const ChainedRecord& record) {
  // One contiguous buffer, kept: hashing piece by piece costs more than the copy.
  scratch_.resize(fixed_bytes + record.record_id.size() + record.stream_name.size() + record.payload.size());
  char* at = scratch_.data();
  put(at, std::string_view(reinterpret_cast<const char*>(last_.data()), last_.size()));
  put(at, record.number);
  put(at, record.partition);
  put(at, record.first_sequence);
  put(at, record.stream_number);
  put(at, record.first_version);
  put(at, record.count);
  put(at, record.flags);
  put(at, record.due_at_us);
  put(at, record.time_us);
  put(at, static_cast<std::uint16_t>(record.record_id.size()));
  put(at, record.record_id);
  put(at, static_cast<std::uint16_t>(record.stream_name.size()));
  put(at, record.stream_name);
  put(at, record.payload);
  last_ = hash({scratch_.data(), static_cast<std::size_t>(at - scratch_.data())});
  return last_;
}

}  // namespace onboarding::log
