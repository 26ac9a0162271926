// As much of librdkafka as the log needs: handles that close themselves, errors as values, and the ways round the bugs of 2.0.2
// (ADR 0302). Blocking calls are marked; nothing here has a thread of its own besides librdkafka's.
#pragma once

#include <librdkafka/rdkafka.h>

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "events/log/kafka/rules/entry.hpp"

namespace onboarding::log::kafka {

using Settings = std::vector<std::pair<std::string, std::string>>;

/// What a handle is made with; `more` are settings of librdkafka's that come on top (TLS, SASL and the like).
Settings reading_settings(const std::string& brokers, const Settings& more);
Settings writing_settings(const std::string& brokers, const Settings& more, std::chrono::milliseconds message_timeout);

/// Called from librdkafka's threads when something waits in a handle's queue.
using Wake = std::function<void()>;

/// What a broker's refusal or silence was last said to be, so that a time-out can say why.
class LastWords {
 public:
  void hear(rd_kafka_resp_err_t, const char* reason);
  /// Asking again will not help.
  bool refused() const;
  /// As Errc::unreadable, with the way out where one is known.
  Failure explain(std::string doing, const std::string& brokers) const;

 private:
  mutable std::mutex mutex_;
  rd_kafka_resp_err_t code_ = RD_KAFKA_RESP_ERR_NO_ERROR;
  std::string reason_;
};

class Client {
 public:
  enum class Side { producer, consumer };
  /// Called from poll() of a consumer that has joined a group: these partitions are proposed to it; or, with nullptr, none any more.
  /// Whoever is called must assign() whatever it wants to read, or nothing.
  using Rebalanced = std::function<void(const std::vector<std::uint32_t>* proposed)>;
  /// `settings`: librdkafka's own names. Errc::wrong_layout names one that it does not take.
  static result<std::unique_ptr<Client>> make(Side, const Settings& settings, Wake wake, Rebalanced rebalanced = {});
  ~Client();
  rd_kafka_t* handle() const { return handle_; }
  const LastWords& last_words() const { return last_words_; }
  /// The producer can never be used again: make another.
  bool fatal() const { return fatal_; }

  /// Called from poll() for each message that could not be delivered for sure.
  std::function<void(std::uint32_t partition, Message, rd_kafka_resp_err_t)> undelivered;

 private:
  Client() = default;
  rd_kafka_t* handle_ = nullptr;
  rd_kafka_queue_t* queue_ = nullptr;
  Side side_ = Side::producer;
  Wake wake_;
  Rebalanced rebalanced_;
  LastWords last_words_;
  std::atomic<bool> fatal_{false};
};

struct TopicInfo {
  std::uint32_t partitions = 0;  // 0: there is no such topic
  int brokers = 0;
};
/// Blocking. Asked through a consumer: a producer's question would make the topic.
result<TopicInfo> look_at_topic(const Client& consumer, const std::string& topic, std::chrono::milliseconds patience,
                                const std::string& brokers);
/// Of a topic: nothing in it expires; or of each key the newest value stays, and what was deleted is gone within an hour.
const Settings& keeps_everything();
const Settings& keeps_newest();

struct TopicWanted {
  std::string name;
  std::uint32_t partitions = 1;
  bool create = true;  // when there is none; else that is an error
  int replicas = 0;    // of one that is made; 0: three, or as many as there are brokers
  Settings settings{};
};
/// Blocking. True: it was made. Errc::wrong_layout when it has another number of partitions.
result<bool> find_or_make_topic(const Client& consumer, const TopicWanted&, std::chrono::milliseconds patience,
                                const std::string& brokers);
/// Blocking. What the broker says of a topic; empty when it does not let us ask.
std::map<std::string, std::string> topic_settings(const Client&, const std::string& topic, std::chrono::milliseconds patience);
/// How to set it right, as an operator would.
std::string alter_command(const std::string& topic, const std::string& setting, const std::string& value);
/// Blocking. Whether the topic keeps everything for ever; Errc::wrong_layout says which setting would lose events and how to change it.
/// A broker that does not let us ask is believed.
result<void> check_topic_settings(const Client&, const std::string& topic, std::chrono::milliseconds patience);

/// First offset and the one after the last, of a partition. Blocking.
result<std::pair<std::int64_t, std::int64_t>> offsets(const Client&, const std::string& topic, std::uint32_t partition,
                                                      std::chrono::milliseconds patience, const std::string& brokers);

struct FreeMessage {
  void operator()(rd_kafka_message_t* message) const { rd_kafka_message_destroy(message); }
};
using Received = std::unique_ptr<rd_kafka_message_t, FreeMessage>;
Message to_message(const rd_kafka_message_t&);

/// Reads partitions from offsets on (manual assign); RD_KAFKA_OFFSET_BEGINNING: from what is left of their beginning.
result<void> assign(const Client&, const std::string& topic, const std::vector<std::pair<std::uint32_t, std::int64_t>>& from);
/// Joins the client's group, to be dealt partitions of the topic.
result<void> subscribe(const Client&, const std::string& topic);
result<void> seek(const Client&, const std::string& topic, std::uint32_t partition, std::int64_t offset);

/// Hands a message to librdkafka, which copies it. QUEUE_FULL: nothing was taken, poll and try again. `deletes`: without a value, which
/// in a topic that keeps the newest takes the key away.
rd_kafka_resp_err_t produce(const Client&, rd_kafka_topic_t*, std::uint32_t partition, const Message&, bool deletes = false);

}  // namespace onboarding::log::kafka
