#include "events/domain/fields.hpp"

#include <algorithm>
#include <array>
#include <set>

#include "events/domain/readers.hpp"
#include "events/domain/text.hpp"
#include "events/domain/unicode.hpp"

namespace onboarding::domain {

namespace {

constexpr std::size_t max_value_bytes = 4096;

Reading read(const FieldSpec& spec, const std::string& said) {
  switch (spec.type) {
    case FieldType::person_name: return read_person_name(spec, said);
    case FieldType::text: return read_text(spec, said);
    case FieldType::email: return read_email(said);
    case FieldType::phone: return read_phone(spec, said);
    case FieldType::date: return read_date(said);
    case FieldType::integer:
    case FieldType::number: return read_number(spec, said);
    case FieldType::boolean: return read_boolean(said);
    case FieldType::choice: return read_choice(spec, said);
    case FieldType::url: return read_url(said);
    case FieldType::country: return read_country(said);
    case FieldType::postal_code: return read_postal_code(spec, said);
    case FieldType::company: return read_company(spec, said);
  }
  return refuse("unknown_type", "I can't take that kind of answer.");
}

bool has_word_or_symbol(std::string_view text) {
  // Letters, digits and everything beyond Latin punctuation (emoji say something too).
  return std::any_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || static_cast<unsigned char>(c) >= 0xC3;
  });
}

using Words = std::vector<std::string>;

bool starts_with(const Words& words, std::size_t at, const Words& phrase) {
  return at + phrase.size() <= words.size() &&
         std::equal(phrase.begin(), phrase.end(), words.begin() + static_cast<std::ptrdiff_t>(at));
}

bool contains(const Words& words, const Words& phrase) {
  return std::search(words.begin(), words.end(), phrase.begin(), phrase.end()) != words.end();
}

bool contains_any(const Words& words, const std::set<std::string, std::less<>>& some) {
  return std::any_of(words.begin(), words.end(), [&](const std::string& word) { return some.count(word) > 0; });
}

const std::set<std::string, std::less<>>& negations() {
  static const std::set<std::string, std::less<>> words = {"not",   "no",     "nope",   "never", "don't", "dont",
                                                           "isn't", "aren't", "wasn't", "won't", "can't", "neither"};
  return words;
}

/// What follows "I'd rather not" may only be about declining: "… use Excel any more" is an answer, "… share my birth date" is
/// none.
bool only_about(const Words& words, std::size_t at, const std::set<std::string, std::less<>>& about) {
  for (; at < words.size(); ++at) {
    if (about.count(words[at]) == 0) return false;
    if (words[at] == "my" || words[at] == "our") at += 2;  // whatever it is
  }
  return true;
}

}  // namespace

tl::expected<void, Refusal> check_length(const FieldSpec& spec, std::string_view value, std::uint32_t default_max) {
  const std::size_t length = length_in_code_points(value);
  const std::uint32_t max = spec.max_length.value_or(default_max);
  const std::uint32_t min = spec.min_length.value_or(1);
  if (length > max) return refuse("too_long", "That is too long; please use at most " + std::to_string(max) + " characters.");
  if (length < min) return refuse("too_short", "That is too short; please use at least " + std::to_string(min) + " characters.");
  return {};
}

tl::expected<FieldValue, Refusal> parse_field(const FieldSpec& spec, std::string_view as_said) {
  if (as_said.size() > max_value_bytes) return refuse("too_long", "That is too long.");
  if (!is_text(as_said)) return refuse("not_text", "That holds characters I can't read.");
  const auto said = clean(as_said);
  if (!said) return refuse("not_text", "That holds characters I can't read.");
  if (said->empty()) return refuse("empty", "I didn't get an answer there.");
  return read(spec, *said).map([&](std::string&& canonical) { return FieldValue{spec.type, std::move(canonical)}; });
}

Reading read_text(const FieldSpec& spec, const std::string& said) {
  if (!spec.pattern.empty()) {
    if (!matches(spec.pattern, said)) return refuse("pattern_mismatch", "That doesn't have the form I need.");
  } else if (!has_word_or_symbol(said)) {
    return refuse("no_words", "I couldn't find a word in that.");
  }
  if (const auto fits = check_length(spec, said, max_value_bytes); !fits) return tl::make_unexpected(fits.error());
  return said;
}

Reading read_boolean(const std::string& said) {
  static const std::set<std::string, std::less<>> yes = {
      "yes",    "yeah", "yep",     "yup",     "ya",         "y",          "sure",      "true",        "1",
      "ok",     "okay", "correct", "right",   "definitely", "absolutely", "certainly", "affirmative", "indeed",
      "agreed", "aye",  "totally", "exactly", "oui",        "si",         "ja"};
  static const std::set<std::string, std::less<>> no = {"no",    "nope",     "nah", "n",   "false", "0",
                                                        "never", "negative", "nay", "non", "nein"};
  static const std::set<std::string, std::less<>> yes_phrases = {
      "of course",     "i do",        "i am",       "we do",        "we are",       "i have",        "we have",        "i agree",
      "i accept",      "sounds good", "why not",    "please do",    "that's right", "that is right", "that's correct", "you bet",
      "with pleasure", "go ahead",    "no problem", "by all means", "it is",        "it does"};
  static const std::set<std::string, std::less<>> no_phrases = {
      "not really",     "not at all",    "i don't",       "i do not",       "we don't",
      "we do not",      "i'm not",       "i am not",      "we're not",      "we are not",
      "i haven't",      "we haven't",    "not yet",       "no way",         "absolutely not",
      "definitely not", "of course not", "certainly not", "i'd rather not", "i would rather not",
      "don't",          "please don't",  "not for me",    "it isn't",       "it doesn't",
      "by no means"};
  static const std::set<std::string, std::less<>> unsure = {"maybe", "perhaps", "depends", "unsure", "sometimes", "possibly"};
  if (said.find("\U0001F44D") != std::string::npos) return "true";
  if (said.find("\U0001F44E") != std::string::npos) return "false";
  const Words words = words_of(said);
  const std::string phrase = fold_words(said);
  if (yes.count(phrase) > 0 || yes_phrases.count(phrase) > 0) return "true";
  if (no.count(phrase) > 0 || no_phrases.count(phrase) > 0) return "false";
  const bool clear =
      !words.empty() && !contains_any(words, unsure) && !contains(words, {"not", "sure"}) && !contains(words, {"don't", "know"});
  if (clear && no.count(words.front()) > 0 && !contains_any(words, yes)) return "false";
  if (clear && yes.count(words.front()) > 0 && !contains_any(words, negations()) && !contains_any(words, no)) return "true";
  const auto begins_with = [&](const auto& phrases) {
    return std::any_of(phrases.begin(), phrases.end(), [&](const std::string& p) { return starts_with_word(phrase, p); });
  };
  if (clear && begins_with(no_phrases) && !contains_any(words, yes)) return "false";
  if (clear && begins_with(yes_phrases) && !contains_any(words, negations())) return "true";
  return refuse("not_clear", "I couldn't tell whether that's a yes or a no.");
}

Reading read_choice(const FieldSpec& spec, const std::string& said) {
  const Words words = words_of(said);
  const std::string phrase = fold_words(said);
  const std::string exact = lower(said);
  struct Match {
    const ChoiceOption* option;
    std::size_t words;
  };
  std::vector<Match> inside;                 // options whose label stands in what was said
  for (const bool folded : {false, true}) {  // labels may differ in punctuation only: "C", "C++"
    for (const ChoiceOption& option : spec.options) {
      const auto is = [&](const std::string& label) {
        return folded ? !phrase.empty() && fold_words(label) == phrase : lower(label) == exact;
      };
      if (is(option.value) || std::any_of(option.labels.begin(), option.labels.end(), is)) return option.value;
    }
  }
  if (!contains_any(words, negations())) {
    for (const ChoiceOption& option : spec.options) {
      std::size_t longest = 0;
      const auto look_for = [&](const std::string& label) {
        Words of_label = words_of(label);
        if (of_label.size() > 1 && (of_label.front() == "a" || of_label.front() == "an" || of_label.front() == "the"))
          of_label.erase(of_label.begin());
        if (!of_label.empty() && contains(words, of_label)) longest = std::max(longest, of_label.size());
      };
      look_for(option.value);
      for (const std::string& label : option.labels) look_for(label);
      if (longest > 0) inside.push_back({&option, longest});
    }
    // "a mobile app" means it more than "an app" does: the longest label wins, two equally long ones do not.
    std::sort(inside.begin(), inside.end(), [](const Match& a, const Match& b) { return a.words > b.words; });
    if (inside.size() == 1 || (inside.size() > 1 && inside[0].words > inside[1].words)) return inside.front().option->value;
  }
  std::vector<std::string> names;
  for (const ChoiceOption& option : spec.options) {
    if (names.size() == 8) break;
    names.push_back(option.labels.empty() ? option.value : option.labels.front());
  }
  const std::string listed =
      (names.size() < spec.options.size() ? "One of these would do, for example: " : "Please choose one of these: ") +
      enumerate(names, " or ") + ".";
  if (inside.size() > 1) return refuse("several_values", "That could mean more than one of the answers. " + listed);
  return refuse("not_an_option", "That isn't one of the answers I can take. " + listed);
}

bool is_declining(std::string_view as_said) {
  constexpr std::size_t max_words = 12;
  if (as_said.size() > 200 || !is_text(as_said)) return false;
  static const std::set<std::string, std::less<>> whole = {"skip",
                                                           "pass",
                                                           "no",
                                                           "nope",
                                                           "nah",
                                                           "none",
                                                           "nothing",
                                                           "n a",
                                                           "na n a",
                                                           "not applicable",
                                                           "no thanks",
                                                           "no thank you",
                                                           "no thx",
                                                           "no comment",
                                                           "decline",
                                                           "declined",
                                                           "not telling",
                                                           "not saying",
                                                           "not now",
                                                           "maybe later",
                                                           "later",
                                                           "no answer",
                                                           "nothing to say",
                                                           "don't ask",
                                                           "not important",
                                                           "none of your business",
                                                           "that's private",
                                                           "that is private",
                                                           "it's private",
                                                           "keep it private",
                                                           "i pass",
                                                           "i'll pass",
                                                           "i will pass",
                                                           "i decline",
                                                           "move on",
                                                           "next question",
                                                           "next question please"};
  static const std::array<Words, 16> openings = {{{"skip"},
                                                  {"rather", "not"},
                                                  {"prefer", "not"},
                                                  {"don't", "want", "to", "say"},
                                                  {"don't", "want", "to", "tell"},
                                                  {"don't", "want", "to", "share"},
                                                  {"don't", "want", "to", "answer"},
                                                  {"do", "not", "want", "to", "say"},
                                                  {"do", "not", "want", "to", "tell"},
                                                  {"do", "not", "want", "to", "share"},
                                                  {"do", "not", "want", "to", "answer"},
                                                  {"won't", "say"},
                                                  {"won't", "tell"},
                                                  {"none", "of", "your", "business"},
                                                  {"not", "going", "to", "tell"},
                                                  {"not", "comfortable"}}};
  static const std::set<std::string, std::less<>> polite = {
      "i",      "i'd",    "i'll", "i'm",    "id",   "would",    "we",       "we'd", "well", "sorry",
      "please", "no",     "um",   "uh",     "hmm",  "actually", "let's",    "lets", "can",  "could",
      "just",   "thanks", "to",   "that's", "it's", "really",   "honestly", "much", "let",  "me"};
  static const std::set<std::string, std::less<>> about = {
      "it",     "this",    "that",   "to",      "say",      "answer",      "share", "tell",     "you",      "disclose",
      "give",   "sharing", "saying", "telling", "giving",   "answering",   "my",    "the",      "question", "one",
      "please", "thanks",  "thank",  "for",     "now",      "with",        "if",    "possible", "ok",       "okay",
      "step",   "part",    "sorry",  "on",      "out",      "information", "info",  "details",  "these",    "those",
      "right",  "any",     "of",     "your",    "business", "here"};
  const std::string phrase = fold_words(as_said);
  if (whole.count(phrase) > 0) return true;
  const Words words = words_of_folded(phrase);
  if (words.size() > max_words) return false;
  std::size_t at = 0;
  for (; at < words.size(); ++at) {
    for (const Words& opening : openings) {
      if (!starts_with(words, at, opening)) continue;
      return only_about(words, at + opening.size(), about);
    }
    if (polite.count(words[at]) == 0) return false;
  }
  return false;
}

}  // namespace onboarding::domain
