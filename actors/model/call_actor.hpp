// One extraction at a time by one actor: the network way (as many as are under way) and the offline way (a small pool).
// Both answer exactly one OutcomePtr to each (extract_atom, RequestPtr), whatever happens. They run on any actor thread.
#pragma once

#include <caf/actor.hpp>
#include <caf/actor_addr.hpp>
#include <caf/event_based_actor.hpp>

#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "actors/model/cache/answer_cache.hpp"
#include "actors/model/cache/faq_vectors.hpp"
#include "actors/model/metrics.hpp"
#include "actors/model/reply_reader.hpp"
#include "actors/model/supervisor.hpp"

namespace onboarding::model {

/// The lease ran out before the call was settled; sent by the supervisor to whoever holds it.
using lease_expired_atom = caf::atom_constant<caf::atom("leaseexp")>;

/// The call actors of a supervisor: so that it can end them, and give the next request to one that has nothing to do, because
/// each end of an actor costs a spawn and a round through the thread of CAF's clock. Neither links nor monitors: each exit
/// would walk all of the supervisor's, or cost it a message.
class CallActors {
 public:
  void add(const caf::actor& call);
  void remove(const caf::actor_addr& call);
  /// All, for the end: from now on there are none.
  std::vector<caf::actor> take();

  /// One that rests; null: there is none.
  caf::actor wake();
  /// False when enough rest already: then it ends.
  bool rest(caf::actor call);

 private:
  static constexpr std::size_t enough = 1024;

  std::mutex mutex_;
  std::set<caf::actor_addr> calls_;
  std::vector<caf::actor> resting_;
};

/// Why a turn was answered offline though there are providers; to the supervisor.
using answered_offline_atom = caf::atom_constant<caf::atom("offlined")>;

/// What all call actors of a supervisor share; immutable but for what locks itself.
struct CallContext {
  std::vector<ProviderSettings> providers;
  std::vector<std::shared_ptr<ProviderClient>> clients;  // same order
  bool offline_enabled = true;
  const Clock* clock = nullptr;
  std::string canary;
  std::map<std::string, std::uint32_t, std::less<>> plans;  // name → LeaseRequest::plan
  std::uint32_t unknown_plan = 0;                           // the most limited one
  std::vector<std::vector<std::string>> models;             // of each such plan, of each provider
  CostOf cost;                                              // may be empty
  std::shared_ptr<AnswerCache> cache;                       // never null
  std::shared_ptr<FaqVectors> faq_vectors;                  // null: off
  std::shared_ptr<ModelMetrics> metrics;
  std::shared_ptr<CallActors> actors = std::make_shared<CallActors>();

  /// LeaseRequest::plan of a session's plan. One that is configured no more gets no more than the most limited of those that are.
  std::uint32_t plan_of(std::string_view name) const {
    const auto found = plans.find(name.empty() ? kDefaultPlan : name);
    if (found != plans.end()) return found->second;
    return name.empty() || name == kDefaultPlan ? 0 : unknown_plan;
  }
};

/// The extractor's answer, with why no provider gave one, or none with `failure` as the reason.
OutcomePtr offline_outcome(const CallContext&, const ExtractionRequest&, std::string failure, std::string fallback_reason,
                           std::vector<domain::LlmCall> calls = {});

/// What the flow's FAQ says to the message; null: it must be read.
OutcomePtr faq_outcome(const CallContext&, const ExtractionRequest&);

/// What needs no provider: the FAQ's answer, else the extractor's.
OutcomePtr outcome_without_network(const CallContext&, const ExtractionRequest&);

/// Answers offline only; lives as long as its supervisor.
caf::behavior offline_worker(caf::event_based_actor*, std::shared_ptr<const CallContext>);

/// What a call actor has of the request in hand; another request begins with a new one.
class RequestInHand {
 protected:
  struct Call {
    LeaseId lease = 0;
    std::uint32_t provider = 0;
    domain::Timestamp started_at;
    Instant started;
  };

  // What watches the answer being written, on the client's thread. Closed when its call has ended, so that the text of a call
  // that was given up cannot mix with the next one's.
  struct Stream {
    Stream(std::string_view canary, std::shared_ptr<ReplyWatch> watch, bool restart, caf::actor supervisor, LeaseId lease)
        : reader(canary), watch(std::move(watch)), restart(restart), supervisor(std::move(supervisor)), lease(lease) {}
    std::mutex mutex;
    ReplyReader reader;
    const std::shared_ptr<ReplyWatch> watch;
    bool restart;  // before the first text: what an earlier call wrote is void
    bool shown = false;
    caf::actor supervisor;  // to be told of the first words; null: it was, or there is nothing to tell any more
    LeaseId lease;
    bool open = true;
  };

  caf::response_promise promise_;
  RequestPtr request_;
  std::shared_ptr<const Prompt> prompt_;
  Instant deadline_;
  Call call_;  // the one in flight; lease 0: none
  ProviderSet avoid_ = 0, exclude_ = 0;
  ProviderSet only_ = 0;  // the next attempt goes there, if it can; 0: anywhere
  bool shortened_ = false, asked_blank_again_ = false;
  int tried_once_ = 0;  // answers whose remedy is one more try
  std::uint32_t plan_ = 0;
  std::shared_ptr<Stream> stream_;  // of the call in flight, where somebody watches
  bool shown_ = false;              // a call before it showed text
  std::vector<domain::LlmCall> calls_;
  std::size_t attempts_ = 0;  // of the calls: those that asked for an answer
  std::string cache_key_;     // empty: the answer is not kept
};

/// Answers a request: prompt, lease, call, parse, settle, and the next provider while there is time. Then it rests until the
/// next one, or ends.
class CallActor : public caf::event_based_actor, private RequestInHand {
 public:
  CallActor(caf::actor_config&, caf::actor supervisor, std::shared_ptr<const CallContext>);
  caf::behavior make_behavior() override;
  const char* name() const override { return "model call"; }
  void on_exit() override;

 private:
  // A client calls back from its own thread, perhaps after this actor, or even the actor system, has ended: what it holds
  // is emptied when the actor ends.
  struct ReturnAddress {
    std::mutex mutex;
    caf::actor actor;
  };

  void begin(RequestPtr);
  const std::shared_ptr<ReturnAddress>& own_address();
  void look_up_by_meaning();
  void on_looked_up(FaqVectors::Found);
  TextSink open_stream();
  void close_stream();
  void ask_for_lease();
  void on_grant(const LeaseGrant&);
  void on_result(CallResult);
  /// Takes out of the usage what cannot be. True: all of it was such.
  bool doubt(domain::Usage&) const;
  void record(const CallResult&);
  void settle(CallResult&, bool usage_refused);
  /// What the error's remedy says: whom to ask next, and with what.
  void remedy(const CallResult&, std::uint32_t provider);
  void try_next(CallError);
  /// `why`, where it is not the same, is for whoever runs the servers.
  void conclude_offline(const char* failure, std::string_view why = {});
  void conclude(OutcomePtr);

  caf::actor supervisor_;
  std::shared_ptr<const CallContext> context_;
  std::shared_ptr<ReturnAddress> address_;  // none before the first call of any kind
};

}  // namespace onboarding::model
