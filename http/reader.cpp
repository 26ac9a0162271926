#include "http/reader.hpp"

#include <algorithm>

#include "events/domain/assertion.hpp"

namespace onboarding::http {
namespace {

constexpr std::array<ReaderErrorInfo, static_cast<std::size_t>(last_reader_errc) + 1> errors{{
    {"", 400, ""},
    {"bad_request_line", 400, "The request line is not `METHOD target HTTP/1.1`."},
    {"bad_target", 400, "The request target is not a path."},
    {"bad_line_ending", 400, "A line does not end with CR LF."},
    {"bad_field", 400, "A header field is malformed."},
    {"bad_host", 400, "The Host header field is missing, repeated or malformed."},
    {"bad_content_length", 400, "The Content-Length is malformed, repeated or contradicted by a Transfer-Encoding."},
    {"bad_transfer_encoding", 400, "The Transfer-Encoding is malformed, repeated or not allowed in HTTP/1.0."},
    {"bad_chunk", 400, "The chunked body is malformed."},
    {"bad_expectation", 417, "The only expectation that can be met is 100-continue."},
    {"target_too_long", 414, "The request target is too long."},
    {"head_too_large", 431, "The header fields are too large or too many."},
    {"body_too_large", 413, "The body is larger than this route takes."},
    {"unsupported_version", 505, "Only HTTP/1.0 and HTTP/1.1 are spoken here."},
    {"unsupported_transfer_coding", 501, "The only transfer coding understood is chunked."},
}};

// Character classes of RFC 9110, one table: a look-up per byte instead of a chain of comparisons.
enum : std::uint8_t { token_char = 1, target_char = 2, value_char = 4, host_char = 8 };
constexpr auto classes = [] {
  std::array<std::uint8_t, 256> table{};
  for (int c = 0; c < 256; ++c) {
    const bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const auto in = [c](std::string_view set) { return c != 0 && set.find(static_cast<char>(c)) != set.npos; };
    if (alnum || in("!#$%&'*+-.^_`|~")) table[c] |= token_char;
    if (c > 0x20 && c < 0x7f && !in("#\"<>\\^`{|}")) table[c] |= target_char;
    if (c == '\t' || (c >= 0x20 && c != 0x7f)) table[c] |= value_char;
    if (alnum || in("-._~!$&'()*+,;=%:[]")) table[c] |= host_char;
  }
  return table;
}();

bool all(std::string_view text, std::uint8_t wanted) {
  return std::all_of(text.begin(), text.end(), [wanted](unsigned char c) { return (classes[c] & wanted) != 0; });
}

constexpr std::size_t max_method_and_version = 64;  // what a request line may have beside its target

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

bool equal_ignoring_case(std::string_view a, std::string_view lower_case) {
  return a.size() == lower_case.size() &&
         std::equal(a.begin(), a.end(), lower_case.begin(), [](char x, char y) { return lower(x) == y; });
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

/// Whether a comma-separated list of tokens has this one.
bool lists(std::string_view list, std::string_view lower_case_token) {
  while (!list.empty()) {
    const auto comma = std::min(list.find(','), list.size());
    if (equal_ignoring_case(trimmed(list.substr(0, comma)), lower_case_token)) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

}  // namespace

const ReaderErrorInfo& describe(ReaderErrc code) { return errors.at(static_cast<std::size_t>(code)); }

std::optional<std::string_view> RawRequest::header(std::string_view name) const {
  std::optional<std::string_view> found;
  for (const auto& field : fields_) {
    if (slice(field.name) != name) continue;
    if (found) return std::nullopt;
    found = slice(field.value);
  }
  return found;
}

bool RawRequest::repeats(std::string_view name) const {
  return std::count_if(fields_.begin(), fields_.end(), [&](const Field& f) { return slice(f.name) == name; }) > 1;
}

std::size_t RequestReader::feed(std::string_view bytes) {
  switch (state_) {
    case State::head: return feed_head(bytes);
    case State::body: return chunked_ ? feed_chunked(bytes) : feed_length(bytes);
    default: return 0;
  }
}

std::size_t RequestReader::feed_head(std::string_view bytes) {
  std::string& head = request_.head_;
  std::size_t consumed = 0;
  while (state_ == State::head && consumed < bytes.size()) {
    const auto newline = bytes.find('\n', consumed);
    const auto end = newline == bytes.npos ? bytes.size() : newline + 1;
    if (head.size() + (end - consumed) > limits_.max_head_bytes) {
      fail(!seen_request_line_ ? ReaderErrc::target_too_long : ReaderErrc::head_too_large);
      return consumed;
    }
    head.append(bytes.substr(consumed, end - consumed));
    consumed = end;
    if (newline == bytes.npos) {
      if (!seen_request_line_ && head.size() - line_begin_ > limits_.max_target_bytes + max_method_and_version)
        fail(ReaderErrc::target_too_long);
      break;
    }
    const auto line_end = head.size() - 2;
    if (head.size() < line_begin_ + 2 || head[line_end] != '\r') {
      fail(ReaderErrc::bad_line_ending);
      break;
    }
    head_line(line_begin_, line_end);
    line_begin_ = head.size();
  }
  return consumed;
}

void RequestReader::head_line(std::size_t begin, std::size_t end) {
  if (!seen_request_line_) {
    if (begin == end && !seen_blank_line_) {  // RFC 9112 2.2: an empty line before a request is ignored
      seen_blank_line_ = true;
      return;
    }
    return request_line(begin, end);
  }
  if (begin == end) return finish_head();
  field_line(begin, end);
}

void RequestReader::request_line(std::size_t begin, std::size_t end) {
  const auto line = std::string_view(request_.head_).substr(begin, end - begin);
  seen_request_line_ = true;
  if (line.size() > limits_.max_target_bytes + max_method_and_version) return fail(ReaderErrc::target_too_long);
  const auto first = line.find(' ');
  const auto last = line.rfind(' ');
  if (first == line.npos || first == last || first == 0 || !all(line.substr(0, first), token_char))
    return fail(ReaderErrc::bad_request_line);
  const auto version = line.substr(last + 1);
  auto target = line.substr(first + 1, last - first - 1);
  if (version.size() != 8 || version.substr(0, 5) != "HTTP/" || version[6] != '.' || version[5] < '0' || version[5] > '9' ||
      version[7] < '0' || version[7] > '9')
    return fail(ReaderErrc::bad_request_line);
  if (target.size() > limits_.max_target_bytes) return fail(ReaderErrc::target_too_long);
  if (target.empty() || !all(target, target_char)) return fail(ReaderErrc::bad_target);
  if (version[5] != '1' || version[7] > '1') return fail(ReaderErrc::unsupported_version);
  request_.http10 = version[7] == '0';
  const auto method = line.substr(0, first);
  auto target_at = begin + first + 1;
  if (target.front() != '/' && !(target == "*" && method == "OPTIONS")) {
    // Absolute form must be understood (RFC 9112 3.2.2); its path is what counts.
    const auto scheme = target.find("://");
    if (scheme == target.npos ||
        (!equal_ignoring_case(target.substr(0, scheme), "http") && !equal_ignoring_case(target.substr(0, scheme), "https")))
      return fail(ReaderErrc::bad_target);
    const auto path = target.find('/', scheme + 3);
    if (path == target.npos || path == scheme + 3 || !all(target.substr(scheme + 3, path - scheme - 3), host_char))
      return fail(ReaderErrc::bad_target);
    target_at += path;
    target.remove_prefix(path);
  }
  request_.method_ = {static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(first)};
  request_.target_ = {static_cast<std::uint32_t>(target_at), static_cast<std::uint32_t>(target.size())};
}

void RequestReader::field_line(std::size_t begin, std::size_t end) {
  auto& head = request_.head_;
  const auto line = std::string_view(head).substr(begin, end - begin);
  const auto colon = line.find(':');
  if (colon == line.npos || colon == 0 || !all(line.substr(0, colon), token_char) || !all(line.substr(colon + 1), value_char))
    return fail(ReaderErrc::bad_field);
  if (request_.fields_.size() == limits_.max_fields) return fail(ReaderErrc::head_too_large);
  const auto value = trimmed(line.substr(colon + 1));
  std::transform(head.begin() + begin, head.begin() + begin + colon, head.begin() + begin, lower);
  request_.fields_.push_back(
      {{static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(colon)},
       {static_cast<std::uint32_t>(value.data() - head.data()), static_cast<std::uint32_t>(value.size())}});
}

void RequestReader::finish_head() {
  const auto host = request_.header("host");
  if ((!host && (!request_.http10 || request_.repeats("host"))) || (host && !all(*host, host_char)))
    return fail(ReaderErrc::bad_host);

  bool has_length = false, has_coding = false, closes = false, persists = false;
  for (const auto& field : request_.fields_) {
    const auto name = request_.slice(field.name);
    const auto value = request_.slice(field.value);
    if (name == "content-length") {
      if (has_length || value.empty() || !std::all_of(value.begin(), value.end(), [](char c) { return c >= '0' && c <= '9'; }))
        return fail(ReaderErrc::bad_content_length);
      has_length = true;
      content_length_ = 0;
      for (const char c : value)
        content_length_ = std::min<std::uint64_t>(content_length_ * 10 + static_cast<std::uint64_t>(c - '0'), 1ULL << 50);
    } else if (name == "transfer-encoding") {
      if (has_coding || request_.http10) return fail(ReaderErrc::bad_transfer_encoding);
      has_coding = true;
      if (!equal_ignoring_case(value, "chunked"))
        return fail(lists(value, "chunked") || value.empty() ? ReaderErrc::bad_transfer_encoding
                                                             : ReaderErrc::unsupported_transfer_coding);
    } else if (name == "connection") {
      closes = closes || lists(value, "close");
      persists = persists || lists(value, "keep-alive");
    } else if (name == "expect" && !request_.http10) {
      if (!equal_ignoring_case(value, "100-continue")) return fail(ReaderErrc::bad_expectation);
      request_.expects_continue = true;
    }
  }
  if (has_length && has_coding) return fail(ReaderErrc::bad_content_length);
  request_.keep_alive = !closes && (!request_.http10 || persists);
  chunked_ = has_coding;
  request_.has_body = has_length || has_coding;
  state_ = State::head_done;
}

void RequestReader::accept_body(std::size_t max_body_bytes) {
  ONBOARDING_ASSERT(state_ == State::head_done, "a body is accepted once, after the head");
  max_body_ = max_body_bytes;
  if (!chunked_ && content_length_ > max_body_) return fail(ReaderErrc::body_too_large);
  if (!chunked_ && content_length_ == 0) {
    state_ = State::complete;
    return;
  }
  if (!chunked_) request_.body.reserve(content_length_);
  state_ = State::body;
}

RawRequest RequestReader::take() {
  ONBOARDING_ASSERT(state_ == State::complete, "only a complete request can be taken");
  RawRequest taken = std::move(request_);
  *this = RequestReader(limits_);
  return taken;
}

std::size_t RequestReader::feed_length(std::string_view bytes) {
  const auto wanted = static_cast<std::size_t>(content_length_) - request_.body.size();
  const auto taken = std::min(wanted, bytes.size());
  request_.body.append(bytes.substr(0, taken));
  if (taken == wanted) state_ = State::complete;
  return taken;
}

std::size_t RequestReader::feed_chunked(std::string_view bytes) {
  constexpr std::size_t max_chunk_line = 256;  // size and extensions, which are read over
  std::size_t at = 0;
  while (state_ == State::body && at < bytes.size()) {
    switch (step_) {
      case Step::size:
      case Step::trailer: {
        const auto newline = bytes.find('\n', at);
        const auto end = newline == bytes.npos ? bytes.size() : newline + 1;
        const auto limit = step_ == Step::size ? max_chunk_line : limits_.max_head_bytes - trailer_bytes_;
        if (line_.size() + (end - at) > limit) {
          fail(step_ == Step::size ? ReaderErrc::bad_chunk : ReaderErrc::head_too_large);
          return at;
        }
        line_.append(bytes.substr(at, end - at));
        at = end;
        if (newline != bytes.npos) chunk_line();
        break;
      }
      case Step::data: {
        const auto taken = std::min<std::uint64_t>(chunk_left_, bytes.size() - at);
        request_.body.append(bytes.substr(at, taken));
        at += taken;
        chunk_left_ -= taken;
        if (chunk_left_ == 0) step_ = Step::data_cr;
        break;
      }
      case Step::data_cr:
      case Step::data_lf:
        if (bytes[at++] != (step_ == Step::data_cr ? '\r' : '\n')) fail(ReaderErrc::bad_chunk);
        step_ = step_ == Step::data_cr ? Step::data_lf : Step::size;
        break;
    }
  }
  return at;
}

void RequestReader::chunk_line() {
  if (line_.size() < 2 || line_[line_.size() - 2] != '\r') return fail(ReaderErrc::bad_line_ending);
  const auto line = std::string_view(line_).substr(0, line_.size() - 2);
  if (step_ == Step::trailer) {
    trailer_bytes_ += line_.size();
    if (line.empty()) {
      state_ = State::complete;
    } else {
      // Checked like any field, then dropped: no trailer means anything here.
      const auto colon = line.find(':');
      if (colon == line.npos || colon == 0 || !all(line.substr(0, colon), token_char) || !all(line.substr(colon + 1), value_char))
        return fail(ReaderErrc::bad_field);
    }
    line_.clear();
    return;
  }
  std::size_t digits = 0;
  std::uint64_t size = 0;
  for (; digits < line.size(); ++digits) {
    const char c = lower(line[digits]);
    const int value = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (value < 0) break;
    size = std::min<std::uint64_t>(size * 16 + static_cast<std::uint64_t>(value), 1ULL << 50);
  }
  const auto rest = line.substr(digits);
  if (digits == 0 || digits > 16 || (!rest.empty() && (rest.front() != ';' || !all(rest, value_char))))
    return fail(ReaderErrc::bad_chunk);
  if (request_.body.size() + size > max_body_) return fail(ReaderErrc::body_too_large);
  line_.clear();
  chunk_left_ = size;
  step_ = size == 0 ? Step::trailer : Step::data;
}

void RequestReader::fail(ReaderErrc code) {
  state_ = State::failed;
  error_ = code;
}

}  // namespace onboarding::http
