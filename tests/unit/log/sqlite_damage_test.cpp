// A log that was cut or altered starts with all it acknowledged, or refuses and says why.
#include "events/log/sqlite/layout.hpp"
#include "tests/unit/log/scratch.hpp"

namespace onboarding::log {
namespace {

constexpr std::uint32_t partitions = 2;

result<std::unique_ptr<SqliteLog>> open(const Scratch& scratch, bool rebuild_head = false) {
  return SqliteLog::open({.path = scratch.path(), .partitions = partitions, .rebuild_head = rebuild_head});
}

/// All that a reader can get out of a log, by every way of reading; empty when any of them fails.
std::vector<std::string> contents(EventLog& log) {
  std::vector<std::string> found;
  const auto note = [&](const Record& r) {
    found.push_back(std::to_string(r.partition) + ":" + std::to_string(r.first_sequence) + " " + r.stream + " " +
                    std::to_string(r.first_version) + " " + std::to_string(r.count) + " " + r.record_id + " " + r.payload + " " +
                    std::to_string(r.index.open) + std::to_string(r.index.pending_turn) +
                    std::to_string(r.index.due_at.time_since_epoch().count()) +
                    std::to_string(r.time.time_since_epoch().count()));
  };
  for (std::uint32_t partition = 0; partition < partitions; ++partition) {
    found.push_back("head " + std::to_string(log.head(partition)));
    const auto records = log.read_partition(partition, 0, 1000, 1 << 30);
    if (!records) return {};
    for (const auto& record : *records) note(record);
    const auto due = log.due(partition, domain::Timestamp::max(), 1000).value();
    for (const auto& open : due) found.push_back(open.stream + std::to_string(open.version));
  }
  for (std::uint32_t s = 0; s < 4; ++s) {
    const auto read = std::make_shared<std::promise<result<std::vector<Record>>>>();
    log.read_stream(s % partitions, "s" + std::to_string(s), 0, 1000,
                    [read](result<std::vector<Record>> r) { read->set_value(std::move(r)); });
    const auto records = read->get_future().get();
    if (!records) return {};
    for (const auto& record : *records) note(record);
  }
  return found;
}

/// A log's files at one moment.
struct Files {
  std::string database, wal, head;
  static Files of(const Scratch& scratch) {
    return {slurp(scratch.path()), slurp(scratch.path() + "-wal"), slurp(head_path(scratch.path()))};
  }
  void put(const Scratch& scratch) const {
    std::filesystem::remove(scratch.path() + "-shm");
    spill(scratch.path(), database);
    spill(scratch.path() + "-wal", wal);
    spill(head_path(scratch.path()), head);
  }
};

/// Ten records, one commit each; the files and the contents after each.
struct History {
  History() {
    const Scratch scratch;
    auto log = open(scratch).value();
    files.push_back(Files::of(scratch));
    contents.push_back(log::contents(*log));
    for (std::uint32_t i = 0; i < 10; ++i) {
      const std::uint32_t s = i % 4;
      EXPECT_TRUE(durable_now(*log, make_append("s" + std::to_string(s), i / 4 * 2, s % partitions, 2)));
      files.push_back(Files::of(scratch));
      contents.push_back(log::contents(*log));
    }
    log.reset();
    closed = Files::of(scratch);
  }
  std::vector<Files> files;                        // [n]: with n records, all of them in the WAL
  std::vector<std::vector<std::string>> contents;  // [n]
  Files closed;                                    // all in the database file, no WAL
};

TEST(SqliteDamage, a_torn_wal_is_cut_to_whole_records_and_refused_when_more_was_acknowledged) {
  const History history;
  const Scratch scratch;
  const std::size_t last = 10, first = 7;
  const std::string& wal = history.files[last].wal;
  const std::size_t frame = 8192 + 24;
  std::size_t started = 0, refused = 0;
  for (std::size_t cut = history.files[first].wal.size(); cut < wal.size(); ++cut) {
    // Every byte around the frames' borders, where the meaning changes; a sample within the pages.
    const std::size_t in_frame = (cut - 32) % frame;
    if (in_frame > 26 && in_frame < frame - 2 && cut % 2039 != 0) continue;
    std::size_t whole = first;
    while (whole < last && history.files[whole + 1].wal.size() <= cut) ++whole;
    Files torn = history.files[last];
    torn.wal.resize(cut);

    torn.head = history.files[whole].head;
    torn.put(scratch);
    {
      auto log = open(scratch);
      ASSERT_TRUE(log) << "cut at " << cut << ": " << log.error().message();
      ASSERT_EQ(contents(**log), history.contents[whole]) << "cut at " << cut;
      ++started;
    }
    torn.head = history.files[whole + 1].head;
    torn.put(scratch);
    auto log = open(scratch);
    ASSERT_FALSE(log) << "cut at " << cut;
    ASSERT_EQ(log.error().code, Errc::shorter_than_head);
    ++refused;
  }
  EXPECT_GT(started, 100u);
  EXPECT_EQ(started, refused);
}

/// Flips bits of one of the files, each time from the whole state; `started` counts those that did no harm.
void flip_bits(const History& history, const Files& whole, std::string Files::*member, std::size_t stride, std::size_t& refused,
               std::size_t& harmless) {
  const Scratch scratch;
  for (std::size_t bit = 0; bit < (whole.*member).size() * 8; bit += stride) {
    Files flipped = whole;
    (flipped.*member)[bit / 8] = static_cast<char>((flipped.*member)[bit / 8] ^ (1 << (bit % 8)));
    flipped.put(scratch);
    auto log = open(scratch);
    if (!log) {
      ++refused;
      ASSERT_FALSE(log.error().detail.empty());
      continue;
    }
    ASSERT_EQ(contents(**log), history.contents[10]) << "bit " << bit << " changed what the log says";
    ASSERT_TRUE(durable_now(**log, make_append("s0", 6, 0))) << "bit " << bit;
    ++harmless;
  }
}

TEST(SqliteDamage, a_flipped_bit_of_the_wal_is_found_or_harmless) {
  const History history;
  std::size_t refused = 0, harmless = 0;
  flip_bits(history, history.files[10], &Files::wal, 7013, refused, harmless);
  EXPECT_GT(refused, 100u);
}

TEST(SqliteDamage, a_flipped_bit_of_the_database_is_found_or_harmless) {
  const History history;
  ASSERT_TRUE(history.closed.wal.empty());
  std::size_t refused = 0, harmless = 0;
  flip_bits(history, history.closed, &Files::database, 1009, refused, harmless);
  EXPECT_GT(refused, 10u);
  EXPECT_GT(harmless, 10u) << "most of a small database is free space";
}

TEST(SqliteDamage, every_flipped_bit_of_the_head_file_is_refused_with_the_way_out) {
  const History history;
  const Scratch scratch;
  for (std::size_t bit = 0; bit < history.closed.head.size() * 8; ++bit) {
    Files flipped = history.closed;
    flipped.head[bit / 8] = static_cast<char>(flipped.head[bit / 8] ^ (1 << (bit % 8)));
    flipped.put(scratch);
    const auto log = open(scratch);
    ASSERT_FALSE(log) << bit;
    ASSERT_NE(log.error().detail.find("rebuild-head"), std::string::npos);
  }
}

TEST(SqliteDamage, a_lost_head_file_is_refused_until_an_operator_rebuilds_it) {
  const History history;
  const Scratch scratch;
  history.closed.put(scratch);
  std::filesystem::remove(head_path(scratch.path()));
  const auto refused = open(scratch);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::corrupt);
  EXPECT_NE(refused.error().detail.find("rebuild-head"), std::string::npos);
  {
    auto rebuilt = open(scratch, true);
    ASSERT_TRUE(rebuilt);
    EXPECT_EQ(contents(**rebuilt), history.contents[10]);
  }
  EXPECT_TRUE(open(scratch));
}

TEST(SqliteDamage, an_old_copy_of_the_log_under_a_newer_head_is_refused) {
  const History history;
  const Scratch scratch;
  Files old = history.files[6];
  old.head = history.files[7].head;
  old.put(scratch);
  const auto log = open(scratch);
  ASSERT_FALSE(log);
  EXPECT_EQ(log.error().code, Errc::shorter_than_head);
  EXPECT_NE(log.error().detail.find("ends with record 6, acknowledged were 7"), std::string::npos) << log.error().detail;
}

TEST(SqliteDamage, a_log_whose_file_is_gone_is_not_made_anew) {
  const History history;
  const Scratch scratch;
  history.closed.put(scratch);
  std::filesystem::remove(scratch.path());
  const auto log = open(scratch);
  ASSERT_FALSE(log);
  EXPECT_EQ(log.error().code, Errc::shorter_than_head);
}

TEST(SqliteDamage, another_logs_head_is_refused) {
  const History mine, other;
  const Scratch scratch;
  Files mixed = mine.closed;
  mixed.head = other.closed.head;
  mixed.put(scratch);
  const auto log = open(scratch);
  ASSERT_FALSE(log);
  EXPECT_EQ(log.error().code, Errc::wrong_layout);
}

TEST(SqliteDamage, an_altered_payload_is_named_by_record_and_position) {
  const History history;
  const Scratch scratch;
  Files altered = history.closed;
  const auto place = altered.database.rfind("\"stream\":\"s1\",\"after\":2");
  ASSERT_NE(place, std::string::npos);
  altered.database[place + 11] = '2';
  altered.put(scratch);
  const auto log = open(scratch);
  ASSERT_FALSE(log);
  EXPECT_EQ(log.error().code, Errc::corrupt);
  EXPECT_NE(log.error().detail.find("record 6 (1:5)"), std::string::npos) << log.error().detail;
  const auto verified = verify_sqlite(scratch.path());
  ASSERT_FALSE(verified);
  EXPECT_EQ(verified.error().detail, log.error().detail);
}

TEST(SqliteDamage, another_number_of_partitions_is_a_wrong_layout) {
  const History history;
  const Scratch scratch;
  history.closed.put(scratch);
  const auto log = SqliteLog::open({.path = scratch.path(), .partitions = partitions + 1});
  ASSERT_FALSE(log);
  EXPECT_EQ(log.error().code, Errc::wrong_layout);
}

TEST(SqliteDamage, a_file_that_is_no_database_is_refused) {
  const Scratch scratch;
  spill(scratch.path(), std::string(20000, 'x'));
  const auto log = open(scratch);
  ASSERT_FALSE(log);
  EXPECT_EQ(log.error().code, Errc::corrupt);
  EXPECT_EQ(slurp(scratch.path()), std::string(20000, 'x'));
}

}  // namespace
}  // namespace onboarding::log
