// Connections to PostgreSQL: `pool_size` kept, `max_overflow` more while those are held for long, each replaced when it is
// older than `recycle`, checked before use. A breaker over all of them. libpqxx never reconnects by itself here.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <pqxx/pqxx>
#include <string>
#include <thread>
#include <type_traits>
#include <unordered_set>
#include <vector>

#include "projections/postgres/breaker.hpp"
#include "projections/postgres/failures.hpp"
#include "projections/postgres/read_models.hpp"

namespace prometheus {
class Counter;
class Gauge;
}  // namespace prometheus

namespace onboarding::projections {

/// The URL with our time-outs added where it has none of its own. Errc::unavailable with the reason when it is no libpq
/// connection string; the reason never holds the password.
result<std::string> connection_string(const std::string& url);

struct Connection {
  explicit Connection(const std::string& url);
  /// Prepares on first use of the name on this connection; throws what libpqxx throws.
  void prepare(const std::string& name, const std::string& sql);

  pqxx::connection db;
  std::unordered_set<std::string> prepared;
  std::chrono::steady_clock::time_point born, last_used;
};

/// Thread-safe. Owns a thread ("pg-probe") that keeps database() true while nobody asks for anything.
class Pool {
 public:
  Pool(std::string connection_string, const PostgresOptions&, prometheus::Registry*);
  ~Pool();  // every lease is back by then
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  /// A connection for one thread; returns to the pool when dropped, unless broken() was called.
  class Lease {
   public:
    Lease(Pool& pool, std::unique_ptr<Connection> connection) : pool_(&pool), connection_(std::move(connection)) {}
    Lease(Lease&&) = default;
    Lease& operator=(Lease&& other) {
      give_back();
      pool_ = other.pool_;
      connection_ = std::move(other.connection_);
      broken_ = other.broken_;
      return *this;
    }
    ~Lease() { give_back(); }
    Connection& operator*() const { return *connection_; }
    Connection* operator->() const { return connection_.get(); }
    void broken() { broken_ = true; }

   private:
    void give_back() {
      if (connection_) pool_->give_back(std::move(connection_), broken_);
    }
    Pool* pool_;
    std::unique_ptr<Connection> connection_;
    bool broken_ = false;
  };

  /// Waits for a connection at most pool_timeout. Errc::unavailable: the breaker is open, the server does not answer, the
  /// time is over, or the pool is closed.
  result<Lease> acquire();

  /// Carries out `work(Connection&)`, which may be repeated: up to three times more, with exponential back-off, when the
  /// connection breaks or cannot be had.
  template <class Work>
  auto run(Work&& work) -> result<std::invoke_result_t<Work, Connection&>> {
    for (std::uint32_t attempt = 0;; ++attempt) {
      auto done = once(work);
      if (done || done.error().code != Errc::unavailable || attempt == retries || !back_off(attempt)) return done;
    }
  }

  /// The same, and only once.
  template <class Work>
  auto once(Work& work) -> result<std::invoke_result_t<Work, Connection&>> {
    auto lease = acquire();
    if (!lease) return tl::unexpected(lease.error());
    auto done = guarded([&] { return work(**lease); });
    if (!done) lease->broken();
    return done;
  }

  const std::string& connection_string() const { return url_; }
  DatabaseStatus status() const;
  /// Ends all waits; acquire() fails from now on. Any number of times.
  void close();

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::uint32_t retries = 3;
  static constexpr std::chrono::milliseconds first_back_off{50};

  /// False when waiting is of no use: the breaker is open or the pool closed.
  bool back_off(std::uint32_t attempt);
  void give_back(std::unique_ptr<Connection>, bool broken);
  /// Whether an idle connection can still be used.
  bool check(Connection&);
  result<std::unique_ptr<Connection>> connect();
  void probe();
  void show();  // mutex held

  const std::string url_;
  const PostgresOptions options_;
  struct Metrics {
    prometheus::Gauge *in_use = nullptr, *idle = nullptr, *waiting = nullptr, *up = nullptr, *breaker_open = nullptr;
    prometheus::Counter* timeouts = nullptr;
  } metrics_;

  mutable std::mutex mutex_;
  std::condition_variable returned_;  // a connection came back, or may be made
  std::condition_variable closing_;
  std::vector<std::unique_ptr<Connection>> idle_;  // the one used last is taken first
  std::uint32_t total_ = 0;                        // idle and in use
  std::uint32_t waiting_ = 0;
  Breaker breaker_;
  bool reachable_ = false, closed_ = false;
  double ping_ms_ = 0;
  std::string detail_ = "not connected yet";
  std::thread probe_;
};

}  // namespace onboarding::projections
