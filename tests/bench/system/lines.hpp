// What the benchmark's people say, chosen so that the offline extractor and the benchmark's model both understand it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace onboarding::bench {

inline constexpr std::array<const char*, 12> first_names = {"Ann",   "Ben",   "Clara", "David",  "Emma", "Frank",
                                                            "Grace", "Henry", "Julia", "Martin", "Nina", "Peter"};
inline constexpr std::array<const char*, 12> last_names = {"Example", "Miller", "Fisher", "Baker",  "Hansen", "Lovelace",
                                                           "Turner",  "Novak",  "Weber",  "Santos", "Dubois", "Keller"};
inline constexpr std::array<const char*, 4> roles = {"engineer", "accountant", "designer", "product manager"};
inline constexpr std::array<const char*, 4> companies = {"Acme GmbH", "Analytical Engines Ltd", "Northwind Traders Inc",
                                                         "Globex Corporation"};
inline constexpr std::array<const char*, 3> goals = {"automate invoices", "save time on reports", "reduce manual work"};

struct Line {
  std::string text, expected;  // what is said, and what must stand in the answer's `extracted`
};

inline Line line(std::int64_t session, std::int64_t number) {
  const auto i = static_cast<std::size_t>(session);
  const std::string first = first_names[i % 12], last = last_names[i / 12 % 12];
  const auto quoted = [](const char* field, const std::string& value) {
    return "\"" + std::string(field) + "\":\"" + value + "\"";
  };
  switch (number) {
    case 1: return {"My name is " + first + " " + last, quoted("full_name", first + " " + last)};
    case 2: {
      std::string address = first + std::to_string(i) + "@example.com";
      address[0] = static_cast<char>(address[0] | 0x20);
      return {"My email is " + address, quoted("email", address)};
    }
    case 3: return {"I work at " + std::string(companies[i / 7 % 4]), quoted("company", companies[i / 7 % 4])};
    case 4: return {"My role is " + std::string(roles[i % 4]), quoted("role", roles[i % 4])};
    case 5: return {"We are " + std::to_string(2 + i % 900) + " people", "\"team_size\":" + std::to_string(2 + i % 900) + "}"};
    default: return {"My goal is to " + std::string(goals[i % 3]), quoted("goal", goals[i % 3])};
  }
}

/// What the model understands of a line: a member of `fields`, its quotes escaped as within a JSON string.
inline std::string read_fields(std::string_view said) {
  struct Rule {
    std::string_view begins, field, ends;
  };
  constexpr std::array<Rule, 6> rules = {{{"My name is ", "full_name", ""},
                                          {"My email is ", "email", ""},
                                          {"I work at ", "company", ""},
                                          {"My role is ", "role", ""},
                                          {"We are ", "team_size", " people"},
                                          {"My goal is to ", "goal", ""}}};
  for (const auto& rule : rules)
    if (said.starts_with(rule.begins)) {
      said.remove_prefix(rule.begins.size());
      if (said.ends_with(rule.ends)) said.remove_suffix(rule.ends.size());
      return "\\\"" + std::string(rule.field) + "\\\":\\\"" + std::string(said) + "\\\"";
    }
  return {};
}

}  // namespace onboarding::bench
