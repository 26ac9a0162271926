#include "events/domain/session.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <iterator>

#include "events/domain/assertion.hpp"
#include "events/domain/replies.hpp"
#include "events/domain/text.hpp"

namespace onboarding::domain {

namespace {

using Events = std::vector<Event>;
using Decision = tl::expected<Events, Rejection>;

constexpr std::size_t max_stored_value_bytes = 4096;    // a refused value, as said
constexpr std::size_t max_stored_answer_bytes = 65536;  // a raw model answer

// ---- fields

const FieldState& state_of(const FieldStates& fields, const FieldSpec& spec) {
  static const FieldState untouched;
  const auto found = fields.find(spec.name);
  return found == fields.end() ? untouched : found->second;
}

/// Whether the flow's field number `i` applies. Conditions name an earlier field; `earlier` says which of those apply: a
/// value of a field that no longer applies counts as no value.
bool applies(const Flow& flow, std::size_t i, const FieldStates& fields, const std::vector<bool>& earlier) {
  const auto& when = flow.fields[i].when;
  if (!when) return true;
  bool is = false;
  for (std::size_t j = 0; j < i; ++j) {
    if (flow.fields[j].name != when->field) continue;
    const auto& value = state_of(fields, flow.fields[j]).value;
    is = earlier[j] && value && value->canonical == when->value;
  }
  return when->op == Condition::Operator::is ? is : !is;
}

std::vector<bool> applying(const Flow& flow, const FieldStates& fields) {
  std::vector<bool> out;
  out.reserve(flow.fields.size());
  for (std::size_t i = 0; i < flow.fields.size(); ++i) out.push_back(applies(flow, i, fields, out));
  return out;
}

bool open(const FieldState& field) { return !field.value && !field.declined; }

/// An optional field is asked once: whoever passes over it has declined without a word.
bool missing(const FieldSpec& spec, const FieldState& field) { return open(field) && (spec.required || field.times_asked == 0); }

std::vector<const FieldSpec*> missing(const Flow& flow, const FieldStates& fields) {
  const std::vector<bool> applies = applying(flow, fields);
  std::vector<const FieldSpec*> out;
  for (std::size_t i = 0; i < flow.fields.size(); ++i)
    if (applies[i] && missing(flow.fields[i], state_of(fields, flow.fields[i]))) out.push_back(&flow.fields[i]);
  return out;
}

std::vector<std::uint8_t> missing_places(const State& state) {
  std::vector<std::uint8_t> places;
  if (state.status == SessionStatus::erased) return places;
  const auto specs = missing(*state.flow, state.fields);
  places.reserve(specs.size());
  for (const FieldSpec* spec : specs) places.push_back(static_cast<std::uint8_t>(spec - state.flow->fields.data()));
  return places;
}

bool nothing_required(const std::vector<const FieldSpec*>& missing_specs) {
  return std::none_of(missing_specs.begin(), missing_specs.end(), [](const FieldSpec* spec) { return spec->required; });
}

// ---- turns

bool concluded(const Turn& turn) { return turn.status == TurnStatus::answered || turn.status == TurnStatus::failed; }

Turn& turn_of(State& state, std::string_view turn_id) {
  const auto found = std::find_if(state.turns.rbegin(), state.turns.rend(), [&](const Turn& t) { return t.turn_id == turn_id; });
  ONBOARDING_ASSERT(found != state.turns.rend(), "an event of a turn follows the turn's message");
  return *found;
}

const Turn* first_waiting(const State& state) {
  const auto found =
      std::find_if(state.turns.begin(), state.turns.end(), [](const Turn& t) { return t.status == TurnStatus::waiting; });
  return found == state.turns.end() ? nullptr : &*found;
}

void start_next(const State& state, Events& events) {
  if (const Turn* next = first_waiting(state)) events.push_back(TurnStarted{next->turn_id, next->activation + 1u});
}

void fail(const State& state, const Turn& turn, std::string reason, Events& events) {
  events.push_back(TurnFailed{turn.turn_id, std::move(reason)});
  events.push_back(AssistantReplied{turn.turn_id, technical_difficulties(), {}, "none", true});
  start_next(state, events);
}

// ---- decisions

Decision rejected(Rejection why) { return tl::make_unexpected(why); }

Decision decide_on(const State& state, const StartSession& command, const Facts&) {
  if (state.status != SessionStatus::none) {
    const bool same = ShortHash(command.idempotency_key_hash) == state.idempotency_key_hash &&
                      ShortHash(command.request_fingerprint) == state.request_fingerprint;
    return same ? Decision(Events{}) : rejected(Rejection::key_reused);
  }
  ONBOARDING_ASSERT(command.flow != nullptr, "a session starts on a flow");
  Reply greeting = greet(*command.flow);
  return Events{SessionStarted{command.user_id, command.flow->name, command.flow->version, command.variant, command.plan,
                               command.locale.empty() ? command.flow->locale : command.locale, 1, command.token_hash,
                               command.vouched, command.idempotency_key_hash, command.request_fingerprint,
                               std::move(greeting.text), std::move(greeting.asks)}};
}

std::optional<Rejection> refuse_message(const State& state, const ReceiveMessage& command, const Facts& facts) {
  const Limits& limits = facts.limits;
  if (command.text.size() > limits.max_message_bytes) return Rejection::message_too_long;
  if (!is_text(command.text)) return Rejection::message_not_text;
  if (is_blank(command.text)) return Rejection::message_empty;
  if (state.status == SessionStatus::completed && facts.now > *state.completed_at + limits.close_after) return Rejection::closed;
  if (state.turns.size() >= limits.max_messages) return Rejection::too_many_messages;
  const auto waiting =
      std::count_if(state.turns.begin(), state.turns.end(), [](const Turn& turn) { return turn.status == TurnStatus::waiting; });
  if (static_cast<std::uint64_t>(waiting) >= limits.max_waiting_turns && pending_turn(state)) return Rejection::too_many_waiting;
  return std::nullopt;
}

Decision decide_on(const State& state, const ReceiveMessage& command, const Facts& facts) {
  const Turn* known = find_turn(state, command.turn_id);
  if (!known) known = find_turn_by_key(state, command.idempotency_key_hash);
  if (known) {
    const bool same = known->request_fingerprint == ShortHash(command.request_fingerprint);
    return same ? Decision(Events{}) : rejected(Rejection::key_reused);
  }
  if (const auto refusal = refuse_message(state, command, facts)) return rejected(*refusal);

  Events events;
  if (state.status == SessionStatus::abandoned) events.push_back(SessionResumed{});
  events.push_back(MessageReceived{command.turn_id, command.text, command.idempotency_key_hash, command.request_fingerprint});
  if (!command.queue_reason.empty()) events.push_back(TurnQueued{command.turn_id, command.queue_reason});
  if (!pending_turn(state)) events.push_back(TurnStarted{command.turn_id, 1});
  return events;
}

Decision decide_on(const State& state, const StartTurn& command, const Facts& facts) {
  const Turn* turn = find_turn(state, command.turn_id);
  if (!turn) return rejected(Rejection::unknown_turn);
  const bool next = command.activation == 0 || command.activation == turn->activation + 1u;
  Events events;
  if (turn != pending_turn(state) || !next) return events;
  if (turn->activation >= (turn->queued ? facts.limits.max_queued_activations : facts.limits.max_activations))
    fail(state, *turn, "activations_exhausted", events);
  else events.push_back(TurnStarted{turn->turn_id, turn->activation + 1u});
  return events;
}

Decision decide_on(const State& state, const QueueTurn& command, const Facts&) {
  const Turn* turn = find_turn(state, command.turn_id);
  if (!turn) return rejected(Rejection::unknown_turn);
  if (turn->queued || concluded(*turn)) return Events{};
  return Events{TurnQueued{turn->turn_id, command.reason}};
}

void record_calls(const ConcludeTurn& command, Events& events) {
  for (const LlmCall& call : command.calls) {
    events.push_back(
        LlmCallStarted{command.turn_id, call.attempt, call.provider, call.model, call.prompt_version, call.started_at});
    Usage usage = call.usage;
    usage.raw = to_text(usage.raw, max_stored_answer_bytes);
    Personal raw_answer(to_text(call.raw_answer, max_stored_answer_bytes));
    if (call.error.empty())
      events.push_back(LlmCallSucceeded{command.turn_id, call.attempt, call.provider, call.model, call.prompt_version,
                                        call.price_version, std::move(usage), call.latency_ms, std::move(raw_answer)});
    else
      events.push_back(LlmCallFailed{command.turn_id, call.attempt, call.provider, call.model, call.prompt_version,
                                     call.price_version, std::move(usage), call.latency_ms, call.error, call.origin,
                                     std::move(raw_answer)});
  }
}

/// What the answer's values come to, field by field: events are appended, `fields` and `outcome` are brought up to date.
class Reading {
 public:
  Reading(const std::string& turn_id, FieldStates& fields, Events& events, TurnOutcome& outcome)
      : turn_id_(turn_id), fields_(fields), events_(events), outcome_(outcome) {}

  void read(const FieldSpec& spec, const std::string& as_said) {
    FieldState& field = fields_[spec.name];
    // "no thanks" is an answer to a yes-no question, and a choice may have an option for it.
    const bool may_be_a_value = spec.type == FieldType::boolean || spec.type == FieldType::choice;
    if (!may_be_a_value && is_declining(as_said)) return decline(spec, field, as_said);
    auto value = parse_field(spec, as_said);
    if (value) return accept(spec, field, std::move(*value));
    if (may_be_a_value && is_declining(as_said)) return decline(spec, field, as_said);
    refuse(spec, field, as_said, value.error());
  }

 private:
  void accept(const FieldSpec& spec, FieldState& field, FieldValue value) {
    if (field.value == value) return;
    if (field.value) events_.push_back(FieldCorrected{turn_id_, spec.name, value, spec.sensitive});
    else events_.push_back(FieldExtracted{turn_id_, spec.name, value, spec.sensitive});
    field.value = std::move(value);
    field.declined = false;
    outcome_.accepted.push_back(&spec);
  }

  void decline(const FieldSpec& spec, FieldState& field, const std::string& as_said) {
    // A required field that is known keeps its value: "no" to something else is no reason to lose it.
    if (spec.required && field.value) return;
    if (spec.required) return refuse(spec, field, as_said, Refusal{"required", why_required(spec)});
    if (!field.value && field.declined) return;
    events_.push_back(FieldDeclined{turn_id_, spec.name});
    field.value.reset();
    field.declined = true;
  }

  void refuse(const FieldSpec& spec, FieldState& field, const std::string& as_said, const Refusal& why) {
    events_.push_back(FieldRejected{turn_id_, spec.name, to_text(as_said, max_stored_value_bytes), why.code});
    field.times_rejected++;
    outcome_.refused.push_back({&spec, why.sentence, open(field), field.times_rejected});
  }

  const std::string& turn_id_;
  FieldStates& fields_;
  Events& events_;
  TurnOutcome& outcome_;
};

/// The last value given for the field, nullptr when none was.
const std::string* said_for(const ModelAnswer& answer, const FieldSpec& spec) {
  const auto found =
      std::find_if(answer.fields.rbegin(), answer.fields.rend(), [&](const auto& f) { return f.first == spec.name; });
  return found == answer.fields.rend() ? nullptr : &found->second;
}

void answer_turn(const State& state, const ConcludeTurn& command, Events& events) {
  const Flow& flow = *state.flow;
  FieldStates fields = state.fields;
  TurnOutcome outcome;
  outcome.flow = &flow;
  Reading reading(command.turn_id, fields, events, outcome);
  // Whether a field applies is asked after all before it were read: the same message may have settled the condition.
  std::vector<bool> earlier;
  for (std::size_t i = 0; i < flow.fields.size(); ++i) {
    earlier.push_back(applies(flow, i, fields, earlier));
    const std::string* as_said = said_for(*command.answer, flow.fields[i]);
    if (as_said && earlier[i]) reading.read(flow.fields[i], *as_said);
  }
  outcome.missing = missing(flow, fields);
  outcome.completes = !state.completed_at && nothing_required(outcome.missing);
  outcome.complete = state.completed_at || outcome.completes;

  Reply reply = compose(*command.answer, outcome);
  for (const std::string& field : reply.asks) {
    const auto asked = fields.find(field);
    if (asked != fields.end() && asked->second.times_asked > 0)
      events.push_back(FieldReasked{command.turn_id, field, asked->second.times_asked + 1});
  }
  events.push_back(AssistantReplied{command.turn_id, std::move(reply.text), std::move(reply.asks), command.source, false,
                                    command.fallback_reason});
  if (outcome.completes) events.push_back(SessionCompleted{command.turn_id});
  start_next(state, events);
}

Decision decide_on(const State& state, const ConcludeTurn& command, const Facts&) {
  const Turn* turn = find_turn(state, command.turn_id);
  if (!turn) return rejected(Rejection::unknown_turn);
  Events events;
  if (turn->status != TurnStatus::running || turn->activation != command.activation) return events;
  record_calls(command, events);
  if (command.answer) answer_turn(state, command, events);
  else fail(state, *turn, command.failure.empty() ? "no_provider" : command.failure, events);
  return events;
}

/// The field that was asked last and is still open; when there is none, the first one that is missing.
std::string abandoned_at(const State& state) {
  const std::vector<std::string> open_fields = missing_fields(state);
  const FieldSpec* asked = state.flow->find(state.asked_last);
  if (asked && open(state_of(state.fields, *asked)) &&
      applying(*state.flow, state.fields)[static_cast<std::size_t>(asked - state.flow->fields.data())])
    return asked->name;
  return open_fields.empty() ? std::string() : open_fields.front();
}

Decision decide_on(const State& state, const AbandonIfDue& command, const Facts& facts) {
  if (state.status != SessionStatus::active || pending_turn(state)) return Events{};
  if (facts.now < std::max(state.last_activity, command.ready_since) + facts.limits.abandon_after) return Events{};
  return Events{SessionAbandoned{abandoned_at(state)}};
}

Decision decide_on(const State& state, const IssueToken& command, const Facts&) {
  if (command.generation == state.token_generation && ShortHash(command.token_hash) == state.token_hash) return Events{};
  if (command.generation != state.token_generation + 1) return rejected(Rejection::stale_generation);
  return Events{TokenIssued{command.generation, command.token_hash}};
}

Decision decide_on(const State&, const EraseUser&, const Facts&) { return Events{UserErased{}}; }

// ---- folding

void fold(State&, const FlowPublished&, const Recorded&) {
  ONBOARDING_ASSERT(false, "a flow is published in a stream of its own, never in a session's");
}

void ask(State& state, const std::vector<std::string>& asks) {
  for (const std::string& field : asks) state.fields[field].times_asked++;
  state.asked = asks;
  if (!asks.empty()) state.asked_last = asks.front();
}

void fold(State& state, const SessionStarted& event, const Recorded& recorded) {
  state.status = SessionStatus::active;
  state.user_id = event.user_id;
  state.plan = event.plan;
  state.locale = event.locale;
  state.variant = event.variant;
  state.token_generation = event.token_generation;
  state.token_hash = ShortHash(event.token_hash);
  state.vouched = event.vouched;
  state.idempotency_key_hash = ShortHash(event.idempotency_key_hash);
  state.request_fingerprint = ShortHash(event.request_fingerprint);
  state.greeting = event.greeting;
  state.created_at = recorded.time;
  state.last_activity = recorded.time;
  state.started_last_version = recorded.version;
  state.started_last_sequence = recorded.sequence;
  ask(state, event.asks);
}

/// Messages of a session are bounded, and so are the attempts at each: its versions never fill 32 bits.
std::uint32_t version_of(const Recorded& recorded) { return static_cast<std::uint32_t>(recorded.version); }

void fold(State& state, const MessageReceived& event, const Recorded& recorded) {
  Turn turn;
  turn.turn_id = event.turn_id;
  turn.idempotency_key_hash = ShortHash(event.idempotency_key_hash);
  turn.request_fingerprint = ShortHash(event.request_fingerprint);
  turn.text = event.text;
  turn.received_version = version_of(recorded);
  turn.received_at = recorded.time;
  // Sessions are many and short: growing by doubling would leave half of it empty.
  state.turns.reserve(state.turns.size() + 1);
  state.turns.push_back(std::move(turn));
  state.last_activity = recorded.time;
}

void fold(State& state, const TurnStarted& event, const Recorded&) {
  Turn& turn = turn_of(state, event.turn_id);
  turn.status = TurnStatus::running;
  turn.activation = static_cast<std::uint16_t>(event.activation);
}

void fold(State& state, const TurnQueued& event, const Recorded&) { turn_of(state, event.turn_id).queued = true; }

void fold(State&, const LlmCallStarted&, const Recorded&) {}
void fold(State&, const LlmCallSucceeded&, const Recorded&) {}
void fold(State&, const LlmCallFailed&, const Recorded&) {}

void learn(State& state, std::string_view turn_id, const std::string& field, const FieldValue& value) {
  FieldState& known = state.fields[field];
  known.value = value;
  known.declined = false;
  if (state.asked_last == field) state.asked_last.clear();
  turn_of(state, turn_id).extracted.emplace_back(field, value);
}

void fold(State& state, const FieldExtracted& event, const Recorded&) { learn(state, event.turn_id, event.field, event.value); }
void fold(State& state, const FieldCorrected& event, const Recorded&) { learn(state, event.turn_id, event.field, event.value); }

void fold(State& state, const FieldRejected& event, const Recorded&) {
  state.fields[event.field].times_rejected++;
  turn_of(state, event.turn_id).rejected.push_back({event.field, event.value.text, event.reason});
}

void fold(State& state, const FieldDeclined& event, const Recorded&) {
  FieldState& field = state.fields[event.field];
  field.value.reset();
  field.declined = true;
  if (state.asked_last == event.field) state.asked_last.clear();
}

// The reply that follows counts the question.
void fold(State&, const FieldReasked&, const Recorded&) {}

void fold(State& state, const AssistantReplied& event, const Recorded& recorded) {
  // What was asked before an apology still stands.
  if (!event.error) ask(state, event.asks);
  Turn& turn = turn_of(state, event.turn_id);
  turn.status = event.error ? TurnStatus::failed : TurnStatus::answered;
  turn.error = event.error;
  turn.reply = event.text;
  turn.missing = missing_places(state);
  turn.is_complete = is_complete(state);
  turn.replied_version = version_of(recorded);
  turn.replied_at = recorded.time;
  turn.last_version = version_of(recorded);
  turn.last_sequence = recorded.sequence;
  state.last_activity = recorded.time;
}

void fold(State& state, const TurnFailed& event, const Recorded&) {
  Turn& turn = turn_of(state, event.turn_id);
  turn.status = TurnStatus::failed;
  turn.error = true;
}

void fold(State& state, const SessionCompleted& event, const Recorded& recorded) {
  state.status = SessionStatus::completed;
  state.completed_at = recorded.time;
  Turn& turn = turn_of(state, event.turn_id);
  turn.is_complete = true;
  turn.last_version = version_of(recorded);
  turn.last_sequence = recorded.sequence;
}

void fold(State& state, const SessionAbandoned&, const Recorded&) { state.status = SessionStatus::abandoned; }

void fold(State& state, const SessionResumed&, const Recorded& recorded) {
  state.status = SessionStatus::active;
  state.last_activity = recorded.time;
}

void fold(State& state, const TokenIssued& event, const Recorded& recorded) {
  state.token_generation = event.generation;
  state.token_hash = ShortHash(event.token_hash);
  state.last_activity = recorded.time;
}

void fold(State& state, const UserErased&, const Recorded&) {
  state.status = SessionStatus::erased;
  state.user_id = Personal::forgotten();
  state.greeting = Personal::forgotten();
  for (auto& [name, field] : state.fields) field.value.reset();
  for (Turn& turn : state.turns) {
    if (!concluded(turn)) turn.status = TurnStatus::failed;  // nobody will ever read it
    turn.text = Personal::forgotten();
    turn.reply = Personal::forgotten();
    turn.extracted.clear();
    for (RejectedValue& value : turn.rejected) value.value.clear();
  }
}

}  // namespace

std::string_view to_string(SessionStatus status) {
  static constexpr std::array<std::string_view, 5> names = {"none", "active", "completed", "abandoned", "erased"};
  return names[static_cast<std::size_t>(status)];
}

std::string_view sentence(Rejection rejection) {
  switch (rejection) {
    case Rejection::not_started: return "There is no such session.";
    case Rejection::erased: return "The person of this session was erased.";
    case Rejection::key_reused: return "The idempotency key was used with another request.";
    case Rejection::closed: return "The session is completed and no longer takes corrections.";
    case Rejection::too_many_waiting: return "Too many messages of this session already wait for an answer.";
    case Rejection::too_many_messages: return "The session has reached its limit of messages.";
    case Rejection::message_empty: return "The message is empty.";
    case Rejection::message_too_long: return "The message is too long.";
    case Rejection::message_not_text: return "The message is not UTF-8 text, or holds a NUL.";
    case Rejection::unknown_turn: return "The session has no such turn.";
    case Rejection::stale_generation: return "The token generation is not the next one.";
  }
  ONBOARDING_ASSERT(false, "every rejection has a sentence");
}

FieldStates::const_iterator FieldStates::find(std::string_view name) const {
  return std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.first == name; });
}

const FieldState& FieldStates::at(std::string_view name) const {
  const auto found = find(name);
  ONBOARDING_ASSERT(found != entries_.end(), "the field has a state");
  return found->second;
}

FieldState& FieldStates::operator[](std::string_view name) {
  const auto place = std::lower_bound(entries_.begin(), entries_.end(), name,
                                      [](const Entry& entry, std::string_view n) { return entry.first < n; });
  if (place != entries_.end() && place->first == name) return place->second;
  const auto at = place - entries_.begin();
  entries_.reserve(entries_.size() + 1);  // as with turns: what doubling leaves empty is most of it
  return entries_.emplace(entries_.begin() + at, std::string(name), FieldState{})->second;
}

// Digits beyond the 32nd are folded onto the others, and all count.
ShortHash::ShortHash(std::string_view hex) {
  for (std::size_t i = 0; i < hex.size(); ++i) {
    const auto digit = static_cast<std::uint64_t>(hex[i] <= '9' ? hex[i] - '0' : hex[i] - 'a' + 10) & 15;
    std::uint64_t& half = bits_[i % 2];
    half = std::rotl(half, 4) ^ digit;
  }
}

State initial() { return {}; }

Decision decide(const State& state, const Command& command, const Facts& facts) {
  const bool starts = std::holds_alternative<StartSession>(command);
  if (state.status == SessionStatus::none && !starts) return rejected(Rejection::not_started);
  if (state.status == SessionStatus::erased)
    return std::holds_alternative<EraseUser>(command) ? Decision(Events{}) : rejected(Rejection::erased);
  return std::visit([&](const auto& c) { return decide_on(state, c, facts); }, command);
}

void evolve(State& state, const RecordedEvent& recorded, const FlowCatalog& flows) {
  evolve(state, recorded.event, recorded, flows);
}

void evolve(State& state, const Event& event, const Recorded& recorded, const FlowCatalog& flows) {
  ONBOARDING_ASSERT(recorded.version == state.version + 1, "a stream's versions have no gap");
  if (const auto* started = std::get_if<SessionStarted>(&event)) {
    state.flow = flows.find(started->flow, started->flow_version);
    ONBOARDING_ASSERT(state.flow != nullptr, "a session stands on a published version of a flow");
  }
  ONBOARDING_ASSERT(state.flow != nullptr, "a session's first event is SessionStarted");
  std::visit([&](const auto& e) { fold(state, e, recorded); }, event);
  state.version = recorded.version;
  state.sequence = recorded.sequence;
  state.updated_at = recorded.time;
}

std::vector<std::string> missing_fields(const State& state) {
  std::vector<std::string> names;
  if (!state.flow || state.status == SessionStatus::erased) return names;
  const auto specs = missing(*state.flow, state.fields);
  std::transform(specs.begin(), specs.end(), std::back_inserter(names), [](const FieldSpec* spec) { return spec->name; });
  return names;
}

std::vector<std::string> names_of(const Flow& flow, const std::vector<std::uint8_t>& fields) {
  std::vector<std::string> names;
  names.reserve(fields.size());
  for (const std::uint8_t place : fields) names.push_back(flow.fields[place].name);
  return names;
}

bool is_complete(const State& state) { return state.completed_at.has_value(); }

const Turn* pending_turn(const State& state) {
  // Turns are concluded in order, so those that are not stand at the end.
  const Turn* pending = nullptr;
  for (auto turn = state.turns.rbegin(); turn != state.turns.rend() && !concluded(*turn); ++turn) pending = &*turn;
  return pending;
}

const Turn* find_turn(const State& state, std::string_view turn_id) {
  const auto found = std::find_if(state.turns.rbegin(), state.turns.rend(), [&](const Turn& t) { return t.turn_id == turn_id; });
  return found == state.turns.rend() ? nullptr : &*found;
}

const Turn* find_turn_by_key(const State& state, std::string_view idempotency_key_hash) {
  if (idempotency_key_hash.empty()) return nullptr;
  const auto found =
      std::find_if(state.turns.rbegin(), state.turns.rend(),
                   [hash = ShortHash(idempotency_key_hash)](const Turn& t) { return t.idempotency_key_hash == hash; });
  return found == state.turns.rend() ? nullptr : &*found;
}

namespace {

RecoveryIndex index_of(SessionStatus status, bool pending_turn, Timestamp last_activity, const Limits& limits) {
  const bool open = status == SessionStatus::active;
  return {open, pending_turn, open ? last_activity + limits.abandon_after : Timestamp{}};
}

}  // namespace

RecoveryIndex recovery_index(const State& state, const Limits& limits) {
  return index_of(state.status, pending_turn(state) != nullptr, state.last_activity, limits);
}

RecoveryIndex recovery_index(const State& before, const std::vector<Event>& batch, Timestamp time, const Limits& limits) {
  SessionStatus status = before.status;
  Timestamp last_activity = before.last_activity;
  auto unanswered = std::count_if(before.turns.begin(), before.turns.end(), [](const Turn& turn) { return !concluded(turn); });
  for (const Event& event : batch) {
    const bool received = std::holds_alternative<MessageReceived>(event),
               replied = std::holds_alternative<AssistantReplied>(event);
    const bool begun = std::holds_alternative<SessionStarted>(event) || std::holds_alternative<SessionResumed>(event);
    unanswered += received - replied;  // a failed turn is told in a reply, too
    if (received || replied || begun || std::holds_alternative<TokenIssued>(event)) last_activity = time;
    if (begun) status = SessionStatus::active;
    if (std::holds_alternative<SessionCompleted>(event)) status = SessionStatus::completed;
    if (std::holds_alternative<SessionAbandoned>(event)) status = SessionStatus::abandoned;
    if (std::holds_alternative<UserErased>(event)) {
      status = SessionStatus::erased;
      unanswered = 0;
    }
  }
  return index_of(status, unanswered > 0, last_activity, limits);
}

}  // namespace onboarding::domain
