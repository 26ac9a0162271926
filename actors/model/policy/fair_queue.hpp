// Who waits for budget, and in which order. Pure.
//
// Priorities are strict, but nobody starves: who has waited kAging moves up one priority, and with it whoever came before.
// Inside a priority plans share by stride: each grant moves a plan on by its tokens / its share, the one that is furthest behind
// is next. Inside a plan who began first is served first (ADR 0505): a session's turns stand where the session came
// (LeaseRequest::arrived), not where the turn did. In a spike, serving turn by turn finishes nobody until all are nearly done; this
// finishes them one after the other, and nobody later than that would. It starves nobody: those before somebody only ever become
// fewer, since whoever comes now stands behind, and what a session may ask for at its place is bounded by whoever sets
// `arrived`. Turns that lost their provider stand before all of their plan.
//
// Waiters of one priority, plan and set of excluded providers form a class: what holds back its head holds back all of it, so a
// round looks at its first few only.
//
// For forecasts it also knows whose sessions will come back before somebody: each says how many turns it will want yet, how
// long they take to come back and how many do is learned. Every operation is O(log n) in the number that waits.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
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
  /// Of the turns that a session will want yet, more are not counted.
  static constexpr std::uint32_t kMostFurther = 16;
  /// Who has not come back by then is not expected any more.
  static constexpr std::chrono::seconds kComesBack{120};
  static constexpr std::size_t kMostThinking = 16'384;

  struct Entry {
    LeaseRequest request;
    Instant asked;
    Priority priority = Priority::waiting_client;  // as it has aged to
    std::int64_t tag = 0;                          // where it stands in its plan: when its session came
    Instant ages;                                  // when it moves up
    std::uint32_t overtaken = 0;                   // times that somebody behind went first, since it fitted better
    std::uint64_t refused = 0;                     // lanes whose budget made it wait
    std::chrono::nanoseconds promised{0};          // the forecast when it came; 0: none was made
  };
  using Place = std::pair<std::int64_t, Ticket>;
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
  /// Removes it; its plan has had this turn, its session may come back.
  void served(Ticket, Instant now);
  /// Moves up who has waited long enough; expects nobody any more who stays away.
  void age(Instant now);

  /// The non-empty classes of a priority.
  std::vector<ClassKey> classes(Priority) const;
  bool has(const ClassKey& key) const { return classes_.contains(key); }
  /// Its first ones, in order; at least one.
  std::vector<Ticket> first(const ClassKey&, std::size_t at_most) const;
  /// Of these classes the one whose head is next.
  std::size_t next_of(const std::vector<ClassKey>&) const;

  /// The last in order of the least urgent: who gives way when the queue is full.
  std::optional<Ticket> least_urgent() const;
  /// Whether a request would stand before it.
  bool stands_before(const LeaseRequest&, Ticket) const;
  /// Whose deadline has come.
  std::optional<Ticket> overdue(Instant now) const;
  std::optional<Instant> next_event() const;

  /// Who stands before a place.
  class Ahead {
   public:
    /// Turns that are served before, if that takes so long: those that wait now, and those that come back before. As if nobody
    /// came after. 0 s: those that wait now.
    double turns(std::chrono::nanoseconds within) const;

   private:
    friend class FairQueue;
    using ByFurther = std::array<std::uint32_t, kMostFurther + 1>;
    struct OfPlan {
      double ratio = 1;  // its share to that of the place's own plan
      std::size_t now = 0;
      ByFurther waiting{}, thinking{};
    };
    double more(const OfPlan&, double within_s) const;

    std::size_t more_urgent_ = 0;
    OfPlan own_;
    std::vector<OfPlan> others_;
    double think_s_ = 1, come_back_ = 1;
  };
  Ahead ahead(Ticket) const;
  /// Of somebody who would come now, having arrived then.
  Ahead ahead(Priority, std::uint32_t plan, std::int64_t arrived) const;
  /// 1: next.
  static std::size_t position(const Ahead& ahead) {
    return 1 + static_cast<std::size_t>(ahead.turns(std::chrono::nanoseconds(0)));
  }
  std::optional<Ticket> of_turn(std::uint64_t turn) const;

  std::size_t size() const { return entries_.size(); }
  std::size_t waiting(std::uint32_t plan) const { return plans_[plan].waiting; }
  std::size_t sessions() const { return sessions_.size(); }

 private:
  using ByFurther = std::map<std::uint32_t, Order>;  // those who will want so many turns yet
  struct Plan {
    double share = 1;
    double pass = 0;
    std::size_t waiting = 0;
    ByFurther wait, think;  // by arrival and ticket, by arrival and session
  };
  struct Thinking {
    std::uint32_t plan = 0, further = 0;
    std::int64_t arrived = 0;
    Instant since;
  };
  using AgingKey = std::tuple<std::uint32_t, Priority, Priority>;  // plan, priority as asked, as aged to

  ClassKey key_of(const Entry& e) const { return {e.priority, e.request.plan, e.request.exclude}; }
  static AgingKey aging_key(const Entry& e) { return {e.request.plan, e.request.priority, e.priority}; }
  static double cost_of(const LeaseRequest& r) { return static_cast<double>(r.input_tokens) + r.output_tokens; }
  static std::uint32_t further(const LeaseRequest& r) { return std::min(r.further, kMostFurther); }
  Priority begins_at(const LeaseRequest&, const Place&) const;
  Ahead ahead(Priority, std::uint32_t plan, const Place&) const;
  void put(const Entry&, Ticket);
  void take(const Entry&, Ticket);
  void rise(Ticket, Instant now);
  void watch_age(Entry&, Ticket, Instant now);
  void no_longer_thinks(std::uint64_t session);
  void came_back(bool, std::chrono::nanoseconds after);

  std::vector<Plan> plans_;
  double newest_pass_ = 0;
  std::unordered_map<Ticket, Entry> entries_;
  std::map<ClassKey, Order> classes_;
  std::map<AgingKey, std::set<Place>> by_age_;
  std::set<std::pair<Instant, Ticket>> deadlines_, aging_;
  std::set<std::pair<Priority, Place>> urgency_;
  std::unordered_map<std::uint64_t, std::uint32_t> sessions_;  // those who wait: how many turns
  std::unordered_map<std::uint64_t, Ticket> turns_;
  std::unordered_map<std::uint64_t, Thinking> thinking_;          // by session: had a turn, and will want another
  std::deque<std::pair<Instant, std::uint64_t>> thinking_since_;  // in this order; those that came back are in it still
  double think_s_ = 3, come_back_ = 1, learned_ = 0;
};

}  // namespace onboarding::model
