// /api/onboarding/…: start, messages, turns, the session and its conversation, resume (api.md §1). Every answer is built
// from the session's state, so a repeated request gets the answer it got, also after a restart.
#include <algorithm>
#include <cctype>
#include <charconv>
#include <mutex>
#include <utility>

#include "actors/model/control.hpp"
#include "events/domain/replies.hpp"
#include "http/routes/api.hpp"
#include "http/routes/body.hpp"
#include "http/routes/session_json.hpp"
#include "http/routes/write.hpp"

namespace onboarding::http {
namespace {

constexpr std::size_t max_user_id_bytes = 256;
constexpr std::string_view word_characters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
const std::string sessions_path = "/api/onboarding/sessions";

std::string session_path(std::string_view id) { return sessions_path + "/" + std::string(id); }

/// The sentence for people that belongs to a refusal. Only its code is stored; the value's rule says the rest again.
std::string reason_sentence(const domain::State& state, const domain::RejectedValue& rejected) {
  const auto* spec = state.flow != nullptr ? state.flow->find(rejected.field) : nullptr;
  if (spec == nullptr) return "That cannot be taken here.";
  if (rejected.reason == "required") return domain::why_required(*spec);
  const auto again = domain::parse_field(*spec, rejected.value);
  return again ? "That cannot be taken here." : again.error().sentence;
}

std::vector<std::string> missing_at_start(const domain::State& state) {
  if (state.version == state.started_last_version) return domain::missing_fields(state);
  domain::State fresh;
  fresh.status = domain::SessionStatus::active;
  fresh.flow = state.flow;
  return domain::missing_fields(fresh);
}

Response start_response(const SessionStartedAnswer& answer) {
  const auto& state = *answer.session.state;
  auto response = json_response(201, [&](JsonWriter& w) {
    write_member(w, "session_id", answer.session.session_id);
    write_member(w, "user_id", state.user_id.text);
    write_member(w, "token", answer.token);
    write_member(w, "status", "active");
    write_member(w, "response", state.greeting.text);
    write_names(w, "missing", missing_at_start(state));
    write_member(w, "is_complete", false);
    write_place(w, state.started_last_version, {answer.session.partition, state.started_last_sequence});
  });
  response.with("Location", session_path(answer.session.session_id));
  return response;
}

void write_turn(JsonWriter& w, const SessionSnapshot& session, const domain::Turn& turn) {
  write_member(w, "response", turn.reply.text);
  write_key(w, "extracted");
  w.StartObject();
  for (const auto& [field, value] : turn.extracted) {
    write_key(w, field);
    write_value(w, value);
  }
  w.EndObject();
  write_key(w, "rejected");
  w.StartArray();
  for (const auto& rejected : turn.rejected) {
    w.StartObject();
    write_member(w, "field", rejected.field);
    write_member(w, "value", rejected.value);
    write_member(w, "reason", reason_sentence(*session.state, rejected));
    write_member(w, "code", rejected.reason);
    w.EndObject();
  }
  w.EndArray();
  write_names(w, "missing", domain::names_of(*session.state->flow, turn.missing));
  write_member(w, "is_complete", turn.is_complete);
  write_place(w, turn.last_version, {session.partition, turn.last_sequence});
  write_member(w, "turn_id", turn.turn_id);
  write_member(w, "error", turn.error);
}

Response turn_response(const SessionSnapshot& session, const domain::Turn& turn) {
  return json_response(200, [&](JsonWriter& w) { write_turn(w, session, turn); });
}

bool is_done(const domain::Turn& turn) {
  return turn.status == domain::TurnStatus::answered || turn.status == domain::TurnStatus::failed;
}

Response waiting_response(std::string_view session_id, std::string_view turn_id, std::uint32_t position_in_queue,
                          std::uint32_t eta_seconds) {
  const auto url = session_path(session_id) + "/turns/" + std::string(turn_id);
  auto response = json_response(202, [&](JsonWriter& w) {
    write_member(w, "status", "queued");
    write_member(w, "position_in_queue", position_in_queue);
    write_member(w, "eta_seconds", eta_seconds);
    write_member(w, "turn_id", turn_id);
    write_member(w, "status_url", url);
    write_member(w, "message", "High traffic: your message is kept, and the answer is on its way.");
  });
  response.with("Location", url);
  response.with("Retry-After", std::to_string(std::clamp<std::uint32_t>(eta_seconds, 1, 30)));
  return response;
}

/// The labels that a page needs to show a flow's fields, in its order.
void write_labels(JsonWriter& w, const domain::Flow& flow) {
  write_key(w, "labels");
  w.StartObject();
  for (const auto& spec : flow.fields) write_member(w, spec.name, spec.label.empty() ? spec.name : spec.label);
  w.EndObject();
}

// ---- the conversation

Response conversation_response(const SessionSnapshot& session, std::uint64_t after, std::uint64_t limit) {
  const auto lines = conversation(*session.state);
  auto at = std::find_if(lines.begin(), lines.end(), [after](const Line& line) { return line.version > after; });
  return json_response(200, [&](JsonWriter& w) {
    write_key(w, "messages");
    w.StartArray();
    std::uint64_t last = after;
    for (std::uint64_t n = 0; n < limit && at != lines.end(); ++n, ++at) {
      write_line(w, *at);
      last = at->version;
    }
    w.EndArray();
    if (at != lines.end())
      write_member(
          w, "next",
          session_path(session.session_id) + "/messages?after=" + std::to_string(last) + "&limit=" + std::to_string(limit));
  });
}

RequestContext context_of(const Request& request) { return {request.request_id, request.traceparent}; }

/// Whether `Prefer: respond-async` was asked for: a list of preferences in any case, each perhaps with parameters (RFC 7240 §2).
bool prefers_async(const Request& request) {
  constexpr std::string_view wanted = "respond-async", white = " \t";
  auto rest = request.header("prefer").value_or("");
  while (!rest.empty()) {
    auto token = rest.substr(0, rest.find_first_of(",;"));
    token.remove_prefix(std::min(token.find_first_not_of(white), token.size()));
    token = token.substr(0, token.find_last_not_of(white) + 1);
    const bool same = std::equal(token.begin(), token.end(), wanted.begin(), wanted.end(),
                                 [](unsigned char a, char b) { return std::tolower(a) == b; });
    if (same) return true;
    const auto comma = rest.find(',');
    rest.remove_prefix(comma == rest.npos ? rest.size() : comma + 1);
  }
  return false;
}

// ---- handlers

Response response_of(const TurnAnswer&);

/// Whether the plan gives more than anybody gets (ADR 0507): such a one is a matter of the application, not of who asks. One that is
/// not configured is noted as wrong.
bool is_granted_plan(const Api& api, const std::string& plan, BodyReader& body) {
  if (plan.empty() || plan == model::kDefaultPlan || !api.ports.model) return false;
  const auto& plans = api.ports.model->plans();
  if (plans.empty() || std::find(plans.begin(), plans.end(), plan) != plans.end()) return !plans.empty();
  std::string known(model::kDefaultPlan);
  for (const auto& name : plans)
    if (name != model::kDefaultPlan) known += ", " + name;
  body.note("plan", "is no plan of this server; there are: " + known);
  return false;
}

void start(Api& api, const Responder& responder) {
  const auto& request = responder->request();
  auto body = BodyReader::parse(request.raw.body);
  if (!body) return responder->fail(body.error());
  StartRequest start;
  start.context = context_of(request);
  start.user_id = body->line("user_id", max_user_id_bytes);
  start.flow = body->word("flow", 64, word_characters).value_or("default");
  start.plan = body->word("plan", 64, word_characters).value_or("");
  start.locale = body->word("locale", 35, word_characters).value_or("");
  if (start.user_id && start.user_id->empty()) start.user_id.reset();
  const bool granted_plan = body->valid() && is_granted_plan(api, start.plan, *body);
  if (!body->valid()) return responder->fail(body->problem());
  if (!idempotency_key(responder, start.idempotency_key)) return;
  start.fingerprint = body->fingerprint();

  const auto begin = [&api, responder](StartRequest asked) {
    api.ports.gateway.start_session(std::move(asked), [responder](result<SessionStartedAnswer> answer) {
      if (!answer) return responder->fail(answer.error());
      responder->note_session(answer->session.session_id);
      responder->send(start_response(*answer));
    });
  };
  if (!request.header("authorization") && !request.raw.repeats("authorization")) {
    if (granted_plan)
      return responder->fail(Errc::no_credential,
                             "The plan " + start.plan + " takes the application key, or the token of a session that has it.");
    return begin(std::move(start));
  }
  const auto credential = api.authority.credential(request);
  if (!credential) return responder->fail(credential.error());
  if (credential->operator_key) {
    start.vouched = true;
    return begin(std::move(start));
  }
  // A user's token vouches for that user, as far as he was vouched for himself.
  api.ports.gateway.get_session(
      credential->token->session_id, credential->token->generation,
      [responder, begin, granted_plan, start = std::move(start)](result<SessionSnapshot> session) mutable {
        if (!session) return responder->fail(session.error());
        const auto& owner = session->state->user_id;
        if (start.user_id && *start.user_id != owner.text)
          return responder->fail(Errc::forbidden, "The token is another user's.");
        if (granted_plan && !(session->state->vouched && session->state->plan == start.plan))
          return responder->fail(Errc::forbidden, "The token's session has another plan.");
        if (session->state->vouched) {
          start.user_id = owner.text;
          start.vouched = true;
        }
        begin(std::move(start));
      });
}

void post_message(Api& api, const Responder& responder) {
  const auto& request = responder->request();
  const auto& session_id = request.parameters[0];
  const auto token = api.authority.session_token(responder, session_id);
  if (!token) return;
  responder->note_session(session_id);
  auto body = BodyReader::parse(request.raw.body);
  if (!body) return responder->fail(body.error());
  MessageRequest message;
  message.context = context_of(request);
  message.session_id = session_id;
  message.token_generation = token->generation;
  message.text = body->required_text("message", 64 * 1024);
  if (!body->valid()) return responder->fail(body->problem());
  if (!idempotency_key(responder, message.idempotency_key)) return;
  message.fingerprint = body->fingerprint();
  message.respond_async = prefers_async(request);
  const bool async = message.respond_async;
  api.ports.gateway.post_message(std::move(message), [responder, async](result<TurnAnswer> answer) {
    if (!answer) return responder->fail(answer.error());
    responder->note_turn(answer->turn_id);
    auto response = response_of(*answer);
    if (async && response.status == 202) response.with("Preference-Applied", "respond-async");
    responder->send(std::move(response));
  });
}

/// Runs `then` with the session as it is now, for whoever holds its token.
template <class Then>
void with_session(Api& api, const Responder& responder, Then then) {
  const auto& session_id = responder->request().parameters[0];
  const auto token = api.authority.session_token(responder, session_id);
  if (!token) return;
  responder->note_session(session_id);
  api.ports.gateway.get_session(session_id, token->generation,
                                [responder, then = std::move(then)](result<SessionSnapshot> session) {
                                  if (!session) return responder->fail(session.error());
                                  then(*session);
                                });
}

Response response_of(const TurnAnswer& answer) {
  if (is_done(answer.turn())) return turn_response(answer.session, answer.turn());
  return waiting_response(answer.session.session_id, answer.turn_id, answer.position_in_queue, answer.eta_seconds);
}

void get_turn(Api& api, const Responder& responder) {
  const auto& session_id = responder->request().parameters[0];
  const auto token = api.authority.session_token(responder, session_id);
  if (!token) return;
  responder->note_session(session_id);
  api.ports.gateway.get_turn(session_id, token->generation, responder->request().parameters[1],
                             [responder](result<TurnAnswer> answer) {
                               if (!answer) return responder->fail(answer.error());
                               responder->note_turn(answer->turn_id);
                               responder->send(response_of(*answer));
                             });
}

void get_session(Api& api, const Responder& responder) {
  with_session(api, responder, [responder](const SessionSnapshot& session) {
    responder->send(json_response(200, [&](JsonWriter& w) {
      write_session(w, session);
      write_labels(w, *session.state->flow);
    }));
  });
}

void get_conversation(Api& api, const Responder& responder) {
  const auto after = query_number(responder, "after", 0, 0, INT64_MAX);
  if (!after) return;
  const auto limit = query_number(responder, "limit", 100, 1, 500);
  if (!limit) return;
  with_session(api, responder, [responder, after = *after, limit = *limit](const SessionSnapshot& session) {
    responder->send(conversation_response(session, after, limit));
  });
}

// ---- server-sent events (HTML living standard, 9.2)

constexpr std::chrono::seconds stream_idle{15};

/// One client that looks on. It knows up to which version it was told, so that a reconnect goes on where it was cut: its first event
/// says so, or who is cut before the first answer would miss that.
class EventStream final : public SessionWatcher {
 public:
  EventStream(std::shared_ptr<BodyStream> body, std::uint64_t after) : body_(std::move(body)), told_(after) {}

  bool changed(const SessionSnapshot& session) override {
    const auto& state = *session.state;
    std::lock_guard lock(mutex_);
    // In the order in which they were concluded.
    for (const auto& turn : state.turns)
      if (is_done(turn) && turn.last_version > told_) {
        send("turn", turn.last_version, [&](JsonWriter& w) { write_turn(w, session, turn); });
        told_ = turn.last_version;
      }
    for (const auto& turn : state.turns) {
      auto& announced = turn.queued ? queued_ : received_;
      if (is_done(turn) || turn.received_version <= announced) continue;
      announced = turn.received_version;
      send(turn.queued ? "queued" : "received", 0, [&](JsonWriter& w) {
        write_member(w, "turn_id", turn.turn_id);
        write_member(w, "status_url", session_path(session.session_id) + "/turns/" + turn.turn_id);
      });
    }
    if (status_ != state.status) {
      send("status", told_, [&](JsonWriter& w) {
        write_member(w, "status", domain::to_string(state.status));
        write_member(w, "is_complete", domain::is_complete(state));
        write_names(w, "missing", domain::missing_fields(state));
        write_place(w, state.version, session.position());
      });
      status_ = state.status;
    }
    return !body_->over();
  }

  void writing(const std::string& turn_id, std::string_view text, bool restart) override {
    std::lock_guard lock(mutex_);
    // What the client may have of it from a connection before this one is void, too.
    const bool again = !std::exchange(wrote_, true) || restart;
    send("reply", 0, [&](JsonWriter& w) {
      write_member(w, "turn_id", turn_id);
      write_member(w, "text", text);
      if (again) write_member(w, "restart", true);
    });
  }

  bool interested() const override { return !body_->over(); }
  void ended() override { body_->end(); }

 private:
  /// `id` 0: none, the event is of the moment and not told again.
  template <class Write>
  void send(std::string_view event, std::uint64_t id, Write&& write) {
    rapidjson::StringBuffer buffer;
    JsonWriter w(buffer);
    w.StartObject();
    write(w);
    w.EndObject();
    std::string out = "event: " + std::string(event) + "\n";
    if (id != 0) out += "id: " + std::to_string(id) + "\n";
    // JSON of one line: no line break in it can end the event early.
    out.append("data: ").append(buffer.GetString(), buffer.GetSize()).append("\n\n");
    body_->write(out);
  }

  const std::shared_ptr<BodyStream> body_;
  std::mutex mutex_;
  std::uint64_t told_;
  std::uint64_t received_ = 0, queued_ = 0;  // up to which message it was told that it came, that it waits
  bool wrote_ = false;                       // a piece of a reply
  domain::SessionStatus status_ = domain::SessionStatus::none;
};

/// Without Last-Event-ID only what comes from now on is told: what was before stands in the conversation.
std::optional<std::uint64_t> last_event_id(const Responder& responder, std::uint64_t now) {
  const auto given = responder->request().header("last-event-id");
  if (!given || given->empty()) return now;
  std::uint64_t id = 0;
  const auto [end, error] = std::from_chars(given->data(), given->data() + given->size(), id);
  // One that is not reached yet is of a log that was restored from a back-up: going on from now misses nothing more.
  if (error == std::errc() && end == given->data() + given->size()) return std::min(id, now);
  responder->fail(Errc::malformed_request, "Last-Event-ID is not an id that this stream gave.");
  return std::nullopt;
}

void stream(Api& api, const Responder& responder) {
  with_session(api, responder, [&api, responder](const SessionSnapshot& session) {
    const auto after = last_event_id(responder, session.state->version);
    if (!after) return;
    Response head;
    head.content_type = "text/event-stream; charset=utf-8";
    head.with("X-Accel-Buffering", "no");  // a proxy that buffers would hold the reply back
    auto body = responder->begin_stream(std::move(head), ": alive\n\n", stream_idle, api.event_stream_age);
    if (!body) return;
    body->write("retry: 1000\n\n");
    api.ports.gateway.watch(session.session_id, session.state->token_generation, std::make_shared<EventStream>(body, *after),
                            [body](const result<SessionSnapshot>& watched) {
                              if (!watched) body->end();
                            });
  });
}

void resume(Api& api, const Responder& responder) {
  const auto credential = api.authority.credential(responder->request());
  if (!credential) return responder->fail(credential.error());
  const auto session_id = responder->request().parameters[0];
  responder->note_session(session_id);
  const auto carry_out = [&api, responder, session_id](std::optional<std::uint32_t> generation) {
    api.ports.gateway.resume(context_of(responder->request()), session_id, generation, [responder](result<ResumeAnswer> answer) {
      if (!answer) return responder->fail(answer.error());
      const auto& state = *answer->session.state;
      responder->send(json_response(200, [&](JsonWriter& w) {
        write_session(w, answer->session);
        write_member(w, "token", answer->token);
        const auto last = std::find_if(state.turns.rbegin(), state.turns.rend(), is_done);
        write_member(w, "response", last == state.turns.rend() ? state.greeting.text : last->reply.text);
      }));
    });
  };
  if (credential->operator_key) return carry_out(std::nullopt);
  if (credential->token->session_id == session_id) return carry_out(credential->token->generation);
  // The token of another session: good when both belong to one user, whose sessions all lie in one partition.
  if (partition_of_session(credential->token->session_id) != partition_of_session(session_id))
    return responder->fail(Errc::not_found);
  api.ports.gateway.get_session(credential->token->session_id, credential->token->generation,
                                [&api, responder, session_id, carry_out](result<SessionSnapshot> own) {
                                  if (!own) return responder->fail(own.error());
                                  api.ports.gateway.get_session(
                                      session_id, std::nullopt,
                                      [responder, carry_out, key = own->user_key](result<SessionSnapshot> other) {
                                        if (!other) return responder->fail(other.error());
                                        if (other->user_key != key) return responder->fail(Errc::not_found);
                                        carry_out(std::nullopt);
                                      });
                                });
}

}  // namespace

void add_session_routes(Router& router, Api& api) {
  const auto add = [&](Method method, std::string path, void (*handler)(Api&, const Responder&), Body body = Body::none,
                       Charge charge = Charge::none) {
    router.add({.method = method,
                .path = std::move(path),
                .handler = [&api, handler](const Responder& r) { handler(api, r); },
                .body = body,
                .charge = charge});
  };
  const auto one = sessions_path + "/{session_id}";
  add(Method::post, sessions_path, start, Body::optional_json, Charge::start);
  add(Method::post, one + "/messages", post_message, Body::json, Charge::message);
  add(Method::get, one + "/messages", get_conversation);
  add(Method::get, one + "/turns/{turn_id}", get_turn);
  add(Method::get, one + "/stream", stream);
  add(Method::get, one, get_session);
  add(Method::post, one + "/resume", resume, Body::optional_json, Charge::message);
}

}  // namespace onboarding::http
