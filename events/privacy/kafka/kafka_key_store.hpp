// The users' keys where several servers share a log in Kafka: a compacted topic of wrapped keys (infra/docs/FORMAT.md, "Keys in Kafka"), and
// keys.db as this server's copy of it, read from the topic, thrown away and read anew when it is damaged.
//
// A key is given out once it was read back from the topic: durable there before the first event that needs it. What the copy does not have is
// asked of the topic, by a message written and read back after the question, so that neither a slow reader nor a deposed broker makes a
// key look erased. An erasure deletes the person's keys in the topic, which compacts them away within the hour; those that were there when it
// was confirmed, and none that a person who has come back was given by the next owner.
//
// The store follows the log as well: a counted UserErased makes the keys of its session dead. Nothing is sealed with a dead key any more, and
// whoever owns the session's partition deletes it in the topic, again and again if it comes back: from an owner that was stalled, or when
// the erasure was cut off between the event and the key.
#pragma once

#include <array>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "events/clock.hpp"
#include "events/log/event_log.hpp"
#include "events/privacy/key_store.hpp"

namespace onboarding::privacy {

struct KafkaKeyStoreOptions {
  std::string brokers{};          // host:port,host:port
  std::string topic{};            // of the keys: `<the log's>-keys`
  std::uint32_t partitions = 24;  // of the topic, as many as the log has
  bool create_topic = true;
  int replicas = 0;  // of a topic that is made; 0: three, or as many as there are brokers
  std::vector<std::pair<std::string, std::string>> client = {};  // more settings of librdkafka's
  std::filesystem::path file{};                                  // keys.db
  std::size_t cached_users = 20'000;
  std::size_t max_queued = 65'536;                   // beyond: Errc::unreachable at once
  std::chrono::milliseconds patience{15'000};        // at the start, without a word from the broker
  std::chrono::milliseconds answer_within{10'000};   // else Errc::unreachable
  std::chrono::milliseconds repeat_after{30'000};    // what a counted UserErased asks for and nobody does is done after so long
  std::chrono::milliseconds contact_every{600'000};  // something is written at least so often: what is idle is never compacted
  std::function<void(const std::string&)> on_note = {};  // as in KafkaOptions
  const Clock* clock = &system_clock();
  RandomSource* random = &system_random();
};

class KafkaKeyStore : public KeyStore {
 public:
  /// Finds or makes the topic, checks its settings, reads what is new in it and in the log. Blocking. A keys.db of an embedded store is moved
  /// into the topic first (of each key only what the topic lacks). `owns`: whether this server owns a partition of the log. The log
  /// outlives the store. Errors: those of KafkaLog::open; Errc::bad_secret_file when the keys were wrapped by another master.key.
  static result<std::unique_ptr<KafkaKeyStore>> open(KafkaKeyStoreOptions, const std::array<std::uint8_t, 32>& wrapping_key,
                                                     log::EventLog&, std::function<bool(std::uint32_t)> owns);

  /// `done` on the store's thread once every UserErased of the partition up to `sequence` is known here: from then on nobody is given a key
  /// that it made dead, nor, of somebody who was erased, one from before this call. To be awaited by who takes a partition over, before it serves.
  virtual void when_followed(std::uint32_t partition, std::uint64_t sequence, std::function<void()> done) = 0;
  /// `erased` on the store's thread for each UserErased that is read in the log from now on, whoever wrote it; at least once.
  virtual void on_erased(std::function<void(const std::string& user)> erased) = 0;
};

}  // namespace onboarding::privacy
