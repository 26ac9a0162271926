#include "events/log/sqlite/sqlite_log.hpp"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "events/fault_point.hpp"
#include "tests/unit/log/scratch.hpp"

namespace onboarding::log {
namespace {

class SqliteLogTest : public testing::Test {
 protected:
  ~SqliteLogTest() override { FaultPoint::arm(""); }
  std::unique_ptr<SqliteLog> open(SqliteOptions more = {}) {
    more.path = scratch.path();
    more.partitions = 4;
    return SqliteLog::open(std::move(more)).value();
  }
  Scratch scratch;
};

bool same(const Record& a, const Record& b) {
  return a.partition == b.partition && a.first_sequence == b.first_sequence && a.stream == b.stream &&
         a.first_version == b.first_version && a.count == b.count && a.record_id == b.record_id && a.index == b.index &&
         a.time == b.time && a.payload == b.payload && a.resume_token == b.resume_token;
}

TEST_F(SqliteLogTest, who_follows_reads_the_same_from_memory_as_from_the_file) {
  auto log = open({.recent_bytes = 8000});  // some of the records, not all
  ASSERT_TRUE(durable_now(*log, make_append("before anybody followed", 0)));
  const auto following = log->subscribe([](std::uint32_t) {});
  std::map<std::string, std::uint64_t> versions;
  for (std::uint32_t i = 0; i < 100; ++i) {
    const std::uint32_t partition = i % 3;
    const std::string stream = std::to_string(partition) + "-" + std::to_string(i % 7);
    const std::uint32_t count = 1 + i % 4;
    ASSERT_TRUE(durable_now(*log, make_append(stream, versions[stream], partition, count)));
    versions[stream] += count;
  }
  std::vector<std::vector<Record>> followed;
  const auto read_all = [&](SqliteLog& from, auto&& each) {
    for (std::uint32_t partition = 0; partition < 4; ++partition)
      for (std::uint64_t after = 0; after <= from.head(partition) + 1; ++after)
        for (const std::size_t bytes : {std::size_t{1}, std::size_t{100}, std::size_t{1} << 20})
          for (const std::size_t records : {1, 3, 1000}) each(from.read_partition(partition, after, records, bytes).value());
  };
  read_all(*log, [&](std::vector<Record> records) { followed.push_back(std::move(records)); });
  log.reset();
  log = open();
  std::size_t i = 0;
  read_all(*log, [&](const std::vector<Record>& records) {
    ASSERT_LT(i, followed.size());
    EXPECT_TRUE(std::ranges::equal(records, followed[i], same)) << i;
    ++i;
  });
  EXPECT_EQ(i, followed.size());
}

TEST_F(SqliteLogTest, a_second_writer_is_told_who_holds_the_log) {
  const auto log = open();
  const auto second = SqliteLog::open({.path = scratch.path(), .partitions = 4});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Errc::locked);
  EXPECT_NE(second.error().detail.find("process " + std::to_string(::getpid())), std::string::npos) << second.error().detail;
}

TEST_F(SqliteLogTest, a_full_queue_is_refused_as_overload_and_nothing_is_lost) {
  const auto log = open({.max_waiting = 10});
  std::atomic<int> durable = 0, overloaded = 0;
  constexpr int sent = 2000;
  for (int i = 0; i < sent; ++i)
    log->append(make_append("s" + std::to_string(i), 0), [&](AppendOutcome outcome) {
      if (std::holds_alternative<Durable>(outcome)) ++durable;
      if (const auto* refused = std::get_if<Refused>(&outcome); refused != nullptr && refused->error.code == Errc::overloaded)
        ++overloaded;
    });
  EXPECT_TRUE(eventually([&] { return durable + overloaded == sent; }));
  EXPECT_GT(overloaded, 0);
  EXPECT_EQ(log->head(0), static_cast<std::uint64_t>(durable));
}

TEST_F(SqliteLogTest, on_a_full_disk_appends_are_refused_nothing_is_lost_and_it_goes_on_by_itself_when_there_is_room) {
  ::signal(SIGXFSZ, SIG_IGN);
  auto log = open();
  ASSERT_TRUE(durable_now(*log, make_append("a", 0)));
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  // A limit on the size of files is a disk that is full for this process: the WAL cannot grow.
  const rlimit tight{std::filesystem::file_size(scratch.path() + "-wal") + 100000, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tight), 0);
  std::uint64_t version = 1;
  AppendOutcome outcome;
  do {
    Append append = make_append("a", version);
    append.payload.assign(20000, 'x');
    outcome = append_now(*log, std::move(append));
    version += std::holds_alternative<Durable>(outcome);
  } while (std::holds_alternative<Durable>(outcome) && version < 1000);
  ASSERT_TRUE(std::holds_alternative<Refused>(outcome));
  EXPECT_EQ(std::get<Refused>(outcome).error.code, Errc::not_writable);
  ASSERT_FALSE(log->writable());
  EXPECT_EQ(log->head(0), version);
  EXPECT_EQ(log->read_partition(0, 0, 1000, 1 << 30).value().size(), version) << "a full disk can still be read";

  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_TRUE(eventually([&] { return log->writable().has_value(); }));
  EXPECT_TRUE(durable_now(*log, make_append("a", version)));
  log.reset();
  log = open();
  EXPECT_EQ(log->head(0), version + 1);
}

TEST_F(SqliteLogTest, a_commit_whose_end_is_unknown_leaves_every_waiting_append_in_doubt_and_ends_acknowledging) {
  std::promise<Failure> fatal;
  auto log = open({.on_fatal = [&](const Failure& why) { fatal.set_value(why); }});
  ASSERT_TRUE(durable_now(*log, make_append("a", 0)));
  FaultPoint::arm("log.before_commit=error");
  EXPECT_TRUE(std::holds_alternative<InDoubt>(append_now(*log, make_append("a", 1))));
  EXPECT_EQ(fatal.get_future().get().code, Errc::unreadable);
  FaultPoint::arm("");
  EXPECT_TRUE(std::holds_alternative<Refused>(append_now(*log, make_append("a", 1))));
  EXPECT_FALSE(log->writable());
  log.reset();
  log = open();
  EXPECT_EQ(log->head(0), 1u);
}

TEST_F(SqliteLogTest, unless_told_otherwise_a_failed_commit_ends_the_process_with_status_70) {
  const pid_t child = ::fork();
  if (child == 0) {
    FaultPoint::arm("log.before_commit=error");
    auto log = SqliteLog::open({.path = scratch.path(), .partitions = 4}).value();
    ::freopen("/dev/null", "w", stderr);
    log->append(make_append("a", 0), [](AppendOutcome) {});
    ::pause();
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 70);
}

TEST_F(SqliteLogTest, another_process_reads_what_is_appended_and_can_write_nothing) {
  const auto log = open();
  ASSERT_TRUE(durable_now(*log, make_append("before", 0, 1)));
  const auto reader = open_sqlite_reader(scratch.path()).value();
  EXPECT_EQ(reader->log_id(), log->log_id());
  EXPECT_EQ(reader->partitions(), 4u);
  EXPECT_EQ(reader->head(1), 1u);
  std::atomic<int> told = 0;
  const auto subscription = reader->subscribe([&](std::uint32_t partition) { told += partition == 2; });
  ASSERT_TRUE(durable_now(*log, make_append("after", 0, 2, 3)));
  EXPECT_TRUE(eventually([&] { return told == 1; }));
  EXPECT_EQ(reader->head(2), 3u);
  EXPECT_EQ(reader->read_partition(2, 0, 10, 1000).value().at(0).stream, "after");
  EXPECT_TRUE(std::holds_alternative<Refused>(append_now(*reader, make_append("after", 3, 2))));
  EXPECT_FALSE(reader->writable());
  EXPECT_FALSE(reader->open_count());
}

TEST_F(SqliteLogTest, a_reader_of_a_log_that_nobody_writes_reads_it_all) {
  auto log = open();
  ASSERT_TRUE(durable_now(*log, make_append("a", 0)));
  log.reset();
  const auto reader = open_sqlite_reader(scratch.path());
  ASSERT_TRUE(reader) << reader.error().message();
  EXPECT_EQ((*reader)->read_partition(0, 0, 10, 1000).value().size(), 1u);
  EXPECT_FALSE(open_sqlite_reader(scratch.path("missing.db")));
}

TEST_F(SqliteLogTest, the_verification_counts_what_is_there_also_while_it_is_written) {
  auto log = open();
  for (std::uint64_t i = 0; i < 5; ++i) ASSERT_TRUE(durable_now(*log, make_append("a", i * 2, 3, 2)));
  ASSERT_TRUE(durable_now(*log, make_append("b", 0, 1)));
  std::uint64_t progress = 0;
  for (const auto& report :
       {verify_sqlite(scratch.path(), [&](std::uint64_t done, std::uint64_t of) { progress = done * 100 / of; }),
        sqlite_stats(scratch.path())}) {
    ASSERT_TRUE(report) << report.error().message();
    EXPECT_EQ(report->log_id, log->log_id());
    EXPECT_EQ(report->records, 6u);
    EXPECT_EQ(report->events, 11u);
    EXPECT_EQ(report->streams, 2u);
    EXPECT_EQ(report->acknowledged, 6u);
    EXPECT_GT(report->payload_bytes, 100u);
    EXPECT_GT(report->file_bytes, report->payload_bytes);
    ASSERT_EQ(report->partitions.size(), 4u);
    EXPECT_EQ(report->partitions[3].records, 5u);
    EXPECT_EQ(report->partitions[3].head, 10u);
  }
  EXPECT_EQ(progress, 100u);
}

TEST_F(SqliteLogTest, the_wal_is_emptied_while_the_log_is_written) {
  const auto log = open({.checkpoint_bytes = 1 << 20});
  for (std::uint64_t i = 0; i < 300; ++i) {
    Append append = make_append("a", i);
    append.payload.assign(20000, 'x');
    ASSERT_TRUE(durable_now(*log, std::move(append)));
  }
  EXPECT_LT(std::filesystem::file_size(scratch.path() + "-wal"), 3u << 20) << "6 MB were appended";
  EXPECT_EQ(log->read_partition(0, 0, 1000, 1 << 30).value().size(), 300u);
}

}  // namespace
}  // namespace onboarding::log
