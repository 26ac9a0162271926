#include "events/export/event_export.hpp"

#include <zstd.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <numeric>

#include "events/domain/assertion.hpp"

namespace onboarding::exporting {
namespace {

constexpr std::size_t page_records = 512, page_bytes = 4 << 20;
constexpr std::size_t max_flows_known = 100'000;
constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

std::string to_base64url(std::string_view bytes) {
  std::string out;
  std::uint32_t bits = 0;
  int have = 0;
  for (const unsigned char byte : bytes) {
    bits = bits << 8 | byte;
    for (have += 8; have >= 6; have -= 6) out += digits[bits >> (have - 6) & 63];
  }
  if (have > 0) out += digits[bits << (6 - have) & 63];
  return out;
}

std::optional<std::string> from_base64url(std::string_view text) {
  std::string out;
  std::uint32_t bits = 0;
  int have = 0;
  for (const char c : text) {
    const auto at = digits.find(c);
    if (at == digits.npos) return std::nullopt;
    bits = bits << 6 | static_cast<std::uint32_t>(at);
    if ((have += 6) >= 8) out += static_cast<char>(bits >> (have -= 8) & 255);
  }
  return out;
}

void put(std::string& out, std::uint64_t number) {
  for (; number >= 128; number >>= 7) out += static_cast<char>(number | 128);
  out += static_cast<char>(number);
}

std::optional<std::uint64_t> take(std::string_view& bytes) {
  std::uint64_t number = 0;
  for (int shift = 0; shift < 64 && !bytes.empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(bytes.front());
    bytes.remove_prefix(1);
    number |= static_cast<std::uint64_t>(byte & 127) << shift;
    if (byte < 128) return number;
  }
  return std::nullopt;
}

/// Every type's public name, by the variant's order.
template <std::size_t... I>
bool is_type_name(std::string_view name, std::index_sequence<I...>) {
  return ((domain::type_name(domain::Event(std::in_place_index<I>)) == name) || ...);
}

Failure wrong(const char* why) { return {make_error_code(codec::Errc::malformed), why}; }

}  // namespace

std::string Cursor::text(std::string_view log_id) const {
  std::string bytes(log_id.substr(0, 8));
  for (const auto sequence : after) put(bytes, sequence);
  return to_base64url(bytes);
}

result<Cursor> Cursor::parse(std::string_view text, const log::EventLog& log) {
  Cursor cursor;
  cursor.after.assign(log.partitions(), 0);
  if (text.empty()) return cursor;
  const auto bytes = text.size() < 16'384 ? from_base64url(text) : std::nullopt;
  if (!bytes) return tl::unexpected(wrong("the cursor is not one that was given"));
  std::string_view rest = *bytes;
  const auto mark = log.log_id().substr(0, 8);
  if (rest.substr(0, mark.size()) != mark) return tl::unexpected(wrong("the cursor is none, or of another log"));
  rest.remove_prefix(mark.size());
  for (std::uint32_t p = 0; p < log.partitions(); ++p) {
    const auto sequence = take(rest);
    if (!sequence) return tl::unexpected(wrong("the cursor is not one that was given"));
    if (*sequence > log.head(p))
      return tl::unexpected(
          wrong("the cursor is beyond the end of the log: the log is another one, or was restored from an older back-up"));
    cursor.after[p] = *sequence;
  }
  if (!rest.empty()) return tl::unexpected(wrong("the cursor is not one that was given"));
  return cursor;
}

std::optional<std::string> unknown_type(const Filter& filter) {
  for (const auto& type : filter.types)
    if (!is_type_name(type, std::make_index_sequence<std::variant_size_v<domain::Event>>())) return type;
  return std::nullopt;
}

EventExport::EventExport(log::EventLog& log, privacy::KeyStore& keys, Filter filter, Cursor from, codec::Reveal reveal)
    : log_(log), keys_(keys), filter_(std::move(filter)), reveal_(reveal), log_id_(log.log_id()), cursor_(std::move(from)) {}

std::uint64_t EventExport::read() const { return std::accumulate(cursor_.after.begin(), cursor_.after.end(), std::uint64_t{0}); }

std::uint64_t EventExport::total() const {
  std::uint64_t all = 0;
  for (std::uint32_t p = 0; p < log_.partitions(); ++p) all += log_.head(p);
  return all;
}

result<bool> EventExport::page(std::string& out) {
  const auto partitions = log_.partitions();
  for (std::uint32_t tried = 0; tried < partitions; ++tried) {
    const auto p = next_partition_;
    if (cursor_.after[p] >= log_.head(p)) {
      next_partition_ = (p + 1) % partitions;
      continue;
    }
    const auto records = log_.read_partition(p, cursor_.after[p], page_records, page_bytes);
    if (!records) return tl::unexpected(records.error());
    std::size_t last_line = std::string::npos;
    for (const auto& record : *records) {
      const auto may = wanted(record);
      if (!may) return tl::unexpected(may.error());
      if (*may) {
        const auto events = codec::decode(record, keys_);
        if (!events) return tl::unexpected(events.error());
        for (const auto& event : *events) {
          if (!wanted(event)) continue;
          last_line = out.size();
          out += codec::to_cloud_event(event, log_id_, reveal_);
          out += '\n';
          ++told_;
        }
      }
      cursor_.after[p] = record.last_sequence();
    }
    // `{"specversion"…` becomes `{"cursor":"…","specversion"…`: an extension attribute of that one event.
    if (last_line != std::string::npos) out.insert(last_line + 1, "\"cursor\":\"" + cursor_.text(log_id_) + "\",");
    return true;
  }
  return false;
}

/// Told without opening the record where that is possible.
result<bool> EventExport::wanted(const log::Record& record) {
  if (!filter_.session.empty() && record.stream != filter_.session) return false;
  if (filter_.before && record.time >= *filter_.before) return false;
  if (filter_.since && record.time < *filter_.since) return false;
  if (filter_.flow.empty()) return true;
  const auto flow = flow_of(record.partition, record.stream);
  if (!flow) return tl::unexpected(flow.error());
  return *flow == filter_.flow;
}

bool EventExport::wanted(const codec::DecodedEvent& event) const {
  if (!filter_.blinded_user.empty() && (!event.meta || event.meta->blinded_user_id != filter_.blinded_user)) return false;
  const auto type = domain::type_name(event.recorded.event);
  return filter_.types.empty() || std::find(filter_.types.begin(), filter_.types.end(), type) != filter_.types.end();
}

result<std::string> EventExport::flow_of(std::uint32_t partition, const std::string& stream) {
  if (const auto known = flows_.find(stream); known != flows_.end()) return known->second;
  std::mutex mutex;
  std::condition_variable arrived;
  std::optional<result<std::vector<log::Record>>> first;
  log_.read_stream(partition, stream, 0, 1, [&](result<std::vector<log::Record>> records) {
    const std::lock_guard lock(mutex);
    first = std::move(records);
    arrived.notify_one();
  });
  std::unique_lock lock(mutex);
  arrived.wait(lock, [&] { return first.has_value(); });
  if (!*first) return tl::unexpected(first->error());
  std::string flow;
  for (const auto& record : **first) {
    const auto events = codec::decode(record, keys_);
    if (!events) return tl::unexpected(events.error());
    for (const auto& event : *events)
      if (const auto* started = std::get_if<domain::SessionStarted>(&event.recorded.event)) flow = started->flow;
  }
  if (flows_.size() >= max_flows_known) flows_.clear();
  return flows_[stream] = flow;
}

std::string zstd_frame(std::string_view lines) {
  std::string frame(ZSTD_compressBound(lines.size()), '\0');
  const auto size = ZSTD_compress(frame.data(), frame.size(), lines.data(), lines.size(), 3);
  ONBOARDING_ASSERT(!ZSTD_isError(size), "there is room for the worst case");
  frame.resize(size);
  return frame;
}

}  // namespace onboarding::exporting
