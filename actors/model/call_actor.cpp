#include "actors/model/call_actor.hpp"

#include <spdlog/spdlog.h>
#include <caf/all.hpp>

#include <exception>

#include "actors/model/answer.hpp"
#include "actors/model/prompt.hpp"
#include "events/pricing/pricing.hpp"

namespace onboarding::model {

using CallResultPtr = std::shared_ptr<CallResult>;
using FoundPtr = std::shared_ptr<FaqVectors::Found>;

}  // namespace onboarding::model

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(onboarding::model::CallResultPtr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(onboarding::model::FoundPtr)

namespace onboarding::model {
namespace {

using call_done_atom = caf::atom_constant<caf::atom("calldone")>;
using looked_up_atom = caf::atom_constant<caf::atom("lookedup")>;
using retry_atom = caf::atom_constant<caf::atom("callretry")>;

// Within one activation: enough for a bad answer and two providers that are down, few enough for somebody who waits.
constexpr std::size_t kMaxAttempts = 4;
// Before the same providers are asked again.
constexpr std::chrono::milliseconds kBackoff{100};
// Kept of a raw answer in the log, for whoever looks into a failure.
constexpr std::size_t kMaxRawAnswerBytes = 16 * 1024;

// Of our estimates, which are upper ones: what a provider may count at most before it is not believed.
constexpr std::int64_t kUsageFactor = 4, kUsageSlack = 2'000;

// What of the history a shortened prompt keeps.
constexpr std::size_t kShortHistory = 2;

std::uint64_t key_of(const std::string& id) { return std::hash<std::string>{}(id); }

bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n") == std::string_view::npos; }

const char* reason_of(LeaseStatus status) {
  switch (status) {
    case LeaseStatus::deadline: return "deadline";
    case LeaseStatus::queue_full: return "queue_full";
    case LeaseStatus::plan_limit: return "plan_limit";
    default: return "no_provider";
  }
}

std::string bounded(const std::string& text) {
  auto end = std::min(text.size(), kMaxRawAnswerBytes);
  while (end < text.size() && end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end);
}

}  // namespace

void CallActors::add(const caf::actor& call) {
  std::lock_guard lock(mutex_);
  calls_.insert(call.address());
}

void CallActors::remove(const caf::actor_addr& call) {
  std::lock_guard lock(mutex_);
  calls_.erase(call);
}

std::vector<caf::actor> CallActors::take() {
  std::lock_guard lock(mutex_);
  std::vector<caf::actor> all;
  for (const auto& call : calls_)
    if (auto alive = caf::actor_cast<caf::actor>(call)) all.push_back(std::move(alive));
  calls_.clear();
  resting_.clear();
  return all;
}

caf::actor CallActors::wake() {
  std::lock_guard lock(mutex_);
  if (resting_.empty()) return nullptr;
  auto call = std::move(resting_.back());
  resting_.pop_back();
  return call;
}

bool CallActors::rest(caf::actor call) {
  std::lock_guard lock(mutex_);
  if (resting_.size() >= enough || !calls_.contains(call.address())) return false;
  resting_.push_back(std::move(call));
  return true;
}

OutcomePtr offline_outcome(const CallContext& context, const ExtractionRequest& request, std::string failure,
                           std::string fallback_reason, std::vector<domain::LlmCall> calls) {
  auto outcome = std::make_shared<ExtractionOutcome>();
  outcome->calls = std::move(calls);
  if (context.offline_enabled) {
    try {
      outcome->answer = extract_offline(request);
    } catch (const std::exception& e) { spdlog::error("offline extractor: turn {}: {}", request.turn_id, e.what()); }
    context.metrics->extracted_offline(outcome->answer.has_value());
  }
  if (outcome->answer) {
    outcome->source = "offline";
    outcome->fallback_reason = std::move(fallback_reason);
  } else {
    outcome->failure = std::move(failure);
  }
  return outcome;
}

namespace {

std::shared_ptr<ExtractionOutcome> cached(domain::ModelAnswer answer) {
  auto outcome = std::make_shared<ExtractionOutcome>();
  outcome->answer = std::move(answer);
  outcome->source = "cache";
  return outcome;
}

}  // namespace

OutcomePtr faq_outcome(const CallContext& context, const ExtractionRequest& request) {
  auto answer = context.cache->from_faq(request);
  if (!answer) return nullptr;
  context.metrics->looked_up("faq");
  return cached(std::move(*answer));
}

OutcomePtr outcome_without_network(const CallContext& context, const ExtractionRequest& request) {
  if (auto known = faq_outcome(context, request)) return known;
  return offline_outcome(context, request, "no_provider", context.providers.empty() ? "" : "no_provider");
}

caf::behavior offline_worker(caf::event_based_actor* self, std::shared_ptr<const CallContext> context) {
  (void)self;
  return {[context = std::move(context)](extract_atom, const RequestPtr& request) {
    return outcome_without_network(*context, *request);
  }};
}

CallActor::CallActor(caf::actor_config& config, caf::actor supervisor, std::shared_ptr<const CallContext> context)
    : event_based_actor(config), supervisor_(std::move(supervisor)), context_(std::move(context)) {}

caf::behavior CallActor::make_behavior() {
  return {
      [this](extract_atom, RequestPtr request) {
        promise_ = make_response_promise();
        begin(std::move(request));
      },
      [this](call_done_atom, LeaseId lease, const CallResultPtr& result) {
        if (lease == call_.lease) on_result(std::move(*result));
      },
      [this](lease_expired_atom, LeaseId lease) {
        if (lease != call_.lease) return;
        CallResult lost;
        lost.error = CallError::timeout;
        lost.was_sent = true;
        on_result(std::move(lost));
      },
      [this](looked_up_atom, const FoundPtr& found) { on_looked_up(std::move(*found)); },
      [this](retry_atom) { ask_for_lease(); },
  };
}

void CallActor::begin(RequestPtr request) {
  request_ = std::move(request);
  const auto left = request_->deadline - context_->clock->now();
  deadline_ = clock().now() + std::max<std::chrono::nanoseconds>(left, std::chrono::nanoseconds(0));
  plan_ = context_->plan_of(request_->plan);
  if (auto known = faq_outcome(*context_, *request_)) return conclude(std::move(known));
  prompt_ = std::make_shared<const Prompt>(build_prompt(*request_, context_->canary));
  cache_key_ = context_->cache->key(*request_, *prompt_, context_->models[plan_]);
  if (!cache_key_.empty()) {
    auto kept = context_->cache->find(cache_key_);
    context_->metrics->looked_up(kept ? "exact" : "miss");
    if (kept) return conclude(cached(std::move(*kept)));
  }
  if (context_->faq_vectors) look_up_by_meaning();
  else ask_for_lease();
}

const std::shared_ptr<CallActor::ReturnAddress>& CallActor::own_address() {
  if (!address_) {
    address_ = std::make_shared<ReturnAddress>();
    address_->actor = caf::actor_cast<caf::actor>(this);
  }
  return address_;
}

void CallActor::look_up_by_meaning() {
  context_->faq_vectors->find(*request_, clock().now(), [address = own_address()](FaqVectors::Found found) {
    std::lock_guard lock(address->mutex);
    if (address->actor)
      caf::anon_send(address->actor, looked_up_atom::value, std::make_shared<FaqVectors::Found>(std::move(found)));
  });
}

void CallActor::on_looked_up(FaqVectors::Found found) {
  if (found.call) {
    context_->metrics->called(*found.call, found.call->model, -1, "embeddings");
    context_->metrics->looked_up(found.answer ? "embedding" : "embedding_miss");
    calls_.push_back(std::move(*found.call));
  }
  if (!found.answer) return ask_for_lease();
  context_->cache->count_semantic_hit();
  auto outcome = cached(std::move(*found.answer));
  outcome->calls = std::move(calls_);
  conclude(std::move(outcome));
}

void CallActor::ask_for_lease() {
  LeaseRequest wanted;
  wanted.priority = request_->priority;
  wanted.deadline = deadline_;
  wanted.input_tokens = prompt_->estimated_input_tokens;
  wanted.output_tokens = prompt_->max_output_tokens;
  wanted.avoid = avoid_;
  wanted.exclude = exclude_ | (only_ != 0 ? ~only_ : 0);
  wanted.plan = plan_;
  wanted.session = key_of(request_->session_id);
  wanted.turn = key_of(request_->turn_id);
  wanted.flow = key_of(request_->flow->name);
  wanted.script = script_of(request_->message);
  wanted.again = attempts_ > 0;
  wanted.arrived = request_->arrived.time_since_epoch().count();
  wanted.further = static_cast<std::uint32_t>(std::max<std::size_t>(request_->missing.size(), 1) - 1);
  request(supervisor_, caf::infinite, lease_atom::value, wanted)
      .then([this](const LeaseGrant& grant) { on_grant(grant); },
            [this](const caf::error&) { conclude_offline("no_provider"); });  // the supervisor has ended
}

void CallActor::on_grant(const LeaseGrant& grant) {
  if (grant.status == LeaseStatus::no_provider && only_ != 0) {
    only_ = 0;
    return ask_for_lease();
  }
  only_ = 0;
  if (grant.status != LeaseStatus::granted) return conclude_offline(reason_of(grant.status));
  call_ = {grant.id, grant.provider, context_->clock->now(), clock().now()};
  auto done = [address = own_address(), lease = grant.id](CallResult result) {
    std::lock_guard lock(address->mutex);
    if (address->actor)
      caf::anon_send(address->actor, call_done_atom::value, lease, std::make_shared<CallResult>(std::move(result)));
  };
  const auto& model = context_->models[plan_][grant.provider];
  if (model == context_->providers[grant.provider].model) {
    context_->clients[grant.provider]->call(*prompt_, grant.timeout, open_stream(), std::move(done));
  } else {
    auto prompt = *prompt_;
    prompt.model = model;
    context_->clients[grant.provider]->call(prompt, grant.timeout, open_stream(), std::move(done));
  }
}

TextSink CallActor::open_stream() {
  if (!request_->watch || !request_->watch->watched()) return nullptr;
  stream_ = std::make_shared<Stream>(context_->canary, request_->watch, shown_, supervisor_, call_.lease);
  return [stream = stream_](std::string_view piece) {
    std::lock_guard lock(stream->mutex);
    if (!stream->open) return;
    if (const auto supervisor = std::exchange(stream->supervisor, nullptr))
      caf::anon_send(supervisor, began_atom::value, stream->lease);
    const auto text = stream->reader.feed(piece);
    if (text.empty()) return;
    stream->watch->write(text, std::exchange(stream->restart, false));
    stream->shown = true;
  };
}

void CallActor::close_stream() {
  if (!stream_) return;
  std::lock_guard lock(stream_->mutex);
  stream_->open = false;
  stream_->supervisor = nullptr;
  shown_ = shown_ || stream_->shown;
}

void CallActor::on_result(CallResult result) {
  close_stream();
  domain::ModelAnswer answer;
  if (result.error == CallError::none) {
    if (auto parsed = parse_answer(result.answer, *request_->flow, context_->canary)) answer = std::move(*parsed);
    else result.error = CallError::invalid_answer, result.detail = std::move(parsed.error());
  }
  const bool usage_refused = doubt(result.usage);
  record(result);
  settle(result, usage_refused);
  const auto provider = call_.provider;
  call_ = {};
  if (result.error == CallError::none) {
    if (drop_unsaid(answer, *request_) > 0) context_->metrics->decided("unsaid_value", context_->providers[provider].name);
    context_->cache->keep(cache_key_, answer, request_->user_key);
    auto outcome = std::make_shared<ExtractionOutcome>();
    outcome->answer = std::move(answer);
    outcome->source = context_->providers[provider].name;
    outcome->calls = std::move(calls_);
    return conclude(std::move(outcome));
  }
  spdlog::warn("model call failed: provider {} turn {} error {} latency_ms {} detail {}", context_->providers[provider].name,
               request_->turn_id, to_string(result.error), calls_.back().latency_ms, result.detail);
  remedy(result, provider);
  try_next(result.error);
}

// What the provider wrote stays in `raw`, for whoever looks into it.
bool CallActor::doubt(domain::Usage& usage) const {
  const auto most = [](std::int64_t estimate) { return kUsageFactor * estimate + kUsageSlack; };
  usage.cached_input_tokens = std::min(usage.cached_input_tokens, usage.input_tokens);
  if (usage.input_tokens <= most(prompt_->estimated_input_tokens) && usage.output_tokens <= most(prompt_->max_output_tokens))
    return false;
  domain::Usage unknown;
  unknown.raw = std::move(usage.raw);
  usage = std::move(unknown);
  return true;
}

void CallActor::settle(CallResult& result, bool usage_refused) {
  Settlement s;
  s.usage_refused = usage_refused;
  s.error = result.error;
  s.input_tokens = result.usage.input_tokens;
  s.output_tokens = result.usage.output_tokens;
  s.cached_input_tokens = std::max<std::int64_t>(result.usage.cached_input_tokens, 0);
  s.was_sent = result.was_sent;
  s.retry_after = result.retry_after;
  s.day_limit = result.day_limit;
  s.remaining = std::move(result.remaining);
  s.limits = std::move(result.limits);
  s.reset = std::move(result.reset);
  if (context_->cost && result.usage.input_tokens >= 0)
    s.nanodollars = context_->cost(context_->providers[call_.provider].name, calls_.back().model, result.usage, call_.started_at);
  send(supervisor_, settle_atom::value, call_.lease, s);
}

void CallActor::remedy(const CallResult& result, std::uint32_t provider) {
  const ProviderSet bit = 1u << provider;
  // A blank answer is a hiccup that providers know of themselves (DeepSeek): once more there, then elsewhere.
  if (result.error == CallError::invalid_answer && is_blank(result.answer) && !asked_blank_again_) {
    asked_blank_again_ = true;
    only_ = bit;
    return;
  }
  switch (remedy_of(result.error)) {
    case Remedy::none: return;
    case Remedy::wait:
    case Remedy::move_on:
      // A request that is wrong for it stays so.
      (result.error == CallError::bad_request ? exclude_ : avoid_) |= bit;
      return;
    case Remedy::once:
      ++tried_once_;
      (result.error == CallError::invalid_answer ? avoid_ : exclude_) |= bit;
      return;
    case Remedy::shorten:
      if (!shortened_ && request_->history.size() > kShortHistory) {
        shortened_ = true;
        auto shorter = *request_;
        shorter.history.erase(shorter.history.begin(), shorter.history.end() - kShortHistory);
        prompt_ = std::make_shared<const Prompt>(build_prompt(shorter, context_->canary));
        only_ = bit;
        return;
      }
      exclude_ |= bit;
      return;
    case Remedy::never:
    case Remedy::alert: exclude_ |= bit; return;
  }
}

void CallActor::record(const CallResult& result) {
  const auto& settings = context_->providers[call_.provider];
  domain::LlmCall call;
  call.attempt = static_cast<std::uint32_t>(++attempts_);
  call.provider = settings.name;
  call.model = result.served_model.empty() ? context_->models[plan_][call_.provider] : result.served_model;
  call.prompt_version = kPromptVersion;
  call.price_version = pricing::price_version();
  call.usage = result.usage;
  call.started_at = call_.started_at;
  call.latency_ms = result.latency_ms > 0
                        ? result.latency_ms
                        : std::chrono::duration_cast<std::chrono::milliseconds>(clock().now() - call_.started).count();
  call.raw_answer = bounded(result.answer);
  if (result.error != CallError::none) {
    call.error = to_string(result.error);
    call.origin = result.error == CallError::cancelled ? "self" : "provider";
  }
  context_->metrics->called(call, context_->models[plan_][call_.provider], result.first_token_ms);
  calls_.push_back(std::move(call));
}

// Others first, at once; once all were tried, after a pause. None is needed after a 429, for which the supervisor holds the
// provider's budget, nor when this provider is out of the question or is asked for something else.
void CallActor::try_next(CallError error) {
  if (clock().now() >= deadline_) return conclude_offline("deadline");
  if (tried_once_ > 1) return conclude_offline("no_provider", to_string(error));
  if (attempts_ >= kMaxAttempts || error == CallError::cancelled) return conclude_offline("no_provider", to_string(error));
  const auto todo = remedy_of(error);
  const auto all = static_cast<ProviderSet>((std::uint64_t{1} << context_->providers.size()) - 1);
  const bool others = (all & ~(avoid_ | exclude_)) != 0;
  const bool may_pass = todo == Remedy::move_on || error == CallError::invalid_answer;
  if (others || !may_pass || error == CallError::bad_request || only_ != 0) return ask_for_lease();
  delayed_send(this, kBackoff * (1 << (attempts_ - 1)), retry_atom::value);
}

void CallActor::conclude_offline(const char* failure, std::string_view why) {
  if (why.empty()) why = failure;
  spdlog::info("model turn answered offline: turn {} reason {} attempts {}", request_->turn_id, why, attempts_);
  if (supervisor_) send(supervisor_, answered_offline_atom::value, std::string(why));
  conclude(offline_outcome(*context_, *request_, failure, std::string(why), std::move(calls_)));
}

// Ended from outside, with the supervisor: whoever waits is told that there is no outcome, so that the turn stays open.
void CallActor::on_exit() {
  context_->actors->remove(address());
  if (promise_.pending()) promise_.deliver(caf::make_error(caf::exit_reason::user_shutdown));
  close_stream();
  supervisor_ = nullptr;
  if (!address_) return;
  std::lock_guard lock(address_->mutex);
  address_->actor = nullptr;
}

void CallActor::conclude(OutcomePtr outcome) {
  promise_.deliver(std::move(outcome));
  static_cast<RequestInHand&>(*this) = {};
  if (!context_->actors->rest(caf::actor_cast<caf::actor>(this))) quit();
}

}  // namespace onboarding::model
