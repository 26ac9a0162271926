// A raw HTTP client for tests: says exactly the bytes it is told, and reads answers one by one with a deadline.
#pragma once

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <string>

namespace onboarding::http::testing {

struct Answer {
  int status = 0;                              // 0: the connection ended (or was reset) before an answer
  std::map<std::string, std::string> headers;  // lower case names
  std::string body;
  bool reset = false;
};

class Client {
 public:
  explicit Client(std::uint16_t port, int receive_buffer = 0) {
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (receive_buffer > 0) ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    const int one = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  Client(Client&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), connected_(other.connected_), received_(std::move(other.received_)) {}
  Client(const Client&) = delete;
  ~Client() {
    if (fd_ >= 0) ::close(fd_);
  }

  bool connected() const { return connected_; }
  bool say(std::string_view bytes) {
    while (!bytes.empty()) {
      const auto sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  void finish_sending() { ::shutdown(fd_, SHUT_WR); }
  int descriptor() const { return fd_; }

  /// The next answer; interim ones (1xx) come by themselves.
  Answer hear(int deadline_ms = 10'000, bool to_head = false) {
    Answer answer;
    std::size_t end;
    while ((end = received_.find("\r\n\r\n")) == std::string::npos)
      if (!more(deadline_ms, answer)) return answer;
    auto head = received_.substr(0, end + 2);
    answer.status = std::atoi(head.c_str() + 9);
    for (auto at = head.find("\r\n") + 2; at < head.size();) {
      const auto line_end = head.find("\r\n", at);
      const auto colon = head.find(':', at);
      auto name = head.substr(at, colon - at);
      std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
      answer.headers[name] = head.substr(colon + 2, line_end - colon - 2);
      at = line_end + 2;
    }
    received_.erase(0, end + 4);
    if (to_head || answer.status < 200 || answer.status == 204 || answer.status == 304) return answer;
    const auto length = static_cast<std::size_t>(std::atoll(answer.headers["content-length"].c_str()));
    while (received_.size() < length)
      if (!more(deadline_ms, answer)) {
        answer.status = 0;
        return answer;
      }
    answer.body = received_.substr(0, length);
    received_.erase(0, length);
    return answer;
  }
  /// The body of an answer that was written piece by piece, up to its end.
  std::string hear_pieces() {
    std::string body;
    for (;;) {
      const auto size = std::strtoul(hear_until("\r\n").c_str(), nullptr, 16);
      if (size == 0) return body;
      auto piece = hear_until("\r\n");
      while (piece.size() < size + 2) {
        const auto rest = hear_until("\r\n");
        if (rest.empty()) return body;
        piece += rest;
      }
      body += piece.substr(0, size);
    }
  }
  /// What comes next up to and with `end`, as it stands on the wire; empty when it does not come.
  std::string hear_until(std::string_view end, int deadline_ms = 10'000) {
    Answer ignored;
    std::size_t at;
    while ((at = received_.find(end)) == std::string::npos)
      if (!more(deadline_ms, ignored)) return {};
    auto text = received_.substr(0, at + end.size());
    received_.erase(0, text.size());
    return text;
  }
  /// True when the server ends the connection in order, without anything more.
  bool hears_end(int deadline_ms = 10'000) {
    Answer ignored;
    while (more(deadline_ms, ignored)) {}
    return ended_ && !ignored.reset && received_.empty();
  }

 private:
  bool more(int deadline_ms, Answer& answer) {
    pollfd wait{fd_, POLLIN, 0};
    if (::poll(&wait, 1, deadline_ms) <= 0) return false;
    char buffer[16 * 1024];
    const auto count = ::recv(fd_, buffer, sizeof buffer, 0);
    if (count < 0) answer.reset = true;
    if (count == 0) ended_ = true;
    if (count <= 0) return false;
    received_.append(buffer, static_cast<std::size_t>(count));
    return true;
  }

  int fd_ = -1;
  bool connected_ = false, ended_ = false;
  std::string received_;
};

}  // namespace onboarding::http::testing
