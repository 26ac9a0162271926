// The desk where calls are leased: budgets, breakers, routing, the queue of those who wait, queue mode and forecasts, as one
// state machine. Pure: no clock, no thread, no CAF; the supervisor drives it, tests, the bench and the simulation too.
// Single-threaded. The same inputs lead to the same decisions.
//
// A provider has a lane for each of its models: its own, and those that plans name for it. Each lane has a budget of its own with
// the provider's limits, since providers count by model; the breaker is the provider's.
//
// A plan that has had its tokens of the day gets no lease until some of the last 24 hours' leave the window: waiting for that would
// be a hang, so its turns are answered offline at once.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "actors/model/day_use.hpp"
#include "actors/model/policy/breaker.hpp"
#include "actors/model/policy/budget.hpp"
#include "actors/model/policy/estimates.hpp"
#include "actors/model/policy/fair_queue.hpp"
#include "actors/model/policy/forecast.hpp"
#include "actors/model/policy/queue_mode.hpp"
#include "actors/model/policy/routing.hpp"
#include "actors/model/status.hpp"

namespace onboarding::model {

class LeaseDesk {
 public:
  using Ticket = FairQueue::Ticket;
  static constexpr std::size_t kMaxWaiting = 10'000;
  /// Of so many who are next, the one goes first that leaves the least of a nearly full window unused; nobody is overtaken more often
  /// than kMostOvertaken times for that.
  static constexpr std::size_t kLookAhead = 8;
  static constexpr std::uint32_t kMostOvertaken = 8;
  /// What a call may take beyond its timeout before its lease expires: the client itself keeps the timeout.
  static constexpr std::chrono::milliseconds kExpiryMargin{250};
  /// A provider that asks for a longer pause is asked again after this one, one call at first. A limit a minute needs no longer one; a day
  /// is what a limit a day needs, where the error names one.
  static constexpr std::chrono::seconds kLongestHint{60};
  static constexpr std::chrono::hours kLongestDayHint{24};

  LeaseDesk(std::vector<ProviderSettings>, const std::vector<std::string>& fallback_order, Instant start,
            std::size_t max_waiting = kMaxWaiting, const std::vector<PlanSettings>& plans = {}, const QueueSettings& queue = {});

  struct Decision {
    Ticket ticket = 0;
    LeaseGrant grant;
  };
  /// Something that whoever runs the servers may want to know. `what` and `why` as in status.hpp's Decision.
  struct News {
    std::string_view what;
    std::optional<std::uint32_t> provider;
    std::string why;
    bool alert = false;
  };
  struct Round {
    std::vector<Decision> decisions;               // every ticket is decided exactly once
    std::vector<LeaseId> expired;                  // were never settled; settling them now changes nothing
    std::vector<std::uint32_t> refused_by_budget;  // providers whose budget made somebody wait; once per ticket and provider
    std::vector<News> news;
    std::vector<double> actual_over_promised;  // of turns that waited and were answered
  };

  Ticket ask(const LeaseRequest&, Instant now);
  /// The call has brought the first words of its answer: however slowly the rest comes, the provider does not hang. Unknown leases are
  /// ignored, here and below.
  void began(LeaseId, Instant now);
  void settle(LeaseId, const Settlement&, Instant now);
  /// Decides what can be decided. Call after ask(), settle() and the changes below, and at next_event().
  Round advance(Instant now);
  /// When advance() has something to do though nobody asks or settles.
  std::optional<Instant> next_event() const;

  /// At run time. What is wrong with the change, if anything.
  std::optional<std::string> change(const ProviderChange&, Instant now);
  void set_queue_mode(QueueMode mode) { queue_mode_.set(mode); }
  /// Limits that several servers share. What this one may use of a limit now, by the limit's name and whole.
  using AllowedOf = std::function<std::int64_t(const std::string& name, std::int64_t whole)>;
  struct Want {
    std::int64_t whole = 0, wanted = 0;
  };
  /// All limits by their names ("openai/gpt-6-luna/requests_per_minute", "plan/free/tokens_per_day"), and what this server has use for. Of one a
  /// minute or in flight: all of it while somebody waits, else half as much again as it used lately. Of one a day: what it used of it
  /// and a step more, a larger one while somebody waits.
  std::map<std::string, Want> wants(Instant now);
  /// From now on only what `allowed` says is used of each limit; again after each change of it. A lane with a share of 0 is not used.
  /// `in_touch`: whether more may be had for the asking; then who lacks a limit a day waits for the next answer.
  void share(AllowedOf allowed, bool in_touch, Instant now);
  /// What wants() told last was answered: what is not granted now is not there.
  void wants_were_answered() { day_asked_ = day_wanted_; }

  /// Of 1,000 tokens, as they are now; for limits of spend and for choosing cheaper ones in a spike. Unknown: 0.
  void set_prices(std::uint32_t provider, std::string_view model, std::int64_t input_nanodollars,
                  std::int64_t output_nanodollars);

  /// What was used of the limits a day, and of plans' tokens; `epoch_now`: the second that is now. Each comes with a margin of
  /// kDayMargin of its limit: as long as it is kept anew whenever day_use_moved(), no more is used between two.
  DayUse day_use(std::int64_t epoch_now, Instant now);
  /// What was kept, after a restart. With `margin` it was not the last word: the margins count as used.
  void restore(const DayUse&, bool margin, std::int64_t epoch_now, Instant now);
  /// Part of a limit a day that was taken since it was last told: half of the margin is time to keep it.
  bool day_use_moved() const { return day_taken_ >= kDayMargin / 2; }
  bool day_use_changed() const { return day_taken_ > 0; }
  static constexpr double kDayMargin = 0.01;

  /// Whether any provider is enabled and would be tried now.
  bool any_usable(Instant now) const { return usable(now) != 0; }
  bool queueing() const { return queue_mode_.queueing(); }
  /// Where a turn stands; position 0: it does not wait. One that is not known yet (it was just asked about) is told where it will
  /// stand.
  struct Standing {
    std::uint64_t turn = 0;
    std::uint32_t plan = 0;    // as in LeaseRequest
    std::int64_t arrived = 0;  // as in LeaseRequest
  };
  QueuePlace place(const Standing&, Instant now);
  /// Where somebody would stand who came now, with no plan.
  QueuePlace newcomer(Instant now);

  const std::vector<ProviderSettings>& providers() const { return settings_; }
  /// All lanes: provider and model.
  std::vector<std::pair<std::uint32_t, std::string>> models() const;
  /// The model that a plan uses of a provider.
  const std::string& model(std::uint32_t plan, std::uint32_t provider) const { return lanes_[lane_of_[plan][provider]].model; }
  std::size_t waiting() const { return queue_.size(); }
  std::size_t leases() const { return leases_.size(); }
  /// Of the provider's own model.
  const Budget& budget(std::uint32_t provider) const { return lanes_[provider].budget; }
  std::int64_t in_flight(std::uint32_t provider) const { return desks_[provider].in_flight; }
  /// All but the cache, the recent decisions and the offline extractor.
  ModelStatus status(Instant now);

 private:
  using LaneSet = std::uint64_t;
  struct Lane {
    std::uint32_t provider = 0;
    std::string model;
    Budget budget;
    Moments input, output, latency_ms;               // of calls that succeeded
    std::int64_t input_price = 0, output_price = 0;  // nano-dollars of 1,000 tokens
    bool starved = false;                            // it has no share of one of its limits
    bool may_grow = false;                           // its share of a limit a day
  };
  static constexpr std::int64_t kNoLimit = std::int64_t{1} << 62;
  struct PerProvider {
    Breaker breaker;
    std::chrono::milliseconds hold{0};  // after the last of several 429s in a row
    Instant held_since{};
    std::set<std::pair<Instant, LeaseId>> calls_since;  // in flight, and nothing has come yet
    Instant answered_at{};                              // the newest sign of life
    bool suspected = false;                             // of hanging
    std::string last_error;
    std::set<std::uint64_t> blamed;   // sessions whose bad answers counted as the provider's failure since the last good one
    std::set<std::uint64_t> cut_off;  // sessions whose answers ended at their cap since then
    bool usage_refused = false;       // of the newest answer with a usage
    std::int64_t calls = 0, failures = 0, rate_limited = 0, held_back = 0, in_flight = 0;
    RateLimit spent{kNoLimit, std::chrono::hours(24), 0, Instant{}};  // the last 24 hours, whatever the limit
  };
  struct PerPlan {
    PlanSettings settings;
    std::optional<RateLimit> tokens;
    bool starved = false, may_grow = false;  // as of a lane
    std::int64_t lacks = 0;                  // what the dearest call that waits for a larger share needs; since wants() last told
    std::string limit_name() const { return "plan/" + settings.name + "/tokens_per_day"; }
  };
  struct Lease {
    std::uint32_t lane = 0;
    Reservation reservation;
    Instant expires;
    bool probe = false;
    std::uint32_t plan = 0;
    std::int64_t plan_tokens = 0;
    std::uint64_t turn = 0, flow = 0;
    Script script = Script::one_byte;
    std::int64_t estimated_input = 0;  // before it was corrected
    Instant asked;
    std::chrono::nanoseconds promised{0};
    std::uint64_t session = 0;
  };

  std::uint32_t add_lane(std::uint32_t provider, const std::string& model, Instant start);
  void apply_limits(Lane&, Instant now);
  Want want_of_day(const std::string& name, std::int64_t whole, std::int64_t used, std::int64_t lacks = 0);
  bool may_grow(const std::string& name, std::int64_t whole, std::int64_t mine) const;
  ProviderSet usable(Instant now) const;
  void suspect(std::uint32_t provider, Instant now);
  /// Without those that are suspected of hanging, unless nobody else is left.
  ProviderSet trusted(ProviderSet allowed) const;
  Cost estimate(const Lane&, const LeaseRequest&) const;
  Cost usual_cost(const Lane&) const;
  Instant admits_at(Lane&, const LeaseRequest&, Instant now);
  void deny(Ticket, LeaseStatus);
  void leave(Ticket, LeaseStatus, Instant now);
  void expire(Instant now, Round&);
  void serve_queue(Instant now, Round&);
  std::size_t fitting(const FairQueue::ClassKey&, const std::vector<Ticket>& first, LaneSet blocked, Instant now);
  bool hopeless(const LeaseRequest&, ProviderSet allowed, Instant now);
  bool serve(Ticket, LaneSet& blocked, Instant now, Round&);
  LeaseGrant grant(std::uint32_t lane, Ticket, Instant now);
  void learn(const Lease&, const Settlement&, Instant now);
  void judge(std::uint32_t provider, const Lease&, const Settlement&, Instant now);
  void hold(std::uint32_t provider, const Lease&, const Settlement&, Instant now);
  std::chrono::nanoseconds forecast(const FairQueue::Ahead&, std::uint32_t plan, Instant now);
  QueuePlace place_of(const FairQueue::Ahead&, std::uint32_t plan, Instant now);
  void weigh(Instant now);
  void each_day(const std::function<void(const std::string& name, RateLimit&)>&);
  void tell(std::string_view what, std::optional<std::uint32_t> provider, std::string why, bool alert = false);

  std::vector<ProviderSettings> settings_;
  std::vector<PerProvider> desks_;
  std::vector<Lane> lanes_;                          // each provider's own first
  std::vector<PerPlan> plans_;                       // place 0: those without a configured plan
  std::vector<std::vector<std::uint32_t>> lane_of_;  // plan, provider
  Routing routing_;
  FairQueue queue_;
  QueueModeSwitch queue_mode_;
  Forecast forecast_;
  Estimates estimates_;
  Moments asked_input_, asked_cap_;
  std::size_t max_waiting_;
  double day_taken_ = 0;  // the greatest part of a limit a day, summed over calls
  AllowedOf allowed_;     // empty: every limit is this server's own
  bool in_touch_ = false;
  std::map<std::string, std::int64_t> day_wanted_, day_asked_;  // of limits a day: as told last, and as answered last
  Ticket next_ticket_ = 1;
  LeaseId next_lease_ = 1;
  std::map<LeaseId, Lease> leases_;
  std::set<std::pair<Instant, LeaseId>> expiries_;
  std::unordered_multiset<std::uint64_t> running_;  // turns of the leases
  std::vector<Decision> denied_;                    // decided in ask(), told by the next advance()
  std::vector<Ticket> came_;                        // since the last advance()
  std::vector<News> news_;
  std::vector<double> actual_over_promised_;
  QueuePlace newcomer_;
  Instant newcomer_until_{};
  Instant wake_ = Instant::max();  // when budget comes free or a breaker lets a probe through, for those who wait
};

}  // namespace onboarding::model
