#include "tests/contract/log/log_contract.hpp"

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <thread>

namespace onboarding::log {

domain::Timestamp at(std::int64_t us) { return domain::Timestamp(std::chrono::microseconds(us)); }

Append make_append(std::string stream, std::uint64_t expected_version, std::uint32_t partition, std::uint32_t count,
                   std::string payload) {
  static std::atomic<std::uint64_t> last_id = 0;
  Append append;
  append.partition = partition;
  append.stream = std::move(stream);
  append.expected_version = expected_version;
  append.record_id = std::string(16, '\0');
  const std::uint64_t id = ++last_id;
  std::memcpy(append.record_id.data(), &id, sizeof id);
  append.count = count;
  append.time = at(1'700'000'000'123'456);
  append.payload = std::move(payload);
  return append;
}

template <class T>
T get(std::future<T> future) {
  if (future.wait_for(patience) != std::future_status::ready) throw std::runtime_error("the log never answered");
  return future.get();
}

AppendOutcome append_now(EventLog& log, Append append) {
  auto outcome = std::make_shared<std::promise<AppendOutcome>>();
  auto future = outcome->get_future();
  log.append(std::move(append), [outcome](AppendOutcome o) { outcome->set_value(std::move(o)); });
  return get(std::move(future));
}

Durable durable_now(EventLog& log, Append append) { return std::get<Durable>(append_now(log, std::move(append))); }

std::vector<Record> stream_now(EventLog& log, std::uint32_t partition, const std::string& stream, std::uint64_t after,
                               std::size_t max_records) {
  auto records = std::make_shared<std::promise<result<std::vector<Record>>>>();
  auto future = records->get_future();
  log.read_stream(partition, stream, after, max_records,
                  [records](result<std::vector<Record>> r) { records->set_value(std::move(r)); });
  return get(std::move(future)).value();
}

std::vector<Record> partition_now(EventLog& log, std::uint32_t partition, std::uint64_t after, std::size_t max_records,
                                  std::size_t max_bytes) {
  return log.read_partition(partition, after, max_records, max_bytes).value();
}

/// Outcomes of many appends, in the order they came. Shared with the callbacks: the last one may still run when the test goes on.
class Outcomes {
 public:
  void add(AppendOutcome outcome) {
    const std::lock_guard lock(mutex_);
    all_.push_back(std::move(outcome));
    wake_.notify_one();
  }
  std::vector<AppendOutcome> wait_for(std::size_t count) {
    std::unique_lock lock(mutex_);
    if (!wake_.wait_for(lock, patience, [&] { return all_.size() >= count; })) throw std::runtime_error("the log never answered");
    return all_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<AppendOutcome> all_;
};

std::vector<std::string> names(const std::vector<OpenStream>& streams) {
  std::vector<std::string> found;
  for (const auto& each : streams) found.push_back(each.stream);
  return found;
}
using Names = std::vector<std::string>;

TEST_P(LogContract, an_empty_log_has_an_id_and_partitions_and_nothing_in_them) {
  EXPECT_FALSE(log->log_id().empty());
  EXPECT_EQ(log->partitions(), contract_partitions);
  EXPECT_TRUE(log->writable());
  for (std::uint32_t partition = 0; partition < contract_partitions; ++partition) {
    EXPECT_EQ(log->head(partition), 0u);
    EXPECT_TRUE(partition_now(*log, partition).empty());
  }
  EXPECT_TRUE(stream_now(*log, 0, "nobody").empty());
  EXPECT_EQ(log->open_count().value(), 0u);
}

TEST_P(LogContract, a_record_is_read_back_as_it_was_appended) {
  Append append = make_append("ses_1", 0, 3, 2, std::string("{\"a\":1}\0\xff", 9));
  append.index = {true, true, at(-5)};
  const Durable durable = durable_now(*log, append);
  EXPECT_EQ(durable.first, (Position{3, 1}));
  EXPECT_EQ(durable.first_version, 1u);
  for (const auto& records : {stream_now(*log, 3, "ses_1"), partition_now(*log, 3)}) {
    ASSERT_EQ(records.size(), 1u);
    const Record& record = records[0];
    EXPECT_EQ(record.partition, 3u);
    EXPECT_EQ(record.first_sequence, 1u);
    EXPECT_EQ(record.stream, "ses_1");
    EXPECT_EQ(record.first_version, 1u);
    EXPECT_EQ(record.count, 2u);
    EXPECT_EQ(record.record_id, append.record_id);
    EXPECT_EQ(record.index, append.index);
    EXPECT_EQ(record.time, append.time);
    EXPECT_EQ(record.payload, append.payload);
  }
  EXPECT_EQ(log->head(3), 2u);
}

TEST_P(LogContract, the_next_record_follows_the_events_of_the_one_before_in_version_and_sequence) {
  durable_now(*log, make_append("a", 0, 1, 3));
  durable_now(*log, make_append("b", 0, 1, 2));
  const Durable durable = durable_now(*log, make_append("a", 3, 1));
  EXPECT_EQ(durable.first, (Position{1, 6}));
  EXPECT_EQ(durable.first_version, 4u);
  EXPECT_EQ(durable_now(*log, make_append("c", 0, 2)).first, (Position{2, 1}));
}

TEST_P(LogContract, another_expected_version_is_a_conflict_that_says_the_version_found_and_writes_nothing) {
  durable_now(*log, make_append("a", 0, 0, 3));
  for (const std::uint64_t wrong : {std::uint64_t{0}, std::uint64_t{2}, std::uint64_t{4}, std::uint64_t{1} << 40}) {
    const auto outcome = append_now(*log, make_append("a", wrong));
    ASSERT_TRUE(std::holds_alternative<Conflict>(outcome)) << wrong;
    EXPECT_EQ(std::get<Conflict>(outcome).version_found, 3u);
  }
  EXPECT_EQ(std::get<Conflict>(append_now(*log, make_append("new", 1))).version_found, 0u);
  EXPECT_EQ(log->head(0), 3u);
  EXPECT_EQ(stream_now(*log, 0, "a").size(), 1u);
  EXPECT_TRUE(stream_now(*log, 0, "new").empty());
  EXPECT_EQ(durable_now(*log, make_append("a", 3)).first_version, 4u);
}

TEST_P(LogContract, a_stream_stays_in_its_partition) {
  durable_now(*log, make_append("a", 0, 1));
  EXPECT_FALSE(std::holds_alternative<Durable>(append_now(*log, make_append("a", 1, 2))));
  EXPECT_FALSE(std::holds_alternative<Durable>(append_now(*log, make_append("a", 0, 2))));
  EXPECT_TRUE(stream_now(*log, 2, "a").empty());
  EXPECT_EQ(log->head(2), 0u);
}

TEST_P(LogContract, of_many_appends_with_one_expected_version_exactly_one_is_durable) {
  const auto ends = std::make_shared<Outcomes>();
  for (int i = 0; i < 50; ++i) log->append(make_append("a", 0), [ends](AppendOutcome outcome) { ends->add(std::move(outcome)); });
  const auto outcomes = ends->wait_for(50);
  EXPECT_EQ(std::ranges::count_if(outcomes, [](const auto& each) { return std::holds_alternative<Durable>(each); }), 1);
  EXPECT_EQ(std::ranges::count_if(outcomes, [](const auto& each) { return std::holds_alternative<Conflict>(each); }), 49);
  EXPECT_EQ(log->head(0), 1u);
}

TEST_P(LogContract, appends_that_are_sent_without_waiting_are_carried_out_in_the_order_of_the_calls) {
  const auto ends = std::make_shared<Outcomes>();
  for (std::uint64_t i = 0; i < 300; ++i)
    log->append(make_append("a", i, 5), [ends](AppendOutcome outcome) { ends->add(std::move(outcome)); });
  std::uint64_t sequence = 0;
  for (const auto& outcome : ends->wait_for(300)) EXPECT_EQ(std::get<Durable>(outcome).first.sequence, ++sequence);
}

TEST_P(LogContract, what_is_out_of_bounds_is_refused_and_changes_nothing) {
  const auto refused = [&](auto change) {
    Append append = make_append("a", 0);
    change(append);
    const auto outcome = append_now(*log, std::move(append));
    return std::holds_alternative<Refused>(outcome) && std::get<Refused>(outcome).error.code == Errc::out_of_bounds;
  };
  EXPECT_TRUE(refused([](Append& a) { a.partition = contract_partitions; }));
  EXPECT_TRUE(refused([](Append& a) { a.stream.clear(); }));
  EXPECT_TRUE(refused([](Append& a) { a.stream.assign(max_stream_bytes + 1, 'x'); }));
  EXPECT_TRUE(refused([](Append& a) { a.count = 0; }));
  EXPECT_TRUE(refused([](Append& a) { a.record_id.pop_back(); }));
  EXPECT_TRUE(refused([](Append& a) { a.payload.assign(max_payload_bytes + 1, 'x'); }));
  for (std::uint32_t partition = 0; partition < contract_partitions; ++partition) EXPECT_EQ(log->head(partition), 0u);
}

TEST_P(LogContract, the_largest_and_the_empty_payload_and_the_longest_name_are_kept) {
  const std::string longest(max_stream_bytes, 'n'), large(max_payload_bytes, '\x80');
  durable_now(*log, make_append(longest, 0, 0, 1, large));
  durable_now(*log, make_append(longest, 1, 0, 1, ""));
  reopen();
  const auto records = stream_now(*log, 0, longest);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].payload, large);
  EXPECT_EQ(records[1].payload, "");
}

TEST_P(LogContract, hostile_stream_names_are_names_like_others) {
  const Names hostile{"'; DROP TABLE records; --",
                      std::string("a\0b", 3),
                      std::string("a\0c", 3),
                      "\xff\xfe",
                      "%",
                      "*",
                      "../../etc/passwd",
                      "A",
                      "a",
                      "ﬁ",
                      "e\xcc\x81",
                      "\xc3\xa9",
                      " ",
                      "1",
                      "1.0",
                      "NULL",
                      "\n",
                      std::string(1, '\0')};
  for (const auto& name : hostile) durable_now(*log, make_append(name, 0, 2, 1, name));
  reopen();
  for (const auto& name : hostile) {
    const auto records = stream_now(*log, 2, name);
    ASSERT_EQ(records.size(), 1u);
    EXPECT_EQ(records[0].payload, name);
    EXPECT_EQ(records[0].stream, name);
  }
}

TEST_P(LogContract, read_stream_begins_after_a_version_and_ends_at_a_number_of_records) {
  std::uint64_t version = 0;
  for (const std::uint32_t count : {1u, 3u, 1u, 2u}) {
    durable_now(*log, make_append("a", version, 0, count));
    durable_now(*log, make_append("b", version, 0, count));
    version += count;
  }
  const auto first_versions = [&](std::uint64_t after, std::size_t max_records) {
    std::vector<std::uint64_t> found;
    for (const auto& record : stream_now(*log, 0, "a", after, max_records)) found.push_back(record.first_version);
    return found;
  };
  using Versions = std::vector<std::uint64_t>;
  EXPECT_EQ(first_versions(0, 100), (Versions{1, 2, 5, 6}));
  EXPECT_EQ(first_versions(1, 100), (Versions{2, 5, 6}));
  EXPECT_EQ(first_versions(2, 100), (Versions{2, 5, 6})) << "a record is whole: it comes as long as one of its events is later";
  EXPECT_EQ(first_versions(3, 100), (Versions{2, 5, 6}));
  EXPECT_EQ(first_versions(4, 100), (Versions{5, 6}));
  EXPECT_EQ(first_versions(6, 100), (Versions{6}));
  EXPECT_EQ(first_versions(7, 100), Versions{});
  EXPECT_EQ(first_versions(UINT64_MAX, 100), Versions{});
  EXPECT_EQ(first_versions(0, 2), (Versions{1, 2}));
  EXPECT_EQ(first_versions(1, 1), (Versions{2}));
  EXPECT_EQ(first_versions(0, 0), Versions{});
}

TEST_P(LogContract, read_partition_is_bounded_in_records_and_bytes_but_always_moves_on) {
  for (std::uint64_t i = 0; i < 10; ++i) durable_now(*log, make_append("s" + std::to_string(i), 0, 4, 2, std::string(100, 'x')));
  EXPECT_EQ(partition_now(*log, 4).size(), 10u);
  EXPECT_EQ(partition_now(*log, 4, 0, 3).size(), 3u);
  EXPECT_EQ(partition_now(*log, 4, 0, 100, 350).size(), 3u);
  EXPECT_EQ(partition_now(*log, 4, 0, 100, 1).size(), 1u) << "a record larger than the bound must not stop a reader for good";
  EXPECT_EQ(partition_now(*log, 4, 18).size(), 1u);
  EXPECT_EQ(partition_now(*log, 4, 20).size(), 0u);
  EXPECT_EQ(partition_now(*log, 4, UINT64_MAX).size(), 0u);
  std::uint64_t after = 0;
  int rounds = 0;
  while (true) {
    const auto records = partition_now(*log, 4, after, 4, 1 << 20);
    if (records.empty()) break;
    EXPECT_EQ(records.front().first_sequence, after + 1);
    after = records.back().last_sequence();
    ++rounds;
  }
  EXPECT_EQ(after, 20u);
  EXPECT_EQ(rounds, 3);
}

TEST_P(LogContract, under_sixteen_threads_versions_and_sequences_stay_contiguous_and_each_callback_comes_once) {
  constexpr int threads = 16, each = 60;
  std::atomic<int> callbacks = 0, durable = 0, conflicts = 0;
  std::vector<std::thread> writers;
  for (int t = 0; t < threads; ++t)
    writers.emplace_back([&, t] {
      for (int i = 0; i < each; ++i) {
        // Pairs of threads fight for one stream; each retries with the version found.
        const std::string stream = "s" + std::to_string(t / 2);
        std::uint64_t version = 0;
        for (bool done = false; !done;) {
          const auto outcome =
              append_now(*log, make_append(stream, version, static_cast<std::uint32_t>(t / 2) % contract_partitions,
                                           1 + static_cast<std::uint32_t>(i) % 3));
          ++callbacks;
          if (const auto* conflict = std::get_if<Conflict>(&outcome)) {
            version = conflict->version_found;
            ++conflicts;
          } else {
            ASSERT_TRUE(std::holds_alternative<Durable>(outcome));
            ++durable;
            done = true;
          }
        }
      }
    });
  for (auto& writer : writers) writer.join();
  EXPECT_EQ(durable, threads * each);
  EXPECT_EQ(callbacks, durable + conflicts);
  for (int pass = 0; pass < 2; ++pass, reopen()) {
    std::size_t records = 0;
    std::map<std::string, std::uint64_t> versions;
    for (std::uint32_t partition = 0; partition < contract_partitions; ++partition) {
      std::uint64_t sequence = 0;
      for (const Record& record : partition_now(*log, partition)) {
        EXPECT_EQ(record.first_sequence, sequence + 1);
        EXPECT_EQ(record.first_version, versions[record.stream] + 1);
        sequence = record.last_sequence();
        versions[record.stream] = record.last_version();
        ++records;
      }
      EXPECT_EQ(log->head(partition), sequence);
    }
    EXPECT_EQ(records, static_cast<std::size_t>(threads * each));
  }
}

TEST_P(LogContract, the_index_follows_a_streams_latest_record) {
  const auto put = [&](const std::string& stream, std::uint64_t version, domain::RecoveryIndex index,
                       std::uint32_t partition = 0) {
    Append append = make_append(stream, version, partition);
    append.index = index;
    durable_now(*log, append);
  };
  put("late", 0, {true, false, at(300)});
  put("early", 0, {true, true, at(100)});
  put("middle", 0, {true, false, at(200)});
  put("closed", 0, {false, false, at(50)});
  put("other partition", 0, {true, true, at(10)}, 1);
  for (int pass = 0; pass < 2; ++pass, reopen()) {
    EXPECT_EQ(names(log->due(0, at(1000), 10).value()), (Names{"early", "middle", "late"}));
    EXPECT_EQ(names(log->due(0, at(200), 10).value()), (Names{"early", "middle"}));
    EXPECT_EQ(names(log->due(0, at(199), 10).value()), (Names{"early"}));
    EXPECT_EQ(names(log->due(0, at(1000), 2).value()), (Names{"early", "middle"}));
    EXPECT_EQ(names(log->pending_turns(0, 10).value()), (Names{"early"}));
    EXPECT_EQ(names(log->pending_turns(1, 10).value()), (Names{"other partition"}));
    EXPECT_EQ(log->open_count().value(), 4u);
    EXPECT_EQ(log->due(0, at(100), 10).value()[0].version, 1u);
    EXPECT_EQ(log->due(0, at(100), 10).value()[0].index, (domain::RecoveryIndex{true, true, at(100)}));
  }
  put("early", 1, {true, false, at(400)});
  put("middle", 1, {false, false, at(200)});
  put("closed", 1, {true, true, at(350)});
  put("late", 1, {false, true, at(300)});
  for (int pass = 0; pass < 2; ++pass, reopen()) {
    EXPECT_EQ(names(log->due(0, at(1000), 10).value()), (Names{"closed", "early"}));
    EXPECT_EQ(names(log->pending_turns(0, 10).value()), (Names{"late", "closed"}));
    EXPECT_EQ(names(log->pending_turns(0, 1).value()), (Names{"late"}));
    EXPECT_EQ(log->open_count().value(), 3u);
    EXPECT_EQ(log->due(0, at(1000), 10).value()[1].version, 2u);
  }
}

TEST_P(LogContract, a_conflict_leaves_the_index_alone) {
  Append first = make_append("a", 0);
  first.index = {true, true, at(7)};
  durable_now(*log, first);
  Append stale = make_append("a", 0);
  stale.index = {false, false, at(9)};
  ASSERT_TRUE(std::holds_alternative<Conflict>(append_now(*log, stale)));
  EXPECT_EQ(names(log->pending_turns(0, 10).value()), (Names{"a"}));
  EXPECT_EQ(log->open_count().value(), 1u);
}

TEST_P(LogContract, a_log_that_is_opened_again_is_the_same_log) {
  const std::string id = log->log_id();
  durable_now(*log, make_append("a", 0, 6, 4));
  reopen();
  EXPECT_EQ(log->log_id(), id);
  EXPECT_EQ(log->head(6), 4u);
  EXPECT_EQ(std::get<Conflict>(append_now(*log, make_append("a", 0, 6))).version_found, 4u);
  EXPECT_EQ(durable_now(*log, make_append("a", 4, 6)).first, (Position{6, 5}));
}

/// Follows all partitions as a projection does: reads from where it stands whenever it is told that a head moved.
class Follower {
 public:
  explicit Follower(EventLog& log) : log_(log) {
    subscription_ = log.subscribe([this](std::uint32_t partition) {
      const std::lock_guard lock(mutex_);
      advanced_.insert(partition);
      wake_.notify_one();
    });
    for (std::uint32_t partition = 0; partition < contract_partitions; ++partition) advanced_.insert(partition);
  }
  /// Reads until it has `count` records; false when they do not come.
  bool read_until(std::size_t count) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (seen.size() < count) {
      std::set<std::uint32_t> advanced;
      {
        std::unique_lock lock(mutex_);
        if (!wake_.wait_until(lock, deadline, [&] { return !advanced_.empty(); })) return false;
        advanced.swap(advanced_);
      }
      for (const std::uint32_t partition : advanced)
        for (bool more = true; more;) {
          const auto records = partition_now(log_, partition, positions[partition], 7);
          more = records.size() == 7;
          for (const auto& record : records) {
            EXPECT_EQ(record.first_sequence, positions[partition] + 1);
            positions[partition] = record.last_sequence();
            seen.push_back(record.record_id);
          }
        }
    }
    return true;
  }
  std::map<std::uint32_t, std::uint64_t> positions;
  std::vector<std::string> seen;

 private:
  EventLog& log_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::set<std::uint32_t> advanced_;
  std::unique_ptr<Subscription> subscription_;
};

TEST_P(LogContract, a_subscriber_sees_every_record_exactly_once_and_in_order_while_they_are_appended) {
  constexpr int before = 40, during = 400;
  for (int i = 0; i < before; ++i)
    durable_now(*log, make_append("b" + std::to_string(i), 0, static_cast<std::uint32_t>(i) % contract_partitions));
  Follower follower(*log);
  std::thread writer([&] {
    for (int i = 0; i < during; ++i)
      durable_now(*log, make_append("d" + std::to_string(i), 0, static_cast<std::uint32_t>(i) % contract_partitions,
                                    1 + static_cast<std::uint32_t>(i) % 2));
  });
  EXPECT_TRUE(follower.read_until(before + during));
  writer.join();
  EXPECT_EQ(std::set<std::string>(follower.seen.begin(), follower.seen.end()).size(), static_cast<std::size_t>(before + during));
}

TEST_P(LogContract, a_durable_append_is_seen_by_reads_that_come_after_it) {
  const auto ends = std::make_shared<Outcomes>();
  std::atomic<int> wrong = 0;
  for (std::uint64_t i = 0; i < 100; ++i)
    log->append(make_append("a", i), [&wrong, i, ends, this](AppendOutcome outcome) {
      if (log->head(0) < i + 1) ++wrong;
      ends->add(std::move(outcome));
    });
  ends->wait_for(100);
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(stream_now(*log, 0, "a", 99).size(), 1u);
}

TEST_P(LogContract, a_subscription_that_has_ended_is_silent) {
  std::atomic<int> calls = 0;
  auto subscription = log->subscribe([&](std::uint32_t) { ++calls; });
  Follower other(*log);
  durable_now(*log, make_append("a", 0));
  EXPECT_TRUE(other.read_until(1));
  subscription.reset();
  const int before = calls;
  durable_now(*log, make_append("a", 1));
  EXPECT_TRUE(other.read_until(2));
  EXPECT_EQ(calls, before);
}

TEST_P(LogContract, appends_during_a_shutdown_end_once_each_and_only_what_was_acknowledged_is_there) {
  std::atomic<int> called = 0, durable = 0, refused = 0, other = 0, sent = 0;
  std::atomic<bool> stop = false;
  std::vector<std::thread> writers;
  for (int t = 0; t < 4; ++t)
    writers.emplace_back([&, t] {
      for (int i = 0; !stop; ++i) {
        ++sent;
        log->append(make_append("t" + std::to_string(t) + "-" + std::to_string(i), 0, static_cast<std::uint32_t>(t)),
                    [&](AppendOutcome outcome) {
                      if (std::holds_alternative<Durable>(outcome)) {
                        ++durable;
                      } else if (const auto* refusal = std::get_if<Refused>(&outcome)) {
                        ++refused;
                        if (refusal->error.code == Errc::not_writable) stop = true;
                      } else {
                        ++other;
                      }
                      ++called;
                    });
      }
    });
  while (durable < 100) std::this_thread::yield();
  store->close(*log);
  EXPECT_FALSE(log->writable());
  for (auto& writer : writers) writer.join();
  EXPECT_EQ(called, sent);
  EXPECT_EQ(called, durable + refused);
  EXPECT_EQ(other, 0);
  reopen();
  std::uint64_t there = 0;
  for (std::uint32_t partition = 0; partition < contract_partitions; ++partition) there += log->head(partition);
  EXPECT_EQ(there, static_cast<std::uint64_t>(durable));
}

}  // namespace onboarding::log
