// The HTTP client's streams, against a server that says what the test wants, when it wants.
#include "actors/model/providers/curl_loop.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <thread>

namespace onboarding::model {
namespace {

using namespace std::chrono_literals;

/// Takes connections one after the other; each request on it is answered by `answer(descriptor)`, which returns whether the
/// connection lives on.
class Server {
 public:
  explicit Server(std::function<bool(int)> answer)
      : answer_(std::move(answer)), listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(listener_, 16) != 0 ||
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
      throw std::runtime_error("listen");
    url_ = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port)) + "/x";
    thread_ = std::thread([this] { run(); });
  }
  ~Server() {
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
  }

  const std::string& url() const { return url_; }
  int connections() const { return connections_; }

  static void say(int descriptor, std::string_view text) {
    [[maybe_unused]] const auto sent = ::send(descriptor, text.data(), text.size(), MSG_NOSIGNAL);
  }
  static void chunk(int descriptor, std::string_view text) {
    char size[16];
    std::snprintf(size, sizeof size, "%zx\r\n", text.size());
    say(descriptor, std::string(size) + std::string(text) + "\r\n");
  }
  /// Until the other side has gone.
  static bool hang(int descriptor) {
    char byte;
    while (::recv(descriptor, &byte, 1, 0) > 0) {}
    return false;
  }

 private:
  void run() {
    for (int d; (d = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC)) >= 0; ::close(d)) {
      ++connections_;
      const int on = 1;
      ::setsockopt(d, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      while (request_came(d) && answer_(d)) {}
    }
  }
  static bool request_came(int descriptor) {
    std::string got;
    char byte;
    while (!got.ends_with("\r\n\r\nbody"))
      if (::recv(descriptor, &byte, 1, 0) != 1) return false;
      else got += byte;
    return true;
  }

  const std::function<bool(int)> answer_;
  const int listener_;
  std::string url_;
  std::atomic<int> connections_{0};
  std::thread thread_;
};

constexpr std::string_view kStream = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

struct Streamed {
  HttpReply reply;
  std::string text;
};

// Pieces are what the server wrote: "k…" keeps alive, "t…" is text, "f…" says that it is whole, "s…" is to be stopped.
Streamed stream(CurlLoop& loop, const std::string& url, std::chrono::milliseconds first, std::chrono::milliseconds idle) {
  auto text = std::make_shared<std::string>();
  std::promise<HttpReply> done;
  HttpCall call;
  call.url = url;
  call.body = "body";
  call.timeout = 20s;
  call.first_text_timeout = first;
  call.idle_timeout = idle;
  call.max_response_bytes = 1'000;
  call.on_piece = [text](std::string_view piece) {
    *text += piece;
    const char last =
        *std::find_if(piece.rbegin(), piece.rend(), [](char c) { return std::isalpha(static_cast<unsigned char>(c)); });
    return last == 'k' ? Piece::idle : last == 't' ? Piece::text : last == 'f' ? Piece::finished : Piece::stop;
  };
  loop.submit(std::move(call), [&](HttpReply r) { done.set_value(std::move(r)); });
  return {done.get_future().get(), *text};
}

TEST(CurlLoop, pieces_are_handed_on_before_the_response_is_whole) {
  std::promise<void> seen;
  auto was_seen = seen.get_future();
  Server server([&](int d) {
    Server::say(d, kStream);
    Server::chunk(d, "one");
    was_seen.wait();  // nothing more comes before the first piece has arrived
    Server::chunk(d, "two");
    Server::say(d, "0\r\n\r\n");
    return true;
  });
  CurlLoop loop;
  HttpCall call;
  call.url = server.url();
  call.body = "body";
  std::string text;
  call.on_piece = [&](std::string_view piece) {
    if (text.empty()) seen.set_value();
    text += piece;
    return Piece::text;
  };
  std::promise<HttpReply> done;
  loop.submit(std::move(call), [&](HttpReply r) { done.set_value(std::move(r)); });
  const auto reply = done.get_future().get();
  EXPECT_EQ(reply.transport, Transport::ok) << reply.detail;
  EXPECT_EQ(text, "onetwo");
  EXPECT_EQ(reply.body, "");
  EXPECT_GE(reply.first_text_ms, 0);
}

TEST(CurlLoop, keep_alives_do_not_put_off_the_time_out_of_the_first_token) {
  Server server([](int d) {
    Server::say(d, kStream);
    for (char byte; ::recv(d, &byte, 1, MSG_DONTWAIT) != 0; std::this_thread::sleep_for(5ms)) Server::chunk(d, "k");
    return false;
  });
  CurlLoop loop;
  const auto s = stream(loop, server.url(), 100ms, 20s);
  EXPECT_EQ(s.reply.transport, Transport::timeout);
  EXPECT_EQ(s.reply.first_text_ms, -1);
  EXPECT_NE(s.text, "") << "the keep-alives came";
}

TEST(CurlLoop, a_stream_that_falls_silent_is_left) {
  Server server([](int d) {
    Server::say(d, kStream);
    Server::chunk(d, "t");
    return Server::hang(d);
  });
  CurlLoop loop;
  const auto s = stream(loop, server.url(), 20s, 100ms);
  EXPECT_EQ(s.reply.transport, Transport::timeout);
  EXPECT_EQ(s.text, "t");
}

TEST(CurlLoop, a_stream_that_said_it_is_whole_need_not_end) {
  Server server([](int d) {
    Server::say(d, kStream);
    Server::chunk(d, "t");
    Server::chunk(d, "f");
    return Server::hang(d);
  });
  CurlLoop loop;
  const auto s = stream(loop, server.url(), 20s, 20s);
  EXPECT_EQ(s.reply.transport, Transport::ok);
  EXPECT_EQ(s.text, "tf");
}

TEST(CurlLoop, a_stream_can_be_stopped_and_the_next_call_goes_on) {
  std::atomic<int> calls = 0;
  Server server([&](int d) {
    Server::say(d, kStream);
    if (++calls == 1) {
      Server::chunk(d, "s");
      return Server::hang(d);
    }
    Server::chunk(d, "t");
    Server::say(d, "0\r\n\r\n");
    return true;
  });
  CurlLoop loop;
  EXPECT_EQ(stream(loop, server.url(), 20s, 20s).reply.transport, Transport::stopped);
  EXPECT_EQ(stream(loop, server.url(), 20s, 20s).reply.transport, Transport::ok);
}

TEST(CurlLoop, a_stream_that_breaks_off_and_one_that_never_ends_are_failures) {
  Server broken([](int d) {
    Server::say(d, kStream);
    Server::chunk(d, "t");
    return false;
  });
  Server endless([](int d) {
    Server::say(d, kStream);
    for (char byte; ::recv(d, &byte, 1, MSG_DONTWAIT) != 0;) Server::chunk(d, "tttttttttttttttttttttttttttttttttttttttttttttttt");
    return false;
  });
  CurlLoop loop;
  EXPECT_EQ(stream(loop, broken.url(), 20s, 20s).reply.transport, Transport::connection);
  EXPECT_EQ(stream(loop, endless.url(), 20s, 20s).reply.transport, Transport::too_large);
}

TEST(CurlLoop, a_refusal_of_a_streamed_call_is_a_body) {
  Server server([](int d) {
    Server::say(d, "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nslow");
    return true;
  });
  CurlLoop loop;
  const auto s = stream(loop, server.url(), 20s, 20s);
  EXPECT_EQ(s.reply.status, 429);
  EXPECT_EQ(s.reply.body, "slow");
  EXPECT_EQ(s.reply.header("retry-after"), "7");
  EXPECT_EQ(s.text, "");
}

TEST(CurlLoop, calls_one_after_the_other_share_a_connection) {
  Server server([](int d) {
    Server::say(d, kStream);
    Server::chunk(d, "t");
    Server::say(d, "0\r\n\r\n");
    return true;
  });
  CurlLoop loop;
  for (int i = 0; i < 20; ++i) ASSERT_EQ(stream(loop, server.url(), 20s, 20s).reply.transport, Transport::ok) << i;
  EXPECT_EQ(server.connections(), 1);
}

TEST(CurlLoop, a_connection_that_the_server_closed_meanwhile_is_replaced) {
  Server server([](int d) {
    Server::say(d, kStream);
    Server::chunk(d, "t");
    Server::say(d, "0\r\n\r\n");
    return false;
  });
  CurlLoop loop;
  for (int i = 0; i < 50; ++i) {
    const auto s = stream(loop, server.url(), 20s, 20s);
    ASSERT_EQ(s.reply.transport, Transport::ok) << i << ' ' << s.reply.detail;
  }
  EXPECT_EQ(server.connections(), 50);
}

}  // namespace
}  // namespace onboarding::model
