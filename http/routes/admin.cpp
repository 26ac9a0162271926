// /api/admin/…: what operators see and change while the server runs.
#include <algorithm>
#include <limits>

#include "actors/flows.hpp"
#include "actors/gateway.hpp"
#include "actors/model/control.hpp"
#include "http/routes/api.hpp"
#include "http/routes/body.hpp"
#include "http/routes/write.hpp"

namespace onboarding::http {
namespace {

constexpr std::uint64_t most_a_minute = 1'000'000'000'000;

double share(std::int64_t part, std::int64_t whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
}

void write_provider(JsonWriter& w, const model::ProviderStatus& p) {
  write_member(w, "name", p.name);
  write_member(w, "model", p.model);
  write_member(w, "enabled", p.enabled);
  write_member(w, "healthy", p.healthy);
  write_member(w, "weight", p.weight);
  write_member(w, "effective_weight", p.effective_weight);
  write_key(w, "breaker");
  w.StartObject();
  write_member(w, "state", p.breaker);
  if (p.breaker == "open") write_member(w, "probe_in_ms", p.breaker_opens_in_ms);
  w.EndObject();
  write_member(w, "held_ms", p.held_ms);
  write_member(w, "wait_ms", p.wait_ms);
  if (!p.last_error.empty()) write_member(w, "last_error", p.last_error);
  write_objects(w, "limits", p.limits, [&](const model::LimitStatus& limit) {
    write_member(w, "name", limit.name);
    write_member(w, "limit", limit.limit);
    write_member(w, "used", limit.used);
    write_member(w, "use", share(limit.used, limit.limit));
  });
  write_member(w, "in_flight", p.in_flight);
  write_member(w, "waiting", p.waiting);
  write_member(w, "calls_total", p.calls_total);
  write_member(w, "failures_total", p.failures_total);
  write_member(w, "refused_by_provider_total", p.rate_limited_total);
  write_member(w, "held_back_by_own_budget_total", p.held_back_total);
  write_member(w, "spent_today_nanodollars", p.spent_today_nanodollars);
}

void write_cache(JsonWriter& w, const model::CacheStatus& cache) {
  write_key(w, "cache");
  w.StartObject();
  write_member(w, "entries", cache.entries);
  write_member(w, "bytes", cache.bytes);
  write_member(w, "hits_exact", cache.hits_exact);
  write_member(w, "hits_semantic", cache.hits_semantic);
  write_member(w, "misses", cache.misses);
  const auto hits = cache.hits_exact + cache.hits_semantic;
  write_member(w, "embeddings_nanodollars", cache.embeddings_nanodollars);
  write_member(w, "hit_rate", share(hits, hits + cache.misses));
  w.EndObject();
}

Response status_response(const model::ModelStatus& status) {
  return json_response(200, [&](JsonWriter& w) {
    write_objects(w, "providers", status.providers, [&](const auto& provider) { write_provider(w, provider); });
    write_key(w, "queue");
    w.StartObject();
    write_member(w, "mode", model::to_string(status.queue_mode));
    write_member(w, "queueing", status.queueing);
    if (!status.queueing_why.empty()) write_member(w, "why", status.queueing_why);
    write_member(w, "waiting", status.waiting);
    write_member(w, "rate_limit_errors_5m", status.rate_limit_errors_5m);
    w.EndObject();
    write_objects(w, "plans", status.plans, [&](const model::PlanStatus& plan) {
      write_member(w, "name", plan.name);
      write_member(w, "share", plan.share);
      write_member(w, "waiting", plan.waiting);
      write_member(w, "tokens_today", plan.tokens_today);
      write_member(w, "tokens_per_day", plan.tokens_per_day);
    });
    write_cache(w, status.cache);
    write_member(w, "offline_extractor", status.offline_enabled);
    write_objects(w, "recent", status.recent, [&](const model::Decision& decision) {
      write_member(w, "time", codec::format_time(decision.time));
      write_member(w, "what", decision.what);
      if (!decision.provider.empty()) write_member(w, "provider", decision.provider);
      write_member(w, "why", decision.why);
    });
  });
}

model::Control::Done answer_with_status(const Responder& responder) {
  return [responder](const result<model::ModelStatusPtr>& status) {
    if (status) return responder->send(status_response(**status));
    if (status.error().code == std::errc::invalid_argument) return responder->fail(Errc::invalid, status.error().detail);
    if (status.error().code == std::errc::no_such_device)
      return responder->fail(Errc::not_found, "There is no such provider; a provider without an API key cannot be switched on.");
    responder->fail(Errc::overloaded);
  };
}

void get_llm(Api& api, const Responder& responder) {
  if (api.authority.operator_only(responder)) api.ports.model->status(answer_with_status(responder));
}

template <class Number>
std::optional<Number> limit_of(BodyReader& body, std::string_view name) {
  const auto value = body.whole(name, std::min<std::uint64_t>(most_a_minute, std::numeric_limits<Number>::max()));
  return value ? std::optional<Number>(static_cast<Number>(*value)) : std::nullopt;
}

void patch_llm(Api& api, const Responder& responder) {
  if (!api.authority.operator_only(responder)) return;
  auto body = BodyReader::parse(responder->request().raw.body);
  if (!body) return responder->fail(body.error());
  body->only({"enabled", "weight", "requests_per_minute", "requests_per_day", "max_concurrent", "tokens_per_minute",
              "input_tokens_per_minute", "output_tokens_per_minute", "spend_per_day_nanodollars"});
  model::ProviderChange change;
  change.name = responder->request().parameters[0];
  change.enabled = body->boolean("enabled");
  if (const auto weight = body->whole("weight", model::kGreatestWeight)) change.weight = static_cast<std::uint32_t>(*weight);
  change.requests_per_minute = limit_of<std::uint32_t>(*body, "requests_per_minute");
  change.requests_per_day = limit_of<std::uint32_t>(*body, "requests_per_day");
  change.max_concurrent = limit_of<std::uint32_t>(*body, "max_concurrent");
  change.tokens_per_minute = limit_of<std::uint64_t>(*body, "tokens_per_minute");
  change.input_tokens_per_minute = limit_of<std::uint64_t>(*body, "input_tokens_per_minute");
  change.output_tokens_per_minute = limit_of<std::uint64_t>(*body, "output_tokens_per_minute");
  change.spend_per_day_nanodollars = limit_of<std::uint64_t>(*body, "spend_per_day_nanodollars");
  if (!body->valid()) return responder->fail(body->problem());
  api.ports.model->change(std::move(change), answer_with_status(responder));
}

void put_queue_mode(Api& api, const Responder& responder) {
  if (!api.authority.operator_only(responder)) return;
  auto body = BodyReader::parse(responder->request().raw.body);
  if (!body) return responder->fail(body.error());
  body->only({"mode"});
  const auto text = body->required_text("mode", 8);
  std::optional<model::QueueMode> mode;
  for (const auto each : {model::QueueMode::automatic, model::QueueMode::on, model::QueueMode::off})
    if (text == model::to_string(each)) mode = each;
  if (body->valid() && !mode) return responder->fail(problem_of(Errc::invalid, {}, {{"/mode", "must be auto, on or off"}}));
  if (!body->valid()) return responder->fail(body->problem());
  api.ports.model->set_queue_mode(*mode, answer_with_status(responder));
}

constexpr std::size_t largest_flow = 1024 * 1024;

void answer_with_flow(const Responder& responder, const result<PublishedFlow>& flow) {
  if (flow) {
    Response response;
    response.status = flow->is_new ? 201 : 200;
    response.body = R"({"version":)" + std::to_string(flow->version) + R"(,"flow":)" + flow->definition + "}";
    return responder->send(std::move(response));
  }
  if (flow.error().code == std::errc::invalid_argument) return responder->fail(Errc::invalid, flow.error().detail);
  if (flow.error().code == GatewayErrc::unknown_flow) return responder->fail(Errc::not_found, "There is no such flow.");
  responder->fail(flow.error());
}

void get_flow(Api& api, const Responder& responder) {
  if (!api.authority.operator_only(responder)) return;
  const auto version = query_number(responder, "version", 0, 1, std::numeric_limits<std::uint32_t>::max());
  if (!version) return;
  answer_with_flow(responder, api.ports.flows->find(responder->request().parameters[0], static_cast<std::uint32_t>(*version)));
}

void put_flow(Api& api, const Responder& responder) {
  if (!api.authority.operator_only(responder)) return;
  api.ports.flows->put(responder->request().parameters[0], responder->request().raw.body,
                       [responder](const result<PublishedFlow>& flow) { answer_with_flow(responder, flow); });
}

}  // namespace

void add_admin_routes(Router& router, Api& api) {
  if (api.ports.flows != nullptr) {
    router.add(
        {.method = Method::get, .path = "/api/admin/flows/{name}", .handler = [&api](const Responder& r) { get_flow(api, r); }});
    router.add({.method = Method::put,
                .path = "/api/admin/flows/{name}",
                .handler = [&api](const Responder& r) { put_flow(api, r); },
                .body = Body::json,
                .max_body_bytes = largest_flow});
  }
  if (api.ports.model == nullptr) return;
  router.add({.method = Method::get, .path = "/api/admin/llm", .handler = [&api](const Responder& r) { get_llm(api, r); }});
  router.add({.method = Method::patch,
              .path = "/api/admin/llm/{provider}",
              .handler = [&api](const Responder& r) { patch_llm(api, r); },
              .body = Body::json});
  router.add({.method = Method::put,
              .path = "/api/admin/queue-mode",
              .handler = [&api](const Responder& r) { put_queue_mode(api, r); },
              .body = Body::json});
}

}  // namespace onboarding::http
