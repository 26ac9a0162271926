#include "events/log/kafka/membership.hpp"

#include <pthread.h>

#include <atomic>
#include <charconv>
#include <deque>
#include <mutex>
#include <thread>

#include "events/log/kafka/client.hpp"
#include "events/log/kafka/rules/seat.hpp"

namespace onboarding::log::kafka {
namespace {

using SteadyClock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds poll_period{20};
constexpr milliseconds leaving_takes{150};
constexpr milliseconds complaints_period{30'000};
constexpr milliseconds last_words_period{3'000};     // of handing over, at the end
constexpr milliseconds least_poll_interval{15'000};  // the others wait no longer for a server that hears no new deal

struct Announced {
  std::string instance, address;
  std::uint64_t epoch = 0;
};

/// Key: the partition. Value: the address. Headers: `log`, `instance`, `epoch`.
Message announcement(const std::string& log_id, std::uint32_t partition, const Announced& owner) {
  return {std::to_string(partition),
          owner.address,
          {{"log", log_id}, {"instance", owner.instance}, {"epoch", std::to_string(owner.epoch)}}};
}

/// nullopt for another log's, or what is none.
std::optional<Announced> read_announcement(const std::string& log_id, const Message& message) {
  Announced owner;
  bool ours = false;
  for (const auto& [name, value] : message.headers) {
    if (name == "log") ours = value == log_id;
    if (name == "instance") owner.instance = value;
    if (name == "epoch") std::from_chars(value.data(), value.data() + value.size(), owner.epoch);
  }
  owner.address = message.value;
  if (!ours || owner.epoch == 0 || owner.address.empty()) return std::nullopt;
  return owner;
}

class Member final : public Membership {
 public:
  Member(KafkaLog& log, MembershipOptions options)
      : log_(log), options_(std::move(options)), topic_(options_.kafka.topic + "-owners"), owners_(options_.kafka.partitions) {
    Seat::Patience patience;
    patience.lost = options_.session_timeout * 2;
    for (std::uint32_t p = 0; p < options_.kafka.partitions; ++p) {
      seats_.emplace_back(patience);
      next_offsets_.push_back(RD_KAFKA_OFFSET_BEGINNING);
    }
    announced_epochs_.resize(options_.kafka.partitions);
    if (!options_.kafka.on_note) options_.kafka.on_note = [](const std::string&) {};
  }
  ~Member() override { leave(); }

  result<void> join();

  std::optional<std::string> address_of(std::uint32_t partition) const override {
    const auto standing = log_.standing(partition);
    const std::lock_guard lock(mutex_);
    const auto& owner = owners_.at(partition);
    // Older than the last counted claim, or that was released: whoever claims it now will say so.
    if (!owner || owner->epoch < standing.epoch || (owner->epoch == standing.epoch && !standing.claimed)) return std::nullopt;
    return owner->address;
  }
  std::uint32_t owned() const override { return owned_; }
  bool joined() const override { return joined_; }
  void leave() override {
    leaving_ = true;
    if (thread_.joinable()) thread_.join();
  }

 private:
  enum class Event : std::uint8_t { claimed, not_claimed, handed_over, lost };
  /// What the log has said: it may still say something when we are gone.
  struct Inbox {
    std::mutex mutex;
    std::deque<std::pair<Event, std::uint32_t>> events;
    void push(Event event, std::uint32_t partition) {
      const std::lock_guard lock(mutex);
      events.emplace_back(event, partition);
    }
  };

  void run();
  void receive();
  void complain(const rd_kafka_message_t&);
  void take_events();
  void look_after_seats();
  result<void> make_producer();
  void announce();
  void dealt(const std::vector<std::uint32_t>* proposed);
  void end();
  std::vector<std::pair<std::uint32_t, std::int64_t>> everything() const {
    std::vector<std::pair<std::uint32_t, std::int64_t>> read;
    for (std::uint32_t p = 0; p < next_offsets_.size(); ++p) read.emplace_back(p, next_offsets_[p]);
    return read;
  }
  void hand_over(std::uint32_t partition) {
    log_.hand_over(partition, [inbox = inbox_, partition](const result<void>&) { inbox->push(Event::handed_over, partition); });
  }
  void give_away(std::uint32_t partition) {
    if (!seats_[partition].owned()) return;
    --owned_;
    options_.lost(partition);
  }

  KafkaLog& log_;
  MembershipOptions options_;
  const std::string topic_;
  std::unique_ptr<Client> member_, producer_;
  struct FreeTopic {
    void operator()(rd_kafka_topic_t* topic) const { rd_kafka_topic_destroy(topic); }
  };
  std::unique_ptr<rd_kafka_topic_t, FreeTopic> producer_topic_;

  // The thread's own.
  std::vector<Seat> seats_;
  std::vector<std::int64_t> next_offsets_;       // of the owners' topic
  std::vector<std::uint64_t> announced_epochs_;  // of what was said of our own; 0: nothing
  bool dealt_ = false, alone_ = false;
  SteadyClock::time_point complain_at_{};

  std::atomic<std::uint32_t> owned_{0};
  std::atomic<bool> joined_{false}, leaving_{false};
  const std::shared_ptr<Inbox> inbox_ = std::make_shared<Inbox>();
  mutable std::mutex mutex_;  // of what follows
  std::vector<std::optional<Announced>> owners_;
  std::thread thread_;
};

result<void> Member::join() {
  const KafkaOptions& kafka = options_.kafka;
  const auto timeout = options_.session_timeout.count();
  Settings settings = reading_settings(kafka.brokers, kafka.client);
  for (auto& setting : Settings{{"group.id", kafka.topic + "-servers"},
                                // Members are dealt to in the order of their names, so that one that comes or goes moves little.
                                {"client.id", "onboardd-" + options_.instance},
                                {"partition.assignment.strategy", "range"},  // cooperative-sticky of 2.0.2 loses assignments
                                {"session.timeout.ms", std::to_string(timeout)},
                                {"max.poll.interval.ms", std::to_string(std::max(timeout * 2, least_poll_interval.count()))},
                                {"heartbeat.interval.ms", std::to_string(std::clamp<std::int64_t>(timeout / 12, 100, 500))},
                                {"auto.offset.reset", "earliest"}})
    settings.push_back(setting);
  auto member = Client::make(Client::Side::consumer, settings, nullptr, [this](const auto* proposed) { dealt(proposed); });
  if (!member) return tl::unexpected(member.error());
  member_ = std::move(*member);
  const TopicWanted wanted{topic_, kafka.partitions, kafka.create_topic, kafka.replicas, keeps_newest()};
  if (auto found = find_or_make_topic(*member_, wanted, kafka.patience, kafka.brokers); !found)
    return tl::unexpected(found.error());
  if (auto made = make_producer(); !made) return made;
  if (auto subscribed = subscribe(*member_, topic_); !subscribed) return subscribed;
  log_.on_lost([inbox = inbox_](std::uint32_t partition) { inbox->push(Event::lost, partition); });
  thread_ = std::thread([this] { run(); });
  return {};
}

result<void> Member::make_producer() {
  const KafkaOptions& kafka = options_.kafka;
  auto producer =
      Client::make(Client::Side::producer, writing_settings(kafka.brokers, kafka.client, kafka.message_timeout), nullptr);
  if (!producer) return tl::unexpected(producer.error());
  producer_topic_.reset();
  producer_ = std::move(*producer);
  // What nobody may have heard is said again.
  producer_->undelivered = [this](std::uint32_t partition, const Message&, rd_kafka_resp_err_t) {
    announced_epochs_.at(partition) = 0;
  };
  producer_topic_.reset(rd_kafka_topic_new(producer_->handle(), topic_.c_str(), nullptr));
  if (!producer_topic_) return failure(Errc::wrong_layout, "the topic name " + topic_ + " is not one");
  return {};
}

// ---- the thread

void Member::run() {
  ::pthread_setname_np(::pthread_self(), "log-member");
  while (!leaving_) {
    receive();
    take_events();
    look_after_seats();
    announce();
    if (options_.tick) options_.tick();
  }
  end();
}

/// The group's proposals come from in here, too.
void Member::receive() {
  milliseconds wait = poll_period;
  while (const Received message{rd_kafka_consumer_poll(member_->handle(), static_cast<int>(wait.count()))}) {
    wait = milliseconds(0);
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
      complain(*message);
      continue;  // librdkafka goes on by itself
    }
    const auto partition = static_cast<std::uint32_t>(message->partition);
    next_offsets_.at(partition) = message->offset + 1;
    auto owner = read_announcement(log_.log_id(), to_message(*message));
    if (!owner) continue;
    // One that was held up and came late, or another's in our place: ours is said again, so that it stays the newest.
    const auto said = announced_epochs_[partition];
    const bool older = owner->epoch < said || (owner->epoch == said && owner->instance != options_.instance);
    if (older && seats_[partition].owned()) announced_epochs_[partition] = 0;
    const std::lock_guard lock(mutex_);
    auto& known = owners_[partition];
    if (!known || owner->epoch >= known->epoch) known = std::move(*owner);
  }
  rd_kafka_poll(producer_->handle(), 0);
}

void Member::complain(const rd_kafka_message_t& error) {
  const auto now = SteadyClock::now();
  if (now < complain_at_) return;
  complain_at_ = now + complaints_period;
  options_.kafka.on_note("no partitions are dealt to this server (group " + options_.kafka.topic +
                         "-servers): " + rd_kafka_message_errstr(&error));
}

void Member::dealt(const std::vector<std::uint32_t>* proposed) {
  if (proposed != nullptr) {
    // What is revoked is served on until it is known who has it next: dealing takes a moment, and nobody may write but the owner.
    dealt_ = true;
    alone_ = proposed->size() == seats_.size();
    const auto now = SteadyClock::now();
    for (std::uint32_t p = 0; p < seats_.size(); ++p)
      seats_[p].proposed(std::find(proposed->begin(), proposed->end(), p) != proposed->end(), now);
  }
  // Whatever was dealt, everybody reads all of it: who owns what.
  const auto read = proposed != nullptr ? everything() : std::vector<std::pair<std::uint32_t, std::int64_t>>();
  if (auto assigned = assign(*member_, topic_, read); !assigned) options_.kafka.on_note(assigned.error().message());
}

void Member::take_events() {
  std::deque<std::pair<Event, std::uint32_t>> events;
  {
    const std::lock_guard lock(inbox_->mutex);
    events.swap(inbox_->events);
  }
  for (const auto& [event, p] : events) {
    Seat& seat = seats_[p];
    const auto now = SteadyClock::now();
    switch (event) {
      case Event::claimed:
      case Event::not_claimed:
        seat.claimed(event == Event::claimed, now);
        if (!seat.owned()) break;
        announced_epochs_[p] = 0;
        ++owned_;
        options_.gained(p);
        break;
      case Event::handed_over:
        give_away(p);
        seat.released();
        break;
      case Event::lost:
        give_away(p);
        seat.lost(now);
        break;
    }
  }
}

void Member::look_after_seats() {
  const auto now = SteadyClock::now();
  bool all_settled = dealt_;
  for (std::uint32_t p = 0; p < seats_.size(); ++p) {
    switch (seats_[p].next(log_.standing(p).claimed, now)) {
      case Seat::Do::claim:
        log_.claim(p, [inbox = inbox_, p](const result<void>& claimed) {
          inbox->push(claimed ? Event::claimed : Event::not_claimed, p);
        });
        break;
      case Seat::Do::hand_over: hand_over(p); break;
      case Seat::Do::nothing: break;
    }
    all_settled = all_settled && seats_[p].settled();
  }
  if (all_settled) joined_ = true;
}

/// Of each claim that counted, also of one that had to be made again because something was in doubt.
void Member::announce() {
  if (producer_->fatal()) {
    if (auto made = make_producer(); !made) return options_.kafka.on_note(made.error().message());
    std::fill(announced_epochs_.begin(), announced_epochs_.end(), 0);
  }
  for (std::uint32_t p = 0; p < seats_.size(); ++p) {
    if (!seats_[p].owned()) continue;
    // Another's claim may have been read, and we are told of it in a moment.
    const auto standing = log_.standing(p);
    if (!standing.ours || announced_epochs_[p] == standing.epoch) continue;
    const Announced owner{options_.instance, options_.address, standing.epoch};
    if (produce(*producer_, producer_topic_.get(), p, announcement(log_.log_id(), p, owner)) != RD_KAFKA_RESP_ERR_NO_ERROR)
      return;
    announced_epochs_[p] = standing.epoch;
    const std::lock_guard lock(mutex_);
    owners_[p] = owner;
  }
}

/// Others are dealt what is ours and claim it while it is still served; what nobody takes is handed over.
void Member::end() {
  rd_kafka_unsubscribe(member_->handle());
  const auto left_at = SteadyClock::now();
  bool reads = false;
  const auto wait = [&](milliseconds at_most) {
    for (const auto end = SteadyClock::now() + at_most; owned_ > 0 && SteadyClock::now() < end;) {
      receive();
      take_events();
      // Out of the group, who owns what is read on: requests that still come are passed on.
      if (!reads && SteadyClock::now() > left_at + leaving_takes) {
        reads = true;
        (void)assign(*member_, topic_, everything());
      }
    }
  };
  if (!alone_) wait(options_.settle);
  for (std::uint32_t p = 0; p < seats_.size(); ++p) {
    seats_[p].proposed(false, SteadyClock::now());
    if (seats_[p].next(true, SteadyClock::now()) == Seat::Do::hand_over) hand_over(p);
  }
  wait(last_words_period);
  rd_kafka_flush(producer_->handle(), 500);
}

}  // namespace
}  // namespace onboarding::log::kafka

namespace onboarding::log {

result<std::unique_ptr<Membership>> Membership::join(KafkaLog& log, MembershipOptions options) {
  auto member = std::make_unique<kafka::Member>(log, std::move(options));
  if (auto joined = member->join(); !joined) return tl::unexpected(joined.error());
  return member;
}

}  // namespace onboarding::log
