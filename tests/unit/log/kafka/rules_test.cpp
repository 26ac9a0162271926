#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "events/log/kafka/rules/owner.hpp"

namespace onboarding::log::kafka {
namespace {

Id id(std::uint8_t n) {
  Id made;
  made.bytes[0] = n;
  return made;
}

Entry claim(std::uint64_t epoch, std::uint8_t by) {
  Entry entry;
  entry.kind = Kind::claim;
  entry.epoch = epoch;
  entry.claim = id(by);
  return entry;
}

Entry events(std::uint8_t by, std::uint64_t sequence, std::uint32_t count = 1) {
  Entry entry;
  entry.claim = id(by);
  entry.record.first_sequence = sequence;
  entry.record.first_version = 1;
  entry.record.count = count;
  entry.record.stream = "s";
  entry.record.record_id = std::string(16, static_cast<char>(sequence));
  return entry;
}

Entry of_kind(Kind kind, std::uint8_t by) {
  Entry entry;
  entry.kind = kind;
  entry.claim = id(by);
  entry.record.record_id = std::string(16, 'b');
  return entry;
}

std::vector<Verdict> verdicts(const std::vector<Entry>& entries) {
  Ledger ledger;
  std::vector<Verdict> found;
  for (std::size_t i = 0; i < entries.size(); ++i) found.push_back(ledger.read(static_cast<std::int64_t>(i), &entries[i]));
  return found;
}
constexpr Verdict yes = Verdict::counted, no = Verdict::nothing;
using Verdicts = std::vector<Verdict>;

// ---- the voiding rule

TEST(KafkaLedger, nothing_counts_before_a_claim) {
  EXPECT_EQ(verdicts({events(1, 1), of_kind(Kind::barrier, 1), of_kind(Kind::release, 1), events(0, 1)}),
            (Verdicts{no, no, no, no}));
}

TEST(KafkaLedger, a_claim_counts_when_its_epoch_is_exactly_one_above) {
  EXPECT_EQ(verdicts({claim(2, 1), claim(0, 1), claim(1, 1), claim(3, 2), claim(2, 2)}), (Verdicts{no, no, yes, no, yes}));
}

TEST(KafkaLedger, of_two_claims_of_one_epoch_the_first_counts) {
  EXPECT_EQ(verdicts({claim(1, 1), claim(1, 2), events(2, 1), events(1, 1)}), (Verdicts{yes, no, no, yes}));
}

TEST(KafkaLedger, a_record_counts_when_it_names_the_last_claim_and_follows_in_sequence) {
  EXPECT_EQ(verdicts({claim(1, 1), events(1, 1, 3), events(1, 3), events(1, 5), events(1, 4), events(1, 4), claim(2, 2),
                      events(1, 5), events(2, 5)}),
            (Verdicts{yes, yes, no, no, yes, no, yes, no, yes}));
}

TEST(KafkaLedger, after_a_release_nothing_counts_until_the_next_claim) {
  EXPECT_EQ(verdicts({claim(1, 1), of_kind(Kind::barrier, 1), of_kind(Kind::release, 1), events(1, 1), of_kind(Kind::barrier, 1),
                      events(0, 1), claim(2, 2), events(2, 1)}),
            (Verdicts{yes, yes, yes, no, no, no, yes, yes}));
}

TEST(KafkaLedger, what_was_read_before_is_seen_and_what_is_missing_is_a_gap_that_changes_nothing) {
  Ledger ledger;
  const Entry first = claim(1, 1), second = events(1, 1);
  EXPECT_EQ(ledger.read(1, &second), Verdict::gap);
  EXPECT_EQ(ledger.at(), Checkpoint{});
  EXPECT_EQ(ledger.read(0, &first), yes);
  EXPECT_EQ(ledger.read(0, &first), Verdict::seen);
  EXPECT_EQ(ledger.read(1, nullptr), no);
  EXPECT_EQ(ledger.read(2, &second), yes);
  EXPECT_EQ(ledger.at(), (Checkpoint{2, 1, id(1), 1}));
}

rc::Gen<Entry> any_entry() {
  return rc::gen::map(
      rc::gen::tuple(rc::gen::inRange(0, 5), rc::gen::inRange(1, 4), rc::gen::inRange(1, 6), rc::gen::inRange(1, 3)),
      [](const auto& drawn) {
        const auto [kind, by, number, count] = drawn;
        const auto owner = static_cast<std::uint8_t>(by);
        if (kind <= 1) return claim(static_cast<std::uint64_t>(number), owner);
        if (kind == 2) return of_kind(number == 1 ? Kind::release : Kind::barrier, owner);
        return events(owner, static_cast<std::uint64_t>(number), static_cast<std::uint32_t>(count));
      });
}

TEST(KafkaLedger, a_reader_that_resumes_from_any_checkpoint_counts_what_one_counts_that_never_stopped) {
  EXPECT_TRUE(rc::check([] {
    const auto entries = *rc::gen::container<std::vector<Entry>>(any_entry());
    const auto stop = static_cast<std::int64_t>(*rc::gen::inRange<std::size_t>(0, entries.size() + 1));
    const Verdicts whole = verdicts(entries);
    Ledger ledger;
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(entries.size()); ++i) {
      if (i == stop) ledger = Ledger(*parse_checkpoint(to_string(ledger.at())));
      RC_ASSERT(ledger.read(i, &entries[static_cast<std::size_t>(i)]) == whole[static_cast<std::size_t>(i)]);
    }
  }));
}

TEST(KafkaLedger, counted_sequences_have_no_gap_and_counted_epochs_neither) {
  EXPECT_TRUE(rc::check([] {
    const auto entries = *rc::gen::container<std::vector<Entry>>(any_entry());
    std::uint64_t sequence = 0, epoch = 0;
    const Verdicts found = verdicts(entries);
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if (found[i] != Verdict::counted) continue;
      if (entries[i].kind == Kind::claim) RC_ASSERT(entries[i].epoch == ++epoch);
      if (entries[i].kind != Kind::events) continue;
      RC_ASSERT(entries[i].record.first_sequence == sequence + 1);
      sequence = entries[i].record.last_sequence();
    }
  }));
}

TEST(KafkaLedger, a_checkpoint_of_another_form_is_none) {
  const std::string good = to_string(Checkpoint{7, 3, id(9), 12});
  EXPECT_EQ(parse_checkpoint(good), (Checkpoint{7, 3, id(9), 12}));
  for (const std::string& bad :
       {std::string(), std::string("7"), good + " ", " " + good, good.substr(0, good.size() - 3), "0" + good, "+" + good})
    EXPECT_FALSE(parse_checkpoint(bad)) << bad;
}

// ---- the form

TEST(KafkaEntry, is_read_back_as_it_was_written) {
  EXPECT_TRUE(rc::check([] {
    Entry entry;
    entry.kind = *rc::gen::element(Kind::log, Kind::claim, Kind::events, Kind::barrier, Kind::release);
    entry.claim = id(*rc::gen::inRange<std::uint8_t>(1, 255));
    entry.epoch = *rc::gen::arbitrary<std::uint64_t>();
    entry.log_id = id(*rc::gen::inRange<std::uint8_t>(1, 255));
    entry.partitions = *rc::gen::arbitrary<std::uint32_t>();
    Record& record = entry.record;
    record = {*rc::gen::inRange<std::uint32_t>(0, 999),
              *rc::gen::arbitrary<std::uint64_t>(),
              *rc::gen::nonEmpty(rc::gen::string<std::string>()),
              *rc::gen::arbitrary<std::uint64_t>(),
              *rc::gen::inRange<std::uint32_t>(1, UINT32_MAX),
              std::string(16, static_cast<char>(*rc::gen::inRange(1, 255))),
              {*rc::gen::arbitrary<bool>(), *rc::gen::arbitrary<bool>(),
               domain::Timestamp(std::chrono::microseconds(*rc::gen::arbitrary<std::int64_t>()))},
              domain::Timestamp(std::chrono::microseconds(*rc::gen::arbitrary<std::int64_t>())),
              *rc::gen::string<std::string>(),
              {}};
    const auto read = parse(record.partition, to_message(entry));
    RC_ASSERT(read.has_value());
    RC_ASSERT(read->kind == entry.kind);
    if (entry.kind != Kind::log) RC_ASSERT(read->claim == entry.claim);
    if (entry.kind == Kind::claim) RC_ASSERT(read->epoch == entry.epoch);
    if (entry.kind == Kind::log) RC_ASSERT(read->log_id == entry.log_id && read->partitions == entry.partitions);
    if (entry.kind == Kind::barrier || entry.kind == Kind::events) RC_ASSERT(read->record.record_id == record.record_id);
    if (entry.kind != Kind::events) return;
    RC_ASSERT(read->record.stream == record.stream && read->record.payload == record.payload);
    RC_ASSERT(read->record.first_sequence == record.first_sequence && read->record.first_version == record.first_version);
    RC_ASSERT(read->record.count == record.count && read->record.index == record.index && read->record.time == record.time);
  }));
}

TEST(KafkaEntry, whatever_is_not_exactly_one_is_none) {
  const Message good = to_message(events(1, 5));
  EXPECT_TRUE(parse(0, good));
  for (std::size_t i = 0; i < good.headers.size(); ++i) {
    Message missing = good, doubled = good, padded = good, empty = good;
    missing.headers.erase(missing.headers.begin() + static_cast<std::ptrdiff_t>(i));
    padded.headers[i].second = "0" + padded.headers[i].second;
    empty.headers[i].second.clear();
    EXPECT_FALSE(parse(0, missing)) << good.headers[i].first;
    EXPECT_FALSE(parse(0, padded)) << good.headers[i].first;
    EXPECT_FALSE(parse(0, empty)) << good.headers[i].first;
    doubled.headers.push_back(good.headers[i]);
    EXPECT_FALSE(parse(0, doubled)) << good.headers[i].first;
  }
  Message nameless = good;
  nameless.key.clear();
  EXPECT_FALSE(parse(0, nameless));
  EXPECT_FALSE(parse(0, {}));
  Message newer = to_message(of_kind(Kind::log, 0));
  EXPECT_FALSE(parse(0, newer)) << "a log without an id";
}

// ---- owning

class Numbers final : public RandomSource {
 public:
  void fill(std::span<std::uint8_t> bytes) override {
    for (auto& byte : bytes) byte = 0;
    bytes[0] = ++last_;
  }

 private:
  std::uint8_t last_ = 0;
};

/// An owner and the partition that it writes to; what it sends is delivered or lost by hand.
class KafkaOwner : public testing::Test, public Streams {
 protected:
  KafkaOwner() : owner(0, numbers, *this) {}
  result<Place> find(std::string_view stream) override { return Place{0, versions[std::string(stream)]}; }

  void write(const Entry& entry) {
    const Verdict verdict = ledger.read(ledger.at().offset + 1, &entry);
    if (verdict == Verdict::counted && entry.kind == Kind::events) versions[entry.record.stream] = entry.record.last_version();
    owner.read(entry, verdict, ledger.at());
    tell();
  }
  void tell() {
    for (auto& [done, outcome] : std::exchange(owner.ended, {})) done(std::move(outcome));
    for (auto& [done, outcome] : std::exchange(owner.barriers_ended, {})) done(std::move(outcome));
  }
  std::vector<Entry> sent() { return std::exchange(owner.to_send, {}); }
  void deliver() {
    while (!owner.to_send.empty())
      for (const Entry& entry : sent()) write(entry);
  }
  void own() {
    owner.claim();
    deliver();
    ASSERT_EQ(owner.state(), Owner::State::owning);
  }
  std::size_t append(const std::string& stream, std::uint64_t expected, std::uint32_t count = 1) {
    Append append;
    append.stream = stream;
    append.expected_version = expected;
    append.count = count;
    append.record_id = std::string(16, static_cast<char>(++last_record));
    const std::size_t number = outcomes.size();
    outcomes.emplace_back();
    owner.append(append, [this, number](AppendOutcome outcome) { outcomes[number] = std::move(outcome); });
    tell();
    return number;
  }
  std::uint64_t durable_at(std::size_t number) {
    return outcomes[number] && std::holds_alternative<Durable>(*outcomes[number])
               ? std::get<Durable>(*outcomes[number]).first.sequence
               : 0;
  }
  template <class End>
  bool ended_as(std::size_t number) {
    return outcomes[number] && std::holds_alternative<End>(*outcomes[number]);
  }

  Numbers numbers;
  Ledger ledger;
  std::map<std::string, std::uint64_t> versions;
  Owner owner;
  std::vector<std::optional<AppendOutcome>> outcomes;
  char last_record = 0;
};

TEST_F(KafkaOwner, serves_only_when_its_claim_was_read_back) {
  owner.claim();
  const auto a = append("a", 0);
  EXPECT_EQ(owner.to_send.size(), 1u) << "the append waits for the claim";
  deliver();
  EXPECT_EQ(durable_at(a), 1u);
}

TEST_F(KafkaOwner, acknowledges_only_what_it_has_read_back) {
  own();
  const auto a = append("a", 0, 2), b = append("b", 0);
  const auto records = sent();
  ASSERT_EQ(records.size(), 2u);
  EXPECT_FALSE(outcomes[a]);
  write(records[0]);
  EXPECT_EQ(durable_at(a), 1u);
  EXPECT_FALSE(outcomes[b]);
  write(records[1]);
  EXPECT_EQ(durable_at(b), 3u);
}

TEST_F(KafkaOwner, without_a_claim_every_append_is_fenced) { EXPECT_TRUE(ended_as<Fenced>(append("a", 0))); }

TEST_F(KafkaOwner, is_replaced_by_a_newer_claim_and_what_was_under_way_is_fenced) {
  own();
  const auto a = append("a", 0);
  const auto late = sent();
  write(claim(2, 200));
  EXPECT_TRUE(ended_as<Fenced>(a));
  EXPECT_TRUE(owner.replaced());
  for (const Entry& entry : late) write(entry);
  EXPECT_EQ(ledger.at().sequence, 0u);
  EXPECT_TRUE(ended_as<Fenced>(append("a", 0)));
}

TEST_F(KafkaOwner, loses_a_tie_when_the_other_claim_was_first) {
  owner.claim();
  const auto a = append("a", 0);
  const auto ours = sent();
  write(claim(1, 200));
  EXPECT_TRUE(owner.replaced());
  EXPECT_TRUE(ended_as<Fenced>(a));
  write(ours[0]);
  EXPECT_EQ(owner.state(), Owner::State::following);
  own();  // asked again, it claims the next epoch
  EXPECT_EQ(ledger.at().epoch, 2u);
}

TEST_F(KafkaOwner, that_resumes_claims_the_epoch_after_the_one_it_had_read) {
  own();
  Owner resumed(0, numbers, *this, ledger.at());
  resumed.claim();
  EXPECT_EQ(resumed.to_send.at(0).epoch, 2u);
}

TEST_F(KafkaOwner, wins_a_tie_when_its_claim_was_first) {
  owner.claim();
  write(sent()[0]);
  write(claim(1, 200));
  EXPECT_EQ(owner.state(), Owner::State::owning);
}

TEST_F(KafkaOwner, claims_again_when_a_record_is_in_doubt_and_appends_again_what_was_not_counted) {
  own();
  const auto a = append("a", 0), b = append("b", 0);
  const auto records = sent();
  owner.failed(records[0]);
  EXPECT_EQ(owner.state(), Owner::State::claiming);
  const auto again = sent();
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].kind, Kind::claim);
  write(again[0]);
  deliver();
  EXPECT_EQ(durable_at(a), 1u);
  EXPECT_EQ(durable_at(b), 2u);
  for (const Entry& entry : records) write(entry);  // the first ones arrive all the same, and are void
  EXPECT_EQ(ledger.at().sequence, 2u);
}

TEST_F(KafkaOwner, what_was_in_doubt_and_came_before_the_new_claim_is_durable_and_not_written_again) {
  own();
  const auto a = append("a", 0);
  const auto records = sent();
  owner.failed(records[0]);
  write(records[0]);
  EXPECT_EQ(durable_at(a), 1u);
  deliver();
  EXPECT_EQ(ledger.at().sequence, 1u);
  EXPECT_EQ(owner.state(), Owner::State::owning);
}

TEST_F(KafkaOwner, claims_again_when_it_reads_a_gap_in_its_own_records) {
  own();
  const auto a = append("a", 0), b = append("b", 0);
  const auto records = sent();
  write(records[1]);
  EXPECT_EQ(owner.state(), Owner::State::claiming);
  deliver();
  EXPECT_EQ(durable_at(a), 1u);
  EXPECT_EQ(durable_at(b), 2u);
  EXPECT_EQ(owner.claims_again(), 1u);
}

TEST_F(KafkaOwner, a_record_that_arrives_twice_counts_once_and_needs_no_new_claim) {
  own();
  append("a", 0);
  const auto records = sent();
  write(records[0]);
  write(records[0]);
  EXPECT_EQ(owner.state(), Owner::State::owning);
  EXPECT_EQ(ledger.at().sequence, 1u);
}

TEST_F(KafkaOwner, a_claim_that_is_in_doubt_is_sent_again_and_counts_once) {
  owner.claim();
  const auto ours = sent();
  owner.failed(ours[0]);
  const auto again = sent();
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].claim, ours[0].claim);
  write(ours[0]);
  write(again[0]);
  EXPECT_EQ(owner.state(), Owner::State::owning);
  EXPECT_EQ(ledger.at().epoch, 1u);
}

TEST_F(KafkaOwner, a_conflict_with_what_is_under_way_is_told_when_that_is_known) {
  own();
  const auto a = append("a", 0), b = append("a", 0), c = append("x", 3);
  EXPECT_FALSE(outcomes[b]) << "nobody may hear of a version that is not counted";
  EXPECT_TRUE(ended_as<Conflict>(c));
  deliver();
  EXPECT_EQ(durable_at(a), 1u);
  ASSERT_TRUE(ended_as<Conflict>(b));
  EXPECT_EQ(std::get<Conflict>(*outcomes[b]).version_found, 1u);
}

TEST_F(KafkaOwner, a_conflict_with_what_came_to_nothing_is_none) {
  own();
  append("a", 0);
  const auto b = append("a", 0);
  sent();
  write(claim(2, 200));
  EXPECT_TRUE(ended_as<Fenced>(b));
}

TEST_F(KafkaOwner, a_barrier_ends_when_it_was_read_back_and_those_asked_meanwhile_wait_for_the_next) {
  own();
  int first = 0, second = 0;
  owner.barrier([&](result<void> done) { first = done ? 1 : -1; });
  owner.barrier([&](result<void> done) { second = done ? 1 : -1; });
  const auto one = sent();
  ASSERT_EQ(one.size(), 1u);
  write(one[0]);
  EXPECT_EQ(first, 1);
  EXPECT_EQ(second, 0);
  deliver();
  EXPECT_EQ(second, 1);
}

TEST_F(KafkaOwner, a_barrier_of_a_replaced_owner_fails) {
  own();
  int done = 0;
  owner.barrier([&](result<void> ended) { done = ended ? 1 : -1; });
  const auto barrier = sent();
  write(claim(2, 200));
  EXPECT_EQ(done, -1);
  write(barrier[0]);
  EXPECT_EQ(done, -1);
}

TEST_F(KafkaOwner, a_barrier_in_doubt_is_sent_again) {
  own();
  int done = 0;
  owner.barrier([&](result<void> ended) { done = ended ? 1 : -1; });
  owner.failed(sent()[0]);
  EXPECT_EQ(done, 0);
  deliver();
  EXPECT_EQ(done, 1);
}

TEST_F(KafkaOwner, hands_over_after_what_is_under_way_and_takes_nothing_new) {
  own();
  const auto a = append("a", 0);
  owner.hand_over();
  EXPECT_EQ(owner.to_send.size(), 1u) << "the release waits for the record";
  EXPECT_TRUE(ended_as<Fenced>(append("b", 0)));
  deliver();
  EXPECT_EQ(durable_at(a), 1u);
  EXPECT_EQ(owner.state(), Owner::State::following);
  EXPECT_FALSE(ledger.at().claim);
  EXPECT_FALSE(owner.replaced());
  own();
  EXPECT_EQ(ledger.at().epoch, 2u);
}

TEST_F(KafkaOwner, asked_to_hand_over_while_it_claims_it_claims_first) {
  owner.claim();
  owner.hand_over();
  deliver();
  EXPECT_EQ(owner.state(), Owner::State::following);
  EXPECT_FALSE(ledger.at().claim);
}

TEST_F(KafkaOwner, giving_up_leaves_what_was_sent_in_doubt_and_refuses_the_rest) {
  own();
  const auto a = append("a", 0), again = append("a", 0);
  owner.give_up({make_error_code(Errc::not_writable), "closing"});
  tell();
  EXPECT_TRUE(ended_as<InDoubt>(a));
  EXPECT_TRUE(ended_as<Refused>(again));
}

}  // namespace
}  // namespace onboarding::log::kafka
