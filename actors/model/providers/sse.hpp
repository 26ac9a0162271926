// Server-sent events, read from pieces that end anywhere. Pure. Lines end in LF, CR LF or CR; comments, `id:` and `retry:` say nothing
// to us.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace onboarding::model {

class SseReader {
 public:
  /// `event` is empty when it has no name of its own. Both are valid during the call only.
  using Handler = std::function<void(std::string_view event, std::string_view data)>;

  explicit SseReader(std::size_t max_event_bytes) : max_event_bytes_(max_event_bytes) {}

  /// Calls the handler for each event that these bytes complete. False, from then on: an event was over the bound.
  bool feed(std::string_view bytes, const Handler&);
  /// The stream has ended: an event that only lacks its blank line counts.
  bool end(const Handler&);

 private:
  void line(const Handler&);
  void dispatch(const Handler&);

  std::size_t max_event_bytes_;
  std::string line_, event_, data_;
  bool has_data_ = false, after_cr_ = false, at_start_ = true, too_large_ = false;
};

}  // namespace onboarding::model
