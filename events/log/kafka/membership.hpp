// Several servers on one log: a consumer group deals the partitions out, this server claims what was proposed to it and hands over what was
// proposed to others, and says in a compacted topic of its own, `<topic>-owners`, where its partitions are served. All of that are
// proposals and hints: who may write is decided by the log (rules/), whoever reads a stale hint is told so by whom it asks.
//
//   dealt ─▶ nobody's claim stands, or after a moment ─▶ claim counted ─▶ gained() ─▶ announced
//   dealt to another ─▶ handed over (what is under way is carried out) ─▶ lost()
//   another's claim is read ─▶ lost()
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "events/log/kafka/kafka_log.hpp"

namespace onboarding::log {

struct MembershipOptions {
  KafkaOptions kafka;    // brokers, topic, partitions, create_topic, replicas, client, patience, on_note: as the log's
  std::string instance;  // this server's name, no other living server's: letters, digits, `.`, `:`, `-`
  std::string address;   // host:port where other servers reach it
  std::chrono::milliseconds session_timeout{6'000};  // a server that was silent for so long is dealt no partitions
  std::chrono::milliseconds settle{1'500};           // leaving: so long it serves on, for others to claim what it has

  // On the membership's thread; they may block for a moment.
  std::function<void(std::uint32_t partition)> gained, lost;
  std::function<void()> tick;  // often
};

class Membership {
 public:
  /// Makes the topic of owners when there is none, and begins to join. Blocking, until the broker has answered. The log outlives it, was
  /// opened with `own_everything` off, and is claimed by nobody else. Errors: as KafkaLog::open.
  static result<std::unique_ptr<Membership>> join(KafkaLog&, MembershipOptions);
  virtual ~Membership() = default;  // as leave()

  /// Where a partition is served: this server's own address included; nullopt while it is not known.
  virtual std::optional<std::string> address_of(std::uint32_t partition) const = 0;
  virtual std::uint32_t owned() const = 0;
  /// Partitions were dealt, and this server has taken what it was dealt at least once.
  virtual bool joined() const = 0;
  /// Leaves the group, serves on until others have taken what it owns, hands the rest over. Blocking, a few seconds at most. Idempotent.
  virtual void leave() = 0;
};

}  // namespace onboarding::log
