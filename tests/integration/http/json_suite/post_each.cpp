// Reads lines `name TAB hex` and posts each text as a message to a running server: what is no JSON is 400, what is JSON and no message
// is 400 or 422, nothing is a 5xx, and one connection bears them all. What exactly is JSON here is the codec's test.
#include <prometheus/registry.h>

#include <cstdio>
#include <iostream>

#include "http/http_server.hpp"
#include "tests/integration/http/client.hpp"
#include "tests/integration/http/fakes.hpp"

int main() {
  using namespace onboarding;
  const auto secrets = privacy::Secrets::from_bytes({1});
  http::testing::FakeGateway gateway(secrets);
  http::testing::FakeQueries queries;
  http::testing::FakeLog log;
  prometheus::Registry registry;
  http::HttpOptions options;
  options.listen = "127.0.0.1:0";
  options.admin_listen = "";
  options.throttle.requests_per_minute_per_ip = 0;
  const auto server = http::start_http(
      options, http::HttpPorts{gateway, queries, secrets, log, registry, system_clock(), system_random(), {}, nullptr});
  if (!server) return std::printf("%s\n", server.error().message().c_str()), 1;

  const auto id = make_session_id(7, "0123456789abcdef");
  const auto token = secrets.session_token(id, 1);
  http::testing::Client client((*server)->port());
  int passed = 0, failed = 0;
  for (std::string line; std::getline(std::cin, line);) {
    const auto tab = line.find('\t');
    const auto name = line.substr(0, tab), hex = line.substr(tab + 1);
    std::string body;
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2) body += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
    if (body.size() > 64 * 1024) continue;  // 413 by the head; its body would be the next request
    client.say("POST /api/onboarding/sessions/" + id + "/messages HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + token +
               "\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
    const auto answer = client.hear();
    // The package keeps its inputs as JavaScript strings: some of n_ that were not UTF-8 are JSON by now.
    const bool may_be_json = name[0] != 'n' || body.find("\xEF\xBF\xBD") != body.npos || body.empty();
    const bool good = answer.status == 400 || (may_be_json && answer.status == 422) || answer.status == 413;
    good ? ++passed : ++failed;
    if (!good) std::printf("%s: %d %s\n", name.c_str(), answer.status, answer.body.c_str());
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 && passed > 200 ? 0 : 1;
}
