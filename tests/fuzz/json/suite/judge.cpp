// Reads lines `name TAB hex`; y_ must be accepted, n_ refused, i_ may be either and is listed here as we decide it.
#include <cstdio>
#include <iostream>
#include <map>
#include <string>

#include "events/codec/json.hpp"

namespace {

/// Valid by RFC 8259, refused by us on purpose: RFC 8259 §9 allows bounds, RFC 7493 (I-JSON) forbids duplicate names.
const std::map<std::string, const char*> refused_on_purpose = {
    {"y_object_duplicated_key.json", "a member twice: readers disagree on which one counts"},
    {"y_object_duplicated_key_and_value.json", "a member twice: readers disagree on which one counts"},
    {"y_string_null_escape.json", "NUL: ends a text early in C libraries and in PostgreSQL"},
    {"y_object_escaped_null_in_key.json", "NUL: ends a text early in C libraries and in PostgreSQL"},
    {"y_number_double_close_to_zero.json", "a number of more than 32 characters"},
};

/// Left open by the RFC: accepted; all others of the kind i_ are refused (not UTF-8, a byte order mark, half a surrogate
/// pair, beyond a double, deeper than 32, longer than 32 characters).
const std::map<std::string, const char*> accepted_by_choice = {
    {"i_number_double_huge_neg_exp.json", "rounds to 0"},
    {"i_number_too_big_neg_int.json", "read as a double"},
    {"i_number_too_big_pos_int.json", "read as a double"},
};

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

}  // namespace

int main() {
  int passed = 0, failed = 0;
  for (std::string line; std::getline(std::cin, line);) {
    const auto tab = line.find('\t');
    const std::string name = line.substr(0, tab), input = from_hex(line.substr(tab + 1));
    const bool accepted = onboarding::codec::parse_json(input).has_value();
    // The package keeps its inputs as JavaScript strings: what was not UTF-8 there reads U+FFFD and cannot be judged.
    if (name[0] == 'i' && input.find("\xEF\xBF\xBD") != input.npos) continue;
    const bool expected = name[0] == 'y' ? !refused_on_purpose.count(name) : name[0] == 'i' && accepted_by_choice.count(name);
    if (accepted == expected) {
      ++passed;
    } else {
      ++failed;
      std::printf("%s: %s\n", name.c_str(), accepted ? "accepted" : "refused");
    }
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 && passed > 200 ? 0 : 1;
}
