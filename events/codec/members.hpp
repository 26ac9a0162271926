// What every event's data consists of, said once: the writer, the reader and the CloudEvents form walk the same list.
// Private to this folder. The order is the order in the bytes; names are for ever (infra/docs/FORMAT.md).
//
// An archive has: required(name, member), always written and refused when missing; optional(name, member), left out
// while it has its default; personal(name, text), sealed; value(field value, sensitive), sealed if sensitive.
#pragma once

#include <concepts>

#include "events/domain/events.hpp"

namespace onboarding::codec {

/// The schema that is written today. Raising one needs an upcaster from the one before, and a golden file of it.
template <class E>
inline constexpr std::uint32_t schema_of = 1;

template <class E, class T>
concept Is = std::same_as<std::remove_const_t<E>, T>;

template <class A>
void members(A& a, Is<domain::Usage> auto& u) {
  a.optional("input_tokens", u.input_tokens, -1);
  a.optional("cached_input_tokens", u.cached_input_tokens, -1);
  a.optional("cache_write_tokens", u.cache_write_tokens, -1);
  a.optional("output_tokens", u.output_tokens, -1);
  a.optional("reasoning_tokens", u.reasoning_tokens, -1);
  a.optional("raw", u.raw);
}

template <class A>
void members(A& a, Is<domain::FlowPublished> auto& e) {
  a.required("name", e.name);
  a.required("version", e.version);
  a.required("definition", e.definition);
  a.required("content_hash", e.content_hash);
}

template <class A>
void members(A& a, Is<domain::SessionStarted> auto& e) {
  a.personal("user_id", e.user_id);
  a.required("flow", e.flow);
  a.required("flow_version", e.flow_version);
  a.optional("variant", e.variant);
  a.optional("plan", e.plan);
  a.optional("locale", e.locale);
  a.required("token_generation", e.token_generation);
  a.required("token_hash", e.token_hash);
  a.optional("vouched", e.vouched);
  a.optional("idempotency_key_hash", e.idempotency_key_hash);
  a.optional("request_fingerprint", e.request_fingerprint);
  a.personal("greeting", e.greeting);
  a.optional("asks", e.asks);
}

template <class A>
void members(A& a, Is<domain::MessageReceived> auto& e) {
  a.required("turn_id", e.turn_id);
  a.personal("text", e.text);
  a.optional("idempotency_key_hash", e.idempotency_key_hash);
  a.optional("request_fingerprint", e.request_fingerprint);
}

template <class A>
void members(A& a, Is<domain::TurnStarted> auto& e) {
  a.required("turn_id", e.turn_id);
  a.required("activation", e.activation);
}

template <class A>
void members(A& a, Is<domain::TurnQueued> auto& e) {
  a.required("turn_id", e.turn_id);
  a.required("reason", e.reason);
}

template <class A>
void members(A& a, Is<domain::LlmCallStarted> auto& e) {
  a.required("turn_id", e.turn_id);
  a.required("attempt", e.attempt);
  a.required("provider", e.provider);
  a.optional("model", e.model);
  a.optional("prompt_version", e.prompt_version);
  a.required("started_at", e.started_at);
}

template <class A>
void members(A& a, Is<domain::LlmCallSucceeded> auto& e) {
  a.required("turn_id", e.turn_id);
  a.required("attempt", e.attempt);
  a.required("provider", e.provider);
  a.optional("model", e.model);
  a.optional("prompt_version", e.prompt_version);
  a.optional("price_version", e.price_version);
  a.optional("usage", e.usage);
  a.required("latency_ms", e.latency_ms);
  a.personal("raw_answer", e.raw_answer);
}

template <class A>
void members(A& a, Is<domain::LlmCallFailed> auto& e) {
  a.required("turn_id", e.turn_id);
  a.required("attempt", e.attempt);
  a.required("provider", e.provider);
  a.optional("model", e.model);
  a.optional("prompt_version", e.prompt_version);
  a.optional("price_version", e.price_version);
  a.optional("usage", e.usage);
  a.required("latency_ms", e.latency_ms);
  a.required("error", e.error);
  a.optional("origin", e.origin);
  a.personal("raw_answer", e.raw_answer);
}

template <class A, class E>
requires Is<E, domain::FieldExtracted> || Is<E, domain::FieldCorrected>
void members(A& a, E& e) {
  a.required("turn_id", e.turn_id);
  a.required("field", e.field);
  a.value(e.value, e.sensitive);
}

template <class A>
void members(A& a, Is<domain::FieldRejected> auto& e) {
  a.required("turn_id", e.turn_id);
  a.required("field", e.field);
  a.personal("value", e.value);
  a.required("reason", e.reason);
}

template <class A>
void members(A& a, Is<domain::FieldDeclined> auto& e) {
  a.required("turn_id", e.turn_id);
  a.required("field", e.field);
}

template <class A>
void members(A& a, Is<domain::FieldReasked> auto& e) {
  a.required("turn_id", e.turn_id);
  a.required("field", e.field);
  a.required("times", e.times);
}

template <class A>
void members(A& a, Is<domain::AssistantReplied> auto& e) {
  a.required("turn_id", e.turn_id);
  a.personal("text", e.text);
  a.optional("asks", e.asks);
  a.required("source", e.source);
  a.optional("error", e.error);
  a.optional("fallback_reason", e.fallback_reason);
}

template <class A>
void members(A& a, Is<domain::TurnFailed> auto& e) {
  a.required("turn_id", e.turn_id);
  a.required("reason", e.reason);
}

template <class A>
void members(A& a, Is<domain::SessionCompleted> auto& e) {
  a.required("turn_id", e.turn_id);
}

template <class A>
void members(A& a, Is<domain::SessionAbandoned> auto& e) {
  a.optional("at_field", e.at_field);
}

template <class A>
void members(A&, Is<domain::SessionResumed> auto&) {}

template <class A>
void members(A& a, Is<domain::TokenIssued> auto& e) {
  a.required("generation", e.generation);
  a.required("token_hash", e.token_hash);
}

template <class A>
void members(A&, Is<domain::UserErased> auto&) {}

}  // namespace onboarding::codec
