// The controlled mode: what the simulation is told about a faulty log must be true.
#include "events/log/memory/memory_log.hpp"

#include "tests/unit/log/scratch.hpp"

namespace onboarding::log {
namespace {

class ControlledLog : public testing::Test {
 protected:
  void append(const std::string& stream, std::uint64_t version, std::uint32_t partition = 0) {
    log->append(make_append(stream, version, partition),
                [this](AppendOutcome outcome) { outcomes.push_back(std::move(outcome)); });
  }
  template <class Outcome>
  bool ended(std::size_t i) const {
    return i < outcomes.size() && std::holds_alternative<Outcome>(outcomes[i]);
  }
  void reopen() { log = std::make_unique<MemoryLog>(store, MemoryLog::Mode::controlled); }

  std::shared_ptr<MemoryStore> store = make_memory_store(2);
  std::unique_ptr<MemoryLog> log = std::make_unique<MemoryLog>(store, MemoryLog::Mode::controlled);
  std::vector<AppendOutcome> outcomes;
};

TEST_F(ControlledLog, nothing_happens_until_the_driver_says_so) {
  append("a", 0);
  EXPECT_FALSE(log->idle());
  EXPECT_EQ(log->head(0), 0u);
  EXPECT_TRUE(outcomes.empty());
  EXPECT_TRUE(log->step_append(Fate::durable));
  EXPECT_TRUE(ended<Durable>(0));
  EXPECT_EQ(log->head(0), 1u);
}

TEST_F(ControlledLog, each_fate_tells_the_truth_about_what_is_there) {
  append("a", 0);
  log->step_append(Fate::in_doubt_written);
  EXPECT_TRUE(ended<InDoubt>(0));
  EXPECT_EQ(log->head(0), 1u);
  append("a", 1);
  log->step_append(Fate::in_doubt_lost);
  EXPECT_TRUE(ended<InDoubt>(1));
  EXPECT_EQ(log->head(0), 1u);
  append("a", 1);
  log->step_append(Fate::refused);
  EXPECT_TRUE(ended<Refused>(2));
  EXPECT_EQ(log->head(0), 1u);
  append("a", 0);
  log->step_append(Fate::durable);
  EXPECT_TRUE(ended<Conflict>(3));
  append("a", 1);
  log->step_append(Fate::fenced);
  EXPECT_TRUE(ended<Fenced>(4));
  append("a", 1);
  log->step_append(Fate::durable);
  EXPECT_TRUE(ended<Fenced>(5)) << "an owner that was replaced stays replaced";
  append("b", 0, 1);
  log->step_append(Fate::durable);
  EXPECT_TRUE(ended<Durable>(6)) << "in that partition only";
}

TEST_F(ControlledLog, a_late_and_a_resent_append_are_there_at_once_and_acknowledged_once_later) {
  append("a", 0);
  append("b", 0);
  log->step_append(Fate::late);
  log->step_append(Fate::duplicate);
  EXPECT_EQ(log->head(0), 2u);
  EXPECT_TRUE(outcomes.empty());
  log->drain();
  ASSERT_EQ(outcomes.size(), 2u);
  EXPECT_TRUE(ended<Durable>(0));
  EXPECT_TRUE(ended<Durable>(1));
  EXPECT_EQ(log->head(0), 2u);
}

TEST_F(ControlledLog, a_newer_instance_fences_the_older_one) {
  MemoryLog newer(store, MemoryLog::Mode::controlled);
  append("a", 0);
  log->step_append(Fate::durable);
  EXPECT_TRUE(ended<Fenced>(0));
  EXPECT_EQ(newer.head(0), 0u);
}

TEST_F(ControlledLog, a_crash_keeps_what_was_durable_a_beginning_of_what_waited_and_no_callback) {
  FaultCounts counts;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    store = make_memory_store(2);
    reopen();
    outcomes.clear();
    append("a", 0);
    log->step_append(Fate::durable);
    for (std::uint64_t i = 1; i < 5; ++i) append("a", i);
    append("b", 0, 1);
    std::mt19937_64 random(seed);
    log->crash(random);
    EXPECT_FALSE(log->step(random));
    append("a", 5);
    counts += log->counts();
    reopen();
    EXPECT_EQ(outcomes.size(), 1u);
    const auto records = log->read_partition(0, 0, 100, 1 << 20).value();
    ASSERT_GE(records.size(), 1u);
    for (std::size_t i = 0; i < records.size(); ++i) EXPECT_EQ(records[i].first_version, i + 1);
  }
  EXPECT_GT(counts.lost_at_crash, 100u);
  EXPECT_GT(counts.written_at_crash, 100u);
}

TEST_F(ControlledLog, one_seed_gives_one_history_and_every_fault_happens) {
  const Faults faults{.late = .1,
                      .duplicate = .1,
                      .in_doubt_written = .1,
                      .in_doubt_lost = .1,
                      .fenced = .001,
                      .refused = .1,
                      .failed_read = .2,
                      .slow_read = .2};
  const auto history = [&](std::uint64_t seed, FaultCounts& counts) {
    store = make_memory_store(2);
    reopen();
    std::string told;
    std::mt19937_64 random(seed);
    const auto subscription = log->subscribe([&](std::uint32_t partition) { told += "p" + std::to_string(partition); });
    std::vector<int> calls(400);
    for (std::size_t i = 0; i < 400; ++i) {
      log->append(make_append("s" + std::to_string(i % 40), i / 40, static_cast<std::uint32_t>(i % 2)),
                  [&, i](AppendOutcome outcome) {
                    ++calls[i];
                    told += std::to_string(i) + "=" + std::to_string(outcome.index()) + " ";
                  });
      log->read_stream(0, "s0", 0, 100, [&](const result<std::vector<Record>>& records) {
        told += records ? "r" + std::to_string(records->size()) : "x";
      });
      for (int step = 0; step < 2; ++step) log->step(random, faults);
    }
    while (log->step(random, faults)) {}
    EXPECT_TRUE(std::ranges::all_of(calls, [](int count) { return count == 1; }));
    counts += log->counts();
    return told;
  };
  FaultCounts counts;
  for (std::uint64_t seed = 0; seed < 20; ++seed) ASSERT_EQ(history(seed, counts), history(seed, counts));
  EXPECT_NE(history(1, counts), history(2, counts));
  for (const std::uint64_t count : {counts.durable, counts.late, counts.duplicate, counts.in_doubt_written, counts.in_doubt_lost,
                                    counts.fenced, counts.refused, counts.failed_read, counts.slow_read})
    EXPECT_GT(count, 0u);
}

}  // namespace
}  // namespace onboarding::log
