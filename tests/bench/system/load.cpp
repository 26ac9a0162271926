// People who onboard, as fast as they are answered: each connection (HTTP/1.1, keep-alive) starts a session, answers the flow's
// fields one by one, and begins anew. One thread, epoll, loopback only. Every answer is checked; the result is one JSON object.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "tests/bench/system/lines.hpp"
#include "tests/bench/system/reply.hpp"
#include "tests/bench/system/series.hpp"

namespace {

using namespace onboarding::bench;

constexpr char usage_text[] =
    "usage: bench_load --port P[,P…] [--connections N] [--sessions N] [--messages 0..6] [--warm-up S] [--seconds S] "
    "[--visible-every "
    "N] [--poll-every-ms MS] [--tag T]\n"
    "  --port           on loopback; of several servers the connections take one after the other\n"
    "  --sessions       stop after so many sessions (0: only the time ends it)\n"
    "  --messages       messages of each session; with fewer than 6 the sessions stay open (default 6)\n"
    "  --warm-up        seconds that are not measured (default 1)\n"
    "  --seconds        measured seconds; nothing new is sent after them (default 5)\n"
    "  --visible-every  after the last answer of every Nth session wait until the profile shows it (0: never)\n"
    "  --poll-every-ms  after its messages each session is looked at this often, in turn its state and its profile (0: never)\n"
    "  --tag            makes Idempotency-Keys of this run its own\n";
constexpr std::int64_t request_limit_us = 40'000'000;

std::int64_t now_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::map<std::string, std::int64_t, std::less<>> options = {{"--connections", 1},  {"--sessions", 0}, {"--messages", 6},
                                                            {"--warm-up", 1},      {"--seconds", 5},  {"--visible-every", 0},
                                                            {"--poll-every-ms", 0}};
std::string tag = "load";
std::vector<std::int64_t> ports;

struct Connection {
  int descriptor = -1;
  bool busy = false;
  std::int64_t session = 0, step = 0, sent_us = 0, due_us = 0;  // step 0: start; 1…: messages; beyond the last: looks
  std::string session_id, token, user_id, position, received;
};

struct Totals {
  std::int64_t sessions = 0, started = 0, completed = 0, turns = 0, failures = 0, text_bytes = 0;
  std::string first_failure;
  Series turn, own, start, visible, state, profile;
} totals;

std::int64_t measured_from_us, ends_us;

void fail(Connection& connection, const std::string& why) {
  if (totals.failures++ == 0)
    totals.first_failure =
        "session " + std::to_string(connection.session) + " step " + std::to_string(connection.step) + ": " + why;
  connection.busy = false;
  if (connection.descriptor >= 0) ::close(connection.descriptor);
  connection.descriptor = -1;
}

bool looks_at_state(const Connection& connection) {
  return options["--poll-every-ms"] && (connection.step - options["--messages"]) % 2 == 0;
}

void send_step(Connection& connection) {
  std::string body = "{}", key = tag + "-" + std::to_string(connection.session) + "-" + std::to_string(connection.step), request;
  if (connection.step > options["--messages"]) {
    request = looks_at_state(connection)
                  ? "GET /api/onboarding/sessions/" + connection.session_id
                  : "GET /api/users/" + connection.user_id + "/profile?min_position=" + connection.position + "&wait_ms=20000";
    request += " HTTP/1.1\r\nHost: bench\r\n";
    request += "Authorization: Bearer " + connection.token + "\r\n\r\n";
  } else {
    const std::string path =
        "/api/onboarding/sessions" + (connection.step ? "/" + connection.session_id + "/messages" : std::string());
    if (connection.step) {
      const auto said = line(connection.session, connection.step);
      totals.text_bytes += static_cast<std::int64_t>(said.text.size());
      body = "{\"message\":\"" + said.text + "\"}";
    }
    request = "POST " + path + " HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nIdempotency-Key: " + key + "\r\n";
    if (connection.step) request += "Authorization: Bearer " + connection.token + "\r\n";
    request += "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  }
  connection.sent_us = now_us();
  connection.busy = true;
  // A request of some hundred bytes always fits into an idle connection's buffer.
  if (::send(connection.descriptor, request.data(), request.size(), MSG_NOSIGNAL | MSG_DONTWAIT) !=
      static_cast<ssize_t>(request.size()))
    fail(connection, std::string("send: ") + std::strerror(errno));
}

void next(Connection& connection) {
  const std::int64_t last =
      options["--messages"] + (options["--visible-every"] && connection.session % options["--visible-every"] == 0 ? 1 : 0);
  connection.busy = false;
  if (options["--poll-every-ms"] && connection.step >= options["--messages"] && !connection.session_id.empty()) {
    // People who know nothing of each other: the first look falls anywhere within the interval, the next ones keep the beat.
    static std::minstd_rand draw;
    const std::int64_t every_us = options["--poll-every-ms"] * 1000;
    const bool first = connection.step++ == options["--messages"];
    connection.due_us = first ? now_us() + std::uniform_int_distribution<std::int64_t>(0, every_us)(draw)
                              : std::max(now_us(), connection.due_us + every_us);
    return;
  }
  if (connection.step < last) {
    ++connection.step;
  } else {
    if (options["--sessions"] && totals.sessions >= options["--sessions"]) return;
    connection.session = totals.sessions++;
    connection.step = 0;
  }
  if (now_us() < ends_us) send_step(connection);
}

void answered(Connection& connection, int status, std::string_view body) {
  const std::int64_t took = now_us() - connection.sent_us;
  const bool measured = connection.sent_us >= measured_from_us && connection.sent_us < ends_us;
  const auto wrong = [&] { fail(connection, "status " + std::to_string(status) + " " + std::string(body.substr(0, 600))); };
  if (connection.step > options["--messages"]) {
    if (status != 200) return wrong();
    if (measured)
      (!options["--poll-every-ms"]  ? totals.visible
       : looks_at_state(connection) ? totals.state
                                    : totals.profile)
          .values_us.push_back(took);
    return next(connection);
  }
  totals.text_bytes += static_cast<std::int64_t>(member(body, "response").size());
  connection.position = member(body, "position");
  if (connection.step == 0) {
    connection.session_id = member(body, "session_id"), connection.token = member(body, "token"),
    connection.user_id = member(body, "user_id");
    if (status != 201 || connection.session_id.empty() || connection.token.empty() || connection.user_id.empty()) return wrong();
    ++totals.started;
    if (measured) totals.start.values_us.push_back(took);
    return next(connection);
  }
  const auto extracted = body.find("\"extracted\":{"), rejected = body.find("\"rejected\":");
  const bool found =
      extracted != body.npos && rejected != body.npos &&
      body.substr(extracted, rejected - extracted).find(line(connection.session, connection.step).expected) != body.npos;
  const bool complete = body.find("\"is_complete\":true") != body.npos;
  if (status != 200 || !found || complete != (connection.step == 6) || body.find("\"error\":false") == body.npos) return wrong();
  ++totals.turns;
  totals.completed += complete;
  if (measured) {
    totals.turn.values_us.push_back(took);
    totals.own.values_us.push_back(took - told_delay_us(body));
  }
  next(connection);
}

void readable(Connection& connection) {
  char buffer[16384];
  const auto count = ::recv(connection.descriptor, buffer, sizeof buffer, MSG_DONTWAIT);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) return fail(connection, count == 0 ? "the server closed the connection" : std::strerror(errno));
  connection.received.append(buffer, static_cast<std::size_t>(count));
  const auto reply = take_reply(connection.received);
  if (reply.status < 0) return fail(connection, "an answer without length");
  if (reply.status > 0) answered(connection, reply.status, reply.body);
}

int connect_to(std::int64_t port) {
  const int descriptor = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (descriptor < 0 || ::connect(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return -1;
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return descriptor;
}

void run_all(std::vector<Connection>& connections, int poll) {
  measured_from_us = now_us() + options["--warm-up"] * 1'000'000;
  ends_us = measured_from_us + options["--seconds"] * 1'000'000;
  for (auto& connection : connections) {
    connection.step = options["--messages"] + 1;
    next(connection);
  }
  std::array<epoll_event, 256> events;
  const auto goes_on = [](const Connection& c) { return c.busy || (c.due_us && c.descriptor >= 0 && now_us() < ends_us); };
  while (std::ranges::any_of(connections, goes_on)) {
    const int count = ::epoll_wait(poll, events.data(), events.size(), options["--poll-every-ms"] ? 1 : 1000);
    for (int i = 0; i < count; ++i) {
      auto& connection = connections[events[static_cast<std::size_t>(i)].data.u32];
      if (connection.descriptor >= 0) readable(connection);
    }
    if (const auto now = now_us(); now < ends_us)
      for (auto& connection : connections)
        if (!connection.busy && connection.descriptor >= 0 && connection.due_us && connection.due_us <= now)
          send_step(connection);
    if (count > 0) continue;
    for (auto& connection : connections)
      if (connection.busy && now_us() - connection.sent_us > request_limit_us) fail(connection, "no answer within 40 s");
  }
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; i += 2) {
    const std::string name = argv[i];
    const bool known = options.contains(name) || name == "--tag" || name == "--port";
    if (!known || i + 1 >= argc) return std::fputs(usage_text, name == "--help" ? stdout : stderr), name == "--help" ? 0 : 2;
    if (name == "--tag") tag = argv[i + 1];
    else if (name == "--port")
      for (const char* at = argv[i + 1]; at != nullptr; at = std::strchr(at, ',')) ports.push_back(std::atoll(at += *at == ','));
    else options[name] = std::atoll(argv[i + 1]);
  }
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);

  const int poll = ::epoll_create1(EPOLL_CLOEXEC);
  std::vector<Connection> connections(static_cast<std::size_t>(std::max<std::int64_t>(1, options["--connections"])));
  for (std::uint32_t i = 0; i < connections.size(); ++i) {
    connections[i].descriptor = ports.empty() ? -1 : connect_to(ports[i % ports.size()]);
    epoll_event event{.events = EPOLLIN, .data = {.u32 = i}};
    if (connections[i].descriptor < 0 || ::epoll_ctl(poll, EPOLL_CTL_ADD, connections[i].descriptor, &event) != 0)
      return std::fprintf(stderr, "connection %u: %s\n", i, std::strerror(errno)), 1;
  }
  const auto began = now_us();
  run_all(connections, poll);

  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  std::string failure;
  for (const char c : totals.first_failure) failure += c == '"' || c == '\\' || static_cast<unsigned char>(c) < ' ' ? '\'' : c;
  std::printf(
      "{\"sessions_started\":%ld,\"sessions_completed\":%ld,\"turns\":%ld,\"failures\":%ld,\"first_failure\":\"%s\",\"text_"
      "bytes\":%ld,",
      totals.started, totals.completed, totals.turns, totals.failures, failure.c_str(), totals.text_bytes);
  const double window =
      options["--sessions"] ? static_cast<double>(now_us() - began) / 1e6 : static_cast<double>(options["--seconds"]);
  const auto counted =
      options["--sessions"] ? static_cast<double>(totals.turns) : static_cast<double>(totals.turn.values_us.size());
  std::printf("\"seconds\":%.3f,\"turns_per_second\":%.1f,\"cpu_seconds\":%.3f,", window, counted / window,
              seconds(usage.ru_utime) + seconds(usage.ru_stime));
  totals.turn.print("turn");
  std::printf(","), totals.own.print("own"), std::printf(","), totals.start.print("start"), std::printf(","),
      totals.visible.print("visible"), std::printf(","), totals.state.print("state"), std::printf(","),
      totals.profile.print("profile");
  std::printf("}\n");
  return totals.failures ? 1 : 0;
}
