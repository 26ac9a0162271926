// What the section [log] says of Kafka, for whoever opens the log and the users' keys there.
#pragma once

#include <filesystem>

#include "events/log/kafka/kafka_log.hpp"
#include "events/privacy/kafka/kafka_key_store.hpp"
#include "infra/app/config/config.hpp"

namespace onboarding::app {

/// Errc::bad_configuration names the key that is missing or wrong. `cache`: the log's copy on this machine.
result<log::KafkaOptions> kafka_settings(const Configuration&, const std::filesystem::path& cache);
/// `file`: keys.db. The topic is the log's with `-keys`.
privacy::KafkaKeyStoreOptions kafka_key_settings(const log::KafkaOptions& of_log, const std::filesystem::path& file);

}  // namespace onboarding::app
