#include "http/observe.hpp"

#include <fmt/format.h>

#include "events/codec/json.hpp"
#include "http/http_server.hpp"
#include "http/line_writer.hpp"

namespace onboarding::http {
namespace {

// From well under a turn with an instant model to the 25 s after which a request is answered 202.
const prometheus::Histogram::BucketBoundaries duration_buckets{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                                               0.25,   0.5,   1,      2.5,   5,    10,    25,   30};

class GatheringAccessLog final : public AccessLog {
 public:
  GatheringAccessLog(spdlog::sink_ptr sink, std::size_t lines) : writer_(std::move(sink), "access-log", lines) {}
  void write(std::string_view line) override { writer_.write(line); }
  std::uint64_t dropped() const override { return writer_.dropped(); }

 private:
  LineWriter writer_;
};

}  // namespace

std::unique_ptr<AccessLog> make_access_log(std::shared_ptr<spdlog::sinks::sink> sink, std::size_t max_queued_lines) {
  return std::make_unique<GatheringAccessLog>(std::move(sink), max_queued_lines);
}

RouteMetrics::RouteMetrics(prometheus::Family<prometheus::Counter>& requests,
                           prometheus::Family<prometheus::Histogram>& durations, std::string route, std::string method)
    : requests_(requests),
      duration_(durations.Add({{"route", route}, {"method", method}}, duration_buckets)),
      route_(std::move(route)),
      method_(std::move(method)) {}

void RouteMetrics::observe(int status, double seconds) {
  auto& slot = by_status_.at(static_cast<std::size_t>(status - 100));
  auto* counter = slot.load(std::memory_order_acquire);
  if (counter == nullptr) {
    counter = &requests_.Add(
        {{"route", route_}, {"method", method_}, {"status", std::to_string(status)}});  // the same one for two threads
    slot.store(counter, std::memory_order_release);
  }
  counter->Increment();
  duration_.Observe(seconds);
}

Metrics::Metrics(prometheus::Registry& registry)
    : requests(prometheus::BuildCounter().Name("http_requests_total").Help("Requests answered").Register(registry)),
      durations(prometheus::BuildHistogram()
                    .Name("http_request_duration_seconds")
                    .Help("From a request's last byte to its answer")
                    .Register(registry)),
      in_flight(
          prometheus::BuildGauge().Name("http_requests_in_flight").Help("Requests not answered yet").Register(registry).Add({})),
      connections(prometheus::BuildGauge().Name("http_connections").Help("Open connections").Register(registry)),
      refused(prometheus::BuildCounter()
                  .Name("http_reader_refusals_total")
                  .Help("What the request reader did not take")
                  .Register(registry)),
      cut(prometheus::BuildCounter()
              .Name("http_answers_cut_total")
              .Help("Answers that were owed and could not be delivered")
              .Register(registry)),
      turned_away(prometheus::BuildCounter()
                      .Name("http_turned_away_total")
                      .Help("Connections and requests refused for want of room")
                      .Register(registry)) {}

std::string to_json(const AccessLine& line) {
  fmt::memory_buffer out;
  // Nothing in it needs escaping: ids are checked where they come in, the rest is ours.
  fmt::format_to(
      std::back_inserter(out),
      R"({{"time":"{}","event":"http_request","listener":"{}","method":"{}","route":"{}","status":{},"duration_ms":{}.{:03},"bytes":{},"request_id":"{}")",
      codec::format_time(line.time), line.listener, line.method, line.route, line.status, line.duration_us / 1000,
      line.duration_us % 1000, line.response_bytes, line.request_id);
  if (!line.session_id.empty()) fmt::format_to(std::back_inserter(out), R"(,"session_id":"{}")", line.session_id);
  if (!line.turn_id.empty()) fmt::format_to(std::back_inserter(out), R"(,"turn_id":"{}")", line.turn_id);
  out.push_back('}');
  return fmt::to_string(out);
}

}  // namespace onboarding::http
