// Two running servers over real sockets: what the first one does not serve is passed on to the second one.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <prometheus/registry.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "http/http_server.hpp"
#include "tests/integration/http/client.hpp"
#include "tests/integration/http/fakes.hpp"

namespace onboarding::http::testing {
namespace {

const std::string instance_key = "0123456789abcdef0123456789abcdef";
const std::string sessions = "/api/onboarding/sessions";

/// Everything is served elsewhere.
class ElsewhereGateway final : public FakeGateway {
 public:
  using FakeGateway::FakeGateway;
  void start_session(StartRequest, Done<SessionStartedAnswer> done) override { refuse(done); }
  void post_message(MessageRequest, Done<TurnAnswer> done) override { refuse(done); }
  void get_session(std::string, std::optional<std::uint32_t>, Done<SessionSnapshot> done) override { refuse(done); }

 private:
  template <class T>
  static void refuse(const Done<T>& done) {
    done(failure(make_error_code(GatewayErrc::owned_elsewhere), "7"));
  }
};

class OnePeer final : public Peers {
 public:
  Place place_of(std::uint32_t partition) const override {
    const std::lock_guard lock(mutex_);
    return {false, partition == 7 ? address_ : ""};
  }
  std::uint32_t owned() const override { return 0; }
  std::string not_ready() const override { return ""; }
  void is_at(std::string address) {
    const std::lock_guard lock(mutex_);
    address_ = std::move(address);
  }

 private:
  mutable std::mutex mutex_;
  std::string address_;
};

/// Answers what is read, and dies of what is written: the connection ends before an answer.
class DyingPeer {
 public:
  DyingPeer() : listener_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    if (::bind(listener_, any, size) != 0 || ::listen(listener_, 8) != 0 || ::getsockname(listener_, any, &size) != 0)
      throw std::runtime_error("no port");
    at = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    thread_ = std::thread([this] { run(); });
  }
  ~DyingPeer() {
    ending_ = true;
    thread_.join();
  }
  std::string at;
  std::atomic<int> gets{0}, posts{0};

 private:
  void run() {
    std::map<int, std::string> heard;
    while (!ending_) {
      std::vector<pollfd> polled = {{listener_, POLLIN, 0}};
      for (const auto& [fd, text] : heard) polled.push_back({fd, POLLIN, 0});
      ::poll(polled.data(), polled.size(), 10);
      if ((polled[0].revents & POLLIN) != 0) heard.emplace(::accept(listener_, nullptr, nullptr), "");
      for (const pollfd& each : polled)
        if (each.fd != listener_ && each.revents != 0 && !hear(each.fd, heard[each.fd])) {
          heard.erase(each.fd);
          ::close(each.fd);
        }
    }
    for (const auto& [fd, text] : heard) ::close(fd);
    ::close(listener_);
  }
  bool hear(int fd, std::string& text) {
    char piece[4096];
    const auto got = ::recv(fd, piece, sizeof piece, 0);
    if (got <= 0) return false;
    text.append(piece, static_cast<std::size_t>(got));
    if (text.starts_with("POST") && text.ends_with("}")) {
      ++posts;
      return false;
    }
    if (!text.ends_with("\r\n\r\n") || !text.starts_with("GET")) return true;
    ++gets;
    text.clear();
    const std::string answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    return ::send(fd, answer.data(), answer.size(), MSG_NOSIGNAL) > 0;
  }
  const int listener_;
  std::atomic<bool> ending_{false};
  std::thread thread_;
};

std::string request(const std::string& method, const std::string& target, const std::string& body = {},
                    const std::string& fields = {}) {
  std::string text = method + " " + target + " HTTP/1.1\r\nHost: localhost\r\n" + fields;
  if (!body.empty()) text += "Content-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n";
  return text + "\r\n" + body;
}

class Forwarding : public ::testing::Test {
 protected:
  void SetUp() override {
    owner = serve(gateway, owner_metrics, nobody);
    owner_at = "127.0.0.1:" + std::to_string(owner->internal_port());
    peers.is_at(owner_at);
    other = serve(elsewhere, other_metrics, peers);
  }
  std::unique_ptr<HttpServer> serve(Gateway& gateway_of, prometheus::Registry& metrics, const Peers& peers_of) {
    HttpOptions options;
    options.listen = options.admin_listen = options.internal_listen = "127.0.0.1:0";
    options.instance_key = instance_key;
    options.throttle.requests_per_minute_per_ip = 0;
    HttpPorts ports{gateway_of, queries, secrets, log, metrics, system_clock(), system_random(), {}, nullptr};
    ports.peers = &peers_of;
    auto started = start_http(options, ports);
    if (!started) throw std::runtime_error(started.error().message());
    return std::move(*started);
  }
  static Answer ask(std::uint16_t port, const std::string& text) {
    Client client(port);
    client.say(text);
    return client.hear();
  }
  static std::string member(const Answer& answer, const std::string& name) {
    const auto at = answer.body.find("\"" + name + "\":\"");
    const auto from = at + name.size() + 4;
    return at == std::string::npos ? "" : answer.body.substr(from, answer.body.find('"', from) - from);
  }

  privacy::Secrets secrets = privacy::Secrets::from_bytes({1, 2, 3});
  FakeGateway gateway{secrets};
  ElsewhereGateway elsewhere{secrets};
  FakeQueries queries;
  FakeLog log;
  OnePeer peers, nobody;
  prometheus::Registry owner_metrics, other_metrics;
  std::string owner_at;
  std::unique_ptr<HttpServer> owner, other;
};

TEST_F(Forwarding, the_owners_answers_are_given_as_ours_with_status_and_headers) {
  const auto begun = ask(other->port(), request("POST", sessions, R"({"user_id":"ann"})", "X-Request-Id: req-1\r\n"));
  ASSERT_EQ(begun.status, 201) << begun.body;
  const std::string path = sessions + "/" + member(begun, "session_id"),
                    bearer = "Authorization: Bearer " + member(begun, "token") + "\r\n";
  EXPECT_EQ(begun.headers.at("location"), path);
  EXPECT_EQ(begun.headers.at("x-request-id"), "req-1");
  const auto told = ask(other->port(), request("POST", path + "/messages", R"({"message":"hi"})", bearer));
  EXPECT_EQ(told.status, 200);
  EXPECT_TRUE(member(told, "response").starts_with("Heard: hi")) << told.body;
  const auto waits =
      ask(other->port(), request("POST", path + "/messages", R"({"message":"later"})", bearer + "Prefer: respond-async\r\n"));
  EXPECT_EQ(waits.status, 202);
  EXPECT_EQ(waits.headers.at("preference-applied"), "respond-async");
  const auto refused = ask(other->port(), request("POST", path + "/messages", R"({"message":""})", bearer));
  EXPECT_EQ(refused.status, 422);
  EXPECT_EQ(refused.headers.at("content-type"), "application/problem+json");
  EXPECT_EQ(ask(other->port(), request("HEAD", path, {}, bearer)).status, 200);
}

TEST_F(Forwarding, a_stream_comes_piece_by_piece) {
  const auto begun = ask(other->port(), request("POST", sessions, R"({"user_id":"ann"})"));
  const std::string path = sessions + "/" + member(begun, "session_id"),
                    bearer = "Authorization: Bearer " + member(begun, "token") + "\r\n";
  Client looking(other->port());
  looking.say(request("GET", path + "/stream", {}, bearer));
  const auto head = looking.hear(10'000, true);
  ASSERT_EQ(head.status, 200);
  EXPECT_EQ(head.headers.at("content-type"), "text/event-stream; charset=utf-8");
  EXPECT_NE(looking.hear_until("event: status\n"), "");
  EXPECT_EQ(ask(other->port(), request("POST", path + "/messages", R"({"message":"hi"})", bearer)).status, 200);
  EXPECT_NE(looking.hear_until("event: turn\nid: "), "");
}

TEST_F(Forwarding, an_owner_that_is_not_known_or_not_there_is_a_503_that_says_when_to_come_again) {
  for (const auto& address : {std::string(), std::string("127.0.0.1:1")}) {
    peers.is_at(address);
    const auto answer = ask(other->port(), request("POST", sessions, R"({"user_id":"ann"})"));
    EXPECT_EQ(answer.status, 503) << address;
    EXPECT_EQ(answer.headers.at("retry-after"), "1");
  }
}

TEST_F(Forwarding, a_request_waits_until_its_owner_is_known) {
  peers.is_at("");
  Client client(other->port());
  client.say(request("POST", sessions, R"({"user_id":"ann"})"));
  EXPECT_FALSE(client.hears_end(100));
  peers.is_at(owner_at);
  EXPECT_EQ(client.hear().status, 201);
}

TEST_F(Forwarding, what_carries_no_key_is_sent_once_also_when_the_owner_dies_before_it_answers) {
  const auto begun = ask(owner->port(), request("POST", sessions, R"({"user_id":"ann"})"));
  const std::string path = sessions + "/" + member(begun, "session_id"),
                    bearer = "Authorization: Bearer " + member(begun, "token") + "\r\n";
  const DyingPeer dying;
  peers.is_at(dying.at);
  EXPECT_EQ(ask(other->port(), request("GET", path, {}, bearer)).body, "{}");
  const auto told = ask(other->port(), request("POST", path + "/messages", R"({"message":"hi"})", bearer));
  EXPECT_EQ(told.status, 503);
  EXPECT_EQ(dying.posts, 1) << "it may have been carried out";
  EXPECT_EQ(dying.gets, 1);
}

TEST_F(Forwarding, what_was_passed_on_goes_no_further) {
  peers.is_at("127.0.0.1:" + std::to_string(other->internal_port()));  // it believes that it is somebody else
  const auto answer = ask(other->port(), request("POST", sessions, R"({"user_id":"ann"})"));
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(member(answer, "type"), "urn:onboarding:problem:owner-unreachable");
}

TEST_F(Forwarding, the_internal_listener_is_for_servers_alone) {
  for (const auto& shown : {std::string(), "X-Onboarding-Instance: " + std::string(32, '0') + "\r\n"})
    EXPECT_EQ(ask(owner->internal_port(), request("POST", sessions, R"({"user_id":"ann"})", shown)).status, 401);
  EXPECT_EQ(ask(owner->internal_port(),
                request("POST", sessions, R"({"user_id":"ann"})", "X-Onboarding-Instance: " + instance_key + "\r\n"))
                .status,
            201);
}

}  // namespace
}  // namespace onboarding::http::testing
