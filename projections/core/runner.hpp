// Follows the log into generations of read models. Events are decoded once for all of them, folded per key over a batch that
// spans partitions, and written in one transaction with the checkpoints. Which generations and partitions, the writer says
// whenever it is opened.
//
// Runner is a state machine without a thread: step() does one batch. RunnerThread drives it ("proj-runner").
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "events/log/event_log.hpp"
#include "events/privacy/key_store.hpp"
#include "projections/core/progress.hpp"
#include "projections/core/writer.hpp"

namespace prometheus {
class Counter;
}
namespace spdlog {
class logger;
}

namespace onboarding::projections {

struct RunnerOptions {
  std::size_t max_batch_events = 4096;
  std::size_t max_batch_bytes = 8 << 20;  // of payloads
  std::size_t behind_events = 200;        // this much unread: read on while the batch before is written
  // After a batch of n events the next one begins n times this later than the last began, at most `max_gather`: at once
  // when little happens, in few large transactions when much does.
  std::chrono::microseconds gather_per_event{1000};
  std::chrono::milliseconds max_gather{80};
  std::chrono::milliseconds first_retry{100};  // doubles with each failure in a row
  std::chrono::milliseconds last_retry{2000};
  bool partition_by_partition = false;     // a batch is one partition's as far as it goes: most rows are written once
  std::optional<domain::Timestamp> until;  // later events are passed over, but for erasures
};

class Runner {
 public:
  /// All arguments outlive it. `progress`, `logger` and `registry` may be null.
  Runner(log::EventLog&, privacy::KeyStore&, ReadModelWriter&, Progress* progress, RunnerOptions, spdlog::logger* logger,
         prometheus::Registry* registry);

  struct Step {
    enum class Kind { idle, progressed, failed } kind = Kind::idle;
    std::size_t events = 0;                    // written; a batch is counted by the step that sees its end
    bool behind = false;                       // more is waiting: the batch sent last is still being written
    std::chrono::milliseconds retry_after{0};  // failed, or idle with a partition that waits for its keys
    std::string why{};                         // of these
  };
  /// Opens when that is due; else reads one batch and writes it. When more is waiting already, the next step reads and
  /// decodes it while PostgreSQL writes. Blocking, one thread at a time.
  Step step();
  /// The next step opens the writer anew: what there is to do has changed. From any thread.
  void reopen() { reopen_ = true; }

 private:
  /// One record of the log, decoded or not.
  struct Item {
    std::uint32_t partition = 0;
    std::uint64_t first_sequence = 0, last_sequence = 0;
    std::string stream;
    std::string resume_token;
    domain::Timestamp time;
    std::vector<codec::DecodedEvent> events;
    std::string undecodable;  // why there are no events; empty: there are
  };
  using Mask = std::uint64_t;  // of generations

  /// What one transaction writes, and what to note once it did.
  struct Prepared {
    WriteBatch batch;
    std::size_t events = 0, rows = 0;
  };
  struct Sent {
    std::vector<Item> items;
    Prepared prepared;
  };

  Step open();
  Step failed(const Failure&);
  /// The next records, round robin over partitions. An error of the log itself ends the step.
  result<std::vector<Item>> collect();
  result<void> write(std::span<const Item>, Mask);
  /// Halves what was refused as poison until a single record of a single projection is left, and parks that.
  result<void> take_apart(std::span<const Item>, Mask, const Failure& refusal);
  result<void> write_once(std::span<const Item>, Mask, const std::string* park_because);
  Prepared prepare(std::span<const Item>, Mask, const std::string* park_because);
  void note(const Prepared&);
  /// Waits for the batch that was sent; its events.
  result<std::size_t> finish_sent();
  void apply(const Item&, std::size_t generation, const std::string* park_because, WriteBatch&,
             std::unordered_set<std::string>& newly_parked);
  std::uint64_t least_position(std::uint32_t partition) const;
  bool behind() const;
  void tell_state(const char* state, std::string because = {});
  void tell_moved(std::size_t generation, std::uint32_t partition);
  static std::string parked_id(std::size_t generation, std::string_view key);

  log::EventLog& log_;
  privacy::KeyStore& keys_;
  ReadModelWriter& writer_;
  Progress* const progress_;
  const RunnerOptions options_;
  spdlog::logger* logger_;
  prometheus::Counter *batches_ = nullptr, *events_ = nullptr, *rows_ = nullptr, *failures_ = nullptr;

  std::atomic<bool> reopen_{false};
  bool opened_ = false;
  std::uint32_t failures_in_a_row_ = 0;
  std::size_t next_ = 0;           // of partitions_
  bool keys_unreachable_ = false;  // in the last collect()
  bool incomplete_ = false;        // so, too: what came did not begin where we stand
  std::optional<Sent> sent_;

  // As the writer said when it was opened, moved on by what was written since.
  std::vector<Generation> generations_;
  std::vector<std::uint32_t> partitions_;
  Mask all_ = 0;
  std::vector<std::vector<Checkpoint>> checkpoints_;  // [generation][partition]
  std::vector<std::uint64_t> read_;                   // [partition] up to where collect() has read
  std::unordered_set<std::string> parked_;            // parked_id()
  std::vector<std::uint64_t> parked_keys_;            // [generation]
  std::set<std::pair<std::size_t, Position>> skipped_;
  std::vector<Fold> folds_;
  RowOperations operations_;  // scratch
};

class RunnerThread {
 public:
  RunnerThread(Runner&, log::EventLog&, Progress&, RunnerOptions);
  ~RunnerThread();  // stops
  /// Ends after the step in hand.
  void stop();
  /// The runner opens anew, at once.
  void reopen();

 private:
  void run();
  void signal(bool& flag);

  Runner& runner_;
  log::EventLog& log_;
  Progress& progress_;
  const RunnerOptions options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool advanced_ = true, urgent_ = false, reopen_ = false, stopping_ = false;
  std::unique_ptr<log::Subscription> subscription_;
  std::thread thread_;
};

}  // namespace onboarding::projections
