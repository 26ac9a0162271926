// The streams that matter now: every open one and every one with a pending turn, by due time; and the versions of the
// others that were used lately, bounded. No threads, no clock, no storage: the adapters feed it and guard it.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "events/log/event_log.hpp"

namespace onboarding::log {

class StreamIndex {
 public:
  /// A known stream; lives until trim() forgets it, and never while it is open or pending.
  struct Entry {
    const std::string* name = nullptr;
    std::uint32_t partition = 0;
    std::uint64_t number = 0;   // the adapter's own name for the stream; 0: not stored yet
    std::uint64_t version = 0;  // of the last event; 0: the stream does not exist
    domain::RecoveryIndex index;
    // Where the stream will stand if the batch of this number becomes durable; free for the adapter's use.
    std::uint64_t batch = 0;
    std::uint64_t version_in_batch = 0;
    std::uint64_t number_in_batch = 0;
  };

  /// `idle_kept`: how many streams that are neither open nor pending trim() leaves at least.
  StreamIndex(std::uint32_t partitions, std::size_t idle_kept);

  /// nullptr when not known here: the storage may know it.
  Entry* find(std::string_view stream);
  Entry& insert(std::string_view stream, std::uint32_t partition);
  /// The stream's newest record says so.
  void update(Entry&, std::uint64_t version, const domain::RecoveryIndex&);
  /// Forgets idle streams that were not used lately. Invalidates pointers to idle entries.
  void trim();

  std::vector<OpenStream> pending(std::uint32_t partition, std::size_t limit) const;
  std::vector<OpenStream> due(std::uint32_t partition, domain::Timestamp due_before, std::size_t limit) const;
  std::uint64_t open_count() const { return open_count_; }
  std::size_t size() const { return live_.size() + recent_.size() + older_.size(); }

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  using Map = std::unordered_map<std::string, Entry, Hash, std::equal_to<>>;
  // Ties are broken by name, never by address: a simulation must give the same order again.
  struct ByDue {
    bool operator()(const Entry* a, const Entry* b) const {
      return a->index.due_at != b->index.due_at ? a->index.due_at < b->index.due_at : *a->name < *b->name;
    }
  };
  using Queue = std::set<Entry*, ByDue>;

  static std::vector<OpenStream> first(const Queue&, domain::Timestamp due_before, std::size_t limit);
  static bool live(const Entry& entry) { return entry.index.open || entry.index.pending_turn; }

  Map live_;            // open or pending: never forgotten
  Map recent_, older_;  // idle: two generations, the older one is dropped when the recent one is full
  std::size_t generation_size_;
  std::vector<Queue> due_, pending_;  // by partition
  std::uint64_t open_count_ = 0;
};

}  // namespace onboarding::log
