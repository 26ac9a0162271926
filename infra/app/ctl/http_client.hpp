// One HTTP request at a time, for a person at a terminal: blocking, with a time-out.
#pragma once

#include <chrono>
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

class HttpClient {
 public:
  HttpClient();
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;
  /// Errc::not_running when no whole answer came. `body` empty: GET; otherwise `method`.
  result<HttpAnswer> send(const std::string& url, const std::vector<std::string>& headers, const std::string& body,
                          std::chrono::milliseconds timeout, const char* method = "POST");

 private:
  void* curl_;  // kept over requests: keep-alive
};

}  // namespace onboarding::app
