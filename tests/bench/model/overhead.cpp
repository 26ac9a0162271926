// What the supervisor adds to an extraction, in process: from the request to the outcome, less the model's own time (a
// client that answers at once; the offline extractor, timed alone beside it). With a port of bench_provider also over HTTP,
// through the client that speaks to OpenAI, less the time that the provider says it took.
// Run: bench_model [extractions] [in flight] [port]
#include <caf/all.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <thread>
#include <vector>

#include "actors/model/providers/client.hpp"
#include "actors/model/providers/curl_loop.hpp"
#include "actors/model/supervisor.hpp"
#include "actors/session/gateway.hpp"
#include "events/clock.hpp"
#include "tests/bench/system/lines.hpp"
#include "tests/bench/system/reply.hpp"

namespace {

using namespace onboarding;
using namespace onboarding::model;
using SteadyClock = std::chrono::steady_clock;

class InstantClient final : public ProviderClient {
 public:
  void call(const Prompt&, std::chrono::milliseconds, TextSink, std::function<void(CallResult)> done) override {
    CallResult r;
    r.answer =
        R"({"reply":"Thank you, Ann. What is your e-mail address?","fields":{"full_name":"Ann Example","email":null},"asks":["email"]})";
    r.usage.input_tokens = 900;
    r.usage.output_tokens = 40;
    r.was_sent = true;
    done(std::move(r));
  }
};

// Asks on each tick; ends by itself with the last answer.
caf::behavior pacer(caf::event_based_actor* self, caf::actor supervisor, RequestPtr request, std::size_t count,
                    std::shared_ptr<std::vector<double>> took_us) {
  return {[=](std::int64_t sent_ns) {
    self->request(supervisor, caf::infinite, extract_atom::value, request).then([=](const OutcomePtr& outcome) {
      const auto told_us = outcome->answer ? bench::told_delay_us(outcome->answer->reply) : 0;
      took_us->push_back(static_cast<double>(SteadyClock::now().time_since_epoch().count() - sent_ns) / 1e3 -
                         static_cast<double>(told_us));
      if (took_us->size() == count) self->quit();
    });
  }};
}

std::shared_ptr<ExtractionRequest> make_request() {
  auto r = std::make_shared<ExtractionRequest>();
  r->turn_id = "trn_bench";
  r->locale = "en";
  r->user_key = "bench";
  r->flow = std::shared_ptr<const domain::Flow>(&domain::default_flow(), [](auto*) {});
  r->missing = {"full_name", "email", "company", "role", "team_size", "goal"};
  r->asked = {"full_name"};
  r->message = bench::line(0, 1).text;
  r->deadline = system_clock().now() + std::chrono::hours(1);
  return r;
}

double cpu_seconds() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

// Keeps `in_flight` extractions open until `count` have been answered.
void driver(caf::event_based_actor* self, caf::actor supervisor, RequestPtr request, std::size_t count,
            std::shared_ptr<std::vector<double>> took_us) {
  const auto started = SteadyClock::now();
  self->request(supervisor, caf::infinite, extract_atom::value, request).then([=](const OutcomePtr&) {
    took_us->push_back(std::chrono::duration<double, std::micro>(SteadyClock::now() - started).count());
    if (count > 1) driver(self, supervisor, request, count - 1, took_us);
  });
}

void measure(const char* name, bool network, std::size_t count, std::size_t in_flight) {
  caf::actor_system_config config;
  session::configure(config);
  SupervisorOptions options;
  options.clock = &system_clock();
  options.random = &system_random();
  if (network) {
    ProviderSettings s;
    s.name = "openai";
    s.enabled = true;
    s.weight = 1;
    options.providers = {s};
    options.clients = {std::make_shared<InstantClient>()};
  }
  std::vector<std::shared_ptr<std::vector<double>>> took;
  const auto cpu = cpu_seconds();
  const auto started = SteadyClock::now();
  {
    caf::actor_system system(config);
    const auto supervisor = spawn_supervisor(system, options);
    {
      caf::scoped_actor self(system);
      std::vector<caf::actor> drivers;
      for (std::size_t i = 0; i < in_flight; ++i) {
        took.push_back(std::make_shared<std::vector<double>>());
        drivers.push_back(self->spawn(driver, supervisor, RequestPtr(make_request()), count / in_flight, took.back()));
      }
      self->wait_for(drivers);
    }
    caf::anon_send_exit(supervisor, caf::exit_reason::user_shutdown);
  }
  const auto seconds = std::chrono::duration<double>(SteadyClock::now() - started).count();
  std::vector<double> all;
  for (const auto& t : took) all.insert(all.end(), t->begin(), t->end());
  std::sort(all.begin(), all.end());
  const auto at = [&](double q) { return all[static_cast<std::size_t>(q * static_cast<double>(all.size() - 1))]; };
  std::printf("%-10s in flight %4zu: %8.0f/s  cpu %6.2f us each  p50 %8.1f us  p99 %8.1f us\n", name, in_flight,
              static_cast<double>(all.size()) / seconds, (cpu_seconds() - cpu) * 1e6 / static_cast<double>(all.size()), at(0.5),
              at(0.99));
}

// At a steady rate, whatever was answered: one call a millisecond, with every kind of limit in force.
void measure_paced(const char* name, std::size_t count, const char* port = nullptr) {
  caf::actor_system_config config;
  session::configure(config);
  SupervisorOptions options;
  options.clock = &system_clock();
  options.random = &system_random();
  ProviderSettings s;
  s.name = "openai";
  s.enabled = true;
  s.weight = 1;
  s.requests_per_minute = 10'000'000;
  s.tokens_per_minute = s.input_tokens_per_minute = s.output_tokens_per_minute = 1'000'000'000'000;
  s.requests_per_day = 4'000'000'000;
  s.max_concurrent = 1'000'000;
  CurlLoop loop;
  if (port) {
    s.base_url = std::string("http://127.0.0.1:") + port + "/v1";
    s.model = s.api_key = "bench";
    options.clients = {make_client(s, loop).value()};
  } else {
    options.clients = {std::make_shared<InstantClient>()};
  }
  options.providers = {s};
  auto took = std::make_shared<std::vector<double>>();
  {
    caf::actor_system system(config);
    const auto supervisor = spawn_supervisor(system, options);
    {
      caf::scoped_actor self(system);
      const auto asking = self->spawn(pacer, supervisor, RequestPtr(make_request()), count, took);
      auto next = SteadyClock::now() + std::chrono::seconds(2);  // the budget starts in debt
      for (std::size_t i = 0; i < count; ++i, next += std::chrono::milliseconds(1)) {
        std::this_thread::sleep_until(next);
        caf::anon_send(asking, static_cast<std::int64_t>(SteadyClock::now().time_since_epoch().count()));
      }
      self->wait_for(asking);
    }
    caf::anon_send_exit(supervisor, caf::exit_reason::user_shutdown);
  }
  std::sort(took->begin(), took->end());
  const auto at = [&](double q) { return (*took)[static_cast<std::size_t>(q * static_cast<double>(took->size() - 1))]; };
  std::printf("%-10s 1000/s, every limit in force: p50 %8.1f us  p99 %8.1f us\n", name, at(0.5), at(0.99));
}

void measure_extractor(std::size_t count) {
  const auto request = make_request();
  const auto cpu = cpu_seconds();
  std::size_t sure = 0;
  for (std::size_t i = 0; i < count; ++i) sure += extract_offline(*request).has_value();
  std::printf("extractor alone: cpu %6.2f us each (sure: %zu of %zu)\n", (cpu_seconds() - cpu) * 1e6 / static_cast<double>(count),
              sure, count);
}

}  // namespace

int main(int argc, char** argv) {
  const auto count = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 100'000ul;
  const auto in_flight = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 256ul;
  measure_extractor(std::min(count, 20'000ul));
  measure("offline", false, count, 1);
  measure("offline", false, count, in_flight);
  measure("instant", true, count, 1);
  measure("instant", true, count, in_flight);
  measure_paced("instant", std::min(count, 20'000ul));
  if (argc > 3) measure_paced("over HTTP", std::min(count, 20'000ul), argv[3]);
}
