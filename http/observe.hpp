// What the server tells about itself: metrics with their handles resolved beforehand, and the access log's line.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <array>
#include <atomic>
#include <mutex>
#include <string>

#include "events/clock.hpp"
#include "http/message.hpp"

namespace onboarding::http {

/// One route's series. A request costs an atomic load and two increments; a label map is looked up once per status.
class RouteMetrics {
 public:
  RouteMetrics(prometheus::Family<prometheus::Counter>& requests, prometheus::Family<prometheus::Histogram>& durations,
               std::string route, std::string method);
  void observe(int status, double seconds);

 private:
  prometheus::Family<prometheus::Counter>& requests_;
  prometheus::Histogram& duration_;
  const std::string route_, method_;
  std::array<std::atomic<prometheus::Counter*>, 500> by_status_{};  // 100 to 599
};

struct Metrics {
  explicit Metrics(prometheus::Registry&);

  prometheus::Family<prometheus::Counter>& requests;
  prometheus::Family<prometheus::Histogram>& durations;
  prometheus::Gauge& in_flight;
  prometheus::Family<prometheus::Gauge>& connections;    // by listener
  prometheus::Family<prometheus::Counter>& refused;      // by reason: what the reader did not take
  prometheus::Family<prometheus::Counter>& cut;          // by reason: answers that were owed and dropped
  prometheus::Family<prometheus::Counter>& turned_away;  // by reason: too many connections or requests
};

struct AccessLine {
  domain::Timestamp time;
  std::string_view listener, route, method;
  int status = 0;
  std::int64_t duration_us = 0;
  std::size_t response_bytes = 0;
  std::string_view request_id, session_id, turn_id;
};
std::string to_json(const AccessLine&);

}  // namespace onboarding::http
