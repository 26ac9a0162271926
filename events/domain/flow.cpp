#include "events/domain/flow.hpp"

#include <unicode/regex.h>
#include <unicode/uloc.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "events/domain/errc.hpp"
#include "events/domain/fields.hpp"
#include "events/domain/text.hpp"

namespace onboarding::domain {

namespace {

// Bounds of a flow, so that a decision stays cheap and a session's state small.
constexpr std::size_t max_fields = 200;  // Turn::missing counts them in a byte
constexpr std::size_t max_options = 500;
constexpr std::size_t max_faq = 500;
constexpr std::size_t max_wordings = 50;
constexpr std::size_t max_prompt_bytes = 2000;
constexpr std::size_t max_label_bytes = 200;
constexpr std::size_t max_pattern_bytes = 500;
constexpr std::uint32_t max_value_length = 4096;  // parse_field refuses what is longer

constexpr std::array<std::string_view, 13> type_names = {"person_name", "text",        "email",   "phone",  "date",
                                                         "integer",     "number",      "boolean", "choice", "url",
                                                         "country",     "postal_code", "company"};

class Category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "domain"; }
  std::string message(int code) const override {
    return static_cast<Errc>(code) == Errc::bad_flow ? "The flow makes no sense" : "Unknown error of the domain";
  }
};

FieldSpec field(std::string name, FieldType type, std::string label, std::string prompt) {
  FieldSpec spec;
  spec.name = std::move(name);
  spec.type = type;
  spec.label = std::move(label);
  spec.prompt = std::move(prompt);
  return spec;
}

Flow make_default_flow() {
  Flow flow;
  flow.name = "default";
  flow.greeting = "Hi, and welcome! A few quick questions and you're set up. Just answer in your own words.";
  flow.fields = {field("full_name", FieldType::person_name, "name", "First of all, what's your name?"),
                 field("email", FieldType::email, "e-mail address", "What's the best e-mail address to reach you?"),
                 field("company", FieldType::company, "company", "Which company are you with?"),
                 field("role", FieldType::text, "role", "What's your role there?"),
                 field("team_size", FieldType::integer, "team size", "How many people are on your team?"),
                 field("goal", FieldType::text, "goal", "And what would you like to achieve with us?")};
  flow.faq = {
      {{"Why do you need my name?", "Why do you ask for my name?", "What do you need my name for?"},
       "So that we know how to address you."},
      {{"Why do you need my e-mail address?", "Why do you ask for my e-mail?", "What do you need my e-mail address for?",
        "What will you do with my e-mail?"},
       "It's how we reach you about your account."},
      {{"Why do you need my company?", "Why do you ask for my company?", "Why do you need to know where I work?",
        "What do you need my company for?"},
       "It helps us set things up for your organisation."},
      {{"Why do you need my role?", "Why do you ask for my role?", "What do you need my role for?",
        "Why do you need my job title?"},
       "It helps us show you first what matters in your work."},
      {{"Why do you need my team size?", "Why do you ask for the size of my team?", "What do you need the team size for?",
        "Why do you need to know how many people are on my team?"},
       "It helps us suggest a fitting setup."},
      {{"Why do you need my goal?", "Why do you ask for my goals?", "What do you need my goal for?"},
       "So that we can take you there more quickly."},
      {{"How long does this take?", "How long will this take?", "How many questions are there?", "How many questions are left?",
        "Is this going to take long?"},
       "Only a few minutes: there are six short questions."},
      {{"Can I change my answers later?", "Can I correct my answers?", "Can I change something later?",
        "What if I made a mistake?"},
       "Yes: just tell me here what should be different."},
      {{"Are you a robot?", "Are you a bot?", "Are you human?", "Am I talking to a human?", "Is this a bot?",
        "Are you a real person?"},
       "I'm an automated assistant."},
  };
  flow.fields[3].max_length = 200;
  flow.fields[4].min = 1;
  flow.fields[4].max = 1'000'000;
  flow.fields[5].max_length = 2000;
  return flow;
}

// ---- check

/// The first rule that is broken, empty when all hold.
using Complaint = std::string;

bool is_name(std::string_view name, std::string_view more_characters) {
  const auto letter = [](char c) { return c >= 'a' && c <= 'z'; };
  const auto inner = [&](char c) {
    return letter(c) || (c >= '0' && c <= '9') || more_characters.find(c) != std::string_view::npos;
  };
  return !name.empty() && name.size() <= 63 && letter(name.front()) && std::all_of(name.begin(), name.end(), inner);
}

bool is_sentence(std::string_view text, std::size_t max_bytes) {
  return text.size() <= max_bytes && is_text(text) && !is_blank(text);
}

bool is_region(const std::string& region) {
  if (region.size() != 2) return false;
  const char* const* countries = uloc_getISOCountries();
  for (; *countries; ++countries)
    if (region == *countries) return true;
  return false;
}

Complaint check_bounds(const FieldSpec& spec) {
  const bool numeric = spec.type == FieldType::integer || spec.type == FieldType::number;
  if ((spec.min || spec.max) && !numeric) return "min and max are for integer and number only";
  if ((spec.min && !std::isfinite(*spec.min)) || (spec.max && !std::isfinite(*spec.max))) return "min and max must be finite";
  if (spec.min && spec.max && *spec.min > *spec.max) return "min is above max";
  const bool textual = spec.type == FieldType::text || spec.type == FieldType::company || spec.type == FieldType::person_name;
  if ((spec.min_length || spec.max_length) && !textual) return "lengths are for text, company and person_name only";
  if (spec.max_length.value_or(1) == 0 || spec.max_length.value_or(1) > max_value_length) return "max_length must be 1 to 4096";
  if (spec.min_length.value_or(0) > spec.max_length.value_or(max_value_length)) return "min_length is above max_length";
  return {};
}

Complaint check_rules(const FieldSpec& spec) {
  if (!spec.pattern.empty()) {
    if (spec.type != FieldType::text) return "a pattern is for text only";
    if (!is_sentence(spec.pattern, max_pattern_bytes)) return "the pattern is too long or not text";
    UErrorCode status = U_ZERO_ERROR;
    UParseError where;
    const std::unique_ptr<icu::RegexPattern> compiled(
        icu::RegexPattern::compile(icu::UnicodeString::fromUTF8(spec.pattern), where, status));
    if (U_FAILURE(status)) return "the pattern is not a regular expression";
  }
  if (!spec.region.empty()) {
    if (spec.type != FieldType::phone && spec.type != FieldType::postal_code) return "a region is for phone and postal_code only";
    if (!is_region(spec.region)) return "the region is not an ISO 3166-1 alpha-2 code";
  }
  return {};
}

Complaint check_options(const FieldSpec& spec) {
  if (spec.type != FieldType::choice) return spec.options.empty() ? "" : "options are for choice only";
  if (spec.options.empty() || spec.options.size() > max_options) return "a choice needs 1 to 500 options";
  std::set<std::string> values;
  for (const ChoiceOption& option : spec.options) {
    if (!is_sentence(option.value, max_label_bytes)) return "an option's value is blank, too long or not text";
    if (!values.insert(option.value).second) return "two options have the same value";
    for (const std::string& label : option.labels)
      if (!is_sentence(label, max_label_bytes)) return "an option's label is blank, too long or not text";
  }
  // What people say must lead to one option, and a value always to its own.
  for (const ChoiceOption& option : spec.options) {
    std::vector<std::string> ways = option.labels;
    ways.push_back(option.value);
    for (const std::string& way : ways) {
      const auto parsed = parse_field(spec, way);
      if (!parsed || parsed->canonical != option.value) return "two options share a label";
    }
  }
  return {};
}

Complaint check_condition(const Flow& flow, std::size_t index) {
  const auto& when = flow.fields[index].when;
  if (!when) return {};
  const auto end = flow.fields.begin() + static_cast<std::ptrdiff_t>(index);
  const auto other = std::find_if(flow.fields.begin(), end, [&](const FieldSpec& spec) { return spec.name == when->field; });
  if (other == end) return "the condition names no earlier field";
  const auto parsed = parse_field(*other, when->value);
  if (!parsed || parsed->canonical != when->value) return "the condition's field can never have that value";
  return {};
}

Complaint check_field(const Flow& flow, std::size_t index) {
  const FieldSpec& spec = flow.fields[index];
  if (!is_name(spec.name, "_")) return "the name must be [a-z][a-z0-9_]{0,62}";
  if (flow.find(spec.name) != &spec) return "the name is used twice";
  if (!is_sentence(spec.prompt, max_prompt_bytes)) return "the prompt is blank, too long or not text";
  if (!spec.label.empty() && !is_sentence(spec.label, max_label_bytes)) return "the label is blank, too long or not text";
  if (Complaint complaint = check_bounds(spec); !complaint.empty()) return complaint;
  if (Complaint complaint = check_rules(spec); !complaint.empty()) return complaint;
  if (Complaint complaint = check_options(spec); !complaint.empty()) return complaint;
  return check_condition(flow, index);
}

}  // namespace

std::error_code make_error_code(Errc code) {
  static const Category category;
  return {static_cast<int>(code), category};
}

std::string_view to_string(FieldType type) { return type_names[static_cast<std::size_t>(type)]; }

std::optional<FieldType> field_type(std::string_view name) {
  const auto found = std::find(type_names.begin(), type_names.end(), name);
  if (found == type_names.end()) return std::nullopt;
  return static_cast<FieldType>(found - type_names.begin());
}

const FieldSpec* Flow::find(std::string_view field_name) const {
  const auto found = std::find_if(fields.begin(), fields.end(), [&](const FieldSpec& spec) { return spec.name == field_name; });
  return found == fields.end() ? nullptr : &*found;
}

const Flow& default_flow() {
  static const Flow flow = make_default_flow();
  return flow;
}

result<void> check(const Flow& flow) {
  const auto bad = [](std::string detail) { return failure(Errc::bad_flow, std::move(detail)); };
  if (!is_name(flow.name, "_-")) return bad("the flow's name must be [a-z][a-z0-9_-]{0,62}");
  if (flow.version == 0) return bad("the flow's version must be 1 or more");
  if (flow.locale.empty() || flow.locale.size() > 35 ||
      ascii_lower(flow.locale).find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-_") != std::string::npos)
    return bad("the flow's locale is not a language tag");
  if (!flow.greeting.empty() && !is_sentence(flow.greeting, max_prompt_bytes))
    return bad("the flow's greeting is blank, too long or not text");
  if (flow.faq.size() > max_faq) return bad("a flow may have at most 500 FAQ entries");
  for (const FaqEntry& entry : flow.faq) {
    const bool sound = !entry.questions.empty() && entry.questions.size() <= max_wordings &&
                       is_sentence(entry.answer, max_prompt_bytes) &&
                       std::all_of(entry.questions.begin(), entry.questions.end(),
                                   [](const auto& q) { return is_sentence(q, max_label_bytes); });
    if (!sound)
      return bad("FAQ entry " + std::to_string(&entry - flow.faq.data()) +
                 ": needs 1 to 50 questions of at most 200 bytes and an answer");
  }
  if (flow.fields.empty() || flow.fields.size() > max_fields) return bad("a flow needs 1 to 200 fields");
  for (std::size_t i = 0; i < flow.fields.size(); ++i)
    if (const Complaint complaint = check_field(flow, i); !complaint.empty())
      return bad("field " + (is_text(flow.fields[i].name) ? "'" + flow.fields[i].name.substr(0, 63) + "'" : std::to_string(i)) +
                 ": " + complaint);
  return {};
}

}  // namespace onboarding::domain
