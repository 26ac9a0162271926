// The writing process is killed at every step, and a ledger outside of it says what it had acknowledged.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>
#include <set>

#include "events/fault_point.hpp"
#include "tests/unit/log/scratch.hpp"

namespace onboarding::log {
namespace {

constexpr std::uint32_t partitions = 3;
constexpr std::uint32_t streams = 6;

struct Entry {  // of the ledger
  std::uint32_t stream;
  std::uint64_t version, sequence;
  std::uint64_t record;
};

SqliteOptions options(const Scratch& scratch) {
  return {.path = scratch.path(), .partitions = partitions, .max_batch = 4, .checkpoint_bytes = 1 << 18};
}

/// What the child does: bursts of appends to all streams, each acknowledged one written to the pipe.
void write_until_killed(const Scratch& scratch, const std::string& fault, int ledger, std::uint64_t first_record) {
  FaultPoint::arm(fault);
  auto log = SqliteLog::open(options(scratch));
  if (!log) ::_exit(3);
  std::vector<std::uint64_t> versions(streams);
  for (std::uint32_t s = 0; s < streams; ++s) {
    const auto read = std::make_shared<std::promise<void>>();
    (*log)->read_stream(s % partitions, "s" + std::to_string(s), 0, 100000, [&, read](result<std::vector<Record>> records) {
      if (!records) ::_exit(4);
      versions[s] = records->empty() ? 0 : records->back().last_version();
      read->set_value();
    });
    read->get_future().wait();
  }
  std::uint64_t record = first_record;
  for (int burst = 0; burst < 30; ++burst) {
    std::vector<std::future<AppendOutcome>> outcomes;
    for (std::uint32_t s = 0; s < streams; ++s) {
      Append append = make_append("s" + std::to_string(s), versions[s]++, s % partitions);
      std::memcpy(append.record_id.data(), &++record, sizeof record);
      auto outcome = std::make_shared<std::promise<AppendOutcome>>();
      outcomes.push_back(outcome->get_future());
      (*log)->append(std::move(append), [=](AppendOutcome o) {
        const auto* durable = std::get_if<Durable>(&o);
        if (durable == nullptr) ::_exit(5);
        const Entry entry{s, durable->first_version, durable->first.sequence, record};
        if (::write(ledger, &entry, sizeof entry) != sizeof entry) ::_exit(6);
        outcome->set_value(std::move(o));
      });
    }
    for (auto& outcome : outcomes) outcome.wait();
  }
  (*log)->close();
  ::_exit(0);
}

TEST(SqliteCrash, at_every_fault_point_nothing_acknowledged_is_lost_or_doubled_and_all_numbers_stay_contiguous) {
  std::vector<std::string_view> points;
  for (const auto name : FaultPoint::names())
    if (name.starts_with("log.")) points.push_back(name);
  ASSERT_GE(points.size(), 9u);
  for (const std::string_view point : points) {
    const Scratch scratch;
    std::vector<Entry> ledger;
    bool killed_once = false;
    for (const int pass : {1, 2, 5}) {
      int pipe_ends[2];
      ASSERT_EQ(::pipe(pipe_ends), 0);
      const pid_t child = ::fork();
      ASSERT_GE(child, 0);
      if (child == 0) {
        ::close(pipe_ends[0]);
        write_until_killed(scratch, std::string(point) + "=crash@" + std::to_string(pass), pipe_ends[1],
                           static_cast<std::uint64_t>(pass) * 1000);
      }
      ::close(pipe_ends[1]);
      Entry entry{};
      ssize_t got;
      while ((got = ::read(pipe_ends[0], &entry, sizeof entry)) == sizeof entry) ledger.push_back(entry);
      EXPECT_EQ(got, 0);
      ::close(pipe_ends[0]);
      int status = 0;
      ASSERT_EQ(::waitpid(child, &status, 0), child);
      const bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
      ASSERT_TRUE(killed || (WIFEXITED(status) && WEXITSTATUS(status) == 0)) << point << " status " << status;
      killed_once |= killed;

      auto log = SqliteLog::open(options(scratch));
      ASSERT_TRUE(log) << point << ": " << log.error().message();
      std::map<std::string, std::uint64_t> versions;
      std::map<std::uint64_t, Record> by_id;
      std::size_t records = 0;
      for (std::uint32_t partition = 0; partition < partitions; ++partition) {
        std::uint64_t sequence = 0;
        const auto read = (*log)->read_partition(partition, 0, 1000000, 1 << 30).value();
        for (const Record& record : read) {
          ASSERT_EQ(record.first_sequence, ++sequence);
          ASSERT_EQ(record.first_version, ++versions[record.stream]);
          std::uint64_t id = 0;
          std::memcpy(&id, record.record_id.data(), sizeof id);
          by_id[id] = record;
          ++records;
        }
      }
      ASSERT_EQ(by_id.size(), records) << point << ": a record is there twice";
      for (const Entry& acknowledged : ledger) {
        ASSERT_TRUE(by_id.contains(acknowledged.record)) << point << ": an acknowledged record is lost";
        const Record& record = by_id[acknowledged.record];
        ASSERT_EQ(record.stream, "s" + std::to_string(acknowledged.stream));
        ASSERT_EQ(record.first_version, acknowledged.version);
        ASSERT_EQ(record.first_sequence, acknowledged.sequence);
      }
    }
    EXPECT_TRUE(killed_once) << point << " was never reached";
    EXPECT_TRUE(verify_sqlite(scratch.path())) << point;
  }
}

}  // namespace
}  // namespace onboarding::log
