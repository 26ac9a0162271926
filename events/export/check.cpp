#include "events/export/check.hpp"

#include <unordered_map>

namespace onboarding::exporting {
namespace {

constexpr std::size_t page_records = 512, page_bytes = 4 << 20, most_told = 20;

/// One key for everybody: what the round trip seals and opens with. The users' own keys take no part in it.
class OneKey final : public privacy::KeyStore {
 public:
  OneKey() {
    auto key = std::make_shared<privacy::SealingKey>();
    key->id = "0000000000000000";
    system_random().fill(key->bytes);
    key_ = std::move(key);
  }
  const privacy::SealingKey& key() const { return *key_; }
  void obtain(std::string, Obtained done) override { done(key_); }
  result<privacy::SealingKeyPtr> find(std::string_view, std::string_view) override { return key_; }
  void erase(std::string, std::function<void(result<void>)> done) override { done(failure(privacy::Errc::unreachable)); }

 private:
  privacy::SealingKeyPtr key_;
};

struct Stream {
  std::uint64_t version = 0;
  domain::Timestamp time;
  bool unopened = false, erased = false;
};

class Check {
 public:
  explicit Check(privacy::KeyStore& keys) : keys_(keys) {}

  result<void> record(const log::Record&);
  void damaged(std::string place, const std::string& what) {
    ++found.damaged;
    if (found.damage.size() < most_told) found.damage.push_back(std::move(place) + " " + what);
  }

  /// Counts the streams whose key is missing although they do not say that it was erased.
  EventCheck concluded() {
    for (const auto& [name, stream] : streams_)
      if (stream.unopened && !stream.erased && ++found.lost_keys <= most_told) found.lost_streams.push_back(name);
    return std::move(found);
  }

  EventCheck found;

 private:
  /// What is wrong with the record; empty: nothing.
  result<std::string> wrong(const log::Record&, Stream&);
  std::string round_trip(const log::Record&, const std::vector<codec::DecodedEvent>&);

  privacy::KeyStore& keys_;
  OneKey one_key_;
  std::unordered_map<std::string, Stream> streams_;
};

result<void> Check::record(const log::Record& record) {
  ++found.records;
  found.events += record.count;
  Stream& stream = streams_[record.stream];
  auto what = wrong(record, stream);
  if (!what) return tl::unexpected(what.error());
  if (!what->empty())
    damaged(to_string(Position{record.partition, record.first_sequence}),
            "(" + record.stream + " v" + std::to_string(record.first_version) + ") " + *what);
  stream.version = record.last_version();
  stream.time = record.time;
  return {};
}

result<std::string> Check::wrong(const log::Record& record, Stream& stream) {
  if (record.first_version != stream.version + 1)
    return "does not follow version " + std::to_string(stream.version) + " of its stream";
  if (stream.version > 0 && record.time < stream.time) return std::string("is earlier than the record before it in its stream");
  const auto events = codec::decode(record, keys_);
  if (!events && events.error().code == codec::Errc::key_unreachable) return tl::unexpected(events.error());
  if (!events) return "does not decode: " + events.error().message();
  bool unopened = false;
  for (const auto& event : *events) {
    unopened |= event.erased;
    stream.erased |= std::holds_alternative<domain::UserErased>(event.recorded.event);
    if (event.recorded.time != record.time) return std::string("has another time inside than outside");
  }
  found.unopened += unopened ? 1 : 0;
  stream.unopened |= unopened;
  return round_trip(record, *events);
}

std::string Check::round_trip(const log::Record& record, const std::vector<codec::DecodedEvent>& events) {
  std::vector<domain::Event> plain;
  plain.reserve(events.size());
  for (const auto& event : events) plain.push_back(event.recorded.event);
  log::Record again = record;
  auto payload = codec::encode(*events.front().meta, record.stream, record.first_version, record.time, plain, &one_key_.key());
  if (!payload) return "cannot be encoded again: " + payload.error().message();
  again.payload = std::move(*payload);
  const auto decoded = codec::decode(again, one_key_);
  if (!decoded) return "does not decode after being encoded again: " + decoded.error().message();
  const bool same = std::equal(events.begin(), events.end(), decoded->begin(), decoded->end(),
                               [](const auto& a, const auto& b) { return a.recorded == b.recorded; });
  return same ? std::string() : "is another one after being encoded and decoded again";
}

}  // namespace

result<EventCheck> check_events(log::EventLog& log, privacy::KeyStore& keys,
                                const std::function<void(std::uint64_t, std::uint64_t)>& progress) {
  std::vector<std::uint64_t> heads;
  std::uint64_t total = 0;
  for (std::uint32_t p = 0; p < log.partitions(); ++p) total += heads.emplace_back(log.head(p));
  Check check(keys);
  for (std::uint32_t p = 0; p < log.partitions(); ++p)
    for (std::uint64_t at = 0; at < heads[p];) {
      const auto records = log.read_partition(p, at, page_records, page_bytes);
      if (!records || records->empty() || records->front().first_sequence != at + 1) {
        // What lies behind cannot be told apart from what is missing: on with the next partition.
        check.damaged(to_string(Position{p, at + 1}), records ? "is missing" : "cannot be read: " + records.error().message());
        break;
      }
      for (const auto& record : *records) {
        if (auto checked = check.record(record); !checked) return tl::unexpected(checked.error());
        at = record.last_sequence();
      }
      if (progress) progress(check.found.events, total);
    }
  return check.concluded();
}

}  // namespace onboarding::exporting
