#include "actors/model/offline/lexicon.hpp"

#include <unordered_set>

namespace onboarding::model::offline {
namespace {
using Words = std::unordered_set<std::string_view>;
}

bool is_role_noun(std::string_view w) {
  static const Words words{
      "engineer", "engineers", "developer", "dev", "programmer", "architect", "designer", "manager", "director", "founder", "co-founder",
      "cofounder", "owner", "co-owner", "ceo", "cto", "cfo", "coo", "cmo", "cio", "cpo", "ciso", "cro", "vp", "svp", "evp", "president",
      "vice-president", "chairman", "chairwoman", "chair", "partner", "principal", "analyst", "scientist", "researcher", "consultant",
      "advisor", "adviser", "accountant", "bookkeeper", "auditor", "controller", "administrator", "admin", "sysadmin", "assistant",
      "secretary", "receptionist", "coordinator", "specialist", "executive", "officer", "representative", "rep", "agent", "recruiter",
      "marketer", "salesperson", "salesman", "saleswoman", "writer", "copywriter", "editor", "journalist", "translator", "photographer",
      "producer", "artist", "animator", "musician", "teacher", "lecturer", "professor", "tutor", "instructor", "trainer", "coach",
      "student", "intern", "trainee", "apprentice", "graduate", "phd", "postdoc", "doctor", "physician", "surgeon", "nurse", "dentist",
      "pharmacist", "therapist", "psychologist", "veterinarian", "vet", "paramedic", "midwife", "lawyer", "attorney", "solicitor",
      "barrister", "paralegal", "judge", "notary", "banker", "trader", "broker", "investor", "underwriter", "actuary", "economist",
      "statistician", "mathematician", "physicist", "chemist", "biologist", "geologist", "technician", "mechanic", "electrician",
      "plumber", "carpenter", "builder", "contractor", "foreman", "surveyor", "planner", "buyer", "merchandiser", "retailer",
      "shopkeeper", "chef", "cook", "baker", "barista", "waiter", "waitress", "bartender", "hotelier", "driver", "pilot", "captain",
      "sailor", "soldier", "policeman", "firefighter", "farmer", "gardener", "florist", "hairdresser", "stylist", "librarian",
      "archivist", "curator", "freelancer", "entrepreneur", "contributor", "maintainer", "tester", "qa", "sre", "devops", "dba", "pm",
      "po", "lead", "leader", "head", "chief", "boss", "supervisor", "superintendent", "dispatcher", "operator", "worker", "clerk",
      "cashier", "strategist", "evangelist", "advocate", "liaison", "ambassador", "scrum-master", "master", "generalist", "buddy",
      "secretary-general", "treasurer", "pastor", "priest", "minister", "mayor", "councillor", "diplomat", "director-general", "dean",
      "headteacher", "headmaster", "headmistress", "provost", "fellow", "associate", "optician", "optometrist", "radiologist",
      "cardiologist", "neurologist", "physiotherapist", "nutritionist", "dietitian", "logistician", "illustrator", "videographer",
      "filmmaker", "actor", "actress", "dancer", "singer", "composer", "author", "poet", "blogger", "influencer", "streamer", "youtuber",
      "podcaster", "handyman", "janitor", "caretaker", "cleaner", "housekeeper", "nanny", "babysitter", "retiree", "pensioner",
      "homemaker", "volunteer", "fundraiser", "activist", "organizer", "organiser", "realtor", "landlord", "estimator", "inspector",
      "detective", "investigator", "guard", "courier", "tailor", "jeweller", "jeweler", "butcher", "fisherman", "brewer", "winemaker",
      "sommelier", "ops", "hr", "swe", "ux", "copy-editor", "stagehand", "machinist", "welder", "toolmaker", "tradesman", "roofer",
      "painter", "decorator", "geographer", "historian", "philosopher", "linguist", "sociologist", "anthropologist", "archaeologist"};
  return words.contains(w);
}

bool is_role_modifier(std::string_view w) {
  static const Words words{"senior", "junior", "sr", "jr", "lead", "head", "chief", "principal", "staff", "vice", "deputy", "assistant", "associate",
                           "executive", "managing", "general", "regional", "global", "national", "interim", "acting", "founding", "freelance",
                           "independent", "self-employed", "part-time", "full-time", "software", "hardware", "product", "project", "program",
                           "programme", "marketing", "sales", "operations", "office", "data", "frontend", "front-end", "backend", "back-end",
                           "full-stack", "fullstack", "web", "mobile", "ios", "android", "cloud", "security", "machine", "learning", "account",
                           "customer", "community", "content", "people", "human", "talent", "finance", "financial", "legal", "business",
                           "technical", "tech", "creative", "art", "social", "media", "growth", "brand", "supply", "chain", "quality", "research",
                           "medical", "dental", "primary", "secondary", "school", "high-school", "university", "graduate", "certified", "chartered",
                           "professional", "digital", "solution", "solutions", "systems", "system", "network", "support", "team", "department",
                           "store", "shop", "branch", "site", "plant", "production", "process", "industrial", "mechanical", "electrical", "civil",
                           "chemical", "structural", "embedded", "game", "graphic", "ui", "ux", "user", "experience", "interaction", "service",
                           "success", "procurement", "logistics", "warehouse", "events", "event", "engineering", "co-founding", "small", "real",
                           "estate", "private", "public", "relations", "policy", "travel", "tax", "investment", "risk", "compliance", "scrum"};
  return words.contains(w);
}

bool is_company_suffix(std::string_view w) {
  static const Words words{"gmbh", "ag", "inc", "inc.", "ltd", "ltd.", "llc", "llp", "plc", "corp", "corp.", "corporation", "co", "co.", "company",
                           "kg", "se", "sa", "s.a.", "sas", "sarl", "s.r.l.", "srl", "spa", "s.p.a.", "bv", "b.v.", "nv", "n.v.", "oy", "ab",
                           "as", "a/s", "aps", "pty", "limited", "group", "holding", "holdings", "labs", "studio", "studios", "technologies",
                           "technology", "solutions", "systems", "software", "industries", "partners", "ventures", "consulting", "bank",
                           "university", "foundation", "institute", "hospital", "school", "college", "agency", "ug", "e.v.", "kk", "k.k."};
  return words.contains(w);
}

bool is_people_noun(std::string_view w) {
  static const Words words{"people", "persons", "person", "employees", "employee", "staff", "members", "member", "folks", "engineers", "developers",
                           "designers", "heads", "headcount", "colleagues", "coworkers", "co-workers", "teammates", "souls", "humans", "workers",
                           "guys", "fte", "ftes", "full-timers", "seats", "users", "strong", "devs", "teachers", "nurses", "specialists"};
  return words.contains(w);
}

bool is_number_word(std::string_view w) {
  static const Words words{"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen",
                           "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty", "thirty", "forty", "fourty", "fifty", "sixty",
                           "seventy", "eighty", "ninety", "hundred", "thousand", "million", "dozen", "couple"};
  if (words.contains(w)) return true;
  const auto hyphen = w.find('-');  // twenty-five
  return hyphen != std::string_view::npos && words.contains(w.substr(0, hyphen)) && words.contains(w.substr(hyphen + 1));
}

bool is_approximation(std::string_view w) {
  static const Words words{"about", "around", "roughly", "approximately", "approx", "approx.", "some", "nearly", "almost", "circa", "ca", "ca.",
                           "maybe", "over", "under", "exactly", "~", "like", "say"};
  return words.contains(w);
}

bool is_function_word(std::string_view w) {
  static const Words words{
      "i", "me", "my", "mine", "we", "us", "our", "ours", "you", "your", "he", "him", "his", "she", "her", "it", "its", "they", "them", "their",
      "this", "that", "these", "those", "a", "an", "the", "and", "or", "but", "so", "if", "then", "than", "as", "at", "by", "for", "from", "in",
      "into", "of", "on", "to", "with", "without", "about", "around", "is", "am", "are", "was", "were", "be", "been", "being", "do", "does", "did",
      "have", "has", "had", "will", "would", "can", "could", "should", "may", "might", "must", "shall", "not", "no", "yes", "there", "here",
      "what", "who", "whom", "which", "when", "where", "why", "how", "i'm", "im", "i've", "ive", "i'd", "i'll", "we're", "we've", "we'd", "it's",
      "that's", "there's", "name's", "don't", "dont", "didn't", "isn't", "aren't", "can't", "cant", "won't", "just", "only", "also", "too",
      "very", "really", "please", "because", "since", "while", "currently", "now", "today", "working", "work", "called", "named", "looking",
      "hoping", "trying", "want", "need", "like", "lets", "let's", "who's", "based", "my", "email", "e-mail", "mail", "name", "company", "team",
      "role", "job", "goal", "you're", "what's", "plus", "sorry", "actually", "oops", "hi", "hello", "hey", "thanks", "thank"};
  return words.contains(w);
}

bool is_state_word(std::string_view w) {
  static const Words words{
      "fine", "good", "great", "ok", "okay", "well", "sure", "ready", "done", "here", "new", "happy", "glad", "excited", "interested", "curious",
      "confused", "lost", "stuck", "unsure", "sorry", "afraid", "busy", "tired", "back", "alone", "out", "in", "on", "off", "from", "at", "with",
      "not", "also", "just", "only", "still", "already", "currently", "now", "really", "very", "so", "too", "quite", "pretty", "kind", "sort",
      "the", "a", "an", "one", "all", "looking", "trying", "hoping", "working", "running", "leading", "managing", "building", "doing", "going",
      "using", "thinking", "planning", "writing", "asking", "talking", "calling", "joining", "starting", "studying", "teaching", "based",
      "responsible", "employed", "self-employed", "unemployed", "retired", "freelance", "freelancing", "called", "named", "being", "getting",
      "having", "making", "coming", "living", "heading", "into", "about", "around", "keen", "eager", "bored", "annoyed", "angry", "frustrated",
      "sceptical", "skeptical", "worried", "concerned", "struggling", "testing", "signing", "wondering", "my", "your", "our", "of", "to", "for",
      "and", "like", "more", "actually", "basically", "mostly", "mainly", "usually", "probably", "maybe", "never", "always", "no", "yes", "it",
      "what", "that", "this", "there", "responsable", "good,", "female", "male", "married", "single", "german", "french", "english", "american",
      "spanish", "italian", "serious", "kidding", "joking", "old", "young", "years", "sick", "late", "early", "free", "available", "open", "done,", "first", "second", "next", "last", "later", "help", "stop", "cancel", "wrong", "right"};
  return words.contains(w);
}

bool is_filler(std::string_view w) {
  static const Words words{"hi", "hello", "hey", "hiya", "howdy", "yo", "greetings", "ok", "okay", "sure", "well", "so", "um", "uh", "hmm", "er", "erm",
                           "ah", "oh", "yes", "yeah", "yep", "yup", "right", "alright", "thanks", "thank", "you", "please", "there", "everyone",
                           "all", "great", "cool", "perfect", "fine", "good", "nice", "of", "course", "gladly", "certainly", "absolutely",
                           "morning", "afternoon", "evening", "day", "again", "lol", "haha", "honestly", "basically", "like", "k", "thing", "tbh", "btw"};
  return words.contains(w);
}

bool is_correction_word(std::string_view w) {
  static const Words words{"sorry", "actually", "oops", "whoops", "correction", "wait", "typo", "misspelled", "mistyped", "mistake", "wrong", "apologies",
                           "oh", "no", "nope", "scratch", "rather", "meant", "argh", "ugh", "correct", "change", "update", "fix", "edit"};
  return words.contains(w);
}

bool is_yes(std::string_view w) {
  static const Words words{"yes", "yeah", "yep", "yup", "sure", "absolutely", "definitely", "correct", "right", "true", "indeed", "ok", "okay", "y", "certainly"};
  return words.contains(w);
}

bool is_no(std::string_view w) {
  static const Words words{"no", "nope", "nah", "never", "false", "n", "not"};
  return words.contains(w);
}

bool is_month(std::string_view w) {
  static const Words words{"january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december",
                           "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec"};
  return words.contains(w);
}

bool is_other_unit(std::string_view w) {
  static const Words words{"years", "year", "yrs", "months", "month", "weeks", "week", "days", "day", "hours", "hour", "hrs", "minutes", "minute", "min",
                           "mins", "seconds", "pm", "am", "o'clock", "percent", "%", "euros", "euro", "dollars", "dollar", "pounds", "usd", "eur",
                           "gbp", "k", "m", "million", "billion", "km", "miles", "meters", "times", "offices", "countries", "customers", "clients",
                           "products", "projects", "stores", "shops", "locations", "cities", "tools", "apps", "tickets", "orders", "kids",
                           "children", "dogs", "cats", "th", "st", "nd", "rd", "floor", "th floor", "teams", "departments", "companies", "servers",
                           "requests", "calls", "emails", "meetings", "invoices", "patients", "students", "pages", "questions", "things", "steps"};
  return words.contains(w);
}

}  // namespace onboarding::model::offline
