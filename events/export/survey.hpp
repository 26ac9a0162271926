// What is in a log: counts, times and bytes, read once from end to end. Nothing personal.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "events/codec/codec.hpp"

namespace onboarding::exporting {

struct Survey {
  struct Span {
    std::uint64_t records = 0, events = 0, payload_bytes = 0;
    std::optional<domain::Timestamp> first, last;  // times of records; nothing when there are none
  };
  struct Day {
    std::uint64_t events = 0, sessions_started = 0, sessions_completed = 0;
  };
  Span all;
  std::uint64_t streams = 0, sessions = 0;     // a flow's publications are a stream, too
  std::uint64_t users = 0;                     // user keys: somebody nobody vouched for is one per session
  std::uint64_t compressed_bytes = 0;          // what zstd (level 3) makes of the payloads
  std::map<std::string, std::uint64_t> types;  // event type → events
  std::map<std::string, Day> days;             // YYYY-MM-DD, UTC
  std::vector<Span> partitions;
};

/// Up to the heads of now. Blocking.
result<Survey> survey(log::EventLog&, const std::function<void(std::uint64_t events, std::uint64_t of)>& progress = {});

}  // namespace onboarding::exporting
