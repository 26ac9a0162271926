// The read models as the composition root sees them: a runner that follows the log into PostgreSQL, and the queries.
// Nothing here needs PostgreSQL to be up: it is connected to, migrated and caught up with in the background, and while it
// is down the queries answer Errc::unavailable and onboarding goes on.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "events/clock.hpp"
#include "events/log/event_log.hpp"
#include "events/privacy/key_store.hpp"
#include "projections/control.hpp"
#include "projections/queries.hpp"

namespace prometheus {
class Registry;
}
namespace spdlog {
class logger;
}

namespace onboarding::projections {

class Projection;

/// `[postgres]` of the configuration (api.md §6).
struct PostgresOptions {
  std::string url;                                 // libpq URL or keyword string; time-outs that it does not set are added
  std::uint32_t pool_size = 10;                    // connections kept
  std::uint32_t max_overflow = 20;                 // connections more under load, closed after use
  std::chrono::milliseconds pool_timeout{30'000};  // how long a caller waits for a connection
  std::chrono::seconds recycle{3600};              // a connection older than this is replaced
  bool pre_ping = true;                            // check a connection before use
  std::string replica_url;                         // a streaming replica that reads go to while it keeps up; empty: none
  std::chrono::milliseconds replica_max_lag{5'000};
  std::chrono::milliseconds metrics_ttl{0};     // aggregates are kept so long; 0: always asked anew
  std::chrono::milliseconds slow_query{1'000};  // what takes longer is logged by its name
  std::shared_ptr<spdlog::logger> logger;       // null: says nothing
  std::uint64_t near_events = 20'000;           // tables that are further behind than this are filled apart, lest the others wait
  std::uint32_t parked_page = 1'000;            // parked keys that are read at once
  std::function<std::vector<std::unique_ptr<Projection>>()> projections;  // for tests; empty: all of the program's
};

class ReadModels {
 public:
  virtual ~ReadModels() = default;  // stops
  /// Usable at once, and until the destruction of this object.
  virtual Queries& queries() = 0;
  virtual Control& control() = 0;
  /// Starts following the log, together with other processes that do; or, without `follows`, only watches how far those are, so
  /// that positions can be waited for. At most once.
  virtual void start(bool follows = true) = 0;
  /// Ends the batch in hand, joins the runners; queries go on to be answered. Any number of times.
  virtual void stop() = 0;
};

/// All arguments outlive the result. Fails only on a URL that cannot be parsed; the detail names its key.
result<std::unique_ptr<ReadModels>> make_read_models(PostgresOptions, log::EventLog&, privacy::KeyStore&, prometheus::Registry&,
                                                     const Clock&);

}  // namespace onboarding::projections
