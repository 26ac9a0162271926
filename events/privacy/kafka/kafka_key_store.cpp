#include "events/privacy/kafka/kafka_key_store.hpp"

#include <pthread.h>
#include <sodium.h>
#include <sys/stat.h>

#include <atomic>
#include <charconv>
#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <shared_mutex>
#include <thread>
#include <unordered_map>

#include "events/codec/envelope.hpp"
#include "events/fault_point.hpp"
#include "events/log/kafka/client.hpp"
#include "events/privacy/keys_file.hpp"
#include "events/privacy/new_key.hpp"

namespace onboarding::privacy {
namespace {

// Both as errors: the message's end is unknown; the producer is of no use any more.
FaultPoint before_send{"keys.kafka.before_send"};
FaultPoint producer_fails{"keys.kafka.producer_fails"};

using SteadyClock = std::chrono::steady_clock;
using log::kafka::Client;
using log::kafka::Message;
using std::chrono::milliseconds;

constexpr std::size_t messages_per_round = 4096, records_per_page = 512, page_bytes = 8 << 20;
constexpr int rows_per_page = 512, wanted_at_once = 256;
constexpr milliseconds chore_period{200}, follow_period{20}, keep_followed_period{5000};
constexpr std::int64_t most_compaction_lag_ms = 3'600'000, least_delete_retention_ms = 3'600'000;
constexpr std::string_view erased_type = R"("UserErased")";

// A message's key (FORMAT.md, "Keys in Kafka"): `key <user> <key id>`, `check <id>`, `barrier <id>`.
std::string key_name(std::string_view user, std::string_view key_id) {
  return "key " + std::string(user) + " " + std::string(key_id);
}
struct KeyName {
  std::string user, key_id;
};
std::optional<KeyName> parse_key_name(std::string_view name) {
  const auto last = name.rfind(' ');
  if (!name.starts_with("key ") || last < 4) return std::nullopt;
  return KeyName{std::string(name.substr(4, last - 4)), std::string(name.substr(last + 1))};
}

std::string to_hex(std::string_view bytes) {
  std::string hex(bytes.size() * 2 + 1, '\0');
  sodium_bin2hex(hex.data(), hex.size(), reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  hex.pop_back();
  return hex;
}
std::string from_hex(std::string_view hex) {
  std::string bytes(hex.size() / 2, '\0');
  std::size_t size = 0;
  if (sodium_hex2bin(reinterpret_cast<unsigned char*>(bytes.data()), bytes.size(), hex.data(), hex.size(), nullptr, &size,
                     nullptr) != 0)
    return {};
  bytes.resize(size);
  return bytes;
}

std::optional<std::int64_t> to_number(std::string_view text) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

struct Place {
  std::int64_t offset = -1;      // of the last message read
  std::int64_t contact_ms = -1;  // UTC: everything written until then has been read
};
std::string to_string(const Place& place) { return std::to_string(place.offset) + " " + std::to_string(place.contact_ms); }
std::optional<Place> parse_place(std::string_view text) {
  const auto space = text.find(' ');
  if (space == text.npos) return std::nullopt;
  const auto offset = to_number(text.substr(0, space)), contact = to_number(text.substr(space + 1));
  if (!offset || !contact) return std::nullopt;
  return Place{*offset, *contact};
}

using Ended = std::function<void(result<void>)>;
tl::unexpected<Failure> unreachable(const std::string& why) { return failure(Errc::unreachable, "keys in Kafka: " + why); }

class Store final : public KafkaKeyStore {
 public:
  Store(KafkaKeyStoreOptions options, const WrappingKey& wrapping, log::EventLog& log, std::function<bool(std::uint32_t)> owns)
      : options_(std::move(options)),
        wrapping_(wrapping),
        log_(log),
        owns_(std::move(owns)),
        parts_(options_.partitions),
        followed_(log.partitions()) {
    if (!options_.on_note) options_.on_note = [](const std::string&) {};
  }
  ~Store() override;

  result<void> start();

  void obtain(std::string user, Obtained done) override;
  result<SealingKeyPtr> find(std::string_view user, std::string_view key_id) override;
  void erase(std::string user, std::function<void(result<void>)> done) override {
    erase_if(std::move(user), nullptr, std::move(done));
  }
  void erase_if(std::string user, Confirm confirm, std::function<void(result<void>)> done) override;
  void when_followed(std::uint32_t partition, std::uint64_t sequence, std::function<void()> done) override;
  void on_erased(std::function<void(const std::string&)> erased) override {
    (void)ask([this, erased = std::move(erased)] {
      erased_ = erased;
      --waiting_;
    });
  }

 private:
  struct Part {
    Place place;
    bool moved = false;
    std::vector<Ended> barrier_waits;  // for the next barrier, not yet sent
  };
  struct Awaited {
    SteadyClock::time_point deadline;
    Ended ended;
  };
  struct Outgoing {
    std::uint32_t partition;
    Message message;
    bool deletes;
  };
  struct Late {
    SteadyClock::time_point deadline;
    std::string user;
    Obtained done;
  };
  struct Follower {
    std::uint32_t partition;
    std::uint64_t sequence;
    std::function<void()> done;
  };
  struct FreeTopic {
    void operator()(rd_kafka_topic_t* topic) const { rd_kafka_topic_destroy(topic); }
  };

  // The start, on the caller's thread.
  result<void> find_topic();
  result<void> make_producer();
  result<void> open_file();
  result<void> set_embedded_aside();
  result<void> read_places();

  bool ask(std::function<void()> what);
  std::uint32_t partition_of(std::string_view user) const { return partition_of_user(user, options_.partitions); }
  std::int64_t now_ms() const {
    return std::chrono::duration_cast<milliseconds>(options_.clock->now().time_since_epoch()).count();
  }
  void note(const std::string& what) const { options_.on_note(what); }

  // The store's thread.
  void run();
  void round();
  void receive();
  result<void> read(const rd_kafka_message_t&);
  result<void> read_key(const KeyName&, std::string_view value);
  result<void> read_erasure(const KeyName&);
  void look_after_producer();
  void send();
  void follow();
  result<void> follow_partition(std::uint32_t);
  result<void> see_erasure(const log::Record&);
  result<std::set<std::string>> keys_of_stream(const log::Record& last, const std::string& user);
  result<void> in_transaction();
  void commit();
  void look_after_start();
  void chores();
  void delete_what_is_wanted(SteadyClock::time_point now);
  void begin_reading();
  void read_to_here(std::uint32_t partition, std::uint64_t reading);
  void recover();
  result<void> move_embedded();
  void give_up(const Failure&);
  void give_up_late(SteadyClock::time_point now);
  SteadyClock::time_point next_due() const;
  bool behind() const;

  void put(std::uint32_t partition, std::string name, std::string value, Ended);
  void delete_key(std::uint32_t partition, std::string name, Ended);
  void barrier(std::uint32_t partition, Ended);
  void send_barriers();
  void await(const std::string& name, Ended);
  void end(const std::string& name, const result<void>& how);
  void make_key(const std::string& user, Obtained);
  result<SealingKeyPtr> sealing_key(const std::string& user);
  result<bool> take_into_use(const std::string& user, const SealingKeyPtr&, std::uint64_t taken_over);
  void forget_made();
  result<std::vector<std::string>> key_ids(const std::string& user);
  result<void> put_out_of_use(const std::string& user, const std::vector<std::string>& ids);
  void erase_keys(const std::string& user, const std::vector<std::string>& ids, const Ended& done);

  KafkaKeyStoreOptions options_;
  WrappingKey wrapping_;
  log::EventLog& log_;
  const std::function<bool(std::uint32_t)> owns_;
  std::unique_ptr<Client> consumer_, producer_;
  std::unique_ptr<rd_kafka_topic_t, FreeTopic> producer_topic_;  // goes before its producer
  std::int64_t delete_retention_ms_ = 86'400'000;

  std::shared_mutex file_mutex_;  // shared by who reads; alone while the file is made anew, and then there is none
  std::unique_ptr<KeysFile> file_;

  // The store's thread's own.
  std::vector<Part> parts_;
  std::vector<std::uint64_t> followed_;
  std::vector<Follower> followers_;
  std::deque<Outgoing> outbox_;
  std::unordered_map<std::string, std::vector<Awaited>> awaited_;
  std::vector<std::pair<Ended, result<void>>> ended_;  // told after the commit
  std::unordered_map<std::string, std::pair<SealingKeyPtr, std::vector<Obtained>>> making_;
  // Of persons who were erased before, user -> key id: what was made here since a partition was taken over.
  std::unordered_map<std::string, std::string> made_;
  std::uint64_t taken_over_ = 0;  // partitions, so far
  std::vector<std::string> removed_;
  std::function<void(const std::string&)> erased_;
  std::vector<std::string> uncached_;  // users whose keys must not be served from memory after the commit
  std::map<std::pair<std::string, std::string>, SteadyClock::time_point> wanted_since_;
  bool writing_ = false, more_ = false;
  bool checked_ = false, checking_ = false;  // the topic's own check of the master key was read; ours is on its way
  bool read_once_ = false, log_read_once_ = false, caught_up_ = false;
  std::size_t barriers_missing_ = 0;
  bool useless_copy_ = false;  // of another master key's topic
  std::uint64_t reading_ = 0;  // counts how often it was begun
  std::vector<Late> late_;     // until it has caught up
  std::optional<Failure> failed_, damage_;
  ino_t inode_ = 0;
  std::string last_trouble_;
  SteadyClock::time_point chores_at_{}, follow_at_{}, keep_followed_at_{}, contact_at_{}, progress_at_{}, recover_at_{},
      end_by_{};
  std::promise<result<void>>* started_ = nullptr;
  std::unique_ptr<log::Subscription> subscription_;

  std::mutex mutex_;  // of all below
  std::condition_variable wake_;
  std::vector<std::function<void()>> asked_;
  bool signalled_ = false, closing_ = false;
  std::thread thread_;
  std::atomic<std::size_t> waiting_{0};
};

// ---- the start

result<void> Store::start() {
  const auto wake = [this] {
    const std::lock_guard lock(mutex_);
    signalled_ = true;
    wake_.notify_one();
  };
  auto made = Client::make(Client::Side::consumer, log::kafka::reading_settings(options_.brokers, options_.client), wake);
  if (!made) return tl::unexpected(made.error());
  consumer_ = std::move(*made);
  for (const auto step : {&Store::find_topic, &Store::make_producer, &Store::open_file, &Store::read_places})
    if (auto done = (this->*step)(); !done) return done;
  subscription_ = log_.subscribe([wake](std::uint32_t) { wake(); });
  std::promise<result<void>> started;
  auto ready = started.get_future();
  started_ = &started;
  thread_ = std::thread([this] { run(); });
  return ready.get();
}

result<void> Store::find_topic() {
  auto made = log::kafka::find_or_make_topic(
      *consumer_, {options_.topic, options_.partitions, options_.create_topic, options_.replicas, log::kafka::keeps_newest()},
      options_.patience, options_.brokers);
  if (!made) return tl::unexpected(made.error());
  if (*made) note("made the topic " + options_.topic + " for the users' keys");
  for (const auto& [setting, is] : log::kafka::topic_settings(*consumer_, options_.topic, options_.patience)) {
    const std::int64_t number = to_number(is).value_or(-1);
    std::string must;
    if (setting == "cleanup.policy" && is != "compact") must = "compact";
    if (setting == "max.compaction.lag.ms" && number > most_compaction_lag_ms) must = "1800000";
    if (setting == "delete.retention.ms" && number < least_delete_retention_ms) must = "86400000";
    if (setting == "unclean.leader.election.enable" && is != "false") must = "false";
    if (setting == "delete.retention.ms") delete_retention_ms_ = number;
    if (!must.empty())
      return failure(log::Errc::wrong_layout,
                     "the topic " + options_.topic + " would lose keys, or keep erased ones too long: its " + setting + " is " +
                         is + " and must be " + must + " (" + log::kafka::alter_command(options_.topic, setting, must) + ")");
  }
  return {};
}

result<void> Store::make_producer() {
  auto made = Client::make(Client::Side::producer,
                           log::kafka::writing_settings(options_.brokers, options_.client, options_.answer_within), [this] {
                             const std::lock_guard lock(mutex_);
                             signalled_ = true;
                             wake_.notify_one();
                           });
  if (!made) return tl::unexpected(made.error());
  producer_topic_.reset();
  producer_ = std::move(*made);
  producer_->undelivered = [this](std::uint32_t, const Message& message, rd_kafka_resp_err_t why) {
    end(message.key, unreachable(rd_kafka_err2str(why)));
  };
  producer_topic_.reset(rd_kafka_topic_new(producer_->handle(), options_.topic.c_str(), nullptr));
  if (!producer_topic_) return failure(log::Errc::wrong_layout, "the topic name " + options_.topic + " is not one");
  const rd_kafka_metadata_t* leaders = nullptr;  // else the first message waits for them (librdkafka #5032)
  if (rd_kafka_metadata(producer_->handle(), 0, producer_topic_.get(), &leaders, 1000) == RD_KAFKA_RESP_ERR_NO_ERROR)
    rd_kafka_metadata_destroy(leaders);
  return {};
}

std::filesystem::path aside(const std::filesystem::path& file) { return file.string() + ".embedded"; }

void remove_database(const std::filesystem::path& file) {
  std::error_code ignored;
  for (const char* end : {"", "-wal", "-shm"}) std::filesystem::remove(file.string() + end, ignored);
}

/// An embedded store's keys.db, from before this log: kept under another name until the topic has all of it.
result<void> Store::set_embedded_aside() {
  std::error_code error;
  const auto& file = options_.file;
  if (!std::filesystem::exists(file, error)) return {};
  {
    // Opened and closed, so that nothing is left in its WAL.
    auto embedded = KeysFile::open(file, wrapping_, {});
    if (!embedded) return {};  // a copy, or damaged: open_file says which
  }
  remove_database(aside(file));
  std::filesystem::rename(file, aside(file), error);
  if (error) return failure(Errc::unreachable, file.string() + ": " + error.message());
  note("keys.db is moved into the topic " + options_.topic);
  return {};
}

result<void> Store::open_file() {
  if (auto done = set_embedded_aside(); !done) return done;
  KeysFile::Options file_options;
  file_options.cached_users = options_.cached_users;
  file_options.random = options_.random;
  file_options.copy_of = options_.topic;
  if (KeysFile::damaged(options_.file)) {
    // It may have been an embedded store's: then it is all there is.
    bool nothing_there = true;
    for (std::uint32_t p = 0; p < options_.partitions && nothing_there; ++p) {
      const auto range = log::kafka::offsets(*consumer_, options_.topic, p, options_.patience, options_.brokers);
      if (!range) return tl::unexpected(range.error());
      nothing_there = range->second == 0;
    }
    if (nothing_there)
      return failure(Errc::unreachable, options_.file.string() + " is damaged, and the topic " + options_.topic +
                                            " has no keys: restore it from the back-up");
    note("keys.db is damaged: it is read anew from Kafka");
    remove_database(options_.file);
  }
  auto opened = KeysFile::open(options_.file, wrapping_, file_options);
  if (!opened) return tl::unexpected(opened.error());
  struct stat there {};
  if (::stat(options_.file.c_str(), &there) == 0) inode_ = there.st_ino;
  file_ = std::move(*opened);
  return {};
}

/// Where the copy stands, in the topic and in the log.
result<void> Store::read_places() {
  bool too_old = false;
  std::vector<std::pair<std::uint32_t, std::int64_t>> from;
  for (std::uint32_t p = 0; p < options_.partitions; ++p) {
    const auto kept = file_->note("kafka:" + std::to_string(p));
    if (!kept) return tl::unexpected(kept.error());
    parts_[p].place = kept->has_value() ? parse_place(**kept).value_or(Place{}) : Place{};
    too_old = too_old || (parts_[p].place.offset >= 0 && now_ms() - parts_[p].place.contact_ms > delete_retention_ms_ / 2);
  }
  if (too_old) {
    note("keys.db is read anew from Kafka: it was away for so long that erasures may be missing in it");
    file_.reset();
    remove_database(options_.file);
    parts_.assign(options_.partitions, {});
    if (auto opened = open_file(); !opened) return opened;
  }
  for (std::uint32_t p = 0; p < options_.partitions; ++p) {
    const Place& place = parts_[p].place;
    if (place.offset >= 0) {
      const auto range = log::kafka::offsets(*consumer_, options_.topic, p, options_.patience, options_.brokers);
      if (!range) return tl::unexpected(range.error());
      if (range->second <= place.offset)
        return failure(log::Errc::shorter_than_head,
                       "partition " + std::to_string(p) + " of the topic " + options_.topic + " ends at " +
                           std::to_string(range->second) + " and was read to " + std::to_string(place.offset) +
                           ": Kafka lost keys that it had acknowledged, or the topic was made anew; " + options_.file.string() +
                           " still has them");
    }
    from.emplace_back(p, place.offset + 1);
  }
  const auto checked = file_->note("checked");
  if (!checked) return tl::unexpected(checked.error());
  checked_ = checked->has_value();
  const auto log_id = file_->note("log");
  if (!log_id) return tl::unexpected(log_id.error());
  if (*log_id == log_.log_id())
    for (std::uint32_t p = 0; p < log_.partitions(); ++p)
      if (const auto kept = file_->note("log:" + std::to_string(p)); kept && kept->has_value())
        followed_[p] = std::min(static_cast<std::uint64_t>(to_number(**kept).value_or(0)), log_.head(p));
  return log::kafka::assign(*consumer_, options_.topic, from);
}

Store::~Store() {
  subscription_.reset();
  if (thread_.joinable()) {
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }
  sodium_memzero(wrapping_.data(), wrapping_.size());
}

// ---- any thread

bool Store::ask(std::function<void()> what) {
  {
    const std::lock_guard lock(mutex_);
    if (closing_ || !thread_.joinable() || waiting_ >= options_.max_queued) return false;
    ++waiting_;
    asked_.push_back(std::move(what));
  }
  wake_.notify_one();
  return true;
}

void Store::obtain(std::string user, Obtained done) {
  {
    const std::shared_lock lock(file_mutex_);
    if (auto cached = file_ ? file_->cached(user) : nullptr) return done(std::move(cached));
  }
  const auto shared = std::make_shared<Obtained>(std::move(done));
  const auto counted = [this, shared](result<SealingKeyPtr> key) {
    --waiting_;
    (*shared)(std::move(key));
  };
  if (!ask([this, user = std::move(user), counted] { make_key(user, counted); }))
    (*shared)(unreachable("too many wait for one, or the server ends"));
}

result<SealingKeyPtr> Store::find(std::string_view user_text, std::string_view key_id_text) {
  const std::string user(user_text), key_id(key_id_text);
  const auto look = [&]() -> result<SealingKeyPtr> {
    const std::shared_lock lock(file_mutex_);
    if (!file_) return unreachable("the copy is being read anew");
    return file_->find(user, key_id);
  };
  auto found = look();
  if (found || found.error().code == Errc::erased) return found;
  // Not here: on its way, erased before this copy began, or the copy is damaged.
  auto settled = std::make_shared<std::promise<result<bool>>>();
  auto answer = settled->get_future();
  const bool forged = found.error().code == Errc::forged;
  const bool asked = ask([this, user, key_id, forged, settled] {
    const auto tell = [this, settled](result<bool> there) {
      --waiting_;
      settled->set_value(std::move(there));
    };
    // What the topic holds was checked when it was read: a key that does not open was damaged here.
    if (forged && !damage_) damage_ = Failure{make_error_code(Errc::forged), "a key in keys.db does not open"};
    barrier(partition_of(user), [this, user, key_id, tell](const result<void>& read_to_here) {
      if (!read_to_here) return tell(tl::unexpected(read_to_here.error()));
      if (!file_) return tell(unreachable("the copy is being read anew"));
      auto there = file_->has(user, key_id);
      if (!there) damage_ = there.error();
      // It never comes back: ids are random, and a key is in the topic before anything names it.
      if (there && !*there && !in_transaction()) there = unreachable("keys.db cannot be written");
      if (there && !*there)
        if (auto marked = file_->mark_dead({user, key_id, -1, false}); !marked) damage_ = marked.error();
      tell(std::move(there));
    });
  });
  if (!asked) return unreachable("too many wait, or the server ends");
  const auto there = answer.get();
  if (!there) return tl::unexpected(there.error());
  if (!*there) return failure(Errc::erased);
  return look();
}

void Store::erase_if(std::string user, Confirm confirm, std::function<void(result<void>)> done) {
  const auto shared = std::make_shared<Ended>(std::move(done));
  const auto counted = [this, shared](result<void> how) {
    --waiting_;
    (*shared)(std::move(how));
  };
  // The barrier: a key that another server made is erased, too.
  const bool asked = ask([this, user = std::move(user), confirm = std::move(confirm), shared, counted] {
    barrier(partition_of(user), [this, user, confirm, shared, counted](const result<void>& read_to_here) {
      if (!read_to_here) return counted(read_to_here);
      const auto ids = key_ids(user);
      if (!ids) return counted(tl::unexpected(ids.error()));
      if (ids->empty() || !confirm) return erase_keys(user, *ids, counted);
      --waiting_;  // who is asked may never answer
      confirm([this, user, ids = *ids, shared, counted](result<void> confirmed) {
        if (!confirmed) return (*shared)(std::move(confirmed));
        if (!ask([this, user, ids, counted] { erase_keys(user, ids, counted); }))
          (*shared)(unreachable("too many wait, or the server ends"));
      });
    });
  });
  if (!asked) (*shared)(unreachable("too many wait, or the server ends"));
}

void Store::when_followed(std::uint32_t partition, std::uint64_t sequence, std::function<void()> done) {
  const auto shared = std::make_shared<std::function<void()>>(std::move(done));
  if (!ask([this, partition, sequence, shared] {
        ++taken_over_;
        forget_made();
        followers_.push_back({partition, sequence, [this, shared] {
                                --waiting_;
                                (*shared)();
                              }});
        follow_at_ = {};
      }))
    (*shared)();  // it ends, or nobody is given a key any more
}

// ---- the store's thread: what was asked

void Store::make_key(const std::string& user, Obtained done) {
  if (failed_) return done(tl::unexpected(*failed_));
  if (!caught_up_) {
    late_.push_back({SteadyClock::now() + options_.answer_within, user, std::move(done)});
    return;
  }
  if (const auto making = making_.find(user); making != making_.end()) {
    making->second.second.push_back(std::move(done));
    return;
  }
  const auto there_is = sealing_key(user);
  if (!there_is) {
    damage_ = there_is.error();
    return done(tl::unexpected(there_is.error()));
  }
  if (*there_is) {
    file_->cache(user, *there_is);
    return done(*there_is);
  }
  auto key = new_key(*options_.random);
  const auto wrapped = wrap(wrapping_, key->bytes, user, key->id, *options_.random);
  making_[user] = {key, {std::move(done)}};
  put(partition_of(user), key_name(user, key->id), to_hex(wrapped),
      [this, user, taken_over = taken_over_](const result<void>& how) {
        auto [made, waiting] = std::move(making_.extract(user).mapped());
        result<SealingKeyPtr> answer = made;
        if (!how) answer = tl::unexpected(how.error());
        else if (const auto there = file_ ? file_->has(user, made->id) : result<bool>(false); !there || !*there)
          answer = unreachable("the key was erased as it was made");
        else if (const auto used = take_into_use(user, made, taken_over); !used) answer = tl::unexpected(used.error());
        else if (!*used) {
          for (Obtained& again : waiting) make_key(user, std::move(again));
          return;
        }
        for (const Obtained& tell : waiting) tell(answer);
      });
}

/// What the user's sessions are sealed with; null: a key must be made. Whoever erases a person takes all keys that were there before another
/// server took their partition over, may do so late, and no record needs to name them. So once somebody was erased, only what was made
/// here, and since then, seals what they say when they come back.
result<SealingKeyPtr> Store::sealing_key(const std::string& user) {
  auto keys = file_->usable_keys(user);
  if (!keys) return tl::unexpected(keys.error());
  const auto erased = file_->has_dead(user);
  if (!erased) return tl::unexpected(erased.error());
  const auto made = made_.find(user);
  if (*erased) std::erase_if(*keys, [&](const auto& key) { return made == made_.end() || key->id != made->second; });
  return keys->empty() ? nullptr : keys->back();
}

/// False: a partition was taken over as the key was made.
result<bool> Store::take_into_use(const std::string& user, const SealingKeyPtr& key, std::uint64_t taken_over) {
  const auto erased = file_->has_dead(user);
  if (!erased) return tl::unexpected(erased.error());
  if (*erased && taken_over != taken_over_) return false;
  if (*erased) {
    if (made_.size() >= options_.cached_users) forget_made();
    made_[user] = key->id;
  }
  file_->cache(user, key);
  return true;
}

void Store::forget_made() {
  for (auto& [user, id] : std::exchange(made_, {})) uncached_.push_back(user);
}

result<std::vector<std::string>> Store::key_ids(const std::string& user) {
  if (!file_) return unreachable("the copy is being read anew");
  auto ids = file_->key_ids(user);
  if (!ids) damage_ = ids.error();
  return ids;
}

/// From here on, however late the topic has their deletion.
result<void> Store::put_out_of_use(const std::string& user, const std::vector<std::string>& ids) {
  if (auto begun = in_transaction(); !begun) return begun;
  uncached_.push_back(user);
  for (const std::string& id : ids) {
    const auto dead = file_->dead(user, id);
    if (!dead) return tl::unexpected(dead.error());
    if (*dead) continue;
    if (auto marked = file_->mark_dead({user, id, -1, false}); !marked) return marked;
  }
  return {};
}

void Store::erase_keys(const std::string& user, const std::vector<std::string>& ids, const Ended& done) {
  if (!file_) return done(unreachable("the copy is being read anew"));
  if (ids.empty()) return done(file_->scrub_owed() ? file_->scrub({}) : result<void>{});
  if (auto out = put_out_of_use(user, ids); !out) {
    damage_ = out.error();
    return done(std::move(out));
  }
  struct Left {
    std::size_t count;
    result<void> how;
  };
  auto left = std::make_shared<Left>(Left{ids.size(), {}});
  for (const std::string& id : ids)
    delete_key(partition_of(user), key_name(user, id), [left, done](result<void> how) {
      if (!how) left->how = std::move(how);
      if (--left->count == 0) done(left->how);
    });
}

void Store::await(const std::string& name, Ended ended) {
  awaited_[name].push_back({SteadyClock::now() + options_.answer_within, std::move(ended)});
}
/// Told after the commit.
void Store::end(const std::string& name, const result<void>& how) {
  const auto found = awaited_.find(name);
  if (found == awaited_.end()) return;
  for (Awaited& awaited : found->second) ended_.emplace_back(std::move(awaited.ended), how);
  awaited_.erase(found);
}

void Store::put(std::uint32_t partition, std::string name, std::string value, Ended ended) {
  await(name, std::move(ended));
  outbox_.push_back({partition, {std::move(name), std::move(value), {}}, false});
}
void Store::delete_key(std::uint32_t partition, std::string name, Ended ended) {
  await(name, std::move(ended));
  outbox_.push_back({partition, {std::move(name), {}, {}}, true});
}
void Store::barrier(std::uint32_t partition, Ended ended) {
  if (failed_) ended_.emplace_back(std::move(ended), tl::unexpected(*failed_));
  else parts_[partition].barrier_waits.push_back(std::move(ended));
}

/// One for all who asked in this round: it is written after all of their questions.
void Store::send_barriers() {
  for (std::uint32_t p = 0; p < parts_.size(); ++p) {
    if (parts_[p].barrier_waits.empty()) continue;
    std::array<std::uint8_t, 8> random{};
    options_.random->fill(random);
    const std::string name = "barrier " + to_hex({reinterpret_cast<const char*>(random.data()), random.size()});
    for (Ended& ended : std::exchange(parts_[p].barrier_waits, {})) await(name, std::move(ended));
    const std::int64_t asked_at = now_ms();
    await(name, [this, p, asked_at](const result<void>& how) {
      if (!how) return;
      Place& place = parts_[p].place;
      if (place.contact_ms >= 0 && asked_at - place.contact_ms > delete_retention_ms_ / 2 && !damage_ && caught_up_)
        damage_ = Failure{make_error_code(Errc::unreachable), "Kafka was away for so long that erasures may be missing"};
      place.contact_ms = asked_at;
      parts_[p].moved = true;
    });
    outbox_.push_back({p, {name, {}, {}}, true});
  }
}

// ---- the store's thread: rounds

void Store::run() {
  pthread_setname_np(pthread_self(), "keys-kafka");
  begin_reading();
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      const auto something = [this] {
        return signalled_ || !asked_.empty() || (closing_ && end_by_ == SteadyClock::time_point{});
      };
      if (!more_) wake_.wait_until(lock, next_due(), something);
      signalled_ = false;
      if (closing_ && end_by_ == SteadyClock::time_point{}) end_by_ = SteadyClock::now() + options_.answer_within;
      if (closing_ && asked_.empty() && awaited_.empty() && ended_.empty() && late_.empty()) break;
    }
    round();
    if (end_by_ != SteadyClock::time_point{} && SteadyClock::now() >= end_by_)
      give_up({make_error_code(Errc::unreachable), "the server ends"});
  }
  commit();
  for (const Follower& follower : std::exchange(followers_, {})) follower.done();
  if (started_ != nullptr) std::exchange(started_, nullptr)->set_value(unreachable("the server ends"));
  producer_topic_.reset();
  producer_.reset();
  consumer_.reset();
  file_.reset();
  if (useless_copy_) remove_database(options_.file);
}

void Store::round() {
  std::vector<std::function<void()>> asked;
  {
    const std::lock_guard lock(mutex_);
    asked.swap(asked_);
  }
  for (auto& what : asked) what();
  send_barriers();
  send();
  receive();
  look_after_producer();
  follow();
  commit();
  recover();
  look_after_start();
  chores();
  send_barriers();
  send();
}

void Store::send() {
  while (!outbox_.empty()) {
    const Outgoing& next = outbox_.front();
    const auto code = before_send.hit()
                          ? RD_KAFKA_RESP_ERR__TIMED_OUT
                          : log::kafka::produce(*producer_, producer_topic_.get(), next.partition, next.message, next.deletes);
    if (code == RD_KAFKA_RESP_ERR__QUEUE_FULL || code == RD_KAFKA_RESP_ERR__FATAL) return;  // later, in order
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) end(next.message.key, unreachable(rd_kafka_err2str(code)));
    outbox_.pop_front();
  }
}

void Store::look_after_producer() {
  rd_kafka_poll(producer_->handle(), 0);
  if (!producer_->fatal() && !producer_fails.hit()) return;
  note(producer_->last_words().explain("the keys' producer is made anew", options_.brokers).message());
  rd_kafka_purge(producer_->handle(), RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
  rd_kafka_flush(producer_->handle(), 1000);
  if (auto made = make_producer(); !made) give_up(made.error());
}

void Store::receive() {
  more_ = false;
  if (!file_) return;
  for (std::size_t messages = 0; !damage_ && !failed_; ++messages) {
    if (messages == messages_per_round) {
      more_ = true;
      return;
    }
    const log::kafka::Received message{rd_kafka_consumer_poll(consumer_->handle(), 0)};
    if (!message) return;
    if (auto done = read(*message); !done) damage_ = done.error();
  }
}

result<void> Store::read(const rd_kafka_message_t& received) {
  if (received.err == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE || received.err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET) {
    give_up({make_error_code(log::Errc::shorter_than_head),
             "the topic " + options_.topic + " no longer holds what was read from it: Kafka lost keys that it had acknowledged"});
    return {};
  }
  if (received.err != RD_KAFKA_RESP_ERR_NO_ERROR) return {};  // librdkafka goes on by itself
  Part& part = parts_[static_cast<std::size_t>(received.partition)];
  progress_at_ = SteadyClock::now();
  part.place.offset = received.offset;
  part.moved = true;
  const Message message = log::kafka::to_message(received);
  result<void> done;
  if (const auto name = parse_key_name(message.key)) {
    done = message.value.empty() ? read_erasure(*name) : read_key(*name, message.value);
  } else if (message.key.starts_with("check ") && !checked_) {
    // The first one decides: of two servers that begin at once with two master keys, one is refused.
    if (!unwrap(wrapping_, from_hex(message.value), "", "check")) {
      useless_copy_ = true;  // else it would be in the way of the right master.key
      give_up({make_error_code(Errc::bad_secret_file),
               "the keys in the topic " + options_.topic +
                   " were wrapped by another master.key: copy master.key and operator.key of a server that uses this log into "
                   "this data folder"});
      return {};
    }
    checked_ = true;
    done = in_transaction();
    if (done) done = file_->keep_note("checked", "yes");
  }
  if (done) end(message.key, {});
  return done;
}

result<void> Store::read_key(const KeyName& name, std::string_view value) {
  const std::string wrapped = from_hex(value);
  if (!unwrap(wrapping_, wrapped, name.user, name.key_id)) {
    note("a message in the topic " + options_.topic + " is no key of this installation: it is void");
    return {};
  }
  if (auto begun = in_transaction(); !begun) return begun;
  auto dead = file_->dead(name.user, name.key_id);
  if (!dead) return tl::unexpected(dead.error());
  const auto has = file_->has(name.user, name.key_id);
  if (!has) return tl::unexpected(has.error());
  // What came after its end is nobody's key: it is deleted again.
  if (*dead) {
    (*dead)->wanted = true;
    return file_->mark_dead(**dead);
  }
  return *has ? result<void>{} : file_->insert(name.user, name.key_id, wrapped);
}

result<void> Store::read_erasure(const KeyName& name) {
  if (auto begun = in_transaction(); !begun) return begun;
  auto dead = file_->dead(name.user, name.key_id);
  if (!dead) return tl::unexpected(dead.error());
  wanted_since_.erase({name.user, name.key_id});
  uncached_.push_back(name.user);
  if (auto removed = file_->remove(name.user, name.key_id, removed_); !removed) return removed;
  if (*dead && !(*dead)->wanted) return {};
  return file_->mark_dead({name.user, name.key_id, *dead ? (*dead)->partition : -1, false});
}

result<void> Store::in_transaction() {
  if (writing_) return {};
  auto begun = file_->begin();
  writing_ = begun.has_value();
  return begun;
}

void Store::commit() {
  result<void> done;
  if (!damage_ && file_) {
    for (std::uint32_t p = 0; p < parts_.size() && done; ++p) {
      if (!std::exchange(parts_[p].moved, false)) continue;
      done = in_transaction();
      if (done) done = file_->keep_note("kafka:" + std::to_string(p), to_string(parts_[p].place));
    }
    if (done && writing_) {
      done = file_->commit();
      writing_ = writing_ && !done;
    }
    if (!done) damage_ = done.error();
  }
  if (damage_) {
    done = tl::unexpected(*damage_);
    if (file_ && writing_) file_->roll_back();
    writing_ = false;
  }
  // What is in memory goes after the commit, else it could be read from the file once more.
  for (const std::string& user : std::exchange(uncached_, {}))
    if (file_) file_->forget_cached(user);
  // While the topic is read for the first time keys come and go: one search at the end is enough.
  if (done && file_ && caught_up_ && file_->scrub_owed()) done = file_->scrub(std::exchange(removed_, {}));
  for (auto& [tell, how] : std::exchange(ended_, {}))
    tell(how && !done ? result<void>(unreachable(done.error().message())) : how);
}

// ---- the log: what a counted UserErased says

void Store::follow() {
  const auto now = SteadyClock::now();
  if (!read_once_ || !file_ || damage_ || failed_ || now < follow_at_) return;
  follow_at_ = now + follow_period;
  for (std::uint32_t p = 0; p < followed_.size(); ++p) {
    if (followed_[p] >= log_.head(p)) continue;
    if (auto done = follow_partition(p); !done) {
      note("the log cannot be followed: " + done.error().message());
      return;
    }
  }
  std::erase_if(followers_, [&](Follower& follower) {
    if (followed_[follower.partition] < follower.sequence) return false;
    ended_.emplace_back([done = std::move(follower.done)](const result<void>&) { done(); }, result<void>{});
    return true;
  });
  if (!log_read_once_) {
    log_read_once_ = true;
    keep_followed_at_ = {};
  }
  if (now < keep_followed_at_) return;
  keep_followed_at_ = now + keep_followed_period;
  auto kept = in_transaction();
  if (kept) kept = file_->keep_note("log", log_.log_id());
  for (std::uint32_t p = 0; p < followed_.size() && kept; ++p)
    kept = file_->keep_note("log:" + std::to_string(p), std::to_string(followed_[p]));
  if (!kept) damage_ = kept.error();
}

result<void> Store::follow_partition(std::uint32_t partition) {
  for (;;) {
    const auto records = log_.read_partition(partition, followed_[partition], records_per_page, page_bytes);
    if (!records) return tl::unexpected(records.error());
    if (records->empty()) return {};
    for (const log::Record& record : *records)
      if (record.payload.find(erased_type) != std::string::npos)
        if (auto seen = see_erasure(record); !seen) return seen;
    followed_[partition] = records->back().last_sequence();
    progress_at_ = SteadyClock::now();
  }
}

result<void> Store::see_erasure(const log::Record& record) {
  const auto seal = codec::read_seal(record);
  if (!seal || !seal->erases || seal->user.empty()) return {};
  const auto ids = keys_of_stream(record, seal->user);
  if (!ids) return tl::unexpected(ids.error());
  if (auto begun = in_transaction(); !begun) return begun;
  for (const std::string& id : *ids) {
    const auto dead = file_->dead(seal->user, id);
    if (!dead) return tl::unexpected(dead.error());
    const auto has = file_->has(seal->user, id);
    if (!has) return tl::unexpected(has.error());
    const bool wanted = *has || (*dead && (*dead)->wanted);
    if (auto marked = file_->mark_dead({seal->user, id, record.partition, wanted}); !marked) return marked;
  }
  uncached_.push_back(seal->user);
  if (erased_) erased_(seal->user);
  return {};
}

/// Of all its records: a session may have been sealed with more than one.
result<std::set<std::string>> Store::keys_of_stream(const log::Record& last, const std::string& user) {
  std::set<std::string> ids;
  for (std::uint64_t version = 0; version < last.last_version();) {
    std::promise<result<std::vector<log::Record>>> promise;
    log_.read_stream(last.partition, last.stream, version, records_per_page,
                     [&](auto read) { promise.set_value(std::move(read)); });
    const auto records = promise.get_future().get();
    if (!records) return tl::unexpected(records.error());
    if (records->empty()) break;
    for (const log::Record& record : *records)
      if (const auto seal = codec::read_seal(record); seal && seal->user == user && !seal->key_id.empty())
        ids.insert(seal->key_id);
    version = records->back().last_version();
  }
  return ids;
}

// ---- the store's thread: from time to time

void Store::look_after_start() {
  if (failed_ || damage_) return;
  if (started_ != nullptr && SteadyClock::now() > progress_at_ + options_.patience)
    return give_up(consumer_->last_words().explain("read the topic " + options_.topic, options_.brokers));
  read_once_ = read_once_ || barriers_missing_ == 0;
  if (read_once_ && !checked_ && !checking_) {  // nobody was here before
    checking_ = true;
    std::array<std::uint8_t, 8> random{};
    options_.random->fill(random);
    put(0, "check " + to_hex({reinterpret_cast<const char*>(random.data()), random.size()}),
        to_hex(wrap(wrapping_, {}, "", "check", *options_.random)), [this](const result<void>&) { checking_ = false; });
  }
  if (!checked_ || !log_read_once_ || caught_up_) return;
  if (auto moved = move_embedded(); !moved) return give_up(moved.error());
  caught_up_ = true;
  for (Late& late : std::exchange(late_, {})) make_key(late.user, std::move(late.done));
  if (started_ != nullptr) std::exchange(started_, nullptr)->set_value({});
}

void Store::begin_reading() {
  ++reading_;
  read_once_ = log_read_once_ = caught_up_ = checking_ = false;
  progress_at_ = contact_at_ = SteadyClock::now();
  barriers_missing_ = parts_.size();
  for (std::uint32_t p = 0; p < parts_.size(); ++p) read_to_here(p, reading_);
}

void Store::read_to_here(std::uint32_t partition, std::uint64_t reading) {
  barrier(partition, [this, partition, reading](const result<void>& how) {
    if (reading != reading_ || failed_) return;
    if (how) --barriers_missing_;
    else read_to_here(partition, reading);
  });
}

/// Keys of an embedded store that the topic lacks. What was erased meanwhile is dead by the log, and not among them.
result<void> Store::move_embedded() {
  std::error_code ignored;
  const auto from = aside(options_.file);
  if (!std::filesystem::exists(from, ignored)) return {};
  auto embedded = KeysFile::open(from, wrapping_, {});
  if (!embedded) return failure(embedded.error().code, from.string() + ": " + embedded.error().detail);
  std::size_t moved = 0;
  for (std::int64_t after = 0;;) {
    const auto rows = (*embedded)->rows(after, rows_per_page);
    if (!rows) return tl::unexpected(rows.error());
    if (rows->empty()) break;
    std::size_t missing = 0;
    result<void> all;
    for (const KeysFile::Row& row : *rows) {
      const auto has = file_->has(row.user, row.key_id);
      const auto dead = file_->dead(row.user, row.key_id);
      if (!has || !dead) return tl::unexpected(has ? dead.error() : has.error());
      if (*has || *dead) continue;
      if (!unwrap(wrapping_, row.wrapped, row.user, row.key_id))
        return failure(Errc::forged, "a key in " + from.string() + " does not open: restore keys.db from the back-up");
      ++missing, ++moved;
      put(partition_of(row.user), key_name(row.user, row.key_id), to_hex(row.wrapped), [&](const result<void>& how) {
        --missing;
        if (!how) all = how;
      });
    }
    while (missing > 0) {
      send();
      receive();
      look_after_producer();
      commit();
      give_up_late(SteadyClock::now());
      if (damage_ && missing > 0) all = tl::unexpected(*damage_);
      if (missing > 0) std::this_thread::sleep_for(milliseconds(1));
    }
    if (!all) return all;
    after = rows->back().n;
  }
  embedded->reset();
  remove_database(from);
  std::filesystem::remove(from.string() + ".lock", ignored);
  note(std::to_string(moved) + " keys of keys.db are in the topic " + options_.topic + " now");
  return {};
}

/// The copy is damaged or gone, or could not be written: what is not in it is read again, from where it stands or from the beginning.
void Store::recover() {
  const auto now = SteadyClock::now();
  if (!damage_ || failed_ || now < recover_at_) return;
  if (std::exchange(last_trouble_, damage_->message()) != damage_->message()) note("the copy of the keys: " + last_trouble_);
  recover_at_ = now + std::chrono::seconds(1);
  const bool anew = damage_->code == Errc::forged;
  {
    const std::unique_lock lock(file_mutex_);
    file_.reset();
    if (anew) remove_database(options_.file);
    removed_.clear();
    parts_.assign(options_.partitions, {});
    followed_.assign(log_.partitions(), 0);
    auto opened = open_file();
    if (opened) opened = read_places();
    if (!opened) {
      file_.reset();
      damage_ = opened.error();
      return;
    }
  }
  damage_.reset();
  begin_reading();
}

void Store::chores() {
  const auto now = SteadyClock::now();
  if (now < chores_at_) return;
  chores_at_ = now + chore_period;
  give_up_late(now);
  if (failed_ || damage_ || !file_) return;
  struct stat there {};
  if (::stat(options_.file.c_str(), &there) != 0 || there.st_ino != inode_) {
    damage_ = Failure{make_error_code(Errc::unreachable), "keys.db was deleted or replaced: it is read anew from Kafka"};
    return;
  }
  if (caught_up_) delete_what_is_wanted(now);
  if (now < contact_at_ + options_.contact_every) return;
  contact_at_ = now;
  for (std::uint32_t p = 0; p < parts_.size(); ++p) barrier(p, [](const result<void>&) {});
}

/// Keys that a counted UserErased made dead and that are, or are again, in the topic. The erasure that is under way comes first.
void Store::delete_what_is_wanted(SteadyClock::time_point now) {
  const auto wanted = file_->wanted(wanted_at_once);
  if (!wanted) {
    damage_ = wanted.error();
    return;
  }
  for (const KeysFile::Dead& dead : *wanted) {
    if (dead.partition >= 0 && !owns_(static_cast<std::uint32_t>(dead.partition))) continue;
    auto& since = wanted_since_.try_emplace({dead.user, dead.key_id}, now).first->second;
    if (now < since + options_.repeat_after) continue;
    since = now;
    delete_key(partition_of(dead.user), key_name(dead.user, dead.key_id), [](const result<void>&) {});
  }
}

void Store::give_up_late(SteadyClock::time_point now) {
  const auto late = unreachable(producer_->last_words().explain("no answer in time", options_.brokers).message());
  for (auto entry = awaited_.begin(); entry != awaited_.end();) {
    auto& waiting = entry->second;
    while (!waiting.empty() && now >= waiting.front().deadline) {
      ended_.emplace_back(std::move(waiting.front().ended), late);
      waiting.erase(waiting.begin());
    }
    entry = waiting.empty() ? awaited_.erase(entry) : std::next(entry);
  }
  std::erase_if(late_, [&](Late& waiting) {
    if (now < waiting.deadline) return false;
    waiting.done(late);
    return true;
  });
}

/// Nothing is served any more: what waits is told, and what comes.
void Store::give_up(const Failure& why) {
  if (failed_) return;
  failed_ = why;
  note("the users' keys cannot be served: " + why.message());
  for (auto& [name, waiting] : std::exchange(awaited_, {}))
    for (Awaited& awaited : waiting) ended_.emplace_back(std::move(awaited.ended), tl::unexpected(why));
  for (Part& part : parts_)
    for (Ended& ended : std::exchange(part.barrier_waits, {})) ended_.emplace_back(std::move(ended), tl::unexpected(why));
  for (Late& late : std::exchange(late_, {})) late.done(tl::unexpected(why));
  if (started_ != nullptr) std::exchange(started_, nullptr)->set_value(tl::unexpected(why));
}

SteadyClock::time_point Store::next_due() const {
  const auto now = SteadyClock::now();
  auto due = std::max(now, chores_at_);
  if (read_once_ && !failed_ && behind()) due = std::min(due, std::max(now, follow_at_));
  if (!outbox_.empty()) due = std::min(due, now + milliseconds(5));
  return ended_.empty() ? due : now;
}

bool Store::behind() const {
  for (std::uint32_t p = 0; p < followed_.size(); ++p)
    if (followed_[p] < log_.head(p)) return true;
  return false;
}

}  // namespace

result<std::unique_ptr<KafkaKeyStore>> KafkaKeyStore::open(KafkaKeyStoreOptions options,
                                                           const std::array<std::uint8_t, 32>& wrapping_key, log::EventLog& log,
                                                           std::function<bool(std::uint32_t)> owns) {
  auto store = std::make_unique<Store>(std::move(options), wrapping_key, log, std::move(owns));
  if (auto started = store->start(); !started) return tl::unexpected(started.error());
  return store;
}

}  // namespace onboarding::privacy
