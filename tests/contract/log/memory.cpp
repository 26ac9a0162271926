#include "events/log/memory/memory_log.hpp"

#include "tests/contract/log/log_contract.hpp"

namespace onboarding::log {
namespace {

class Store final : public LogStore {
 public:
  std::unique_ptr<EventLog> open() override { return std::make_unique<MemoryLog>(store_); }
  void close(EventLog& log) override { dynamic_cast<MemoryLog&>(log).close(); }

 private:
  std::shared_ptr<MemoryStore> store_ = make_memory_store(contract_partitions);
};

INSTANTIATE_TEST_SUITE_P(Memory, LogContract, testing::Values(LogAdapter{"memory", [] { return std::make_unique<Store>(); }}));

}  // namespace
}  // namespace onboarding::log
