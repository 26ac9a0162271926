// The session decider: initial(), decide(), evolve(). Pure: no clock, randomness, I/O, logging, threads or actors; time,
// ids and the model's answer come in as facts. decide() is idempotent: a command that was carried out yields no events.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "events/domain/events.hpp"

namespace onboarding::domain {

/// A hash that events carry in hex, kept to be compared: 128 bits, which is all that a keyed hash has. Sessions are many.
class ShortHash {
 public:
  ShortHash() = default;  // of nothing
  explicit ShortHash(std::string_view hex);
  bool operator==(const ShortHash&) const = default;

 private:
  std::array<std::uint64_t, 2> bits_{};
};

enum class SessionStatus : std::uint8_t { none, active, completed, abandoned, erased };
std::string_view to_string(SessionStatus);

struct FieldState {
  std::optional<FieldValue> value;
  bool declined = false;
  std::uint32_t times_asked = 0;
  std::uint32_t times_rejected = 0;
  bool operator==(const FieldState&) const = default;
};

/// What is known of a flow's fields, by name. Flat: a session has a handful, and sessions are many.
class FieldStates {
 public:
  using Entry = std::pair<std::string, FieldState>;
  using iterator = std::vector<Entry>::iterator;
  using const_iterator = std::vector<Entry>::const_iterator;

  iterator begin() { return entries_.begin(); }
  iterator end() { return entries_.end(); }
  const_iterator begin() const { return entries_.begin(); }
  const_iterator end() const { return entries_.end(); }
  const_iterator find(std::string_view name) const;
  const FieldState& at(std::string_view name) const;  // must be there
  FieldState& operator[](std::string_view name);      // put there when it is not
  bool operator==(const FieldStates&) const = default;

 private:
  std::vector<Entry> entries_;  // sorted by name
};

struct RejectedValue {
  std::string field;
  std::string value;   // as said; empty once erased
  std::string reason;  // Refusal::code
  bool operator==(const RejectedValue&) const = default;
};

enum class TurnStatus : std::uint8_t {
  waiting,   // behind another turn of the session
  running,   // a TurnStarted was written, no outcome yet
  answered,  // AssistantReplied
  failed     // TurnFailed (and the apologetic AssistantReplied)
};

/// One message and its answer, all that is needed to give the same answer again. 256 bytes, which allocators have a size for.
struct Turn {
  std::string turn_id;
  ShortHash idempotency_key_hash;
  ShortHash request_fingerprint;
  Personal text;
  Personal reply;
  std::vector<std::pair<std::string, FieldValue>> extracted;  // extracted or corrected in this turn, in order
  std::vector<RejectedValue> rejected;
  std::vector<std::uint8_t> missing;  // after this turn: places in the flow's fields, see names_of()
  Timestamp received_at;
  Timestamp replied_at;
  std::uint32_t received_version = 0;
  std::uint32_t replied_version = 0;  // 0: not yet
  std::uint32_t last_version = 0;     // of the last event of the turn's outcome
  std::uint16_t activation = 0;       // how many attempts began
  TurnStatus status = TurnStatus::waiting;
  bool queued : 1 = false;       // the client was told 202
  bool is_complete : 1 = false;  // after this turn
  bool error : 1 = false;
  std::uint64_t last_sequence = 0;
  bool operator==(const Turn&) const = default;
};

struct State {
  SessionStatus status = SessionStatus::none;
  bool vouched = false;
  std::uint32_t token_generation = 0;
  std::uint64_t version = 0;   // of the last event
  std::uint64_t sequence = 0;  // of the last event, in the partition
  std::shared_ptr<const Flow> flow;
  Personal user_id;
  std::string plan, locale, variant;
  ShortHash token_hash;                                 // of this generation
  ShortHash idempotency_key_hash, request_fingerprint;  // of the start
  Personal greeting;
  FieldStates fields;
  std::vector<std::string> asked;  // fields the last reply asked for
  std::string asked_last;          // the last field asked that was not answered since; where an abandonment counts
  std::vector<Turn> turns;         // oldest first; those not answered are at the end
  Timestamp created_at, updated_at, last_activity;
  std::optional<Timestamp> completed_at;
  std::uint64_t started_last_version = 0;  // version and sequence after the start's own batch: the start's answer again
  std::uint64_t started_last_sequence = 0;
  bool operator==(const State&) const = default;
};

/// Bounds and periods in force: configuration, handed in as facts.
struct Limits {
  std::chrono::seconds abandon_after{30 * 60};
  std::chrono::seconds close_after{60 * 60};
  std::uint32_t max_messages = 200;     // user messages a session
  std::uint32_t max_waiting_turns = 3;  // behind the running one
  std::uint32_t max_activations = 3;
  std::uint32_t max_queued_activations = 30;  // of a turn that was queued: most of its life it only waits for budget
  std::uint32_t max_message_bytes = 16384;
};

struct Facts {
  Timestamp now;  // may be earlier than the stream's last event (clock jumped back): the recorder keeps time from going back
  Limits limits;
};

// ---- commands

struct StartSession {
  std::string user_id;
  std::shared_ptr<const Flow> flow;
  std::string variant, plan, locale;
  std::string token_hash;
  bool vouched = false;
  std::string idempotency_key_hash, request_fingerprint;
};

struct ReceiveMessage {
  std::string turn_id;
  std::string text;
  std::string idempotency_key_hash, request_fingerprint;
  std::string queue_reason =
      {};  // not empty: nobody waits for the answer, the turn is queued from the start (TurnQueued::reason)
};

/// Begin the next attempt at the turn that is due (recovery, retry, or its turn has come).
struct StartTurn {
  std::string turn_id;
  std::uint32_t activation = 0;  // which attempt this is to be: any other than the next one changes nothing; 0: the next one,
                                 // which is not idempotent while the turn runs
};

struct QueueTurn {
  std::string turn_id;
  std::string reason;
};

/// What a model (or the offline extractor) said, after parsing (api.md §3). Values are raw.
struct ModelAnswer {
  std::string reply;
  std::vector<std::pair<std::string, std::string>> fields;  // field name, value as said
  std::vector<std::string> asks;
  bool operator==(const ModelAnswer&) const = default;
};

/// A call that was made for the turn, successful or not; becomes LlmCallStarted and LlmCallSucceeded or LlmCallFailed.
struct LlmCall {
  std::uint32_t attempt = 1;
  std::string provider, model, prompt_version, price_version;
  Usage usage;
  Timestamp started_at;
  std::int64_t latency_ms = 0;
  std::string error;   // empty: succeeded
  std::string origin;  // of the error
  std::string raw_answer;
};

struct ConcludeTurn {
  std::string turn_id;
  std::uint32_t activation = 1;       // an outcome of an activation that was superseded changes nothing
  std::optional<ModelAnswer> answer;  // none: every provider failed
  std::string source;                 // who answered: provider or "offline"; "none"
  std::string failure;                // when there is no answer: TurnFailed::reason
  std::vector<LlmCall> calls;
  std::string fallback_reason = {};  // AssistantReplied::fallback_reason
};

/// Abandons the session when max(last activity, ready_since) + limit has come and no turn is pending.
struct AbandonIfDue {
  Timestamp ready_since;  // when this process began to serve: down-time is not abandonment
};

struct IssueToken {
  std::uint32_t generation;  // the next one
  std::string token_hash;
};

struct EraseUser {};

using Command =
    std::variant<StartSession, ReceiveMessage, StartTurn, QueueTurn, ConcludeTurn, AbandonIfDue, IssueToken, EraseUser>;

enum class Rejection {
  not_started = 1,    // no such session
  erased,             // the person was erased: as if it did not exist
  key_reused,         // the idempotency key was used with another request
  closed,             // completed, and the time for corrections is over
  too_many_waiting,   // max_waiting_turns already wait
  too_many_messages,  // max_messages reached
  message_empty,      // nothing but white space
  message_too_long,   // over max_message_bytes
  message_not_text,   // not UTF-8, or holds a NUL
  unknown_turn,       // no such turn
  stale_generation    // the token generation is not the next one
};
std::string_view sentence(Rejection);

State initial();
tl::expected<std::vector<Event>, Rejection> decide(const State&, const Command&, const Facts&);
/// Folds one event. Events of an unknown flow version are a broken invariant, asserted.
void evolve(State&, const RecordedEvent&, const FlowCatalog&);
/// The same for an event that lies elsewhere.
void evolve(State&, const Event&, const Recorded&, const FlowCatalog&);

// ---- questions to a state

/// Fields still open, in the order they are asked: required ones that apply and have no value, and optional ones that
/// apply and were neither answered, declined nor asked. A session completes when no required one is missing, and stays
/// complete when a correction opens another question.
std::vector<std::string> missing_fields(const State&);
/// The names behind Turn::missing.
std::vector<std::string> names_of(const Flow&, const std::vector<std::uint8_t>& fields);
bool is_complete(const State&);
/// The turn to work on now: running, or waiting with nothing before it; nullptr when idle.
const Turn* pending_turn(const State&);
const Turn* find_turn(const State&, std::string_view turn_id);
const Turn* find_turn_by_key(const State&, std::string_view idempotency_key_hash);

/// What every log adapter indexes for recovery; computed from the state after the batch.
struct RecoveryIndex {
  bool open = false;          // active: has a due time or a turn
  bool pending_turn = false;  // a turn has no outcome yet
  Timestamp due_at;           // when abandonment is due at the earliest; meaningless unless open
  bool operator==(const RecoveryIndex&) const = default;
};
RecoveryIndex recovery_index(const State&, const Limits&);
/// The index of the state that `batch`, decided on `before` and recorded at `time`, will give; nothing is folded for it.
RecoveryIndex recovery_index(const State& before, const std::vector<Event>& batch, Timestamp time, const Limits&);

}  // namespace onboarding::domain
