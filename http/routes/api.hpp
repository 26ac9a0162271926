// What the routes have in common: the ports they answer from, and the tables they register in.
#pragma once

#include <atomic>
#include <chrono>
#include <string>

#include "http/auth.hpp"
#include "http/http_server.hpp"
#include "http/router.hpp"

namespace onboarding::http {

class Server;

/// Outlives every request. `server` is set once it runs, before the first request can ask for it.
struct Api {
  HttpPorts ports;
  Authority authority;
  std::string version;
  std::chrono::milliseconds event_stream_age{0};  // 0: for ever
  std::atomic<const Server*> server{nullptr};
};

void add_session_routes(Router&, Api&);      // /api/onboarding/…
void add_user_routes(Router&, Api&);         // /api/users/…
void add_session_list_route(Router&, Api&);  // /api/admin/sessions, admin
// `details`: what the database said is told to everybody; otherwise to whoever shows the operator key.
void add_health_route(Router&, Api&, bool details);                       // /api/metrics/health
void add_metric_routes(Router&, Api&);                                    // /api/metrics/…, admin
void add_operation_routes(Router&, Api&, bool details);                   // /livez, /readyz, /openapi.json, /docs
void add_admin_routes(Router&, Api&);                                     // /api/admin/…, admin
void add_projection_routes(Router&, Api&);                                // /api/admin/projections/…, admin
void add_alive_route(Router&);                                            // /livez
void add_scrape_route(Router&, prometheus::Registry&, const AccessLog*);  // /metrics, admin
void add_web_routes(Router&, Api&);                                       // the chat page
}  // namespace onboarding::http
