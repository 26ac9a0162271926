#include "projections/postgres/pool.hpp"

#include <libpq-fe.h>
#include <poll.h>
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>
#include <pthread.h>

namespace onboarding::projections {

namespace {

// A connection used this recently is only looked at (has the server hung up?); after a longer rest it has to answer.
constexpr std::chrono::seconds rested{1};
constexpr std::chrono::milliseconds probe_interval{2000};
// So long nobody gives one back, then one beyond the pool's size is opened.
constexpr std::chrono::milliseconds before_overflow{20};

// A value of libpq's keyword syntax.
std::string quoted(const std::string& value) {
  std::string out = "'";
  for (const char c : value) {
    if (c == '\'' || c == '\\') out.push_back('\\');
    out.push_back(c);
  }
  return out + "'";
}

/// The server closed the connection, or sent something while nobody asked (a shutdown notice).
bool hung_up(const pqxx::connection& db) {
  pollfd descriptor{db.sock(), POLLIN, 0};
  return !db.is_open() || db.sock() < 0 || poll(&descriptor, 1, 0) != 0;
}

double milliseconds_since(std::chrono::steady_clock::time_point began) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began).count();
}

}  // namespace

result<std::string> connection_string(const std::string& url) {
  // What libpq does not bound by itself; a statement of ours that takes longer than this is in trouble.
  std::map<std::string, std::string> parameters = {
      {"connect_timeout", "5"},  {"keepalives", "1"},           {"keepalives_idle", "10"},         {"keepalives_interval", "5"},
      {"keepalives_count", "3"}, {"tcp_user_timeout", "15000"}, {"application_name", "onboarding"}};
  std::string session =
      "-c statement_timeout=30000 -c lock_timeout=5000 -c idle_in_transaction_session_timeout=10000 -c timezone=UTC";
  char* why = nullptr;
  PQconninfoOption* options = PQconninfoParse(url.c_str(), &why);
  if (options == nullptr) {
    std::string reason = why == nullptr ? "out of memory" : "is not a connection string that libpq understands";
    PQfreemem(why);
    return failure(Errc::unavailable, reason);
  }
  for (const PQconninfoOption* option = options; option->keyword != nullptr; ++option) {
    if (option->val == nullptr) continue;
    if (std::string_view(option->keyword) == "options") {
      session.append(" ").append(option->val);  // the later one wins
    } else {
      parameters[option->keyword] = option->val;
    }
  }
  PQconninfoFree(options);
  parameters["options"] = session;
  std::string text;
  for (const auto& [keyword, value] : parameters) text.append(keyword).append("=").append(quoted(value)).append(" ");
  return text;
}

Connection::Connection(const std::string& url) : db(url), born(std::chrono::steady_clock::now()), last_used(born) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  // Else libpqxx reconnects silently, and a session's locks and settings are gone without a word.
  db.inhibit_reactivation(true);
#pragma GCC diagnostic pop
}

void Connection::prepare(const std::string& name, const std::string& sql) {
  if (prepared.contains(name)) return;
  db.prepare(name, sql);
  prepared.insert(name);
}

Pool::Pool(std::string connection_string, const PostgresOptions& options, prometheus::Registry* registry)
    : url_(std::move(connection_string)), options_(options) {
  if (registry != nullptr) {
    const auto gauge = [&](const char* name, const char* help) {
      return &prometheus::BuildGauge().Name(name).Help(help).Register(*registry).Add({});
    };
    metrics_.in_use = gauge("onboarding_postgres_pool_in_use", "Connections in use.");
    metrics_.idle = gauge("onboarding_postgres_pool_idle", "Connections that wait to be used.");
    metrics_.waiting = gauge("onboarding_postgres_pool_waiting", "Callers that wait for a connection.");
    metrics_.up = gauge("onboarding_postgres_up", "1 while PostgreSQL answers.");
    metrics_.breaker_open = gauge("onboarding_postgres_breaker_open", "1 while PostgreSQL is only probed.");
    metrics_.timeouts = &prometheus::BuildCounter()
                             .Name("onboarding_postgres_pool_timeouts_total")
                             .Help("Callers that waited for a connection in vain.")
                             .Register(*registry)
                             .Add({});
  }
  probe_ = std::thread([this] { probe(); });
  pthread_setname_np(probe_.native_handle(), "pg-probe");
}

Pool::~Pool() { close(); }

void Pool::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    returned_.notify_all();
    closing_.notify_all();
  }
  if (probe_.joinable()) probe_.join();
  const std::lock_guard lock(mutex_);
  total_ -= static_cast<std::uint32_t>(idle_.size());
  idle_.clear();
}

result<Pool::Lease> Pool::acquire() {
  const auto began = Clock::now(), deadline = began + options_.pool_timeout;
  bool impatient = false;
  std::unique_lock lock(mutex_);
  for (;;) {
    if (closed_) return failure(Errc::unavailable, "shutting down");
    if (!idle_.empty()) {
      auto connection = std::move(idle_.back());
      idle_.pop_back();
      show();
      lock.unlock();
      const bool usable = check(*connection);
      if (usable) return Lease(*this, std::move(connection));
      connection.reset();
      lock.lock();
      --total_;
      show();
    } else if (total_ < options_.pool_size || (impatient && total_ < options_.pool_size + options_.max_overflow)) {
      if (!breaker_.allow(Clock::now())) return failure(Errc::unavailable, detail_);
      ++total_;
      show();
      lock.unlock();
      auto connection = connect();
      if (!connection) return tl::unexpected(connection.error());
      return Lease(*this, std::move(*connection));
    } else {
      // A read takes far less than opening a connection: in a burst of them the next one back comes sooner than a new one.
      const auto until = impatient ? deadline : std::min(deadline, began + before_overflow);
      ++waiting_;
      show();
      const bool timed_out = returned_.wait_until(lock, until) == std::cv_status::timeout;
      --waiting_;
      show();
      if (!timed_out) continue;
      if (!std::exchange(impatient, true)) continue;
      if (metrics_.timeouts != nullptr) metrics_.timeouts->Increment();
      return failure(Errc::unavailable, "all connections were in use for too long");
    }
  }
}

bool Pool::check(Connection& connection) {
  const auto now = Clock::now();
  if (now - connection.born > options_.recycle) return false;
  if (!options_.pre_ping) return true;
  if (hung_up(connection.db)) return false;
  if (now - connection.last_used < rested) return true;
  return guarded([&] { pqxx::nontransaction(connection.db).exec("SELECT 1"); }).has_value();
}

result<std::unique_ptr<Connection>> Pool::connect() {
  const auto began = Clock::now();
  auto connection = guarded([&] { return std::make_unique<Connection>(url_); });
  const std::lock_guard lock(mutex_);
  reachable_ = connection.has_value();
  if (connection) {
    breaker_.succeeded();
    ping_ms_ = milliseconds_since(began);
    detail_.clear();
  } else {
    --total_;
    breaker_.failed(Clock::now());
    detail_ = connection.error().detail;
    returned_.notify_one();
  }
  show();
  return connection;
}

void Pool::give_back(std::unique_ptr<Connection> connection, bool broken) {
  connection->last_used = Clock::now();
  const std::lock_guard lock(mutex_);
  // One beyond the pool's size goes when nobody needs it: there are more idle ones than callers who wait.
  if (broken || closed_ || (total_ > options_.pool_size && idle_.size() > waiting_)) {
    --total_;
  } else {
    idle_.push_back(std::move(connection));
  }
  show();
  returned_.notify_one();
}  // what is not kept is closed here, after the lock

bool Pool::back_off(std::uint32_t attempt) {
  std::unique_lock lock(mutex_);
  if (breaker_.open()) return false;
  closing_.wait_for(lock, first_back_off * (1 << attempt), [this] { return closed_; });
  return !closed_;
}

void Pool::probe() {
  std::unique_lock lock(mutex_);
  while (!closed_) {
    lock.unlock();
    const auto began = Clock::now();
    if (auto lease = acquire()) {
      auto answered = guarded([&] { pqxx::nontransaction((*lease)->db).exec("SELECT 1"); });
      if (!answered) lease->broken();
      const std::lock_guard relock(mutex_);
      reachable_ = answered.has_value();
      if (answered) ping_ms_ = milliseconds_since(began);
      detail_ = answered ? std::string() : answered.error().detail;
      show();
    }
    lock.lock();
    closing_.wait_for(lock, probe_interval, [this] { return closed_; });
  }
}

void Pool::show() {
  if (metrics_.in_use == nullptr) return;
  metrics_.in_use->Set(static_cast<double>(total_ - idle_.size()));
  metrics_.idle->Set(static_cast<double>(idle_.size()));
  metrics_.waiting->Set(waiting_);
  metrics_.up->Set(reachable_ ? 1 : 0);
  metrics_.breaker_open->Set(breaker_.open() ? 1 : 0);
}

DatabaseStatus Pool::status() const {
  const std::lock_guard lock(mutex_);
  DatabaseStatus status;
  status.reachable = reachable_;
  status.breaker_open = breaker_.open();
  status.pool_in_use = total_ - static_cast<std::uint32_t>(idle_.size());
  status.pool_idle = static_cast<std::uint32_t>(idle_.size());
  status.pool_max = options_.pool_size + options_.max_overflow;
  status.pool_waiting = waiting_;
  status.ping_ms = ping_ms_;
  status.detail = detail_;
  return status;
}

}  // namespace onboarding::projections
