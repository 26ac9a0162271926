// The offline extractor: rules over tokens, in the context of what was asked and of what is still open.
//
// Order matters and is the design: a correction of something known beats a labelled value ("my e-mail is …"), which beats
// a value that shows its type by itself (an e-mail address), which beats a cue ("I work at …"), which beats the bare
// answer to the question asked. A rule that is not sure says nothing: a wrong value is worse than one more question.
#include <algorithm>
#include <array>
#include <charconv>
#include <functional>
#include <utility>

#include "actors/model/extraction.hpp"
#include "actors/model/offline/lexicon.hpp"
#include "actors/model/offline/reply.hpp"
#include "actors/model/offline/slots.hpp"
#include "actors/model/offline/spans.hpp"
#include "actors/model/offline/text.hpp"

namespace onboarding::model {
namespace offline {
namespace {

class Extraction {
 public:
  explicit Extraction(const ExtractionRequest& request)
      : request_(request), text_(read_text(request.message)), slots_(Slots::of(request.flow)), asked_(first_asked()) {}

  std::optional<domain::ModelAnswer> run() {
    if (text_.size() == 0 || addresses_the_machine()) return answer();
    if (declines()) return answer();
    if (correct_by_contrast()) {
      read_sentences_before();
    } else if (!correct_by_spelling()) {
      read_labelled();
      read_typed();
      read_name_cue();
      read_role_and_company_cues();
      read_team_size();
      read_goal_cue();
      if (found_.empty()) correct_bare();
      read_list();
      read_bare_answer();
    }
    if (found_.empty() && !reads_english(*request_.flow) && request_.missing.empty()) return std::nullopt;
    return answer();
  }

 private:
  // ---- what was asked

  const domain::FieldSpec* first_asked() const {
    for (const auto& name : request_.asked)
      if (const auto* spec = request_.flow->find(name); spec && !request_.collected.contains(name)) return spec;
    return nullptr;
  }
  bool asks(const domain::FieldSpec* spec) const { return spec && spec == asked_; }
  bool open(const domain::FieldSpec* spec) const {
    return spec && std::find(request_.missing.begin(), request_.missing.end(), spec->name) != request_.missing.end();
  }
  bool known(const domain::FieldSpec* spec) const { return spec && request_.collected.contains(spec->name); }
  const std::string* found(const domain::FieldSpec* spec) const {
    if (!spec) return nullptr;
    for (const auto& [name, value] : found_)
      if (name == spec->name) return &value;
    return nullptr;
  }
  bool accepts(const domain::FieldSpec* spec, std::string_view value) const {
    return spec && domain::parse_field(*spec, value).has_value();
  }

  /// `must` keeps a value that our validator will refuse, so that the person hears why.
  enum class Take { if_valid, must };
  bool take(const domain::FieldSpec* spec, std::string_view value, Take how = Take::if_valid) {
    while (!value.empty() && (value.back() == ' ' || value.back() == ',' || value.back() == '-')) value.remove_suffix(1);
    const auto sign = [&] { return value.size() > 1 && value[1] >= '0' && value[1] <= '9'; };
    while (!value.empty() && (value.front() == ' ' || value.front() == '"' || (value.front() == '-' && !sign())))
      value.remove_prefix(1);
    if (!spec || value.empty() || found(spec)) return false;
    if (how == Take::if_valid && !accepts(spec, value)) return false;
    if (const auto known_value = request_.collected.find(spec->name); known_value != request_.collected.end())
      if (const auto parsed = domain::parse_field(*spec, value); parsed && parsed->canonical == known_value->second) return false;
    found_.emplace_back(spec->name, std::string(value));
    return true;
  }

  // ---- things that carry no value

  bool addresses_the_machine() const {  // a text that speaks to a model's instructions, or is code, holds no profile
    if (text_.raw.front() == '{' || text_.raw.starts_with("<script") || text_.raw.starts_with("[{")) return true;
    static constexpr std::array<std::string_view, 17> signs{
        "system :",        "assistant :", "output full",      "the user is",   "finish onboarding", "ignore all",
        "ignore previous", "ignore your", "ignore the above", "system prompt", "disregard",         "is_complete",
        "jailbreak",       "you are now", "pretend to be",    "pretend you",   "your instructions"};
    for (std::size_t i = 0; i < text_.size(); ++i)
      if (is_one_of(text_.lower(i), {"ignore", "disregard", "override", "forget"}))
        for (std::size_t k = i + 1; k < std::min(text_.size(), i + 7); ++k)
          if (is_one_of(text_.lower(k), {"instructions", "instruction", "prompt", "prompts", "rules", "directions"})) return true;
    std::string lower;
    for (const auto& token : text_.tokens) (lower += token.lower) += ' ';
    return std::any_of(signs.begin(), signs.end(), [&](auto sign) { return lower.find(sign) != std::string::npos; });
  }

  bool declines() {
    if (!asked_ || !domain::is_declining(request_.message)) return false;
    if (asked_->type == domain::FieldType::boolean) return take(asked_, "no");
    if (asked_->required) declined_required_ = true;
    else take(asked_, text_.raw, Take::must);
    return true;
  }

  // ---- corrections

  bool has_correction_word() const {
    return std::any_of(text_.tokens.begin(), text_.tokens.end(), [](const Token& t) { return is_correction_word(t.lower); });
  }

  /// "Ann, not Anne", "not Globex but Initech", "it's 50 instead of 40", ".com not .org", "my company isn't Acme, it's Globex".
  bool correct_by_contrast() {
    if (correct_what_was_said()) return true;
    constexpr int most = 8;  // a person denies no more in one message
    for (std::size_t i = 0, seen = 0; i < text_.size() && seen < most; ++i) {
      const auto& word = text_.lower(i);
      const bool instead = (word == "instead" || word == "rather") && i + 1 < text_.size() &&
                           (text_.lower(i + 1) == "of" || text_.lower(i + 1) == "than");
      const bool denies = is_denying_verb(word);  // before "isn't" stands what it is about, never the right value
      if (word != "not" && !instead && !denies) continue;
      ++seen;
      const std::size_t behind = i + (instead ? 2 : 1);
      std::size_t value = behind;
      while (value < text_.size() && is_one_of(text_.lower(value), {"a", "an", "the", "my", "our", "at", "with", "from", "called",
                                                                    "named", "really", "actually", "working", "just"}))
        ++value;
      for (const auto wrong_begin : {behind, value}) {
        std::size_t wrong_end = wrong_begin;
        while (wrong_end < std::min(text_.size(), wrong_begin + 5) &&
               !is_one_of(text_.lower(wrong_end), {",", ";", "but", "it's"}))
          ++wrong_end;
        for (; wrong_end > wrong_begin; --wrong_end) {
          const auto wrong = text_.between(wrong_begin, wrong_end);
          const bool before = std::exchange(contradicted_, false);
          if (correct(wrong, sentence_of(i), [&](const auto& spec) { return other_side(i, wrong_end, spec, !denies); }))
            return true;
          const bool held = std::exchange(contradicted_, contradicted_ || before);
          if (held) break;  // a part of it would be replaced by what was meant for all of it
        }
        if (value == behind) break;
      }
    }
    return false;
  }
  /// "CPO. Oh, and my mail is zoe@acme.eu, not .io": first the answer, then the correction.
  void read_sentences_before() {
    if (correction_begins_ == 0) return;
    auto before = request_;
    before.message = text_.between(0, correction_begins_);
    for (const auto& [name, value] : Extraction(before).run().value_or(domain::ModelAnswer{}).fields)
      take(request_.flow->find(name), value, Take::must);
  }
  /// "Acme, not Globex", of Acme: what is right is known already.
  bool affirms_the_known() const {
    if (std::none_of(text_.tokens.begin(), text_.tokens.end(), [](const Token& t) { return t.lower == "not"; })) return false;
    return std::any_of(request_.collected.begin(), request_.collected.end(), [&](const auto& known_value) {
      return known_value.second.size() > 2 && lowered(text_.raw).starts_with(lowered(known_value.second));
    });
  }
  static bool is_denying_verb(std::string_view w) {
    return is_one_of(w, {"isn't", "isnt", "aren't", "arent", "wasn't", "wasnt", "ain't"});
  }

  /// "I said 40 but it should have been 14": the known value that the first half names becomes what the second half says.
  bool correct_what_was_said() {
    for (std::size_t i = 1; i + 1 < text_.size(); ++i) {
      if (text_.lower(i - 1) != "i" || !is_one_of(text_.lower(i), {"said", "put", "wrote", "typed"})) continue;
      for (std::size_t but = i + 2; but < std::min(text_.size(), i + 7); ++but) {
        if (text_.lower(but) != "but" && text_.lower(but) != ",") continue;
        const auto wrong = text_.between(i + 1, but);
        std::size_t right = but + 1;
        while (right < text_.size() && is_one_of(text_.lower(right), {"i", "it", "it's", "that", "should", "have", "has", "to",
                                                                      "be", "been", "is", "meant", "but", "actually", "really"}))
          ++right;
        if (right == but + 1) continue;
        if (correct(wrong, sentence_of(i), [&](const auto& spec) { return fitting(spec, right, clause_end(text_, right)); }))
          return true;
      }
    }
    return false;
  }

  /// `wrong` becomes what `right` says for a field. Which field: the one whose label is said; else one that holds nothing but
  /// `wrong` before one that holds it among others. Where two hold it alike we ask.
  template <class Right>
  bool correct(std::string_view wrong, Span sentence, const Right& right) {
    struct Change {
      const domain::FieldSpec* spec;
      std::string value;
      bool whole;
    };
    const auto& fields = request_.flow->fields;
    std::optional<bool> labels;  // looked for only where something is held: most negations deny nothing known
    std::vector<Change> changes;
    for (const auto& spec : fields) {
      const auto known_value = request_.collected.find(spec.name);
      if (known_value == request_.collected.end()) continue;
      const auto& value = known_value->second;
      const bool whole = accepts_whole(spec, value, wrong);
      if (!whole && (wrong.size() < 2 || find_word(value, wrong) == std::string::npos)) continue;
      contradicted_ = true;
      if (!labels)
        labels = std::any_of(fields.begin(), fields.end(), [&](const auto& other) { return labelled(other, sentence); });
      const bool label = *labels && labelled(spec, sentence);
      if ((*labels && !label) || (!whole && !label && spec.type == domain::FieldType::text && &spec != slots_.role)) continue;
      std::string said(right(spec));
      if (said.empty()) continue;
      if (wrong.front() == '.' && said.front() != '.') said = '.' + said;
      if (spec.type == domain::FieldType::email && !whole && !label && !like_a_host(said) && !speaks_of_mail(sentence)) continue;
      const auto twice = [&](std::string_view word) {  // "my name is Lee, not Anne", of Anne Lee, makes no Lee Lee
        return find_word(wrong, word) == std::string::npos && find_word(value, word) != std::string::npos;
      };
      if (const auto words = words_of(said);
          !whole && spec.type == domain::FieldType::person_name && std::any_of(words.begin(), words.end(), twice))
        continue;
      auto changed = replaced(spec, value, wrong, said);
      if (const auto parsed = domain::parse_field(spec, changed); parsed && parsed->canonical != value)
        changes.push_back({&spec, std::move(changed), whole});
    }
    if (std::any_of(changes.begin(), changes.end(), [](const Change& c) { return c.whole; }))
      std::erase_if(changes, [](const Change& c) { return !c.whole; });
    correction_begins_ = sentence.first;
    if (changes.size() > 1)
      for (const auto& change : changes) either_.push_back(change.spec);
    return changes.size() > 1 || (changes.size() == 1 && take(changes.front().spec, changes.front().value));
  }

  Span sentence_of(std::size_t i) const {
    const auto ends = [&](std::size_t k) {  // a stop within an address has no space behind it
      return is_one_of(text_.lower(k), {".", "!", "?", "\n"}) &&
             (k + 1 == text_.size() || text_.tokens[k + 1].begin > text_.tokens[k].end || text_.lower(k) == "\n");
    };
    std::size_t first = i, last = i;
    while (first > 0 && !ends(first - 1)) --first;
    while (last < text_.size() && !ends(last)) ++last;
    return {first, last};
  }
  bool labelled(const domain::FieldSpec& spec, Span within) const {
    for (std::size_t i = within.first; i < within.last; ++i) {
      if (&spec == slots_.name && is_one_of(text_.lower(i), {"surname", "lastname", "firstname"})) return true;
      if (&spec == slots_.name && i > 0 && is_one_of(text_.lower(i - 1), {"company", "company's", "firm", "domain", "brand"}))
        continue;
      if (slots_.match_label(spec, text_, i) > i) return true;
    }
    return false;
  }
  bool speaks_of_mail(Span within) const {
    for (std::size_t i = within.first; i < within.last; ++i)
      if (is_one_of(text_.lower(i), {"mail", "email", "e-mail", "address", "domain", "inbox"})) return true;
    return false;
  }
  static bool like_a_host(std::string_view said) {
    if (said.find(' ') != said.npos) return false;
    const auto dot = said.rfind('.');
    return said.find('@') != said.npos || (dot != said.npos && dot + 2 < said.size()) ||
           is_one_of(lowered(said),
                     {"gmail", "googlemail", "hotmail", "outlook", "yahoo", "icloud", "proton", "protonmail", "gmx"});
  }

  static std::string replaced(const domain::FieldSpec& spec, const std::string& value, std::string_view wrong,
                              std::string_view right) {
    const auto at = find_word(value, wrong);
    if (at == std::string::npos || accepts_whole(spec, value, wrong)) return std::string(right);
    if (spec.type == domain::FieldType::email && right.find('@') != right.npos) return std::string(right);
    if (spec.type == domain::FieldType::email && right.find('.', 1) != right.npos && at > value.find('@'))
      return value.substr(0, value.find('@') + 1) + std::string(right);  // "not gmail, it's proton.me"
    auto whole = value;
    whole.replace(at, wrong.size(), right);
    return whole;
  }
  static bool accepts_whole(const domain::FieldSpec& spec, const std::string& value, std::string_view wrong) {
    const auto parsed = domain::parse_field(spec, wrong);
    return parsed && parsed->canonical == value;
  }

  /// The right value: behind the wrong one where "but" or "it's" points at it, else what stands before "not", else what follows a
  /// comma. Nothing that has not the shape of the field.
  std::string_view other_side(std::size_t not_at, std::size_t wrong_end, const domain::FieldSpec& spec, bool before) const {
    std::size_t begin = wrong_end;
    bool pointed = false;
    for (; begin < text_.size(); ++begin) {
      const auto& w = text_.lower(begin);
      const bool points =
          is_one_of(w, {"but", "it's", "its", "it", "is", "rather", "i'm", "im", "we're", "that's", "they're", "be"});
      if (!points && !is_one_of(w, {",", ".", "-", ";", "i", "am", "we", "are", "should", "a", "an", "at", "now", "called"}))
        break;
      pointed = pointed || points;
    }
    const auto behind =
        begin > wrong_end && begin < text_.size() ? fitting(spec, begin, clause_end(text_, begin)) : std::string_view();
    if (pointed && !behind.empty()) return behind;
    if (!before)
      return text_.lower(wrong_end - 1) != "." && wrong_end < text_.size() && text_.lower(wrong_end) == "," ? behind : "";
    std::size_t end = not_at;
    while (end > 0 && text_.tokens[end - 1].kind == TokenKind::punctuation) --end;
    std::size_t first = end;
    while (first > 0 && text_.tokens[first - 1].kind != TokenKind::punctuation && !is_lead_in(text_.lower(first - 1)) &&
           !is_correction_word(text_.lower(first - 1)) &&
           !is_one_of(text_.lower(first - 1), {"has", "have", "says", "reads", "spelled", "spelt", "written", "name", "surname"}))
      --first;
    if (const auto left = fitting(spec, first, end); !left.empty()) return left;
    return behind;
  }
  /// What of [first, last) is a value of the field, from its first word on; nothing when it begins with anything else.
  std::string_view fitting(const domain::FieldSpec& spec, std::size_t first, std::size_t last) const {
    if (first >= last) return {};
    const auto ends = [&](std::size_t end) { return end >= last || ends_a_name(end) || is_state_word(text_.lower(end)); };
    switch (spec.type) {
      case domain::FieldType::person_name: {
        const auto end = std::min(last, name_end(text_, first, true));
        return end > first && ends(end) ? text_.between(first, end) : std::string_view();
      }
      case domain::FieldType::company: {
        const auto end = std::min(last, company_end(text_, first, true));
        return end > first && ends(end) ? text_.between(first, end) : std::string_view();
      }
      case domain::FieldType::integer:
      case domain::FieldType::number: {
        const auto number = number_phrase(text_, first);
        return number ? text_.between(number->first, number->last) : std::string_view();
      }
      case domain::FieldType::email: return last - first <= 3 ? text_.between(first, last) : text_.between(first, first + 1);
      default:
        if (&spec == slots_.role) {
          first = skip_articles(first);
          return text_.between(first, std::min(last, role_end(text_, first)));
        }
        return text_.between(first, last);
    }
  }

  /// "it's Ann without an e", "Karl with a K".
  bool correct_by_spelling() {
    for (std::size_t i = 1; i + 2 < text_.size(); ++i) {
      const bool without = text_.lower(i) == "without";
      if (!without && text_.lower(i) != "with") continue;
      const std::size_t letter_at = i + 2;
      if (text_.lower(i + 1) != "a" && text_.lower(i + 1) != "an" && text_.lower(i + 1) != "one" && text_.lower(i + 1) != "two")
        continue;
      const auto& letter = text_.lower(letter_at);
      if (letter.size() > 2 || letter.empty()) continue;
      const std::size_t said_at = text_.tokens[i - 1].kind == TokenKind::punctuation && i > 1 ? i - 2 : i - 1;
      std::string said(text_.between(said_at, said_at + 1));
      const bool begins_so = !without && lowered(said).starts_with(letter);  // "Phillip with a Ph" was Filip
      if (already_so(said, without ? letter.front() : '\0')) return true;
      std::string best;
      const domain::FieldSpec* best_spec = nullptr;
      for (const auto& spec : request_.flow->fields) {
        const auto value = request_.collected.find(spec.name);
        if (value == request_.collected.end() || !holds_words(spec.type) || spec.type == domain::FieldType::email) continue;
        for (const auto word : words_of(value->second)) {
          const auto distance = edit_distance(word, said);
          const bool matches =
              (distance <= 2 || (begins_so && distance == 3)) && 2 * distance <= std::max(word.size(), said.size());
          const bool drop = without && lowered(without_letter(word, letter.front())) == lowered(said);
          if (!matches && !drop) continue;
          std::string right = said;
          if (distance == 0 && without) right = without_letter(word, letter.front());
          if (lowered(right) == lowered(word)) continue;
          auto whole = value->second;
          whole.replace(static_cast<std::size_t>(word.data() - value->second.data()), word.size(), right);
          best = whole, best_spec = &spec;
          break;
        }
        if (best_spec) break;
      }
      if (best_spec) return take(best_spec, best);
    }
    return false;
  }

  /// The correction was made before: nothing is left to do, least of all to something else that looks alike.
  bool already_so(const std::string& said, char without) const {
    const auto word = lowered(said);
    if (without && word.find(without) != std::string::npos) return false;
    for (const auto& [name, value] : request_.collected) {
      const auto* spec = request_.flow->find(name);
      if (!spec || spec->type == domain::FieldType::email || !holds_words(spec->type)) continue;
      for (const auto known_word : words_of(value))
        if (lowered(known_word) == word) return true;
    }
    return false;
  }

  /// "sorry, it's Anna", "oops, 50", "no, I meant Initech": a value without a label that changes something known.
  void correct_bare() {
    if (!has_correction_word() || text_.question) return;
    if (text_.lower(0) == "no" && text_.size() > 1 && text_.tokens[1].kind != TokenKind::punctuation) return;  // "no idea"
    const auto [first, last] = bare_span();
    if (first >= last || last - first > 5) return;
    const auto said = text_.between(first, last);
    for (const auto& spec : request_.flow->fields) {  // like something known: a misspelling
      const auto value = request_.collected.find(spec.name);
      if (value == request_.collected.end() || !holds_words(spec.type)) continue;
      const auto words = words_of(value->second);
      for (const auto word : words) {
        if (last - first != 1 || word.size() < 3) continue;
        const auto distance = edit_distance(lowered(word), lowered(std::string(said)));
        if (distance == 0 || distance > 2 || 3 * distance > word.size() + 1) continue;
        auto whole = value->second;
        whole.replace(static_cast<std::size_t>(word.data() - value->second.data()), word.size(), said);
        take(&spec, whole);
        return;
      }
      if (words.size() > 1 && last - first == words.size() &&
          edit_distance(lowered(value->second), lowered(std::string(said))) <= 3) {
        take(&spec, said);
        return;
      }
    }
    if (asked_ && asked_->type != domain::FieldType::text && asked_->type != domain::FieldType::company &&
        accepts(asked_, said) && fits_shape(asked_, first, last))
      return;  // it answers the question
    const domain::FieldSpec* last_known = nullptr;
    for (const auto& spec : request_.flow->fields) {
      if (asks(&spec)) break;
      if (known(&spec)) last_known = &spec;
    }
    if (last_known && fits_shape(last_known, first, last)) take(last_known, said);
  }

  bool fits_shape(const domain::FieldSpec* spec, std::size_t first, std::size_t last) const {
    switch (spec->type) {
      case domain::FieldType::person_name: return name_end(text_, first, true) == last;
      case domain::FieldType::company: return company_end(text_, first, true) == last;
      case domain::FieldType::email: return text_.tokens[first].kind == TokenKind::email;
      case domain::FieldType::integer: return number_phrase(text_, first).has_value();
      case domain::FieldType::text: return spec == slots_.role && has_role_noun(first, last);
      default: return true;
    }
  }

  // ---- labelled values: "my e-mail is …", "Name: …", "change my company to …"

  void read_labelled() {
    for (const auto& spec : request_.flow->fields)
      for (std::size_t i = 0; i < text_.size(); ++i) {
        const auto label_end = slots_.match_label(spec, text_, i);
        if (label_end == i) continue;
        const auto value = value_after_label(i, label_end);
        if (value == label_end) continue;
        if (take_labelled(spec, value)) break;
      }
  }

  /// Where the value begins, or label_end when nothing says that a value follows.
  std::size_t value_after_label(std::size_t label, std::size_t label_end) const {
    std::size_t i = label_end;
    if (label > 0 && text_.lower(label - 1).ends_with("'s") && text_.lower(label) == "name")
      return label_end;  // the company's name
    const bool owned =
        label > 0 && (text_.lower(label - 1) == "my" || text_.lower(label - 1) == "our" || text_.lower(label - 1) == "the" ||
                      text_.lower(label - 1) == "company's" || text_.lower(label - 1) == "full" ||
                      (label > 1 && text_.lower(label - 1) == "new" && is_one_of(text_.lower(label - 2), {"my", "our", "the"})));
    if (label > 0 && (text_.lower(label - 1) == "your" || text_.lower(label - 1) == "his" || text_.lower(label - 1) == "her" ||
                      text_.lower(label - 1) == "their"))
      return label_end;
    const auto at = [&](std::size_t k) -> const std::string& {
      static const std::string none;
      return k < text_.size() ? text_.lower(k) : none;
    };
    const bool at_start = label == 0 || text_.tokens[label - 1].kind == TokenKind::punctuation || owned;
    if (is_one_of(at(i), {"first", "now", "again"}) && at(i + 1) == ":") ++i;  // "company first: …"
    if ((at(i) == ":" || at(i) == "=" || at(i) == "-") && (at_start || at(label - 1) == "different" || at(label - 1) == "new"))
      return i + 1;
    if (label_end > label && at(label_end - 1).ends_with("'s") && at(i) == "actually") return i + 1;
    if (at(i) == "," && owned) ++i;
    if (at(i) == "is" || at(i) == "'s" || at(i) == "was" || at(i) == "are" || at(i) == "being") {
      if (!at_start && !owned) return label_end;
      ++i;
      while (is_one_of(at(i), {"now", "actually", "called", ":", "just", "simply", "still", "currently"}) &&
             !(text_.tokens[i].capitalised && i + 1 < text_.size() && text_.tokens[i + 1].capitalised))  // Now Studio
        ++i;
      if (at(i) == "not" || at(i) == "what" || at(i) == "wrong" || at(i) == "that" || at(i) == "it" || at(i) == "incorrect" ||
          at(i) == "misspelled" || at(i) == "spelled" || at(i) == "spelt" || at(i) == "mistyped")
        return label_end;
      return i;
    }
    if (at(i) == "should" && (at(i + 1) == "be" || at(i + 1) == "read")) return i + 2;
    if (at(i) == "to" || at(i) == "into") {  // change my company to …
      for (std::size_t k = label; k > 0 && label - k < 4; --k)
        if (at(k - 1) == "change" || at(k - 1) == "update" || at(k - 1) == "set" || at(k - 1) == "correct" ||
            at(k - 1) == "switch" || at(k - 1) == "edit" || at(k - 1) == "fix")
          return i + 1;
    }
    if (owned && at(label - 1) == "my" && i < text_.size() && text_.tokens[i].kind == TokenKind::email) return i;
    return label_end;
  }

  bool take_labelled(const domain::FieldSpec& spec, std::size_t i) {
    if (i >= text_.size()) return false;
    switch (spec.type) {
      case domain::FieldType::email: {
        const auto span = email_span(text_, i);
        if (span) return take(&spec, text_.between(span->first, span->last), Take::must);
        const auto end = clause_end(text_, i);
        return end - i <= 4 && !text_.question && take(&spec, text_.between(i, end), Take::must);
      }
      case domain::FieldType::person_name: return take_span(&spec, i, name_end(text_, i, true));
      case domain::FieldType::company: return take_span(&spec, i, company_end(text_, i, true));
      case domain::FieldType::integer:
      case domain::FieldType::number: {
        const auto number = number_phrase(text_, i);
        return number && number->first <= i + 2 && take(&spec, text_.between(number->first, number->last), Take::must);
      }
      case domain::FieldType::text:
        if (&spec == slots_.goal) return take(&spec, goal_from(skip_goal_lead(i)));
        if (&spec == slots_.role) return take_span(&spec, skip_articles(i), role_end(text_, skip_articles(i)));
        return take(&spec, text_.between(i, clause_end(text_, i)), Take::must);
      default: return take(&spec, text_.between(i, clause_end(text_, i)), Take::must);
    }
  }
  bool take_span(const domain::FieldSpec* spec, std::size_t first, std::size_t last) {
    return last > first && take(spec, text_.between(first, last));
  }
  std::size_t skip_articles(std::size_t i) const {
    while (i < text_.size() && (text_.lower(i) == "a" || text_.lower(i) == "an" || text_.lower(i) == "the" ||
                                text_.lower(i) == "their" || text_.lower(i) == "our"))
      ++i;
    return i;
  }

  // ---- values that show their type by themselves

  void read_typed() {
    read_email();
    read_choices();
    for (const auto& spec : request_.flow->fields)
      for (std::size_t i = 0; i < text_.size() && !found(&spec); ++i) {
        if (spec.type == domain::FieldType::date && text_.lower(i) == "born" && open(&spec))
          for (std::size_t last = std::min(text_.size(), i + 6); last > i + 1 && !found(&spec); --last)
            for (std::size_t first = i + 1; first < std::min(last, i + 3); ++first) take(&spec, text_.between(first, last));
        if (text_.tokens[i].kind == TokenKind::phone && spec.type == domain::FieldType::phone)
          take(&spec, text_.between(i, i + 1), asks(&spec) ? Take::must : Take::if_valid);
        if (text_.tokens[i].kind == TokenKind::url && spec.type == domain::FieldType::url) take(&spec, text_.between(i, i + 1));
      }
  }

  /// Words that an author gave as the label of a choice: "yes, and a friend recommended you" answers two questions. One word is too
  /// little to go by.
  void read_choices() {
    const auto said = ' ' + lowered(text_.raw) + ' ';
    for (const auto& spec : request_.flow->fields) {
      if (spec.type != domain::FieldType::choice || !open(&spec) || asks(&spec)) continue;
      const domain::ChoiceOption* only = nullptr;
      for (const auto& option : spec.options)
        for (const auto& label : option.labels)
          if (label.find(' ') != label.npos && find_word(said, label) != std::string::npos) {
            if (only && only != &option) return;
            only = &option;
          }
      if (only) take(&spec, only->value);
    }
  }

  void read_email() {
    if (!slots_.email || found(slots_.email)) return;
    std::optional<Span> only;
    for (std::size_t i = 0; i < text_.size(); ++i) {
      const auto span = email_span(text_, i);
      if (!span) continue;
      const bool others = somebody_elses(span->first);
      if (!others) {
        if (only && text_.between(only->first, only->last) != text_.between(span->first, span->last)) return;  // which one?
        only = span;
      }
      i = span->last - 1;
    }
    if (!only) return;
    const auto said = text_.between(only->first, only->last);
    const bool complete = accepts(slots_.email, said);
    if (complete || asks(slots_.email) || text_.size() <= 3) take(slots_.email, said, Take::must);
  }
  bool somebody_elses(std::size_t at) const {
    const auto said = text_.tokens[at].lower;
    for (const auto* role_account : {"helpdesk@", "support@", "noreply@", "no-reply@", "abuse@"})
      if (said.starts_with(role_account)) return true;
    for (std::size_t k = at; k > 0 && at - k < 5; --k) {
      const auto& w = text_.lower(k - 1);
      if (is_one_of(w, {".", "my", "\n", "now", "so", "better", "but", "instead"})) return false;
      if (w == "boss" || w == "support" || w == "colleague" || w == "friend" || w == "his" || w == "her" || w == "their" ||
          w == "invite" || w == "cc" || w == "not" || w == "your" || w == "was" || w == "old" || w == "used" || w == "forward" ||
          w == "manager" || w == "example" || w == "wife" || w == "husband" || w == "assistant" || w == "never" ||
          w == "secretary")
        return true;
    }
    return false;
  }

  // ---- cues

  void read_name_cue() {
    if (!slots_.name || found(slots_.name) || read_surname()) return;
    for (std::size_t i = 0; i < text_.size(); ++i) {
      const auto cue = name_cue(text_, i);
      if (!cue) continue;
      const auto end = name_end(text_, cue->first, cue->strong);
      if (end == cue->first) continue;
      if (!cue->strong) {
        const bool renamed = end < text_.size() && text_.lower(end) == "now";  // "I'm Zoë Castellano now"
        if (known(slots_.name) && !has_correction_word() && !renamed) continue;
        if (looks_like_role(cue->first, end)) continue;
        if (end < text_.size() && !ends_a_name(end) && !renamed) continue;
      }
      if (take_span(slots_.name, cue->first, end)) return;
    }
    // "Zoë here", "Zoë from Acme", "Zoë Smith, CTO at Acme" at the start of what they say
    if (known(slots_.name)) return;
    std::size_t i = 0;
    while (i < text_.size() && (is_filler(text_.lower(i)) || text_.tokens[i].kind == TokenKind::punctuation)) ++i;
    const auto end = name_end(text_, i, false);
    if (end == i || end - i > 4 || looks_like_role(i, end) || is_place(lowered(text_.between(i, end)))) return;
    const auto next = end < text_.size() ? text_.lower(end) : std::string();
    if (next == "here" || (next == "from" && company_end(text_, end + 1, false) > end + 1) ||
        (next == "," && (asks(slots_.name) || request_.collected.empty()) && end + 1 < text_.size() &&
         has_role_noun(end + 1, std::min(text_.size(), end + 6)) && !text_.all_lower))
      take_span(slots_.name, i, end);
  }
  /// "my surname is Carvalho": the known name's last word changes; "first name Folasade, last name Akinyemi": both.
  bool read_surname() {
    const auto after = [&](std::string_view one, std::initializer_list<std::string_view> two) -> std::string {
      for (std::size_t i = 0; i + 1 < text_.size(); ++i) {
        const bool label = text_.lower(i) == one ||
                           (i > 0 && is_one_of(text_.lower(i - 1), two) && is_one_of(text_.lower(i), {"name", "name's"}));
        if (!label) continue;
        std::size_t k = i + 1;
        while (k < text_.size() &&
               is_one_of(text_.lower(k), {"is", ":", "=", "spelled", "spelt", "written", "now", "actually", "called"}))
          ++k;
        const auto end = name_end(text_, k, true);
        if (end > k) return std::string(text_.between(k, end));
      }
      return {};
    };
    const auto surname = after("surname", {"last", "family"});
    auto given = after("firstname", {"first", "given"});
    if (!surname.empty() && given.empty() && text_.lower(0) != "my")  // "name's Bjarte, surname Sørlie"
      for (std::size_t i = 0; i < text_.size() && given.empty(); ++i)
        if (const auto cue = name_cue(text_, i);
            cue && cue->strong && (i == 0 || !is_one_of(text_.lower(i - 1), {"last", "family"})))
          given = text_.between(cue->first, name_end(text_, cue->first, true));
    if (!surname.empty() && !given.empty()) return take(slots_.name, given + " " + surname);
    const auto known_name = request_.collected.find(slots_.name->name);
    if (known_name == request_.collected.end()) return false;
    const auto words = words_of(known_name->second);
    if (!surname.empty() && words.size() >= 1)
      return take(slots_.name,
                  (words.size() == 1 ? known_name->second + " "
                                     : known_name->second.substr(
                                           0, static_cast<std::size_t>(words.back().data() - known_name->second.data()))) +
                      surname);
    return false;
  }
  bool ends_a_name(std::size_t i) const {
    return text_.tokens[i].kind == TokenKind::punctuation || text_.tokens[i].kind == TokenKind::email ||
           is_one_of(text_.lower(i),
                     {"from",    "at",  "and", "of",  "with",    "here", "by", "who",   "but", "the", "i",       "my",
                      "working", "i'm", "ceo", "cto", "founder", "for",  "we", "we're", "in",  "btw", "speaking"});
  }
  bool looks_like_role(std::size_t first, std::size_t last) const {
    if (!text_.all_lower && last - first <= 3 && is_given_name_too(text_.lower(first)) && text_.tokens[first].capitalised)
      return false;
    const bool surname_of_a_trade =
        !text_.all_lower && last - first >= 2 && !is_role_noun(text_.lower(first)) && !is_role_modifier(text_.lower(first)) &&
        std::all_of(text_.tokens.begin() + static_cast<std::ptrdiff_t>(first),
                    text_.tokens.begin() + static_cast<std::ptrdiff_t>(last), [](const Token& t) { return t.capitalised; });
    if (surname_of_a_trade) return false;  // Tom Baker
    return is_role_modifier(text_.lower(first)) ? has_role_noun(first, std::min(last + 2, text_.size()))
                                                : has_role_noun(first, last);
  }
  bool has_role_noun(std::size_t first, std::size_t last) const {
    for (std::size_t i = first; i < last && i < text_.size(); ++i) {
      if (text_.tokens[i].kind == TokenKind::punctuation) return false;
      if (is_role_noun(text_.lower(i))) return true;
    }
    return false;
  }

  void read_role_and_company_cues() {
    for (std::size_t i = 0; i < text_.size(); ++i) {
      if (const auto begin = role_cue(text_, i); begin > i && slots_.role && !found(slots_.role)) take_role(begin);
      if (const auto begin = company_cue(text_, i); begin > i && slots_.company && !found(slots_.company)) {
        if (about_somebody_else(i)) continue;
        const auto end = company_end(text_, begin, false);
        const auto* mail = found(slots_.email);
        if (mail && end > begin && mail->find(text_.between(begin, end)) != std::string::npos) continue;  // "alice at x.com"
        if (end > begin && !is_place(lowered(text_.between(begin, end))) && !is_department(lowered(text_.between(begin, end))))
          take_span(slots_.company, begin, end);
      }
    }
    // "CTO at Acme", "Head of Growth, Acme Inc": a title at the start of a clause
    if (slots_.role && !found(slots_.role) && (!known(slots_.role) || has_correction_word() || tells_of_a_new_job()))
      for (std::size_t i = 0; i < text_.size(); ++i) {
        const bool clause = i == 0 || text_.lower(i - 1) == "," || text_.tokens[i].starts_sentence ||
                            text_.lower(i - 1) == "\n" || text_.lower(i - 1) == "-" || text_.lower(i - 1) == ":";
        if (!clause) continue;
        const auto begin = skip_articles(i);
        if (begin == text_.size() || !(is_role_noun(text_.lower(begin)) || is_role_modifier(text_.lower(begin)))) continue;
        const auto end = role_end(text_, begin);
        if (!has_role_noun(begin, end)) continue;
        const auto next = end < text_.size() ? text_.lower(end) : std::string();
        if (next == "at" || next == "@" || next == "of" || next == "for" || (next == "," && i > 0) ||
            (i > 0 && next.empty() && text_.lower(i - 1) == ",")) {
          take_role(begin);
          break;
        }
      }
  }
  /// "my colleague Bob from Globex": what is said at token i belongs to the colleague.
  bool about_somebody_else(std::size_t i) const {
    for (std::size_t k = i; k > 1 && i - k < 6; --k) {
      if (is_one_of(text_.lower(k - 1), {".", "!", "?", ";", "\n", "i", "i'm", "im", "we", "we're", "me"})) return false;
      std::string_view whose = text_.lower(k - 1);
      if (whose.ends_with("'s")) whose.remove_suffix(2);
      if (is_one_of(whose, {"colleague", "friend", "boss", "manager", "wife", "husband", "mate", "buddy", "brother", "sister",
                            "cousin", "neighbour", "neighbor", "client", "customer"}) &&
          is_one_of(text_.lower(k - 2), {"my", "a", "our", "the", "an", "old", "former"}))
        return true;
    }
    return false;
  }
  /// "I changed jobs", "I've been promoted", "my new role".
  bool tells_of_a_new_job() const {
    for (std::size_t i = 0; i < text_.size(); ++i)
      if (is_one_of(text_.lower(i), {"promoted", "changed", "switched"}) ||
          (text_.lower(i) == "new" && i + 1 < text_.size() &&
           is_one_of(text_.lower(i + 1), {"job", "role", "title", "position"})))
        return true;
    return false;
  }
  void take_role(std::size_t begin) {
    const auto end = role_end(text_, begin);
    if (!has_role_noun(begin, end)) return;
    if (known(slots_.role) && !has_correction_word() && !tells_of_a_new_job() && !asks(slots_.role)) return;
    take_span(slots_.role, begin, end);
  }

  void read_team_size() {
    const auto* spec = slots_.team_size;
    if (!spec || found(spec)) return;
    if (const auto people = me_and_others()) {
      take(spec, std::to_string(*people));
      return;
    }
    std::optional<Span> only;
    int weight_of_only = 0;
    for (std::size_t i = 0; i < text_.size(); ++i) {
      const auto number = number_phrase(text_, i);
      if (!number || number->first != i) {
        if (!only && solo_phrase(text_, i) && (asks(spec) || (text_.lower(i) != "alone" && text_.lower(i) != "it's"))) {
          if (take(spec, "1")) return;
        }
        continue;
      }
      const int weight = people_weight(text_, *number);
      if (weight > 0) {
        if (weight_of_only == weight && only) {  // two numbers of people: which one?
          const auto sum = number->first > 0 && text_.lower(number->first - 1) == "and" ? sum_of(*only, *number) : std::nullopt;
          if (sum) take(spec, std::to_string(*sum));  // "three full-timers and two part-timers"
          return;
        }
        if (weight > weight_of_only) only = number, weight_of_only = weight;
      } else if (weight == 0 && asks(spec) && text_.size() <= 12 &&
                 (only ? takes_back(only->last, number->first) : nothing_said_before(number->first))) {
        only = number;
      }
      i = number->last - 1;
    }
    if (!only || (known(spec) && !has_correction_word() && weight_of_only < 2)) return;
    if (only->first == 1 && text_.lower(0) == "-") only->first = 0;  // a sign is for the validator to refuse
    if (only->first > 1 && text_.lower(only->first - 1) == "than")
      only->first -= 2;  // "less than ten" is for the validator to refuse
    take(spec, text_.between(only->first, only->last), Take::must);
  }

  /// "six... no, seven"
  bool takes_back(std::size_t first, std::size_t last) const {
    for (std::size_t i = first; i < last; ++i)
      if (is_correction_word(text_.lower(i)) || text_.lower(i) == "make") return true;
    return false;
  }
  /// Before the number stands nothing that tells what it counts: "I turn 50" is no size.
  bool nothing_said_before(std::size_t number) const {
    for (std::size_t i = 0; i < number; ++i) {
      const auto& w = text_.lower(i);
      if (text_.tokens[i].kind != TokenKind::punctuation && !is_filler(w) && !is_lead_in(w) && !is_approximation(w) &&
          !is_function_word(w) && !is_correction_word(w) && !is_state_word(w) &&
          !is_one_of(w, {"close", "between", "less", "more", "fewer", "anywhere", "somewhere", "up", "probably"}))
        return false;
    }
    return true;
  }
  std::optional<std::int64_t> count_of(Span number) const {
    const auto parsed = domain::parse_field(*slots_.team_size, text_.between(number.first, number.last));
    std::int64_t count = 0;
    if (!parsed) return std::nullopt;
    const auto& digits = parsed->canonical;
    const auto end = std::from_chars(digits.data(), digits.data() + digits.size(), count);
    return end.ec == std::errc() ? std::optional(count) : std::nullopt;
  }
  std::optional<std::int64_t> sum_of(Span a, Span b) const {
    const auto one = count_of(a), other = count_of(b);
    return one && other ? std::optional(*one + *other) : std::nullopt;
  }
  /// "it's me and 4 mechanics", "me, my husband and our daughter": the team is counted out. Nothing where anything else is said.
  std::optional<std::int64_t> me_and_others() const {
    for (std::size_t i = 0; i + 2 < text_.size(); ++i) {
      if (text_.lower(i) != "me" || !is_one_of(text_.lower(i + 1), {"and", ",", "plus", "+", "&"})) continue;
      if (i > 0 ? !is_one_of(text_.lower(i - 1), {"it's", "its", "just", "only", "us", ":"}) : !asks(slots_.team_size)) continue;
      std::int64_t people = 1;
      std::size_t k = i + 1;
      while (k + 1 < text_.size() && is_one_of(text_.lower(k), {"and", ",", "plus", "+", "&"})) {
        std::size_t person = k + 1;
        if (text_.lower(k) == "," && text_.lower(person) == "and") ++person;
        if (const auto number = number_phrase(text_, person); number && number->first == person) {
          const auto count = count_of(*number);
          if (!count) return std::nullopt;
          people += *count, k = number->last;
        } else if (person < text_.size() && is_one_of(text_.lower(person), {"my", "our", "a", "an"})) {
          ++people, k = person + 1;
        } else {
          break;
        }
        for (int words = 0; words < 3 && k < text_.size() && text_.tokens[k].kind == TokenKind::word && text_.lower(k) != "and";
             ++words)
          ++k;
      }
      if (people > 1) return people;
    }
    return std::nullopt;
  }

  void read_goal_cue() {
    const auto* spec = slots_.goal;
    if (!spec || found(spec) || asks(spec) || (known(spec) && !has_correction_word())) return;
    for (std::size_t i = 0; i < text_.size(); ++i) {
      const auto begin = goal_cue(text_, i);
      if (begin == i) continue;
      take(spec, goal_from(begin));
      return;
    }
  }
  std::string_view goal_from(std::size_t begin) const {
    const auto end = goal_end(text_, begin);
    return end - begin >= 2 || asks(slots_.goal) ? text_.between(begin, end) : std::string_view();
  }
  std::size_t skip_goal_lead(std::size_t i) const {
    if (i + 2 < text_.size() && text_.lower(i) == "more" && text_.lower(i + 1) == "like") i += 2;
    if (i < text_.size() && text_.lower(i) == "to") ++i;
    return i;
  }

  // ---- "Zoë Smith, zoe@acme.io, Acme GmbH, CTO, 40"

  void read_list() {
    const auto parts = split_list(text_);
    if (parts.size() < 3 || text_.question) return;
    std::vector<Span> left;
    for (const auto& part : parts) {
      const auto said = text_.between(part.first, part.last);
      if (covered(part)) continue;
      const bool only_number = number_phrase(text_, part.first) && number_phrase(text_, part.first)->last == part.last;
      const bool labelled = std::any_of(request_.flow->fields.begin(), request_.flow->fields.end(), [&](const auto& spec) {
        return slots_.match_label(spec, text_, part.first) > part.first;
      });
      if (labelled) continue;
      if (only_number && open(slots_.team_size)) take(slots_.team_size, said);
      else if (slots_.role && open(slots_.role) && has_role_noun(part.first, part.last) && !found(slots_.role) &&
               role_end(text_, part.first) == part.last)
        take(slots_.role, said);
      else if (part.last - part.first <= 5) left.push_back(part);
    }
    for (const auto& part : left) {
      const auto said = text_.between(part.first, part.last);
      const bool suffix = is_company_suffix(text_.lower(part.last - 1));
      const auto alone = read_text(said);  // without capitals in a message that has some
      if (open(slots_.name) && !found(slots_.name) && !suffix && part.first == parts.front().first &&
          (name_end(text_, part.first, true) == part.last || (alone.all_lower && name_end(alone, 0, true) == alone.size())))
        take(slots_.name, said);
      else if (open(slots_.company) && !found(slots_.company) && company_end(text_, part.first, true) == part.last)
        take(slots_.company, said);
    }
  }
  bool covered(const Span& part) const {
    const auto said = text_.between(part.first, part.last);
    return std::any_of(found_.begin(), found_.end(), [&](const auto& f) {
      return said.find(f.second) != std::string_view::npos || f.second.find(said) != std::string::npos;
    });
  }

  // ---- the bare answer to the question asked

  void read_bare_answer() {
    if (!asked_ || found(asked_)) return;
    if (text_.question && asked_->type != domain::FieldType::integer) return;
    if (asked_->type == domain::FieldType::country)
      if (const auto code = flag(text_.raw); !code.empty() && take(asked_, code)) return;
    auto [first, last] = bare_span();
    if (first >= last || evades()) return;
    if (asked_->type != domain::FieldType::boolean && asked_->type != domain::FieldType::choice && only_acknowledges()) return;
    switch (asked_->type) {
      case domain::FieldType::person_name:
        if (is_legal_form(text_.lower(last - 1))) return;
        if (first > 0 && text_.lower(first - 1) == "i") return;  // "I clicked"
        for (std::size_t i = 0; i < first; ++i)                  // "I work at Foo": what follows is no name
          if (text_.lower(i) == "at" || text_.lower(i) == "for" || text_.lower(i) == "from" || text_.lower(i) == "work" ||
              text_.lower(i) == "working")
            return;
        if (const auto end = name_end(text_, first, true);
            end > first && (end == last || ends_a_name(end)) && !looks_like_role(first, end))
          take_span(asked_, first, end);
        return;
      case domain::FieldType::company: {
        while (first + 1 < last && (text_.lower(first) == "own" || text_.lower(first) == "firm" ||
                                    text_.lower(first) == "company" || text_.lower(first) == "spelled" ||
                                    text_.lower(first) == "business" || text_.tokens[first].kind == TokenKind::punctuation))
          ++first;
        if (no_company_phrase(text_)) {
          take(asked_, "Self-employed");
          return;
        }
        if (first > 0 && text_.lower(first - 1) == "the" && !text_.all_lower && !text_.tokens[first].capitalised)
          return;                               // the airport
        for (std::size_t i = 1; i < last; ++i)  // "left Ericsson in March. Now Polarlight AB"
          if (text_.lower(i - 1) == "now" && text_.tokens[i - 1].starts_sentence && text_.tokens[i].capitalised) first = i;
        if (is_one_of(text_.lower(first), {"left", "quit"}) || contradicted_) return;
        if (is_approximation(text_.lower(first)) && first + 1 < text_.size() &&
            (number_phrase(text_, first + 1) || (text_.lower(first + 1) == "." && number_phrase(text_, first + 2))))
          return;  // ca. 20
        const auto end = std::min(last, company_end(text_, first, true));
        if (end > first && (end == last || text_.tokens[end].kind == TokenKind::punctuation || text_.lower(end) == "and" ||
                            text_.lower(end) == "in" || text_.lower(end) == "we're" || text_.lower(end) == "as"))
          take_span(asked_, first, end);
        return;
      }
      case domain::FieldType::email: return;  // an address shows itself
      case domain::FieldType::integer:
      case domain::FieldType::number: {
        if (asked_ == slots_.team_size) return;
        if (const auto number = number_phrase(text_, first)) take(asked_, text_.between(number->first, number->last), Take::must);
        return;
      }
      case domain::FieldType::text:
        if (complains() || contradicted_ || affirms_the_known() || orders_or_reports()) return;
        if (asked_ == slots_.role) return bare_role(first, last);
        if (asked_ == slots_.goal) return bare_goal(first);
        if (found_.empty()) take(asked_, text_.between(first, text_.size()), Take::must);
        return;
      default: return bare_window(first, last);
    }
  }
  /// "no idea", "not sure", "I don't know": an answer without a value.
  bool only_acknowledges() const {
    return std::all_of(text_.tokens.begin(), text_.tokens.end(), [](const Token& t) {
      return t.kind == TokenKind::punctuation || is_filler(t.lower) || is_yes(t.lower) || is_no(t.lower) ||
             is_one_of(t.lower, {"help", "stop", "cancel", "wrong", "done", "ready", "first", "next", "later", "me", "i'm", "i",
                                 "that's", "it's"});
    });
  }
  /// It says that something known is wrong; where no rule found out what, it must not become the answer to the question.
  bool complains() const {
    return std::any_of(text_.tokens.begin(), text_.tokens.end(), [](const Token& t) {
      return is_one_of(t.lower, {"wrong", "incorrect", "typo", "mistake", "misspelled", "mistyped", "meant", "sorry", "oops"});
    });
  }
  /// "delete my email", "start over", "I moved to Globex", "my goal isn't clear": about the profile, but no answer to a question.
  bool orders_or_reports() const {
    const auto at = [&](std::size_t k) { return k < text_.size() ? std::string_view(text_.lower(k)) : std::string_view(); };
    const auto label_end = [&](std::size_t k) {
      std::size_t end = k;
      for (const auto& spec : request_.flow->fields) end = std::max(end, slots_.match_label(spec, text_, k));
      return end;
    };
    for (std::size_t i = 0; i + 1 < text_.size(); ++i)
      if (is_one_of(at(i), {"my", "our", "the"}))
        if (const auto end = label_end(i + 1);
            end > i + 1 && (is_denying_verb(at(end)) || (at(end) == "is" && at(end + 1) == "not" && at(end + 2) != "to")))
          return true;
    for (std::size_t k = 0; k + 1 < text_.size(); ++k)  // "Anne isn't my name", "that's not right"
      if ((is_denying_verb(at(k)) || at(k) == "not") &&
          (is_one_of(at(k + 1), {"right", "correct", "true", "what"}) ||
           (is_one_of(at(k + 1), {"my", "our", "the"}) && label_end(k + 2) > k + 2)))
        return true;
    std::size_t i = 0;
    while (i < text_.size() && (text_.tokens[i].kind == TokenKind::punctuation || is_filler(at(i)) ||
                                is_one_of(at(i), {"can", "could", "would", "you", "just", "let's", "now", "also"})))
      ++i;
    if (is_one_of(at(i), {"start", "begin", "go"}) && is_one_of(at(i + 1), {"over", "again", "back", "afresh", "anew"}))
      return true;
    if (is_one_of(at(i), {"i", "we", "i've", "we've"})) {
      std::size_t verb = i + 1;
      while (is_one_of(at(verb), {"just", "also", "have", "recently", "already", "now"})) ++verb;
      return is_one_of(at(verb), {"moved", "changed", "switched", "left", "quit", "joined", "resigned", "retired"});
    }
    if (!is_one_of(at(i), {"delete", "forget", "remove", "erase", "clear", "change", "update", "edit", "correct", "reset", "fix",
                           "wipe", "cancel", "undo", "restart", "drop"}))
      return false;
    ++i;
    if (at(i) == "my" && i + 2 == text_.size() && !is_one_of(at(i - 1), {"change", "update", "fix", "edit", "correct"}))
      return true;  // "remove my phone"
    while (is_one_of(at(i), {"my", "our", "the", "all", "of", "about"})) ++i;
    const auto end = std::max(label_end(i), is_one_of(at(i), {"everything", "it", "that", "this", "me", "data", "answers",
                                                              "account", "profile", "answer", "entry"})
                                                ? i + 1
                                                : i);
    return i >= text_.size() || (end > i && (end >= text_.size() || text_.tokens[end].kind == TokenKind::punctuation ||
                                             is_one_of(at(end), {"to", "please", "now", "again", "and", "from"})));
  }
  /// Nothing but numbers, or one word that says nothing to us: "3.5", "asdf".
  bool says_nothing() const {
    const Token* only = nullptr;
    std::size_t words = 0;
    for (const auto& token : text_.tokens)
      if (token.kind != TokenKind::punctuation && token.kind != TokenKind::number && !is_number_word(token.lower))
        only = &token, ++words;
    return words == 0 || (words == 1 && reads_english(*request_.flow) && !is_aim_word(only->lower));
  }
  static bool is_legal_form(std::string_view w) {
    return is_one_of(w, {"gmbh", "inc", "ltd", "llc", "ag", "plc", "corp", "limited", "llp", "bv"});
  }
  bool evades() const {
    static constexpr std::array<std::string_view, 22> phrases{"let me think",
                                                              "not much",
                                                              "nothing really",
                                                              "what was the question",
                                                              "come again",
                                                              "my dog",
                                                              "one moment",
                                                              "one sec",
                                                              "no idea",
                                                              "not sure",
                                                              "don't know",
                                                              "dont know",
                                                              "dunno",
                                                              "no clue",
                                                              "idk",
                                                              "can't say",
                                                              "can't remember",
                                                              "don't remember",
                                                              "don't have",
                                                              "haven't got",
                                                              "hard to say",
                                                              "it depends"};
    std::string lower;
    for (const auto& token : text_.tokens) (lower += token.lower) += ' ';
    return std::any_of(phrases.begin(), phrases.end(), [&](auto phrase) { return lower.find(phrase) != std::string::npos; });
  }
  void bare_role(std::size_t first, std::size_t last) {
    while (first + 1 < last &&
           is_one_of(text_.lower(first), {"technically", "basically", "officially", "mostly", "mainly", "currently"}))
      ++first;
    first = skip_articles(first);
    if (first < last &&
        (number_phrase(text_, first) || is_one_of(text_.lower(first), {"don't", "dont", "can't", "won't", "not"})))
      return;
    if (first == 0 && text_.lower(first).ends_with("ing") && text_.lower(first).size() > 5 && last - first >= 2 &&
        last - first <= 8 && found_.empty() && !has_role_noun(first, role_end(text_, first))) {
      take_span(asked_, first, clause_end(text_, first));  // "looking after the interns"
      return;
    }
    if (first > 0 && text_.lower(first - 1) == "my" && first + 1 < last && text_.lower(first + 1) == "is")
      return;                               // "my boss is …"
    for (std::size_t i = 0; i < last; ++i)  // "VP Product now", after news
      if (i > first && text_.lower(i - 1) == "!" && has_role_noun(i, last)) first = i;
    if (found_.empty() && first > 0 && text_.lower(first - 1) == "i" && !has_role_noun(first, role_end(text_, first)) &&
        !is_state_word(text_.lower(first))) {
      auto end = clause_end(text_, first);  // "I drive the forklift"
      if (end - first >= 2 && end - first <= 8) take_span(asked_, first, end);
      return;
    }
    if (text_.lower(first) == "responsible" && first + 1 < last && text_.lower(first + 1) == "for") {
      take_span(asked_, first, clause_end(text_, first));
      return;
    }
    const auto end = std::min(last, role_end(text_, first));
    if (end <= first || end - first > 8) return;
    if (end < text_.size() && is_one_of(text_.lower(end), {"is", "was", "are"})) return;  // "June is our HR": a person
    if (end - first == 1 && (is_state_word(text_.lower(first)) || is_function_word(text_.lower(first)))) return;
    if (!found_.empty() && !has_role_noun(first, end)) return;
    take_span(asked_, first, end);
  }
  void bare_goal(std::size_t first) {
    for (std::size_t i = 0; i < text_.size(); ++i)
      if (const auto begin = goal_cue(text_, i); begin > i) {
        take(asked_, goal_from(begin));
        return;
      }
    if (!found_.empty() || addressed_to_us() || says_nothing()) return;
    while (first > 0 && is_one_of(text_.lower(first - 1), {"change", "update", "fix", "edit", "correct", "make"}))
      --first;  // "fix our …"
    first = skip_goal_lead(first);
    take(asked_, text_.between(first, text_.size()));
  }
  bool addressed_to_us() const { return text_.lower(0) == "hmm" || text_.lower(0) == "wait" || text_.lower(0) == "let"; }
  /// Dates, countries, postal codes, choices, booleans …: the longest run of words that the field's own rules accept.
  void bare_window(std::size_t first, std::size_t last) {
    if (take(asked_, text_.raw)) return;
    if (asked_->type == domain::FieldType::country) {
      for (std::size_t i = first; i + 1 < last; ++i)  // "born in Peru but I live in Chile"
        if (is_one_of(text_.lower(i), {"live", "living", "based", "located"}) && text_.lower(i + 1) == "in") first = i + 2;
    }
    for (std::size_t length = std::min<std::size_t>(last - first, 6); length > 0; --length)
      for (std::size_t i = first; i + length <= last; ++i)
        if (take(asked_, text_.between(i, i + length))) return;
    if (asked_->type == domain::FieldType::choice) {  // "one of your ads", "googled it"
      for (std::size_t i = first; i < last; ++i) {
        auto stem = text_.lower(i);
        for (const std::string_view ending : {"s", "ed", "d"})
          if (stem.size() > ending.size() + 1 && stem.ends_with(ending) &&
              take(asked_, stem.substr(0, stem.size() - ending.size())))
            return;
      }
      return;
    }
    if (asked_->type == domain::FieldType::boolean) {
      for (const std::string_view yes : {"go on", "go ahead", "why not", "of course", "please do", "sign me up", "i'd love"})
        if (lowered(text_.raw).starts_with(yes)) take(asked_, "yes");
      for (const std::string_view no : {"rather not", "not really", "prefer not"})
        if (lowered(text_.raw).find(no) != std::string::npos) take(asked_, "no");
      if (is_yes(text_.lower(0))) take(asked_, "yes");
      else if (is_no(text_.lower(0))) take(asked_, "no");
      return;
    }
    if (last - first <= 4 && found_.empty()) take(asked_, text_.between(first, last), Take::must);
  }

  /// The two letters that a flag is written with (Unicode's regional indicators), if there is one flag.
  static std::string flag(std::string_view s) {
    std::string code;
    for (auto i = s.find("\xF0\x9F\x87"); i != s.npos && i + 3 < s.size(); i = s.find("\xF0\x9F\x87", i + 4))
      if (const auto last = static_cast<unsigned char>(s[i + 3]); last >= 0xA6 && last <= 0xBF)
        code += static_cast<char>('A' + last - 0xA6);
    return code.size() == 2 ? code : std::string();
  }

  /// The message without greetings, lead-ins ("it's", "that would be") and its final mark.
  Span bare_span() const {
    std::size_t first = 0, last = text_.size();
    while (last > 0 && text_.tokens[last - 1].kind == TokenKind::punctuation) --last;
    while (last > 1 && (text_.lower(last - 1) == "thanks" || text_.lower(last - 1) == "please" || text_.lower(last - 1) == ","))
      --last;
    bool moved = true;
    while (moved && first < last) {
      moved = false;
      const auto& w = text_.lower(first);
      const bool part_of_name =
          first + 1 < last && text_.tokens[first].capitalised && text_.tokens[first + 1].capitalised &&
          (w == "the" ||
           ((is_filler(w) || is_no(w)) && (is_company_suffix(text_.lower(first + 1)) ||
                                           is_company_suffix(text_.lower(std::min(first + 2, last - 1))))));  // Yes Minister Ltd
      const bool shouted = w.size() > 1 && !text_.all_lower && text_.raw[text_.tokens[first].begin + 1] >= 'A' &&
                           text_.raw[text_.tokens[first].begin + 1] <= 'Z';  // an ER nurse
      if (text_.tokens[first].kind == TokenKind::punctuation || (is_lead_in(w) && !part_of_name) ||
          (is_filler(w) && first + 1 < last && !part_of_name && !shouted && !(text_.tokens[first].capitalised && first > 0)) ||
          (is_correction_word(w) && first + 1 < last && !part_of_name))
        ++first, moved = true;
    }
    return {first, last};
  }
  static bool is_lead_in(std::string_view w) {
    return is_one_of(
        w, {"it's", "its",   "it",   "is",   "that's", "that",   "would",   "be",     "i'm",    "im",     "i",    "am",    "this",
            "my",   "we're", "we",   "are",  "the",    "called", "named",   "call",   "me",     "should", "make", "meant", "mean",
            "at",   "for",   "from", "just", "simply", "work",   "working", "name's", "that'd", "it'd",   "put"});
  }

  // ---- the answer

  domain::ModelAnswer answer() {
    std::vector<std::string> still_missing;
    for (const auto& name : request_.missing)
      if (std::none_of(found_.begin(), found_.end(), [&](const auto& f) { return f.first == name; }))
        still_missing.push_back(name);
    return compose_answer(request_, text_, found_, still_missing, declined_required_, either_);
  }

  const ExtractionRequest& request_;
  Text text_;
  const Slots& slots_;
  const domain::FieldSpec* asked_;
  std::vector<std::pair<std::string, std::string>> found_;  // field, value as said; in the order found
  bool declined_required_ = false;
  std::size_t correction_begins_ = 0;             // the token at which the sentence of a contrast begins
  bool contradicted_ = false;                     // it denies something known
  std::vector<const domain::FieldSpec*> either_;  // which of these a correction means is not certain
};

}  // namespace
}  // namespace offline

std::optional<domain::ModelAnswer> extract_offline(const ExtractionRequest& request) {
  return offline::Extraction(request).run();
}

}  // namespace onboarding::model
