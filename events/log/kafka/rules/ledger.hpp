// The voiding rule: which messages of a partition count, for every reader alike. Pure; one per partition and reader.
//
// A claim counts when its epoch is exactly one above the last counted claim's. A record counts when it names the last counted
// claim and begins at the last counted sequence plus one. A barrier or a release counts when it names the last counted claim; after a
// release no claim stands. Everything else is void.
#pragma once

#include "events/log/kafka/rules/entry.hpp"

namespace onboarding::log::kafka {

/// All that a reader needs to go on after a message.
struct Checkpoint {
  std::int64_t offset = -1;    // of the last message read; -1: none
  std::uint64_t epoch = 0;     // of the last counted claim
  Id claim;                    // the last counted claim's; none before the first and after a release
  std::uint64_t sequence = 0;  // the last counted one
  bool operator==(const Checkpoint&) const = default;
};
/// `<offset> <epoch> <claim> <sequence>`
std::string to_string(const Checkpoint&);
std::optional<Checkpoint> parse_checkpoint(std::string_view);

enum class Verdict : std::uint8_t {
  counted,
  nothing,  // void
  seen,     // read before: a reader that began again meets it twice
  gap       // messages before it were not read: nothing was changed, read again from the checkpoint
};

class Ledger {
 public:
  explicit Ledger(const Checkpoint& from = {}) : at_(from) {}
  /// `entry` is nullptr for a message that is none.
  Verdict read(std::int64_t offset, const Entry* entry);
  const Checkpoint& at() const { return at_; }

 private:
  bool counts(const Entry&) const;
  Checkpoint at_;
};

}  // namespace onboarding::log::kafka
