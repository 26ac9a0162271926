// The event log in Kafka: one topic, its partitions are the log's. Several servers read all of it, each partition has one owner at
// a time, and the log itself says who (rules/). Format: infra/docs/FORMAT.md, "Kafka log"; why: infra/docs/adr/0302.
//
// Each process materialises all partitions into a local SQLite file (cache.hpp) that all reads go to; an append is acknowledged when its
// own record was read back as counted and stands in that file.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "events/clock.hpp"
#include "events/log/event_log.hpp"

namespace onboarding::log {

struct KafkaOptions {
  std::string brokers{};  // host:port,host:port
  std::string topic = "onboarding-events";
  std::uint32_t partitions = 24;  // of a topic that is made; one that exists must have as many
  bool create_topic = true;       // when there is none; else that is an error
  int replicas = 0;               // of a topic that is made; 0: three, or as many as there are brokers
  /// More settings of librdkafka's, for TLS, SASL and the like: `security.protocol`, `ssl.ca.location` ….
  std::vector<std::pair<std::string, std::string>> client = {};
  std::string cache{};                       // path of the SQLite file
  bool own_everything = true;                // claim all partitions at once, before open() returns: the only server
  std::size_t max_waiting = 16384;           // appends that have not ended; above: Refused(overloaded)
  std::size_t max_waiting_bytes = 64 << 20;  // of their payloads
  std::size_t max_waiting_reads = 4096;
  std::size_t idle_streams = 65536;  // as in SqliteOptions
  std::size_t recent_bytes = 4 << 20;
  std::chrono::milliseconds patience{15000};         // for the broker, at the start; and at the end for what is under way
  std::chrono::milliseconds stalled_after{5000};     // nothing was read back for so long: appends are refused until it is
  std::chrono::milliseconds message_timeout{30000};  // after which a message that was sent is in doubt
  /// Called on the log's thread when it can go on no longer (the cache cannot be written, Kafka lost what it had acknowledged);
  /// unless told the process says so on stderr and ends with status 70.
  std::function<void(const Failure&)> on_fatal = {};
  /// What an operator may want to know: the cache was rebuilt, something was in doubt, the broker is silent. Nothing personal.
  std::function<void(const std::string&)> on_note = {};
  RandomSource* random = nullptr;  // for ids; unless told the system's
};

class KafkaLog : public EventLog {
 public:
  /// Finds or makes the topic, checks its settings and the cache, reads everything that is new, and claims. Blocking.
  /// Errors: unreadable (no broker, no permission), wrong_layout (partition count, settings, another log's cache), shorter_than_head (Kafka
  /// lost what was read from it before), locked (another server claims, or another process has the cache); the detail says what to do.
  static result<std::unique_ptr<KafkaLog>> open(KafkaOptions);

  /// Carries out what waits, hands its partitions over, then refuses appends; called by the destructor. Not from a callback.
  virtual void close() = 0;

  using Done = std::function<void(result<void>)>;
  /// `done` on the log's thread: owned, or locked when another's claim was first.
  virtual void claim(std::uint32_t partition, Done done) = 0;
  /// Carries out what is under way and writes the release; appends meanwhile end as Fenced.
  virtual void hand_over(std::uint32_t partition, Done done) = 0;
  virtual bool owns(std::uint32_t partition) const = 0;
  /// The last counted claim, as far as the partition was read. Any thread.
  struct Standing {
    std::uint64_t epoch = 0;
    bool claimed = false;  // and not released
    bool ours = false;     // by this log, which serves
  };
  virtual Standing standing(std::uint32_t partition) const = 0;
  bool claimed(std::uint32_t partition) const { return standing(partition).claimed; }
  /// `lost` on the log's thread when another server has taken a partition that was owned here and not handed over. Once, before claim().
  virtual void on_lost(std::function<void(std::uint32_t partition)> lost) = 0;
  /// The same, for whoever does not listen: of any partition.
  virtual bool replaced() const = 0;

  /// For metrics: of at most a fifth of a second ago, what is counted since the start. Any thread.
  struct Counts {
    std::uint64_t waiting = 0, waiting_bytes = 0;  // appends and barriers that have not ended; payloads of the appends
    std::uint64_t unsent = 0;                      // messages that Kafka has not confirmed, all queues together
    std::uint64_t in_doubt = 0;                    // messages of which it is not known whether Kafka has them
    std::uint64_t claims = 0, claims_again = 0;    // ours that counted; of these, made because something was in doubt
    std::uint64_t lost = 0;                        // partitions that another server took
    std::uint64_t counted = 0, voided = 0;         // messages read, by the voiding rule's verdict
    std::uint64_t cache_bytes = 0;                 // of the file
  };
  virtual Counts counts() const = 0;
};

}  // namespace onboarding::log
