// The reply, read while the model still writes its JSON: pieces of the raw text go in, what may be shown comes out.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "actors/model/leak_guard.hpp"

namespace onboarding::model {

/// Pure. Finds the member `reply` of the answer's object and decodes it as it grows. What could be the beginning of the canary
/// or of a line of our instructions is held back until it turns out not to be; when it was, nothing more comes. Whether the whole is an answer at all is
/// parse_answer's to say: malformed text merely ends what is shown.
class ReplyReader {
 public:
  explicit ReplyReader(std::string_view canary) : guard_(canary) {}

  /// What may be shown of the reply in addition, whole UTF-8 characters only; empty: nothing new.
  std::string feed(std::string_view piece);

  bool leaked() const { return leaked_; }      // the canary or our instructions came
  bool complete() const { return complete_; }  // the reply's closing quote came

 private:
  enum class State : std::uint8_t { before, outside, text, escape, code_unit, over };

  void take(char c);
  void take_outside(char c);
  void take_code_unit(char c);
  void begin_text();
  void end_text();
  void append(char32_t code_point);
  void append(char byte);
  void flush(bool at_end);

  const LeakGuard guard_;
  State state_ = State::before;
  std::uint32_t depth_ = 0;
  bool expects_key_ = false, reading_key_ = false, reading_reply_ = false, leaked_ = false, complete_ = false;
  std::string key_;
  std::string held_;  // decoded, not shown yet
  std::string shown_;
  std::size_t shown_in_all_ = 0;
  std::uint32_t unit_ = 0, digits_ = 0, high_surrogate_ = 0;
};

}  // namespace onboarding::model
