#include "projections/core/retry.hpp"

#include <optional>

#include "events/codec/envelope.hpp"

namespace onboarding::projections {

namespace {

constexpr std::size_t read_bytes = 8 << 20;

/// The record that holds the event: it may begin some events earlier.
result<log::Record> record_at(log::EventLog& log, Position position) {
  for (std::uint64_t back = 0;; back = back * 2 + 1) {
    const std::uint64_t after = position.sequence - 1 - std::min(back, position.sequence - 1);
    auto records = log.read_partition(position.partition, after, back + 1, read_bytes);
    if (!records) return tl::unexpected(records.error());
    for (log::Record& record : *records) {
      if (record.first_sequence <= position.sequence && position.sequence <= record.last_sequence()) return std::move(record);
    }
    if (after == 0) return failure(Errc::beyond_end, "the log has no event " + to_string(position));
  }
}

}  // namespace

std::string key_of(const codec::DecodedEvent& event) {
  return event.meta && !event.meta->user.empty() ? event.meta->user : "stream/" + event.stream;
}

result<std::uint64_t> last_erasure_of(log::EventLog& log, std::uint32_t partition, std::span<const std::uint64_t> waiting) {
  log::Record record;
  std::uint64_t last = 0;
  bool erases = false;
  for (const std::uint64_t sequence : waiting) {
    if (record.first_sequence == 0 || sequence < record.first_sequence || sequence > record.last_sequence()) {
      auto found = record_at(log, {partition, sequence});
      if (!found) return tl::unexpected(found.error());
      record = std::move(*found);
      const auto seal = codec::read_seal(record);
      erases = seal && seal->erases;
    }
    if (erases) last = sequence;
  }
  return last;
}

result<Retried> retry_parked(const Projection& projection, log::EventLog& log, privacy::KeyStore& keys, const ParkedKey& key,
                             std::span<const std::uint64_t> waiting, const std::set<std::uint64_t>& skipped, bool erased,
                             Fold& fold) {
  Retried retried{.key = key, .up_to = key.sequence - 1, .error = {}, .erased = erased, .audit = {}};
  std::optional<std::uint64_t> before_first;
  // The tables have nothing of whom was erased, and what was said before the erasure must not come back without it.
  const auto stopped = [&](std::string why) {
    retried.error = std::move(why);
    if (retried.erased && before_first) {
      fold.clear();
      retried.up_to = *before_first;
    }
    return retried;
  };
  log::Record record;
  std::vector<codec::DecodedEvent> events;
  for (const std::uint64_t sequence : waiting) {
    if (skipped.contains(sequence)) {
      retried.up_to = sequence;
      continue;
    }
    if (events.empty() || sequence < record.first_sequence || sequence > record.last_sequence()) {
      auto found = record_at(log, {key.partition, sequence});
      if (!found) return tl::unexpected(found.error());
      record = std::move(*found);
      auto decoded = codec::decode(record, keys);
      if (!decoded) {
        if (decoded.error().code == codec::Errc::key_unreachable) return tl::unexpected(decoded.error());
        return stopped(decoded.error().message());
      }
      events = std::move(*decoded);
    }
    RowOperations operations;
    const codec::DecodedEvent& event = events[sequence - record.first_sequence];
    retried.erased = retried.erased || event.erased;
    if (auto applied = projection.apply(event, operations); !applied) return stopped(applied.error().message());
    if (!before_first) before_first = retried.up_to;
    fold.add(std::move(operations));
    retried.up_to = sequence;
  }
  return retried;
}

}  // namespace onboarding::projections
