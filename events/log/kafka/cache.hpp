// The partitions of the topic, materialised into one SQLite file of the embedded layout: fast reads of one session, the streams
// that are open, and where each partition was read to. A cache: everything in it is in Kafka, so nothing in it is synced.
//
// Checkpoints stand in the table meta, as `kafka:<partition>` → `<offset> <epoch> <claim> <sequence> <tag>`, and are written in the
// transaction of the rows that they speak for. One thread changes it; what is marked "any thread" may be called from others.
#pragma once

#include <map>
#include <mutex>

#include "events/log/kafka/rules/owner.hpp"
#include "events/log/sqlite/layout.hpp"
#include "events/log/sqlite/read_threads.hpp"
#include "events/log/sqlite/writer_lock.hpp"
#include "events/log/stream_index.hpp"

namespace onboarding::log::kafka {

/// Where a partition was read to; `tag` tells the last message from any other that might stand at its offset.
struct ReadTo {
  Checkpoint at;
  std::string tag;
};

class Cache final : public Streams {
 public:
  struct Options {
    std::string path;
    Layout layout;
    std::size_t idle_streams = 65536;
    std::size_t max_waiting_reads = 4096;
    std::size_t checkpoint_bytes = 64 << 20;  // of the WAL
  };
  /// Takes the lock, checks every row. What is damaged, or was cut off by a loss of power, is thrown away and begun anew: `rebuilt`
  /// says why. Errors: locked; wrong_layout when it is another log's; unreadable.
  static result<std::unique_ptr<Cache>> open(Options);

  const std::string& rebuilt() const { return rebuilt_; }
  const std::vector<ReadTo>& places() const { return places_; }
  /// The cache's next record of its partition, which must follow in sequence and version (corrupt).
  result<void> add(const Record&);
  /// Everything added since the last commit, and how far was read, become visible together.
  result<void> commit(const std::vector<std::pair<std::uint32_t, ReadTo>>& read);
  result<Place> find(std::string_view stream) override;
  /// The file was deleted or replaced under us: what we still hold is written again under its name.
  result<bool> put_back_if_gone();
  /// Leaves it so that a loss of power does no harm to it from here on.
  void close();

  // ---- any thread
  void read_stream(std::uint32_t partition, std::string stream, std::uint64_t after_version, std::size_t max_records,
                   RecordsRead);
  result<std::vector<Record>> read_partition(std::uint32_t partition, std::uint64_t after_sequence, std::size_t max_records,
                                             std::size_t max_bytes);
  std::vector<OpenStream> pending(std::uint32_t partition, std::size_t limit) const;
  std::vector<OpenStream> due(std::uint32_t partition, domain::Timestamp due_before, std::size_t limit) const;
  std::uint64_t open_count() const;

 private:
  struct Staged {
    StreamIndex::Entry* stream;
    std::uint64_t version;
    domain::RecoveryIndex index;
  };
  Cache(Options options, WriterLock lock);
  /// False: what is there cannot be used; `rebuilt_` says why.
  result<bool> load();
  result<void> create();
  result<void> prepare();
  result<StreamIndex::Entry*> look_up(std::string_view stream);
  Failure error(std::string_view doing) const { return database_.error(doing); }
  void remove_files() const;
  result<void> use(Database);
  std::shared_ptr<Reads> reads() const;

  Options options_;
  WriterLock lock_;
  std::string rebuilt_;
  Database database_;
  Statement begin_, commit_, insert_record_, insert_stream_, find_stream_, find_version_, write_place_;
  std::uint64_t inode_ = 0;
  Chain chain_;
  std::uint64_t last_number_ = 0, last_stream_ = 0;
  std::vector<ReadTo> places_;
  std::vector<std::uint64_t> heads_;
  bool in_transaction_ = false;
  std::uint64_t batch_ = 1;
  std::vector<Staged> staged_;
  std::size_t commits_ = 0, bytes_since_checkpoint_ = 0;

  mutable std::mutex index_mutex_;  // only the one thread changes the index, under it; that thread reads without
  StreamIndex index_;
  mutable std::mutex reads_mutex_;
  std::shared_ptr<Reads> reads_;
};

}  // namespace onboarding::log::kafka
