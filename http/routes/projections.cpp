// /api/admin/projections: how far each projection is, and what operators do to it.
#include "projections/control.hpp"

#include "http/routes/api.hpp"
#include "http/routes/body.hpp"
#include "http/routes/standing.hpp"

namespace onboarding::http {
namespace {

// Less than operators' clients wait: what was not done by then is not done later, unseen.
constexpr std::chrono::seconds patience{8};
constexpr std::size_t most_reason_bytes = 500, most_actor_bytes = 100, most_key_bytes = 256;

void write_generation(JsonWriter& w, const projections::GenerationStatus& g) {
  write_member(w, "generation", g.number);
  write_member(w, "version", g.version);
  write_member(w, "state", g.state);
  if (!g.phase.empty()) write_member(w, "phase", g.phase);
  if (!g.swap.empty()) write_member(w, "swap", g.swap);
  write_member(w, "events", g.events);
  write_member(w, "of_events", g.of_events);
  write_member(w, "events_per_second", g.events_per_second);
  write_member(w, "eta_seconds", g.seconds_left);
  write_member(w, "parked", g.parked);
  if (!g.detail.empty()) write_member(w, "detail", g.detail);
}

void write_projection(JsonWriter& w, const projections::ProjectionStatus& p, bool partitions) {
  write_member(w, "name", p.name);
  write_member(w, "generation", p.generation);
  write_member(w, "revision", p.revision);
  write_standing(w, p, true);
  write_objects(w, "generations", p.others, [&](const auto& other) { write_generation(w, other); });
  if (const auto& last = p.last_comparison; partitions && last.generation != 0) {
    write_key(w, "last_comparison");
    w.StartObject();
    write_member(w, "generation", last.generation);
    write_member(w, "became", last.state);
    write_key(w, "found");
    w.RawValue(last.report.data(), last.report.size(), rapidjson::kObjectType);
    w.EndObject();
  }
  write_partitions(w, partitions ? "partitions" : "stalled", p,
                   [&](const auto& of) { return partitions || of.stalled_since.has_value(); });
}

void get_projections(Api& api, const Responder& responder) {
  if (!api.authority.operator_only(responder)) return;
  responder->send(json_response(200, [&](JsonWriter& w) {
    write_objects(w, "projections", api.ports.queries.projections(), [&](const auto& p) { write_projection(w, p, false); });
  }));
}

std::optional<projections::ProjectionStatus> status_of(Api& api, const std::string& name) {
  for (auto& p : api.ports.queries.projections())
    if (p.name == name) return std::move(p);
  return std::nullopt;
}

void get_projection(Api& api, const Responder& responder) {
  if (!api.authority.operator_only(responder)) return;
  const auto status = status_of(api, responder->request().parameters[0]);
  if (!status) return responder->fail(Errc::not_found, "There is no such projection.");
  responder->send(json_response(200, [&](JsonWriter& w) { write_projection(w, *status, true); }));
}

void get_parked(Api& api, const Responder& responder) {
  if (!api.authority.operator_only(responder)) return;
  const auto* after = responder->request().query_value("after");
  const auto page_behind = after == nullptr ? std::string() : *after;
  api.ports.projections->parked(responder->request().parameters[0], page_behind, [responder](auto rows) {
    if (!rows) return responder->fail(rows.error());
    responder->send(json_response(200, [&](JsonWriter& w) {
      write_objects(w, "parked", *rows, [&](const projections::ParkedRow& row) {
        write_member(w, "key", row.key);
        write_member(w, "generation", row.generation);
        write_member(w, "state", row.live ? "live" : "building");
        write_member(w, "position", to_string(row.position));
        write_member(w, "waiting_events", row.waiting);
        write_member(w, "error", row.error);
        write_member(w, "parked_at", row.parked_at);
      });
      if (!rows->empty()) write_member(w, "after", rows->back().key);
    }));
  });
}

void post_action(Api& api, const Responder& responder, const char* verb) {
  if (!api.authority.operator_only(responder)) return;
  auto body = BodyReader::parse(responder->request().raw.body);
  if (!body) return responder->fail(body.error());
  const bool of_parked = std::string_view(verb) == "retry" || std::string_view(verb) == "skip";
  const bool rebuilds = std::string_view(verb) == "rebuild";
  projections::Action action;
  action.projection = responder->request().parameters[0];
  action.verb = verb;
  action.actor = body->line("actor", most_actor_bytes).value_or("operator at " + responder->request().client);
  action.reason = body->line("reason", most_reason_bytes).value_or("");
  std::vector<InvalidMember> wrong;
  if (of_parked) {
    body->only({"actor", "reason", "key", "position", "after"});
    action.after = body->line("after", most_key_bytes).value_or("");
    action.key = body->line("key", most_key_bytes).value_or("");
    if (const auto text = body->line("position", 40)) {
      action.position = parse_position(*text);
      if (!action.position) wrong.push_back({"/position", "must be partition:sequence"});
    }
    if (action.position && action.key.empty()) wrong.push_back({"/key", "is needed with a position"});
    if (std::string_view(verb) == "skip" && (action.key.empty() || !action.position))
      wrong.push_back({"/position", "skip needs the key and the position of the parked event, as GET …/parked shows them"});
  } else {
    if (rebuilds) {
      body->only({"actor", "reason", "revision", "swap"});
      action.swap = body->line("swap", 20).value_or("if_equal");
      if (action.swap != "if_equal" && action.swap != "always" && action.swap != "never" && action.swap != "compare_only")
        wrong.push_back({"/swap", "must be if_equal, always, never or compare_only"});
    } else {
      body->only({"actor", "reason", "revision"});
    }
    action.revision = body->whole("revision", std::uint64_t{1} << 53);
  }
  action.deadline = std::chrono::steady_clock::now() + patience;
  if (!body->valid()) return responder->fail(body->problem());
  if (!wrong.empty()) return responder->fail(problem_of(Errc::invalid, {}, std::move(wrong)));
  api.ports.projections->act(std::move(action), [responder, of_parked](const result<projections::Outcome>& outcome) {
    if (!outcome) return responder->fail(outcome.error());
    auto response = json_response(202, [&](JsonWriter& w) {
      const std::string& name = responder->request().parameters[0];
      write_member(w, "name", name);
      if (of_parked) {
        write_member(w, "released_events", outcome->released_events);
        write_member(w, "released_keys", outcome->released_keys);
        write_member(w, "still_parked", outcome->still_parked);
        write_member(w, "complete", outcome->complete);
        if (!outcome->complete) write_member(w, "after", outcome->after);
      } else {
        write_member(w, "revision", outcome->revision);
        if (outcome->generation > 0) write_member(w, "generation", outcome->generation);
      }
      write_member(w, "status_url", "/api/admin/projections/" + name);
    });
    response.with("Location", "/api/admin/projections/" + responder->request().parameters[0]);
    responder->send(std::move(response));
  });
}

}  // namespace

void add_projection_routes(Router& router, Api& api) {
  const auto get = [&](const char* path, void (*handler)(Api&, const Responder&)) {
    router.add({.method = Method::get, .path = path, .handler = [&api, handler](const Responder& r) { handler(api, r); }});
  };
  get("/api/admin/projections", get_projections);
  get("/api/admin/projections/{name}", get_projection);
  if (api.ports.projections == nullptr) return;
  get("/api/admin/projections/{name}/parked", get_parked);
  for (const char* verb : {"pause", "resume", "restart", "reset", "rebuild", "cancel", "rollback", "discard", "retry", "skip"}) {
    router.add({.method = Method::post,
                .path = std::string("/api/admin/projections/{name}/") + verb,
                .handler = [&api, verb](const Responder& r) { post_action(api, r, verb); },
                .body = Body::optional_json});
  }
}

}  // namespace onboarding::http
