#include "http/http_server.hpp"

#include <prometheus/counter.h>
#include <prometheus/registry.h>

#include <charconv>

#include "actors/gateway.hpp"
#include "events/privacy/secrets.hpp"
#include "http/forwarder.hpp"
#include "http/openapi.hpp"
#include "http/routes/api.hpp"
#include "http/routes/exports.hpp"
#include "http/server.hpp"
#include "http/throttle.hpp"
#include "http/writer.hpp"

namespace onboarding::http {
namespace {

/// `application/json`, alone or with charset=utf-8.
bool is_json(std::optional<std::string_view> content_type) {
  if (!content_type) return false;
  std::string text;
  for (const char c : *content_type)
    if (c != ' ' && c != '\t' && c != '"') text.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c);
  return text == "application/json" || text == "application/json;charset=utf-8";
}

class OnboardingServer final : public HttpServer {
 public:
  OnboardingServer(const HttpOptions& options, const HttpPorts& ports, std::vector<AddressBlock> trusted)
      : options_(options),
        trusted_(std::move(trusted)),
        api_{ports, Authority(ports.secrets, options.operator_key), options.version, options.limits.event_stream_age, nullptr},
        starts_(options.throttle.requests_per_minute_per_ip, options.throttle.max_clients),
        messages_(options.throttle.messages_per_minute_per_ip < 0
                      ? options.throttle.requests_per_minute_per_ip
                      : static_cast<std::uint32_t>(options.throttle.messages_per_minute_per_ip),
                  options.throttle.max_clients),
        throttled_(prometheus::BuildCounter()
                       .Name("http_throttled_total")
                       .Help("Requests refused because their client asked too often")
                       .Register(ports.metrics)) {
    if (ports.peers != nullptr) forwarder_ = std::make_unique<Forwarder>(*ports.peers, options.instance_key, ports.metrics);
  }
  ~OnboardingServer() override { stop(); }

  result<void> start() {
    std::vector<Site> sites(1);
    sites[0].name = "public";
    sites[0].address = options_.listen;
    sites[0].threads = options_.threads;
    add_session_routes(sites[0].router, api_);
    add_user_routes(sites[0].router, api_);
    add_health_route(sites[0].router, api_, false);
    add_operation_routes(sites[0].router, api_, false);
    add_web_routes(sites[0].router, api_);
    if (!options_.admin_listen.empty()) {
      Site admin{"admin", options_.admin_listen, 1, {}};
      add_health_route(admin.router, api_, true);
      add_metric_routes(admin.router, api_);
      add_operation_routes(admin.router, api_, true);
      add_admin_routes(admin.router, api_);
      add_session_list_route(admin.router, api_);
      add_projection_routes(admin.router, api_);
      add_event_routes(admin.router, api_, exports_);
      add_scrape_route(admin.router, api_.ports.metrics, api_.ports.access_log);
      sites.push_back(std::move(admin));
    }
    if (!options_.internal_listen.empty()) {
      Site internal{"internal", options_.internal_listen, options_.threads, {}};
      for (const Site& site : sites)  // all that a session's or a flow's owner answers for
        for (const Route& route : site.router.routes())
          if (&site == &sites[0] || route.path.starts_with("/api/admin/flows")) internal.router.add(for_servers(route));
      sites.push_back(std::move(internal));
    }
    openapi_json();  // built now, not by the first who asks
    ServerHooks hooks;
    hooks.admit = [this](const Responder& responder) { return admit(responder); };
    if (forwarder_)
      hooks.pass_on = [this](const Responder& responder, const Failure& failure) { return pass_on(responder, failure); };
    if (!options_.cors_origins.empty())
      hooks.decorate = [this](const Request& request, Response& response) { allow_origin(request, response); };
    if (!trusted_.empty() || forwarder_)
      hooks.client_of = [this](const std::string& peer, const RawRequest& request) {
        if (is_passed_on(request)) return std::string(request.header("x-forwarded-for").value_or(peer));
        return client_behind(trusted_, peer, request.header("x-forwarded-for").value_or(""));
      };
    auto started =
        Server::start(std::move(sites), options_.limits, std::move(hooks), api_.ports.metrics, api_.ports.clock,
                      api_.ports.random, api_.ports.access_log, [this](const Server& server) { api_.server = &server; });
    if (!started) return tl::unexpected(started.error());
    server_ = std::move(*started);
    return {};
  }

  std::uint16_t port() const override { return server_->port(0); }
  std::uint16_t admin_port() const override { return options_.admin_listen.empty() ? 0 : server_->port(1); }
  std::uint16_t internal_port() const override {
    return options_.internal_listen.empty() ? 0 : server_->port(options_.admin_listen.empty() ? 1 : 2);
  }
  void begin_drain() override {
    server_->begin_drain();
    exports_.stop();
  }
  bool finish_drain(std::chrono::milliseconds limit, const std::function<bool()>& hurry) override {
    return server_->finish_drain(limit, hurry);
  }
  void stop() override {
    exports_.stop();
    if (forwarder_) forwarder_->stop();
    if (server_) server_->stop();
  }

 private:
  /// Whether another server has passed this request on: it was throttled there, and goes no further.
  bool is_passed_on(const RawRequest& request) const {
    const auto shown = request.header(Forwarder::credential_header);
    return shown && !options_.instance_key.empty() && privacy::equal_secret(*shown, options_.instance_key);
  }

  /// A public route, for other servers alone.
  Route for_servers(Route route) const {
    route.charge = Charge::none;
    route.handler = [this, handler = std::move(route.handler)](const Responder& responder) {
      if (!is_passed_on(responder->request().raw))
        return responder->fail(Errc::bad_credential, "This listener is for other servers.");
      handler(responder);
    };
    return route;
  }

  bool pass_on(const Responder& responder, const Failure& failure) {
    if (failure.code != make_error_code(GatewayErrc::owned_elsewhere) || is_passed_on(responder->request().raw)) return false;
    std::uint32_t partition = 0;
    std::from_chars(failure.detail.data(), failure.detail.data() + failure.detail.size(), partition);
    forwarder_->forward(responder, partition);
    return true;
  }

  bool admit(const Responder& responder) {
    const auto& request = responder->request();
    const auto& route = *request.route;
    if ((route.body == Body::json || (route.body == Body::optional_json && !request.raw.body.empty())) &&
        !is_json(request.header("content-type"))) {
      responder->fail(Errc::unsupported_media_type);
      return false;
    }
    if (const auto coding = request.header("content-encoding"); coding && !request.raw.body.empty() && *coding != "identity") {
      auto problem = problem_of(Errc::unsupported_media_type, "A body is taken as it is, without a Content-Encoding.");
      problem.headers = {{"Accept-Encoding", "identity"}};
      responder->fail(problem);
      return false;
    }
    if (route.charge == Charge::none) return true;
    if (request.header("authorization") && api_.authority.is_operator(request)) return true;
    auto& throttle = route.charge == Charge::start ? starts_ : messages_;
    const auto verdict = throttle.take(throttle_key(request.client), monotonic_ms());
    if (verdict.admitted) return true;
    throttled_.Add({{"route", route.path}}).Increment();
    auto problem = problem_of(Errc::throttled);
    problem.kind.retry_after_seconds = std::max(verdict.reset_seconds, 1U);
    problem.headers = {{"RateLimit-Limit", std::to_string(verdict.limit)},
                       {"RateLimit-Remaining", "0"},
                       {"RateLimit-Reset", std::to_string(verdict.reset_seconds)}};
    responder->fail(problem);
    return false;
  }

  void allow_origin(const Request& request, Response& response) const {
    response.with("Vary", "Origin");
    const auto origin = request.header("origin");
    if (!origin || std::find(options_.cors_origins.begin(), options_.cors_origins.end(), *origin) == options_.cors_origins.end())
      return;
    response.with("Access-Control-Allow-Origin", std::string(*origin));
    response.with("Access-Control-Expose-Headers",
                  "Location, Retry-After, ETag, X-Request-Id, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset");
    if (request.method != Method::options) return;
    response.with("Access-Control-Allow-Methods", "GET, POST, DELETE");
    response.with("Access-Control-Allow-Headers",
                  "Authorization, Content-Type, Idempotency-Key, If-None-Match, Prefer, Traceparent, X-Request-Id");
    response.with("Access-Control-Max-Age", "600");
  }

  const HttpOptions options_;
  const std::vector<AddressBlock> trusted_;
  Api api_;
  Throttle starts_, messages_;
  prometheus::Family<prometheus::Counter>& throttled_;
  Exports exports_;
  std::unique_ptr<Forwarder> forwarder_;
  std::unique_ptr<Server> server_;
};

}  // namespace

result<std::unique_ptr<HttpServer>> start_http(const HttpOptions& options, const HttpPorts& ports) {
  std::vector<AddressBlock> trusted;
  for (const auto& text : options.throttle.trusted_proxies) {
    const auto block = AddressBlock::parse(text);
    if (!block) return failure(std::make_error_code(std::errc::invalid_argument), "trusted proxy: " + text);
    trusted.push_back(*block);
  }
  auto server = std::make_unique<OnboardingServer>(options, ports, std::move(trusted));
  if (auto started = server->start(); !started) return tl::unexpected(started.error());
  return server;
}

}  // namespace onboarding::http
