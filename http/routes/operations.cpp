// What operators, balancers and developers ask: alive, ready, metrics, the contract and its page; and the chat page's files.
#include <prometheus/gauge.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include "events/log/event_log.hpp"
#include "http/openapi.hpp"
#include "http/routes/api.hpp"
#include "http/routes/assets.hpp"
#include "http/routes/standing.hpp"
#include "http/server.hpp"

namespace onboarding::http {
namespace {

constexpr std::string_view page_policy =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'; "
    "frame-ancestors 'none'";

void add_file(Router& router, std::string path, std::string_view file, std::string_view content_type) {
  router.add({.method = Method::get, .path = std::move(path), .handler = [file, content_type](const Responder& responder) {
                Response response;
                response.body = asset(file);
                response.content_type = content_type;
                response.cache_control = "no-cache";  // a new release is seen at once
                response.content_security_policy = page_policy;
                responder->send(std::move(response));
              }});
}

constexpr std::string_view html = "text/html; charset=utf-8", script = "text/javascript; charset=utf-8",
                           style = "text/css; charset=utf-8";

void alive(const Responder& responder) {
  Response response;
  response.body = "ok\n";
  response.content_type = media::text;
  responder->send(std::move(response));
}

/// Ready: the log and the keys can be written and we are not draining. PostgreSQL does not count.
void ready(Api& api, const Responder& responder, bool details) {
  const bool draining = api.server.load()->draining();
  const auto writable = api.ports.log.writable();
  const Peers* const peers = api.ports.peers;
  std::string not_ready = draining ? "draining" : peers != nullptr ? peers->not_ready() : "";
  if (not_ready.empty() && api.ports.health) not_ready = api.ports.health().not_ready;
  const bool is_ready = writable && not_ready.empty();
  if (responder->request().query_value("verbose") == nullptr) {
    Response response;
    response.status = is_ready ? 200 : 503;
    response.body = is_ready ? "ready\n" : not_ready.empty() ? "the log cannot be written\n" : not_ready + "\n";
    response.content_type = media::text;
    if (!is_ready) response.with("Retry-After", "1");
    return responder->send(std::move(response));
  }
  const auto database = api.ports.queries.database();
  auto response = json_response(is_ready ? 200 : 503, [&](JsonWriter& w) {
    write_member(w, "ready", is_ready);
    write_member(w, "draining", draining);
    if (peers != nullptr) {
      write_member(w, "partitions", api.ports.log.partitions());
      write_member(w, "partitions_owned", peers->owned());
    }
    write_member(w, "event_log", writable ? "ok" : "not_writable");
    if (!not_ready.empty()) write_member(w, "because", not_ready);
    write_member(w, "database", database.reachable ? "ok" : "down");
    write_standings(w, api.ports.queries.projections(), details || api.authority.is_operator(responder->request()));
  });
  if (!is_ready) response.with("Retry-After", "1");
  responder->send(std::move(response));
}

}  // namespace

void add_alive_route(Router& router) {
  router.add({.method = Method::get, .path = "/livez", .handler = alive, .while_draining = true});
}

void add_operation_routes(Router& router, Api& api, bool details) {
  add_alive_route(router);
  router.add({.method = Method::get,
              .path = "/readyz",
              .handler = [&api, details](const Responder& r) { ready(api, r, details); },
              .while_draining = true});
  router.add({.method = Method::get, .path = "/openapi.json", .handler = [](const Responder& responder) {
                Response response;
                response.body = openapi_json();
                response.cache_control = "no-cache";
                responder->send(std::move(response));
              }});
  add_file(router, "/docs", "docs.html", html);
  add_file(router, "/web/docs.js", "docs.js", script);
  add_file(router, "/web/docs.css", "docs.css", style);
}

void add_scrape_route(Router& router, prometheus::Registry& metrics, const AccessLog* access_log) {
  router.add({.method = Method::get,
              .path = "/metrics",
              .handler =
                  [&metrics, access_log](const Responder& responder) {
                    if (access_log != nullptr) {
                      auto& dropped = prometheus::BuildGauge()
                                          .Name("log_lines_dropped")
                                          .Help("Access log lines lost because they came too fast")
                                          .Register(metrics)
                                          .Add({});
                      dropped.Set(static_cast<double>(access_log->dropped()));
                    }
                    Response response;
                    response.body = prometheus::TextSerializer().Serialize(metrics.Collect());
                    response.content_type = "text/plain; version=0.0.4; charset=utf-8";
                    responder->send(std::move(response));
                  },
              .while_draining = true});
}

void add_web_routes(Router& router, Api&) {
  add_file(router, "/", "index.html", html);
  add_file(router, "/web/chat.js", "chat.js", script);
  add_file(router, "/web/chat.css", "chat.css", style);
}

}  // namespace onboarding::http
