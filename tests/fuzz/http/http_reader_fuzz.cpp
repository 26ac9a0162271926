// Any bytes, in any pieces: the reader never reads outside them, says the same however they are cut, and what it takes is
// within its limits. The first byte says how long the pieces are.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "http/reader.hpp"

namespace {

using onboarding::http::RequestReader;
constexpr std::size_t max_body = 4096;

std::vector<std::string> read_all(std::string_view bytes, std::size_t piece) {
  RequestReader reader({.max_head_bytes = 2048, .max_target_bytes = 512, .max_fields = 20});
  std::vector<std::string> seen;
  while (true) {
    if (reader.state() == RequestReader::State::head_done) {
      reader.accept_body(max_body);
    } else if (reader.state() == RequestReader::State::complete) {
      const auto request = reader.take();
      if (request.body.size() > max_body || request.target().empty() || request.method().empty()) std::abort();
      seen.push_back(std::string(request.method()) + " " + std::string(request.target()) + (request.keep_alive ? " k " : " c ") +
                     request.body);
    } else if (reader.state() == RequestReader::State::failed) {
      seen.push_back("refused " + std::string(describe(reader.error()).name));
      return seen;
    } else if (bytes.empty()) {
      return seen;
    } else {
      const auto consumed = reader.feed(bytes.substr(0, std::min(piece, bytes.size())));
      if (consumed > bytes.size()) std::abort();
      bytes.remove_prefix(consumed);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto whole = read_all(bytes, SIZE_MAX);
  if (read_all(bytes, static_cast<std::size_t>(data[0]) + 1) != whole) {
    // Only where one of several limits is met first may depend on the pieces.
    const auto other = read_all(bytes, static_cast<std::size_t>(data[0]) + 1);
    const bool both_refused =
        !whole.empty() && !other.empty() && whole.back().starts_with("refused") && other.back().starts_with("refused");
    if (!both_refused || whole.size() != other.size()) std::abort();
  }
  return 0;
}
