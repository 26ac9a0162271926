// One HTTP request at a time, for a person at a terminal: blocking, with a time-out.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "events/domain/result.hpp"

namespace onboarding::app {

struct HttpAnswer {
  int status = 0;
  std::string body, location;
  std::chrono::milliseconds retry_after{0};  // 0: not said
};

/// Percent-encoded for a query or a segment of a path.
std::string escaped(std::string_view);

class HttpClient {
 public:
  HttpClient();
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;
  /// Errc::not_running when no whole answer came. `body` empty: GET, or DELETE; otherwise `method`.
  result<HttpAnswer> send(const std::string& url, const std::vector<std::string>& headers, const std::string& body,
                          std::chrono::milliseconds timeout, const char* method = "POST");
  /// GET; the body of a 200 goes to `take` as it comes, until that says no. Errc::not_running when it did not come whole.
  result<HttpAnswer> download(const std::string& url, const std::vector<std::string>& headers,
                              std::function<bool(std::string_view)> take);

 private:
  result<HttpAnswer> perform(const std::string& url, const std::vector<std::string>& headers, HttpAnswer& answer);

  void* curl_;  // kept over requests: keep-alive
};

}  // namespace onboarding::app
