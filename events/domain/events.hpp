// What can happen to a session. Facts in the past tense; each carries what a reader needs and nothing else.
// Personal fields are sealed by events/codec when written and opened when read; here they are plain text or erased.
// Adding a member: give it a default, extend codec and FORMAT.md; changing a meaning: a new schema version and an upcaster.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "events/domain/fields.hpp"
#include "events/domain/personal.hpp"

namespace onboarding::domain {

/// An operator's or a file's flow became a version that sessions may start on. Stream `flows`, partition 0: one stream for all
/// flows, so that a start finds every one of them, also those whose file is gone.
struct FlowPublished {
  std::string name;
  std::uint32_t version = 1;
  std::string definition;    // the flow file's JSON, as published
  std::string content_hash;  // hex SHA-256 of the definition in canonical form: the same content is not published twice
  bool operator==(const FlowPublished&) const = default;
};

struct SessionStarted {
  Personal user_id;  // the client's, or the one we made
  std::string flow;
  std::uint32_t flow_version = 1;
  std::string variant;  // experiment arm; empty: none
  std::string plan;
  std::string locale;
  std::uint32_t token_generation = 1;
  std::string token_hash;            // hex SHA-256 of the token: the token itself is derived again, never stored
  bool vouched = false;              // the user_id came with an application key or a user's token
  std::string idempotency_key_hash;  // hex; empty: none was sent
  std::string request_fingerprint;   // keyed hash over key and body, so that nothing can be guessed from it; empty without a key
  Personal greeting;
  std::vector<std::string> asks;
  bool operator==(const SessionStarted&) const = default;
};

struct MessageReceived {
  std::string turn_id;
  Personal text;
  std::string idempotency_key_hash;
  std::string request_fingerprint;
  bool operator==(const MessageReceived&) const = default;
};

/// One more attempt at a turn began; the third that dies unfinished fails the turn. Provider fallbacks within one
/// activation do not count. The first one is written together with MessageReceived when nothing else is running.
struct TurnStarted {
  std::string turn_id;
  std::uint32_t activation = 1;
  bool operator==(const TurnStarted&) const = default;
};

struct TurnQueued {
  std::string turn_id;
  std::string reason;  // "queue_mode", "asked_for", "budget", "slow"
  bool operator==(const TurnQueued&) const = default;
};

/// Token counts as the provider reported them; -1: not reported.
struct Usage {
  std::int64_t input_tokens = -1;         // including cached ones
  std::int64_t cached_input_tokens = -1;  // of these, read from the provider's cache
  std::int64_t cache_write_tokens = -1;
  std::int64_t output_tokens = -1;     // including reasoning
  std::int64_t reasoning_tokens = -1;  // of these
  std::string raw;                     // the provider's own usage object, so that a replay can re-cost
  bool operator==(const Usage&) const = default;
};

struct LlmCallStarted {
  std::string turn_id;
  std::uint32_t attempt = 1;  // within the activation
  std::string provider;       // "openai", …, "offline"
  std::string model;
  std::string prompt_version;
  Timestamp started_at;
  bool operator==(const LlmCallStarted&) const = default;
};

struct LlmCallSucceeded {
  std::string turn_id;
  std::uint32_t attempt = 1;
  std::string provider;
  std::string model;
  std::string prompt_version;
  std::string price_version;
  Usage usage;
  std::int64_t latency_ms = 0;
  Personal raw_answer;
  bool operator==(const LlmCallSucceeded&) const = default;
};

struct LlmCallFailed {
  std::string turn_id;
  std::uint32_t attempt = 1;
  std::string provider;
  std::string model;
  std::string prompt_version;
  std::string price_version;
  Usage usage;
  std::int64_t latency_ms = 0;
  std::string error;    // class: "rate_limited", "timeout", "invalid_answer", "unavailable", …
  std::string origin;   // "provider" or "self" (our own budget)
  Personal raw_answer;  // what came instead of an answer, bounded; may be empty
  bool operator==(const LlmCallFailed&) const = default;
};

struct FieldExtracted {
  std::string turn_id;
  std::string field;
  FieldValue value;
  bool sensitive = true;  // decides whether the value is sealed
  bool operator==(const FieldExtracted&) const = default;
};

/// The field had another value; the history keeps it.
struct FieldCorrected {
  std::string turn_id;
  std::string field;
  FieldValue value;
  bool sensitive = true;
  bool operator==(const FieldCorrected&) const = default;
};

struct FieldRejected {
  std::string turn_id;
  std::string field;
  Personal value;      // as said; always sealed
  std::string reason;  // Refusal::code
  bool operator==(const FieldRejected&) const = default;
};

/// An optional field that the person would rather not answer; a value it had is withdrawn.
struct FieldDeclined {
  std::string turn_id;
  std::string field;
  bool operator==(const FieldDeclined&) const = default;
};

/// The reply asks again for a field that was asked before and is still open.
struct FieldReasked {
  std::string turn_id;
  std::string field;
  std::uint32_t times = 2;  // how often it has been asked by now
  bool operator==(const FieldReasked&) const = default;
};

struct AssistantReplied {
  std::string turn_id;
  Personal text;
  std::vector<std::string> asks;  // the fields that this reply asks for
  std::string source;             // provider, "cache", "offline", or "none" when every one was down
  bool error = false;
  std::string fallback_reason = {};  // why no provider wrote it though one is configured, e.g. "plan_limit"; else empty
  bool operator==(const AssistantReplied&) const = default;
};

struct TurnFailed {
  std::string turn_id;
  std::string reason;  // "no_provider", "activations_exhausted", "deadline"
  bool operator==(const TurnFailed&) const = default;
};

struct SessionCompleted {
  std::string turn_id;
  bool operator==(const SessionCompleted&) const = default;
};

struct SessionAbandoned {
  std::string at_field;  // the field that was asked last and is still open; empty: none was open
  bool operator==(const SessionAbandoned&) const = default;
};

/// A message came to an abandoned session.
struct SessionResumed {
  bool operator==(const SessionResumed&) const = default;
};

/// A fresh token was issued; all earlier generations are void.
struct TokenIssued {
  std::uint32_t generation = 2;
  std::string token_hash;
  bool operator==(const TokenIssued&) const = default;
};

/// The user's key is gone. Written to each of the user's session streams: what is sealed there is unreadable from now on.
struct UserErased {
  bool operator==(const UserErased&) const = default;
};

using Event =
    std::variant<FlowPublished, SessionStarted, MessageReceived, TurnStarted, TurnQueued, LlmCallStarted, LlmCallSucceeded,
                 LlmCallFailed, FieldExtracted, FieldCorrected, FieldRejected, FieldDeclined, FieldReasked, AssistantReplied,
                 TurnFailed, SessionCompleted, SessionAbandoned, SessionResumed, TokenIssued, UserErased>;

/// The type's public name, e.g. "SessionStarted".
std::string_view type_name(const Event&);

/// What the log gives an event.
struct Recorded {
  std::uint64_t version = 0;   // in the stream: 1, 2, 3 …
  std::uint64_t sequence = 0;  // in the partition: 1, 2, 3 …
  Timestamp time;
  bool operator==(const Recorded&) const = default;
};

/// An event with what the log gave it.
struct RecordedEvent : Recorded {
  RecordedEvent() = default;
  RecordedEvent(std::uint64_t version_, std::uint64_t sequence_, Timestamp time_, Event event_)
      : Recorded{version_, sequence_, time_}, event(std::move(event_)) {}
  Event event;
  bool operator==(const RecordedEvent&) const = default;
};

}  // namespace onboarding::domain
