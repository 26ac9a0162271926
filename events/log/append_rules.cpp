#include "events/log/append_rules.hpp"

namespace onboarding::log {

std::optional<Failure> objection(const Append& append, std::uint32_t partitions) {
  const auto because = [](std::string detail) { return Failure{make_error_code(Errc::out_of_bounds), std::move(detail)}; };
  if (append.partition >= partitions)
    return because("partition " + std::to_string(append.partition) + " of " + std::to_string(partitions));
  if (append.stream.empty() || append.stream.size() > max_stream_bytes)
    return because("a stream name of " + std::to_string(append.stream.size()) + " bytes");
  if (append.record_id.size() != 16) return because("a record id of " + std::to_string(append.record_id.size()) + " bytes");
  if (append.count == 0) return because("a record without events");
  if (append.payload.size() > max_payload_bytes)
    return because("a payload of " + std::to_string(append.payload.size()) + " bytes, at most " +
                   std::to_string(max_payload_bytes));
  return std::nullopt;
}

}  // namespace onboarding::log
