// What a process that only follows the log tells of itself: /livez, /readyz and /metrics, on a listener of its own.
#pragma once

#include <memory>
#include <string>

#include "http/http_server.hpp"

namespace onboarding::http {

struct OpsPorts {
  projections::Queries& queries;
  prometheus::Registry& metrics;
  const Clock& clock;
  RandomSource& random;
};

/// Everybody who reaches the listener may ask, as on the admin one; every other path is 404. Ready is who reaches PostgreSQL: the
/// read models are all that such a process is for. Errors as those of start_http.
result<std::unique_ptr<HttpServer>> start_ops(const std::string& listen, const OpsPorts&);

}  // namespace onboarding::http
