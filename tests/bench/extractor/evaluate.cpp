// How well the offline extractor reads people: precision and recall per field type over sentences with the values that a
// careful reader would take from them. dev*.jsonl are for tuning (dev3 was held out until it was looked at); heldout.jsonl was written apart, by
// somebody who saw neither the rules nor the other sets, and is only looked at as a sum.
//
//   build/bench_extractor                    all sets, a table each
//   build/bench_extractor --misses dev.jsonl what went wrong, sentence by sentence (not for the held-out set)
//
// A line: {"say": …, "want": {field: stored value}, "known": n | "known_fields": {…}, "asked": field, "flow": "extra",
// "either": another right answer, "refused": fields whose value must reach the validator and be refused there}.
// Free text (goal, role) counts as right when at least 3/4 of the words are the same.
#include <cstdio>
#include <ctime>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "actors/model/extraction.hpp"
#include "events/codec/codec.hpp"
#include "events/codec/json.hpp"

namespace {

using namespace onboarding;
using Values = std::map<std::string, std::string>;

const std::string folder = "tests/bench/extractor/";

std::string slurp(const std::string& path) {
  std::ifstream in(path);
  std::stringstream all;
  all << in.rdbuf();
  return all.str();
}

Values values_of(const rapidjson::Value* object) {
  Values out;
  if (object)
    for (const auto& m : object->GetObject()) out[m.name.GetString()] = m.value.GetString();
  return out;
}

const Values standing{{"full_name", "Zoë O'Brien"}, {"email", "zoe@acme.io"}, {"company", "Acme GmbH"}, {"role", "CTO"},
                      {"team_size", "40"},          {"goal", "cut churn"}};

model::ExtractionRequest request_of(const rapidjson::Value& line, std::shared_ptr<const domain::Flow> flow) {
  model::ExtractionRequest request;
  request.flow = flow;
  request.locale = "en";
  request.message = codec::string_member(line, "say");
  if (const auto* known = codec::find_member(line, "known_fields")) {
    for (const auto& [field, value] : values_of(known)) request.collected[field] = value;
  } else {
    const auto count = static_cast<std::size_t>(codec::int_member(line, "known", 0));
    for (std::size_t i = 0; i < count; ++i) request.collected[flow->fields[i].name] = standing.at(flow->fields[i].name);
  }
  for (const auto& field : flow->fields)
    if (!request.collected.contains(field.name)) request.missing.push_back(field.name);
  const auto asked = codec::string_member(line, "asked");
  if (!asked.empty()) request.asked = {std::string(asked)};
  else if (!request.missing.empty()) request.asked = {request.missing.front()};
  request.completed = request.missing.empty();
  return request;
}

bool same(domain::FieldType type, const std::string& got, const std::string& want) {
  if (got == want) return true;
  if (type != domain::FieldType::text) return false;
  const auto words = [](const std::string& s) {
    std::set<std::string> out;
    std::string word;
    for (const char c : s + " ")
      if (c == ' ' || c == '.' || c == ',') {
        if (!word.empty()) out.insert(word);
        word.clear();
      } else {
        word += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      }
    return out;
  };
  const auto a = words(got), b = words(want);
  std::size_t common = 0;
  for (const auto& w : a) common += b.contains(w);
  return 4 * common >= 3 * std::max(a.size(), b.size());
}

struct Count {
  int right = 0, wrong = 0, missed = 0;
};

struct Tally {
  std::map<std::string, Count> by_type;
  int lines = 0, lines_right = 0, refusals_wanted = 0, refusals_right = 0;
  double microseconds = 0;
};

Tally evaluate(const std::string& file, bool show_misses) {
  Tally tally;
  const auto plain = std::make_shared<const domain::Flow>(domain::default_flow());
  const auto extra = std::make_shared<const domain::Flow>(codec::parse_flow(slurp(folder + "extra_flow.json")).value());
  std::ifstream in(folder + file);
  for (std::string text; std::getline(in, text);) {
    if (text.empty()) continue;
    auto document = codec::parse_json(text);
    if (!document) {
      std::fprintf(stderr, "%s: line %d: %s\n", file.c_str(), tally.lines + 1, document.error().message().c_str());
      std::exit(2);
    }
    const auto& line = *document;
    const auto flow = codec::string_member(line, "flow") == "extra" ? extra : plain;
    const auto request = request_of(line, flow);
    const auto answer = model::extract_offline(request);
    constexpr int rounds = 20;  // after the first time, at which libraries load their tables
    const auto begin = std::clock();
    for (int round = 0; round < rounds; ++round) (void)model::extract_offline(request);
    tally.microseconds += 1e6 * static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC / rounds;
    ++tally.lines;
    Values got;
    std::set<std::string> refused;
    if (answer)
      for (const auto& [field, said] : answer->fields) {
        const auto parsed = domain::parse_field(*flow->find(field), said);
        if (parsed) got[field] = parsed->canonical;
        else refused.insert(field);
      }
    auto want = values_of(codec::find_member(line, "want"));
    const auto matches = [&](const Values& expected) {
      if (expected.size() != got.size()) return false;
      for (const auto& [field, value] : expected)
        if (!got.contains(field) || !same(flow->find(field)->type, got[field], value)) return false;
      return true;
    };
    if (const auto* either = codec::find_member(line, "either"); either && matches(values_of(either))) want = values_of(either);
    bool right = matches(want);
    for (const auto& [field, value] : got) {
      auto& count = tally.by_type[std::string(domain::to_string(flow->find(field)->type)) +
                                  (field == "role" || field == "goal" ? " (" + field + ")" : "")];
      if (want.contains(field) && same(flow->find(field)->type, value, want[field])) ++count.right;
      else ++count.wrong;
    }
    for (const auto& [field, value] : want)
      if (!got.contains(field) || !same(flow->find(field)->type, got[field], value))
        ++tally
              .by_type[std::string(domain::to_string(flow->find(field)->type)) +
                       (field == "role" || field == "goal" ? " (" + field + ")" : "")]
              .missed;
    if (const auto* wanted = codec::find_member(line, "refused"))
      for (const auto& field : wanted->GetArray()) {
        ++tally.refusals_wanted;
        if (refused.contains(field.GetString())) ++tally.refusals_right;
        else right = false;
      }
    tally.lines_right += right;
    if (!right && show_misses) {
      std::printf("%-70s", request.message.c_str());
      std::printf("  want:");
      for (const auto& [f, v] : want) std::printf(" %s=%s", f.c_str(), v.c_str());
      std::printf("  got:");
      for (const auto& [f, v] : got) std::printf(" %s=%s", f.c_str(), v.c_str());
      for (const auto& f : refused) std::printf(" %s(refused)", f.c_str());
      std::printf("\n");
    }
  }
  return tally;
}

void print(const std::string& file, const Tally& tally) {
  std::printf("%s: %d sentences, %d wholly right (%.1f %%), %.1f us of CPU a sentence, refusals %d of %d\n", file.c_str(),
              tally.lines, tally.lines_right, 100.0 * tally.lines_right / std::max(1, tally.lines),
              tally.microseconds / std::max(1, tally.lines), tally.refusals_right, tally.refusals_wanted);
  std::printf("  %-16s %6s %6s %6s %10s %8s\n", "field type", "right", "wrong", "missed", "precision", "recall");
  Count all;
  const auto row = [](const std::string& name, const Count& c) {
    std::printf("  %-16s %6d %6d %6d %10.3f %8.3f\n", name.c_str(), c.right, c.wrong, c.missed,
                c.right / std::max(1.0, double(c.right + c.wrong)), c.right / std::max(1.0, double(c.right + c.missed)));
  };
  for (const auto& [type, count] : tally.by_type) {
    row(type, count);
    all.right += count.right, all.wrong += count.wrong, all.missed += count.missed;
  }
  row("all", all);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::string_view(argv[1]) == "--misses") {
    print(argv[2], evaluate(argv[2], true));
    return 0;
  }
  for (const auto* file : {"dev.jsonl", "dev2.jsonl", "dev3.jsonl", "heldout.jsonl"})
    if (std::ifstream(folder + file)) print(file, evaluate(file, false));
}
