#include "actors/model/cache/faq.hpp"

#include <algorithm>
#include <iterator>
#include <vector>

#include "actors/model/offline/text.hpp"

namespace onboarding::model {
namespace {

using offline::TokenKind;

constexpr std::size_t max_question_bytes = 300;

bool is_one_of(std::string_view word, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

/// Says nothing about what is asked. Question words, modal verbs, persons and negations are not here: they decide.
bool is_filler(std::string_view w) {
  return is_one_of(
      w, {"a",     "an",  "the",  "do",     "does", "did",  "be",    "is",   "are",   "am",    "was",    "to",       "of",
          "on",    "in",  "with", "please", "so",   "well", "hi",    "hey",  "hello", "just",  "really", "actually", "exactly",
          "by",    "way", "and",  "but",    "ok",   "okay", "there", "even", "wait",  "sorry", "know",   "have",     "has",
          "going", "go",  "kind", "sort",   "here", "now",  "then",  "at",   "all",   "tell",  "me"});
}
/// Fillers that stand alone without being an answer; "An." and "Here." are names.
bool is_interjection(std::string_view w) {
  return is_one_of(w, {"so",  "well", "hi",  "hey", "hello", "there", "just",   "really", "actually", "exactly", "by",   "the",
                       "way", "and",  "but", "ok",  "okay",  "wait",  "please", "sorry",  "now",      "then",    "tell", "me"});
}
bool is_negation(std::string_view w) {
  return is_one_of(w, {"not", "no", "never", "without", "nobody", "none", "cannot", "nothing", "n't"}) ||
         (w.size() > 3 && w.substr(w.size() - 3) == "n't");
}

/// What one asks about, in the form that stem() and synonym() give it: another one is another question.
bool is_thing(std::string_view w) {
  return is_one_of(
      w, {"who",      "whom",    "when",    "where",   "which",       "long",   "many",     "much",     "often",    "name",
          "email",    "company", "role",    "team",    "size",        "goal",   "phone",    "number",   "password", "age",
          "birthday", "birth",   "date",    "salary",  "revenue",     "income", "card",     "bank",     "account",  "passport",
          "photo",    "picture", "data",    "info",    "information", "answer", "boss",     "manager",  "friend",   "family",
          "home",     "street",  "city",    "country", "gender",      "sex",    "religion", "delivery", "price",    "cost",
          "pay",      "free",    "money",   "sell",    "share",       "delete", "remove",   "erase",    "keep",     "store",
          "save",     "sav",     "see",     "read",    "use",         "us",     "change",   "skip",     "stop",     "cancel",
          "finish",   "start",   "later",   "human",   "robot",       "person", "real",     "law",      "legal",    "safe",
          "secure",   "private", "privacy", "spam",    "newsletter",  "call",   "write",    "contact",  "question", "step",
          "minute",   "work",    "live",    "product", "service"});
}

/// Words of one meaning here, by one name.
std::string_view synonym(std::string_view w) {
  if (is_one_of(w, {"mail", "e-mail", "emails", "e-mails", "email"})) return "email";
  if (is_one_of(w, {"need", "want", "ask", "require", "request", "collect", "demand"})) return "need";
  if (is_one_of(w, {"job", "title", "position", "role"})) return "role";
  if (is_one_of(w, {"organisation", "organization", "employer", "firm", "company"})) return "company";
  if (is_one_of(w, {"could", "may", "can"})) return "can";
  if (is_one_of(w, {"would", "gonna", "will"})) return "will";
  if (is_one_of(w, {"bot", "chatbot", "machine", "ai", "robot"})) return "robot";
  if (is_one_of(w, {"answer", "reply", "response"})) return "answer";
  if (is_one_of(w, {"correct", "edit", "modify", "update", "fix", "change"})) return "change";
  if (is_one_of(w, {"afterwards", "later"})) return "later";
  return w;
}

/// Takes the commonest inflections off: enough to bring "asking", "asks" and "asked" together.
std::string stem(std::string w) {
  const auto ends = [&](std::string_view tail, std::size_t least) {
    return w.size() >= least && w.compare(w.size() - tail.size(), tail.size(), tail) == 0;
  };
  if (ends("'s", 4)) w.resize(w.size() - 2);
  if (ends("ing", 6)) w.resize(w.size() - 3);
  else if (ends("ed", 5) && !ends("eed", 4)) w.resize(w.size() - 2);
  else if (ends("s", 4) && !ends("ss", 4) && !ends("us", 4)) w.resize(w.size() - 1);
  return w;
}

std::string person(std::string_view w) {
  if (is_one_of(w, {"i", "me", "i'm", "i've", "i'd", "i'll", "we", "us"})) return "I";
  if (is_one_of(w, {"my", "our", "mine"})) return "my";
  if (is_one_of(w, {"you", "you're", "you've", "you'd", "you'll", "ya"})) return "you";
  if (is_one_of(w, {"your", "yours"})) return "your";
  if (is_one_of(
          w, {"he", "she", "they", "them", "their", "his", "her", "someone", "somebody", "anyone", "anybody", "others", "else"}))
    return std::string(w);
  return {};
}

void add_words(std::string_view label, std::multiset<std::string>& words) {
  const auto text = offline::read_text(label);
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto word = std::string(synonym(stem(text.lower(i))));
    // "address" adds nothing to "e-mail".
    if (text.tokens[i].kind == TokenKind::word && !is_filler(word) && word != "address") words.insert(word);
  }
}

}  // namespace

std::optional<Question> read_question(std::string_view message, std::string_view about) {
  if (message.size() > max_question_bytes) return {};
  const auto text = offline::read_text(message);
  if (!text.question) return {};
  Question question;
  auto& words = question.words;  // a word said twice may be a value the second time: "Can I change it later? May"
  auto& persons = question.persons;
  int negations = 0;
  bool only_filler = true, may_be_value = false;  // of the words since the last punctuation
  for (std::size_t i = 0; i <= text.size(); ++i) {
    if (i == text.size() || text.tokens[i].kind == TokenKind::punctuation) {
      if (only_filler && may_be_value) return {};
      only_filler = true;
      may_be_value = false;
      continue;
    }
    const auto& token = text.tokens[i];
    if (token.kind != TokenKind::word) return {};
    const auto& w = token.lower;
    question.one_sentence = question.one_sentence && (i == 0 || !token.starts_sentence);
    question.open =
        question.open || is_one_of(w, {"why", "what", "how", "who", "whom", "whose", "when", "where", "which", "what's"});
    only_filler = only_filler && is_filler(w);
    may_be_value = may_be_value || !is_interjection(w);
    if (is_negation(w)) {
      ++negations;
      if (w != "cannot" && w != "can't" && w != "won't") continue;
      words.insert(w == "won't" ? "will" : "can");
    } else if (const auto p = person(w); !p.empty()) {
      persons += p + " ";
    } else if (is_one_of(w, {"that", "this", "it", "these", "those"})) {
      if (about.empty()) continue;
      add_words(about, words);
      persons += "my ";  // what was asked for is theirs
    } else if (!is_filler(w)) {
      const auto word = std::string(synonym(stem(std::string(synonym(w)))));
      if (word != "address" && !is_filler(word)) words.insert(word);
      if (token.capitalised && !token.starts_sentence && !text.all_lower) question.names.insert(word);
    }
  }
  if (words.empty() || (words.size() == 1 && persons.empty())) return {};
  question.negated = negations % 2 != 0;
  return question;
}

bool may_mean_the_same(const Question& asked, const Question& known) {
  const auto things = [](const Question& q) {
    std::set<std::string> found = q.names;
    std::copy_if(q.words.begin(), q.words.end(), std::inserter(found, found.end()), is_thing);
    return found;
  };
  return asked.one_sentence && asked.open == known.open && asked.negated == known.negated && asked.persons == known.persons &&
         things(asked) == things(known);
}

std::string question_form(std::string_view message, std::string_view about) {
  const auto question = read_question(message, about);
  if (!question) return {};
  std::string form = question->persons + (question->negated ? "not:" : ":");
  for (const auto& word : question->words) form += " " + word;
  return form;
}

FaqIndex::FaqIndex(std::shared_ptr<const domain::Flow> flow) : flow_(std::move(flow)) {
  for (const auto& entry : flow_->faq)
    for (const auto& question : entry.questions)
      if (auto form = question_form(question, {}); !form.empty()) by_form_.emplace(std::move(form), &entry.answer);
}

const std::string* FaqIndex::find(std::string_view message, std::string_view asked_field) const {
  const auto look_up = [&](std::string_view about) -> const std::string* {
    const auto form = question_form(message, about);
    const auto found = form.empty() ? by_form_.end() : by_form_.find(form);
    return found == by_form_.end() ? nullptr : found->second;
  };
  // "this" is what was asked for, or all of it ("how long does this take?").
  const auto* field = flow_->find(asked_field);
  const auto* answer = field == nullptr ? nullptr : look_up(field->label);
  return answer != nullptr ? answer : look_up({});
}

}  // namespace onboarding::model
