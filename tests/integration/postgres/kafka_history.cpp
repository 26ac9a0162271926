// With ONBOARDING_TEST_LOG=kafka every history lies in a topic of its own: one server writes it, and what projects reads it as another
// server does, from a copy of its own.
#include <cstdlib>
#include <filesystem>

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
    reader_->read_stream(partition, std::move(stream), after_version, max_records, std::move(done));
  }
  result<std::vector<log::Record>> read_partition(std::uint32_t partition, std::uint64_t after_sequence, std::size_t max_records,
                                                  std::size_t max_bytes) override {
    return reader_->read_partition(partition, after_sequence, max_records, max_bytes);
  }
  std::uint64_t head(std::uint32_t partition) const override { return reader_->head(partition); }
  std::unique_ptr<log::Subscription> subscribe(std::function<void(std::uint32_t)> on_advance) override {
    return reader_->subscribe(std::move(on_advance));
  }
  result<std::vector<log::OpenStream>> pending_turns(std::uint32_t partition, std::size_t limit) override {
    return reader_->pending_turns(partition, limit);
  }
  result<std::vector<log::OpenStream>> due(std::uint32_t partition, domain::Timestamp before, std::size_t limit) override {
    return reader_->due(partition, before, limit);
  }
  result<std::uint64_t> open_count() override { return reader_->open_count(); }

 private:
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

const bool chosen = [] {
  const char* const kind = std::getenv("ONBOARDING_TEST_LOG");
  if (kind == nullptr || std::string_view(kind) != "kafka") return false;
  History::make_log = [](std::uint32_t partitions) { return std::make_unique<TwoServers>(partitions); };
  return true;
}();

}  // namespace
}  // namespace onboarding::testing
