// Questions that the flow's author answered: found by what they mean word by word. Pure. A false hit is worse than a miss, so the match
// is exact after normalising: the same content words (inflection and a few synonyms aside), the same negation, the same persons in
// the same order ("can I see your data" is not "can you see my data"), and not one word more.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "events/domain/flow.hpp"

namespace onboarding::model {

/// A question by what decides its meaning.
struct Question {
  std::string persons;  // in their order
  bool negated = false;
  bool open = false;                 // why, what, how …: not to be answered by yes or no
  bool one_sentence = true;          // beside it nothing that could be an answer
  std::multiset<std::string> words;  // its content, by stem and a few synonyms
  std::set<std::string> names;       // of them those that are written like a name
};
/// As question_form; nullopt: empty.
std::optional<Question> read_question(std::string_view message, std::string_view about);
/// The guard for questions that look alike in another way than word by word: one sentence, the same kind of question, the same polarity, the same persons in the same order,
/// and the same things asked about (of a list of things that one asks about, and all that is written like a name).
bool may_mean_the_same(const Question& asked, const Question& known);

/// What is compared of a question; empty: it is none, or it holds a number or an address and may be an answer. `about` stands for
/// "that", "this" and "it": the field that was asked; empty: they say nothing.
std::string question_form(std::string_view message, std::string_view about);

class FaqIndex {
 public:
  explicit FaqIndex(std::shared_ptr<const domain::Flow>);

  /// The answer to the question; nullptr: it is not among them. `asked_field`: of the last reply, may be empty.
  const std::string* find(std::string_view message, std::string_view asked_field) const;

 private:
  std::shared_ptr<const domain::Flow> flow_;  // keeps the answers
  std::map<std::string, const std::string*, std::less<>> by_form_;
};

}  // namespace onboarding::model
