// What the model supervisor is given, and what it shows of itself. No CAF type in it: for the composition root, health
// and metrics.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "actors/model/day_use.hpp"
#include "actors/model/provider.hpp"
#include "actors/model/shares/share_store.hpp"
#include "events/clock.hpp"

namespace prometheus {
class Registry;
}

namespace onboarding::model {

/// One dimension of a provider's budget, at this moment.
struct LimitStatus {
  std::string name;  // "requests_per_minute", "tokens_per_minute", …, "max_concurrent", "spend_per_day_nanodollars"
  std::int64_t limit = 0, used = 0;  // in the window, reservations included
};
struct ProviderStatus {
  std::string name, model;
  bool enabled = false;
  bool healthy = true;                   // breaker closed
  std::string breaker = "closed";        // "closed", "open", "probing", "ramping", or "suspected" of hanging
  std::int64_t breaker_opens_in_ms = 0;  // until a probe may go
  std::int64_t held_ms = 0;              // the provider said wait: for this long
  std::int64_t wait_ms = 0;              // until a usual call of its own model would be admitted, pauses and debts included
  std::string last_error;                // class of the newest failure; empty: none yet
  std::uint32_t weight = 0;              // as configured
  double effective_weight = 0;           // as in force: a spike raises cheaper ones
  std::vector<LimitStatus> limits;
  std::int64_t in_flight = 0, waiting = 0;
  std::int64_t calls_total = 0, failures_total = 0, rate_limited_total = 0;  // by the provider
  std::int64_t held_back_total = 0;                                          // by our own budget
  std::int64_t spent_today_nanodollars = 0;
};
struct PlanStatus {
  std::string name;
  std::uint32_t share = 1;
  std::int64_t waiting = 0, tokens_today = 0, tokens_per_day = 0;  // per_day 0: no limit
};
struct CacheStatus {
  std::int64_t entries = 0, bytes = 0, hits_exact = 0, hits_semantic = 0, misses = 0;
  std::int64_t embeddings_nanodollars = 0;  // of finding by meaning, since the start
};

enum class QueueMode { automatic, on, off };
std::string_view to_string(QueueMode);  // "auto", "on", "off"

/// Something that the supervisor decided, for explaining it afterwards.
struct Decision {
  domain::Timestamp time;
  std::string what;      // "breaker_opened", "breaker_closed", "held", "fallback", "queue_mode_on", "changed" …
  std::string provider;  // empty: none
  std::string why;       // one phrase, nothing personal
};

struct ModelStatus {
  std::vector<ProviderStatus> providers;
  std::vector<PlanStatus> plans;
  CacheStatus cache;
  bool offline_enabled = true;
  std::int64_t waiting = 0;                     // extractions that wait for budget
  QueueMode queue_mode = QueueMode::automatic;  // as set
  bool queueing = false;                        // whether it is on now
  std::string queueing_why;
  std::int64_t rate_limit_errors_5m = 0;
  std::vector<Decision> recent;  // newest last, bounded
};
using ModelStatusPtr = std::shared_ptr<const ModelStatus>;

inline constexpr std::uint32_t kGreatestWeight = 1'000'000;

/// A change at run time; what is not set stays.
struct ProviderChange {
  std::string name;
  std::optional<bool> enabled;
  std::optional<std::uint32_t> weight, requests_per_minute, requests_per_day, max_concurrent;
  std::optional<std::uint64_t> tokens_per_minute, input_tokens_per_minute, output_tokens_per_minute, spend_per_day_nanodollars;
};

/// Where somebody stands in the queue for budget. position 1: next.
struct QueuePlace {
  std::uint32_t position = 0;
  std::chrono::milliseconds eta{0};
};

/// What anybody may know of the supervisor's queue without asking it. The supervisor writes, any thread reads.
class QueueBoard {
 public:
  bool queueing() const { return queueing_.load(std::memory_order_relaxed); }
  /// The place of somebody who came now, behind all who wait.
  QueuePlace newcomer() const {
    return {position_.load(std::memory_order_relaxed), std::chrono::milliseconds(eta_ms_.load(std::memory_order_relaxed))};
  }

  void set(bool queueing, QueuePlace newcomer) {
    queueing_.store(queueing, std::memory_order_relaxed);
    position_.store(newcomer.position, std::memory_order_relaxed);
    eta_ms_.store(newcomer.eta.count(), std::memory_order_relaxed);
  }

 private:
  std::atomic<bool> queueing_{false};
  std::atomic<std::uint32_t> position_{1};
  std::atomic<std::int64_t> eta_ms_{0};
};

/// Whoever names no plan has this one. It is always there: not configured it has share 1, no limit, and the providers' own models.
inline constexpr std::string_view kDefaultPlan = "free";

/// A plan's part in the model: which model of which provider it may use, and how much.
struct PlanSettings {
  std::string name;
  std::uint32_t share = 1;                                 // against the other plans' when the budget is short
  std::uint64_t tokens_per_day = 0;                        // 0: no limit
  std::map<std::string, std::string, std::less<>> models;  // provider → model; a provider that is not named: its own
};
struct QueueSettings {
  QueueMode mode = QueueMode::automatic;
  std::uint32_t active_sessions_above = 50;
  std::uint32_t rate_limit_errors_5m_above = 10;
};

/// Nano-dollars of a call at a time, by the dated price table; -1: no price is known.
using CostOf =
    std::function<std::int64_t(std::string_view provider, std::string_view model, const domain::Usage&, domain::Timestamp)>;

/// Of answers that need no model (actors/model/cache).
struct CacheSettings {
  bool enabled = true;
  std::chrono::seconds ttl{3'600};
  std::size_t max_bytes = 16 << 20;  // the longest unused gives way
};

/// Of finding a FAQ's question by meaning (actors/model/cache/faq_vectors).
struct EmbeddingSettings {
  ProviderSettings provider;  // whose name and model tell the price; its limits are those of the embedding model
  std::uint32_t dimensions = 256;
  float threshold = 0.8f;                    // least cosine of a hit
  std::chrono::milliseconds timeout{1'000};  // of the call for a question; the FAQ's own has the provider's
  std::string price_version;
};

class Embedder;

struct SupervisorOptions {
  std::vector<ProviderSettings> providers;               // enabled ones, with limits and weights
  std::vector<std::shared_ptr<ProviderClient>> clients;  // same order
  std::vector<PlanSettings> plans;  // of a name that is not here: as the most limited; the default plan: see there
  QueueSettings queue;
  std::shared_ptr<QueueBoard> board;  // may be null
  CacheSettings cache;
  EmbeddingSettings embeddings;
  std::shared_ptr<Embedder> embedder;  // null: questions are not looked up by meaning
  ShareStore* shares = nullptr;        // null: every limit is this server's own. Outlives the supervisor
  std::string server_id;               // its name in the books, the same after a restart
  std::string books;                   // the name of the books: a slot that was kept is this server's in these only
  ShareRules share_rules;
  CostOf cost;                  // may be empty: then no spend is counted, and no provider is cheaper than another
  DayUse day_use;               // as it was kept by the process before
  bool day_use_is_last = true;  // nothing was used after that
  KeepDayUse keep_day_use;      // may be empty: a restart forgets what the day has used
  bool offline_enabled = true;
  std::vector<std::string> fallback_order;  // empty: by weight
  const Clock* clock = nullptr;
  RandomSource* random = nullptr;
  prometheus::Registry* metrics = nullptr;  // may be null
};

}  // namespace onboarding::model
