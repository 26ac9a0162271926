// The side file that says how far the log has been acknowledged: never ahead of the log, written before each
// acknowledgement. It is what finds out that a log became shorter (a torn or damaged WAL makes SQLite drop commits silently).
#pragma once

#include <optional>
#include <string>

#include "events/log/chain.hpp"
#include "events/log/event_log.hpp"

namespace onboarding::log {

struct Head {
  std::string log_id;        // 32 hex digits
  std::uint64_t number = 0;  // of the last acknowledged record
  Checksum checksum{};       // of that record
};

class HeadFile {
 public:
  enum class State { absent, damaged, present };
  struct Read {
    State state = State::absent;
    Head head;
  };
  static result<Read> read(const std::string& path);

  /// Opens for writing. Where there is none (or an empty one), `first` is made whole and durable beside it and takes the name: whoever
  /// dies meanwhile leaves no head that is half there.
  static result<HeadFile> open(const std::string& path, const Head& first);
  HeadFile(HeadFile&& other) noexcept : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}
  ~HeadFile();

  /// One pwrite of 64 bytes within one sector: survives the death of the process at once, that of the machine after sync().
  result<void> write(const Head&);
  result<void> sync();

 private:
  HeadFile(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
  std::string path_;
  int descriptor_ = -1;
};

}  // namespace onboarding::log
