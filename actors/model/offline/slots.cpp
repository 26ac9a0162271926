#include "actors/model/offline/slots.hpp"

#include <algorithm>
#include <initializer_list>

namespace onboarding::model::offline {
namespace {

using domain::FieldSpec;
using domain::FieldType;
using Words = std::vector<std::string>;

Words split_words(std::string_view s) {
  Words words(1);
  for (const char c : s)
    if (c == '_' || c == ' ' || c == '-') {
      if (!words.back().empty()) words.emplace_back();
    } else {
      words.back() += c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    }
  if (words.back().empty()) words.pop_back();
  return words;
}

bool mentions(const FieldSpec& spec, std::initializer_list<std::string_view> words) {
  for (const auto& text : {spec.name, spec.label})
    for (const auto& word : split_words(text))
      if (std::find(words.begin(), words.end(), word) != words.end()) return true;
  return false;
}

Words alias(std::string_view s) {  // e-mail stays one token
  Words words(1);
  for (const char c : s)
    if (c == ' ') words.emplace_back();
    else words.back() += c;
  return words;
}

}  // namespace

Slots::Slots(const domain::Flow& flow) {
  const auto first = [](const FieldSpec*& slot, const FieldSpec& spec, bool fits) {
    if (!slot && fits) slot = &spec;
  };
  for (const auto& spec : flow.fields) {
    first(name, spec, spec.type == FieldType::person_name);
    first(email, spec, spec.type == FieldType::email);
    first(company, spec, spec.type == FieldType::company);
    first(role, spec,
          spec.type == FieldType::text && mentions(spec, {"role", "job", "title", "position", "occupation", "profession"}));
    first(team_size, spec,
          spec.type == FieldType::integer && mentions(spec, {"team", "size", "employees", "people", "headcount", "staff"}));
    first(goal, spec,
          spec.type == FieldType::text &&
              mentions(spec, {"goal", "goals", "aim", "purpose", "objective", "reason", "case", "hope", "motivation"}));
  }
  for (const auto& spec : flow.fields) {
    std::vector<Words> labels{split_words(spec.name), alias(spec.label)};
    const auto add = [&](std::initializer_list<std::string_view> names) {
      for (const auto n : names) labels.push_back(alias(n));
    };
    if (&spec == name) add({"name", "full name", "first name"});
    if (&spec == email) add({"email", "e-mail", "mail", "email address", "e-mail address", "mail address", "address"});
    if (&spec == company)
      add({"company", "employer", "firm", "organisation", "organization", "business", "startup", "start-up", "company name",
           "company's name"});
    if (&spec == role) add({"role", "job", "title", "job title", "position", "occupation", "profession"});
    if (&spec == team_size) add({"team", "team size", "company size", "headcount", "number of employees", "size"});
    if (&spec == goal) add({"goal", "main goal", "aim", "purpose", "objective", "plan", "use case"});
    if (spec.type == FieldType::phone) add({"phone", "phone number", "mobile", "cell", "telephone", "number"});
    if (spec.type == FieldType::url) add({"website", "site", "homepage", "url"});
    if (spec.type == FieldType::country) add({"country"});
    if (spec.type == FieldType::postal_code) add({"postcode", "post code", "postal code", "zip", "zip code", "zipcode"});
    std::erase_if(labels, [](const Words& words) { return words.empty() || words.front().empty(); });
    for (auto& words : labels)
      for (auto& word : words)
        for (char& c : word)
          if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
    std::sort(labels.begin(), labels.end(), [](const Words& a, const Words& b) { return a.size() > b.size(); });
    labels_.emplace_back(&spec, std::move(labels));
  }
}

const Slots& Slots::of(const std::shared_ptr<const domain::Flow>& flow) {
  struct Entry {
    std::shared_ptr<const domain::Flow> flow;  // held, so that its address is not reused
    std::unique_ptr<Slots> slots;
  };
  thread_local std::vector<Entry> cache;
  for (const auto& entry : cache)
    if (entry.flow == flow) return *entry.slots;
  constexpr std::size_t most = 16;
  if (cache.size() == most) cache.erase(cache.begin());
  return *cache.emplace_back(Entry{flow, std::make_unique<Slots>(*flow)}).slots;
}

std::size_t Slots::match_label(const FieldSpec& spec, const Text& text, std::size_t i) const {
  for (const auto& [owner, labels] : labels_) {
    if (owner != &spec) continue;
    for (const auto& words : labels) {
      if (i + words.size() > text.size()) continue;
      bool all = true;
      for (std::size_t k = 0; k < words.size() && all; ++k) {
        const auto& token = text.lower(i + k);
        all = token == words[k];
        // "name's Zoë", "email's …": the contraction belongs to the label, its "is" is implied
        if (!all && k + 1 == words.size())
          all = token.starts_with(words[k]) && (token.compare(words[k].size(), std::string::npos, "'s") == 0 ||
                                                (k == 0 && words[k] == "name" && token == "names"));
      }
      if (all) return i + words.size();
    }
  }
  return i;
}

}  // namespace onboarding::model::offline
