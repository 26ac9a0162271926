// A request as the routes see it, a response as they give it, and the handle that joins the two.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "http/problem.hpp"
#include "http/reader.hpp"

namespace onboarding::http {

enum class Method : std::uint8_t { get, head, post, put, patch, delete_, options };
std::string_view to_string(Method);
std::optional<Method> method_of(std::string_view);

struct Route;

struct Request {
  RawRequest raw;  // header fields and body
  Method method = Method::get;
  std::string path;  // without its query, still encoded: what a problem names as its instance
  const Route* route = nullptr;
  std::vector<std::string> parameters;                     // of the route's template, decoded, in order
  std::vector<std::pair<std::string, std::string>> query;  // decoded; no name twice
  std::string client;                                      // address, behind trusted proxies the one they name
  std::string request_id;
  std::string traceparent;  // W3C; empty: none, or not well-formed

  std::optional<std::string_view> header(std::string_view lower_case_name) const { return raw.header(lower_case_name); }
  const std::string* query_value(std::string_view name) const;
};

namespace media {
inline constexpr std::string_view json = "application/json";
inline constexpr std::string_view problem = "application/problem+json";
inline constexpr std::string_view text = "text/plain; charset=utf-8";
}  // namespace media

struct Response {
  int status = 200;
  std::string body;
  std::string_view content_type = media::json;                    // static storage; empty: no body
  std::vector<std::pair<std::string_view, std::string>> headers;  // names in static storage
  std::string_view cache_control = "no-store";
  std::string_view content_security_policy = "default-src 'none'; frame-ancestors 'none'";

  Response& with(std::string_view name, std::string value) & {
    headers.emplace_back(name, std::move(value));
    return *this;
  }
};

/// An answer that is written piece by piece, from any thread; it ends with end(), with the client, or with the server.
class BodyStream {
 public:
  virtual ~BodyStream() = default;
  /// False: it is over, nobody takes more.
  virtual bool write(std::string_view piece) = 0;
  /// Bytes that the client did not take yet: who produces more than it reads waits until there are few.
  virtual std::size_t unsent() const = 0;
  virtual bool over() const = 0;
  /// Not whole: the connection is cut, so that the client sees that something is missing.
  virtual void end(bool whole = true) = 0;
};

/// One request under way. Shared by whoever may answer; answered exactly once, from any thread. When the last holder lets
/// go without an answer, the client gets a 500: nobody waits for ever.
class Exchange {
 public:
  virtual ~Exchange() = default;

  const Request& request() const { return request_; }
  /// For the access log.
  void note_session(std::string_view id) { session_id_ = id; }
  void note_turn(std::string_view id) { turn_id_ = id; }

  virtual void send(Response) = 0;
  /// Answers with this head; the body follows in pieces. `idle_piece` is written whenever nothing else was for `idle`, so that
  /// nobody on the way takes the silence for an end; after `most` it is ended (0: never). Null: the answer is complete (HEAD, or the
  /// server, or the client's address, has as many streams as it may).
  virtual std::shared_ptr<BodyStream> begin_stream(Response head, std::string_view idle_piece, std::chrono::milliseconds idle,
                                                   std::chrono::milliseconds most = std::chrono::milliseconds(0)) = 0;
  void fail(const Problem&);
  /// What another server answers for is passed on to it.
  void fail(const Failure& failure) {
    if (!passed_on(failure)) fail(problem_of(failure));
  }
  void fail(Errc code, std::string detail = {}) { fail(problem_of(code, std::move(detail))); }

  /// Until when it is tried to pass this request on; set by whoever does (forwarder.hpp).
  std::chrono::steady_clock::time_point pass_on_until{};

 protected:
  virtual bool passed_on(const Failure&) { return false; }
  Request request_;
  std::string session_id_, turn_id_;
};
using Responder = std::shared_ptr<Exchange>;

/// What a route asks of a body before its handler runs.
enum class Body { none, json, optional_json };
/// Which of the throttle's buckets a route takes from.
enum class Charge : std::uint8_t { none, start, message };

struct Route {
  Method method = Method::get;
  std::string path;  // "/api/users/{user_id}/profile"
  std::function<void(const Responder&)> handler;
  Body body = Body::none;
  Charge charge = Charge::none;
  std::size_t max_body_bytes = 64 * 1024;
  bool while_draining = false;  // answered even when the server is shutting down
};

}  // namespace onboarding::http
