// What a person said, as evidence for what a model read out of it. Pure; work bounded by the length of the conversation.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "actors/model/extraction.hpp"

namespace onboarding::model {

/// The person's own lines. Those of the host prove nothing: a model may have written them. One exception: "yes" to a question in
/// which a value stands word for word.
class Said {
 public:
  explicit Said(const ExtractionRequest&);

  /// Whether the value may have come from these lines. Asked leniently, for models put things right: one content word in another
  /// ending, spelling or abbreviation is enough for a wording; of an address its local part or its domain's name; a number must be
  /// among the numbers, in digits or English words, or between the two of a range; of a phone number the last digits, of a date its
  /// year or its day and month. Choices, countries, yes and no are believed: they are said in too many ways. So is what stands in
  /// words of another script or language that cannot be compared.
  bool supports(const domain::FieldSpec&, const std::string& value) const;

 private:
  struct Line {
    std::vector<std::string> words;  // folded: lower case, without diacritics
    std::vector<double> numbers;     // in the order said
    std::string digits;              // all of them, spoken ones too
    bool range = false;              // two of the numbers are said as a range
  };
  static Line read(std::string_view);
  bool wording(const std::string& value, std::string_view known) const;
  bool address(std::string_view value) const;
  bool number(const std::string& value) const;
  bool date(const std::string& value) const;
  bool digits(std::string_view wanted) const;
  bool word(std::string_view wanted) const;
  bool any_word(std::initializer_list<std::string_view> words) const;
  bool spoken_apart(std::string_view wanted) const;

  const ExtractionRequest& request_;
  std::vector<Line> lines_;
  std::string agreed_;         // the host's question that was answered with yes; lower case
  bool other_script_ = false;  // words that ASCII does not hold
  bool other_language_ = false;
};

}  // namespace onboarding::model
