// Who waits for budget, and in which order. Pure.
//
// Priorities are strict, but nobody starves: who has waited kAging moves up one priority, behind those who came to it before.
// Inside a priority plans share by stride: each grant moves a plan on by its tokens / its share, the one that is furthest behind
// is next. Inside a plan sessions share by virtual time (weighted fair queueing with equal weights): a session's next turn stands
// where it would if each waiting session were served in turn, so one that sends much waits for itself, and one that sends a
// message at a time meets a queue in order of arrival. Turns that lost their provider stand before all of their plan.
//
// Waiters of one priority, plan and set of excluded providers form a class: what holds back its head holds back all of it, so a
// round looks at its first few only. Every operation is O(log n) in the number that waits.
#pragma once

#include <cstdint>
#include <ext/pb_ds/assoc_container.hpp>
#include <ext/pb_ds/tree_policy.hpp>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "actors/model/policy/lease.hpp"

namespace onboarding::model {

class FairQueue {
 public:
  using Ticket = std::uint64_t;
  static constexpr std::chrono::seconds kAging{60};
  static constexpr int kPriorities = 3;

  struct Entry {
    LeaseRequest request;
    Instant asked;
    Priority priority = Priority::waiting_client;  // as it has aged to
    double tag = 0;                                // virtual time at which it begins
    Instant ages;                                  // when it moves up
    std::uint32_t overtaken = 0;                   // times that somebody behind went first, since it fitted better
    std::uint64_t refused = 0;                     // lanes whose budget made it wait
    std::chrono::nanoseconds promised{0};          // the forecast when it came; 0: none was made
  };
  using Place = std::pair<double, Ticket>;
  using Order = __gnu_pbds::tree<Place, __gnu_pbds::null_type, std::less<Place>, __gnu_pbds::rb_tree_tag,
                                 __gnu_pbds::tree_order_statistics_node_update>;
  struct ClassKey {
    Priority priority = Priority::waiting_client;
    std::uint32_t plan = 0;
    ProviderSet exclude = 0;
    auto operator<=>(const ClassKey&) const = default;
  };

  /// One share per plan; place 0 is of those without a configured plan.
  explicit FairQueue(const std::vector<std::uint32_t>& shares);

  void add(Ticket, const LeaseRequest&, Instant now, std::chrono::nanoseconds promised);
  Entry& at(Ticket ticket) { return entries_.at(ticket); }
  const Entry* find(Ticket) const;
  /// Without being served.
  void remove(Ticket);
  /// Removes it; its plan and its session have had this turn.
  void served(Ticket);
  /// Moves up who has waited long enough.
  void age(Instant now);

  /// The non-empty classes of a priority.
  std::vector<ClassKey> classes(Priority) const;
  bool has(const ClassKey& key) const { return classes_.contains(key); }
  /// Its first ones, in order; at least one.
  std::vector<Ticket> first(const ClassKey&, std::size_t at_most) const;
  /// Of these classes the one whose head is next.
  std::size_t next_of(const std::vector<ClassKey>&) const;

  /// The newest of the least urgent.
  std::optional<Ticket> least_urgent() const;
  /// Whose deadline has come.
  std::optional<Ticket> overdue(Instant now) const;
  std::optional<Instant> next_event() const;

  /// 1: next. An estimate by shares, as if nobody came after.
  std::size_t position(Ticket) const;
  std::size_t newcomers_position(Priority, std::uint32_t plan) const;
  std::optional<Ticket> of_turn(std::uint64_t turn) const;

  std::size_t size() const { return entries_.size(); }
  std::size_t waiting(std::uint32_t plan) const { return plans_[plan].waiting; }
  std::size_t sessions() const { return sessions_.size(); }

 private:
  struct Plan {
    double share = 1;
    double pass = 0;
    double virtual_time = 0;
    std::size_t waiting = 0;
    std::unordered_map<std::uint64_t, double> finish;  // of the sessions that had a turn, where it is still to come
  };

  ClassKey key_of(const Entry& e) const { return {e.priority, e.request.plan, e.request.exclude}; }
  static double cost_of(const LeaseRequest& r) { return static_cast<double>(r.input_tokens) + r.output_tokens; }
  std::size_t ahead(Priority, std::uint32_t plan, const Place&) const;
  void watch_age(Entry&, Ticket, Instant now);
  void forget_passed(Plan&);

  std::vector<Plan> plans_;
  double newest_pass_ = 0;
  std::unordered_map<Ticket, Entry> entries_;
  std::map<ClassKey, Order> classes_;
  std::set<std::pair<Instant, Ticket>> deadlines_, aging_;
  std::set<std::pair<Priority, Ticket>> urgency_;
  std::unordered_map<std::uint64_t, std::uint32_t> sessions_;  // those who wait: how many turns
  std::unordered_map<std::uint64_t, Ticket> turns_;
};

}  // namespace onboarding::model
