#include "actors/model/offline/spans.hpp"

#include <algorithm>

#include "actors/model/offline/lexicon.hpp"

namespace onboarding::model::offline {
namespace {

const std::string& at(const Text& t, std::size_t i) {
  static const std::string none;
  return i < t.size() ? t.lower(i) : none;
}
bool word(const Text& t, std::size_t i) { return i < t.size() && t.tokens[i].kind == TokenKind::word; }
bool punctuation(const Text& t, std::size_t i) { return i >= t.size() || t.tokens[i].kind == TokenKind::punctuation; }
bool capital(const Text& t, std::size_t i) {
  if (!word(t, i)) return false;
  if (t.tokens[i].capitalised) return true;
  for (std::size_t b = t.tokens[i].begin; b < t.tokens[i].end; ++b)  // iRobot, eBay
    if (t.raw[b] >= 'A' && t.raw[b] <= 'Z') return true;
  return false;
}
bool i_am(std::string_view w) { return is_one_of(w, {"i'm", "im", "i’m"}); }
/// The token behind "i am" / "i'm" / "we are" at i; else i.
std::size_t behind_i_am(const Text& t, std::size_t i) {
  if (i_am(at(t, i))) return i + 1;
  if (at(t, i) == "i" && at(t, i + 1) == "am") return i + 2;
  return i;
}
std::size_t skip_adverbs(const Text& t, std::size_t i) {
  while (is_one_of(at(t, i), {"currently", "now", "also", "just", "actually", "really", "basically", "mostly", "mainly", "still",
                              "technically"}))
    ++i;
  return i;
}
/// "Dr.", "Sr.": the full stop at i belongs to the word before.
bool abbreviation_stop(const Text& t, std::size_t i) {
  return i > 0 && at(t, i) == "." &&
         is_one_of(at(t, i - 1), {"dr", "sr", "jr", "st", "mr", "mrs", "ms", "prof", "med", "rer", "nat", "phil", "jur", "ing",
                                  "habil", "dipl"}) &&
         i + 1 < t.size() && word(t, i + 1);
}
/// A German doctor's subject: "Dr. med.", "Dr. rer. nat.".
bool degree(const Text& t, std::size_t i) {
  return at(t, i + 1) == "." && is_one_of(at(t, i), {"med", "rer", "nat", "phil", "jur", "ing", "habil"});
}
bool particle(std::string_view w) {
  return is_one_of(w, {"van", "von", "de", "der", "den", "da", "di", "del", "della", "la",   "le",  "bin", "ibn", "al", "el",
                       "dos", "das", "do", "ter", "ten", "zu", "af", "y",   "e",     "bint", "abu", "st.", "st",  "du", "des"});
}

}  // namespace

// ---- names

std::optional<Cue> name_cue(const Text& t, std::size_t i) {
  const auto& w = at(t, i);
  const bool start =
      i == 0 || punctuation(t, i - 1) || is_filler(at(t, i - 1)) || at(t, i - 1) == "and" || is_correction_word(at(t, i - 1));
  if (is_one_of(w, {"call", "calls"}) && at(t, i + 1) == "me") return Cue{i + 2, true};
  if (w == "i" && at(t, i + 1) == "go" && at(t, i + 2) == "by") return Cue{i + 3, true};
  if (is_one_of(w, {"talking", "speaking"}) && at(t, i + 1) == "to" && i > 0 && is_one_of(at(t, i - 1), {"you're", "are"}))
    return Cue{i + 2, true};
  if (is_one_of(w, {"nam", "nmae", "naem"}) && i > 0 && at(t, i - 1) == "my" && at(t, i + 1) == "is") return Cue{i + 2, true};
  if (is_one_of(w, {"llamo", "heiße", "chiamo", "chamo"}) && i < 2) return Cue{i + 1, true};
  if (i_am(w) && is_one_of(at(t, i + 1), {"called", "named"})) return Cue{i + 2, true};
  if (is_one_of(w, {"named", "called"}) && i > 0 && at(t, i - 1) == "am") return Cue{i + 1, true};
  if (w == "name's" || (w == "names" && i > 0 && at(t, i - 1) == "my")) return Cue{i + 1, true};
  if (w == "name" && i > 0 && is_one_of(at(t, i - 1), {"my", "full", "the"}) && is_one_of(at(t, i + 1), {"is", "'s", ":"})) {
    if (at(t, i + 2) == "not" ||
        is_one_of(at(t, i + 2), {"wrong", "misspelled", "spelled", "spelt", "mistyped", "what", "too", "on", "in"}))
      return std::nullopt;
    return Cue{i + 2, true};
  }
  if (const auto behind = behind_i_am(t, i); behind > i) return Cue{skip_adverbs(t, behind), false};
  if (start && w == "this" && at(t, i + 1) == "is") return Cue{i + 2, false};
  if (w == "me" && at(t, i + 1) == ":" && start) return Cue{i + 2, true};
  if (is_one_of(w, {"it's", "its"})) {
    std::size_t k = 0;
    while (k < i && (punctuation(t, k) || is_filler(at(t, k)))) ++k;
    if (k == i) return Cue{i + 1, false};
  }
  return std::nullopt;
}

std::size_t name_end(const Text& t, std::size_t begin, bool expected) {
  std::size_t i = begin;
  std::size_t words = 0;
  for (; i < t.size() && words < 6; ++i) {
    if (words > 0 && abbreviation_stop(t, i)) continue;
    if (!word(t, i)) break;
    const auto& w = at(t, i);
    const bool sure = (t.tokens[i].capitalised || (words > 0 && capital(t, i))) && !t.all_lower;  // d'Aubigny
    const bool inner_particle = words > 0 && particle(w) && word(t, i + 1) &&
                                (capital(t, i + 1) || (t.all_lower && !is_function_word(at(t, i + 1))) || particle(at(t, i + 1)));
    const bool leading_particle = words == 0 && particle(w) && word(t, i + 1) && !is_function_word(at(t, i + 1)) &&
                                  (capital(t, i + 1) || t.all_lower) && w != "do" && w != "e" && w != "y";
    if (w.ends_with("'s")) break;  // Acme's
    if (inner_particle || leading_particle || (words > 0 && degree(t, i))) {
      ++words;
      continue;
    }
    if (sure) {
      if (words == 0 && (is_function_word(w) || (is_filler(w) && !expected)) && w != "may" && w != "will") break;
      if (words > 0 && is_one_of(w, {"i", "i'm", "im", "my", "we", "and"})) break;
      if (words == 0 && is_state_word(w) && !(expected && i + 1 < t.size() && capital(t, i + 1))) break;
      ++words;
      continue;
    }
    if (is_one_of(w, {"speaking", "here"})) break;
    // without capitals: anything that is not a word of ordinary speech, and only where a name may stand
    const bool may = t.all_lower || words == 0;
    if (!may || is_function_word(w) || is_state_word(w) || is_role_noun(w) || is_filler(w) || is_number_word(w) ||
        is_people_noun(w))
      break;
    if (words > 0 && !t.all_lower && !expected) break;
    if (is_one_of(w, {"llamo", "heiße", "m'appelle", "chiamo", "chamo"})) break;
    if (words == 0 && !expected && w.size() > 4 && (w.ends_with("ing") || w.ends_with("ed"))) break;
    if (!expected && words >= 3) break;
    ++words;
  }
  if (words == 0) return begin;
  if (i - begin == 1 && at(t, begin).size() == 1 && static_cast<unsigned char>(at(t, begin)[0]) < 0x80) return begin;  // "I'm a"
  return i;
}

// ---- roles

std::size_t role_cue(const Text& t, std::size_t i) {
  const auto article = [&](std::size_t k) {
    const auto before = k;
    while (is_one_of(at(t, k), {"a", "an", "the", "their", "our", "one", "of"}) && k - before < 3) ++k;
    return k;
  };
  if (const auto behind = behind_i_am(t, i); behind > i) {
    auto k = skip_adverbs(t, behind);
    if (is_one_of(at(t, k), {"working", "employed", "acting"}) && at(t, k + 1) == "as") return article(k + 2);
    const bool title = (is_role_noun(at(t, k)) || is_role_modifier(at(t, k))) && !is_given_name_too(at(t, k));
    if (article(k) == k && capital(t, k) && !t.all_lower && !title) return i;  // "I'm Dean", "I am Bob Builder"
    return article(k);
  }
  if (at(t, i) == "as" && is_one_of(at(t, i + 1), {"a", "an", "the", "their", "our"})) return article(i + 1);
  if (is_one_of(at(t, i), {"work", "working", "here", "job", "joined", "works"}) && at(t, i + 1) == "as") return article(i + 2);
  if (is_one_of(at(t, i), {"role", "title", "position", "job"}) && is_one_of(at(t, i + 1), {"is", "'s", ":"}) && i > 0 &&
      is_one_of(at(t, i - 1), {"my", "job", "the", "current"}))
    return article(i + 2);
  if (at(t, i) == "promoted" && at(t, i + 1) == "to") return article(i + 2);
  if (is_one_of(at(t, i), {"being", "become", "became"}) && is_one_of(at(t, i + 1), {"a", "an", "the"})) return article(i + 1);
  if (is_one_of(at(t, i), {"i'm", "and"}) && is_one_of(at(t, i + 1), {"the", "their", "our"})) return article(i + 1);
  return i;
}

std::size_t role_end(const Text& t, std::size_t begin) {
  std::size_t i = begin;
  bool noun_seen = false;
  for (; i < t.size() && i - begin < 8; ++i) {
    if (abbreviation_stop(t, i)) continue;
    if (t.tokens[i].kind != TokenKind::word && at(t, i) != "&" && at(t, i) != "/") break;
    const auto& w = at(t, i);
    if (is_one_of(w, {"at",    "for",   "from",    "with",      "who",         "which",  "that",   "where",   "here",   "working",
                      "but",   "so",    "looking", "in",        "on",          "we",     "i",      "i'm",     "my",     "based",
                      "since", "by",    "there",   "we're",     "our",         "trying", "hoping", "because", "is",     "are",
                      "was",   "right", "now",     "currently", "these",       "too",    "please", "btw",     "myself", "it",
                      "over",  "named", "called",  "helping",   "responsible", "if",     "to",     "who's",   "within", "then",
                      "tbh",   "haha",  "lol",     "actually",  "was",         "were",   "just"})) {
      if (w == "to" && is_one_of(at(t, i - 1), {"assistant", "secretary", "adviser", "advisor", "aide", "deputy"})) continue;
      if (w == "in" &&
          is_one_of(at(t, i - 1),
                    {"lecturer", "professor", "specialist", "consultant", "researcher", "teacher", "expert", "phd"}) &&
          capital(t, i + 1))
        continue;
      break;
    }
    if (w == "of") {
      // "head of growth" goes on; "CEO of Acme" ends: there the company follows
      const auto& noun = at(t, i - 1);
      if (i == begin) break;
      if (is_one_of(noun, {"ceo", "cto", "cfo", "coo", "cmo", "cio", "cpo", "founder", "co-founder", "cofounder", "owner",
                           "co-owner", "president", "partner"}))
        break;
      continue;
    }
    if (w == "and" || w == "&" || w == "/") {
      const bool another = is_role_noun(at(t, i + 1)) || is_role_modifier(at(t, i + 1)) ||
                           (at(t, i + 1) == "part" && at(t, i + 2) == "time" && is_role_noun(at(t, i + 3)));
      if (!another && !(i + 2 < t.size() && !noun_seen)) break;
      continue;
    }
    if (w == "the" && !is_one_of(at(t, i - 1), {"of", "to"})) break;
    noun_seen = noun_seen || is_role_noun(w);
  }
  while (i > begin && is_one_of(at(t, i - 1), {"and", "&", "of", "/", "the"})) --i;
  return i;
}

// ---- companies

std::size_t company_cue(const Text& t, std::size_t i) {
  const auto& w = at(t, i);
  const auto value_at = [&](std::size_t k) {
    if (at(t, k) == "a" && is_one_of(at(t, k + 1), {"company", "startup", "start-up", "firm", "business", "agency", "studio",
                                                    "shop", "place", "small", "little"})) {
      for (std::size_t c = k + 1; c < k + 7; ++c)
        if (is_one_of(at(t, c), {"called", "named"})) return c + 1;
      return i;
    }
    if (is_one_of(at(t, k), {"the", "a"}) && is_one_of(at(t, k + 1), {"company", "startup", "firm"}))
      return is_one_of(at(t, k + 2), {"called", "named"}) ? k + 3 : k + 2;
    return k;
  };
  if (i == 0 && w == "at" && capital(t, 1)) return value_at(1);
  if (w == "now" && is_one_of(at(t, i + 1), {"at", "with"}) && capital(t, i + 2)) return value_at(i + 2);
  if (is_one_of(w, {"trade", "trading", "known"}) && at(t, i + 1) == "as" && capital(t, i + 2)) return i + 2;
  if (w == "at" && i > 2 && is_one_of(at(t, i - 1), {"be", "was", "worked", "were"})) return i;  // used to be at
  if (is_one_of(w, {"at", "@", "for", "with", "from"}) && i > 0) {
    const auto& before = at(t, i - 1);
    const bool working = is_one_of(
        before, {"work",    "working", "works",   "employed", "job",       "here",        "position",   "role", "am",
                 "i'm",     "im",      "we're",   "intern",   "interning", "freelancing", "consulting", "team", "us",
                 "started", "based",   "calling", "writing",  "people",    "employees",   "live",       "join", "joining"});
    const bool role = is_role_noun(before) || (i > 1 && is_role_noun(at(t, i - 2))) ||
                      (i > 2 && is_one_of(at(t, i - 2), {"of"}) && is_role_noun(at(t, i - 3)));
    if (w == "from") {
      // "I'm Zoë from Acme", "Zoë O'Brien from Acme here"
      const bool named = word(t, i - 1) && (capital(t, i - 1) || t.all_lower) && !is_function_word(before);
      if (is_one_of(before, {"i'm", "im", "am", "we're", "are", "here", "calling", "writing", "us"}) || role || named)
        return value_at(i + 1);
      return i;
    }
    if (w == "for" && !(working || role)) return i;
    const bool now =
        is_one_of(before, {"currently", "now", "still"}) && (capital(t, i + 1) || (at(t, i + 1) == "the" && capital(t, i + 2)));
    if (w == "with" && now) return value_at(i + 1);
    if (w == "with" && !is_one_of(before, {"work", "working", "works", "job", "am", "i'm", "we're"})) return i;
    if (w == "at" && before == "me") return i;  // reach me at
    const bool named = (w == "at" || w == "@") && word(t, i - 1) && capital(t, i - 1) && !t.all_lower;
    const bool comma = w == "at" && before == ",";
    const bool doing = w == "at" && i > 1 && (behind_i_am(t, 0) > 0 || is_one_of(at(t, 0), {"i"}));
    const bool number = t.tokens[i - 1].kind == TokenKind::number;
    if (working || role || named || comma || (doing && !number)) return value_at(i + 1);
    return i;
  }
  if (is_one_of(w, {"run", "own", "founded", "started", "cofounded", "co-founded", "built", "represent", "representing", "join",
                    "joined"}) &&
      i > 0 && is_one_of(at(t, i - 1), {"i", "we", "who", "and", "also", "recently", "just"}) &&
      (capital(t, i + 1) || is_one_of(at(t, i + 1), {"a", "the"})))
    return value_at(i + 1);
  if (w == "of" && i > 0 &&
      is_one_of(at(t, i - 1), {"founder", "co-founder", "cofounder", "ceo", "cto", "cfo", "coo", "cmo", "owner", "co-owner",
                               "president", "behalf"}))
    return value_at(i + 1);
  if (is_one_of(w, {"became", "become", "renamed"}) && i > 0) {  // we became Acme SE, we've renamed to Quist Studio
    const auto k = at(t, i + 1) == "to" ? i + 2 : i + 1;
    if (is_one_of(at(t, i - 1), {"we", "we've", "i've", "have", "company", "just"}) && capital(t, k)) return k;
  }
  if (is_one_of(w, {"called", "named"}) && i > 1 && at(t, i - 2) == "ours") return i + 1;
  if (is_one_of(w, {"called", "named"}) && i > 0 &&
      (at(t, i - 1) == "we're" || (i > 1 && at(t, i - 2) == "we" && at(t, i - 1) == "are")))
    return i + 1;
  if (is_one_of(w, {"called", "named"}) && i > 0) {
    for (std::size_t k = i; k > 0 && i - k < 6; --k)
      if (is_one_of(at(t, k - 1), {"company", "startup", "start-up", "firm", "business", "agency", "shop", "organisation",
                                   "organization", "bakery", "studio", "consultancy", "employer"}))
        return i + 1;
  }
  if (is_one_of(w, {"company", "employer", "startup", "firm", "business"}) && i > 0 && is_one_of(at(t, i - 1), {"my", "our"}) &&
      at(t, i + 1) == "," && capital(t, i + 2))
    return i + 2;
  if (w == "we're" || (w == "we" && at(t, i + 1) == "are")) {
    const auto k = w == "we" ? i + 2 : i + 1;
    const auto end = company_end(t, k, false);
    if (end > k && capital(t, k) && !t.all_lower && !is_number_word(at(t, k))) return k;
  }
  return i;
}

std::size_t company_end(const Text& t, std::size_t begin, bool expected) {
  if (begin >= t.size()) return begin;
  std::size_t i = begin;
  const auto& first = at(t, begin);
  if (t.tokens[begin].kind == TokenKind::url) return begin + 1;
  if (!word(t, begin) && t.tokens[begin].kind != TokenKind::number) return begin;
  const bool cased = !t.all_lower && (capital(t, begin) || (first == "the" && capital(t, begin + 1)));
  if (is_one_of(first, {"the", "a", "an"}) && !expected && !(first == "the" && capital(t, begin + 1) && !t.all_lower))
    return begin;
  bool formed = false;  // "Big and Small LLC"
  for (std::size_t k = begin + 1; cased && !formed && k < begin + 6; ++k) formed = capital(t, k) && is_company_suffix(at(t, k));
  if (!formed &&
      is_one_of(first, {"i",       "i'm",   "my",     "me",        "we",       "it",      "that",   "this",     "him",
                        "her",     "them",  "you",    "your",      "least",    "all",     "home",   "work",     "moment",
                        "present", "scale", "once",   "first",     "last",     "any",     "some",   "several",  "various",
                        "many",    "big",   "large",  "small",     "now",      "example", "free",   "fun",      "about",
                        "around",  "over",  "nearly", "almost",    "what",     "who",     "here",   "there",    "school",
                        "night",   "noon",  "random", "different", "multiple", "no",      "not",    "our",      "his",
                        "their",   "a",     "an",     "years",     "myself",   "anyone",  "nobody", "something"}))
    return begin;
  if (t.tokens[begin].kind == TokenKind::number) {
    const bool name = capital(t, begin + 1) && !t.all_lower;  // "3 Degrees"
    if (!name) return begin;
  }
  if (is_number_word(first) && !capital(t, begin)) return begin;
  if (is_department(first) && !capital(t, begin) && !is_company_suffix(at(t, begin + 1))) return begin;
  if (!cased && !expected && !t.all_lower && !is_company_suffix(at(t, begin + 1))) {
    // a lower-case word in a text that uses capitals: a company only as one word that ends its clause
    if (is_function_word(first) || is_state_word(first) || is_role_noun(first) || is_month(first) || first.size() < 3)
      return begin;
    if (!(punctuation(t, begin + 1) || is_one_of(at(t, begin + 1), {"and", "as", "we're", "in", "here"}))) return begin;
    return begin + 1;
  }
  for (; i < t.size() && i - begin < 7; ++i) {
    const auto& w = at(t, i);
    if (t.tokens[i].kind == TokenKind::number) {
      if (i == begin || (cased && !is_one_of(at(t, i + 1), {"people", "employees"}) && !is_people_noun(at(t, i + 1)) &&
                         punctuation(t, i + 1) && at(t, i - 1) != ","))
        continue;
      break;
    }
    if (w == "&" || w == "+") {
      if (word(t, i + 1)) continue;
      break;
    }
    if (w == "." && i > begin && is_company_suffix(at(t, i - 1) + ".")) {
      ++i;
      break;
    }
    if (w == "," && is_company_suffix(at(t, i + 1)) && !is_function_word(at(t, i + 1)) && (capital(t, i + 1) || t.all_lower))
      continue;  // Acme, Inc.
    if (!word(t, i)) break;
    if (i > begin && is_company_suffix(w) &&
        (capital(t, i) || t.all_lower || is_one_of(w, {"gmbh", "inc", "ltd", "llc", "ag"})) && w != "as" && w != "se" &&
        w != "co" && w != "spa")
      continue;
    if (is_one_of(w, {"of", "and", "the", "for", "de", "du", "y", "und", "et"}) && i > begin) {
      const bool joins = cased && capital(t, i + 1) && !is_one_of(at(t, i + 1), {"i", "i'm", "we", "we're", "my", "our", "im"});
      const bool lower_joins = t.all_lower && expected && is_one_of(w, {"of", "and", "the", "de"}) && word(t, i + 1) &&
                               !is_function_word(at(t, i + 1)) && !is_role_noun(at(t, i + 1)) &&
                               !is_one_of(at(t, i + 1), {"i'm", "we're", "there"});
      const bool the_next = cased && is_one_of(w, {"of", "for"}) && at(t, i + 1) == "the" && capital(t, i + 2);
      if (joins || lower_joins || the_next) continue;
      break;
    }
    if (i == begin && first == "the") continue;
    if (cased) {
      if (i > begin && !capital(t, i) && !(at(t, begin) == "the" && i == begin + 1)) break;
      if (i > begin && is_one_of(w, {"i", "i'm", "im", "we", "we're", "my", "our", "as"})) break;
      continue;
    }
    if (i == begin) {
      if ((is_function_word(w) || is_state_word(w) || is_role_noun(w)) &&
          !(expected && punctuation(t, i + 1) && !is_function_word(w) && w.size() > 4))
        return begin;
      continue;
    }
    if (is_function_word(w) || is_role_noun(w)) break;
    if (is_one_of(w, {"as", "in", "on", "where", "who", "doing", "located", "btw", "we're", "there", "which", "that's"})) break;
    if (is_number_word(w) || is_people_noun(w)) break;
    if (!t.all_lower && !expected) break;
  }
  while (i > begin && (is_one_of(at(t, i - 1), {"and", "of", "the", "for", "&"}))) --i;
  return i;
}

bool no_company_phrase(const Text& t) {
  for (std::size_t i = 0; i < t.size(); ++i) {
    const auto& w = at(t, i);
    if (is_one_of(w, {"self-employed", "freelancer", "freelance", "freelancing", "solopreneur", "selfemployed"})) return true;
    if (w == "self" && at(t, i + 1) == "employed") return true;
    if (w == "for" && at(t, i + 1) == "myself") return true;
    if (w == "my" && at(t, i + 1) == "own" && at(t, i + 2) == "boss") return true;
  }
  return false;
}

// ---- numbers

std::optional<Span> number_phrase(const Text& t, std::size_t i) {
  while (i < t.size() &&
         (is_approximation(at(t, i)) || is_one_of(at(t, i), {"a", "the", "between", "just", "only", "us", "of", "we're", "up",
                                                             "to", "than", "more", "less", "at", "least", "most"}))) {
    if (at(t, i) == "a" && !is_one_of(at(t, i + 1), {"dozen", "hundred", "thousand", "couple", "million", "half"}))
      return std::nullopt;
    if (is_one_of(at(t, i), {"a"})) break;
    ++i;
  }
  const auto number_token = [&](std::size_t k) {
    if (k >= t.size()) return false;
    if (t.tokens[k].kind == TokenKind::number || is_number_word(at(t, k))) return true;
    const auto& w = at(t, k);  // 40ish, 10k, 50+, 40-50
    if (t.tokens[k].kind != TokenKind::word || w.empty() || w[0] < '0' || w[0] > '9') return false;
    std::size_t d = 0;
    while (d < w.size() && ((w[d] >= '0' && w[d] <= '9') || w[d] == ',' || w[d] == '.')) ++d;
    const auto rest = std::string_view(w).substr(d);
    return is_one_of(rest, {"ish", "-ish", "k", "+"}) ||
           (rest.size() > 1 && rest[0] == '-' && rest.find_first_not_of("0123456789", 1) == std::string_view::npos);
  };
  std::size_t k = i;
  if (at(t, k) == "a" && is_one_of(at(t, k + 1), {"dozen", "hundred", "thousand", "couple", "million"})) ++k;
  if (at(t, k) == "half" && at(t, k + 1) == "a" && at(t, k + 2) == "dozen") return Span{k, k + 3};
  if (!number_token(k)) return std::nullopt;
  while (number_token(k) || is_one_of(at(t, k), {"dozens", "hundreds", "thousands"}) ||
         (at(t, k) == "and" && number_token(k + 1) && is_number_word(at(t, k + 1)) &&
          is_one_of(at(t, k - 1), {"hundred", "thousand"})))
    ++k;
  if (is_one_of(at(t, k), {"-", "to", "or"}) && number_token(k + 1)) {
    k += 2;
    while (number_token(k)) ++k;
  } else if (at(t, k) == "and" && i > 0 && at(t, i - 1) == "between" && number_token(k + 1)) {
    k += 2;
  }
  return Span{i, k};
}

int people_weight(const Text& t, Span number) {
  std::size_t after = number.last;
  if (is_one_of(at(t, after), {"or", "plus", "-"}) && is_one_of(at(t, after + 1), {"so", "ish"})) after += 2;
  if (is_one_of(at(t, after), {"+", "%"})) {
    if (at(t, after) == "%") return -1;
    ++after;
  }
  const std::size_t value = number.first;
  if (value > 1 && is_one_of(at(t, value - 1), {"that", "it"}) && at(t, value - 2) == "make") return 2;  // make that 45
  if (value > 0 && is_one_of(at(t, value - 1), {"at"}) &&
      !(value > 1 && is_one_of(at(t, value - 2), {"is", "are", "size", "stands", "team", "currently", "headcount"})))
    return -1;  // at 3
  if (value > 1 && at(t, value - 1) == "is" &&
      is_one_of(at(t, value - 2), {"age", "budget", "price", "salary", "rent", "revenue"}))
    return -1;
  if (value > 0 && is_one_of(at(t, value - 1), {"$", "€", "£", "#", "version", "v", "page", "in", "since", "until", "aged", "age",
                                                "number", "no", "room", "series", "top", "q"}))
    return -1;
  if (after < t.size() && is_other_unit(at(t, after))) return -1;
  if (value > 2 && at(t, value - 1) == "be" && is_one_of(at(t, value - 2), {"to"}) && is_one_of(at(t, value - 3), {"used"}))
    return -1;
  if (value > 0 && is_one_of(at(t, value - 1), {"were", "was"}) && value > 1 && punctuation(t, value - 2))
    return -1;                                                                                                   // …, were 5
  if (at(t, after) == "now" || (value > 1 && at(t, value - 1) == "now" && punctuation(t, value - 2))) return 3;  // 19 now
  for (std::size_t k = value; k > 0 && value - k < 4; --k) {
    if (punctuation(t, k - 1)) break;
    if (is_one_of(at(t, k - 1), {"hire", "hiring", "recruit", "recruiting", "find", "add", "adding", "onboard", "train", "reach",
                                 "another", "extra", "new", "additional", "interview", "grow", "support"}))
      return -1;
  }
  if (at(t, after) == "of" && is_one_of(at(t, after + 1), {"us", "them"})) return at(t, after + 1) == "us" ? 2 : -1;
  for (std::size_t k = after; k < t.size() && k < after + 4; ++k) {
    if (punctuation(t, k) || is_one_of(at(t, k), {"and", "in", "at", "for", "across", "over", "on", "from", "with", "between"}))
      break;
    if (is_people_noun(at(t, k))) return 2;
    if (is_other_unit(at(t, k))) return -1;
  }
  if (at(t, after) == "in" && is_one_of(at(t, after + 1), {"total", "all", "the"})) return 2;
  // "team of 12", "team size is 40", "headcount: 30", "we're 40", "there are 7"
  std::size_t b = value;
  while (b > 0 && (is_approximation(at(t, b - 1)) ||
                   is_one_of(at(t, b - 1), {"just", "only",  "now",   "currently", "a",       "the", "is",    ":",
                                            "of",   "total", "size",  "at",        "between", "up",  "to",    "than",
                                            "more", "less",  "about", "has",       "have",    "'s",  "least", "most"}))) {
    if (at(t, b - 1) == "of" && b > 1 &&
        is_one_of(at(t, b - 2), {"team", "company", "group", "staff", "crew", "squad", "total", "startup", "firm"}))
      return 2;
    --b;
  }
  if (b > 0 && is_one_of(at(t, b - 1), {"headcount", "team", "staff", "employ", "employs", "employees", "team's"})) return 2;
  if (b > 0 && (is_one_of(at(t, b - 1), {"we're", "there's", "were"}) ||
                (is_one_of(at(t, b - 1), {"are"}) && b > 1 && is_one_of(at(t, b - 2), {"we", "there"}))))
    return 1;
  if (b > 0 && at(t, b - 1) == "we") return 1;
  return 0;
}

bool solo_phrase(const Text& t, std::size_t i) {
  const auto& w = at(t, i);
  if (is_one_of(w, {"just", "only", "it's"}) && is_one_of(at(t, i + 1), {"me", "myself"}))
    return !is_one_of(at(t, i + 2), {"who", "or", "that"});
  if (is_one_of(w, {"one-man", "one-woman", "one-person", "solo", "solopreneur"})) return true;
  if (w == "on" && at(t, i + 1) == "my" && at(t, i + 2) == "own") return true;
  if (w == "by" && at(t, i + 1) == "myself") return true;
  if (w == "me" && at(t, i + 1) == "," && is_one_of(at(t, i + 2), {"myself"})) return true;
  return w == "alone" || (w == "nobody" && at(t, i + 1) == "else");
}

// ---- e-mail

std::optional<Span> email_span(const Text& t, std::size_t i) {
  if (i >= t.size()) return std::nullopt;
  if (t.tokens[i].kind == TokenKind::email) {
    if (at(t, i) == "@") return std::nullopt;
    return Span{i, i + 1};
  }
  const bool dotted_local = t.tokens[i].kind == TokenKind::url && is_one_of(at(t, i + 1), {"at", "(", "[", "{"});
  if (!word(t, i) && t.tokens[i].kind != TokenKind::number && !dotted_local) return std::nullopt;
  // zoe [dot smith] at acme dot io, with "at" and "dot" in brackets or not
  const auto skip_open = [&](std::size_t k) { return is_one_of(at(t, k), {"(", "[", "{"}) ? k + 1 : k; };
  const auto skip_close = [&](std::size_t k) { return is_one_of(at(t, k), {")", "]", "}"}) ? k + 1 : k; };
  const auto joined = [&](std::size_t k, std::initializer_list<std::string_view> words) -> std::size_t {
    const auto w = skip_open(k);
    return is_one_of(at(t, w), words) ? skip_close(w + 1) : k;
  };
  const auto part = [&](std::size_t k) { return word(t, k) || (k < t.size() && t.tokens[k].kind == TokenKind::number); };
  std::size_t k = i + 1;
  for (auto next = joined(k, {"dot", "underscore", "dash", "hyphen", "minus", "plus"}); next > k && part(next);
       next = joined(k, {"dot", "underscore", "dash", "hyphen", "minus", "plus"}))
    k = next + 1;
  auto host = joined(k, {"at"});
  if (host == k) return std::nullopt;
  const bool bracketed = is_one_of(at(t, k), {"(", "[", "{"});
  if (host < t.size() && t.tokens[host].kind == TokenKind::url) {  // zoe at acme.io
    const bool work =
        is_one_of(at(t, i), {"work", "working", "works", "i'm", "im", "am", "here", "job", "employed", "role", "position"}) ||
        is_role_noun(at(t, i));
    const bool told =
        bracketed || (i == 0 && host + 1 == t.size()) ||
        (i > 0 && (is_one_of(at(t, i - 1), {"is", "me", "email", "mail", "e-mail", ":", "it's", "to", "on", "use", ",", "via"})));
    const bool reach = is_one_of(at(t, i), {"me"});
    return told && !work && !reach ? std::optional(Span{i, host + 1}) : std::nullopt;
  }
  if (!part(host)) return std::nullopt;
  std::size_t end = host + 1;
  bool dotted = false;
  for (auto next = joined(end, {"dot"}); next > end && part(next); next = joined(end, {"dot"})) end = next + 1, dotted = true;
  for (auto next = joined(end, {"dash", "hyphen"}); !dotted && next > end && part(next); next = joined(end, {"dash", "hyphen"}))
    end = next + 1;
  for (auto next = joined(end, {"dot"}); next > end && part(next); next = joined(end, {"dot"})) end = next + 1, dotted = true;
  if (!dotted) return std::nullopt;
  if (is_one_of(at(t, i), {"work", "working", "works", "i'm", "im", "am", "here", "me", "job", "employed"}) ||
      (is_role_noun(at(t, i)) && !bracketed && !is_one_of(at(t, i), {"ceo", "admin", "hr", "ops", "founder", "office"})))
    return std::nullopt;
  return Span{i, end};
}

// ---- goals

std::size_t goal_cue(const Text& t, std::size_t i) {
  const auto& w = at(t, i);
  const auto verb = [&](std::size_t k) -> std::size_t {  // not about this conversation
    if (is_one_of(at(t, k), {"sign",     "start",     "know",      "ask",  "skip",  "change", "correct", "stop",    "quit",
                             "talk",     "speak",     "update",    "fix",  "say",   "tell",   "give",    "share",   "register",
                             "join",     "login",     "log",       "be",   "go",    "use",    "try",     "see",     "begin",
                             "continue", "finish",    "cancel",    "set",  "edit",  "leave",  "answer",  "provide", "mention",
                             "clarify",  "apologize", "apologise", "hear", "think", "check"}))
      return i;
    if (is_one_of(at(t, k), {"do", "have"}) && is_one_of(at(t, k + 1), {"this", "that", "it", "to", "so"})) return i;
    for (std::size_t b = i; b > 0 && i - b < 3; --b)
      if (is_one_of(at(t, b - 1), {"don't", "dont", "not", "never", "didn't"})) return i;
    return k;
  };
  // "I'm head of design and want to …": who it was that the sentence began with.
  const auto and_we = [&] {
    if (!is_one_of(at(t, i - 1), {"and", "but"})) return false;
    for (std::size_t b = i - 1; b > 0 && !is_one_of(at(t, b - 1), {".", "!", "?", "\n", ";", "they", "he", "she", "you"}); --b)
      if (is_one_of(at(t, b - 1), {"i", "i'm", "im", "we", "we're"})) return true;
    return false;
  };
  const bool wants = is_one_of(w, {"want", "wanna", "need", "hope", "plan", "aim", "intend", "wish", "like"});
  if (wants && at(t, i + 1) == "to" && i > 0 &&
      (and_we() || is_one_of(at(t, i - 1), {"i", "we", "i'd", "we'd", "id", "would", "really", "just", "mainly", "mostly", "also",
                                            "primarily", "basically", "both"}))) {
    const bool of_work =
        is_one_of(at(t, i - 1), {"we", "we'd"}) &&
        is_one_of(at(t, i + 2), {"stop", "start", "know", "see", "share", "set", "hear", "be", "go", "give", "answer"});
    return of_work ? i + 2 : verb(i + 2);
  }
  if (w == "wanna" && i > 0) return verb(i + 1);
  if (is_one_of(w, {"looking", "hoping", "trying", "planning", "aiming", "wanting", "keen", "eager", "here"}) &&
      at(t, i + 1) == "to") {
    if (w == "here" && is_one_of(at(t, i + 2), {"help"})) return i;
    return verb(i + 2);
  }
  if (w == "looking" && at(t, i + 1) == "for") return i > 0 && is_one_of(at(t, i - 1), {"is", "still", "was"}) ? i : i + 2;
  if (w == "so" && is_one_of(at(t, i + 1), {"we", "i"}) && at(t, i + 2) == "can") return verb(i + 3);
  if (is_one_of(w, {"goal", "aim", "objective"}) && i > 0 && is_one_of(at(t, i - 1), {"my", "our", "the", "main"}) &&
      is_one_of(at(t, i + 1), {"is", ":", "'s"})) {
    if (at(t, i + 2) == "not" && at(t, i + 3) != "to") return i;
    return at(t, i + 2) == "to" ? i + 3 : i + 2;
  }
  if (w == "interested" && at(t, i + 1) == "in" && at(t, i + 2) != "your") return i + 2;
  if (w == "what" && is_one_of(at(t, i + 1), {"we", "i"}) && is_one_of(at(t, i + 2), {"need", "want"}) && at(t, i + 3) == "is")
    return i + 4;
  if (is_one_of(w, {"told", "asked"}) && is_one_of(at(t, i + 1), {"me", "us"}) && at(t, i + 2) == "to") return verb(i + 3);
  return i;
}

std::size_t goal_end(const Text& t, std::size_t begin) {
  std::size_t i = begin;
  for (; i < t.size(); ++i) {
    const auto& w = at(t, i);
    if (is_one_of(w, {".", "!", "?", "\n", ";"})) break;
    if (w == "," && is_one_of(at(t, i + 1), {"my", "i'm", "we're", "our", "i", "you", "and"}) &&
        (is_one_of(at(t, i + 1), {"my", "i'm", "we're"}) || is_one_of(at(t, i + 2), {"my", "i'm", "we're", "work", "am"})))
      break;
    if (w == "and" && is_one_of(at(t, i + 1), {"my", "i'm", "we're"}) &&
        is_one_of(at(t, i + 2), {"email", "name", "e-mail", "mail", "company", "role", "team", "about", "a", "the", "around"}))
      break;
  }
  return i;
}

std::size_t clause_end(const Text& t, std::size_t begin) {
  std::size_t i = begin;
  while (i < t.size() && !is_one_of(at(t, i), {",", ".", "!", "?", "\n", ";", "-"})) ++i;
  return i;
}

std::vector<Span> split_list(const Text& t) {
  std::vector<Span> parts;
  std::size_t first = 0;
  for (std::size_t i = 0; i <= t.size(); ++i) {
    const bool sentence = i + 1 < t.size() && at(t, i) == "." && t.tokens[i + 1].starts_sentence &&
                          t.tokens[i + 1].begin > t.tokens[i].end && word(t, i + 1) && !abbreviation_stop(t, i);
    const bool cut = i == t.size() || sentence || is_one_of(at(t, i), {",", ";", "\n", "/", "|"});
    if (!cut) continue;
    if (i < t.size() && at(t, i) == "," && is_company_suffix(at(t, i + 1)) && capital(t, i + 1)) continue;
    auto last = i;
    while (last > first && punctuation(t, last - 1)) --last;
    auto begin = first;
    while (begin < last && (punctuation(t, begin) || is_filler(at(t, begin)) || at(t, begin) == "and")) ++begin;
    if (last > begin) parts.push_back({begin, last});
    first = i + 1;
  }
  return parts;
}

// ---- words within a stored value

bool holds_words(domain::FieldType type) {
  using enum domain::FieldType;
  return type == person_name || type == company || type == text || type == email;
}

std::vector<std::string_view> words_of(const std::string& value) {
  std::vector<std::string_view> words;
  std::size_t begin = 0;
  for (std::size_t i = 0; i <= value.size(); ++i)
    if (i == value.size() || value[i] == ' ' || value[i] == '@' || value[i] == '.' || value[i] == ',') {
      if (i > begin) words.push_back(std::string_view(value).substr(begin, i - begin));
      begin = i + 1;
    }
  return words;
}

std::string lowered(std::string_view s) {
  std::string out(s);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return out;
}

std::size_t find_word(std::string_view value, std::string_view word) {
  const auto haystack = lowered(value), needle = lowered(word);
  const auto inner = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || static_cast<unsigned char>(c) >= 0x80;
  };
  for (auto found = haystack.find(needle); found != std::string::npos; found = haystack.find(needle, found + 1)) {
    const auto end = found + needle.size();
    const bool left = found == 0 || !inner(haystack[found - 1]) || !inner(needle.front());
    const bool right = end == haystack.size() || !inner(haystack[end]) || !inner(needle.back());
    if (left && right) return found;
  }
  return std::string::npos;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const auto substitute = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
    }
  }
  return row[b.size()];
}

std::string without_letter(std::string_view word, char letter) {
  std::string out(word);
  for (std::size_t i = out.size(); i > 0; --i)
    if (lowered(out.substr(i - 1, 1))[0] == letter) {
      out.erase(i - 1, 1);
      return out;
    }
  return out;
}

}  // namespace onboarding::model::offline
