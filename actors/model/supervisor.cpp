#include "actors/model/supervisor.hpp"

#include <spdlog/spdlog.h>
#include <caf/all.hpp>

#include <algorithm>
#include <array>
#include <deque>
#include <mutex>
#include <tuple>

#include "actors/model/call_actor.hpp"
#include "actors/model/policy/lease_desk.hpp"
#include "actors/model/shares/share_holder.hpp"
#include "events/domain/assertion.hpp"
#include "events/pricing/pricing.hpp"

namespace onboarding::model {

struct ArrivedShare {
  ShareAnswer answer;
  Instant asked_at;
};
using ShareAnswerPtr = std::shared_ptr<const ArrivedShare>;

}  // namespace onboarding::model

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(onboarding::model::ShareAnswerPtr)

namespace onboarding::model {
namespace {

/// The books answer from a thread of theirs, perhaps after this actor has ended: then it is emptied.
struct ShareAddress {
  std::mutex mutex;
  caf::actor actor;
};
constexpr std::chrono::seconds kKeepEvery{10};
constexpr std::chrono::minutes kKeepSlotEvery{10};
constexpr std::chrono::seconds kShareLook{1};
constexpr std::uint64_t kLooksARenewal = 5;

using tick_atom = caf::atom_constant<caf::atom("mdltick")>;
using keep_atom = caf::atom_constant<caf::atom("mdlkeep")>;
using look_at_shares_atom = caf::atom_constant<caf::atom("mdlshares")>;
using share_answer_atom = caf::atom_constant<caf::atom("mdlshare")>;

std::string make_canary(RandomSource* random) {
  std::array<std::uint8_t, 12> bytes{};
  if (random) random->fill(bytes);
  std::string text = "ref-";
  for (const auto b : bytes) text += fmt::format("{:02x}", b);
  return text;
}

constexpr std::size_t kRecentDecisions = 200;
constexpr std::chrono::minutes kPricesFor{1};
constexpr std::chrono::minutes kOfflineToldFor{1};

std::uint64_t turn_key(const std::string& turn_id) { return std::hash<std::string>{}(turn_id); }

std::map<std::string, std::uint32_t, std::less<>> places_of(const std::vector<PlanSettings>& plans) {
  std::map<std::string, std::uint32_t, std::less<>> places;
  for (std::uint32_t i = 0; i < plans.size(); ++i) places.emplace(plans[i].name, i + 1);
  return places;
}

/// By the tokens of a day, then by the share; place 0, which has no limit, only where no other is more limited.
std::uint32_t most_limited(const std::vector<PlanSettings>& plans) {
  const auto rank = [&](std::uint32_t place) {
    const auto tokens = place == 0 ? 0 : plans[place - 1].tokens_per_day;
    return std::make_tuple(tokens - 1, place == 0 ? 1 : plans[place - 1].share, place);  // no limit (0) wraps to the most
  };
  std::uint32_t most = 0;
  for (std::uint32_t place = 1; place <= plans.size(); ++place)
    if (rank(place) < rank(most)) most = place;
  return most;
}

std::vector<std::vector<std::string>> models_of(const LeaseDesk& desk, std::size_t plans) {
  std::vector<std::vector<std::string>> models(plans + 1);
  for (std::uint32_t plan = 0; plan <= plans; ++plan)
    for (std::uint32_t p = 0; p < desk.providers().size(); ++p) models[plan].push_back(desk.model(plan, p));
  return models;
}

// A thin shell: the lease desk decides, this actor tells it the time, carries messages and sets the one timer.
class Supervisor : public caf::event_based_actor {
 public:
  Supervisor(caf::actor_config& config, SupervisorOptions options, InstantExtractor* instant)
      : event_based_actor(config),
        desk_(options.providers, options.fallback_order, clock().now(), LeaseDesk::kMaxWaiting, options.plans, options.queue),
        board_(std::move(options.board)),
        shares_(options.shares),
        server_id_(options.server_id),
        books_(options.books),
        share_rules_(options.share_rules) {
    CallContext c;
    c.clients = std::move(options.clients);
    c.offline_enabled = options.offline_enabled;
    c.clock = options.clock;
    c.canary = make_canary(options.random);
    c.plans = places_of(options.plans);
    c.unknown_plan = most_limited(options.plans);
    c.models = models_of(desk_, options.plans.size());
    c.cost = std::move(options.cost);
    wall_ = options.clock;
    keep_day_use_ = std::move(options.keep_day_use);
    clean_before_ = options.day_use_is_last;
    desk_.restore(options.day_use, !clean_before_, epoch_seconds(), clock().now());
    if (shares_ && options.day_use.slot && options.day_use.slot->books == books_) {
      slot_ = options.day_use.slot;
      holder_.restore(slot_->number, std::chrono::seconds(epoch_seconds() - slot_->asked_at), clock().now());
    }
    c.metrics = std::make_shared<ModelMetrics>(options.metrics);
    c.cache = std::make_shared<AnswerCache>(options.cache, *options.clock);
    if (options.embedder) {
      options.embeddings.price_version = pricing::price_version();
      c.faq_vectors = std::make_shared<FaqVectors>(std::move(options.embeddings), std::move(options.embedder), c.cost,
                                                   *options.clock, clock().now());
    }
    c.providers = std::move(options.providers);
    context_ = std::make_shared<const CallContext>(std::move(c));
    if (instant && context_->providers.empty() && context_->offline_enabled)
      *instant = [context = context_](const ExtractionRequest& request) { return outcome_without_network(*context, request); };
  }

  caf::behavior make_behavior() override {
    // As many as can run at once: an extraction never waits behind another while a core is idle.
    const auto workers = std::max<std::size_t>(2, system().scheduler().num_workers());
    for (std::size_t i = 0; i < workers; ++i) offline_.push_back(spawn<caf::linked>(offline_worker, context_));
    if (shares_) look_at_shares();
    if (keep_day_use_) {
      delayed_send(this, kKeepEvery, keep_atom::value);
      // A kill before the first call is kept must find that this was not the last word. After an unclean end that is said
      // already; to keep its margin as used before anything is would let a crash loop that calls nobody eat up the day.
      if (clean_before_) keep_day_use(false);
    }
    advance();
    return {
        [this](extract_atom, RequestPtr request) { return pass_on(std::move(request)); },
        [this](lease_atom, const LeaseRequest& wanted) { ask(wanted); },
        [this](began_atom, LeaseId lease) {
          desk_.began(lease, clock().now());
          advance();
        },
        [this](settle_atom, LeaseId lease, const Settlement& settlement) { settle(lease, settlement); },
        [this](model_status_atom) { return status(); },
        [this](change_atom, const ProviderChange& change) { return this->change(change); },
        [this](queue_mode_atom, QueueMode mode) {
          desk_.set_queue_mode(mode);
          advance();
          return status();
        },
        [this](forget_atom, const std::string& user_key) { context_->cache->forget(user_key); },
        [this](place_atom, const RequestPtr& request) {
          return desk_.place(
              {turn_key(request->turn_id), context_->plan_of(request->plan), request->arrived.time_since_epoch().count()},
              clock().now());
        },
        [this](tick_atom, std::int64_t due) {
          if (due != tick_at_.time_since_epoch().count()) return;
          tick_at_ = Instant::max();
          advance();
        },
        [this](answered_offline_atom, const std::string& why) { answered_offline(why); },
        [this](look_at_shares_atom) { look_at_shares(); },
        [this](keep_atom) {
          delayed_send(this, kKeepEvery, keep_atom::value);
          if (desk_.day_use_changed()) keep_day_use(false);
        },
        [this](share_answer_atom, const ShareAnswerPtr& answer) {
          holder_.take(answer->answer, answer->asked_at);
          desk_.wants_were_answered();
          apply_shares();
          keep_slot(answer->asked_at);
        },
    };
  }

  const char* name() const override { return "model supervisor"; }

  void on_exit() override {
    if (keep_day_use_) keep_day_use(true);
    keep_day_use_ = nullptr;
    if (share_address_) {
      const std::lock_guard lock(share_address_->mutex);
      share_address_->actor = nullptr;
    }
    for (const auto& call : context_->actors->take()) send_exit(call, caf::exit_reason::user_shutdown);
    asking_.clear();
    holders_.clear();
    offline_.clear();
  }

 private:
  struct Asking {
    caf::response_promise promise;
    caf::actor caller;
  };
  struct Holder {
    caf::actor actor;
    std::uint32_t provider = 0;
  };

  // ---- limits a day

  std::int64_t epoch_seconds() const {
    return wall_ ? std::chrono::duration_cast<std::chrono::seconds>(wall_->now().time_since_epoch()).count() : 0;
  }

  void keep_day_use(bool last) {
    kept_day_use_ = true;
    auto use = desk_.day_use(epoch_seconds(), clock().now());
    use.slot = slot_;
    keep_day_use_(std::move(use), last);
  }

  // ---- limits that several servers share

  /// Every second: a share that ends here ends in time; every fifth: it is renewed.
  void look_at_shares() {
    delayed_send(this, kShareLook, look_at_shares_atom::value);
    if (share_looks_++ % kLooksARenewal == 0) renew_shares();
    apply_shares();
  }

  void renew_shares() {
    ShareRequest request;
    request.server_id = server_id_;
    const auto now = clock().now();
    for (const auto& [name, want] : desk_.wants(now))
      request.wants[name] = {want.whole, std::max<std::int64_t>(0, want.wanted - floor_of(want.whole, share_rules_))};
    if (!share_address_) {
      share_address_ = std::make_shared<ShareAddress>();
      share_address_->actor = caf::actor_cast<caf::actor>(this);
    }
    shares_->renew(std::move(request), [address = share_address_, now](result<ShareAnswer> answer) {
      if (!answer) return;  // what this server has ends by itself, but for its floor
      const std::lock_guard lock(address->mutex);
      if (address->actor)
        caf::anon_send(address->actor, share_answer_atom::value,
                       ShareAnswerPtr(std::make_shared<const ArrivedShare>(ArrivedShare{std::move(*answer), now})));
    });
  }

  /// At once when it is another, else now and then: a restart without the books goes on with the slot's floor.
  void keep_slot(Instant asked_at) {
    const auto slot = holder_.slot();
    const auto asked = epoch_seconds() - std::chrono::duration_cast<std::chrono::seconds>(clock().now() - asked_at).count();
    const bool same = slot ? slot_ && slot_->number == *slot : !slot_;
    if (same && (!slot || asked - slot_->asked_at < std::chrono::seconds(kKeepSlotEvery).count())) return;
    slot_.reset();
    if (slot) slot_ = DayUse::Slot{*slot, asked, books_};
    if (keep_day_use_) keep_day_use(false);
  }

  void apply_shares() {
    const auto now = clock().now();
    desk_.share([this, now](const std::string& name, std::int64_t whole) { return holder_.allowed(name, whole, now); },
                holder_.in_touch(now), now);
    advance();
  }

  caf::delegated<OutcomePtr> pass_on(RequestPtr request) {
    // What no provider can do now needs no actor of its own: the pool answers offline, in parallel.
    if (desk_.any_usable(clock().now())) {
      auto call = context_->actors->wake();
      if (!call) {
        call = spawn<CallActor>(caf::actor_cast<caf::actor>(this), context_);
        context_->actors->add(call);
      }
      delegate(call, extract_atom::value, std::move(request));
    } else {
      delegate(offline_[next_offline_++ % offline_.size()], extract_atom::value, std::move(request));
    }
    return {};
  }

  void ask(const LeaseRequest& wanted) {
    const auto now = clock().now();
    if (context_->cost && now >= prices_until_) refresh_prices(now);
    const auto ticket = desk_.ask(wanted, now);
    // In this order: a promise takes the sender out of the message.
    auto caller = caf::actor_cast<caf::actor>(current_sender());
    asking_.emplace(ticket, Asking{make_response_promise(), std::move(caller)});
    advance();
  }

  void settle(LeaseId lease, const Settlement& settlement) {
    const auto held = holders_.find(lease);
    if (held == holders_.end()) return;
    const auto provider = held->second.provider;
    holders_.erase(held);
    desk_.settle(lease, settlement, clock().now());
    advance();
    show_in_flight(provider);
  }

  caf::result<ModelStatusPtr> change(const ProviderChange& change) {
    if (const auto wrong = desk_.change(change, clock().now())) return caf::make_error(caf::sec::invalid_argument, *wrong);
    advance();
    return status();
  }

  void advance() {
    const auto round = desk_.advance(clock().now());
    for (const auto& [ticket, grant] : round.decisions) decide(ticket, grant);
    // The first use is kept at once: what the process before was given as margin is not a margin for this one too.
    const bool first = !kept_day_use_ && desk_.day_use_changed();
    if (keep_day_use_ && (first || desk_.day_use_moved())) keep_day_use(false);
    for (const auto lease : round.expired) {
      const auto held = holders_.find(lease);
      const auto [holder, provider] = held->second;
      holders_.erase(held);
      send(holder, lease_expired_atom::value, lease);
      show_in_flight(provider);
    }
    for (const auto& news : round.news) tell(news);
    for (const auto provider : round.refused_by_budget) context_->metrics->refused_by_budget(context_->providers[provider].name);
    for (const auto ratio : round.actual_over_promised) context_->metrics->waited(ratio);
    context_->metrics->queue_depth(static_cast<std::int64_t>(desk_.waiting()));
    if (board_) board_->set(desk_.queueing(), desk_.newcomer(clock().now()));
    set_timer();
  }

  void decide(LeaseDesk::Ticket ticket, const LeaseGrant& grant) {
    auto asked = asking_.extract(ticket);
    ONBOARDING_ASSERT(!asked.empty(), "a ticket is decided once");
    if (grant.status == LeaseStatus::granted) {
      holders_.emplace(grant.id, Holder{std::move(asked.mapped().caller), grant.provider});
      show_in_flight(grant.provider);
    } else {
      context_->metrics->denied(grant.status);
    }
    asked.mapped().promise.deliver(grant);
  }

  // CAF's delayed messages cannot be taken back: one that an earlier one has overtaken does nothing: if it set
  // the timer again, every one ever sent would live for ever.
  void set_timer() {
    const auto next = desk_.next_event();
    if (!next || *next >= tick_at_) return;
    tick_at_ = *next;
    delayed_send(this, std::max<std::chrono::nanoseconds>(*next - clock().now(), std::chrono::nanoseconds(1)), tick_atom::value,
                 static_cast<std::int64_t>(tick_at_.time_since_epoch().count()));
  }

  void tell(const LeaseDesk::News& news) {
    const std::string provider = news.provider ? context_->providers[*news.provider].name : "";
    if (news.alert) spdlog::error("alert: model {}: provider {}: {}", news.what, provider, news.why);
    else if (news.what == "breaker_opened" || news.what == "held")
      spdlog::warn("model {}: provider {}: {}", news.what, provider, news.why);
    else spdlog::info("model {}: {}{}", news.what, provider.empty() ? "" : "provider " + provider + ": ", news.why);
    context_->metrics->decided(news.what, provider);
    remember(news.what, provider, news.why);
  }

  /// In a rush thousands are answered so: the recent decisions show each reason once a minute, and how often.
  void answered_offline(const std::string& why) {
    auto& of = offline_for_[why];
    ++of.turns;
    context_->metrics->decided("answered_offline", "");
    const auto now = clock().now();
    if (now < of.told_until) return;
    of.told_until = now + kOfflineToldFor;
    remember("answered_offline", "", why + ": " + std::to_string(std::exchange(of.turns, 0)) + " since it was last told here");
  }

  void remember(std::string_view what, const std::string& provider, const std::string& why) {
    recent_.push_back({context_->clock ? context_->clock->now() : domain::Timestamp(), std::string(what), provider, why});
    if (recent_.size() > kRecentDecisions) recent_.pop_front();
  }

  void refresh_prices(Instant now) {
    prices_until_ = now + kPricesFor;
    for (const auto& [p, model] : desk_.models()) {
      const auto of = [&](std::int64_t input, std::int64_t output) {
        domain::Usage usage;
        usage.input_tokens = input;
        usage.cached_input_tokens = usage.cache_write_tokens = usage.reasoning_tokens = 0;
        usage.output_tokens = output;
        return std::max<std::int64_t>(context_->cost(context_->providers[p].name, model, usage, context_->clock->now()), 0);
      };
      desk_.set_prices(p, model, of(1'000, 0), of(0, 1'000));
    }
  }

  void show_in_flight(std::uint32_t provider) {
    context_->metrics->in_flight(context_->providers[provider].name, desk_.in_flight(provider));
  }

  ModelStatusPtr status() {
    auto s = std::make_shared<ModelStatus>(desk_.status(clock().now()));
    s->offline_enabled = context_->offline_enabled;
    s->cache = context_->cache->status();
    if (context_->faq_vectors) s->cache.embeddings_nanodollars = context_->faq_vectors->spent_nanodollars();
    s->recent.assign(recent_.begin(), recent_.end());
    return s;
  }

  LeaseDesk desk_;
  const Clock* wall_ = nullptr;
  KeepDayUse keep_day_use_;
  bool clean_before_ = true;   // the process before kept its last word
  bool kept_day_use_ = false;  // by this one
  std::shared_ptr<QueueBoard> board_;
  ShareStore* const shares_;
  const std::string server_id_, books_;
  const ShareRules share_rules_;
  std::optional<DayUse::Slot> slot_;  // as it is kept
  ShareHolder holder_{share_rules_};
  std::shared_ptr<ShareAddress> share_address_;
  std::uint64_t share_looks_ = 0;
  std::shared_ptr<const CallContext> context_;
  std::vector<caf::actor> offline_;
  std::size_t next_offline_ = 0;
  std::map<LeaseDesk::Ticket, Asking> asking_;
  std::map<LeaseId, Holder> holders_;
  std::deque<Decision> recent_;
  struct Offline {
    Instant told_until{};
    std::int64_t turns = 0;
  };
  std::map<std::string, Offline> offline_for_;  // by reason, of which there are few
  Instant prices_until_{};
  Instant tick_at_ = Instant::max();
};

}  // namespace

caf::actor spawn_supervisor(caf::actor_system& system, SupervisorOptions options, InstantExtractor* instant) {
  ONBOARDING_ASSERT(options.providers.size() == options.clients.size(), "each provider has its client");
  ONBOARDING_ASSERT(options.providers.empty() || options.clock, "deadlines of calls need the clock");
  return system.spawn<Supervisor>(std::move(options), instant);
}

}  // namespace onboarding::model
