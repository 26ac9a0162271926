#include "http/ops_server.hpp"

#include "http/routes/api.hpp"
#include "http/routes/standing.hpp"
#include "http/server.hpp"

namespace onboarding::http {
namespace {

void ready(const projections::Queries& queries, const Responder& responder) {
  const auto database = queries.database();
  const bool verbose = responder->request().query_value("verbose") != nullptr;
  Response response;
  if (verbose) {
    response = json_response(200, [&](JsonWriter& w) {
      write_member(w, "ready", database.reachable);
      write_member(w, "database", database.reachable ? "ok" : "down");
      if (!database.detail.empty()) write_member(w, "detail", database.detail);
      write_standings(w, queries.projections(), true);
    });
  } else {
    response.body = database.reachable ? "ready\n" : "PostgreSQL cannot be reached\n";
    response.content_type = media::text;
  }
  if (!database.reachable) {
    response.status = 503;
    response.with("Retry-After", "1");
  }
  responder->send(std::move(response));
}

class OpsServer final : public HttpServer {
 public:
  explicit OpsServer(std::unique_ptr<Server> server) : server_(std::move(server)) {}
  ~OpsServer() override { stop(); }
  std::uint16_t port() const override { return server_->port(0); }
  std::uint16_t admin_port() const override { return 0; }
  std::uint16_t internal_port() const override { return 0; }
  void begin_drain() override { server_->begin_drain(); }
  bool finish_drain(std::chrono::milliseconds limit, const std::function<bool()>& hurry) override {
    return server_->finish_drain(limit, hurry);
  }
  void stop() override { server_->stop(); }

 private:
  const std::unique_ptr<Server> server_;
};

}  // namespace

result<std::unique_ptr<HttpServer>> start_ops(const std::string& listen, const OpsPorts& ports) {
  std::vector<Site> sites;
  sites.push_back({"ops", listen, 1, {}});
  Router& router = sites[0].router;
  add_alive_route(router);
  add_scrape_route(router, ports.metrics, nullptr);
  router.add({.method = Method::get, .path = "/readyz", .handler = [&queries = ports.queries](const Responder& responder) {
                ready(queries, responder);
              }});
  auto server = Server::start(std::move(sites), {}, {}, ports.metrics, ports.clock, ports.random, nullptr);
  if (!server) return tl::unexpected(server.error());
  return std::make_unique<OpsServer>(std::move(*server));
}

}  // namespace onboarding::http
