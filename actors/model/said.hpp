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

  /// Whether the value may have come from these lines. Models put things right, so other endings, spellings and abbreviations count: of a
  /// name every word must have been said, of a company each that says something, of a longer text a third; of an e-mail address
  /// both sides of the @ (an ending that goes without saying aside), of another address the host's name; a number must be among the numbers,
  /// in digits or English words, be said as a sum, or lie between the two of a range; of a phone number the last digits, of a date its year
  /// or its day and month. Yes, no, choices and countries are said in many ways: the answer to the question that was asked is believed
  /// unless it plainly says another, what nobody asked for must have been touched upon. What stands in words of another script or
  /// language that cannot be compared is believed.
  bool supports(const domain::FieldSpec&, const std::string& value) const;

 private:
  struct Line {
    std::string text;
    std::vector<std::string> words;  // folded: lower case, without diacritics
    std::vector<double> numbers;     // in the order said, and the sums that were said
    std::string digits;              // all of them, spoken ones too
    bool range = false;              // two of the numbers are said as a range
  };
  static Line read(std::string_view);
  static bool pair(const Line&, std::initializer_list<std::string_view> first, std::initializer_list<std::string_view> second);
  bool name(const std::string& value, std::string_view known) const;
  bool wording(const std::string& value, std::string_view known, std::size_t part) const;
  bool address(std::string_view value, std::string_view known) const;
  bool chosen(const domain::FieldSpec&, const std::string& value) const;
  bool asked(const domain::FieldSpec&) const;
  bool mentioned(std::string_view words) const;
  bool number(const domain::FieldSpec&, const std::string& value) const;
  bool date(const std::string& value) const;
  bool digits(std::string_view wanted) const;
  bool word(std::string_view wanted) const;
  bool name_word(std::string_view wanted) const;
  bool any_word(std::initializer_list<std::string_view> words) const;
  bool spoken_apart(std::string_view wanted, bool by_initials = true) const;

  const ExtractionRequest& request_;
  std::vector<Line> lines_;
  std::string agreed_;         // the host's question that was answered with yes; lower case
  bool other_script_ = false;  // letters that are not Latin ones
  bool other_language_ = false;
};

}  // namespace onboarding::model
