// What every adapter of the event log must keep. An adapter joins with a file of its own: a LogStore and one
// INSTANTIATE_TEST_SUITE_P(<Adapter>, LogContract, testing::Values(LogAdapter{…})).
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <future>
#include <memory>
#include <string>

#include "events/log/event_log.hpp"

namespace onboarding::log {

inline constexpr std::uint32_t contract_partitions = 8;
inline constexpr auto patience = std::chrono::seconds(60);  // what hangs fails; nothing is timed

/// What outlives an instance of the log: a file, a broker, a shared object.
class LogStore {
 public:
  virtual ~LogStore() = default;
  /// The log with contract_partitions partitions; again after the last instance was destroyed.
  virtual std::unique_ptr<EventLog> open() = 0;
  /// Ends appending as a shutdown does: what waits is carried out, later appends are refused.
  virtual void close(EventLog&) = 0;
};

struct LogAdapter {
  std::string name;
  std::function<std::unique_ptr<LogStore>()> make;
};
inline void PrintTo(const LogAdapter& adapter, std::ostream* out) { *out << adapter.name; }

Append make_append(std::string stream, std::uint64_t expected_version, std::uint32_t partition = 0, std::uint32_t count = 1,
                   std::string payload = "{}");
AppendOutcome append_now(EventLog&, Append);
/// The outcome, which must be Durable.
Durable durable_now(EventLog&, Append);
std::vector<Record> stream_now(EventLog&, std::uint32_t partition, const std::string& stream, std::uint64_t after = 0,
                               std::size_t max_records = 1000);
std::vector<Record> partition_now(EventLog&, std::uint32_t partition, std::uint64_t after = 0, std::size_t max_records = 1000000,
                                  std::size_t max_bytes = 1 << 30);

class LogContract : public testing::TestWithParam<LogAdapter> {
 protected:
  LogContract() : store(GetParam().make()), log(store->open()) {}
  void reopen() {
    log.reset();
    log = store->open();
  }
  std::unique_ptr<LogStore> store;
  std::unique_ptr<EventLog> log;
};

}  // namespace onboarding::log
