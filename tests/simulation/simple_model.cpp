#include "tests/simulation/simple_model.hpp"

#include <algorithm>

namespace onboarding::simulation {

using namespace domain;

void SimpleModel::apply(const RecordedEvent& recorded) {
  ++events_;
  const Event& event = recorded.event;
  const auto learn = [&](const std::string& turn_id, const std::string& field, const std::string& value) {
    values_[field] = value;
    exchanges_[turn_id].values[field] = value;
    // People say each value once: found in another turn, it is somebody else's answer.
    if (exchanges_[turn_id].text.find(value) == std::string::npos)
      wrong_.push_back("a value was extracted that its message does not say");
  };
  if (std::holds_alternative<SessionStarted>(event)) {
    if (events_ != 1) wrong_.push_back("started twice");
    status_ = "active";
  } else if (const auto* message = std::get_if<MessageReceived>(&event)) {
    exchanges_[message->turn_id].text = message->text.text;
    order_.push_back(message->turn_id);
    if (!message->idempotency_key_hash.empty()) keys_.insert(message->idempotency_key_hash);
    if (status_ == "abandoned") wrong_.push_back("a message in an abandoned session that was not resumed");
    for (const auto& [turn_id, other] : exchanges_)
      if (turn_id != message->turn_id && other.text == message->text.text) wrong_.push_back("a message was received twice");
  } else if (const auto* extracted = std::get_if<FieldExtracted>(&event)) {
    learn(extracted->turn_id, extracted->field, extracted->value.canonical);
  } else if (const auto* corrected = std::get_if<FieldCorrected>(&event)) {
    learn(corrected->turn_id, corrected->field, corrected->value.canonical);
  } else if (const auto* replied = std::get_if<AssistantReplied>(&event)) {
    Exchange& exchange = exchanges_[replied->turn_id];
    exchange.reply = replied->text.text;
    if (++exchange.replies > 1) wrong_.push_back("a message was answered twice");
    answered_order_.push_back(replied->turn_id);
  } else if (std::holds_alternative<SessionCompleted>(event)) {
    for (const char* field : {"full_name", "email", "company", "role", "team_size", "goal"})
      if (!values_.contains(field)) wrong_.push_back(std::string("completed without ") + field);
    status_ = "completed";
  } else if (std::holds_alternative<SessionAbandoned>(event)) {
    status_ = "abandoned";
  } else if (std::holds_alternative<SessionResumed>(event)) {
    status_ = "active";
  }
}

std::vector<std::string> SimpleModel::differences(const State& state) const {
  std::vector<std::string> found;
  if (to_string(state.status) != status_)
    found.push_back("status " + std::string(to_string(state.status)) + " instead of " + status_);
  if (state.version != events_) found.push_back("another version");
  std::map<std::string, std::string> values;
  for (const auto& [name, field] : state.fields)
    if (field.value) values[name] = field.value->canonical;
  if (values != values_) found.push_back("other field values");
  if (state.turns.size() != order_.size()) found.push_back("another number of turns");
  for (std::size_t i = 0; i < std::min(state.turns.size(), order_.size()); ++i) {
    const Turn& turn = state.turns[i];
    const auto exchange = exchanges_.find(turn.turn_id);
    if (turn.turn_id != order_[i] || exchange == exchanges_.end() || exchange->second.text != turn.text.text ||
        exchange->second.reply != turn.reply.text) {
      found.push_back("another conversation");
      break;
    }
    std::map<std::string, std::string> extracted;
    for (const auto& [field, value] : turn.extracted) extracted[field] = value.canonical;
    if (extracted != exchange->second.values) found.push_back("other values of a turn");
  }
  return found;
}

std::vector<std::string> SimpleModel::complaints() const {
  std::vector<std::string> found = wrong_;
  for (const std::string& turn_id : order_)
    if (exchanges_.at(turn_id).replies != 1) found.push_back("a message has no answer");
  if (answered_order_ != order_) found.push_back("messages were not answered in their order");
  for (auto key = keys_.begin(); key != keys_.end(); ++key)
    if (keys_.count(*key) > 1) found.push_back("one idempotency key, two turns");
  return found;
}

}  // namespace onboarding::simulation
