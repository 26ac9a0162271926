// The HTTP server as the composition root sees it: two listeners over one route table each, from plain options and ports.
//
// Threads: `start_http` returns when both listeners accept. Requests are read on Pistache's workers (named "http-public",
// "http-admin"), answered on whichever thread finishes the work, written at once or by the writer's loop ("http-writer").
// All that `HttpPorts` refers to must outlive the server and every
// thread that may still answer one of its requests.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "events/domain/result.hpp"

namespace prometheus {
class Registry;
}
namespace spdlog::sinks {
class sink;
}

namespace onboarding {

class Clock;
class RandomSource;
class Gateway;
class Flows;
namespace log {
class EventLog;
}
namespace model {
class Control;
}
namespace projections {
class Control;
class Queries;
}  // namespace projections
namespace privacy {
class Secrets;
}

namespace http {

struct ThrottleOptions {
  /// For starts and for messages, each counted for itself: so many a minute and client address, a minute's worth at once.
  /// 0 switches it off. Whoever shows the operator key is not throttled.
  std::uint32_t requests_per_minute_per_ip = 30;
  std::int64_t messages_per_minute_per_ip = -1;  // -1: as above
  /// Proxies whose X-Forwarded-For is believed, as addresses or CIDR blocks ("10.0.0.0/8", "::1").
  std::vector<std::string> trusted_proxies;
  std::size_t max_clients = 65'536;  // the table's bound; when it is full, the longest unused gives way
};

/// Every period and size a client can make the server wait for or hold.
struct HttpLimits {
  std::chrono::milliseconds head_timeout{10'000};   // from a request's first byte to the end of its head
  std::chrono::milliseconds body_timeout{20'000};   // from the end of the head to the end of the body
  std::chrono::milliseconds idle_timeout{75'000};   // between two requests
  std::chrono::milliseconds write_timeout{30'000};  // without progress on an answer
  // From the beginning of a drain, while clients keep connections open: who pauses between two requests shall be told 503, not
  // find a closed door.
  std::chrono::milliseconds drain_time{5'000};
  std::size_t max_head_bytes = 16 * 1024;
  std::size_t max_body_bytes = 64 * 1024;
  std::size_t max_unsent_bytes = 4 * 1024 * 1024;         // of one connection; beyond it, the connection is cut
  std::size_t max_connections = 10'000;                   // of both listeners; lowered to what RLIMIT_NOFILE allows
  std::size_t max_streams = 4'096;                        // answers written piece by piece; beyond it 503
  std::size_t max_streams_per_client = 100;               // of one address (an IPv6 /64); beyond it 429; 0: no bound of this kind
  std::chrono::milliseconds event_stream_age{3'600'000};  // a session's events end then; the client comes again and goes on
  std::size_t max_in_flight = 4'096;                      // requests not answered yet; beyond it 503
};

/// The other servers of the same log, and which of them answers for what. Any thread; must not block.
class Peers {
 public:
  struct Place {
    bool here = false;
    std::string address;  // host:port of its internal listener; empty: not known at the moment
  };
  virtual ~Peers() = default;
  virtual Place place_of(std::uint32_t partition) const = 0;
  virtual std::uint32_t owned() const = 0;  // partitions that are served here
  /// Empty: requests are welcome. Else why not, for /readyz: "joining", "leaving".
  virtual std::string not_ready() const = 0;
};

struct HttpOptions {
  std::string listen = "127.0.0.1:8080";        // port 0: any free one
  std::string admin_listen = "127.0.0.1:8081";  // empty: no admin listener
  std::string internal_listen;                  // where other servers pass requests on to; empty: there are none
  std::string instance_key;                     // what they must show there
  std::uint32_t threads = 2;                    // workers of the public and of the internal listener; the admin one has one
  std::string operator_key;                     // of the admin listener, and of client applications
  ThrottleOptions throttle;
  std::vector<std::string> cors_origins;  // exact origins ("https://app.example.org"); none: no CORS
  HttpLimits limits;
  std::string version;  // shown by /api/metrics/health and the OpenAPI document
};

/// What health shows beside what the server can ask by itself. Called on an HTTP thread: must be cheap and not block.
struct HealthReport {
  std::string not_ready;  // why this server cannot store anything, for /readyz; empty: it can, as far as the log can
  struct Provider {
    std::string name, model;
    bool enabled = false, healthy = true;
  };
  std::vector<Provider> providers;
  bool offline_extractor = true;
  std::int64_t calls_waiting = 0;
  std::uint64_t disk_total_bytes = 0, disk_free_bytes = 0;  // of the data folder; total 0: not known
};

/// Where the structured lines go, one JSON object each: method, route template, status, duration, ids; never texts or credentials.
class AccessLog {
 public:
  virtual ~AccessLog() = default;
  virtual void write(std::string_view line) = 0;  // without its newline, from any thread; never blocks
  virtual std::uint64_t dropped() const = 0;      // lines lost because they came faster than they could be written
};

/// Asynchronous: lines are gathered for 20 ms and written many at once, by a thread of its own ("access-log").
std::unique_ptr<AccessLog> make_access_log(std::shared_ptr<spdlog::sinks::sink>, std::size_t max_queued_lines = 8'192);

struct HttpPorts {
  Gateway& gateway;
  projections::Queries& queries;
  const privacy::Secrets& secrets;
  log::EventLog& log;
  prometheus::Registry& metrics;
  const Clock& clock;
  RandomSource& random;
  std::function<HealthReport()> health;         // may be empty
  AccessLog* access_log = nullptr;              // may be null: nothing is written
  model::Control* model = nullptr;              // may be null: /api/admin/llm is not there
  projections::Control* projections = nullptr;  // may be null: no action on projections is there
  Flows* flows = nullptr;                       // may be null: /api/admin/flows is not there
  const Peers* peers = nullptr;                 // may be null: this is the only server
};

class HttpServer {
 public:
  virtual ~HttpServer() = default;  // as stop()

  virtual std::uint16_t port() const = 0;
  virtual std::uint16_t admin_port() const = 0;     // 0: none
  virtual std::uint16_t internal_port() const = 0;  // 0: none

  /// From now on: /readyz says 503, new connections are not accepted, new requests are answered 503 with Retry-After and
  /// Connection: close. Requests in flight go on. Returns at once. Call it before Gateway::drain.
  virtual void begin_drain() = 0;
  /// After begin_drain: waits until every accepted request has been answered and written, and no client has a connection on which
  /// it could ask again or HttpLimits::drain_time is over; at most `limit`, and no longer than until `hurry` says true (it may be
  /// empty). True: all were answered.
  virtual bool finish_drain(std::chrono::milliseconds limit, const std::function<bool()>& hurry = {}) = 0;
  /// Closes every connection, in order and without a reset, and joins all threads. Idempotent.
  virtual void stop() = 0;
};

/// Errors: the address cannot be parsed or bound.
result<std::unique_ptr<HttpServer>> start_http(const HttpOptions&, const HttpPorts&);

}  // namespace http
}  // namespace onboarding
