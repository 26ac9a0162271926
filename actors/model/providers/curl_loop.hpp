// One curl multi loop on one thread ("curl") for every HTTP call to every provider. Bounded in transfers in flight and in
// the bytes of a response, counted as they come; no redirects; TLS verified; proxies of the environment, except to loopback.
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

struct HttpCall {
  std::string url;
  std::vector<std::string> headers;  // "Name: value"
  std::string body;                  // POSTed
  std::chrono::milliseconds timeout{20'000};
  std::size_t max_response_bytes = 1 << 20;
};

enum class Transport {
  ok,
  timeout,     // not complete in time
  connection,  // could not connect, or the connection broke before the response was complete
  too_large,   // more than max_response_bytes
  refused,     // too many transfers in flight, or the call could not be set up
  cancelled    // the loop ended
};

struct HttpReply {
  Transport transport = Transport::ok;
  std::string detail;  // libcurl's words; no texts, no keys
  int status = 0;      // 0: none came
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case; bounded
  std::string body;                                          // as far as it came
  std::int64_t latency_ms = 0;
  bool was_sent = false;  // the request left, at least in part

  std::string_view header(std::string_view lower_case_name) const;  // empty: absent
};

class CurlLoop {
 public:
  explicit CurlLoop(std::size_t max_transfers = 4096);
  ~CurlLoop();  // calls still running end as cancelled; joins the thread
  CurlLoop(const CurlLoop&) = delete;
  CurlLoop& operator=(const CurlLoop&) = delete;

  /// Any thread. `done` exactly once, on the loop's thread; it must not block.
  void submit(HttpCall, std::function<void(HttpReply)> done);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace onboarding::model
