// Owning a partition: claiming it, appending, what is in doubt, barriers, handing over. A state machine without threads, clock
// or network: it is told what was asked and what was read, and says what to send and how each append ended. One thread.
//
// Whoever drives it sends what `to_send` holds, in order, each once; tells of every message that is read, in order (read), and
// of each that could not be delivered for sure (failed); and calls what `ended` holds once what was read so far can be read by all.
#pragma once

#include <deque>
#include <unordered_map>

#include "events/log/kafka/rules/ledger.hpp"

namespace onboarding::log::kafka {

/// Where streams stand by everything that has been read as counted.
class Streams {
 public:
  struct Place {
    std::uint32_t partition = 0;
    std::uint64_t version = 0;
  };
  virtual ~Streams() = default;
  /// version 0: there is no such stream. Errors: the cache cannot be read.
  virtual result<Place> find(std::string_view stream) = 0;
};

using BarrierDone = std::function<void(result<void>)>;

class Owner {
 public:
  enum class State : std::uint8_t {
    following,  // somebody else owns the partition, or nobody
    claiming,   // a claim is under way: at first, or again because something is in doubt; appends wait
    owning,
    leaving  // handing over: what is under way is carried out, new appends end as Fenced
  };
  /// `from`: what was read already.
  Owner(std::uint32_t partition, RandomSource& random, Streams& streams, const Checkpoint& from = {})
      : partition_(partition), random_(random), streams_(streams), now_(from) {}

  // ---- what is asked
  /// Once everything up to now has been read. Nothing when it is owning or claiming already.
  void claim();
  /// Ends with `following`, and a release in the log.
  void hand_over();
  /// The append must be in bounds (append_rules).
  void append(Append, AppendDone);
  void barrier(BarrierDone);
  void give_up_barriers(const Failure& why);
  /// Everything that waits ends: what was sent as InDoubt, the rest as Refused.
  void give_up(const Failure& why);

  // ---- what happened
  /// Each message that is not `seen`, after the ledger has judged it.
  void read(const Entry&, Verdict, const Checkpoint& now);
  /// This entry of ours may or may not be written.
  void failed(const Entry&);

  // ---- what is to be done
  std::vector<Entry> to_send;
  std::vector<std::pair<AppendDone, AppendOutcome>> ended;
  std::vector<std::pair<BarrierDone, result<void>>> barriers_ended;

  State state() const { return state_; }
  /// Another owner's claim counted, or ours did not: since the last claim().
  bool replaced() const { return replaced_; }
  /// Nothing waits for the log.
  bool idle() const { return under_way_.empty() && waiting_.empty() && barriers_.empty() && barriers_sent_.empty(); }
  bool reads_wait() const { return !barriers_.empty() || !barriers_sent_.empty(); }
  std::size_t waiting() const { return under_way_.size() + waiting_.size(); }
  std::uint64_t claims_again() const { return claims_again_; }

 private:
  struct Waiting {
    Append append;
    AppendDone done;
  };
  /// Sent; or decided already by what was sent before it, and told when that is known.
  struct UnderWay {
    Waiting waiting;
    bool sent = false, elsewhere = false;
    std::uint64_t first_sequence = 0, version_found = 0;
  };
  struct Ahead {  // of what has been read: by records under way
    std::uint64_t version = 0;
    std::size_t records = 0;
  };

  void send_claim();
  void claim_again();
  void claimed();
  void lose();
  void pump();
  void start(Waiting);
  void read_back(const Record&);
  void settle();
  void send(Kind, std::string record_id = {});

  const std::uint32_t partition_;
  RandomSource& random_;
  Streams& streams_;
  State state_ = State::following;
  bool leaving_ = false, release_sent_ = false, replaced_ = false;
  Checkpoint now_;
  Id claim_;     // ours: the one that stands, or while claiming the one that was sent
  Id standing_;  // ours that stands while another is sent
  std::uint64_t claim_epoch_ = 0;
  std::uint64_t next_sequence_ = 0, claims_again_ = 0;
  std::deque<Waiting> waiting_;
  std::deque<UnderWay> under_way_;  // in the order of their sequences
  std::unordered_map<std::string, Ahead> ahead_;
  std::vector<BarrierDone> barriers_, barriers_sent_;
  std::string barrier_id_;
};

}  // namespace onboarding::log::kafka
