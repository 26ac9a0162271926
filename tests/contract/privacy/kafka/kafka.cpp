#include <cstdlib>

#include "events/log/memory/memory_log.hpp"
#include "events/privacy/kafka/kafka_key_store.hpp"
#include "tests/contract/privacy/key_store_contract.hpp"
#include "tests/unit/privacy/temporary_folder.hpp"

namespace onboarding::privacy {
namespace {

/// A topic of its own on the broker that ONBOARD_TEST_KAFKA_BROKERS names; each time it is opened by another server, that has no copy yet.
class Kafka final : public KeyStorePlace {
 public:
  std::unique_ptr<KeyStore> open() override {
    const char* const brokers = std::getenv("ONBOARD_TEST_KAFKA_BROKERS");
    if (brokers == nullptr) throw std::runtime_error("ONBOARD_TEST_KAFKA_BROKERS is not set: infra/test starts a broker");
    KafkaKeyStoreOptions options;
    options.brokers = brokers;
    options.topic = folder_.path.filename().string() + "-keys";
    options.partitions = 4;
    options.file = folder_.path / ("keys-" + std::to_string(++servers_) + ".db");
    auto store = KafkaKeyStore::open(std::move(options), {1, 2, 3}, log_, [](std::uint32_t) { return true; });
    if (!store) throw std::runtime_error(store.error().message());
    return std::move(*store);
  }

 private:
  TemporaryFolder folder_;
  log::MemoryLog log_{log::make_memory_store(4)};
  int servers_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Kafka, KeyStoreContract,
                         testing::Values(KeyStoreAdapter{"kafka", [] { return std::make_unique<Kafka>(); }}),
                         [](const auto& adapter) { return adapter.param.name; });

}  // namespace
}  // namespace onboarding::privacy
