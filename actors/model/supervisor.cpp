#include "actors/model/supervisor.hpp"

#include <caf/all.hpp>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>

#include "actors/model/call_actor.hpp"
#include "actors/model/policy/lease_desk.hpp"
#include "events/domain/assertion.hpp"

namespace onboarding::model {
namespace {

using tick_atom = caf::atom_constant<caf::atom("mdltick")>;

std::string make_canary(RandomSource* random) {
  std::array<std::uint8_t, 12> bytes{};
  if (random) random->fill(bytes);
  std::string text = "ref-";
  for (const auto b : bytes) text += fmt::format("{:02x}", b);
  return text;
}

// A thin shell: the lease desk decides, this actor tells it the time, carries messages and sets the one timer.
class Supervisor : public caf::event_based_actor {
 public:
  Supervisor(caf::actor_config& config, SupervisorOptions options)
      : event_based_actor(config), desk_(options.providers, options.fallback_order, clock().now()) {
    context_ = std::make_shared<const CallContext>(CallContext{std::move(options.providers), std::move(options.clients),
                                                               options.offline_enabled, options.clock, make_canary(options.random),
                                                               std::make_shared<ModelMetrics>(options.metrics)});
  }

  caf::behavior make_behavior() override {
    // As many as can run at once: an extraction never waits behind another while a core is idle.
    const auto workers = std::max<std::size_t>(2, system().scheduler().num_workers());
    for (std::size_t i = 0; i < workers; ++i) offline_.push_back(spawn<caf::linked>(offline_worker, context_));
    return {
        [this](extract_atom, RequestPtr request) { return pass_on(std::move(request)); },
        [this](lease_atom, const LeaseRequest& wanted) { ask(wanted); },
        [this](settle_atom, LeaseId lease, const Settlement& settlement) { settle(lease, settlement); },
        [this](model_status_atom) { return status(); },
        [this](tick_atom) {
          tick_at_ = Instant::max();
          advance();
        },
    };
  }

  const char* name() const override { return "model supervisor"; }

  void on_exit() override {
    for (const auto& call : context_->live->take())
      if (const auto alive = caf::actor_cast<caf::actor>(call)) send_exit(alive, caf::exit_reason::user_shutdown);
    asking_.clear();
    holders_.clear();
    offline_.clear();
  }

 private:
  struct Asking {
    caf::response_promise promise;
    caf::actor caller;
  };

  caf::delegated<OutcomePtr> pass_on(RequestPtr request) {
    // What no provider can do now needs no actor of its own: the pool answers offline, in parallel.
    if (desk_.any_usable(clock().now())) {
      const auto call = spawn<CallActor>(caf::actor_cast<caf::actor>(this), context_);
      context_->live->add(call);
      delegate(call, extract_atom::value, std::move(request));
    } else {
      delegate(offline_[next_offline_++ % offline_.size()], extract_atom::value, std::move(request));
    }
    return {};
  }

  void ask(const LeaseRequest& wanted) {
    const auto ticket = desk_.ask(wanted, clock().now());
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
    report(provider, desk_.settle(lease, settlement, clock().now()), to_string(settlement.error));
    advance();
    show_in_flight(provider);
  }

  void advance() {
    const auto round = desk_.advance(clock().now());
    for (const auto& [ticket, grant] : round.decisions) decide(ticket, grant);
    for (const auto lease : round.expired) {
      const auto held = holders_.find(lease);
      const auto [holder, provider] = held->second;
      holders_.erase(held);
      send(holder, lease_expired_atom::value, lease);
      show_in_flight(provider);
    }
    for (const auto provider : round.opened) report(provider, LeaseDesk::Verdict::opened, "timeout");
    for (const auto provider : round.refused_by_budget) context_->metrics->refused_by_budget(context_->providers[provider].name);
    context_->metrics->queue_depth(static_cast<std::int64_t>(desk_.waiting()));
    set_timer();
  }

  void decide(LeaseDesk::Ticket ticket, const LeaseGrant& grant) {
    auto asked = asking_.extract(ticket);
    ONBOARDING_ASSERT(!asked.empty(), "a ticket is decided once");
    if (grant.status == LeaseStatus::granted) {
      holders_.emplace(grant.id, Holder{std::move(asked.mapped().caller), grant.provider});
      show_in_flight(grant.provider);
    }
    asked.mapped().promise.deliver(grant);
  }

  // CAF's delayed messages cannot be taken back: one that is no longer needed finds nothing to do.
  void set_timer() {
    const auto next = desk_.next_event();
    if (!next || *next >= tick_at_) return;
    tick_at_ = *next;
    delayed_send(this, std::max<std::chrono::nanoseconds>(*next - clock().now(), std::chrono::nanoseconds(1)), tick_atom::value);
  }

  void report(std::uint32_t provider, LeaseDesk::Verdict verdict, std::string_view error) {
    const auto& name = context_->providers[provider].name;
    if (verdict == LeaseDesk::Verdict::opened) spdlog::warn("model provider {} is failing ({}): its breaker is open", name, error);
    if (verdict == LeaseDesk::Verdict::opened_for_long)
      spdlog::error("alert: model provider {} refuses us ({}): check its key and its account; its breaker is open for long", name, error);
  }

  void show_in_flight(std::uint32_t provider) {
    context_->metrics->in_flight(context_->providers[provider].name, desk_.budget(provider).in_flight());
  }

  ModelStatusPtr status() {
    auto s = std::make_shared<ModelStatus>();
    for (std::uint32_t p = 0; p < context_->providers.size(); ++p) s->providers.push_back(desk_.status(p));
    s->offline_enabled = context_->offline_enabled;
    s->waiting = static_cast<std::int64_t>(desk_.waiting());
    return s;
  }

  struct Holder {
    caf::actor actor;
    std::uint32_t provider = 0;
  };

  LeaseDesk desk_;
  std::shared_ptr<const CallContext> context_;
  std::vector<caf::actor> offline_;
  std::size_t next_offline_ = 0;
  std::map<LeaseDesk::Ticket, Asking> asking_;
  std::map<LeaseId, Holder> holders_;
  Instant tick_at_ = Instant::max();
};

}  // namespace

caf::actor spawn_supervisor(caf::actor_system& system, SupervisorOptions options) {
  ONBOARDING_ASSERT(options.providers.size() == options.clients.size(), "each provider has its client");
  ONBOARDING_ASSERT(options.providers.empty() || options.clock, "deadlines of calls need the clock");
  return system.spawn<Supervisor>(std::move(options));
}

}  // namespace onboarding::model
