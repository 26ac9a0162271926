// /api/metrics/…: health for everybody, figures for analysts.
#include <algorithm>

#include "events/log/event_log.hpp"
#include "events/pricing/pricing.hpp"
#include "http/routes/api.hpp"
#include "http/routes/standing.hpp"
#include "http/server.hpp"

namespace onboarding::http {
namespace {

constexpr double disk_warning_below = 0.30, disk_critical_below = 0.20;  // free fraction

std::string_view disk_status(const HealthReport& report) {
  if (report.disk_total_bytes == 0) return "unknown";
  const auto free = static_cast<double>(report.disk_free_bytes) / static_cast<double>(report.disk_total_bytes);
  return free < disk_critical_below ? "critical" : free < disk_warning_below ? "warning" : "ok";
}

/// 0 when there is nothing.
double rate(std::int64_t part, std::int64_t whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
}

/// Unhealthy (503) is what keeps people from being onboarded; the rest degrades.
void health(Api& api, const Responder& responder, bool details) {
  details = details || api.authority.is_operator(responder->request());
  const auto report = api.ports.health ? api.ports.health() : HealthReport{};
  const auto database = api.ports.queries.database();
  const auto projections = api.ports.queries.projections();
  const auto writable = api.ports.log.writable();
  const bool draining = api.server.load()->draining();
  const bool any_provider =
      std::any_of(report.providers.begin(), report.providers.end(), [](const auto& p) { return p.enabled && p.healthy; });
  const bool all_providers =
      std::all_of(report.providers.begin(), report.providers.end(), [](const auto& p) { return !p.enabled || p.healthy; });
  const bool projecting =
      std::all_of(projections.begin(), projections.end(), [](const auto& p) { return p.state == "running" && p.parked == 0; });
  const auto disk = disk_status(report);
  const bool can_answer = any_provider || report.offline_extractor;
  const bool healthy = writable && report.not_ready.empty() && !draining && can_answer;
  const bool whole = database.reachable && !database.breaker_open && all_providers && projecting && disk != "critical" &&
                     (!database.replica.configured || database.replica.in_use);

  responder->send(json_response(healthy ? 200 : 503, [&](JsonWriter& w) {
    write_member(w, "status", !healthy ? "unhealthy" : whole ? "healthy" : "degraded");
    write_member(w, "timestamp", codec::format_time(api.ports.clock.now()));
    write_member(w, "version", api.version);
    write_member(w, "draining", draining);
    if (!report.not_ready.empty()) write_member(w, "because", report.not_ready);
    write_key(w, "database");
    w.StartObject();
    write_member(w, "status", database.reachable ? "ok" : "down");
    write_member(w, "breaker_open", database.breaker_open);
    write_member(w, "ping_ms", database.ping_ms);
    if (details && !database.detail.empty()) write_member(w, "detail", database.detail);
    write_key(w, "pool");
    w.StartObject();
    write_member(w, "in_use", database.pool_in_use);
    write_member(w, "idle", database.pool_idle);
    write_member(w, "max", database.pool_max);
    write_member(w, "waiting", database.pool_waiting);
    w.EndObject();
    if (database.replica.configured) {
      write_key(w, "replica");
      w.StartObject();
      write_member(w, "status", database.replica.in_use ? "ok" : "not_used");
      write_member(w, "lag_seconds", database.replica.lag_seconds);
      if (details && !database.replica.detail.empty()) write_member(w, "detail", database.replica.detail);
      w.EndObject();
    }
    w.EndObject();
    write_key(w, "llm_api");
    w.StartObject();
    write_member(w, "status", any_provider ? (all_providers ? "ok" : "degraded") : report.offline_extractor ? "offline" : "down");
    write_objects(w, "providers", report.providers, [&](const auto& provider) {
      write_member(w, "name", provider.name);
      write_member(w, "model", provider.model);
      write_member(w, "enabled", provider.enabled);
      write_member(w, "healthy", provider.healthy);
    });
    write_member(w, "offline_extractor", report.offline_extractor);
    write_member(w, "waiting", report.calls_waiting);
    w.EndObject();
    write_key(w, "event_log");
    w.StartObject();
    write_member(w, "status", writable ? "ok" : "not_writable");
    write_member(w, "partitions", api.ports.log.partitions());
    w.EndObject();
    write_standings(w, projections, details);
    write_key(w, "disk");
    w.StartObject();
    write_member(w, "status", disk);
    write_member(w, "total_bytes", report.disk_total_bytes);
    write_member(w, "free_bytes", report.disk_free_bytes);
    if (report.disk_total_bytes != 0)
      write_member(w, "free", static_cast<double>(report.disk_free_bytes) / static_cast<double>(report.disk_total_bytes));
    w.EndObject();
  }));
}

void stats(Api& api, const Responder& responder) {
  api.ports.queries.stats([responder](result<projections::Stats> stats) {
    if (!stats) return responder->fail(stats.error());
    responder->send(json_response(200, [&](JsonWriter& w) {
      write_member(w, "active_sessions", stats->active_sessions);
      write_member(w, "completed_today", stats->completed_today);
      write_member(w, "completion_rate_7d", stats->completion_rate_7d);
      write_member(w, "avg_duration_minutes", stats->avg_duration_minutes);
      write_member(w, "error_rate_1h", stats->error_rate_1h);
    }));
  });
}

void completion(Api& api, const Responder& responder, std::uint32_t days) {
  api.ports.queries.completion(days, [responder](result<projections::Completion> completion) {
    if (!completion) return responder->fail(completion.error());
    responder->send(json_response(200, [&](JsonWriter& w) {
      const auto figures = [&w](const auto& of) {
        write_member(w, "started", of.started);
        write_member(w, "completed", of.completed);
        write_member(w, "completion_rate", of.rate);
        write_member(w, "avg_duration_minutes", of.average_minutes);
        write_member(w, "p50_minutes", of.p50_minutes);
        write_member(w, "p90_minutes", of.p90_minutes);
        write_member(w, "p99_minutes", of.p99_minutes);
      };
      write_member(w, "days", completion->days);
      figures(*completion);
      write_objects(w, "by_day", completion->by_day, [&](const auto& day) {
        write_member(w, "day", day.day);
        figures(day);
      });
    }));
  });
}

void abandonment(Api& api, const Responder& responder, std::uint32_t days) {
  api.ports.queries.abandonment(days, [responder, days](result<std::vector<projections::AbandonmentField>> fields) {
    if (!fields) return responder->fail(fields.error());
    responder->send(json_response(200, [&](JsonWriter& w) {
      write_member(w, "days", days);
      write_objects(w, "fields", *fields, [&](const auto& field) {
        write_member(w, "field", field.field);
        write_member(w, "count", field.count);
        write_member(w, "asked", field.asked);
        write_member(w, "share_of_abandoned", field.share_of_abandoned);
        write_member(w, "share_of_asked", field.share_of_asked);
      });
    }));
  });
}

void funnel(Api& api, const Responder& responder) {
  api.ports.queries.funnel([responder](const result<std::vector<projections::FunnelStep>>& steps) {
    if (!steps) return responder->fail(steps.error());
    responder->send(json_response(200, [&](JsonWriter& w) {
      write_objects(w, "steps", *steps, [&](const auto& step) {
        write_member(w, "flow", step.flow);
        write_member(w, "flow_version", step.flow_version);
        write_member(w, "step", step.step);
        write_member(w, "name", step.name);
        if (!step.field.empty()) write_member(w, "field", step.field);
        write_member(w, "sessions", step.sessions);
        write_member(w, "share_of_started", step.share_of_started);
      });
    }));
  });
}

void messages(Api& api, const Responder& responder, std::uint32_t days) {
  api.ports.queries.messages(days, [responder, days](result<projections::MessageBuckets> buckets) {
    if (!buckets) return responder->fail(buckets.error());
    responder->send(json_response(200, [&](JsonWriter& w) {
      write_member(w, "days", days);
      write_key(w, "buckets");
      w.StartObject();
      write_member(w, "<8", buckets->under_8);
      write_member(w, "8-10", buckets->from_8_to_10);
      write_member(w, "11-15", buckets->from_11_to_15);
      write_member(w, ">15", buckets->over_15);
      w.EndObject();
      write_member(w, "average", buckets->average);
    }));
  });
}

void usage(Api& api, const Responder& responder, std::uint32_t days) {
  api.ports.queries.usage(days, [responder, days](result<std::vector<projections::UsageRow>> rows) {
    if (!rows) return responder->fail(rows.error());
    projections::UsageFigures total;
    for (const auto& row : *rows) {
      for (auto figure : {&projections::UsageFigures::calls, &projections::UsageFigures::failed_calls,
                          &projections::UsageFigures::unreported_calls, &projections::UsageFigures::unpriced_calls,
                          &projections::UsageFigures::input_tokens, &projections::UsageFigures::cached_input_tokens,
                          &projections::UsageFigures::cache_write_tokens, &projections::UsageFigures::output_tokens,
                          &projections::UsageFigures::reasoning_tokens, &projections::UsageFigures::latency_ms,
                          &projections::UsageFigures::cost_nanodollars}) {
        total.*figure += row.figures.*figure;
      }
    }
    responder->send(json_response(200, [&](JsonWriter& w) {
      const auto figures = [&w](const projections::UsageFigures& of) {
        const std::int64_t priced = of.calls - of.unpriced_calls;
        write_member(w, "calls", of.calls);
        write_member(w, "failed_calls", of.failed_calls);
        write_member(w, "unreported_calls", of.unreported_calls);
        write_member(w, "unpriced_calls", of.unpriced_calls);
        write_member(w, "input_tokens", of.input_tokens);
        write_member(w, "cached_input_tokens", of.cached_input_tokens);
        write_member(w, "cache_write_tokens", of.cache_write_tokens);
        write_member(w, "output_tokens", of.output_tokens);
        write_member(w, "reasoning_tokens", of.reasoning_tokens);
        write_member(w, "avg_latency_ms", rate(of.latency_ms, of.calls));
        write_member(w, "cost_nanodollars", of.cost_nanodollars);
        write_member(w, "cost_usd", static_cast<double>(of.cost_nanodollars) / 1e9);
        write_member(w, "cost_usd_per_call", rate(of.cost_nanodollars, priced) / 1e9);
      };
      write_member(w, "days", days);
      write_member(w, "price_version", pricing::price_version());
      write_key(w, "total");
      w.StartObject();
      figures(total);
      w.EndObject();
      write_objects(w, "usage", *rows, [&](const auto& row) {
        write_member(w, "day", row.day);
        write_member(w, "provider", row.provider);
        write_member(w, "model", row.model);
        write_member(w, "plan", row.plan);
        figures(row.figures);
      });
    }));
  });
}

void quality(Api& api, const Responder& responder, std::uint32_t days) {
  api.ports.queries.quality(days, [responder, days](result<std::vector<projections::QualityDay>> by_day) {
    if (!by_day) return responder->fail(by_day.error());
    using Figures = projections::QualityFigures;
    Figures total;
    for (const auto& day : *by_day) {
      for (auto figure : {&Figures::sessions, &Figures::fields_asked, &Figures::asked_fields_filled, &Figures::questions,
                          &Figures::reasked, &Figures::values_said, &Figures::values_rejected, &Figures::replies,
                          &Figures::fallback_replies, &Figures::failed_turns, &Figures::calls, &Figures::failed_calls}) {
        total.*figure += day.figures.*figure;
      }
    }
    responder->send(json_response(200, [&](JsonWriter& w) {
      const auto rates = [&w](const Figures& of) {
        write_member(w, "sessions", of.sessions);
        write_member(w, "extraction_rate", rate(of.asked_fields_filled, of.fields_asked));
        write_member(w, "reask_rate", rate(of.reasked, of.questions));
        write_member(w, "validation_failure_rate", rate(of.values_rejected, of.values_said));
        write_member(w, "fallback_rate", rate(of.fallback_replies, of.replies));
        write_member(w, "failed_turn_rate", rate(of.failed_turns, of.replies));
        write_member(w, "failed_call_rate", rate(of.failed_calls, of.calls));
        write_member(w, "failed_calls", of.failed_calls);
        write_member(w, "calls", of.calls);
      };
      write_member(w, "days", days);
      rates(total);
      write_objects(w, "by_day", *by_day, [&](const auto& day) {
        write_member(w, "day", day.day);
        rates(day.figures);
      });
    }));
  });
}

}  // namespace

void add_health_route(Router& router, Api& api, bool details) {
  router.add({.method = Method::get,
              .path = "/api/metrics/health",
              .handler = [&api, details](const Responder& r) { health(api, r, details); },
              .while_draining = true});
}

void add_metric_routes(Router& router, Api& api) {
  router.add({.method = Method::get, .path = "/api/metrics/stats", .handler = [&api](const Responder& r) {
                if (api.authority.operator_only(r)) stats(api, r);
              }});
  router.add({.method = Method::get, .path = "/api/metrics/funnel", .handler = [&api](const Responder& r) {
                if (api.authority.operator_only(r)) funnel(api, r);
              }});
  const auto over_days = [&](std::string path, void (*answer)(Api&, const Responder&, std::uint32_t)) {
    router.add({.method = Method::get, .path = std::move(path), .handler = [&api, answer](const Responder& r) {
                  if (!api.authority.operator_only(r)) return;
                  if (const auto days = query_number(r, "days", 30, 1, 366)) answer(api, r, static_cast<std::uint32_t>(*days));
                }});
  };
  over_days("/api/metrics/completion", completion);
  over_days("/api/metrics/abandonment", abandonment);
  over_days("/api/metrics/messages", messages);
  over_days("/api/metrics/usage", usage);
  over_days("/api/metrics/quality", quality);
}

}  // namespace onboarding::http
