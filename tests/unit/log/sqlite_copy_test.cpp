#include <atomic>
#include <thread>

#include "events/log/sqlite/sqlite_copy.hpp"
#include "tests/unit/log/scratch.hpp"

namespace onboarding::log {
namespace {

std::unique_ptr<SqliteLog> open_log(const std::string& path) {
  SqliteOptions options;
  options.path = path;
  options.partitions = 4;
  auto opened = SqliteLog::open(std::move(options));
  EXPECT_TRUE(opened) << (opened ? "" : opened.error().message());
  return opened ? std::move(*opened) : nullptr;
}

TEST(SqliteCopy, made_beside_the_writer_is_a_whole_log_that_goes_on_where_it_ends) {
  Scratch scratch;
  const auto log = open_log(scratch.path());
  std::atomic<bool> stop = false;
  std::atomic<std::uint64_t> written = 0;
  std::thread writer([&] {
    for (std::uint64_t version = 0; !stop; ++version) {
      EXPECT_TRUE(durable_now(*log, make_append("s" + std::to_string(version % 5), version / 5, version % 5 % 4)));
      ++written;
    }
  });
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(eventually([&, least = written + 50] { return written >= least; }));
    const std::string copy_path = scratch.path("copy" + std::to_string(i));
    const std::uint64_t acknowledged = written;
    const auto copy = copy_sqlite(scratch.path(), copy_path);
    ASSERT_TRUE(copy) << copy.error().message();
    EXPECT_GE(copy->records, acknowledged) << "what was acknowledged before the copy began is in it";
    const auto report = verify_sqlite(copy_path);
    ASSERT_TRUE(report) << report.error().message();
    EXPECT_EQ(report->records, copy->records);
    EXPECT_EQ(report->acknowledged, copy->records);
    EXPECT_EQ(report->log_id, log->log_id());
    const auto again = open_log(copy_path);
    for (std::uint32_t p = 0; p < 4; ++p) EXPECT_EQ(again->head(p), copy->heads[p]);
    const auto head = again->head(3);
    const auto outcome = append_now(*again, make_append("new", 0, 3));
    ASSERT_TRUE(std::holds_alternative<Durable>(outcome));
    EXPECT_EQ(std::get<Durable>(outcome).first.sequence, head + 1);
  }
  stop = true;
  writer.join();
}

TEST(SqliteCopy, of_an_empty_log_is_an_empty_log) {
  Scratch scratch;
  open_log(scratch.path());
  const auto copy = copy_sqlite(scratch.path(), scratch.path("copy"));
  ASSERT_TRUE(copy);
  EXPECT_EQ(copy->records, 0u);
  EXPECT_TRUE(verify_sqlite(scratch.path("copy")));
}

TEST(SqliteCopy, overwrites_nothing) {
  Scratch scratch;
  open_log(scratch.path());
  spill(scratch.path("copy"), "precious");
  EXPECT_FALSE(copy_sqlite(scratch.path(), scratch.path("copy")));
  EXPECT_EQ(slurp(scratch.path("copy")), "precious");
}

TEST(SqliteCopy, under_another_id_verifies_keeps_every_record_and_goes_on) {
  Scratch scratch;
  std::vector<Record> before;
  {
    const auto log = open_log(scratch.path());
    for (std::uint64_t i = 0; i < 5000; ++i) ASSERT_TRUE(durable_now(*log, make_append("s" + std::to_string(i % 50), i / 50, 1)));
    before = *log->read_partition(1, 0, 10'000, 1 << 30);
  }
  const std::string id(32, 'b');
  ASSERT_TRUE(copy_sqlite(scratch.path(), scratch.path("copy")));
  const auto renamed = rename_sqlite(scratch.path("copy"), id);
  ASSERT_TRUE(renamed) << renamed.error().message();
  const auto report = verify_sqlite(scratch.path("copy"));
  ASSERT_TRUE(report) << report.error().message();
  EXPECT_EQ(report->log_id, id);
  EXPECT_EQ(report->acknowledged, 5000u);
  const auto log = open_log(scratch.path("copy"));
  const auto after = *log->read_partition(1, 0, 10'000, 1 << 30);
  ASSERT_EQ(after.size(), before.size());
  for (std::size_t i = 0; i < after.size(); ++i) {
    EXPECT_EQ(after[i].payload, before[i].payload);
    EXPECT_EQ(after[i].record_id, before[i].record_id);
    EXPECT_EQ(after[i].first_version, before[i].first_version);
  }
  EXPECT_TRUE(durable_now(*log, make_append("s0", 100, 1)));
}

TEST(SqliteCopy, a_log_that_is_written_keeps_its_id) {
  Scratch scratch;
  const auto log = open_log(scratch.path());
  const auto renamed = rename_sqlite(scratch.path(), std::string(32, 'b'));
  ASSERT_FALSE(renamed);
  EXPECT_EQ(renamed.error().code, Errc::locked);
}

}  // namespace
}  // namespace onboarding::log
