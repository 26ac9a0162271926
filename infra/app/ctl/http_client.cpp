#include "infra/app/ctl/http_client.hpp"

#include <curl/curl.h>

#include <cstdlib>

#include "infra/app/config/config.hpp"

namespace onboarding::app {
namespace {

constexpr std::size_t max_answer_bytes = 4 << 20;

std::size_t take_body(char* bytes, std::size_t, std::size_t count, void* into) {
  auto& body = *static_cast<std::string*>(into);
  if (body.size() + count > max_answer_bytes) return 0;
  body.append(bytes, count);
  return count;
}

std::size_t take_header(char* bytes, std::size_t, std::size_t count, void* into) {
  auto& answer = *static_cast<HttpAnswer*>(into);
  const std::string_view line(bytes, count);
  const auto value = [&](std::string_view name) -> std::optional<std::string> {
    if (line.size() <= name.size() || ::strncasecmp(line.data(), name.data(), name.size()) != 0) return std::nullopt;
    std::string_view rest = line.substr(name.size());
    while (!rest.empty() && (rest.front() == ' ')) rest.remove_prefix(1);
    while (!rest.empty() && (rest.back() == '\r' || rest.back() == '\n')) rest.remove_suffix(1);
    return std::string(rest);
  };
  if (auto seconds = value("Retry-After:")) answer.retry_after = std::chrono::seconds(std::atoi(seconds->c_str()));
  if (auto location = value("Location:")) answer.location = *location;
  return count;
}

}  // namespace

std::string escaped(std::string_view text) {
  char* made = curl_easy_escape(nullptr, text.data(), static_cast<int>(text.size()));
  std::string copy = made == nullptr ? "" : made;
  curl_free(made);
  return copy;
}

HttpClient::HttpClient() : curl_(curl_easy_init()) {}
HttpClient::~HttpClient() { curl_easy_cleanup(curl_); }

result<HttpAnswer> HttpClient::send(const std::string& url, const std::vector<std::string>& headers, const std::string& body,
                                    std::chrono::milliseconds timeout, const char* method) {
  HttpAnswer answer;
  curl_easy_reset(curl_);
  curl_easy_setopt(curl_, CURLOPT_TIMEOUT_MS, static_cast<long>(timeout.count()));
  curl_easy_setopt(curl_, CURLOPT_WRITEFUNCTION, take_body);
  curl_easy_setopt(curl_, CURLOPT_WRITEDATA, &answer.body);
  std::vector<std::string> all = headers;
  if (!body.empty()) {
    all.emplace_back("Content-Type: application/json");
    curl_easy_setopt(curl_, CURLOPT_POSTFIELDS, body.c_str());
    curl_easy_setopt(curl_, CURLOPT_POSTFIELDSIZE, static_cast<long>(body.size()));
  }
  if (!body.empty() || std::string_view(method) == "DELETE") curl_easy_setopt(curl_, CURLOPT_CUSTOMREQUEST, method);
  return perform(url, all, answer);
}

result<HttpAnswer> HttpClient::download(const std::string& url, const std::vector<std::string>& headers,
                                        std::function<bool(std::string_view)> take) {
  struct Taking {
    void* curl;
    HttpAnswer answer;
    std::function<bool(std::string_view)> take;
  } taking{curl_, {}, std::move(take)};
  curl_easy_reset(curl_);
  curl_easy_setopt(curl_, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(curl_, CURLOPT_LOW_SPEED_TIME, 60L);
  curl_easy_setopt(
      curl_, CURLOPT_WRITEFUNCTION, +[](char* bytes, std::size_t size, std::size_t count, void* into) -> std::size_t {
        auto& to = *static_cast<Taking*>(into);
        long status = 0;
        curl_easy_getinfo(to.curl, CURLINFO_RESPONSE_CODE, &status);
        if (status != 200) return take_body(bytes, size, count, &to.answer.body);
        return to.take({bytes, count}) ? count : 0;
      });
  curl_easy_setopt(curl_, CURLOPT_WRITEDATA, &taking);
  return perform(url, headers, taking.answer);
}

result<HttpAnswer> HttpClient::perform(const std::string& url, const std::vector<std::string>& headers, HttpAnswer& answer) {
  curl_slist* list = nullptr;
  for (const std::string& header : headers) list = curl_slist_append(list, header.c_str());
  list = curl_slist_append(list, "Expect:");
  curl_easy_setopt(curl_, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl_, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl_, CURLOPT_HEADERFUNCTION, take_header);
  curl_easy_setopt(curl_, CURLOPT_HEADERDATA, &answer);
  curl_easy_setopt(curl_, CURLOPT_HTTPHEADER, list);
  const CURLcode code = curl_easy_perform(curl_);
  curl_slist_free_all(list);
  if (code != CURLE_OK) return failure(Errc::not_running, url + ": " + curl_easy_strerror(code));
  long status = 0;
  curl_easy_getinfo(curl_, CURLINFO_RESPONSE_CODE, &status);
  answer.status = static_cast<int>(status);
  return std::move(answer);
}

}  // namespace onboarding::app
