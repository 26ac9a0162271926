#include "events/log/kafka/client.hpp"

#include <cstdlib>
#include <thread>

namespace onboarding::log::kafka {
namespace {

int to_ms(std::chrono::milliseconds time) { return static_cast<int>(std::max<std::int64_t>(1, time.count())); }

struct FreeQueue {
  void operator()(rd_kafka_queue_t* queue) const { rd_kafka_queue_destroy(queue); }
};
struct FreeEvent {
  void operator()(rd_kafka_event_t* event) const { rd_kafka_event_destroy(event); }
};
using Event = std::unique_ptr<rd_kafka_event_t, FreeEvent>;
struct FreeOptions {
  void operator()(rd_kafka_AdminOptions_t* options) const { rd_kafka_AdminOptions_destroy(options); }
};
struct FreeTopic {
  void operator()(rd_kafka_topic_t* topic) const { rd_kafka_topic_destroy(topic); }
};
struct FreePartitions {
  void operator()(rd_kafka_topic_partition_list_t* list) const { rd_kafka_topic_partition_list_destroy(list); }
};
using Partitions = std::unique_ptr<rd_kafka_topic_partition_list_t, FreePartitions>;

/// Carries out an admin request and waits for its answer.
template <class Ask>
Event ask_admin(const Client& client, rd_kafka_admin_op_t operation, std::chrono::milliseconds patience, Ask ask) {
  char text[256];
  std::unique_ptr<rd_kafka_AdminOptions_t, FreeOptions> options(rd_kafka_AdminOptions_new(client.handle(), operation));
  rd_kafka_AdminOptions_set_request_timeout(options.get(), to_ms(patience), text, sizeof text);
  std::unique_ptr<rd_kafka_queue_t, FreeQueue> queue(rd_kafka_queue_new(client.handle()));
  ask(options.get(), queue.get());
  return Event(rd_kafka_queue_poll(queue.get(), to_ms(patience) + 5000));
}

Settings common_settings(const std::string& brokers, const Settings& more) {
  Settings settings = {{"bootstrap.servers", brokers},
                       {"client.id", "onboardd"},
                       {"socket.nagle.disable", "true"},
                       {"socket.keepalive.enable", "true"},
                       {"socket.timeout.ms", "10000"},
                       {"socket.connection.setup.timeout.ms", "5000"},
                       {"reconnect.backoff.ms", "50"},
                       {"reconnect.backoff.max.ms", "1000"},
                       {"topic.metadata.refresh.interval.ms", "30000"}};
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

tl::unexpected<Failure> topic_failure(Errc code, const std::string& topic, const std::string& what) {
  return failure(code, "the topic " + topic + " " + what);
}

}  // namespace

Settings writing_settings(const std::string& brokers, const Settings& more, std::chrono::milliseconds message_timeout) {
  Settings settings = {{"acks", "all"},
                       {"enable.idempotence", "true"},
                       {"linger.ms", "0"},
                       {"compression.type", "lz4"},
                       {"retry.backoff.ms", "20"},
                       {"message.timeout.ms", std::to_string(message_timeout.count())},
                       {"message.max.bytes", "2097152"},
                       {"queue.buffering.max.messages", "100000"},
                       {"queue.buffering.max.kbytes", "131072"}};
  const Settings common = common_settings(brokers, more);
  settings.insert(settings.end(), common.begin(), common.end());
  return settings;
}

Settings reading_settings(const std::string& brokers, const Settings& more) {
  Settings settings = {{"group.id", "onboardd"},  // asked for by manual assignment too; it is never joined
                       {"enable.auto.commit", "false"},
                       {"enable.auto.offset.store", "false"},
                       {"auto.offset.reset", "error"},
                       {"check.crcs", "true"},
                       {"isolation.level", "read_uncommitted"},
                       {"fetch.error.backoff.ms", "50"},
                       {"fetch.wait.max.ms", "100"},  // a partition that joins later waits for the fetch that is under way
                       {"fetch.message.max.bytes", "4194304"},
                       {"queued.max.messages.kbytes", "65536"}};
  const Settings common = common_settings(brokers, more);
  settings.insert(settings.end(), common.begin(), common.end());
  return settings;
}

// ---- what went wrong

bool LastWords::refused() const {
  const std::lock_guard lock(mutex_);
  return code_ == RD_KAFKA_RESP_ERR__AUTHENTICATION || code_ == RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED ||
         code_ == RD_KAFKA_RESP_ERR__SSL;
}

void LastWords::hear(rd_kafka_resp_err_t code, const char* reason) {
  const std::lock_guard lock(mutex_);
  // "All brokers are down" says less than what came before it.
  if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN && code_ != RD_KAFKA_RESP_ERR_NO_ERROR) return;
  code_ = code;
  reason_ = reason;
}

Failure LastWords::explain(std::string doing, const std::string& brokers) const {
  const std::lock_guard lock(mutex_);
  std::string detail = std::move(doing) + ": ";
  switch (code_) {
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
      detail += "Kafka at " + brokers +
                " refuses the login: check log.security_protocol, log.sasl_mechanism, log.username and log.password";
      break;
    case RD_KAFKA_RESP_ERR__SSL:
      detail += "no TLS connection to Kafka at " + brokers + ": check log.security_protocol and log.ca_file";
      break;
    default:
      detail += "Kafka at " + brokers +
                " does not answer: is it running, is log.brokers right, does it expect a login or TLS (log.security_protocol)?";
  }
  if (!reason_.empty()) detail += " (" + reason_ + ")";
  return {make_error_code(Errc::unreadable), std::move(detail)};
}

// ---- handles

result<std::unique_ptr<Client>> Client::make(Side side, const Settings& settings, Wake wake, Rebalanced rebalanced) {
  std::unique_ptr<Client> client(new Client);
  client->side_ = side;
  client->wake_ = std::move(wake);
  client->rebalanced_ = std::move(rebalanced);
  rd_kafka_conf_t* conf = rd_kafka_conf_new();
  char text[512];
  for (const auto& [name, value] : settings) {
    if (rd_kafka_conf_set(conf, name.c_str(), value.c_str(), text, sizeof text) == RD_KAFKA_CONF_OK) continue;
    rd_kafka_conf_destroy(conf);
    return failure(Errc::wrong_layout, "the Kafka client does not take the setting " + name + ": " + text);
  }
  rd_kafka_conf_set_opaque(conf, client.get());
  rd_kafka_conf_set_error_cb(conf, [](rd_kafka_t* handle, int code, const char* reason, void* self) {
    auto& client = *static_cast<Client*>(self);
    client.last_words_.hear(static_cast<rd_kafka_resp_err_t>(code), reason);
    if (code == RD_KAFKA_RESP_ERR__FATAL) {
      char text[512];
      client.last_words_.hear(rd_kafka_fatal_error(handle, text, sizeof text), text);
      client.fatal_ = true;
    }
  });
  rd_kafka_conf_set_log_cb(conf, [](const rd_kafka_t*, int, const char*, const char*) {});  // errors come as such
  if (side == Side::producer)
    rd_kafka_conf_set_dr_msg_cb(conf, [](rd_kafka_t*, const rd_kafka_message_t* message, void* self) {
      auto& client = *static_cast<Client*>(self);
      if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR && client.undelivered)
        client.undelivered(static_cast<std::uint32_t>(message->partition), to_message(*message), message->err);
    });
  if (client->rebalanced_)
    rd_kafka_conf_set_rebalance_cb(
        conf, [](rd_kafka_t*, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t* proposed, void* self) {
          std::vector<std::uint32_t> partitions;
          for (int i = 0; i < proposed->cnt; ++i) partitions.push_back(static_cast<std::uint32_t>(proposed->elems[i].partition));
          static_cast<Client*>(self)->rebalanced_(code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS ? &partitions : nullptr);
        });
  client->handle_ = rd_kafka_new(side == Side::producer ? RD_KAFKA_PRODUCER : RD_KAFKA_CONSUMER, conf, text, sizeof text);
  if (client->handle_ == nullptr) {
    rd_kafka_conf_destroy(conf);
    return failure(Errc::wrong_layout, std::string("the Kafka client does not take its settings: ") + text);
  }
  if (side == Side::consumer) rd_kafka_poll_set_consumer(client->handle_);
  client->queue_ =
      side == Side::consumer ? rd_kafka_queue_get_consumer(client->handle_) : rd_kafka_queue_get_main(client->handle_);
  if (client->wake_)
    rd_kafka_queue_cb_event_enable(
        client->queue_, [](rd_kafka_t*, void* self) { static_cast<Client*>(self)->wake_(); }, client.get());
  return client;
}

Client::~Client() {
  if (handle_ == nullptr) return;
  if (queue_ != nullptr) {
    rd_kafka_queue_cb_event_enable(queue_, nullptr, nullptr);
    rd_kafka_queue_destroy(queue_);
  }
  if (side_ == Side::producer) {
    undelivered = nullptr;
    rd_kafka_purge(handle_, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
  }
  rd_kafka_destroy_flags(handle_, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}

// ---- the topic

result<TopicInfo> look_at_topic(const Client& consumer, const std::string& topic, std::chrono::milliseconds patience,
                                const std::string& brokers) {
  const std::unique_ptr<rd_kafka_topic_t, FreeTopic> handle(rd_kafka_topic_new(consumer.handle(), topic.c_str(), nullptr));
  if (!handle) return topic_failure(Errc::wrong_layout, topic, "has a name that Kafka does not take");
  const rd_kafka_metadata_t* metadata = nullptr;
  const auto code = rd_kafka_metadata(consumer.handle(), 0, handle.get(), &metadata, to_ms(patience));
  while (const Received event{rd_kafka_consumer_poll(consumer.handle(), 0)}) {}  // error callbacks
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
    return tl::unexpected(consumer.last_words().explain(std::string("ask for the topic: ") + rd_kafka_err2str(code), brokers));
  TopicInfo info;
  info.brokers = metadata->broker_cnt;
  auto found = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
  if (metadata->topic_cnt == 1) {
    found = metadata->topics[0].err;
    info.partitions = static_cast<std::uint32_t>(metadata->topics[0].partition_cnt);
  }
  rd_kafka_metadata_destroy(metadata);
  if (found == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) return TopicInfo{0, info.brokers};
  if (found == RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION)
    return topic_failure(Errc::wrong_layout, topic, "has a name that Kafka does not take");
  if (found == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
    return topic_failure(Errc::unreadable, topic, "may not be read by this user: grant it DESCRIBE, READ and WRITE");
  if (found != RD_KAFKA_RESP_ERR_NO_ERROR && found != RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE)
    return topic_failure(Errc::unreadable, topic, std::string("cannot be used: ") + rd_kafka_err2str(found));
  return info;
}

const Settings& keeps_everything() {
  static const Settings settings = {{"cleanup.policy", "delete"},
                                    {"retention.ms", "-1"},
                                    {"retention.bytes", "-1"},
                                    {"max.message.bytes", "2097152"},
                                    {"unclean.leader.election.enable", "false"}};
  return settings;
}

const Settings& keeps_newest() {
  static const Settings settings = {{"cleanup.policy", "compact"},
                                    {"min.compaction.lag.ms", "0"},
                                    {"max.compaction.lag.ms", "1800000"},
                                    {"delete.retention.ms", "86400000"},
                                    {"unclean.leader.election.enable", "false"}};
  return settings;
}

static result<void> create_topic(const Client& client, const TopicWanted& wanted, int brokers,
                                 std::chrono::milliseconds patience) {
  const std::string& topic = wanted.name;
  char text[512];
  const int replicas = wanted.replicas == 0 ? std::min(3, brokers) : wanted.replicas;
  rd_kafka_NewTopic_t* made =
      rd_kafka_NewTopic_new(topic.c_str(), static_cast<int>(wanted.partitions), replicas, text, sizeof text);
  if (made == nullptr) return topic_failure(Errc::wrong_layout, topic, std::string("cannot be made: ") + text);
  for (const auto& [name, value] : wanted.settings) rd_kafka_NewTopic_set_config(made, name.c_str(), value.c_str());
  rd_kafka_NewTopic_set_config(made, "min.insync.replicas", replicas >= 3 ? "2" : "1");
  const Event event = ask_admin(client, RD_KAFKA_ADMIN_OP_CREATETOPICS, patience, [&](auto* options, auto* queue) {
    rd_kafka_CreateTopics(client.handle(), &made, 1, options, queue);
  });
  rd_kafka_NewTopic_destroy(made);
  if (!event || rd_kafka_event_error(event.get()) != RD_KAFKA_RESP_ERR_NO_ERROR)
    return topic_failure(Errc::unreadable, topic,
                         std::string("could not be made: ") + (event ? rd_kafka_event_error_string(event.get()) : "no answer"));
  std::size_t count = 0;
  const auto* const topics = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event.get()), &count);
  const auto code = count == 1 ? rd_kafka_topic_result_error(topics[0]) : RD_KAFKA_RESP_ERR_UNKNOWN;
  if (code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS || code == RD_KAFKA_RESP_ERR_NO_ERROR)
    return {};  // another server was quicker
  const char* const said = count == 1 ? rd_kafka_topic_result_error_string(topics[0]) : nullptr;
  return topic_failure(Errc::unreadable, topic,
                       std::string("could not be made: ") + (said != nullptr ? said : rd_kafka_err2str(code)));
}

result<bool> find_or_make_topic(const Client& consumer, const TopicWanted& wanted, std::chrono::milliseconds patience,
                                const std::string& brokers) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  for (bool made = false;;) {
    auto topic = look_at_topic(consumer, wanted.name, std::chrono::milliseconds(1000), brokers);
    if (!topic) {
      if (topic.error().code != Errc::unreadable || consumer.last_words().refused() ||
          std::chrono::steady_clock::now() >= deadline)
        return tl::unexpected(topic.error());
      continue;
    }
    if (topic->partitions > 0) {
      if (topic->partitions == wanted.partitions) return made;
      return failure(Errc::wrong_layout, "the topic " + wanted.name + " has " + std::to_string(topic->partitions) +
                                             " partitions, asked for were " + std::to_string(wanted.partitions) +
                                             " (log.partitions); the number is fixed when a log is made");
    }
    if (!wanted.create)
      return failure(Errc::unreadable, "there is no topic " + wanted.name + " at " + brokers +
                                           ", and log.create_topic is off: make it, or correct log.topic");
    if (std::chrono::steady_clock::now() >= deadline)
      return failure(Errc::unreadable, "the topic " + wanted.name + " was made, and does not appear");
    if (made) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      continue;
    }
    if (auto created = create_topic(consumer, wanted, topic->brokers, patience); !created) return tl::unexpected(created.error());
    made = true;
  }
}

std::map<std::string, std::string> topic_settings(const Client& client, const std::string& topic,
                                                  std::chrono::milliseconds patience) {
  rd_kafka_ConfigResource_t* resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic.c_str());
  const Event event = ask_admin(client, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, patience, [&](auto* options, auto* queue) {
    rd_kafka_DescribeConfigs(client.handle(), &resource, 1, options, queue);
  });
  rd_kafka_ConfigResource_destroy(resource);
  if (!event || rd_kafka_event_error(event.get()) != RD_KAFKA_RESP_ERR_NO_ERROR) return {};
  std::size_t resources = 0, entries = 0;
  const auto* const found =
      rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event.get()), &resources);
  if (resources != 1 || rd_kafka_ConfigResource_error(found[0]) != RD_KAFKA_RESP_ERR_NO_ERROR) return {};
  const auto* const settings = rd_kafka_ConfigResource_configs(found[0], &entries);
  std::map<std::string, std::string> said;
  for (std::size_t i = 0; i < entries; ++i) {
    const char *const name = rd_kafka_ConfigEntry_name(settings[i]), *const value = rd_kafka_ConfigEntry_value(settings[i]);
    if (name != nullptr && value != nullptr) said.emplace(name, value);
  }
  return said;
}

std::string alter_command(const std::string& topic, const std::string& setting, const std::string& value) {
  return "kafka-configs.sh --bootstrap-server … --alter --entity-type topics --entity-name " + topic + " --add-config " +
         setting + "=" + value;
}

result<void> check_topic_settings(const Client& client, const std::string& topic, std::chrono::milliseconds patience) {
  for (const auto& [setting, is] : topic_settings(client, topic, patience)) {
    std::string must;
    if ((setting == "retention.ms" || setting == "retention.bytes") && is != "-1") must = "-1";
    if (setting == "cleanup.policy" && is != "delete") must = "delete";
    if (setting == "unclean.leader.election.enable" && is != "false") must = "false";
    if (setting == "max.message.bytes" && std::atoll(is.c_str()) < 1'200'000) must = "2097152";
    if (must.empty()) continue;
    return topic_failure(Errc::wrong_layout, topic,
                         "would lose events, or refuse large ones: its " + setting + " is " + is + " and must be " + must + " (" +
                             alter_command(topic, setting, must) + ")");
  }
  return {};
}

result<std::pair<std::int64_t, std::int64_t>> offsets(const Client& client, const std::string& topic, std::uint32_t partition,
                                                      std::chrono::milliseconds patience, const std::string& brokers) {
  std::int64_t first = 0, end = 0;
  auto code = RD_KAFKA_RESP_ERR_NO_ERROR;
  // A topic that was just made has no leaders for a moment.
  for (const auto deadline = std::chrono::steady_clock::now() + patience;;) {
    code = rd_kafka_query_watermark_offsets(client.handle(), topic.c_str(), static_cast<std::int32_t>(partition), &first, &end,
                                            1000);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR || std::chrono::steady_clock::now() >= deadline) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
    return tl::unexpected(client.last_words().explain(
        "ask where partition " + std::to_string(partition) + " of " + topic + " ends: " + rd_kafka_err2str(code), brokers));
  return std::pair(first, end);
}

// ---- messages

Message to_message(const rd_kafka_message_t& received) {
  Message message;
  if (received.key != nullptr) message.key.assign(static_cast<const char*>(received.key), received.key_len);
  if (received.payload != nullptr) message.value.assign(static_cast<const char*>(received.payload), received.len);
  rd_kafka_headers_t* headers = nullptr;
  if (rd_kafka_message_headers(&received, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR) return message;
  const char* name = nullptr;
  const void* value = nullptr;
  std::size_t size = 0;
  message.headers.reserve(10);
  for (std::size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR; ++i)
    message.headers.emplace_back(name, value == nullptr ? std::string() : std::string(static_cast<const char*>(value), size));
  return message;
}

result<void> assign(const Client& client, const std::string& topic,
                    const std::vector<std::pair<std::uint32_t, std::int64_t>>& from) {
  const Partitions list(rd_kafka_topic_partition_list_new(static_cast<int>(from.size())));
  for (const auto& [partition, offset] : from)
    rd_kafka_topic_partition_list_add(list.get(), topic.c_str(), static_cast<std::int32_t>(partition))->offset = offset;
  const auto code = rd_kafka_assign(client.handle(), from.empty() ? nullptr : list.get());
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR) return failure(Errc::unreadable, std::string("assign: ") + rd_kafka_err2str(code));
  return {};
}

result<void> subscribe(const Client& client, const std::string& topic) {
  const Partitions list(rd_kafka_topic_partition_list_new(1));
  rd_kafka_topic_partition_list_add(list.get(), topic.c_str(), RD_KAFKA_PARTITION_UA);
  const auto code = rd_kafka_subscribe(client.handle(), list.get());
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR) return failure(Errc::unreadable, std::string("subscribe: ") + rd_kafka_err2str(code));
  return {};
}

result<void> seek(const Client& client, const std::string& topic, std::uint32_t partition, std::int64_t offset) {
  const Partitions list(rd_kafka_topic_partition_list_new(1));
  rd_kafka_topic_partition_list_add(list.get(), topic.c_str(), static_cast<std::int32_t>(partition))->offset = offset;
  rd_kafka_error_t* const error = rd_kafka_seek_partitions(client.handle(), list.get(), 1000);
  if (error == nullptr) return {};
  const std::string said = rd_kafka_error_string(error);
  rd_kafka_error_destroy(error);
  return failure(Errc::unreadable, "read again: " + said);
}

rd_kafka_resp_err_t produce(const Client& client, rd_kafka_topic_t* topic, std::uint32_t partition, const Message& message,
                            bool deletes) {
  rd_kafka_headers_t* headers = rd_kafka_headers_new(message.headers.size());
  for (const auto& [name, value] : message.headers)
    rd_kafka_header_add(headers, name.data(), static_cast<ssize_t>(name.size()), value.data(),
                        static_cast<ssize_t>(value.size()));
  // librdkafka reads the value only, and copies it.
  void* const value = deletes ? nullptr : const_cast<char*>(message.value.data());
  const auto code =
      rd_kafka_producev(client.handle(), RD_KAFKA_V_RKT(topic), RD_KAFKA_V_PARTITION(static_cast<std::int32_t>(partition)),
                        RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_KEY(message.key.data(), message.key.size()),
                        RD_KAFKA_V_VALUE(value, message.value.size()), RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_END);
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR) rd_kafka_headers_destroy(headers);
  return code;
}

}  // namespace onboarding::log::kafka
