// The inward guard: a strict, incremental RFC 9112 request reader. Pure: bytes in, one request or one refusal out; no
// socket, clock or thread. What RFC 9112 lets a server be lenient about, and what two readers could understand
// differently (bare LF, white space before a colon, folded lines, two lengths), is refused.
//
// One owner at a time. feed() stops at the end of the head, so that the owner can choose the body's limit by route, and at
// the end of the request: what it did not consume belongs to the next request.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace onboarding::http {

struct ReaderLimits {
  std::size_t max_head_bytes = 16 * 1024;  // request line and header fields; trailers again
  std::size_t max_target_bytes = 8 * 1024;
  std::size_t max_fields = 100;
};

/// Why a request was refused; each has a name for metrics, a status and a sentence.
enum class ReaderErrc {
  bad_request_line = 1,
  bad_target,
  bad_line_ending,
  bad_field,
  bad_host,
  bad_content_length,
  bad_transfer_encoding,
  bad_chunk,
  bad_expectation,
  target_too_long,
  head_too_large,
  body_too_large,
  unsupported_version,
  unsupported_transfer_coding
};
inline constexpr ReaderErrc last_reader_errc = ReaderErrc::unsupported_transfer_coding;

struct ReaderErrorInfo {
  std::string_view name;  // label value
  int status;
  std::string_view sentence;
};
const ReaderErrorInfo& describe(ReaderErrc);

/// A whole request. Header names are lower case; the target is in origin form ("/path?query") or "*".
class RawRequest {
 public:
  std::string_view method() const { return slice(method_); }
  std::string_view target() const { return slice(target_); }
  /// The field's value; nullopt when absent or given more than once (no field that we use may repeat).
  std::optional<std::string_view> header(std::string_view lower_case_name) const;
  bool repeats(std::string_view lower_case_name) const;

  std::string body;
  bool http10 = false;
  bool keep_alive = true;  // what the client wants, by version and Connection
  bool expects_continue = false;
  bool has_body = false;  // a length or a coding was given

 private:
  friend class RequestReader;
  struct Slice {
    std::uint32_t at = 0, length = 0;
  };
  struct Field {
    Slice name, value;
  };
  std::string_view slice(Slice s) const { return std::string_view(head_).substr(s.at, s.length); }

  std::string head_;
  Slice method_, target_;
  std::vector<Field> fields_;
};

class RequestReader {
 public:
  enum class State { head, head_done, body, complete, failed };

  explicit RequestReader(ReaderLimits limits = {}) : limits_(limits) {}

  /// Consumes bytes up to the next state that the owner must act on (head_done, complete, failed) and says how many.
  std::size_t feed(std::string_view bytes);
  State state() const { return state_; }
  /// In head_done: the body's limit. Goes on to body, complete or failed (413).
  void accept_body(std::size_t max_body_bytes);
  /// The request so far: whole in complete, without its body in head_done.
  const RawRequest& request() const { return request_; }
  /// In complete: the request; the reader begins anew.
  RawRequest take();
  ReaderErrc error() const { return error_; }
  /// Some byte of a request has been read that is not answered yet.
  bool begun() const { return state_ != State::head || !request_.head_.empty(); }

 private:
  enum class Step { size, data, data_cr, data_lf, trailer };

  std::size_t feed_head(std::string_view);
  std::size_t feed_length(std::string_view);
  std::size_t feed_chunked(std::string_view);
  void head_line(std::size_t begin, std::size_t end);
  void request_line(std::size_t begin, std::size_t end);
  void field_line(std::size_t begin, std::size_t end);
  void finish_head();
  void chunk_line();
  void fail(ReaderErrc);

  ReaderLimits limits_;
  State state_ = State::head;
  ReaderErrc error_{};
  RawRequest request_;
  std::size_t line_begin_ = 0;  // in head_
  bool seen_request_line_ = false;
  bool seen_blank_line_ = false;  // one empty line may come before a request
  bool chunked_ = false;
  std::uint64_t content_length_ = 0;
  std::size_t max_body_ = 0;
  Step step_ = Step::size;
  std::string line_;  // of a chunk's size or a trailer
  std::size_t trailer_bytes_ = 0;
  std::uint64_t chunk_left_ = 0;
};

}  // namespace onboarding::http
