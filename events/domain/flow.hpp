// A flow is data: which fields are asked, in which order, by which rules (api.md §2). Reading and writing it as JSON is
// events/codec's business; what it means is decided here.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "events/domain/result.hpp"

namespace onboarding::domain {

enum class FieldType {
  person_name,
  text,
  email,
  phone,
  date,
  integer,
  number,
  boolean,
  choice,
  url,
  country,
  postal_code,
  company
};
std::string_view to_string(FieldType);
std::optional<FieldType> field_type(std::string_view name);

struct ChoiceOption {
  std::string value;                // stored form
  std::vector<std::string> labels;  // what people say for it; the value itself always counts as one
  bool operator==(const ChoiceOption&) const = default;
};

/// The field is asked only while another field's stored value is, or is not, this one.
struct Condition {
  enum class Operator { is, is_not };
  std::string field;
  Operator op = Operator::is;
  std::string value;  // compared with the stored (canonical) form
  bool operator==(const Condition&) const = default;
};

struct FieldSpec {
  std::string name;  // [a-z][a-z0-9_]{0,62}
  FieldType type = FieldType::text;
  std::string label;   // how the host calls it: "name", "e-mail address"
  std::string prompt;  // the question
  bool required = true;
  bool sensitive = true;                                // sealed in the log unless told otherwise
  std::optional<double> min, max;                       // integer, number
  std::optional<std::uint32_t> min_length, max_length;  // text, company, person_name: in Unicode code points
  std::string pattern;                                  // text: an ICU regular expression over the whole value
  std::string region;                                   // phone, postal_code: ISO 3166-1 alpha-2
  std::vector<ChoiceOption> options;                    // choice
  std::optional<Condition> when;
  bool operator==(const FieldSpec&) const = default;
};

/// What people ask before they answer, and what the flow's author says to it.
struct FaqEntry {
  std::vector<std::string> questions;  // in several wordings; the more, the more people are understood without a model
  std::string answer;
  bool operator==(const FaqEntry&) const = default;
};

struct Flow {
  std::string name;
  std::uint32_t version = 1;
  std::string locale = "en";
  std::string greeting;
  std::vector<FieldSpec> fields;  // in the order they are asked
  std::vector<FaqEntry> faq;

  const FieldSpec* find(std::string_view field) const;
  bool operator==(const Flow&) const = default;
};

/// The shipped flow `default`, version 1: full_name, email, company, role, team_size, goal.
const Flow& default_flow();

/// Whether a flow makes sense: names unique and well-formed, bounds in order, patterns compile, choices have options,
/// conditions name an earlier field and a value it can have. The detail names the field.
result<void> check(const Flow&);

/// All versions of all flows that sessions may stand on. Immutable once published; looked up while folding.
class FlowCatalog {
 public:
  virtual ~FlowCatalog() = default;
  /// nullptr when there is no such version.
  virtual std::shared_ptr<const Flow> find(std::string_view name, std::uint32_t version) const = 0;
  /// The newest version, on which new sessions start; nullptr when there is no such flow.
  virtual std::shared_ptr<const Flow> newest(std::string_view name) const = 0;
};

}  // namespace onboarding::domain
