// What the Kafka log does when broker, cache, network or another server misbehave. On real brokers: the shared one that
// ONBOARD_TEST_KAFKA_BROKERS names, and own ones that are killed, frozen and closed to strangers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sqlite3.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <mutex>
#include <thread>

#include "events/fault_point.hpp"
#include "events/log/kafka/kafka_log.hpp"
#include "events/log/kafka/membership.hpp"
#include "tests/integration/kafka/own_broker.hpp"

namespace onboarding::log {
namespace {

using testing::HasSubstr;

constexpr std::uint32_t partitions = 3;

Append make_append(const std::string& stream, std::uint64_t expected_version, std::uint32_t partition = 0) {
  Append append;
  append.partition = partition;
  append.stream = stream;
  append.expected_version = expected_version;
  append.record_id = std::string(16, '\0');
  system_random().fill({reinterpret_cast<std::uint8_t*>(append.record_id.data()), 16});
  append.count = 1;
  append.payload = "{}";
  return append;
}

/// Appends and what became of them. Shared with the callbacks.
class Ledger {
 public:
  void append(EventLog& log, Append append) {
    auto id = append.record_id;
    {
      const std::lock_guard lock(mutex_);
      ++asked_;
    }
    log.append(std::move(append), [this, id](AppendOutcome outcome) {
      const std::lock_guard lock(mutex_);
      ++ended_;
      if (const auto* durable = std::get_if<Durable>(&outcome)) durable_.emplace_back(id, durable->first);
      else if (std::holds_alternative<Fenced>(outcome)) ++fenced;
      else if (std::holds_alternative<Refused>(outcome)) ++refused;
      else ++other;
    });
  }
  bool wait() {
    return comes_true([this] {
      const std::lock_guard lock(mutex_);
      return ended_ == asked_;
    });
  }
  std::size_t durable() const {
    const std::lock_guard lock(mutex_);
    return durable_.size();
  }
  /// Each acknowledged record stands in the log once, where it was said to.
  void expect_all_in(EventLog& log) const {
    std::map<std::string, std::vector<Position>> found;
    for (std::uint32_t partition = 0; partition < partitions; ++partition) {
      std::uint64_t sequence = 0;
      const auto records = log.read_partition(partition, 0, 1'000'000, 1 << 30).value();
      for (const Record& record : records) {
        EXPECT_EQ(record.first_sequence, sequence + 1);
        sequence = record.last_sequence();
        found[record.record_id].push_back({partition, record.first_sequence});
      }
    }
    const std::lock_guard lock(mutex_);
    for (const auto& [id, position] : durable_) EXPECT_EQ(found[id], std::vector<Position>{position});
    for (const auto& [id, positions] : found) EXPECT_EQ(positions.size(), 1u) << "a record counts twice";
  }
  std::size_t fenced = 0, refused = 0, other = 0;

 private:
  mutable std::mutex mutex_;
  std::size_t asked_ = 0, ended_ = 0;
  std::vector<std::pair<std::string, Position>> durable_;
};

class KafkaLogTest : public testing::Test {
 protected:
  KafkaOptions options(const std::string& brokers, const std::string& cache = "cache") {
    KafkaOptions o;
    o.brokers = brokers;
    o.topic = folder.path.filename().string();
    o.partitions = partitions;
    o.cache = (folder.path / (cache + ".db")).string();
    o.on_note = notes.taker();
    o.on_fatal = [this](const Failure& why) { notes.taker()("FATAL " + why.message()); };
    return o;
  }
  static std::string error_of(KafkaOptions o) {
    const auto opened = KafkaLog::open(std::move(o));
    return opened ? "opened" : opened.error().message();
  }
  static std::size_t records_in(EventLog& log) {
    std::size_t records = 0;
    for (std::uint32_t partition = 0; partition < partitions; ++partition)
      records += log.read_partition(partition, 0, 1'000'000, 1 << 30).value().size();
    return records;
  }
  Folder folder;
  Notes notes;
};

// ---- another server

TEST_F(KafkaLogTest, an_owner_that_another_replaces_by_force_never_acknowledges_again_and_nothing_is_lost_or_doubled) {
  auto older = KafkaLog::open(options(shared_broker(), "older")).value();
  Ledger told;
  std::atomic<bool> stop = false;
  std::thread writer([&] {
    for (int i = 0; !stop; ++i) {
      told.append(*older, make_append("s" + std::to_string(i), 0, static_cast<std::uint32_t>(i) % partitions));
      std::this_thread::sleep_for(milliseconds(1));
    }
  });
  EXPECT_TRUE(comes_true([&] { return told.durable() > 50; }));
  auto newer = KafkaLog::open(options(shared_broker(), "newer")).value();
  EXPECT_TRUE(comes_true([&] { return older->replaced(); }));
  // Each partition by itself: what was counted in one before its new claim is acknowledged, also when another is lost already.
  for (std::uint32_t partition = 0; partition < partitions; ++partition)
    EXPECT_TRUE(comes_true([&] { return !older->owns(partition); }));
  const std::size_t before = told.durable();
  std::this_thread::sleep_for(milliseconds(50));
  stop = true;
  writer.join();
  ASSERT_TRUE(told.wait());
  EXPECT_EQ(told.durable(), before) << "a replaced owner acknowledged";
  EXPECT_GT(told.fenced, 0u);
  EXPECT_EQ(told.other, 0u);
  told.append(*newer, make_append("after", 0));
  ASSERT_TRUE(told.wait());
  EXPECT_EQ(told.durable(), before + 1);
  told.expect_all_in(*newer);
  EXPECT_FALSE(newer->replaced());
  EXPECT_TRUE(comes_true([&] { return older->head(0) == newer->head(0); })) << "who was replaced goes on reading";
  told.expect_all_in(*older);
}

TEST_F(KafkaLogTest, a_partition_that_is_handed_over_is_claimed_by_the_next_and_reads_wait_for_a_barrier) {
  auto first = KafkaLog::open(options(shared_broker(), "first")).value();
  auto other = options(shared_broker(), "second");
  other.own_everything = false;
  auto second = KafkaLog::open(std::move(other)).value();
  const auto ask = [](auto call) {
    auto done = std::make_shared<std::promise<result<void>>>();
    auto future = done->get_future();
    call([done](result<void> ended) { done->set_value(std::move(ended)); });
    return future.wait_for(patience) == std::future_status::ready ? future.get() : failure(Errc::unreadable, "never ended");
  };
  Ledger told;
  told.append(*first, make_append("a", 0, 1));
  ASSERT_TRUE(told.wait());
  EXPECT_TRUE(ask([&](auto done) { first->barrier(1, done); }));
  EXPECT_FALSE(ask([&](auto done) { second->barrier(1, done); })) << "only an owner can promise it";
  EXPECT_TRUE(ask([&](auto done) { first->hand_over(1, done); }));
  EXPECT_FALSE(first->owns(1));
  EXPECT_FALSE(first->replaced());
  EXPECT_TRUE(ask([&](auto done) { second->claim(1, done); }));
  EXPECT_TRUE(second->owns(1));
  EXPECT_FALSE(second->owns(0));
  told.append(*second, make_append("a", 1, 1));
  ASSERT_TRUE(told.wait());
  EXPECT_EQ(told.durable(), 2u);
  EXPECT_TRUE(ask([&](auto done) { second->barrier(1, done); }));
  EXPECT_FALSE(ask([&](auto done) { first->barrier(1, done); }));
}

TEST_F(KafkaLogTest, a_member_does_not_say_that_it_serves_what_another_has_just_taken) {
  const auto following = [&](const std::string& cache) {
    auto o = options(shared_broker(), cache);
    o.own_everything = false;
    return KafkaLog::open(std::move(o)).value();
  };
  auto log = following("one"), other = following("two");
  constexpr std::uint32_t nobody = 99;
  std::atomic<std::uint32_t> taken = nobody, lost = nobody;
  MembershipOptions member;
  member.kafka = options(shared_broker());
  member.instance = member.address = "one:1";
  // Between the claim and the word that it is served here another's claim is read.
  member.gained = [&](std::uint32_t partition) {
    if (taken != nobody) return;
    taken = partition;
    while (!other->owns(partition)) {
      std::promise<void> claimed;
      other->claim(partition, [&](const result<void>&) { claimed.set_value(); });
      claimed.get_future().wait();
    }
    EXPECT_TRUE(comes_true([&] { return log->standing(partition).epoch == other->standing(partition).epoch; }));
  };
  member.lost = [&](std::uint32_t partition) {
    if (partition == taken) lost = partition;
  };
  auto joined = Membership::join(*log, std::move(member)).value();
  ASSERT_TRUE(comes_true([&] { return lost != nobody; }));
  EXPECT_EQ(joined->address_of(lost), std::nullopt) << "whoever has taken it has not said yet where it is";
  joined.reset();
}

TEST_F(KafkaLogTest, who_reads_a_partition_whose_broker_is_silent_is_told_so_while_another_answers) {
  Broker cluster("--nodes 2");
  auto o = options(cluster.brokers);
  o.replicas = 1;
  o.stalled_after = milliseconds(3000);
  auto log = KafkaLog::open(std::move(o)).value();
  cluster.freeze(2);
  struct Reads {
    std::atomic<bool> under_way{false};
    std::atomic<int> read{0}, refused{0};
  };
  std::array<Reads, partitions> reads;
  const auto ask = [&] {
    for (std::uint32_t partition = 0; partition < partitions; ++partition) {
      Reads& each = reads[partition];
      if (each.under_way.exchange(true)) continue;
      log->barrier(partition, [&each](const result<void>& ended) {
        ++(ended ? each.read : each.refused);
        each.under_way = false;
      });
    }
  };
  EXPECT_TRUE(comes_true([&] {
    ask();
    return std::ranges::any_of(reads, [](const Reads& each) { return each.refused > 0; });
  }));
  std::array<int, partitions> before;
  std::ranges::transform(reads, before.begin(), [](const Reads& each) { return each.read.load(); });
  EXPECT_TRUE(comes_true([&] {
    ask();
    return !std::ranges::equal(reads, before, {}, [](const Reads& each) { return each.read.load(); });
  })) << "the other broker answers";
  EXPECT_TRUE(comes_true([&] { return log->writable().has_value(); }));
  cluster.thaw(2);
  log.reset();  // what is under way ends
}

// ---- the producer

TEST_F(KafkaLogTest, claims_again_when_messages_are_in_doubt_or_the_producer_is_of_no_use_any_more) {
  auto log = KafkaLog::open(options(shared_broker())).value();
  Ledger told;
  for (const char* fault :
       {"kafka.before_send=error@7", "kafka.producer_fails=error@2", "kafka.before_send=error@1,kafka.producer_fails=error@3"}) {
    FaultPoint::arm(fault);
    for (int i = 0; i < 60; ++i)
      told.append(*log, make_append(std::string(fault) + std::to_string(i), 0, static_cast<std::uint32_t>(i) % partitions));
    EXPECT_TRUE(told.wait());
    FaultPoint::arm("");
  }
  EXPECT_EQ(told.durable(), 180u);
  told.expect_all_in(*log);
  EXPECT_THAT(notes.all(), HasSubstr("the producer is made anew"));
  auto other = KafkaLog::open(options(shared_broker(), "other")).value();
  EXPECT_EQ(records_in(*other), 180u);
  told.expect_all_in(*other);
}

// ---- the cache

TEST_F(KafkaLogTest, a_cache_that_is_deleted_under_the_server_is_written_again_and_nothing_stops) {
  Ledger told;
  {
    auto log = KafkaLog::open(options(shared_broker())).value();
    for (int i = 0; i < 20; ++i)
      told.append(*log, make_append("s" + std::to_string(i), 0, static_cast<std::uint32_t>(i) % partitions));
    ASSERT_TRUE(told.wait());
    for (const char* suffix : {"", "-wal", "-shm"}) fs::remove(folder.path / (std::string("cache.db") + suffix));
    ASSERT_TRUE(comes_true([&] { return notes.all().find("written again") != std::string::npos; }));
    EXPECT_EQ(records_in(*log), 20u);
    for (int i = 0; i < 20; ++i)
      told.append(*log, make_append("s" + std::to_string(i), 1, static_cast<std::uint32_t>(i) % partitions));
    ASSERT_TRUE(told.wait());
    EXPECT_EQ(told.durable(), 40u);
    told.expect_all_in(*log);
  }
  auto log = KafkaLog::open(options(shared_broker())).value();
  told.expect_all_in(*log);
  EXPECT_THAT(notes.all(), testing::Not(HasSubstr("rebuilt")));
}

TEST_F(KafkaLogTest, a_cache_that_is_damaged_or_gone_is_rebuilt_from_kafka) {
  Ledger told;
  std::string id;
  {
    auto log = KafkaLog::open(options(shared_broker())).value();
    id = log->log_id();
    for (int i = 0; i < 20; ++i)
      told.append(*log, make_append("s" + std::to_string(i), 0, static_cast<std::uint32_t>(i) % partitions));
    ASSERT_TRUE(told.wait());
  }
  const fs::path cache = folder.path / "cache.db";
  {
    std::fstream file(cache, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(fs::file_size(cache)) - 200);
    file << std::string(100, '!');
  }
  {
    auto log = KafkaLog::open(options(shared_broker())).value();
    EXPECT_THAT(notes.all(), HasSubstr("the cache is rebuilt from Kafka"));
    EXPECT_EQ(log->log_id(), id);
    told.expect_all_in(*log);
  }
  fs::remove(cache);
  auto log = KafkaLog::open(options(shared_broker())).value();
  told.expect_all_in(*log);
  told.append(*log, make_append("s0", 1, 0));
  ASSERT_TRUE(told.wait());
  EXPECT_EQ(told.durable(), 21u);
}

TEST_F(KafkaLogTest, a_cache_of_another_log_is_refused) {
  KafkaLog::open(options(shared_broker())).value()->close();
  auto other = options(shared_broker());
  other.topic += ".other";
  EXPECT_THAT(error_of(std::move(other)), HasSubstr("is it the right topic?"));
}

TEST_F(KafkaLogTest, a_cache_has_one_server) {
  auto log = KafkaLog::open(options(shared_broker())).value();
  EXPECT_THAT(error_of(options(shared_broker())), HasSubstr("holds"));
}

// ---- what is wrong from the start

TEST_F(KafkaLogTest, says_what_is_wrong_with_the_topic) {
  auto missing = options(shared_broker());
  missing.create_topic = false;
  EXPECT_THAT(error_of(std::move(missing)), HasSubstr("there is no topic " + folder.path.filename().string()));
  KafkaLog::open(options(shared_broker())).value()->close();
  auto other = options(shared_broker());
  other.partitions = 24;
  EXPECT_THAT(error_of(std::move(other)), HasSubstr("has 3 partitions, asked for were 24"));
  auto forgetful = options(shared_broker());
  forgetful.topic = "__consumer_offsets";  // compacted
  forgetful.partitions = 4;
  EXPECT_THAT(error_of(std::move(forgetful)), HasSubstr("its cleanup.policy is compact and must be delete"));
  auto nameless = options(shared_broker());
  nameless.topic = "no/topic";
  EXPECT_THAT(error_of(std::move(nameless)), HasSubstr("no/topic"));
}

TEST_F(KafkaLogTest, says_that_no_broker_answers) {
  auto o = options("127.0.0.1:1");
  o.patience = milliseconds(1500);
  EXPECT_THAT(error_of(std::move(o)), HasSubstr("Kafka at 127.0.0.1:1 does not answer"));
}

TEST_F(KafkaLogTest, says_which_client_setting_is_none) {
  auto o = options("127.0.0.1:1");
  o.client = {{"security.protocl", "ssl"}};
  EXPECT_THAT(error_of(std::move(o)), HasSubstr("security.protocl"));
}

TEST_F(KafkaLogTest, comes_by_tls_logs_in_and_says_which_of_both_is_refused) {
  const Broker broker("--tls --user onboarding:right");
  const auto with = [&](const std::string& password, const std::string& authority) {
    auto o = options(broker.brokers);
    o.patience = milliseconds(15'000);  // a refusal ends the wait; the first handshake of a cold broker takes its time
    o.client = {{"security.protocol", "sasl_ssl"},
                {"ssl.ca.location", authority.empty() ? "probe" : authority},  // the system's
                {"sasl.mechanism", "PLAIN"},
                {"sasl.username", "onboarding"},
                {"sasl.password", password}};
    return o;
  };
  EXPECT_THAT(error_of(with("wrong", broker.authority())), HasSubstr("refuses the login"));
  EXPECT_THAT(error_of(with("right", "")), HasSubstr("no TLS connection"));
  EXPECT_THAT(error_of(with("right", "/nowhere.pem")), HasSubstr("ssl.ca.location"));
  auto stranger = options(broker.brokers);
  stranger.patience = milliseconds(1500);
  EXPECT_THAT(error_of(std::move(stranger)), HasSubstr("does it expect a login or TLS"));
  auto log = KafkaLog::open(with("right", broker.authority())).value();
  Ledger told;
  told.append(*log, make_append("a", 0));
  ASSERT_TRUE(told.wait());
  EXPECT_EQ(told.durable(), 1u);
}

// ---- the broker

TEST_F(KafkaLogTest, survives_a_broker_that_is_frozen_killed_and_started_again) {
  Broker broker;
  auto o = options(broker.brokers);
  o.stalled_after = milliseconds(300);
  o.message_timeout = milliseconds(1200);
  auto log = KafkaLog::open(std::move(o)).value();
  Ledger told;
  int sent = 0;
  const auto send = [&](int count) {
    for (int i = 0; i < count; ++i, ++sent)
      told.append(*log, make_append("s" + std::to_string(sent), 0, static_cast<std::uint32_t>(sent) % partitions));
  };
  send(30);
  ASSERT_TRUE(told.wait());

  // Frozen until what was sent is in doubt: it is claimed again, and each append ends durable all the same.
  broker.freeze();
  send(30);
  ASSERT_TRUE(comes_true([&] { return !log->writable(); })) << "a silent broker must show";
  send(5);
  ASSERT_TRUE(comes_true([&] { return notes.all().find("in doubt") != std::string::npos; }));
  broker.thaw();
  ASSERT_TRUE(told.wait());
  EXPECT_TRUE(comes_true([&] { return log->writable().has_value(); }));
  EXPECT_EQ(told.durable(), 60u);
  EXPECT_EQ(told.refused, 5u);

  // Killed with appends under way, and started again.
  send(30);
  broker.kill();
  send(30);
  broker.start();
  ASSERT_TRUE(told.wait());
  EXPECT_GE(told.durable(), 60u + 30u);
  EXPECT_EQ(told.other, 0u);
  EXPECT_EQ(told.fenced, 0u);
  EXPECT_EQ(told.durable() + told.refused, static_cast<std::size_t>(sent));
  told.expect_all_in(*log);
  log.reset();

  // What the cache says is what Kafka says.
  auto anew = KafkaLog::open(options(broker.brokers, "anew")).value();
  told.expect_all_in(*anew);
  EXPECT_EQ(records_in(*anew), told.durable());
  EXPECT_THAT(notes.all(), testing::Not(HasSubstr("FATAL")));
}

TEST_F(KafkaLogTest, survives_the_death_of_one_broker_of_three_and_of_all_at_once) {
  Broker cluster("--nodes 3");
  auto log = KafkaLog::open(options(cluster.brokers)).value();
  Ledger told;
  int sent = 0;
  const auto send = [&](int count) {
    for (int i = 0; i < count; ++i, ++sent) {
      told.append(*log, make_append("s" + std::to_string(sent), 0, static_cast<std::uint32_t>(sent) % partitions));
      std::this_thread::sleep_for(milliseconds(1));
    }
  };
  send(50);
  cluster.kill(2);
  send(50);
  EXPECT_TRUE(comes_true([&] { return told.durable() > 60; })) << "two of three go on";
  ASSERT_TRUE(told.wait());
  cluster.start();
  send(50);
  for (int node = 1; node <= 3; ++node) cluster.kill(node);
  cluster.start();
  ASSERT_TRUE(told.wait());
  EXPECT_TRUE(comes_true([&] { return log->writable().has_value(); }));
  send(10);
  ASSERT_TRUE(told.wait());
  EXPECT_EQ(told.other, 0u);
  EXPECT_EQ(told.fenced, 0u);
  EXPECT_EQ(told.durable() + told.refused, static_cast<std::size_t>(sent));
  EXPECT_GT(told.durable(), 100u);
  told.expect_all_in(*log);
  auto anew = KafkaLog::open(options(cluster.brokers, "anew")).value();
  told.expect_all_in(*anew);
}

TEST_F(KafkaLogTest, a_broker_that_never_comes_back_leaves_appends_in_doubt_only_at_the_end) {
  Broker broker;
  auto o = options(broker.brokers);
  o.patience = milliseconds(3000);
  auto log = KafkaLog::open(std::move(o)).value();
  broker.kill();
  Ledger told;
  told.append(*log, make_append("a", 0));
  log->close();
  ASSERT_TRUE(told.wait());
  EXPECT_EQ(told.durable(), 0u);
  EXPECT_EQ(told.other + told.refused, 1u);
}

TEST_F(KafkaLogTest, a_topic_that_holds_less_or_something_else_than_was_read_from_it_is_refused) {
  Ledger told;
  {
    auto log = KafkaLog::open(options(shared_broker())).value();
    for (int i = 0; i < 9; ++i)
      told.append(*log, make_append("s" + std::to_string(i), 0, static_cast<std::uint32_t>(i) % partitions));
    ASSERT_TRUE(told.wait());
  }
  // As if the topic had been longer, or another message had stood where it was read to.
  const auto change = [&](const std::string& sql) {
    sqlite3* database = nullptr;
    ASSERT_EQ(sqlite3_open((folder.path / "cache.db").c_str(), &database), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK);
    sqlite3_close(database);
  };
  const std::string place = " WHERE key='kafka:1'";
  change("UPDATE meta SET value='999'||substr(value,instr(value,' '))" + place);
  EXPECT_THAT(error_of(options(shared_broker())), HasSubstr("Kafka lost what it had acknowledged"));
  fs::remove(folder.path / "cache.db");
  KafkaLog::open(options(shared_broker())).value()->close();
  change("UPDATE meta SET value=substr(value,1,length(value)-32)||'00000000000000000000000000000001'" + place);
  EXPECT_THAT(error_of(options(shared_broker())), HasSubstr("holds another message"));
  fs::remove(folder.path / "cache.db");
  told.expect_all_in(*KafkaLog::open(options(shared_broker())).value());
}

}  // namespace
}  // namespace onboarding::log
