#include "http/server.hpp"

#include <pistache/endpoint.h>
#include <pistache/http.h>
#include <pistache/peer.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <ctime>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>

#include "events/codec/json.hpp"
#include "events/domain/assertion.hpp"
#include "http/connection.hpp"
#include "http/observe.hpp"
#include "http/throttle.hpp"

namespace onboarding::http {
namespace {

std::string_view reason_phrase(int status) {
  switch (status) {
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 304: return "Not Modified";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 415: return "Unsupported Media Type";
    case 417: return "Expectation Failed";
    case 422: return "Unprocessable Content";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    case 505: return "HTTP Version Not Supported";
    default: return "Other";
  }
}

/// The Date field's value (RFC 9110 5.6.7), formatted once a second and thread.
std::string_view http_date(domain::Timestamp now) {
  thread_local std::time_t cached = -1;
  thread_local char text[32];
  const auto second = static_cast<std::time_t>(std::chrono::floor<std::chrono::seconds>(now).time_since_epoch().count());
  if (second != cached) {
    std::tm parts{};
    ::gmtime_r(&second, &parts);
    static constexpr const char* days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static constexpr const char* months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    std::snprintf(text, sizeof text, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[parts.tm_wday], parts.tm_mday % 100,
                  months[parts.tm_mon], (parts.tm_year + 1900) % 10000, parts.tm_hour % 100, parts.tm_min % 100,
                  parts.tm_sec % 100);
    cached = second;
  }
  return {text, 29};
}

struct Framing {
  bool head_only = false;
  bool http10 = false;
  bool close = false;
  bool stream = false;  // the body's length is not known
};

/// Head and body in one piece: one send, and no chance of a split in between.
std::string to_bytes(const Response& response, const Framing& framing, domain::Timestamp now, std::string_view request_id) {
  std::string out;
  out.reserve(640 + response.body.size());
  const auto field = [&out](std::string_view name, std::string_view value) {
    out.append(name).append(": ").append(value).append("\r\n");
  };
  out.append("HTTP/1.1 ")
      .append(std::to_string(response.status))
      .append(" ")
      .append(reason_phrase(response.status))
      .append("\r\n");
  field("Date", http_date(now));
  const bool bodyless = response.status == 204 || response.status == 304;
  if (!bodyless) {
    if (!response.content_type.empty()) field("Content-Type", response.content_type);
    if (!framing.stream) field("Content-Length", std::to_string(response.body.size()));
    else if (!framing.http10) field("Transfer-Encoding", "chunked");
  }
  if (framing.close) field("Connection", "close");
  else if (framing.http10) field("Connection", "keep-alive");
  if (!request_id.empty()) field("X-Request-Id", request_id);
  field("Cache-Control", response.cache_control);
  field("Content-Security-Policy", response.content_security_policy);
  out.append("X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n");
  for (const auto& [name, value] : response.headers) field(name, value);
  out.append("\r\n");
  if (!framing.head_only && !bodyless) out.append(response.body);
  return out;
}

Response to_response(const Problem& problem, std::string_view instance, std::string_view request_id) {
  Response response;
  response.status = problem.kind.status;
  response.content_type = media::problem;
  response.body = to_json(problem, instance, request_id);
  if (problem.kind.retry_after_seconds != 0) response.with("Retry-After", std::to_string(problem.kind.retry_after_seconds));
  for (const auto& [name, value] : problem.headers) response.with(name, value);
  return response;
}

bool is_hex(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

/// W3C trace context, version 00, ids not all zero.
bool is_traceparent(std::string_view text) {
  return text.size() == 55 && text.substr(0, 3) == "00-" && text[35] == '-' && text[52] == '-' && is_hex(text.substr(3, 32)) &&
         is_hex(text.substr(36, 16)) && is_hex(text.substr(53)) && text.substr(3, 32).find_first_not_of('0') != text.npos &&
         text.substr(36, 16).find_first_not_of('0') != text.npos;
}

/// What may stand in a log line and a header as it came.
bool is_request_id(std::string_view text) {
  return !text.empty() && text.size() <= 128 && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.' || c == ':' || c == '/' || c == '+' || c == '=';
  });
}

std::optional<Method> from_pistache(Pistache::Http::Method method) {
  switch (method) {
    case Pistache::Http::Method::Get: return Method::get;
    case Pistache::Http::Method::Head: return Method::head;
    case Pistache::Http::Method::Post: return Method::post;
    case Pistache::Http::Method::Put: return Method::put;
    case Pistache::Http::Method::Patch: return Method::patch;
    case Pistache::Http::Method::Delete: return Method::delete_;
    case Pistache::Http::Method::Options: return Method::options;
    default: return std::nullopt;
  }
}

/// Raises the soft limit on descriptors to the hard one; the limit in force.
std::size_t raise_descriptor_limit() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  ::getrlimit(RLIMIT_NOFILE, &limit);
  // Beyond this a table of descriptors costs memory and brings nothing; "unlimited" is common in containers.
  return std::min<std::size_t>(limit.rlim_cur, 1'048'576);
}

struct SiteMetrics {
  std::vector<std::unique_ptr<RouteMetrics>> by_route;  // in the router's order
  std::unique_ptr<RouteMetrics> unmatched;
};

}  // namespace

void Exchange::fail(const Problem& problem) { send(to_response(problem, request_.path, request_.request_id)); }

/// What all sites share. Kept alive by every exchange that is not answered yet.
struct ServerCore {
  HttpLimits limits;
  ServerHooks hooks;
  const Clock& clock;
  AccessLog* access_log;
  Metrics metrics;
  std::shared_ptr<Writer> writer;
  int descriptor_base = 0;  // duplicates lie above: Pistache's own numbers stay dense, and `fd % workers` even
  std::string id_prefix;
  std::atomic<std::uint64_t> requests{0};
  std::atomic<std::size_t> in_flight{0}, connections{0};
  std::atomic<bool> draining{false}, stopped{false};
  std::mutex streams_mutex;
  std::size_t streams = 0;
  std::unordered_map<std::string, std::size_t> streams_of;  // clients with any

  ServerCore(HttpLimits l, ServerHooks h, prometheus::Registry& registry, const Clock& c, RandomSource& random, AccessLog* log)
      : limits(l), hooks(std::move(h)), clock(c), access_log(log), metrics(registry) {
    std::array<std::uint8_t, 6> bytes{};
    random.fill(bytes);
    id_prefix = "req_";
    for (const auto byte : bytes) id_prefix += {"0123456789abcdef"[byte >> 4], "0123456789abcdef"[byte & 15]};
    id_prefix += '-';
  }

  /// Takes a place for a stream. `limits` says how many there are; none: why not.
  std::optional<Errc> take_stream(const std::string& client) {
    const std::lock_guard lock(streams_mutex);
    if (streams >= limits.max_streams) return Errc::overloaded;
    auto& of_client = streams_of[client];
    if (limits.max_streams_per_client != 0 && of_client >= limits.max_streams_per_client) return Errc::throttled;
    ++streams, ++of_client;
    return std::nullopt;
  }
  void leave_stream(const std::string& client) {
    const std::lock_guard lock(streams_mutex);
    --streams;
    if (const auto of_client = streams_of.find(client); --of_client->second == 0) streams_of.erase(of_client);
  }

  std::string new_request_id() {
    char text[17];
    std::snprintf(text, sizeof text, "%llx", static_cast<unsigned long long>(requests.fetch_add(1, std::memory_order_relaxed)));
    return id_prefix + text;
  }
};

/// A site in service: its routes, its Pistache endpoint, and the owner of its connections.
struct ListeningSite final : ConnectionOwner, std::enable_shared_from_this<ListeningSite> {
  std::shared_ptr<ServerCore> core;
  std::string name;
  Router router;
  SiteMetrics site_metrics;
  prometheus::Gauge& connections_gauge;
  std::unique_ptr<Pistache::Http::Endpoint> endpoint;
  int listen_fd = -1;  // Pistache's; only looked at
  std::uint16_t port = 0;

  ListeningSite(std::shared_ptr<ServerCore> c, Site site)
      : core(std::move(c)),
        name(std::move(site.name)),
        router(std::move(site.router)),
        connections_gauge(core->metrics.connections.Add({{"listener", name}})) {
    for (const auto& route : router.routes())
      site_metrics.by_route.push_back(std::make_unique<RouteMetrics>(core->metrics.requests, core->metrics.durations, route.path,
                                                                     std::string(to_string(route.method))));
    site_metrics.unmatched = std::make_unique<RouteMetrics>(core->metrics.requests, core->metrics.durations, "none", "any");
  }

  result<void> listen(const std::string& address, std::uint32_t threads);
  void on_connected(const std::shared_ptr<Pistache::Tcp::Peer>&);
  bool waits_for_peers() const override { return name != "internal"; }  // other servers know where else to go

  RouteMetrics& metrics_of(const Route* route) {
    if (route == nullptr) return *site_metrics.unmatched;
    std::size_t i = 0;
    for (const auto& candidate : router.routes()) {
      if (&candidate == route) break;
      ++i;
    }
    return *site_metrics.by_route[i];
  }

  std::size_t body_limit(const RawRequest& head) override {
    const auto method = method_of(head.method());
    const auto target = head.target();
    const auto match = method ? router.match(*method, target.substr(0, target.find('?'))) : Router::Match{};
    return match.route != nullptr ? match.route->max_body_bytes : core->limits.max_body_bytes;
  }
  void on_request(const std::shared_ptr<Connection>&, RawRequest) override;
  std::string refusal(ReaderErrc code) override {
    core->metrics.refused.Add({{"reason", std::string(describe(code).name)}}).Increment();
    return closing_problem(problem_of(code));
  }
  std::string timed_out() override {
    core->metrics.refused.Add({{"reason", "timeout"}}).Increment();
    return closing_problem(problem_of(Errc::request_timeout));
  }
  void on_cut(std::string_view reason) override { core->metrics.cut.Add({{"reason", std::string(reason)}}).Increment(); }
  void on_closed() override {
    core->connections.fetch_sub(1, std::memory_order_relaxed);
    connections_gauge.Decrement();
  }

  std::string closing_problem(const Problem& problem) {
    const auto id = core->new_request_id();
    const auto now = core->clock.now();
    auto bytes = to_bytes(to_response(problem, "", id), {.close = true}, now, id);
    site_metrics.unmatched->observe(problem.kind.status, 0);
    if (core->access_log != nullptr)
      core->access_log->write(to_json(AccessLine{now, name, "none", "-", problem.kind.status, 0, bytes.size(), id, {}, {}}));
    return bytes;
  }
};

namespace {

/// Whoever finishes an answer says what there is to count and to log of it.
using Finished = std::function<void(std::size_t bytes)>;

class HttpStream final : public BodyStream, public Channel, public std::enable_shared_from_this<HttpStream> {
 public:
  HttpStream(std::shared_ptr<ServerCore> core, std::shared_ptr<Connection> connection, bool chunked, bool then_close,
             std::string_view idle_piece, std::chrono::milliseconds idle, std::chrono::milliseconds most, Finished finished)
      : core_(std::move(core)),
        connection_(std::move(connection)),
        chunked_(chunked),
        then_close_(then_close),
        idle_piece_(idle_piece),
        idle_(idle),
        ends_at_(most.count() > 0 ? monotonic_ms() + most.count() : never),
        finished_(std::move(finished)) {
    set_deadline();
  }

  bool write(std::string_view piece) override {
    std::lock_guard lock(mutex_);
    if (over_) return false;
    if (piece.empty()) return true;
    std::string framed;
    if (chunked_) {
      char size[20];
      std::snprintf(size, sizeof size, "%zx\r\n", piece.size());
      framed.append(size).append(piece).append("\r\n");
      piece = framed;
    }
    bytes_ += piece.size();
    set_deadline();
    if (connection_->answer_piece(piece)) return true;
    conclude();
    return false;
  }
  std::size_t unsent() const override { return connection_->unsent(); }
  bool over() const override {
    std::lock_guard lock(mutex_);
    return over_ || connection_->gone();
  }
  void end(bool whole) override {
    std::lock_guard lock(mutex_);
    if (over_) return;
    if (!whole) connection_->cut("incomplete");
    conclude();
  }
  void on_deadline(std::int64_t now_ms) override {
    if (now_ms >= ends_at_) end(true);
    else write(idle_piece_);
  }
  void on_drain() override { end(true); }

 private:
  void set_deadline() { deadline_ms.store(std::min(monotonic_ms() + idle_.count(), ends_at_), std::memory_order_relaxed); }
  void conclude() {
    over_ = true;
    deadline_ms.store(never, std::memory_order_relaxed);
    connection_->answer(chunked_ ? "0\r\n\r\n" : "", then_close_ || core_->draining.load(std::memory_order_acquire));
    finished_(bytes_);
    core_->writer->remove(*this);
  }

  const std::shared_ptr<ServerCore> core_;
  const std::shared_ptr<Connection> connection_;
  const bool chunked_, then_close_;
  const std::string_view idle_piece_;
  const std::chrono::milliseconds idle_;
  const std::int64_t ends_at_;
  const Finished finished_;
  mutable std::mutex mutex_;
  std::size_t bytes_ = 0;
  bool over_ = false;
};

class HttpExchange final : public Exchange, public std::enable_shared_from_this<HttpExchange> {
 public:
  HttpExchange(std::shared_ptr<ServerCore> core, std::shared_ptr<ListeningSite> site, std::shared_ptr<Connection> connection,
               RawRequest raw)
      : core_(std::move(core)),
        site_(std::move(site)),
        connection_(std::move(connection)),
        began_(std::chrono::steady_clock::now()) {
    request_.raw = std::move(raw);
  }
  ~HttpExchange() override {
    if (!answered_.load(std::memory_order_acquire)) fail(problem_of(Errc::internal));
  }

  Request& mutable_request() { return request_; }

  void send(Response response) override { send(std::move(response), false); }
  bool passed_on(const Failure& failure) override {
    return core_->hooks.pass_on && core_->hooks.pass_on(shared_from_this(), failure);
  }

  /// `of_stream`: only a stream's head is wanted; its body has no length that could be told.
  void send(Response response, bool of_stream) {
    ONBOARDING_ASSERT(!answered_.exchange(true, std::memory_order_acq_rel), "a request is answered once");
    if (core_->stopped.load(std::memory_order_acquire)) {
      connection_->answer({}, true);
      core_->in_flight.fetch_sub(1, std::memory_order_release);
      return;
    }
    if (core_->hooks.decorate) core_->hooks.decorate(request_, response);
    const bool close = closes();
    auto bytes = to_bytes(
        response,
        {.head_only = request_.method == Method::head, .http10 = request_.raw.http10, .close = close, .stream = of_stream},
        core_->clock.now(), request_.request_id);
    const auto size = bytes.size();
    const auto elapsed = count(response.status);
    connection_->answer(bytes, close);
    log(response.status, elapsed, size);
    core_->in_flight.fetch_sub(1, std::memory_order_release);
  }

  std::shared_ptr<BodyStream> begin_stream(Response head, std::string_view idle_piece, std::chrono::milliseconds idle,
                                           std::chrono::milliseconds most) override {
    if (request_.method == Method::head || core_->stopped.load(std::memory_order_acquire))
      return send(std::move(head), true), nullptr;
    auto client = throttle_key(request_.client);
    if (const auto full = core_->take_stream(client)) {
      auto problem = problem_of(*full, *full == Errc::throttled ? "As many streams are open from this address as may be." : "");
      problem.kind.retry_after_seconds = 5;
      return fail(problem), nullptr;
    }
    ONBOARDING_ASSERT(!answered_.exchange(true, std::memory_order_acq_rel), "a request is answered once");
    if (core_->hooks.decorate) core_->hooks.decorate(request_, head);
    // HTTP/1.0 knows the end of such a body by the connection's.
    const bool chunked = !request_.raw.http10, close = closes() || !chunked;
    const auto bytes =
        to_bytes(head, {.http10 = !chunked, .close = close, .stream = true}, core_->clock.now(), request_.request_id);
    count(head.status);
    auto stream = std::make_shared<HttpStream>(
        core_, connection_, chunked, close, idle_piece, idle, most,
        [self = shared_from_this(), client = std::move(client), status = head.status](std::size_t size) {
          self->core_->leave_stream(client);
          self->log(status, std::chrono::steady_clock::now() - self->began_, size);
        });
    connection_->answer_piece(bytes);
    core_->writer->add(stream);
    core_->in_flight.fetch_sub(1, std::memory_order_release);
    if (core_->draining.load(std::memory_order_acquire)) stream->end(true);  // whoever drains may not have seen it
    return stream;
  }

 private:
  using Elapsed = std::chrono::steady_clock::duration;

  bool closes() const { return !request_.raw.keep_alive || core_->draining.load(std::memory_order_acquire); }
  Elapsed count(int status) {
    const auto elapsed = std::chrono::steady_clock::now() - began_;
    site_->metrics_of(request_.route).observe(status, std::chrono::duration<double>(elapsed).count());
    core_->metrics.in_flight.Decrement();
    return elapsed;
  }
  void log(int status, Elapsed elapsed, std::size_t bytes) const {
    if (core_->access_log == nullptr) return;
    core_->access_log->write(to_json(
        AccessLine{core_->clock.now(), site_->name, request_.route != nullptr ? std::string_view(request_.route->path) : "none",
                   to_string(request_.method), status, std::chrono::duration_cast<std::chrono::microseconds>(elapsed).count(),
                   bytes, request_.request_id, session_id_, turn_id_}));
  }

  std::shared_ptr<ServerCore> core_;
  std::shared_ptr<ListeningSite> site_;
  std::shared_ptr<Connection> connection_;
  const std::chrono::steady_clock::time_point began_;
  std::atomic<bool> answered_{false};
};

/// What Pistache keeps per connection. It demands a parser of its own kind; this one is never fed (its idle check only
/// looks at it), requests are parsed by fresh ones.
struct PeerState final : Pistache::Http::RequestParser {
  explicit PeerState(std::shared_ptr<Connection> c) : Pistache::Http::RequestParser(1), connection(std::move(c)) {}
  std::shared_ptr<Connection> connection;  // null: turned away for want of a descriptor
};

}  // namespace

void ListeningSite::on_connected(const std::shared_ptr<Pistache::Tcp::Peer>& peer) {
  const int fd = ::fcntl(peer->fd(), F_DUPFD_CLOEXEC, core->descriptor_base);
  const bool room = core->connections.fetch_add(1, std::memory_order_relaxed) < core->limits.max_connections;
  if (fd < 0) {
    core->connections.fetch_sub(1, std::memory_order_relaxed);
    core->metrics.turned_away.Add({{"reason", "descriptors"}}).Increment();
    ::shutdown(peer->fd(), SHUT_RDWR);
    peer->putData(Pistache::Http::Handler::ParserData, std::make_shared<PeerState>(nullptr));
    return;
  }
  connections_gauge.Increment();
  auto connection = std::make_shared<Connection>(fd, peer->address().host(), *core->writer, core->limits, *this);
  core->writer->add(connection);
  peer->putData(Pistache::Http::Handler::ParserData, std::make_shared<PeerState>(connection));
  if (!room) {
    core->metrics.turned_away.Add({{"reason", "connections"}}).Increment();
    connection->turn_away(closing_problem(problem_of(Errc::too_many_connections)));
  }
}

void ListeningSite::on_request(const std::shared_ptr<Connection>& connection, RawRequest raw) {
  auto exchange = std::make_shared<HttpExchange>(core, shared_from_this(), connection, std::move(raw));
  auto& request = exchange->mutable_request();
  core->in_flight.fetch_add(1, std::memory_order_acq_rel);
  core->metrics.in_flight.Increment();

  const auto asked_id = request.header("x-request-id");
  request.request_id = asked_id && is_request_id(*asked_id) ? std::string(*asked_id) : core->new_request_id();
  const auto trace = request.header("traceparent");
  if (trace && is_traceparent(*trace)) request.traceparent = *trace;
  request.client = core->hooks.client_of ? core->hooks.client_of(connection->client(), request.raw) : connection->client();

  const auto target = request.raw.target();
  const auto question_mark = std::min(target.find('?'), target.size());
  request.path = target.substr(0, question_mark);
  if (!method_of(request.raw.method())) return exchange->fail(Errc::not_implemented);

  // Pistache's parser gets what our reader understood, normalised: nothing is left in it to be misunderstood.
  std::string normalised;
  normalised.reserve(request.path.size() + request.raw.body.size() + 64);
  normalised.append(request.raw.method()).append(" ").append(request.path).append(" HTTP/1.1\r\n");
  if (!request.raw.body.empty())
    normalised.append("Content-Length: ").append(std::to_string(request.raw.body.size())).append("\r\n");
  normalised.append("\r\n").append(request.raw.body);
  try {
    Pistache::Http::RequestParser parser(normalised.size() + 1);
    if (!parser.feed(normalised.data(), normalised.size()) || parser.parse() != Pistache::Http::Private::State::Done)
      return exchange->fail(Errc::internal);
    const Pistache::Http::Request& parsed = parser.request;
    const auto method = from_pistache(parsed.method());
    if (!method) return exchange->fail(Errc::not_implemented);
    request.method = *method;
    request.path = parsed.resource();
    request.raw.body = parsed.body();
  } catch (const std::exception&) { return exchange->fail(Errc::internal); }

  auto match = router.match(request.method, request.path);
  request.route = match.route;
  request.parameters = std::move(match.parameters);
  if (core->draining.load(std::memory_order_acquire) && (request.route == nullptr || !request.route->while_draining))
    return exchange->fail(Errc::draining);
  if (core->in_flight.load(std::memory_order_relaxed) > core->limits.max_in_flight) {
    core->metrics.turned_away.Add({{"reason", "requests"}}).Increment();
    return exchange->fail(Errc::overloaded);
  }
  if (match.malformed) return exchange->fail(Errc::malformed_request, "The path is not well-formed.");
  if (request.method == Method::options && (!match.allowed.empty() || request.path == "*")) {
    Response response;
    response.status = 204;
    response.with("Allow", match.allowed.empty() ? "GET, HEAD, POST, OPTIONS" : match.allowed);
    return exchange->send(std::move(response));
  }
  if (request.route == nullptr) {
    if (match.allowed.empty()) return exchange->fail(Errc::not_found);
    auto response = to_response(problem_of(Errc::method_not_allowed), request.path, request.request_id);
    response.with("Allow", std::move(match.allowed));
    return exchange->send(std::move(response));
  }
  auto query = question_mark < target.size() ? parse_query(target.substr(question_mark + 1))
                                             : std::vector<std::pair<std::string, std::string>>();
  if (!query) return exchange->fail(Errc::malformed_request, "The query is not well-formed.");
  request.query = std::move(*query);
  const Responder responder = exchange;
  if (core->hooks.admit && !core->hooks.admit(responder)) return;
  try {
    request.route->handler(responder);
  } catch (const std::exception&) {
    // A handler lets no exception out; should one come nevertheless, letting go of the exchange answers 500.
  }
}

namespace {

/// Pistache's view of us. It clones one per worker.
class Guard final : public Pistache::Http::Handler {
  HTTP_PROTOTYPE(Guard)
 public:
  explicit Guard(ListeningSite& site) : site_(&site) {}
  void onRequest(const Pistache::Http::Request&, Pistache::Http::ResponseWriter) override {}  // never: onInput is ours

 private:
  static Connection* connection_of(const std::shared_ptr<Pistache::Tcp::Peer>& peer) {
    return static_cast<PeerState&>(*getParser(peer)).connection.get();
  }
  void onConnection(const std::shared_ptr<Pistache::Tcp::Peer>& peer) override { site_->on_connected(peer); }
  void onInput(const char* bytes, size_t length, const std::shared_ptr<Pistache::Tcp::Peer>& peer) override {
    if (auto* connection = connection_of(peer)) connection->on_bytes({bytes, length});
  }
  void onDisconnection(const std::shared_ptr<Pistache::Tcp::Peer>& peer) override {
    if (auto* connection = connection_of(peer)) connection->on_peer_gone();
  }

  ListeningSite* site_;
};

struct HostPort {
  std::string host;
  std::uint16_t port = 0;
};

std::optional<HostPort> parse_address(const std::string& text) {
  const auto colon = text.rfind(':');
  if (colon == text.npos || colon + 1 == text.size() || text.find_first_not_of("0123456789", colon + 1) != text.npos ||
      text.size() - colon > 6)
    return std::nullopt;
  const auto port = std::stoul(text.substr(colon + 1));
  auto host = text.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  if (host == "localhost") host = "127.0.0.1";
  in6_addr scratch{};
  if (port > 65'535 || (::inet_pton(AF_INET, host.c_str(), &scratch) != 1 && ::inet_pton(AF_INET6, host.c_str(), &scratch) != 1))
    return std::nullopt;
  return HostPort{host, static_cast<std::uint16_t>(port)};
}

/// Pistache keeps its listening socket to itself: found by what it is, a socket that accepts on this port.
int find_listening_socket(std::uint16_t port) {
  DIR* folder = ::opendir("/proc/self/fd");
  if (folder == nullptr) return -1;
  int found = -1;
  while (const dirent* entry = ::readdir(folder)) {  // NOLINT(concurrency-mt-unsafe): a stream of our own
    const int fd = std::atoi(entry->d_name);
    int accepts = 0;
    socklen_t length = sizeof accepts;
    if (fd <= 2 || ::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &length) != 0 || accepts == 0) continue;
    sockaddr_storage address{};
    length = sizeof address;
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) continue;
    const auto bound = address.ss_family == AF_INET ? reinterpret_cast<sockaddr_in&>(address).sin_port
                                                    : reinterpret_cast<sockaddr_in6&>(address).sin6_port;
    if (ntohs(bound) == port) found = fd;
  }
  ::closedir(folder);
  return found;
}

}  // namespace

result<void> ListeningSite::listen(const std::string& address, std::uint32_t threads) {
  const auto parsed = parse_address(address);
  if (!parsed)
    return failure(std::make_error_code(std::errc::invalid_argument), "listen address of the " + name + " listener: " + address);
  try {
    using Pistache::Tcp::Options;
    const Pistache::Address where(parsed->host.find(':') != std::string::npos ? "[" + parsed->host + "]" : parsed->host,
                                  Pistache::Port(parsed->port));
    endpoint = std::make_unique<Pistache::Http::Endpoint>(where);
    constexpr auto for_ever = std::chrono::hours(24 * 20);  // its time-outs would cut deferred answers; ours hold
    endpoint->init(Pistache::Http::Endpoint::options()
                       .threads(static_cast<int>(threads))
                       .threadsName("http-" + name)
                       .flags(Pistache::Flags<Options>(Options::ReuseAddr) | Options::NoDelay | Options::CloseOnExec)
                       .headerTimeout(for_ever)
                       .bodyTimeout(for_ever)
                       .keepaliveTimeout(for_ever));
    endpoint->setHandler(std::make_shared<Guard>(*this));
    char own_name[16] = {};
    ::pthread_getname_np(::pthread_self(), own_name, sizeof own_name);
    ::pthread_setname_np(::pthread_self(), "http-accept");  // Pistache names its workers, not this one: it inherits
    try {
      endpoint->serveThreaded();
    } catch (...) {
      ::pthread_setname_np(::pthread_self(), own_name);
      throw;
    }
    ::pthread_setname_np(::pthread_self(), own_name);
    port = endpoint->getPort();
  } catch (const std::exception& error) {
    endpoint.reset();
    const std::string_view why = error.what();
    const auto key = name == "public" ? "http.listen" : name == "internal" ? "cluster.listen" : "http." + name + "_listen";
    if (why.find("already in use") != why.npos)
      return failure(std::make_error_code(std::errc::address_in_use),
                     address + " (" + key + "): another program listens there; stop it, or choose another port");
    return failure(std::make_error_code(std::errc::address_not_available), address + " (" + key + "): " + error.what());
  }
  listen_fd = find_listening_socket(port);
  if (listen_fd >= 0) ::listen(listen_fd, 4'096);  // Pistache asks for 128, too few for a thousand clients that come at once
  return {};
}

Server::Server() = default;
Server::~Server() { stop(); }

result<std::unique_ptr<Server>> Server::start(std::vector<Site> sites, HttpLimits limits, ServerHooks hooks,
                                              prometheus::Registry& registry, const Clock& clock, RandomSource& random,
                                              AccessLog* access_log, const std::function<void(const Server&)>& before_serving) {
  auto core = std::make_shared<ServerCore>(limits, std::move(hooks), registry, clock, random, access_log);
  const auto descriptors = raise_descriptor_limit();
  core->descriptor_base = static_cast<int>(descriptors / 2);
  // A connection takes one descriptor below the base and one above; below it lie files, pools and libraries too.
  const auto room = descriptors / 2 > 512 ? descriptors / 2 - 256 : descriptors / 4;
  core->limits.max_connections = std::min(core->limits.max_connections, room);
  auto writer = Writer::start();
  if (!writer) return tl::unexpected(writer.error());
  core->writer = std::move(*writer);

  std::unique_ptr<Server> server(new Server());
  server->core_ = core;
  if (before_serving) before_serving(*server);
  for (auto& site : sites) {
    const auto address = site.address;
    const auto threads = std::max<std::uint32_t>(site.threads, 1);
    server->listening_.push_back(std::make_shared<ListeningSite>(core, std::move(site)));
    if (auto listening = server->listening_.back()->listen(address, threads); !listening)
      return tl::unexpected(listening.error());
  }
  return server;
}

std::uint16_t Server::port(std::size_t site) const { return site < listening_.size() ? listening_[site]->port : 0; }

void Server::begin_drain() {
  if (!draining()) drain_began_ms_ = monotonic_ms();
  core_->draining.store(true, std::memory_order_release);
  for (const auto& channel : core_->writer->channels()) channel->on_drain();
}
bool Server::draining() const { return core_->draining.load(std::memory_order_acquire); }

namespace {

template <class Condition>
bool wait_until(std::chrono::milliseconds limit, std::chrono::milliseconds pause, const Condition& condition) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(pause);
  }
  return true;
}

}  // namespace

bool Server::finish_drain(std::chrono::milliseconds limit, const std::function<bool()>& hurry) {
  using std::chrono::milliseconds;
  const auto none = [this](bool (Channel::*still)() const) {
    const auto all = core_->writer->channels();
    return std::none_of(all.begin(), all.end(), [still](const auto& channel) { return ((*channel).*still)(); });
  };
  const auto answered = [&] { return core_->in_flight.load(std::memory_order_acquire) == 0 && none(&Channel::owes); };
  const auto hurried = [&] { return hurry && hurry(); };
  const auto over = [&] { return answered() || hurried(); };
  const auto begun = monotonic_ms();
  wait_until(limit, milliseconds(2), over);
  const auto left = std::min(begun + limit.count(), drain_began_ms_ + core_->limits.drain_time.count()) - monotonic_ms();
  wait_until(milliseconds(left), milliseconds(10), [&] { return none(&Channel::may_ask) || hurried(); });
  // The last of those who were refused may still be under way.
  wait_until(milliseconds(begun + limit.count() - monotonic_ms()), milliseconds(2), over);
  return answered();
}

void Server::stop() {
  if (stopped_ || !core_) return;
  stopped_ = true;
  constexpr std::chrono::milliseconds grace{250}, patience{2'500}, pause{2};
  if (!draining()) {
    begin_drain();
    finish_drain(grace, {});
  }
  for (const auto& channel : core_->writer->channels()) channel->close_when_idle();
  wait_until(patience, pause, [&] { return core_->connections.load(std::memory_order_relaxed) == 0; });
  core_->stopped.store(true, std::memory_order_release);
  for (const auto& channel : core_->writer->channels()) channel->cut("stopped");
  for (const auto& site : listening_) site->endpoint.reset();  // joins its threads, closes the listening socket
  for (const auto& channel : core_->writer->channels()) channel->cut("stopped");
  core_->writer->stop();
}

}  // namespace onboarding::http
