// The guarded server: Pistache accepts, polls, reads and parses; our reader stands before its parser and our writer
// in the place of its own (infra/docs/adr/0601). Knows routes only as a Router; what they do is nobody's business here.
//
// Threads: Pistache's accept thread and workers per site ("http-<site>"), and the writer ("http-writer").
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "http/http_server.hpp"
#include "http/router.hpp"

namespace onboarding::http {

struct Site {
  std::string name;     // "public", "admin": thread names and metrics
  std::string address;  // "127.0.0.1:8080", "[::1]:0"
  std::uint32_t threads = 2;
  Router router;
};

struct ServerHooks {
  /// Before a route's handler. False: it was answered. May be empty.
  std::function<bool(const Responder&)> admit;
  /// Adds header fields to every answer to a request. May be empty.
  std::function<void(const Request&, Response&)> decorate;
  /// A request that ended in this failure is answered by somebody else. May be empty.
  std::function<bool(const Responder&, const Failure&)> pass_on;
  /// Who the client is, from the peer's address and the request. Empty: the peer.
  std::function<std::string(const std::string& peer, const RawRequest&)> client_of;
};

struct ServerCore;
struct ListeningSite;

class Server {
 public:
  /// `before_serving` gets the server before the first request can come.
  static result<std::unique_ptr<Server>> start(std::vector<Site>, HttpLimits, ServerHooks, prometheus::Registry&, const Clock&,
                                               RandomSource&, AccessLog*,
                                               const std::function<void(const Server&)>& before_serving = {});
  ~Server();

  std::uint16_t port(std::size_t site) const;
  void begin_drain();
  bool draining() const;
  bool finish_drain(std::chrono::milliseconds limit, const std::function<bool()>& hurry);
  void stop();

 private:
  Server();
  std::shared_ptr<ServerCore> core_;
  std::vector<std::shared_ptr<ListeningSite>> listening_;
  std::int64_t drain_began_ms_ = 0;
  bool stopped_ = false;
};

}  // namespace onboarding::http
