#include "events/log/kafka/kafka_log.hpp"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <future>
#include <mutex>
#include <thread>

#include "events/domain/assertion.hpp"
#include "events/fault_point.hpp"
#include "events/log/append_rules.hpp"
#include "events/log/kafka/cache.hpp"
#include "events/log/kafka/client.hpp"
#include "events/log/recent_records.hpp"
#include "events/log/subscribers.hpp"

namespace onboarding::log::kafka {
namespace {

// In the order of the steps (FORMAT.md). The errors of the first two: a message whose end is unknown, a producer that is of no use any more.
FaultPoint before_send{"kafka.before_send"};
FaultPoint producer_fails{"kafka.producer_fails"};
FaultPoint before_commit{"kafka.before_commit"};
FaultPoint after_commit_before_ack{"kafka.after_commit_before_ack"};

using SteadyClock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::size_t messages_per_round = 4096;
constexpr std::size_t bytes_per_round = 8 << 20;
constexpr milliseconds chore_period{200};
constexpr milliseconds least_back_off{20}, most_back_off{1000};
constexpr int claims_at_start = 5;

void say_and_end(const Failure& why) {
  std::fprintf(stderr, "the event log failed and nothing is acknowledged any more: %s\n", why.message().c_str());
  ::_exit(70);
}

/// Tells a message from any other that might stand at its offset.
std::string tag_of(const std::optional<Entry>& entry) {
  if (!entry) return "-";
  switch (entry->kind) {
    case Kind::log: return to_hex(entry->log_id);
    case Kind::claim:
    case Kind::release: return to_hex(entry->claim);
    case Kind::events:
    case Kind::barrier: {
      Id id;
      std::copy_n(entry->record.record_id.begin(), std::min(entry->record.record_id.size(), id.bytes.size()), id.bytes.begin());
      return to_hex(id);
    }
  }
  return "-";
}

class Log final : public KafkaLog {
 public:
  explicit Log(KafkaOptions options)
      : options_(std::move(options)),
        random_(options_.random != nullptr ? *options_.random : system_random()),
        published_heads_(options_.partitions),
        owned_(options_.partitions),
        standing_(options_.partitions),
        recent_(options_.partitions, options_.recent_bytes) {
    if (!options_.on_fatal) options_.on_fatal = say_and_end;
    if (!options_.on_note) options_.on_note = [](const std::string&) {};
  }
  ~Log() override { close(); }

  result<void> start();
  void close() override;

  std::string log_id() const override { return to_hex(log_id_); }
  std::uint32_t partitions() const override { return options_.partitions; }
  result<void> writable() const override;
  void append(Append, AppendDone) override;
  void read_stream(std::uint32_t partition, std::string stream, std::uint64_t after_version, std::size_t max_records,
                   RecordsRead done) override {
    cache_->read_stream(partition, std::move(stream), after_version, max_records, std::move(done));
  }
  result<std::vector<Record>> read_partition(std::uint32_t partition, std::uint64_t after_sequence, std::size_t max_records,
                                             std::size_t max_bytes) override {
    if (auto recent = recent_.read(partition, after_sequence, max_records, max_bytes)) return *std::move(recent);
    return cache_->read_partition(partition, after_sequence, max_records, max_bytes);
  }
  std::uint64_t head(std::uint32_t partition) const override { return published_heads_.at(partition); }
  std::unique_ptr<Subscription> subscribe(std::function<void(std::uint32_t)> on_advance) override {
    followed_ = true;
    return subscribers_.add(std::move(on_advance));
  }
  result<std::vector<OpenStream>> pending_turns(std::uint32_t partition, std::size_t limit) override {
    return cache_->pending(partition, limit);
  }
  result<std::vector<OpenStream>> due(std::uint32_t partition, domain::Timestamp due_before, std::size_t limit) override {
    return cache_->due(partition, due_before, limit);
  }
  result<std::uint64_t> open_count() override { return cache_->open_count(); }

  void claim(std::uint32_t partition, Done done) override;
  void hand_over(std::uint32_t partition, Done done) override;
  bool owns(std::uint32_t partition) const override { return owned_.at(partition); }
  bool replaced() const override { return replaced_; }
  Standing standing(std::uint32_t partition) const override {
    const std::uint64_t both = standing_.at(partition);
    return {both >> 2, (both & 1) != 0, (both & 2) != 0};
  }
  void on_lost(std::function<void(std::uint32_t)> lost) override { lost_ = std::move(lost); }
  Counts counts() const override {
    const std::lock_guard lock(mutex_);
    Counts counts = counts_;
    counts.waiting = waiting_;
    counts.waiting_bytes = waiting_bytes_;
    return counts;
  }
  void barrier(std::uint32_t partition, Done done) override;

 private:
  struct Partition {
    Partition(std::uint32_t number, const ReadTo& from, RandomSource& random, Streams& streams)
        : ledger(from.at), owner(number, random, streams, from.at), tag(from.tag), checked(from.at.offset < 0) {}
    Ledger ledger;
    Owner owner;
    std::string tag;                // of the last message read
    bool checked;                   // the message at the checkpoint is the one that was read before
    bool moved = false;             // since the last commit
    bool was_replaced = false;      // and that was told
    std::int64_t gap_after = -2;    // where messages were missing the last time
    std::int64_t end_at_start = 0;  // what must be read before it is claimed
    int claims = 0;                 // at the start
    std::vector<Done> claiming, handing_over;
    SteadyClock::time_point read_at{};  // when last nobody waited to read it, or somebody's wait ended
  };
  enum class Phase : std::uint8_t { catching_up, claiming, serving, ended };

  result<void> find_topic();
  result<void> find_log_id();
  result<void> open_cache();
  result<void> make_producer();

  void run();
  void round();
  void take_asked();
  void receive();
  void handle(const rd_kafka_message_t&);
  void look_after_producer();
  void send();
  void commit();
  void tell();
  void look_after_start();
  void look_after_end();
  void chores();
  void count();
  SteadyClock::time_point next_due(SteadyClock::time_point now) const;
  void give_up(const Failure&);
  void note(const std::string& what) { options_.on_note(what); }
  void wake();
  bool ask(std::function<void()>);

  KafkaOptions options_;
  RandomSource& random_;
  Id log_id_;
  std::unique_ptr<Client> consumer_, producer_;
  struct FreeTopic {
    void operator()(rd_kafka_topic_t* topic) const { rd_kafka_topic_destroy(topic); }
  };
  std::unique_ptr<rd_kafka_topic_t, FreeTopic> producer_topic_;  // goes before its producer
  std::unique_ptr<Cache> cache_;

  // The log thread's own.
  std::vector<std::unique_ptr<Partition>> parts_;
  Phase phase_ = Phase::catching_up;
  std::deque<Entry> outbox_;
  std::vector<Entry> undelivered_;
  std::string last_refusal_;
  SteadyClock::time_point retry_at_{}, chores_at_{}, progress_at_{}, end_by_{};
  milliseconds back_off_ = least_back_off;
  std::vector<Record> counted_;  // in this round
  std::int64_t read_at_start_ = 0;
  Counts counting_;
  bool more_ = false, handing_over_at_end_ = false;
  std::promise<result<void>>* started_ = nullptr;

  std::vector<std::atomic<std::uint64_t>> published_heads_;
  std::vector<std::atomic<bool>> owned_;
  std::vector<std::atomic<std::uint64_t>> standing_;  // epoch × 4, one when it is claimed, two when it is ours
  std::function<void(std::uint32_t)> lost_;
  std::atomic<bool> replaced_{false}, stalled_{false}, followed_{false};
  std::atomic<std::size_t> waiting_{0}, waiting_bytes_{0};
  Subscribers subscribers_;
  RecentRecords recent_;

  mutable std::mutex mutex_;  // of all below
  std::condition_variable wake_;
  std::vector<std::pair<Append, AppendDone>> asked_;
  std::vector<std::function<void()>> commands_;
  bool signalled_ = false, closing_ = false, ended_ = false;
  Counts counts_;
  std::optional<Failure> failed_;
  std::thread thread_;
};

// ---- the start, on the caller's thread

result<void> Log::start() {
  auto made = Client::make(Client::Side::consumer, reading_settings(options_.brokers, options_.client), [this] { wake(); });
  if (!made) return tl::unexpected(made.error());
  consumer_ = std::move(*made);
  for (const auto step : {&Log::find_topic, &Log::make_producer, &Log::find_log_id, &Log::open_cache})
    if (auto done = (this->*step)(); !done) return done;
  std::promise<result<void>> started;
  auto ready = started.get_future();
  started_ = &started;
  thread_ = std::thread([this] { run(); });
  return ready.get();
}

result<void> Log::find_topic() {
  const TopicWanted wanted{options_.topic, options_.partitions, options_.create_topic, options_.replicas, keeps_everything()};
  auto made = find_or_make_topic(*consumer_, wanted, options_.patience, options_.brokers);
  if (!made) return tl::unexpected(made.error());
  if (*made) note("made the topic " + options_.topic + " with " + std::to_string(options_.partitions) + " partitions");
  return check_topic_settings(*consumer_, options_.topic, options_.patience);
}

result<void> Log::make_producer() {
  auto made = Client::make(Client::Side::producer, writing_settings(options_.brokers, options_.client, options_.message_timeout),
                           [this] { wake(); });
  if (!made) return tl::unexpected(made.error());
  producer_topic_.reset();
  producer_ = std::move(*made);
  producer_->undelivered = [this](std::uint32_t partition, Message message, rd_kafka_resp_err_t why) {
    auto entry = parse(partition, std::move(message));
    ONBOARDING_ASSERT(entry, "what this process sends is an entry");
    last_refusal_ = rd_kafka_err2str(why);
    ++counting_.in_doubt;
    if (undelivered_.empty()) note("partition " + std::to_string(partition) + ": a message is in doubt: " + last_refusal_);
    undelivered_.push_back(std::move(*entry));
  };
  producer_topic_.reset(rd_kafka_topic_new(producer_->handle(), options_.topic.c_str(), nullptr));
  if (!producer_topic_) return failure(Errc::wrong_layout, "the topic name " + options_.topic + " is not one");
  // Without it the first message waits up to a second for the leaders (librdkafka #5032).
  const rd_kafka_metadata_t* leaders = nullptr;
  if (rd_kafka_metadata(producer_->handle(), 0, producer_topic_.get(), &leaders, 1000) == RD_KAFKA_RESP_ERR_NO_ERROR)
    rd_kafka_metadata_destroy(leaders);
  return {};
}

/// The first message of partition 0 names the log: of several servers that begin at once, the first one's.
result<void> Log::find_log_id() {
  auto range = offsets(*consumer_, options_.topic, 0, options_.patience, options_.brokers);
  if (!range) return tl::unexpected(range.error());
  if (range->second == 0) {
    Entry entry;
    entry.kind = Kind::log;
    entry.log_id = make_id(random_);
    entry.partitions = options_.partitions;
    produce(*producer_, producer_topic_.get(), 0, to_message(entry));
    rd_kafka_flush(producer_->handle(), static_cast<int>(options_.patience.count()));
    undelivered_.clear();
  }
  const auto because = [&](const std::string& what) {
    return failure(Errc::wrong_layout, "the topic " + options_.topic + " " + what + ": is log.topic right?");
  };
  if (range->first > 0) return because("has lost its beginning");
  if (auto assigned = assign(*consumer_, options_.topic, {{0, 0}}); !assigned) return assigned;
  const auto deadline = SteadyClock::now() + options_.patience;
  while (SteadyClock::now() < deadline) {
    const Received message{rd_kafka_consumer_poll(consumer_->handle(), 50)};
    if (!message || message->err != RD_KAFKA_RESP_ERR_NO_ERROR) continue;
    const auto entry = parse(0, to_message(*message));
    if (message->offset != 0 || !entry || entry->kind != Kind::log)
      return because("holds something else than an event log of format 1");
    if (entry->partitions != options_.partitions)
      return because("says that its log has " + std::to_string(entry->partitions) + " partitions");
    log_id_ = entry->log_id;
    return assign(*consumer_, options_.topic, {});
  }
  return tl::unexpected(producer_->last_words().explain("read the beginning of the topic " + options_.topic, options_.brokers));
}

result<void> Log::open_cache() {
  auto cache = Cache::open({options_.cache, {log_id(), options_.partitions}, options_.idle_streams, options_.max_waiting_reads});
  if (!cache) return tl::unexpected(cache.error());
  cache_ = std::move(*cache);
  if (!cache_->rebuilt().empty()) note("the cache is rebuilt from Kafka: " + cache_->rebuilt());
  std::vector<std::pair<std::uint32_t, std::int64_t>> from;
  for (std::uint32_t partition = 0; partition < options_.partitions; ++partition) {
    const ReadTo& place = cache_->places()[partition];
    auto range = offsets(*consumer_, options_.topic, partition, options_.patience, options_.brokers);
    if (!range) return tl::unexpected(range.error());
    if (range->first > 0 || range->second <= place.at.offset)
      return failure(Errc::shorter_than_head,
                     "partition " + std::to_string(partition) + " of the topic " + options_.topic + " holds the offsets " +
                         std::to_string(range->first) + " to " + std::to_string(range->second) + ", and was read to " +
                         std::to_string(place.at.offset) +
                         ": Kafka lost what it had acknowledged, or the topic was made anew; to accept what is "
                         "left, delete " +
                         options_.cache);
    parts_.push_back(std::make_unique<Partition>(partition, place, random_, *cache_));
    parts_.back()->end_at_start = range->second;
    published_heads_[partition] = place.at.sequence;
    // From the message read last on, not behind it: that it is still the same one is checked.
    from.emplace_back(partition, std::max<std::int64_t>(0, place.at.offset));
  }
  return assign(*consumer_, options_.topic, from);
}

// ---- any thread

void Log::wake() {
  {
    const std::lock_guard lock(mutex_);
    signalled_ = true;
  }
  wake_.notify_one();
}

/// False: the log has ended, and nobody carries it out.
bool Log::ask(std::function<void()> command) {
  {
    const std::lock_guard lock(mutex_);
    if (ended_) return false;
    commands_.push_back(std::move(command));
  }
  wake_.notify_one();
  return true;
}

result<void> Log::writable() const {
  const std::lock_guard lock(mutex_);
  if (closing_) return failure(Errc::not_writable, "the log is shutting down");
  if (failed_) return failure(Errc::not_writable, failed_->message());
  if (stalled_)
    return failure(Errc::not_writable, "Kafka has not answered for " + std::to_string(options_.stalled_after.count()) + " ms");
  return {};
}

void Log::append(Append append, AppendDone done) {
  auto refusal = objection(append, options_.partitions);
  const std::size_t bytes = append.payload.size();
  if (!refusal)
    if (const auto can = writable(); !can) refusal = can.error();
  if (!refusal && (waiting_ >= options_.max_waiting || waiting_bytes_ >= options_.max_waiting_bytes))
    refusal = Failure{Errc::overloaded, std::to_string(waiting_) + " appends wait"};
  if (!refusal) {
    ++waiting_;
    waiting_bytes_ += bytes;
    const std::lock_guard lock(mutex_);
    if (!closing_ && !failed_) {
      asked_.emplace_back(std::move(append), [this, bytes, done = std::move(done)](AppendOutcome outcome) {
        --waiting_;
        waiting_bytes_ -= bytes;
        done(std::move(outcome));
      });
      wake_.notify_one();
      return;
    }
    --waiting_;
    waiting_bytes_ -= bytes;
    refusal = Failure{Errc::not_writable, "the log is shutting down"};
  }
  done(Refused{*std::move(refusal)});
}

void Log::claim(std::uint32_t partition, Done done) {
  const bool asked = ask([this, partition, done] {
    if (phase_ == Phase::ended) return done(failure(Errc::not_writable, "the log is shutting down"));
    Partition& part = *parts_.at(partition);
    part.was_replaced = false;
    part.owner.claim();
    part.claiming.push_back(done);
  });
  if (!asked) done(failure(Errc::not_writable, "the log is shutting down"));
}

void Log::hand_over(std::uint32_t partition, Done done) {
  const bool asked = ask([this, partition, done] {
    parts_.at(partition)->owner.hand_over();
    parts_.at(partition)->handing_over.push_back(done);
  });
  if (!asked) done(failure(Errc::not_writable, "the log is shutting down"));
}

void Log::barrier(std::uint32_t partition, Done done) {
  if (const auto can = writable(); !can) return done(tl::unexpected(can.error()));
  ++waiting_;  // a broker that is silent is noticed by those who read, too
  const BarrierDone ended = [this, done](result<void> read) {
    --waiting_;
    done(std::move(read));
  };
  if (!ask([this, partition, ended] { parts_.at(partition)->owner.barrier(ended); }))
    ended(failure(Errc::not_writable, "the log is shutting down"));
}

void Log::close() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

// ---- the log's thread

void Log::run() {
  pthread_setname_np(pthread_self(), "log-kafka");
  progress_at_ = chores_at_ = SteadyClock::now();
  while (phase_ != Phase::ended) {
    {
      std::unique_lock lock(mutex_);
      const auto something = [this] {
        return signalled_ || !asked_.empty() || !commands_.empty() || (closing_ && end_by_ == SteadyClock::time_point{});
      };
      if (!more_) wake_.wait_until(lock, next_due(SteadyClock::now()), something);
      signalled_ = false;
    }
    round();
  }
  if (started_ != nullptr) std::exchange(started_, nullptr)->set_value(failure(Errc::not_writable, "the log is shutting down"));
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  take_asked();  // nothing is owned any more: each hears so
  tell();
  cache_->close();
  // What is still in librdkafka's queues was decided about: nobody waits for it.
  producer_topic_.reset();
  producer_.reset();
  consumer_.reset();
}

void Log::round() {
  take_asked();
  send();
  receive();
  look_after_producer();
  send();
  commit();
  tell();
  look_after_start();
  chores();
  look_after_end();
  send();
}

void Log::take_asked() {
  std::vector<std::pair<Append, AppendDone>> asked;
  std::vector<std::function<void()>> commands;
  {
    const std::lock_guard lock(mutex_);
    asked.swap(asked_);
    commands.swap(commands_);
  }
  for (auto& command : commands) command();
  for (auto& [append, done] : asked) {
    Owner& owner = parts_[append.partition]->owner;
    owner.append(std::move(append), std::move(done));
  }
}

void Log::receive() {
  std::size_t messages = 0, bytes = 0;
  more_ = false;
  while (const Received message{rd_kafka_consumer_poll(consumer_->handle(), 0)}) {
    handle(*message);
    bytes += message->len;
    if (phase_ == Phase::ended) return;
    more_ = ++messages == messages_per_round || bytes >= bytes_per_round;
    if (more_) return;
  }
}

void Log::handle(const rd_kafka_message_t& message) {
  if (message.err == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE || message.err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET)
    return give_up({Errc::shorter_than_head, "partition " + std::to_string(message.partition) + " of the topic " +
                                                 options_.topic +
                                                 " no longer holds what was read from it: Kafka lost what it had acknowledged"});
  if (message.err != RD_KAFKA_RESP_ERR_NO_ERROR) return;  // librdkafka goes on by itself
  const auto number = static_cast<std::uint32_t>(message.partition);
  Partition& part = *parts_.at(number);
  auto entry = parse(number, to_message(message));
  std::string tag = tag_of(entry);
  if (!part.checked) {
    part.checked = true;
    if (message.offset != part.ledger.at().offset || tag != part.tag)
      return give_up({Errc::shorter_than_head,
                      "partition " + std::to_string(number) + " of the topic " + options_.topic + " holds another message at " +
                          std::to_string(part.ledger.at().offset) +
                          " than was read before: Kafka lost what it had acknowledged, or the topic was made anew; to accept "
                          "what is left, delete " +
                          options_.cache});
  }
  const Verdict verdict = part.ledger.read(message.offset, entry ? &*entry : nullptr);
  if (verdict == Verdict::seen) return;
  if (verdict == Verdict::gap) {
    if (part.gap_after == part.ledger.at().offset)
      return give_up({Errc::corrupt, "partition " + std::to_string(number) + " of the topic " + options_.topic +
                                         " has no message after offset " + std::to_string(part.gap_after) + " and goes on at " +
                                         std::to_string(message.offset) +
                                         ": were records deleted, or does a transaction write to it?"});
    part.gap_after = part.ledger.at().offset;
    note("partition " + std::to_string(number) + ": messages after offset " + std::to_string(part.gap_after) + " are read again");
    if (auto sought = seek(*consumer_, options_.topic, number, part.gap_after + 1); !sought) note(sought.error().message());
    return;
  }
  part.moved = true;
  part.tag = std::move(tag);
  ++(verdict == Verdict::counted ? counting_.counted : counting_.voided);
  if (!entry) return;
  if (verdict == Verdict::counted && part.owner.state() == Owner::State::owning) progress_at_ = SteadyClock::now();  // it is ours
  const bool counted = verdict == Verdict::counted && entry->kind == Kind::events;
  if (counted)
    if (auto added = cache_->add(entry->record); !added) return give_up(added.error());
  part.owner.read(*entry, verdict, part.ledger.at());
  if (verdict == Verdict::counted && entry->kind == Kind::claim && part.owner.state() != Owner::State::following)
    ++counting_.claims;
  if (counted) counted_.push_back(std::move(entry->record));
}

/// What could not be delivered, and a producer that can never be used again.
void Log::look_after_producer() {
  rd_kafka_poll(producer_->handle(), 0);
  const auto now = SteadyClock::now();
  if (producer_->fatal() || producer_fails.hit()) {
    note(producer_->last_words().explain("the producer is made anew", options_.brokers).message());
    rd_kafka_purge(producer_->handle(), RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    rd_kafka_flush(producer_->handle(), 1000);
    if (auto made = make_producer(); !made) return give_up(made.error());
  }
  if (undelivered_.empty()) {
    if (now >= retry_at_ + most_back_off) back_off_ = least_back_off;
    return;
  }
  // A message that is refused at once is not sent again at once.
  if (now < retry_at_) return;
  for (const Entry& entry : std::exchange(undelivered_, {})) parts_[entry.record.partition]->owner.failed(entry);
  retry_at_ = now + back_off_;
  back_off_ = std::min(most_back_off, back_off_ * 2);
}

void Log::send() {
  for (auto& part : parts_) {
    for (Entry& entry : part->owner.to_send) outbox_.push_back(std::move(entry));
    part->owner.to_send.clear();
  }
  while (!outbox_.empty()) {
    const Entry& entry = outbox_.front();
    const auto code = before_send.hit() ? RD_KAFKA_RESP_ERR__TIMED_OUT
                                        : produce(*producer_, producer_topic_.get(), entry.record.partition, to_message(entry));
    if (code == RD_KAFKA_RESP_ERR__QUEUE_FULL || code == RD_KAFKA_RESP_ERR__FATAL) return;  // later, in order
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
      note("a message was not taken: " + std::string(rd_kafka_err2str(code)));
      undelivered_.push_back(entry);
    }
    outbox_.pop_front();
  }
}

void Log::commit() {
  if (phase_ == Phase::ended) return;
  std::vector<std::pair<std::uint32_t, ReadTo>> read;
  for (std::uint32_t partition = 0; partition < parts_.size(); ++partition)
    if (std::exchange(parts_[partition]->moved, false))
      read.emplace_back(partition, ReadTo{parts_[partition]->ledger.at(), parts_[partition]->tag});
  if (read.empty()) return;
  (void)before_commit.hit();
  if (auto committed = cache_->commit(read); !committed) return give_up(committed.error());
  (void)after_commit_before_ack.hit();
  std::vector<std::uint32_t> advanced;
  if (followed_)
    for (Record& record : counted_) recent_.add(std::move(record));
  counted_.clear();
  for (const auto& [partition, place] : read)
    if (published_heads_[partition].exchange(place.at.sequence) != place.at.sequence) advanced.push_back(partition);
  tell();
  subscribers_.notify(advanced);
}

/// Whatever has ended, once it can be read.
void Log::tell() {
  if (waiting_ == 0 && started_ == nullptr && !stalled_) progress_at_ = SteadyClock::now();
  for (std::uint32_t partition = 0; partition < parts_.size(); ++partition) {
    Partition& part = *parts_[partition];
    if (!part.owner.ended.empty()) {
      progress_at_ = SteadyClock::now();
      auto ended = std::exchange(part.owner.ended, {});
      for (auto& [done, outcome] : ended) done(std::move(outcome));
    }
    if (!part.owner.barriers_ended.empty()) {
      part.read_at = SteadyClock::now();
      auto ended = std::exchange(part.owner.barriers_ended, {});
      for (auto& [done, outcome] : ended) done(std::move(outcome));
    }
    const auto state = part.owner.state();
    owned_[partition] = state == Owner::State::owning;
    standing_[partition] = part.ledger.at().epoch << 2 | (owned_[partition] ? 2 : 0) | (part.ledger.at().claim ? 1 : 0);
    if (part.owner.replaced() && phase_ == Phase::serving && !std::exchange(part.was_replaced, true)) {
      if (part.claiming.empty()) {
        replaced_ = true;
        ++counting_.lost;
        if (lost_) lost_(partition);
        else note("partition " + std::to_string(partition) + " belongs to another server now");
      }
    }
    if (!part.claiming.empty() && state != Owner::State::claiming)
      for (const Done& done : std::exchange(part.claiming, {}))
        done(state == Owner::State::owning ? result<void>{} : failure(Errc::locked, "another server's claim was first"));
    if (!part.handing_over.empty() && state == Owner::State::following)
      for (const Done& done : std::exchange(part.handing_over, {})) done({});
  }
}

/// Reads everything that was there, then claims.
void Log::look_after_start() {
  if (started_ == nullptr) return;
  const auto all = [&](auto holds) { return std::ranges::all_of(parts_, [&](const auto& part) { return holds(*part); }); };
  std::int64_t read = 0;
  for (const auto& part : parts_) read += part->ledger.at().offset;
  if (std::exchange(read_at_start_, read) != read) progress_at_ = SteadyClock::now();
  if (SteadyClock::now() > progress_at_ + options_.patience)
    return give_up(consumer_->last_words().explain("read the topic " + options_.topic + " and claim its partitions" +
                                                       (last_refusal_.empty() ? "" : " (" + last_refusal_ + ")"),
                                                   options_.brokers));
  if (phase_ == Phase::catching_up &&
      all([](const Partition& part) { return part.ledger.at().offset + 1 >= part.end_at_start; })) {
    if (!options_.own_everything) phase_ = Phase::serving;
    else phase_ = Phase::claiming;
  }
  if (phase_ == Phase::claiming) {
    for (std::uint32_t partition = 0; partition < parts_.size(); ++partition) {
      Partition& part = *parts_[partition];
      if (part.owner.state() != Owner::State::following) continue;
      if (part.claims++ == claims_at_start)
        return give_up({Errc::locked, "another server claims partition " + std::to_string(partition) +
                                          " whenever this one does: stop the servers first"});
      part.owner.claim();
    }
    if (all([](const Partition& part) { return part.owner.state() == Owner::State::owning; })) phase_ = Phase::serving;
  }
  if (phase_ == Phase::serving) std::exchange(started_, nullptr)->set_value({});
}

void Log::chores() {
  const auto now = SteadyClock::now();
  const bool stalled = (waiting_ > 0 || stalled_) && now - progress_at_ > options_.stalled_after;
  if (stalled)  // whoever reads is told; whoever writes waits for what becomes of it
    for (auto& part : parts_) part->owner.give_up_barriers({make_error_code(Errc::not_writable), "Kafka does not answer"});
  if (stalled_.exchange(stalled) != stalled)
    note(stalled ? producer_->last_words().explain("appends are refused", options_.brokers).message() : "Kafka answers again");
  if (now < chores_at_) return;
  chores_at_ = now + chore_period;
  if (phase_ == Phase::ended) return;
  // Of several brokers the one that leads a partition may be silent, or out of reach, while the others answer. Where none answers
  // that is seen first, above: with its last barrier a partition would no longer wait, and nobody would say that Kafka is silent.
  for (auto& part : parts_) {
    if (!part->owner.reads_wait()) part->read_at = now;
    else if (now - part->read_at > options_.stalled_after + 2 * chore_period)
      part->owner.give_up_barriers({make_error_code(Errc::not_writable), "Kafka does not answer for the partition"});
  }
  count();
  if (auto back = cache_->put_back_if_gone(); !back) give_up(back.error());
  else if (*back) note("the cache was deleted: it was written again");
}

void Log::count() {
  counting_.unsent = outbox_.size() + undelivered_.size() + static_cast<std::size_t>(rd_kafka_outq_len(producer_->handle()));
  counting_.claims_again = 0;
  for (const auto& part : parts_) counting_.claims_again += part->owner.claims_again();
  std::error_code unknown;
  const auto bytes = std::filesystem::file_size(options_.cache, unknown);
  counting_.cache_bytes = unknown ? 0 : bytes;
  const std::lock_guard lock(mutex_);
  counts_ = counting_;
}

SteadyClock::time_point Log::next_due(SteadyClock::time_point now) const {
  auto due = std::min(chores_at_, now + chore_period);
  if (!undelivered_.empty()) due = std::min(due, retry_at_);
  if (!outbox_.empty()) due = std::min(due, now + milliseconds(5));
  if (closing_) due = std::min(due, now + milliseconds(20));
  return due;
}

/// Carries out what waits, then hands over; both bounded.
void Log::look_after_end() {
  {
    const std::lock_guard lock(mutex_);
    if (!closing_ || phase_ == Phase::ended || !asked_.empty()) return;
  }
  const auto now = SteadyClock::now();
  if (end_by_ == SteadyClock::time_point{}) end_by_ = now + options_.patience;
  const bool late = now >= end_by_;
  const auto all = [&](auto holds) { return std::ranges::all_of(parts_, [&](const auto& part) { return holds(part->owner); }); };
  if (!handing_over_at_end_ && (late || started_ != nullptr || all([](const Owner& owner) { return owner.idle(); }))) {
    handing_over_at_end_ = true;
    end_by_ = now + std::min<SteadyClock::duration>(options_.patience, std::chrono::seconds(2));
    for (auto& part : parts_) part->owner.hand_over();
    if (!late) return;
  }
  if (!handing_over_at_end_ || (!late && !all([](const Owner& owner) { return owner.state() == Owner::State::following; })))
    return;
  for (auto& part : parts_) part->owner.give_up({Errc::not_writable, "the log closed before Kafka answered"});
  tell();
  phase_ = Phase::ended;
}

void Log::give_up(const Failure& why) {
  if (phase_ == Phase::ended) return;
  phase_ = Phase::ended;
  std::vector<std::pair<Append, AppendDone>> asked;
  {
    const std::lock_guard lock(mutex_);
    failed_ = why;
    asked.swap(asked_);
  }
  for (auto& [append, done] : asked) done(Refused{why});
  for (auto& part : parts_) part->owner.give_up(why);
  tell();
  if (started_ != nullptr) std::exchange(started_, nullptr)->set_value(tl::unexpected(why));
  else options_.on_fatal(why);
}

}  // namespace
}  // namespace onboarding::log::kafka

namespace onboarding::log {

result<std::unique_ptr<KafkaLog>> KafkaLog::open(KafkaOptions options) {
  ONBOARDING_ASSERT(options.partitions > 0 && options.partitions <= 999, "a session id has three digits for its partition");
  auto log = std::make_unique<kafka::Log>(std::move(options));
  if (auto started = log->start(); !started) return tl::unexpected(started.error());
  return log;
}

}  // namespace onboarding::log
