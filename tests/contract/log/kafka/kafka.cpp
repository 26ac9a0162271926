#include <cstdlib>
#include <filesystem>

#include "events/log/kafka/kafka_log.hpp"
#include "tests/contract/log/log_contract.hpp"

namespace onboarding::log {
namespace {

/// A topic of its own on the broker that ONBOARD_TEST_KAFKA_BROKERS names.
class Store final : public LogStore {
 public:
  Store() {
    const char* const brokers = std::getenv("ONBOARD_TEST_KAFKA_BROKERS");
    if (brokers == nullptr) throw std::runtime_error("ONBOARD_TEST_KAFKA_BROKERS is not set: infra/test starts a broker");
    brokers_ = brokers;
    std::string pattern = (std::filesystem::temp_directory_path() / "kafka_contract.XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  ~Store() override { std::filesystem::remove_all(folder_); }
  std::unique_ptr<EventLog> open() override {
    KafkaOptions options;
    options.brokers = brokers_;
    options.topic = folder_.filename().string();
    options.partitions = contract_partitions;
    options.cache = (folder_ / "events.db").string();
    auto log = KafkaLog::open(std::move(options));
    if (!log) throw std::runtime_error(log.error().message());
    return std::move(*log);
  }
  void close(EventLog& log) override { dynamic_cast<KafkaLog&>(log).close(); }

 private:
  std::string brokers_;
  std::filesystem::path folder_;
};

INSTANTIATE_TEST_SUITE_P(Kafka, LogContract, testing::Values(LogAdapter{"kafka", [] { return std::make_unique<Store>(); }}));

}  // namespace
}  // namespace onboarding::log
