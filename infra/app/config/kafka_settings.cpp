#include "infra/app/config/kafka_settings.hpp"

namespace onboarding::app {

result<log::KafkaOptions> kafka_settings(const Configuration& c, const std::filesystem::path& cache) {
  if (!c.is_set("log.brokers"))
    return failure(Errc::bad_configuration,
                   c.source("log.kind") + ": log.kind = \"kafka\" needs log.brokers, e.g. [\"kafka-1.example.org:9092\"]");
  log::KafkaOptions settings;
  settings.brokers = c.text("log.brokers");
  settings.topic = c.text("log.topic");
  settings.partitions = static_cast<std::uint32_t>(c.integer("log.partitions"));
  settings.create_topic = c.flag("log.create_topic");
  settings.replicas = static_cast<int>(c.integer("log.replicas"));
  settings.cache = cache.string();
  auto& client = settings.client;
  client.emplace_back("security.protocol", c.text("log.security_protocol"));
  if (c.text("log.security_protocol").starts_with("sasl")) client.emplace_back("sasl.mechanism", c.text("log.sasl_mechanism"));
  for (const auto& [key, name] :
       {std::pair("log.ca_file", "ssl.ca.location"), std::pair("log.certificate_file", "ssl.certificate.location"),
        std::pair("log.key_file", "ssl.key.location"), std::pair("log.key_password", "ssl.key.password"),
        std::pair("log.username", "sasl.username"), std::pair("log.password", "sasl.password")})
    if (c.is_set(key)) client.emplace_back(name, c.text(key));
  for (const std::string& setting : c.list("log.client")) {
    const auto equals = setting.find('=');
    if (equals == std::string::npos)
      return failure(Errc::bad_configuration, c.source("log.client") + ": log.client: \"" + setting + "\" is not name=value");
    client.emplace_back(setting.substr(0, equals), setting.substr(equals + 1));
  }
  return settings;
}

privacy::KafkaKeyStoreOptions kafka_key_settings(const log::KafkaOptions& of_log, const std::filesystem::path& file) {
  privacy::KafkaKeyStoreOptions settings;
  settings.brokers = of_log.brokers;
  settings.topic = of_log.topic + "-keys";
  settings.partitions = of_log.partitions;
  settings.create_topic = of_log.create_topic;
  settings.replicas = of_log.replicas;
  settings.client = of_log.client;
  settings.file = file;
  return settings;
}

}  // namespace onboarding::app
