// A log as lines: CloudEvents 1.0, structured, one a line, each partition in order, from a cursor on, filtered. For analysts: the
// HTTP route and onboardctl both read through it, so they say the same.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "events/codec/codec.hpp"

namespace onboarding::exporting {

/// How far a reader is in each partition. Opaque to clients: base64url of the log's mark and the sequences.
struct Cursor {
  std::vector<std::uint64_t> after;  // by partition: the last sequence that was read

  std::string text(std::string_view log_id) const;
  /// Empty text: the beginning. An error says what is wrong: no cursor, another log's, or beyond the log's end.
  static result<Cursor> parse(std::string_view text, const log::EventLog&);
};

/// All that is set must hold.
struct Filter {
  std::vector<std::string> types;  // public names; any of them
  std::string session;
  std::string blinded_user;  // privacy::Secrets::blinded_user_id
  std::string flow;          // of the event's session
  std::optional<domain::Timestamp> since, before;
};
/// The first name that is no event type.
std::optional<std::string> unknown_type(const Filter&);

/// A page as a frame of its own, so that what is cut at a page's end is whole.
std::string zstd_frame(std::string_view lines);

class EventExport {
 public:
  EventExport(log::EventLog& log, privacy::KeyStore& keys, Filter filter, Cursor from, codec::Reveal reveal);

  /// Appends the lines of the next page to `out`, perhaps none; the last line of a page that has lines carries `cursor`: all before it
  /// was sent. False when there was nothing to read. Blocking.
  result<bool> page(std::string& out);
  const Cursor& cursor() const { return cursor_; }
  /// Events read, whether they were told or not; and how many there are now in all.
  std::uint64_t read() const;
  std::uint64_t total() const;
  std::uint64_t told() const { return told_; }

 private:
  result<bool> wanted(const log::Record&);
  bool wanted(const codec::DecodedEvent&) const;
  result<std::string> flow_of(std::uint32_t partition, const std::string& stream);

  log::EventLog& log_;
  privacy::KeyStore& keys_;
  const Filter filter_;
  const codec::Reveal reveal_;
  const std::string log_id_;
  Cursor cursor_;
  std::uint32_t next_partition_ = 0;
  std::uint64_t told_ = 0;
  std::unordered_map<std::string, std::string> flows_;  // stream → its flow; bounded
};

}  // namespace onboarding::exporting
