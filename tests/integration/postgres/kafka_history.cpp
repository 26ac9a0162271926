// With ONBOARDING_TEST_LOG=kafka every history lies in a topic of its own: one server writes it, and what projects reads it as another
// server does, from a copy of its own: whoever reads that first waits until all that was acknowledged is in it.
#include <fnmatch.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <thread>

#include "events/log/kafka/kafka_log.hpp"
#include "tests/integration/postgres/history.hpp"

namespace onboarding::testing {
namespace {

class TwoServers final : public log::EventLog {
 public:
  explicit TwoServers(std::uint32_t partitions) {
    std::string pattern = (std::filesystem::temp_directory_path() / "kafka_history.XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
    writer_ = open("writer.db", partitions, true);
    reader_ = open("reader.db", partitions, false);
  }
  ~TwoServers() override {
    reader_.reset();
    writer_.reset();
    std::filesystem::remove_all(folder_);
  }
  std::string log_id() const override { return reader_->log_id(); }
  std::uint32_t partitions() const override { return reader_->partitions(); }
  result<void> writable() const override { return writer_->writable(); }
  void append(log::Append append, log::AppendDone done) override { writer_->append(std::move(append), std::move(done)); }
  void read_stream(std::uint32_t partition, std::string stream, std::uint64_t after_version, std::size_t max_records,
                   log::RecordsRead done) override {
    caught_up().read_stream(partition, std::move(stream), after_version, max_records, std::move(done));
  }
  result<std::vector<log::Record>> read_partition(std::uint32_t partition, std::uint64_t after_sequence, std::size_t max_records,
                                                  std::size_t max_bytes) override {
    return caught_up().read_partition(partition, after_sequence, max_records, max_bytes);
  }
  std::uint64_t head(std::uint32_t partition) const override { return caught_up().head(partition); }
  std::unique_ptr<log::Subscription> subscribe(std::function<void(std::uint32_t)> on_advance) override {
    return caught_up().subscribe(std::move(on_advance));
  }
  result<std::vector<log::OpenStream>> pending_turns(std::uint32_t partition, std::size_t limit) override {
    return caught_up().pending_turns(partition, limit);
  }
  result<std::vector<log::OpenStream>> due(std::uint32_t partition, domain::Timestamp before, std::size_t limit) override {
    return caught_up().due(partition, before, limit);
  }
  result<std::uint64_t> open_count() override { return caught_up().open_count(); }

 private:
  log::KafkaLog& caught_up() const {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    for (std::uint32_t partition = 0; partition < writer_->partitions(); ++partition) {
      const std::uint64_t acknowledged = writer_->head(partition);
      while (reader_->head(partition) < acknowledged) {
        ONBOARDING_ASSERT(std::chrono::steady_clock::now() < deadline, "the other server reads what was acknowledged");
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    }
    return *reader_;
  }
  std::unique_ptr<log::KafkaLog> open(const char* cache, std::uint32_t partitions, bool writes) const {
    const char* const brokers = std::getenv("ONBOARD_TEST_KAFKA_BROKERS");
    ONBOARDING_ASSERT(brokers != nullptr, "ONBOARD_TEST_KAFKA_BROKERS is set: infra/test starts a broker");
    log::KafkaOptions options;
    options.brokers = brokers;
    options.topic = folder_.filename().string();
    options.partitions = partitions;
    options.cache = (folder_ / cache).string();
    options.own_everything = writes;
    auto opened = log::KafkaLog::open(std::move(options));
    ONBOARDING_ASSERT(opened, "the broker makes a topic");
    return std::move(*opened);
  }
  std::filesystem::path folder_;
  std::unique_ptr<log::KafkaLog> writer_, reader_;
};

/// A choice of cases that has come to choose nothing, since they have other names now, would pass.
class EveryPatternChooses final : public ::testing::EmptyTestEventListener {
  void OnTestIterationEnd(const ::testing::UnitTest& program, int) override {
    std::istringstream patterns(::testing::GTEST_FLAG(filter));
    for (std::string pattern; std::getline(patterns, pattern, ':');) EXPECT_TRUE(chooses(pattern, program)) << pattern;
  }
  static bool chooses(const std::string& pattern, const ::testing::UnitTest& program) {
    for (int i = 0; i < program.total_test_suite_count(); ++i) {
      const ::testing::TestSuite& suite = *program.GetTestSuite(i);
      for (int j = 0; j < suite.total_test_count(); ++j) {
        const ::testing::TestInfo& test = *suite.GetTestInfo(j);
        const std::string name = std::string(suite.name()) + "." + test.name();
        if (test.should_run() && ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0) return true;
      }
    }
    return false;
  }
};

const bool chosen = [] {
  const char* const kind = std::getenv("ONBOARDING_TEST_LOG");
  if (kind == nullptr || std::string_view(kind) != "kafka") return false;
  History::make_log = [](std::uint32_t partitions) { return std::make_unique<TwoServers>(partitions); };
  ::testing::UnitTest::GetInstance()->listeners().Append(new EveryPatternChooses);
  return true;
}();

}  // namespace
}  // namespace onboarding::testing
