// What the HTTP layer costs by itself: an empty handler behind our guard, and behind Pistache as it comes, for
// comparison in the same run. Prints the ports and serves until standard input closes:
//   bench_http [threads]   then   wrk -t2 -c32 -d5s http://127.0.0.1:<port>/empty
#include <pistache/endpoint.h>
#include <prometheus/registry.h>
#include <spdlog/sinks/null_sink.h>

#include <cstdio>
#include <string>

#include "events/clock.hpp"
#include "http/server.hpp"

namespace {

class EmptyPistache final : public Pistache::Http::Handler {
  HTTP_PROTOTYPE(EmptyPistache)
  void onRequest(const Pistache::Http::Request&, Pistache::Http::ResponseWriter response) override {
    response.send(Pistache::Http::Code::Ok, "{}");
  }
};

}  // namespace

int main(int argc, char** argv) {
  using namespace onboarding;
  const auto threads = static_cast<std::uint32_t>(argc > 1 ? std::stoul(argv[1]) : 2);
  prometheus::Registry registry;
  const auto access_log = http::make_access_log(std::make_shared<spdlog::sinks::null_sink_mt>());

  http::Site site{"bench", "127.0.0.1:0", threads, {}};
  site.router.add({.method = http::Method::get, .path = "/empty", .handler = [](const http::Responder& responder) {
                     http::Response response;
                     response.body = "{}";
                     responder->send(std::move(response));
                   }});
  std::vector<http::Site> sites;
  sites.push_back(std::move(site));
  const auto server = http::Server::start(std::move(sites), {}, {}, registry, system_clock(), system_random(), access_log.get());
  if (!server) return std::fprintf(stderr, "%s\n", server.error().message().c_str()), 1;

  Pistache::Http::Endpoint bare(Pistache::Address("127.0.0.1", Pistache::Port(0)));
  bare.init(Pistache::Http::Endpoint::options().threads(static_cast<int>(threads)).flags(Pistache::Tcp::Options::ReuseAddr));
  bare.setHandler(std::make_shared<EmptyPistache>());
  bare.serveThreaded();

  std::printf("guarded %d\npistache %d\n", (*server)->port(0), static_cast<int>(static_cast<std::uint16_t>(bare.getPort())));
  std::fflush(stdout);
  while (std::getchar() != EOF) {}
  (*server)->stop();
  bare.shutdown();
  return 0;
}
