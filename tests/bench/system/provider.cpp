// A model for the benchmark: speaks OpenAI's chat completions format, takes a while, and understands lines.hpp.
// It ends each reply with "[delay_us=…]", the time from the request's last byte to the answer's first: what the server took
// itself is the rest. Lenient, loopback only, one thread. Prints its port; ends when standard input does.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <queue>
#include <random>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tests/bench/system/lines.hpp"

namespace {

using namespace onboarding::bench;

std::int64_t now_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Client {
  std::uint64_t id = 0;  // a descriptor's number is used again: a late answer must not reach the next one
  std::string received;
};

struct Answer {
  std::int64_t due_us, asked_us;
  int descriptor;
  std::uint64_t client;
  std::string fields;
  bool operator>(const Answer& other) const { return due_us > other.due_us; }
};

/// The last line of the conversation: our server writes role before content.
std::string_view last_said(std::string_view body) {
  constexpr std::string_view mark = R"("role":"user","content":")";
  const auto at = body.rfind(mark);
  if (at == body.npos) return {};
  body.remove_prefix(at + mark.size());
  return body.substr(0, body.find('"'));
}

void send_answer(const Answer& answer) {
  std::string body =
      R"({"id":"chatcmpl-bench","object":"chat.completion","created":1,"model":"bench","choices":[{"index":0,"finish_reason":"stop","message":)"
      R"({"role":"assistant","content":"{\"reply\":\"Thank you, noted. [delay_us=)";
  body += std::to_string(now_us() - answer.asked_us) + R"(]\",\"fields\":{)" + answer.fields + R"(},\"asks\":[]}"}}],)";
  body += R"("usage":{"prompt_tokens":600,"completion_tokens":40,"total_tokens":640}})";
  const std::string whole =
      "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  if (::send(answer.descriptor, whole.data(), whole.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
    std::fprintf(stderr, "send: %s\n", std::strerror(errno));
}

/// The whole request's body, once it is there; removes it from what was received.
bool take_request(std::string& received, std::string& body) {
  const auto head = received.find("\r\n\r\n");
  if (head == received.npos) return false;
  std::size_t length = 0;
  if (const auto at = received.find("Content-Length: "); at < head)
    std::from_chars(received.data() + at + 16, received.data() + head, length);
  if (received.size() < head + 4 + length) return false;
  body = received.substr(head + 4, length);
  received.erase(0, head + 4 + length);
  return true;
}

class Provider {
 public:
  Provider(int listener, std::int64_t delay_us, std::int64_t spread_us)
      : listener_(listener), delay_us_(delay_us - spread_us, delay_us + spread_us) {
    watch(listener_);
    watch(STDIN_FILENO);
  }

  void run() {
    std::array<epoll_event, 256> events;
    for (;;) {
      const int wait_ms =
          waiting_.empty() ? 1000
                           : static_cast<int>(std::clamp<std::int64_t>((waiting_.top().due_us - now_us() + 999) / 1000, 0, 1000));
      const int count = ::epoll_wait(poll_, events.data(), events.size(), wait_ms);
      for (int i = 0; i < count; ++i) {
        const int descriptor = events[static_cast<std::size_t>(i)].data.fd;
        if (descriptor == STDIN_FILENO) return;
        if (descriptor == listener_) accept_client();
        else read_client(descriptor);
      }
      for (; !waiting_.empty() && waiting_.top().due_us <= now_us(); waiting_.pop()) {
        const auto& answer = waiting_.top();
        const auto client = clients_.find(answer.descriptor);
        if (client != clients_.end() && client->second.id == answer.client) send_answer(answer);
      }
    }
  }

 private:
  void watch(int descriptor) {
    epoll_event event{.events = EPOLLIN, .data = {.fd = descriptor}};
    ::epoll_ctl(poll_, EPOLL_CTL_ADD, descriptor, &event);
  }

  void accept_client() {
    const int descriptor = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1;
    if (descriptor < 0) return;
    ::setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    clients_[descriptor] = {++last_client_, {}};
    watch(descriptor);
  }

  void read_client(int descriptor) {
    auto& client = clients_[descriptor];
    char buffer[32768];
    const auto count = ::recv(descriptor, buffer, sizeof buffer, 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) {
      ::close(descriptor);
      clients_.erase(descriptor);
      return;
    }
    client.received.append(buffer, static_cast<std::size_t>(count));
    std::string body;
    while (take_request(client.received, body)) {
      const auto asked = now_us();
      waiting_.push({asked + delay_us_(random_), asked, descriptor, client.id, read_fields(last_said(body))});
    }
  }

  int listener_, poll_ = ::epoll_create1(EPOLL_CLOEXEC);
  std::mt19937_64 random_{1};
  std::uniform_int_distribution<std::int64_t> delay_us_;
  std::unordered_map<int, Client> clients_;
  std::uint64_t last_client_ = 0;
  std::priority_queue<Answer, std::vector<Answer>, std::greater<>> waiting_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return std::fputs("usage: bench_provider DELAY_MS SPREAD_MS\n", stderr), 2;
  const std::int64_t delay_us = std::atoll(argv[1]) * 1000, spread_us = std::atoll(argv[2]) * 1000;
  if (spread_us < 0 || spread_us > delay_us) return std::fputs("the spread must be within the delay\n", stderr), 2;
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);

  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (::bind(listener, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(listener, 4096) != 0 ||
      ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    return std::fprintf(stderr, "listen: %s\n", std::strerror(errno)), 1;
  std::printf("%d\n", ntohs(address.sin_port));
  std::fflush(stdout);
  Provider(listener, delay_us, spread_us).run();
  return 0;
}
