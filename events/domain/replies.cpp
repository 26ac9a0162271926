#include "events/domain/replies.hpp"

#include <algorithm>
#include <array>

#include "events/domain/text.hpp"

namespace onboarding::domain {

namespace {

constexpr std::size_t max_reply_bytes = 8192;  // a host that says more is not listening

std::string label_of(const FieldSpec& field) {
  if (!field.label.empty()) return field.label;
  std::string label = field.name;
  std::replace(label.begin(), label.end(), '_', ' ');
  return label;
}

template <class Specs, class Of>
std::vector<std::string> labels(const Specs& specs, Of of) {
  std::vector<std::string> out;
  for (const auto& spec : specs) out.push_back(label_of(*of(spec)));
  return out;
}

std::string join(std::string left, std::string_view right) {
  if (!left.empty() && !right.empty()) left += ' ';
  left += right;
  return left;
}

bool contains(std::string_view lower_text, std::string_view phrase) { return lower_text.find(phrase) != std::string_view::npos; }

bool asks_something(std::string_view text) {
  return contains(text, "?") || contains(text, "\u037E") || contains(text, "\u061F") || contains(text, "\uFF1F") ||
         contains(text, "\u055E");
}

/// A model that was talked into it says such things; they are only said when they are true.
bool claims_completion(const std::string& lower_text) {
  static constexpr std::array phrases = {"all set",
                                         "all done",
                                         "that's everything",
                                         "that\u2019s everything",
                                         "that is everything",
                                         "that's all",
                                         "that\u2019s all",
                                         "that is all",
                                         "you're done",
                                         "you\u2019re done",
                                         "we're done",
                                         "we\u2019re done",
                                         "you are done",
                                         "we are done",
                                         "everything we need",
                                         "everything i need",
                                         "all we need",
                                         "all i need",
                                         "onboarding is complete",
                                         "profile is complete",
                                         "is now complete",
                                         "are complete",
                                         "setup is complete",
                                         "successfully completed",
                                         "nothing else is needed"};
  return std::any_of(phrases.begin(), phrases.end(), [&](const char* phrase) { return contains(lower_text, phrase); });
}

bool mentions(const std::string& lower_text, const FieldSpec& field) {
  std::string name = field.name;
  std::replace(name.begin(), name.end(), '_', ' ');
  return contains(lower_text, name) || contains(lower_text, ascii_lower(label_of(field))) ||
         contains(lower_text, ascii_lower(field.prompt));
}

std::string hint_for(const FieldSpec& field) {
  switch (field.type) {
    case FieldType::email: return "For example: zoe@example.com.";
    case FieldType::phone: return "With the country code it always works, for example +49 30 901820.";
    case FieldType::date: return "For example: 1990-05-03.";
    case FieldType::integer: return "A whole number is all I need, for example 40.";
    case FieldType::number: return "A number is all I need, for example 2.5.";
    case FieldType::boolean: return "A yes or a no is all I need.";
    case FieldType::url: return "For example: https://example.com.";
    case FieldType::country: return "For example: Germany, or DE.";
    case FieldType::person_name:
    case FieldType::text:
    case FieldType::choice:
    case FieldType::postal_code:
    case FieldType::company: return "";
  }
  return "";
}

/// The next question: the first field that is missing.
Reply next_question(const TurnOutcome& outcome) {
  if (outcome.missing.empty()) return {};
  const FieldSpec& next = *outcome.missing.front();
  if (next.required) return {next.prompt, {next.name}};
  return {"If you'd like to share it: " + next.prompt, {next.name}};
}

std::string completion(const TurnOutcome& outcome) {
  if (outcome.completes) return "Thank you, that's everything we need. You're all set!";
  return "You're all set. If something should be changed, just tell me.";
}

std::string acknowledgement(const TurnOutcome& outcome) {
  if (outcome.accepted.empty()) return "";
  return "Thanks, I've noted your " + enumerate(labels(outcome.accepted, [](const FieldSpec* spec) { return spec; })) + ".";
}

/// Why values were refused, and the same question again; what the model would have said does not know of the refusal.
Reply reply_to_refusals(const TurnOutcome& outcome) {
  Reply reply{acknowledgement(outcome), {}};
  std::vector<const FieldSpec*> again;
  for (const RefusedField& refused : outcome.refused) {
    reply.text = join(std::move(reply.text), refused.sentence);
    if (!refused.open)
      reply.text = join(std::move(reply.text), "I've kept the " + label_of(*refused.field) + " you gave me before.");
    else if (refused.times > 1) reply.text = join(std::move(reply.text), hint_for(*refused.field));
    if (refused.open) again.push_back(refused.field);
  }
  if (again.empty()) {
    if (outcome.completes || (outcome.complete && outcome.missing.empty()))
      reply.text = join(std::move(reply.text), completion(outcome));
    Reply next = next_question(outcome);
    return {join(std::move(reply.text), next.text), std::move(next.asks)};
  }
  reply.text =
      join(std::move(reply.text),
           "Could you give me your " + enumerate(labels(again, [](const FieldSpec* spec) { return spec; })) + " once more?");
  for (const FieldSpec* field : again) reply.asks.push_back(field->name);
  return reply;
}

/// The missing fields that the model's reply asks for: those it says, or, when it doesn't say, those its text names.
std::vector<std::string> asked_by(const ModelAnswer& answer, const std::string& lower_reply, const TurnOutcome& outcome) {
  std::vector<std::string> asks;
  const bool question = asks_something(lower_reply);
  for (const FieldSpec* field : outcome.missing) {
    const bool said = std::find(answer.asks.begin(), answer.asks.end(), field->name) != answer.asks.end();
    const bool shown = mentions(lower_reply, *field);
    if (said ? question || shown : answer.asks.empty() && question && shown) asks.push_back(field->name);
  }
  return asks;
}

Reply reply_while_missing(const ModelAnswer& answer, const std::string& lower_reply, const TurnOutcome& outcome) {
  Reply next = next_question(outcome);
  if (lower_reply.empty() || (!outcome.complete && claims_completion(lower_reply)))
    return {join(acknowledgement(outcome), next.text), std::move(next.asks)};
  std::vector<std::string> asks = asked_by(answer, lower_reply, outcome);
  if (!asks.empty()) return {answer.reply, std::move(asks)};
  return {join(answer.reply, next.text), std::move(next.asks)};
}

Reply reply_when_done(const ModelAnswer& answer, const std::string& lower_reply, const TurnOutcome& outcome) {
  const bool asks_known_field =
      !answer.asks.empty() ||
      (asks_something(lower_reply) && std::any_of(outcome.flow->fields.begin(), outcome.flow->fields.end(),
                                                  [&](const FieldSpec& field) { return mentions(lower_reply, field); }));
  if (lower_reply.empty() || (outcome.completes && asks_known_field))
    return {join(outcome.completes ? "" : acknowledgement(outcome), completion(outcome)), {}};
  if (outcome.completes && !claims_completion(lower_reply)) return {join(answer.reply, completion(outcome)), {}};
  return {answer.reply, {}};
}

/// The turn completes the session, and something may still be asked: say so, then ask.
Reply reply_with_more_to_ask(const TurnOutcome& outcome) {
  Reply next = next_question(outcome);
  return {join(completion(outcome), "One more thing. " + next.text), std::move(next.asks)};
}

}  // namespace

Reply greet(const Flow& flow) {
  // The first field of a flow has no condition: a condition names an earlier field.
  const FieldSpec& first = flow.fields.front();
  return {join(flow.greeting, first.prompt), {first.name}};
}

Reply compose(const ModelAnswer& answer, const TurnOutcome& outcome) {
  if (!outcome.refused.empty()) return reply_to_refusals(outcome);
  const bool usable = answer.reply.size() <= max_reply_bytes && is_text(answer.reply) && !is_blank(answer.reply);
  const std::string lower_reply = usable ? ascii_lower(answer.reply) : std::string();
  if (outcome.missing.empty()) return reply_when_done(answer, lower_reply, outcome);
  if (outcome.completes) return reply_with_more_to_ask(outcome);
  return reply_while_missing(answer, lower_reply, outcome);
}

std::string technical_difficulties() {
  return "We're experiencing technical difficulties. Your message is safe with us, and so is everything you told me before; "
         "please try again in a moment.";
}

std::string why_required(const FieldSpec& field) {
  return "I understand, but I can't set things up without your " + label_of(field) + ".";
}

}  // namespace onboarding::domain
