// What sessions count, and the lines they log. Names of metrics are public; labels are field names, reasons and
// outcomes, never values or ids.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <shared_mutex>
#include <span>
#include <string>
#include <utility>

#include "events/domain/session.hpp"

namespace onboarding::session {

/// A family's counters by label values; the registry's own look-up hashes and locks each time. Thread-safe.
class LabelledCounter {
 public:
  LabelledCounter(prometheus::Registry&, const char* name, const char* help, std::vector<std::string> labels);
  void increment(const std::string& first, const std::string& second = {});

 private:
  prometheus::Family<prometheus::Counter>& family_;
  const std::vector<std::string> labels_;
  std::shared_mutex mutex_;
  std::map<std::pair<std::string, std::string>, prometheus::Counter*> counters_;
};

class Instruments {
 public:
  explicit Instruments(prometheus::Registry&);

  /// Counts durable events, and logs fields extracted and asked again. `took`: from the request that they answer to now.
  void durable(const std::string& session_id, const domain::State& after, std::span<const domain::Event>,
               std::chrono::nanoseconds took);
  void append_ended(const char* outcome, std::chrono::nanoseconds took);
  void sessions_in_memory(std::int64_t change);
  /// A session was asked to leave memory because there are too many.
  void asked_to_make_room() { make_room_.Increment(); }
  void open_sessions(std::uint64_t count);

  std::uint64_t sessions_in_memory() const { return static_cast<std::uint64_t>(in_memory_.load(std::memory_order_relaxed)); }
  std::uint64_t turns() const { return turns_.load(std::memory_order_relaxed); }
  std::uint64_t turn_errors() const { return turn_errors_.load(std::memory_order_relaxed); }
  /// How long a turn takes lately.
  std::chrono::milliseconds usual_turn() const {
    return std::chrono::milliseconds(usual_turn_ms_.load(std::memory_order_relaxed));
  }

 private:
  LabelledCounter turns_total_, extracted_, reasked_, rejected_, appends_;
  prometheus::Counter &started_, &completed_, &abandoned_, &make_room_;
  prometheus::Gauge &open_, &memory_gauge_;
  prometheus::Histogram &turn_seconds_, &append_seconds_;
  std::atomic<std::int64_t> in_memory_{0};
  std::atomic<std::uint64_t> turns_{0}, turn_errors_{0};
  std::atomic<std::int64_t> usual_turn_ms_{1000};
};

}  // namespace onboarding::session
