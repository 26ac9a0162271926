// Every HTTP call to every provider: a few threads ("curl-0", "curl-1", …), each with epoll and several curl multi handles of
// a bounded number of transfers, because libcurl walks all of a handle's connections for each new one. Bounded in transfers
// in flight and in the bytes of a response, counted as they come; no redirects; TLS verified, HTTP/2 where TLS offers it;
// proxies of the environment, except to loopback.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace onboarding::model {

/// What a piece of a streamed response was worth.
enum class Piece {
  idle,      // keep-alives: no time-out starts anew
  alive,     // the stream goes on
  text,      // … and the model writes: the first-token time-out is over
  finished,  // whole: the end of the response is still waited for, but not for long, so that its connection can be used again
  stop       // not worth another byte: the transfer ends as `stopped`
};

struct HttpCall {
  std::string url;
  std::vector<std::string> headers;  // "Name: value"
  std::string body;                  // POSTed
  std::chrono::milliseconds timeout{20'000};
  std::size_t max_response_bytes = 1 << 20;
  // A streamed call: the body of a 200 is handed on as it comes, on the loop's thread, and never after `done`; it must not block.
  std::function<Piece(std::string_view)> on_piece;
  std::chrono::milliseconds first_text_timeout{0}, idle_timeout{0};  // streamed calls only; 0: none
};

enum class Transport {
  ok,
  timeout,     // not complete in time, or a stream that said nothing for too long
  connection,  // could not connect, or the connection broke before the response was complete
  too_large,   // more than max_response_bytes
  stopped,     // by on_piece
  refused,     // too many transfers in flight, or the call could not be set up
  cancelled    // the loop ended
};

struct HttpReply {
  Transport transport = Transport::ok;
  std::string detail;                                        // libcurl's words; no texts, no keys
  int status = 0;                                            // 0: none came
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case; bounded
  std::string body;                                          // as far as it came; empty when it went to on_piece
  std::int64_t latency_ms = 0;
  std::int64_t first_text_ms = -1;  // of a streamed call: until Piece::text
  bool was_sent = false;            // the request left, at least in part

  std::string_view header(std::string_view lower_case_name) const;  // empty: absent
};

class CurlLoop {
 public:
  explicit CurlLoop(std::size_t max_transfers = 4096);
  ~CurlLoop();  // calls still running end as cancelled; joins the threads
  CurlLoop(const CurlLoop&) = delete;
  CurlLoop& operator=(const CurlLoop&) = delete;

  /// Any thread. `done` exactly once, on one of the loop's threads, or before submit() returns when it is refused for the number
  /// in flight; it must not block.
  void submit(HttpCall, std::function<void(HttpReply)> done);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace onboarding::model
