#include "actors/model/reply_reader.hpp"

#include <algorithm>
#include <utility>

#include "actors/model/answer.hpp"

namespace onboarding::model {
namespace {

constexpr std::size_t kMaxKeyBytes = 64;
constexpr std::uint32_t kMaxDepth = 8;
constexpr char32_t kReplacement = 0xFFFD;

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

// How many bytes at the end are the beginning of a character that is not whole.
std::size_t unfinished(std::string_view s) {
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, s.size()); ++back) {
    const auto c = static_cast<unsigned char>(s[s.size() - back]);
    if ((c & 0xC0) == 0x80) continue;
    const std::size_t length = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : c >= 0xC0 ? 2 : 1;
    return length > back ? back : 0;
  }
  return 0;
}

}  // namespace

std::string ReplyReader::feed(std::string_view piece) {
  shown_.clear();
  for (const char c : piece) {
    if (state_ == State::over) break;
    take(c);
  }
  if (reading_reply_ && state_ != State::over) flush(false);
  shown_in_all_ += shown_.size();
  if (shown_in_all_ > kMaxReplyBytes) {  // parse_answer will refuse it
    state_ = State::over;
    return {};
  }
  return std::move(shown_);
}

void ReplyReader::take(char c) {
  switch (state_) {
    case State::before:
      if (c == '{') {
        depth_ = 1;
        expects_key_ = true;
        state_ = State::outside;
      } else if (!is_space(c)) {
        state_ = State::over;
      }
      return;
    case State::outside: return take_outside(c);
    case State::text:
      if (c == '"') return end_text();
      if (c == '\\') state_ = State::escape;
      else append(c);
      return;
    case State::escape: {
      state_ = State::text;
      if (c == 'u') {
        unit_ = digits_ = 0;
        state_ = State::code_unit;
        return;
      }
      constexpr std::string_view kEscapes = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
      const auto at = kEscapes.find(c);
      if (at == kEscapes.npos) state_ = State::over;
      else append(kMeanings[at]);
      return;
    }
    case State::code_unit: return take_code_unit(c);
    case State::over: return;
  }
}

void ReplyReader::take_outside(char c) {
  switch (c) {
    case '"': return begin_text();
    case '{':
    case '[':
      if (++depth_ > kMaxDepth) state_ = State::over;
      return;
    case '}':
    case ']':
      if (--depth_ == 0) state_ = State::over;
      return;
    case ',':
      if (depth_ == 1) expects_key_ = true;
      return;
    case ':':
      if (depth_ == 1) expects_key_ = false;
      return;
    default: return;
  }
}

void ReplyReader::begin_text() {
  reading_key_ = depth_ == 1 && expects_key_;
  reading_reply_ = depth_ == 1 && !expects_key_ && key_ == "reply";
  if (reading_key_) key_.clear();
  state_ = State::text;
}

void ReplyReader::end_text() {
  if (high_surrogate_) append(kReplacement);
  state_ = State::outside;
  if (!reading_reply_) return;
  flush(true);
  complete_ = !leaked_;
  state_ = State::over;
}

void ReplyReader::take_code_unit(char c) {
  const auto digit = c >= '0' && c <= '9'   ? c - '0'
                     : c >= 'a' && c <= 'f' ? c - 'a' + 10
                     : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                            : -1;
  if (digit < 0) {
    state_ = State::over;
    return;
  }
  unit_ = unit_ * 16 + static_cast<std::uint32_t>(digit);
  if (++digits_ < 4) return;
  state_ = State::text;
  const bool high = unit_ >= 0xD800 && unit_ < 0xDC00, low = unit_ >= 0xDC00 && unit_ < 0xE000;
  if (low && high_surrogate_) {
    const char32_t whole = 0x10000 + ((high_surrogate_ - 0xD800) << 10) + (unit_ - 0xDC00);
    high_surrogate_ = 0;
    append(whole);
  } else if (high) {
    if (high_surrogate_) append(kReplacement);
    high_surrogate_ = unit_;
  } else {
    append(low ? kReplacement : static_cast<char32_t>(unit_));
  }
}

void ReplyReader::append(char32_t c) {
  if (std::exchange(high_surrogate_, 0) && c != kReplacement) append(kReplacement);
  char bytes[4];
  std::size_t n = 0;
  if (c < 0x80) {
    bytes[n++] = static_cast<char>(c);
  } else if (c < 0x800) {
    bytes[n++] = static_cast<char>(0xC0 | (c >> 6));
    bytes[n++] = static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    bytes[n++] = static_cast<char>(0xE0 | (c >> 12));
    bytes[n++] = static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    bytes[n++] = static_cast<char>(0x80 | (c & 0x3F));
  } else {
    bytes[n++] = static_cast<char>(0xF0 | (c >> 18));
    bytes[n++] = static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    bytes[n++] = static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    bytes[n++] = static_cast<char>(0x80 | (c & 0x3F));
  }
  for (std::size_t i = 0; i < n; ++i) append(bytes[i]);
}

void ReplyReader::append(char byte) {
  if (high_surrogate_) append(kReplacement);
  if (reading_key_ && key_.size() <= kMaxKeyBytes) key_ += byte;
  if (reading_reply_) held_ += byte;
}

void ReplyReader::flush(bool at_end) {
  std::size_t keep = at_end ? 0 : unfinished(held_);
  leaked_ = leaked_ || guard_.leaks(held_);
  if (!at_end) keep = std::max(keep, guard_.beginning(held_));
  if (leaked_) {
    held_.clear();
    state_ = State::over;
    return;
  }
  shown_.append(held_, 0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
}

}  // namespace onboarding::model
