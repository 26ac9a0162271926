#include "actors/model/offline/reply.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <string_view>

namespace onboarding::model::offline {
namespace {

using domain::FieldSpec;
using domain::FieldType;

// Variety without randomness: the same message always gets the same words, so that a repeated call changes nothing.
std::string_view pick(std::span<const std::string_view> variants, std::string_view seed) {
  std::uint32_t hash = 2166136261u;
  for (const unsigned char c : seed) hash = (hash ^ c) * 16777619u;
  return variants[hash % variants.size()];
}

std::string first_name(std::string_view full) {
  auto space = full.find(' ');
  if (space != std::string_view::npos && (full[space - 1] == '.' || full.starts_with("Dr ") || full.starts_with("Mr ") ||
                                          full.starts_with("Mrs ") || full.starts_with("Ms ")))
    return std::string(full.substr(0, full.find(' ', space + 1)));  // Dr. Angela, J. Robert
  std::string name(full.substr(0, space));
  if (!name.empty() && name[0] >= 'a' && name[0] <= 'z') name[0] = static_cast<char>(name[0] - 32);
  return name;
}

std::string listed(const std::vector<std::string>& items) {
  std::string out;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += i + 1 == items.size() ? " and " : ", ";
    out += items[i];
  }
  return out;
}

std::string label_of(const FieldSpec& spec) {
  if (!spec.label.empty()) return spec.label;
  auto label = spec.name;
  std::replace(label.begin(), label.end(), '_', ' ');
  return label;
}

std::string acknowledgement(const ExtractionRequest& request, const std::vector<std::pair<std::string, std::string>>& found) {
  static constexpr std::array<std::string_view, 5> single{"Got it, thanks.", "Thanks, noted.", "Perfect, thank you.",
                                                          "Great, I've noted that.", "Lovely, thanks."};
  std::vector<std::string> noted, changed;
  std::string greeting;
  for (const auto& [name, value] : found) {
    const auto* spec = request.flow->find(name);
    if (!spec) continue;
    if (request.collected.contains(name)) changed.push_back(label_of(*spec));
    else if (spec->type == FieldType::person_name) greeting = "Nice to meet you, " + first_name(value) + "!";
    else noted.push_back(label_of(*spec));
  }
  std::string out = greeting;
  const auto add = [&](const std::string& sentence) {
    if (!out.empty()) out += ' ';
    out += sentence;
  };
  if (!changed.empty()) add("No problem, I've corrected your " + listed(changed) + ".");
  if (noted.size() == 1 && greeting.empty()) add(std::string(pick(single, request.message)));
  else if (!noted.empty()) add("I've noted your " + listed(noted) + ".");
  return out;
}

std::string answer_to_question(const Text& text, const FieldSpec* next) {
  std::string lower;
  for (const auto& token : text.tokens) (lower += token.lower) += ' ';
  const auto says = [&](std::string_view w) { return lower.find(w) != std::string::npos; };
  if (says("why"))
    return next ? "Good question: your " + label_of(*next) + " helps us set things up for you, and it is used for nothing else."
                : "Good question: it helps us set things up for you, and it is used for nothing else.";
  if (says("safe") || says("privacy") || says("private") || says("secure") || says("gdpr") || says("store") || says("share") ||
      says("spam"))
    return "Your answers are stored encrypted, with a key of your own, and can be erased whenever you ask.";
  if (says("who are you") || says("are you human") || says("a bot") || says("robot") || says("real person"))
    return "I'm the onboarding assistant: a program, not a person, here to get you set up.";
  if (says("how long") || says("how many") || says("much longer"))
    return "It only takes a couple of minutes; just a few short questions.";
  if (says("what can") || says("what do you") || says("what is this") || says("what's this") || says("help"))
    return "I'm here to get you set up: a few short questions, and you can answer them in your own words.";
  if (says("skip") || says("later")) return "We can take it one step at a time.";
  return "I'm afraid I can't answer that one here.";
}

std::string hint(const FieldSpec& spec) {
  switch (spec.type) {
    case FieldType::email: return " Something like name@example.com.";
    case FieldType::phone: return " With the country code, please, such as +44 20 7946 0958.";
    case FieldType::date: return " For example 14 May 1990.";
    case FieldType::integer:
    case FieldType::number: return " A number, or a rough one, is fine.";
    case FieldType::choice: {
      std::vector<std::string> values;
      for (const auto& option : spec.options) values.push_back(option.labels.empty() ? option.value : option.labels.front());
      return " You can say " + listed(values) + ".";
    }
    case FieldType::boolean: return " Just yes or no.";
    case FieldType::url: return " For example https://example.com.";
    default: return "";
  }
}

bool greets(const Text& text) {
  static constexpr std::array<std::string_view, 8> words{"hi", "hello", "hey", "hiya", "good", "howdy", "greetings", "yo"};
  return text.size() > 0 && text.size() <= 4 && std::find(words.begin(), words.end(), text.lower(0)) != words.end();
}

std::string not_understood(const Text& text, const FieldSpec& next, std::string_view seed) {
  static constexpr std::array<std::string_view, 3> openings{"Sorry, I'm not sure I caught your ",
                                                            "I want to get this right: I couldn't make out your ",
                                                            "Hmm, I'm not certain which part of that is your "};
  if (greets(text)) return "Hello! " + next.prompt;
  return std::string(pick(openings, seed)) + label_of(next) + ". " + next.prompt + hint(next);
}

}  // namespace

bool reads_english(const domain::Flow& flow) {
  const auto language = flow.locale.substr(0, flow.locale.find_first_of("-_"));
  return language.size() == 2 && (language[0] | 0x20) == 'e' && (language[1] | 0x20) == 'n';
}

domain::ModelAnswer compose_answer(const ExtractionRequest& request, const Text& text,
                                   const std::vector<std::pair<std::string, std::string>>& found,
                                   const std::vector<std::string>& still_missing, bool declined_required,
                                   const std::vector<const FieldSpec*>& either) {
  domain::ModelAnswer answer;
  answer.fields = found;
  const FieldSpec* next = still_missing.empty() ? nullptr : request.flow->find(still_missing.front());
  if (next) answer.asks.push_back(next->name);

  std::string& reply = answer.reply;
  if (!reads_english(*request.flow)) {
    reply = next ? next->prompt : "OK.";
    return answer;
  }
  if (!either.empty()) {
    std::string which, example;
    for (const auto* spec : either) {
      (which += which.empty() ? "your " : " or your ") += label_of(*spec);
      if (example.empty()) example = "my " + label_of(*spec) + " is …";
    }
    reply = "I'd gladly correct that: do you mean " + which + "? Please say it in full, such as \"" + example + "\".";
    return answer;
  }
  reply = acknowledgement(request, found);
  const auto add = [&](const std::string& sentence) {
    if (sentence.empty()) return;
    if (!reply.empty()) reply += ' ';
    reply += sentence;
  };
  if (declined_required && next) {
    add("I understand. Without your " + label_of(*next) + " I can't finish setting you up, though.");
    add(next->prompt);
    return answer;
  }
  if (text.question && (found.empty() || text.raw.ends_with('?'))) add(answer_to_question(text, next));
  else if (found.empty() && next) {
    add(not_understood(text, *next, request.message));
    return answer;
  }
  if (next) {
    add(next->prompt);
  } else if (request.completed || found.empty()) {
    add(found.empty() && !text.question ? "You're all set. If anything should be changed, just tell me."
                                        : "Everything else stays as it is.");
  } else {
    const auto name = std::find_if(found.begin(), found.end(), [&](const auto& f) {
      const auto* spec = request.flow->find(f.first);
      return spec && spec->type == FieldType::person_name;
    });
    std::string who;
    if (name == found.end())
      for (const auto& spec : request.flow->fields)
        if (const auto known = request.collected.find(spec.name);
            spec.type == FieldType::person_name && known != request.collected.end())
          who = ", " + first_name(known->second);
    add("That's everything I need" + who + ". Welcome aboard!");
  }
  return answer;
}

}  // namespace onboarding::model::offline
