#include "actors/model/providers/sse.hpp"

namespace onboarding::model {

bool SseReader::feed(std::string_view bytes, const Handler& handler) {
  while (!bytes.empty() && !too_large_) {
    if (std::exchange(after_cr_, false) && bytes.front() == '\n') {
      bytes.remove_prefix(1);
      continue;
    }
    const auto end = bytes.find_first_of("\r\n");
    const auto part = bytes.substr(0, end);
    if (line_.size() + data_.size() + part.size() > max_event_bytes_) {
      too_large_ = true;
      break;
    }
    line_ += part;
    if (end == bytes.npos) break;
    after_cr_ = bytes[end] == '\r';
    bytes.remove_prefix(end + 1);
    line(handler);
  }
  return !too_large_;
}

bool SseReader::end(const Handler& handler) {
  if (too_large_) return false;
  if (!line_.empty()) line(handler);
  dispatch(handler);
  return true;
}

void SseReader::line(const Handler& handler) {
  std::string_view l = line_;
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (std::exchange(at_start_, false) && l.substr(0, 3) == kByteOrderMark) l.remove_prefix(3);
  if (l.empty()) {
    dispatch(handler);
  } else {
    const auto colon = l.find(':');
    const auto field = l.substr(0, colon);
    auto value = colon == l.npos ? std::string_view() : l.substr(colon + 1);
    if (!value.empty() && value.front() == ' ') value.remove_prefix(1);
    if (field == "event") {
      event_ = value;
    } else if (field == "data") {
      if (std::exchange(has_data_, true)) data_ += '\n';
      data_ += value;
    }
  }
  line_.clear();
}

void SseReader::dispatch(const Handler& handler) {
  if (std::exchange(has_data_, false)) handler(event_, data_);
  event_.clear();
  data_.clear();
}

}  // namespace onboarding::model
