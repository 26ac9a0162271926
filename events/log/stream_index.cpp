#include "events/log/stream_index.hpp"

namespace onboarding::log {

StreamIndex::StreamIndex(std::uint32_t partitions, std::size_t idle_kept)
    : generation_size_(idle_kept), due_(partitions), pending_(partitions) {}

StreamIndex::Entry* StreamIndex::find(std::string_view stream) {
  if (const auto found = live_.find(stream); found != live_.end()) return &found->second;
  if (const auto found = recent_.find(stream); found != recent_.end()) return &found->second;
  const auto found = older_.find(stream);
  return found == older_.end() ? nullptr : &recent_.insert(older_.extract(found)).position->second;
}

StreamIndex::Entry& StreamIndex::insert(std::string_view stream, std::uint32_t partition) {
  const auto place = recent_.try_emplace(std::string(stream)).first;
  place->second.name = &place->first;
  place->second.partition = partition;
  return place->second;
}

void StreamIndex::update(Entry& entry, std::uint64_t version, const domain::RecoveryIndex& index) {
  const bool was_live = live(entry);
  Queue& due = due_[entry.partition];
  Queue& pending = pending_[entry.partition];
  // The nodes of the two queues move to their new places instead of being freed and made again.
  Queue::node_type due_node, pending_node;
  if (entry.index.open) due_node = due.extract(&entry);
  if (entry.index.pending_turn) pending_node = pending.extract(&entry);
  open_count_ += index.open;
  open_count_ -= entry.index.open;

  entry.version = version;
  entry.index = index;
  const auto enter = [&](Queue& queue, Queue::node_type node) {
    if (node.empty()) queue.insert(&entry);
    else queue.insert(std::move(node));
  };
  if (index.open) enter(due, std::move(due_node));
  if (index.pending_turn) enter(pending, std::move(pending_node));

  if (was_live == live(entry)) return;
  Map& from = was_live ? live_ : (recent_.contains(*entry.name) ? recent_ : older_);
  Map& to = was_live ? recent_ : live_;
  to.insert(from.extract(*entry.name));
}

void StreamIndex::trim() {
  if (recent_.size() <= generation_size_) return;
  older_ = std::move(recent_);
  recent_ = {};
}

std::vector<OpenStream> StreamIndex::pending(std::uint32_t partition, std::size_t limit) const {
  return first(pending_[partition], domain::Timestamp::max(), limit);
}

std::vector<OpenStream> StreamIndex::due(std::uint32_t partition, domain::Timestamp due_before, std::size_t limit) const {
  return first(due_[partition], due_before, limit);
}

std::vector<OpenStream> StreamIndex::first(const Queue& queue, domain::Timestamp due_before, std::size_t limit) {
  std::vector<OpenStream> streams;
  for (const Entry* entry : queue) {
    if (streams.size() == limit || entry->index.due_at > due_before) break;
    streams.push_back({*entry->name, entry->version, entry->index});
  }
  return streams;
}

}  // namespace onboarding::log
