#include "events/export/survey.hpp"

#include <zstd.h>

#include <unordered_set>

#include "events/codec/json.hpp"
#include "events/privacy/no_keys.hpp"

namespace onboarding::exporting {
namespace {

constexpr std::size_t page_records = 512, page_bytes = 4 << 20;

void count(Survey::Span& span, const log::Record& record) {
  ++span.records;
  span.events += record.count;
  span.payload_bytes += record.payload.size();
  span.first = span.first ? std::min(*span.first, record.time) : record.time;
  span.last = span.last ? std::max(*span.last, record.time) : record.time;
}

std::size_t compressed_size(const std::string& bytes, std::string& scratch) {
  scratch.resize(ZSTD_compressBound(bytes.size()));
  const auto size = ZSTD_compress(scratch.data(), scratch.size(), bytes.data(), bytes.size(), 3);
  return ZSTD_isError(size) ? bytes.size() : size;
}

}  // namespace

result<Survey> survey(log::EventLog& log, const std::function<void(std::uint64_t, std::uint64_t)>& progress) {
  Survey found;
  found.partitions.resize(log.partitions());
  std::vector<std::uint64_t> heads;
  std::uint64_t total = 0;
  for (std::uint32_t p = 0; p < log.partitions(); ++p) total += heads.emplace_back(log.head(p));
  privacy::NoKeys no_keys;
  std::unordered_set<std::string> users;
  std::string payloads, scratch;
  for (std::uint32_t p = 0; p < log.partitions(); ++p)
    for (std::uint64_t at = 0; at < heads[p];) {
      const auto records = log.read_partition(p, at, page_records, page_bytes);
      if (!records) return tl::unexpected(records.error());
      if (records->empty()) break;
      payloads.clear();
      for (const auto& record : *records) {
        at = record.last_sequence();
        const auto events = codec::decode(record, no_keys);
        if (!events)
          return failure(events.error().code,
                         to_string(Position{p, record.first_sequence}) + " does not decode: " + events.error().detail);
        count(found.all, record);
        count(found.partitions[p], record);
        found.streams += record.first_version == 1 ? 1 : 0;
        payloads += record.payload;
        auto& day = found.days[codec::format_time(record.time).substr(0, 10)];
        for (const auto& event : *events) {
          ++found.types[std::string(domain::type_name(event.recorded.event))];
          ++day.events;
          day.sessions_started += std::holds_alternative<domain::SessionStarted>(event.recorded.event) ? 1 : 0;
          day.sessions_completed += std::holds_alternative<domain::SessionCompleted>(event.recorded.event) ? 1 : 0;
          if (event.meta && !event.meta->user.empty()) users.insert(event.meta->user);
        }
      }
      found.compressed_bytes += compressed_size(payloads, scratch);
      if (progress) progress(found.all.events, total);
    }
  for (const auto& [day, counts] : found.days) found.sessions += counts.sessions_started;
  found.users = users.size();
  return found;
}

}  // namespace onboarding::exporting
