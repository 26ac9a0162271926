// The desk where calls are leased: budgets, breakers, routing and the queue of those who wait, as one state machine.
// Pure: no clock, no thread, no CAF; the supervisor drives it, tests and the simulation too. Single-threaded.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "actors/model/policy/breaker.hpp"
#include "actors/model/policy/budget.hpp"
#include "actors/model/policy/routing.hpp"
#include "actors/model/status.hpp"

namespace onboarding::model {

class LeaseDesk {
 public:
  using Ticket = std::uint64_t;
  static constexpr std::size_t kMaxWaiting = 10'000;
  /// What a call may take beyond its timeout before its lease expires: the client itself keeps the timeout.
  static constexpr std::chrono::milliseconds kExpiryMargin{250};

  LeaseDesk(std::vector<ProviderSettings>, const std::vector<std::string>& fallback_order, Instant start,
            std::size_t max_waiting = kMaxWaiting);

  struct Decision {
    Ticket ticket = 0;
    LeaseGrant grant;
  };
  struct Round {
    std::vector<Decision> decisions;           // every ticket is decided exactly once
    std::vector<LeaseId> expired;              // were never settled; settling them now changes nothing
    std::vector<std::uint32_t> refused_by_budget;  // providers whose budget made somebody wait; once per ticket and provider
    std::vector<std::uint32_t> opened;             // breakers that an expiry opened
  };
  enum class Verdict { fine, opened, opened_for_long };

  Ticket ask(const LeaseRequest&, Instant now);
  /// Unknown (expired) leases are ignored.
  Verdict settle(LeaseId, const Settlement&, Instant now);
  /// Decides what can be decided. Call after ask() and settle(), and at next_event().
  Round advance(Instant now);
  /// When advance() has something to do though nobody asks or settles.
  std::optional<Instant> next_event() const;

  /// Whether any provider is enabled and would be tried now.
  bool any_usable(Instant now) const { return usable(now) != 0; }

  const std::vector<ProviderSettings>& providers() const { return settings_; }
  ProviderStatus status(std::uint32_t provider) const;
  std::size_t waiting() const { return waiting_.size(); }
  std::size_t leases() const { return leases_.size(); }
  const Budget& budget(std::uint32_t provider) const { return desks_[provider].budget; }

 private:
  struct PerProvider {
    Budget budget;
    Breaker breaker;
    std::chrono::milliseconds hold{0};  // after the last of several 429s in a row
    Instant held_since{};
    std::int64_t calls = 0, failures = 0, rate_limited = 0;
  };
  struct Waiting {
    LeaseRequest request;
    ProviderSet refused = 0;
  };
  struct Lease {
    std::uint32_t provider = 0;
    Reservation reservation;
    Instant expires;
    bool probe = false;
  };
  using Place = std::pair<Priority, Ticket>;  // the order of the queue

  ProviderSet usable(Instant now) const;
  void deny(Ticket, LeaseStatus);
  void expire(Instant now, Round&);
  void serve_queue(Instant now, Round&);
  LeaseGrant grant(std::uint32_t provider, const LeaseRequest&, Instant now);
  Verdict judge(PerProvider&, const Lease&, const Settlement&, Instant now);
  void hold(PerProvider&, const Lease&, std::chrono::milliseconds retry_after, Instant now);

  std::vector<ProviderSettings> settings_;
  std::vector<PerProvider> desks_;
  Routing routing_;
  std::size_t max_waiting_;
  Ticket next_ticket_ = 1;
  LeaseId next_lease_ = 1;
  std::map<Place, Waiting> waiting_;
  std::set<std::pair<Instant, Place>> deadlines_;
  std::map<LeaseId, Lease> leases_;
  std::set<std::pair<Instant, LeaseId>> expiries_;
  std::vector<Decision> denied_;  // decided in ask(), told by the next advance()
  ProviderSet usable_before_ = 0;  // in the last round: when it shrinks, everybody in the queue is looked at
  Instant wake_ = Instant::max();  // when budget comes free or a breaker lets a probe through, for those who wait
};

}  // namespace onboarding::model
