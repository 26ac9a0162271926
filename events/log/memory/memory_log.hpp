// The event log in memory: a real store, for unit tests (threaded) and for the deterministic simulation (controlled).
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <thread>

#include "events/log/event_log.hpp"
#include "events/log/subscribers.hpp"

namespace onboarding::log {

/// What survives a crash: the "disk". Instances are opened on it one after another, or at once to play a deposed owner:
/// the one opened last owns it, appends of the others end as Fenced.
class MemoryStore;
std::shared_ptr<MemoryStore> make_memory_store(std::uint32_t partitions = 24, std::string log_id = "memory");

/// What becomes of a waiting append.
enum class Fate {
  durable,           // written and acknowledged
  late,              // written now, acknowledged at a later step; others overtake it
  duplicate,         // written, the acknowledgement is lost, sent again later: counted once, acknowledged then
  in_doubt_written,  // InDoubt, and it is there
  in_doubt_lost,     // InDoubt, and it is not there
  fenced,            // Fenced, and so is every later append of the partition through this instance
  refused            // Refused(not_writable)
};

/// How likely each fate is for an append, and the others for a read; what is left over is durable, and at once.
struct Faults {
  double late = 0, duplicate = 0, in_doubt_written = 0, in_doubt_lost = 0, fenced = 0, refused = 0;
  double failed_read = 0;  // Errc::unreadable
  double slow_read = 0;    // read now, answered at a later step: others overtake it, its answer is old
};

/// How often each happened, so that a campaign can show that it met them all.
struct FaultCounts {
  std::uint64_t durable = 0, late = 0, duplicate = 0, in_doubt_written = 0, in_doubt_lost = 0, fenced = 0, refused = 0;
  std::uint64_t failed_read = 0, slow_read = 0;
  std::uint64_t lost_at_crash = 0;     // appends that were waiting and are not there afterwards
  std::uint64_t written_at_crash = 0;  // appends that are there although nobody was told
  std::uint64_t callbacks_dropped = 0;
  FaultCounts& operator+=(const FaultCounts&);
};

class MemoryLog : public EventLog {
 public:
  enum class Mode {
    threaded,   // a thread of the log carries out everything at once, in order
    controlled  // nothing happens until the driver says so; one thread only, callbacks run inside the driver's call
  };
  explicit MemoryLog(std::shared_ptr<MemoryStore>, Mode = Mode::threaded, std::size_t max_waiting = 65536);
  /// Closes, unless crashed.
  ~MemoryLog() override;

  /// Carries out what waits, then refuses appends (not_writable). Idempotent.
  void close();

  // ---- for the driver of a simulation
  /// Nothing waits: no append, read, completion or notice.
  bool idle() const;
  /// One move, chosen by `random`: carries out the oldest append of a partition or a read, or delivers a completion or a
  /// notice to subscribers. False when idle.
  bool step(std::mt19937_64& random, const Faults& = {});
  /// The oldest waiting append meets this fate. False when none waits.
  bool step_append(Fate);
  /// The oldest waiting read is answered, or fails. False when none waits.
  bool step_read(bool failed = false);
  /// Carries out and delivers everything, also what the callbacks add, in order and without faults.
  void drain();
  /// The process dies: of each partition's waiting appends a random number, oldest first, was written all the same; the
  /// rest and all callbacks are gone. Later calls do nothing.
  void crash(std::mt19937_64& random);
  const FaultCounts& counts() const { return counts_; }

  std::string log_id() const override;
  std::uint32_t partitions() const override;
  result<void> writable() const override;
  void append(Append, AppendDone) override;
  void read_stream(std::uint32_t partition, std::string stream, std::uint64_t after_version, std::size_t max_records,
                   RecordsRead) override;
  result<std::vector<Record>> read_partition(std::uint32_t partition, std::uint64_t after_sequence, std::size_t max_records,
                                             std::size_t max_bytes) override;
  std::uint64_t head(std::uint32_t partition) const override;
  std::unique_ptr<Subscription> subscribe(std::function<void(std::uint32_t)> on_advance) override;
  result<std::vector<OpenStream>> pending_turns(std::uint32_t partition, std::size_t limit) override;
  result<std::vector<OpenStream>> due(std::uint32_t partition, domain::Timestamp due_before, std::size_t limit) override;
  result<std::uint64_t> open_count() override;

 private:
  struct WaitingAppend {
    Append append;
    AppendDone done;
    bool resent = false;  // it was written before, its acknowledgement was lost
  };
  struct WaitingRead {
    std::uint32_t partition;
    std::string stream;
    std::uint64_t after_version;
    std::size_t max_records;
    RecordsRead done;
  };
  using Completion = std::function<void()>;

  AppendOutcome write(const Append&);
  void carry_out(WaitingAppend, Fate);
  void carry_out(WaitingRead, bool failed, bool slow);
  void tell(Fate, AppendDone, AppendOutcome);
  bool deliver_notices();
  void run();

  const std::shared_ptr<MemoryStore> store_;
  const Mode mode_;
  const std::size_t max_waiting_;
  const std::uint64_t owner_;
  mutable std::mutex mutex_;  // of all below; never held while a callback runs
  std::condition_variable wake_;
  std::deque<WaitingAppend> appends_;
  std::deque<WaitingRead> reads_;
  std::deque<Completion> completions_;   // carried out, not told yet
  std::vector<std::uint32_t> advanced_;  // partitions whose subscribers have not been told yet
  std::vector<bool> fenced_;             // by partition
  Subscribers subscribers_;
  FaultCounts counts_;  // the driver's
  bool closing_ = false, crashed_ = false;
  std::thread thread_;
};

}  // namespace onboarding::log
