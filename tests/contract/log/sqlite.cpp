#include <filesystem>

#include "events/log/sqlite/sqlite_log.hpp"
#include "tests/contract/log/log_contract.hpp"

namespace onboarding::log {
namespace {

class Store : public LogStore {
 public:
  Store() {
    std::string pattern = (std::filesystem::temp_directory_path() / "log_contract.XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  ~Store() override { std::filesystem::remove_all(folder_); }
  std::unique_ptr<EventLog> open() override {
    auto log = SqliteLog::open(
        {.path = (folder_ / "events.db").string(), .partitions = contract_partitions, .idle_streams = idle_streams_});
    if (!log) throw std::runtime_error(log.error().message());
    return std::move(*log);
  }
  void close(EventLog& log) override { dynamic_cast<SqliteLog&>(log).close(); }

 protected:
  std::size_t idle_streams_ = 65536;

 private:
  std::filesystem::path folder_;
};

/// Forgets idle streams within two commits: their versions come from the tables.
class ForgetfulStore final : public Store {
 public:
  ForgetfulStore() { idle_streams_ = 0; }
};

INSTANTIATE_TEST_SUITE_P(Sqlite, LogContract, testing::Values(LogAdapter{"sqlite", [] { return std::make_unique<Store>(); }}));
INSTANTIATE_TEST_SUITE_P(SqliteWithoutCache, LogContract,
                         testing::Values(LogAdapter{"sqlite without cache", [] { return std::make_unique<ForgetfulStore>(); }}));

}  // namespace
}  // namespace onboarding::log
