// The tables, and how rows become records. Shared by the writer, the readers and the verification.
#pragma once

#include <optional>

#include "events/log/chain.hpp"
#include "events/log/sqlite/database.hpp"
#include "events/log/sqlite/head_file.hpp"
#include "events/log/stream_index.hpp"

namespace onboarding::log {

struct Layout {
  std::string log_id;  // 32 hex digits
  std::uint32_t partitions = 0;
};

std::string head_path(const std::string& path);
std::string lock_path(const std::string& path);

/// The layout of an existing log; nullopt when the database has no table at all; wrong_layout or corrupt otherwise.
result<std::optional<Layout>> read_layout(Database&, const std::string& path);
/// Makes the tables, in one transaction.
result<void> create_layout(Database&, const Layout&);

inline constexpr char insert_record_sql[] = "INSERT INTO records VALUES(?,?,?,?,?,?,?,?,?,?,?,?)";
inline constexpr char insert_stream_sql[] = "INSERT INTO streams VALUES(?,?,?)";
/// Adds a record, and before the first one of a stream (which has the stream's name) the stream. SQLITE_OK or the error.
int insert(Statement& insert_record, Statement& insert_stream, const ChainedRecord&, const Checksum&);

std::uint8_t to_flags(const domain::RecoveryIndex&);
domain::RecoveryIndex to_index(std::uint8_t flags, std::int64_t due_at_us);

/// Walks all records by number, checks each against the chain, and both indexes against the records.
class Scan {
 public:
  Scan(Database& database, const Layout& layout)
      : database_(database),
        layout_(layout),
        chain_(Chain::genesis(layout.log_id, layout.partitions)),
        heads_(layout.partitions),
        counts_(layout.partitions) {}

  /// The head file's word on the chain is noted in passing.
  void expect(const Head& head) { head_ = head; }
  /// Everything that is committed, in short read transactions.
  result<void> run(const std::function<void(std::uint64_t)>& progress = {});

  struct Stream {
    std::uint32_t partition = 0;
    std::uint64_t version = 0;
    domain::RecoveryIndex index;
  };
  const Checksum& checksum() const { return chain_.last(); }
  std::uint64_t records() const { return records_; }
  std::uint64_t events() const { return events_; }
  std::uint64_t payload_bytes() const { return payload_bytes_; }
  const std::vector<std::uint64_t>& heads() const { return heads_; }
  const std::vector<std::uint64_t>& counts() const { return counts_; }
  const std::vector<Stream>& streams() const { return streams_; }  // by number - 1
  bool head_matches() const { return head_matches_; }

 private:
  result<void> check(Statement& row, Statement& stream_row);
  result<void> check_indexes();
  tl::unexpected<Failure> damaged(std::uint64_t number, std::string_view what) const;

  Database& database_;
  Layout layout_;
  Chain chain_;
  std::uint64_t records_ = 0, events_ = 0, payload_bytes_ = 0;
  std::vector<std::uint64_t> heads_, counts_;
  std::vector<Stream> streams_;
  std::uint64_t by_partition_ = 0, by_stream_ = 0, by_name_ = 0;  // fingerprints of what the indexes must hold
  Head head_;
  bool head_matches_ = true;
};

/// Does the head file vouch for what the scan found? Else what is wrong and what an operator can do.
result<void> judge_head(const std::string& path, const HeadFile::Read&, const Scan&, const Layout&);

/// A connection with the statements of a reader.
class Rows {
 public:
  static result<Rows> open(const std::string& path);
  result<std::vector<Record>> stream(std::uint32_t partition, std::string_view name, std::uint64_t after_version,
                                     std::size_t max_records);
  result<std::vector<Record>> partition(std::uint32_t partition, std::uint64_t after_sequence, std::size_t max_records,
                                        std::size_t max_bytes);
  result<std::uint64_t> head(std::uint32_t partition);
  /// Changes whenever another connection committed.
  result<std::int64_t> data_version();
  Database& database() { return database_; }

 private:
  explicit Rows(Database database) : database_(std::move(database)) {}
  Database database_;
  Statement stream_number_, stream_records_, partition_records_, head_, data_version_;
};

}  // namespace onboarding::log
