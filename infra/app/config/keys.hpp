// Every key of the configuration, in one table: its name, type, default, range and what it does. Reading, checking, the
// names of the environment variables, --print-config and the example file all come from here.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace onboarding::app {

enum class KeyType {
  text,
  address,
  path,
  url,
  list,  // of texts; in the environment separated by commas
  integer,
  number,
  boolean,
  choice,
  secret  // a text that is never shown
};
std::string_view to_string(KeyType);

struct Key {
  std::string name;  // "http.listen", "model.openai.weight"
  KeyType type = KeyType::text;
  std::string default_value;         // in text form; empty: not set
  double minimum = 0, maximum = 0;   // integer and number
  std::vector<std::string> choices;  // choice
  std::string says;                  // one sentence
  std::string usual_variable;        // another environment variable that sets it, e.g. OPENAI_API_KEY

  /// ONBOARD_HTTP_LISTEN, ONBOARD_MODEL_OPENAI_WEIGHT.
  std::string variable() const;
};

/// In the order of the example file: sections together.
const std::vector<Key>& keys();
/// Variables of ours that are no settings: what must be known before the settings are read.
inline constexpr std::array<std::string_view, 3> kOtherVariables{"ONBOARD_DATA_DIR", "ONBOARD_CONFIG", "ONBOARD_FAULT"};
/// nullptr for a name that is none.
const Key* find_key(std::string_view name);
/// The known name that differs least, for "did you mean"; empty when none is near.
std::string nearest_key(std::string_view name);
/// The same for the name of an environment variable: one or two letters off, of a setting's or another of ours.
std::string nearest_variable(std::string_view variable);

/// The value in its one text form ("007" → "7", "TRUE" → "true"), or why it is refused, as a sentence's end.
struct Checked {
  bool good = false;
  std::string value, wrong;
};
Checked check_value(const Key&, std::string_view value);

}  // namespace onboarding::app
