// given(events).when(command).then(events or rejection): how the decider's tests read.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "events/domain/catalog.hpp"
#include "events/domain/session.hpp"

namespace onboarding::domain::testing {

inline constexpr Timestamp noon{std::chrono::microseconds{1'700'000'000'000'000}};

/// Folds events as the log would give them back: versions 1, 2, 3 …, sequences beginning at 101, a second apart.
State folded(const std::vector<Event>& events, const FlowCatalog& catalog, Timestamp start = noon);
/// Folds a batch decided at one moment on top of a state.
void fold_batch(State& state, const std::vector<Event>& batch, Timestamp time, const FlowCatalog& catalog);

class Scenario {
 public:
  explicit Scenario(std::vector<Event> events) : events_(std::move(events)) {}
  Scenario& on(Flow flow) {
    flows_.push_back(std::move(flow));
    return *this;
  }
  Scenario& at(Timestamp now) {
    facts_.now = now;
    return *this;
  }
  Scenario& within(Limits limits) {
    facts_.limits = limits;
    return *this;
  }
  Scenario& when(const Command& command) {
    const State before = state();
    if (facts_.now == Timestamp{}) facts_.now = before.updated_at + std::chrono::seconds(1);
    outcome_ = decide(before, command, facts_);
    return *this;
  }
  State state() const { return folded(events_, FixedFlowCatalog(flows_)); }

  void then(const std::vector<Event>& expected) const {
    ASSERT_TRUE(outcome_.has_value()) << "rejected: " << sentence(outcome_.error());
    ASSERT_EQ(names(*outcome_), names(expected));
    for (std::size_t i = 0; i < expected.size(); ++i)
      EXPECT_TRUE((*outcome_)[i] == expected[i]) << "event " << i << ", a " << type_name(expected[i]) << ", is not as expected";
  }
  void then(Rejection expected) const {
    ASSERT_FALSE(outcome_.has_value()) << outcome_->size() << " events instead of a rejection";
    EXPECT_EQ(sentence(outcome_.error()), sentence(expected));
  }
  void then_nothing() const { then(std::vector<Event>{}); }
  /// The events' names in order, for decisions whose texts are somebody else's test.
  void then_types(const std::vector<std::string>& expected) const {
    ASSERT_TRUE(outcome_.has_value()) << "rejected: " << sentence(outcome_.error());
    EXPECT_EQ(names(*outcome_), expected);
  }
  const std::vector<Event>& decided() const { return *outcome_; }
  template <class T>
  T only() const {
    std::vector<T> found;
    for (const Event& event : *outcome_)
      if (const T* wanted = std::get_if<T>(&event)) found.push_back(*wanted);
    EXPECT_EQ(found.size(), 1U) << "events of the type looked for";
    return found.empty() ? T{} : found.front();
  }
  /// The state once the decision is folded too.
  State after() const {
    std::vector<Event> all = events_;
    if (outcome_) all.insert(all.end(), outcome_->begin(), outcome_->end());
    return folded(all, FixedFlowCatalog(flows_));
  }

 private:
  static std::vector<std::string> names(const std::vector<Event>& events) {
    std::vector<std::string> out;
    for (const Event& event : events) out.emplace_back(type_name(event));
    return out;
  }

  std::vector<Event> events_;
  std::vector<Flow> flows_{default_flow()};
  Facts facts_;
  tl::expected<std::vector<Event>, Rejection> outcome_ = std::vector<Event>{};
};

inline Scenario given(std::vector<Event> events) { return Scenario(std::move(events)); }

inline State folded(const std::vector<Event>& events, const FlowCatalog& catalog, Timestamp start) {
  State state = initial();
  for (const Event& event : events) {
    const RecordedEvent recorded{state.version + 1, 101 + state.version, start + std::chrono::seconds(state.version), event};
    evolve(state, recorded, catalog);
  }
  return state;
}

inline void fold_batch(State& state, const std::vector<Event>& batch, Timestamp time, const FlowCatalog& catalog) {
  const Timestamp clamped = std::max(time, state.updated_at);  // as the recorder does
  for (const Event& event : batch) evolve(state, {state.version + 1, 101 + state.version, clamped, event}, catalog);
}

/// A session of the given flow that has begun.
inline SessionStarted started(const Flow& flow = default_flow()) {
  SessionStarted event;
  event.user_id = "usr_1";
  event.flow = flow.name;
  event.flow_version = flow.version;
  event.plan = "free";
  event.locale = "en";
  event.token_hash = "hash1";
  event.idempotency_key_hash = "startkey";
  event.request_fingerprint = "startprint";
  event.greeting = flow.greeting + " " + flow.fields.front().prompt;
  event.asks = {flow.fields.front().name};
  return event;
}

inline MessageReceived received(std::string turn_id, std::string text = "hello") {
  return {turn_id, Personal(std::move(text)), "key-" + turn_id, "print-" + turn_id};
}

inline ConcludeTurn conclude(std::string turn_id, ModelAnswer answer, std::uint32_t activation = 1) {
  ConcludeTurn command;
  command.turn_id = std::move(turn_id);
  command.activation = activation;
  command.answer = std::move(answer);
  command.source = "offline";
  return command;
}

inline FieldValue text_value(std::string canonical, FieldType type = FieldType::text) { return {type, std::move(canonical)}; }

inline FieldSpec spec(std::string name, FieldType type, bool required = true) {
  FieldSpec out;
  out.name = std::move(name);
  out.type = type;
  out.label = out.name;
  out.prompt = "What about " + out.name + "?";
  out.required = required;
  return out;
}

}  // namespace onboarding::domain::testing
