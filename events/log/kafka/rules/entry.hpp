// What a message in a partition of the topic says, and its form: infra/docs/FORMAT.md, "Kafka log". Pure.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "events/log/event_log.hpp"

namespace onboarding::log::kafka {

/// 16 random bytes: of a claim, a record, a barrier, a log. All zero: none.
struct Id {
  std::array<std::uint8_t, 16> bytes{};
  auto operator<=>(const Id&) const = default;
  explicit operator bool() const { return *this != Id{}; }
};
Id make_id(RandomSource&);
std::string to_hex(const Id&);
std::optional<Id> from_hex(std::string_view);

enum class Kind : std::uint8_t {
  log,      // partition 0's first: the log's id, partition count and format
  claim,    // from here on the partition is owned under this id
  events,   // one decision
  barrier,  // nothing: whoever reads it back under its own claim has read all that was acknowledged before it was sent
  release   // the owner has handed over: nothing of its claim counts from here on
};

struct Entry {
  Kind kind = Kind::events;
  Id claim;                 // of a claim: the id it claims with; else the one it is written under
  std::uint64_t epoch = 0;  // of a claim
  Record record;            // of events; of a barrier its record_id only
  Id log_id;                // of a log
  std::uint32_t partitions = 0;
};

/// A message as Kafka carries it. Values of headers are text.
struct Message {
  std::string key, value;
  std::vector<std::pair<std::string, std::string>> headers;
};

/// The entry's record.partition names the partition it is for.
Message to_message(const Entry&);
/// nullopt for whatever is not exactly an entry: it is void for every reader alike.
std::optional<Entry> parse(std::uint32_t partition, Message);

}  // namespace onboarding::log::kafka
