// The partition host: the only one that brings sessions of its partition to life and lets them go, so that no session
// ever has two actors. It routes requests, finds turns and timers that wait in the log's index, and never blocks.
#include <spdlog/spdlog.h>
#include <caf/all.hpp>

#include <deque>
#include <limits>
#include <list>
#include <unordered_map>

#include "actors/session/environment.hpp"

namespace onboarding::session {

namespace {

using namespace std::chrono_literals;
using Time = caf::actor_clock::time_point;

// A session that could not be read is looked at again for the log's sake after this long; a client's request tries at once.
constexpr std::chrono::milliseconds quarantine = 60s;
// A full page of the index is followed by the next one this soon.
constexpr std::chrono::milliseconds next_page_after = 200ms;
// An erasure that failed is tried again at least this often.
constexpr std::chrono::milliseconds last_retry = 30s;

class PartitionHost : public caf::event_based_actor {
 public:
  PartitionHost(caf::actor_config& config, EnvironmentPtr environment, std::uint32_t partition)
      : caf::event_based_actor(config),
        environment_(std::move(environment)),
        partition_(partition),
        permits_(std::max<std::size_t>(1, environment_->settings().max_activations / environment_->options.log->partitions())),
        room_(std::max<std::size_t>(1, environment_->settings().max_in_memory / environment_->options.log->partitions())) {}

  const char* name() const override { return "partition_host"; }

  void on_exit() override {
    for (auto& [id, entry] : sessions_)
      if (entry.actor) send_exit(entry.actor, caf::exit_reason::user_shutdown);
    sessions_.clear();
    uses_.clear();
    waiting_.clear();
    forgetting_.clear();
    failed_.clear();
  }

 protected:
  caf::behavior make_behavior() override {
    set_down_handler([this](const caf::down_msg& down) { bury(down.source); });
    look_at_index();
    return {
        [this](job_atom, const JobPtr& job) { route(job); },
        [this](ready_atom, const std::string& id) { activated(id); },
        [this](unreadable_atom, const std::string& id) {
          quarantined_[id] = clock().now() + quarantine;
          activated(id);
          let_go(id);
        },
        [this](passivate_atom, const std::string& id) { let_go(id); },
        [this](stay_atom, const std::string& id) { keep(id); },
        [this](gone_atom, const std::string& id) { forget(id); },
        [this](forget_atom, const ForgettingPtr& forgetting) {
          forgetting_.push_back(forgetting);
          begin_forgetting(*forgetting, sessions_);
        },
        [this](failed_atom, const ForgettingPtr& forgetting) {
          failed_.push_back(forgetting);
          delayed_send(this, forgetting->retry_after, again_atom::value);
          forgetting->retry_after = std::min<std::chrono::milliseconds>(forgetting->retry_after * 2, last_retry);
        },
        [](still_atom, const ForgettingPtr& forgetting) { std::exchange(forgetting->begun, nullptr)({}); },
        [this](again_atom) {
          for (const ForgettingPtr& forgetting : std::exchange(failed_, {})) begin_forgetting(*forgetting, sessions_);
        },
        [this](forgotten_atom, const ForgettingPtr& forgetting) { std::erase(forgetting_, forgetting); },
        [this](lost_atom) { lose_all(); },
        [this](poll_atom) { look_at_index(); },
        [this](found_atom, const IndexFindingsPtr& found) { take_findings(*found); },
    };
  }

 private:
  enum class Phase {
    waiting,  // for a permit to be read; no actor yet
    reading,  // holds a permit
    live,
    leaving  // was told to stop; requests wait until it says whether it went
  };
  struct Entry {
    Phase phase = Phase::waiting;
    bool for_the_log = true;  // no client has asked for it
    caf::actor actor;
    std::vector<JobPtr> stash;
    std::list<const std::string*>::iterator use{};
    domain::ShortHash user_key, blinded_user_id;  // who began it while it was here
  };
  using Entries = std::unordered_map<std::string, Entry>;

  static void begin_forgetting(Forgetting& forgetting, const Entries& sessions) {
    const Person& person = forgetting.person;
    const domain::ShortHash user_key(person.user_key), blinded_user_id(person.blinded_user_id);
    std::vector<std::string> theirs;
    for (const auto& [id, entry] : sessions)
      if (person.user_key.empty() ? entry.blinded_user_id == blinded_user_id : entry.user_key == user_key) theirs.push_back(id);
    std::exchange(forgetting.begun, nullptr)(std::move(theirs));
  }

  // ---- requests

  void route(const JobPtr& job) {
    if (const auto* start = std::get_if<StartJob>(&job->what)) {
      for (const ForgettingPtr& forgetting : forgetting_)
        if (forgetting->person.is(start->user_key, start->blinded_user_id)) return job->refuse(GatewayErrc::overloaded);
    }
    const auto found = sessions_.find(job->session_id);
    if (found == sessions_.end()) return bring_up(job->session_id, job);
    Entry& entry = found->second;
    note_who_begins(entry, *job);
    uses_.splice(uses_.end(), uses_, entry.use);
    if (entry.phase == Phase::reading || entry.phase == Phase::live) {
      send(entry.actor, job_atom::value, job);
    } else if (entry.stash.size() >= environment_->settings().max_requests_per_session &&
               !std::holds_alternative<EraseJob>(job->what)) {
      job->refuse(GatewayErrc::overloaded);
    } else {
      entry.for_the_log = false;
      entry.stash.push_back(job);
    }
  }

  static void note_who_begins(Entry& entry, const Job& job) {
    const auto* start = std::get_if<StartJob>(&job.what);
    if (!start) return;
    entry.user_key = domain::ShortHash(start->user_key);
    entry.blinded_user_id = domain::ShortHash(start->blinded_user_id);
  }

  // ---- up

  void bring_up(const std::string& id, const JobPtr& job) {
    const auto added = sessions_.try_emplace(id).first;
    Entry& entry = added->second;
    entry.use = uses_.insert(uses_.end(), &added->first);
    make_room();
    if (job) {
      note_who_begins(entry, *job);
      entry.for_the_log = false;
      entry.stash.push_back(job);
      if (job->certainly_new) {
        spawn_actor(id, entry, true);
        entry.phase = Phase::live;
        return;
      }
    }
    waiting_.push_back(id);
    use_permits();
  }

  /// One for one that comes, and a second one while there are too many: who is asked may have something to do, and stay.
  void make_room() {
    for (int asked = 0; asked < 2 && sessions_.size() - leaving_ > room_; ++asked) {
      const std::string longest_unused = *uses_.front();
      uses_.splice(uses_.end(), uses_, uses_.begin());
      environment_->instruments.asked_to_make_room();
      let_go(longest_unused);
    }
  }

  void drop(Entries::iterator entry) {
    if (entry->second.phase == Phase::leaving) leaving_--;
    uses_.erase(entry->second.use);
    sessions_.erase(entry);
  }

  void use_permits() {
    while (reading_ < permits_ && !waiting_.empty()) {
      const std::string id = std::move(waiting_.front());
      waiting_.pop_front();
      const auto found = sessions_.find(id);
      if (found == sessions_.end() || found->second.phase != Phase::waiting) continue;
      reading_++;
      found->second.phase = Phase::reading;
      spawn_actor(id, found->second, false);
    }
  }

  void spawn_actor(const std::string& id, Entry& entry, bool certainly_new) {
    entry.actor = spawn_session(*this, environment_, partition_, id, certainly_new, entry.for_the_log);
    monitor(entry.actor);
    hand_over(entry);
  }

  void hand_over(Entry& entry) {
    for (const JobPtr& job : std::exchange(entry.stash, {})) send(entry.actor, job_atom::value, job);
  }

  void activated(const std::string& id) {
    const auto found = sessions_.find(id);
    if (found == sessions_.end() || found->second.phase != Phase::reading) return;
    found->second.phase = Phase::live;
    reading_--;
    use_permits();
  }

  // ---- down

  void let_go(const std::string& id) {
    const auto found = sessions_.find(id);
    if (found == sessions_.end() || found->second.phase != Phase::live) return;
    send(found->second.actor, stop_atom::value);
    if (planted(Plant::passivation_without_handshake)) {
      drop(found);
      return;
    }
    found->second.phase = Phase::leaving;
    leaving_++;
  }

  void keep(const std::string& id) {
    const auto found = sessions_.find(id);
    if (found == sessions_.end() || found->second.phase != Phase::leaving) return;
    found->second.phase = Phase::live;
    leaving_--;
    hand_over(found->second);
  }

  void forget(const std::string& id) {
    const auto found = sessions_.find(id);
    if (found == sessions_.end() || found->second.phase != Phase::leaving) return;
    demonitor(found->second.actor);
    std::vector<JobPtr> stash = std::move(found->second.stash);
    drop(found);
    for (const JobPtr& job : stash) route(job);
  }

  /// An actor that ended without a word. Its clients were answered `in_doubt`; a turn it left pending is found in the index.
  void bury(const caf::actor_addr& source) {
    for (auto entry = sessions_.begin(); entry != sessions_.end(); ++entry) {
      if (!entry->second.actor || entry->second.actor != source) continue;
      if (entry->second.phase == Phase::reading) reading_--;
      std::vector<JobPtr> stash = std::move(entry->second.stash);
      drop(entry);
      for (const JobPtr& job : stash) route(job);
      break;
    }
    use_permits();
  }

  /// The partition is another server's: what was not begun is for that one.
  void lose_all() {
    for (auto& [id, entry] : sessions_) {
      for (const JobPtr& job : entry.stash) job->refuse(GatewayErrc::owned_elsewhere);
      if (entry.actor) send(entry.actor, lost_atom::value);
    }
    sessions_.clear();  // they end by themselves
    quit();
  }

  // ---- the log's index

  /// Down-time is not abandonment: before this nothing can be due, whatever the index says.
  bool timers_run() const {
    return environment_->options.clock->now() >= environment_->ready_since + environment_->settings().limits.abandon_after;
  }

  void look_at_index() {
    const domain::Timestamp now = environment_->options.clock->now();
    const bool timers = timers_run();
    // What the index keeps naming is in memory or in quarantine: room for a page of others beside it.
    const std::size_t limit = environment_->settings().poll_page + sessions_.size() + quarantined_.size();
    environment_->callbacks.begin();
    environment_->options.offload([environment = environment_, partition = partition_, now, timers, limit, first = !late_,
                                   to = caf::actor_cast<caf::actor>(this)]() mutable {
      auto found = std::make_shared<IndexFindings>();
      if (!environment->stopping.load()) {
        log::EventLog& log = *environment->options.log;
        auto pending = log.pending_turns(partition, limit);
        auto due = timers ? log.due(partition, now, limit) : result<std::vector<log::OpenStream>>();
        found->failed = !pending || !due;
        if (pending) found->pending = std::move(*pending);
        if (due) found->due = std::move(*due);
        if (first) found->late = indexed_late(*environment, partition);
        found->more = found->pending.size() == limit || found->due.size() == limit;
        if (partition == 0)
          if (const auto open = log.open_count()) environment->instruments.open_sessions(*open);
      }
      caf::anon_send(std::exchange(to, nullptr), found_atom::value, std::move(found));
      environment->callbacks.end();
    });
  }

  /// Open sessions that are due by the limit in force as soon as anything is, but whose index says a later time: it was
  /// written when the limit was longer. nullopt: the log did not say.
  static std::optional<std::vector<std::string>> indexed_late(const Environment& environment, std::uint32_t partition) {
    const auto open = environment.options.log->due(partition, domain::Timestamp::max(), std::numeric_limits<std::size_t>::max());
    if (!open) return std::nullopt;
    const domain::Timestamp latest = environment.ready_since + environment.settings().limits.abandon_after;
    std::vector<std::string> late;
    for (const log::OpenStream& stream : *open)
      if (stream.index.due_at > latest) late.push_back(stream.stream);
    return late;
  }

  void abandon_late_ones() {
    for (std::size_t room = environment_->settings().poll_page; room != 0 && !late_->empty(); --room) {
      look_whether_due(late_->back());
      late_->pop_back();
    }
    if (late_->empty()) late_->shrink_to_fit();
  }

  void look_whether_due(const std::string& id) {
    const auto known = sessions_.find(id);
    if (known == sessions_.end()) bring_up_for_the_log(id);
    else if (known->second.phase == Phase::live) send(known->second.actor, due_atom::value);
  }

  void take_findings(const IndexFindings& found) {
    const Time now = clock().now();
    std::erase_if(quarantined_, [&](const auto& entry) { return now >= entry.second; });
    for (const log::OpenStream& stream : found.pending) bring_up_for_the_log(stream.stream);
    for (const log::OpenStream& stream : found.due) look_whether_due(stream.stream);
    if (!late_) late_ = found.late;
    else if (timers_run()) abandon_late_ones();
    if (planted(Plant::lost_timer) && !found.due.empty()) return;
    const bool more = found.more || (late_ && !late_->empty() && timers_run());
    delayed_send(this,
                 more ? std::min(next_page_after, environment_->settings().poll_every) : environment_->settings().poll_every,
                 poll_atom::value);
  }

  void bring_up_for_the_log(const std::string& id) {
    if (!sessions_.contains(id) && !quarantined_.contains(id)) bring_up(id, nullptr);
  }

  const EnvironmentPtr environment_;
  const std::uint32_t partition_;
  const std::size_t permits_;
  std::size_t reading_ = 0;
  const std::size_t room_;
  std::size_t leaving_ = 0;
  Entries sessions_;
  std::list<const std::string*> uses_;  // the keys of sessions_, unused longest first
  std::deque<std::string> waiting_;
  std::vector<ForgettingPtr> forgetting_;
  std::vector<ForgettingPtr> failed_;  // of those
  // Open sessions whose index is of a longer limit than the one in force, until each was looked at; nullopt: not read yet.
  std::optional<std::vector<std::string>> late_;
  std::unordered_map<std::string, Time> quarantined_;  // could not be read lately
};

}  // namespace

caf::actor spawn_host(caf::actor_system& system, EnvironmentPtr environment, std::uint32_t partition) {
  return system.spawn<PartitionHost>(std::move(environment), partition);
}

}  // namespace onboarding::session
