#include "projections/postgres/share_store.hpp"

#include <pthread.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <pqxx/pqxx>
#include <thread>

#include "projections/postgres/failures.hpp"
#include "projections/postgres/migrate.hpp"
#include "projections/postgres/pool.hpp"

namespace onboarding::projections {
namespace {

using model::ArbiterTime;
using model::ShareAnswer;
using model::ShareBook;
using model::ShareRequest;
using model::SlotBook;

constexpr std::int64_t lock_key = 0x6f6e62'62756467;  // "onb budg"
constexpr std::size_t max_waiting = 4;

/// The database's time, which never goes back here even if its clock does: nothing is given out twice for that.
ArbiterTime now_of(pqxx::work& tx) {
  return ArbiterTime(tx.exec1("SELECT greatest((extract(epoch FROM clock_timestamp()) * 1000)::bigint, (SELECT max(seen_ms) FROM "
                              "model_budget_slots))")[0]
                         .as<std::int64_t>());
}

struct Claimed {
  std::optional<std::uint32_t> slot;
  std::uint32_t alive = 0;
};

Claimed claim_slot(pqxx::work& tx, const model::ShareRules& rules, const std::string& server_id, ArbiterTime now) {
  std::vector<SlotBook::Slot> slots;
  for (const auto& row : tx.exec("SELECT slot, server_id, seen_ms FROM model_budget_slots ORDER BY slot"))
    slots.push_back({row[0].as<std::uint32_t>(), row[1].c_str(), ArbiterTime(row[2].as<std::int64_t>())});
  SlotBook book(rules, std::move(slots));
  const auto slot = book.claim(server_id, now);
  if (slot)
    tx.exec_params(
        "INSERT INTO model_budget_slots VALUES ($1, $2, $3) ON CONFLICT (slot) DO UPDATE SET server_id = excluded.server_id, "
        "seen_ms = excluded.seen_ms",
        *slot, server_id, now.count());
  return {slot, book.alive(now)};
}

std::int64_t renew_one(pqxx::work& tx, const model::ShareRules& rules, const std::string& name, const ShareRequest::Want& want,
                       const Claimed& claimed, ArbiterTime now) {
  std::vector<ShareBook::Holding> holdings;
  for (const auto& row :
       tx.exec_params("SELECT slot, amount, wanted, until_ms FROM model_budget_holdings WHERE limit_name = $1", name))
    holdings.push_back({row[0].as<std::uint32_t>(), row[1].as<std::int64_t>(), row[2].as<std::int64_t>(),
                        ArbiterTime(row[3].as<std::int64_t>())});
  std::vector<ShareBook::Cooling> cooling;
  for (const auto& row : tx.exec_params("SELECT slot, amount, free_at_ms FROM model_budget_cooling WHERE limit_name = $1", name))
    cooling.push_back({row[0].as<std::uint32_t>(), row[1].as<std::int64_t>(), ArbiterTime(row[2].as<std::int64_t>())});
  ShareBook book(want.limit, rules, std::move(holdings), std::move(cooling));
  const auto share = book.renew(*claimed.slot, want.wanted, now, claimed.alive);
  // A handful of rows: written anew as a whole.
  tx.exec_params("DELETE FROM model_budget_holdings WHERE limit_name = $1", name);
  tx.exec_params("DELETE FROM model_budget_cooling WHERE limit_name = $1", name);
  for (const auto& h : book.holdings())
    tx.exec_params("INSERT INTO model_budget_holdings VALUES ($1, $2, $3, $4, $5)", name, h.slot, h.amount, h.wanted,
                   h.until.count());
  for (const auto& c : book.cooling())
    tx.exec_params("INSERT INTO model_budget_cooling VALUES ($1, $2, $3, $4)", name, c.slot, c.amount, c.free_at.count());
  return share;
}

class PostgresShareStore final : public model::ShareStore {
 public:
  PostgresShareStore(std::string url, model::ShareRules rules) : url_(std::move(url)), rules_(rules), thread_([this] { run(); }) {
    pthread_setname_np(thread_.native_handle(), "pg-shares");
  }
  ~PostgresShareStore() override {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }

  void renew(ShareRequest request, Done done) override {
    Job oldest;
    {
      const std::lock_guard lock(mutex_);
      jobs_.push_back({std::move(request), std::move(done)});
      if (jobs_.size() > max_waiting) {
        oldest = std::move(jobs_.front());
        jobs_.pop_front();
      }
    }
    changed_.notify_one();
    if (oldest.done) oldest.done(failure(Errc::unavailable, "overtaken by newer renewals"));
  }

 private:
  struct Job {
    ShareRequest request;
    Done done;
  };

  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return ending_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      auto job = std::move(jobs_.front());
      jobs_.pop_front();
      const bool ending = ending_;
      lock.unlock();
      job.done(ending ? failure(Errc::unavailable, "the server ends") : carry_out(job.request));
      lock.lock();
    }
  }

  result<ShareAnswer> carry_out(const ShareRequest& request) {
    auto answer = guarded([&] {
      if (!connection_) {
        auto fresh = std::make_unique<pqxx::connection>(url_);
        if (auto migrated = migrate(*fresh, embedded_migrations()); !migrated) throw pqxx::failure(migrated.error().message());
        connection_ = std::move(fresh);
      }
      pqxx::work tx(*connection_);
      tx.exec_params("SELECT pg_advisory_xact_lock($1)", lock_key);
      const auto now = now_of(tx);
      const auto claimed = claim_slot(tx, rules_, request.server_id, now);
      ShareAnswer granted{claimed.slot, {}};
      if (granted.slot)
        for (const auto& [name, want] : request.wants)
          granted.shares[name] = renew_one(tx, rules_of(name, rules_), name, want, claimed, now);
      tx.commit();
      return granted;
    });
    if (!answer) connection_.reset();
    return answer;
  }

  const std::string url_;
  const model::ShareRules rules_;
  std::unique_ptr<pqxx::connection> connection_;  // the thread's
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace

result<std::unique_ptr<model::ShareStore>> make_share_store(const std::string& url, model::ShareRules rules) {
  auto text = connection_string(url);
  if (!text) return tl::unexpected(text.error());
  return std::make_unique<PostgresShareStore>(std::move(*text), rules);
}

}  // namespace onboarding::projections
