// /api/users/{user_id}/…: what the read models know of a person, for that person or the client application.
#include <algorithm>
#include <charconv>

#include "events/log/event_log.hpp"
#include "http/routes/api.hpp"
#include "http/routes/session_json.hpp"
#include "http/routes/write.hpp"

namespace onboarding::http {
namespace {

constexpr std::uint64_t max_wait_ms = 25'000, log_delay_ms = 1'000;
constexpr std::int64_t last_place = 9'000'000'000'000'000;  // microseconds: the year 2255

/// Runs `then` once the read model of `projection` has `?min_position=`; 202 with the lag when it does not within `?wait_ms=`, 422
/// for a position that the log does not have.
void when_fresh(Api& api, const Responder& responder, const char* projection, projections::UserSelector user,
                std::function<void(projections::UserSelector)> then) {
  const auto wait_ms = query_number(responder, "wait_ms", 0, 0, max_wait_ms);
  if (!wait_ms) return;
  const auto* text = responder->request().query_value("min_position");
  if (text == nullptr) return then(std::move(user));
  user.at_least = parse_position(*text);
  if (!user.at_least) return responder->fail(Errc::invalid, "min_position must be partition:sequence.");
  log::EventLog& log = api.ports.log;
  const Position wanted = *user.at_least;
  if (wanted.partition >= log.partitions())
    return responder->fail(Errc::invalid, "min_position: the log has " + std::to_string(log.partitions()) + " partitions.");
  // Another server may have written it a moment ago.
  const auto patience = wanted.sequence > log.head(wanted.partition) ? std::max(*wait_ms, log_delay_ms) : *wait_ms;
  api.ports.queries.wait_for({user.at_least, static_cast<std::uint32_t>(patience), projection},
                             [responder, user, wanted, &log, then = std::move(then)](bool reached, projections::Lag lag) {
                               if (reached) return then(user);
                               const Position end{wanted.partition, log.head(wanted.partition)};
                               if (end < wanted && log.writable())
                                 return responder->fail(Errc::invalid,
                                                        "min_position: the log's partition ends at " + to_string(end) + ".");
                               auto response = json_response(202, [&](JsonWriter& w) {
                                 write_member(w, "status", "behind");
                                 write_member(w, "have", to_string(lag.have));
                                 write_member(w, "want", to_string(lag.want));
                                 write_member(w, "lag_events", lag.events);
                               });
                               response.with("Retry-After", "1");
                               responder->send(std::move(response));
                             });
}

/// RFC 9110 13.1.2: `*` or a list of tags, compared weakly.
bool matches(std::string_view if_none_match, std::string_view tag) {
  if (if_none_match == "*") return true;
  for (auto at = if_none_match.find(tag); at != if_none_match.npos; at = if_none_match.find(tag, at + 1)) {
    const auto after = at + tag.size();
    const bool begins = at == 0 || if_none_match[at - 1] == ' ' || if_none_match[at - 1] == ',' || if_none_match[at - 1] == '/';
    if (begins && (after == if_none_match.size() || if_none_match[after] == ',' || if_none_match[after] == ' ')) return true;
  }
  return false;
}

void write_stored(JsonWriter& w, std::string_view text, std::string_view type) {
  if (type == "boolean") w.Bool(text == "true");
  else if (type == "integer" || type == "number") w.RawValue(text.data(), text.size(), rapidjson::kNumberType);
  else write_string(w, text);
}

void send_profile(const Responder& responder, const projections::Profile& profile) {
  const auto tag = "\"" + profile.etag + "\"";
  const auto condition = responder->request().header("if-none-match");
  Response response;
  if (condition && matches(*condition, tag)) {
    response.status = 304;
  } else {
    response = json_response(200, [&](JsonWriter& w) {
      write_member(w, "user_id", profile.user_id);
      write_member(w, "vouched", profile.vouched);
      write_key(w, "fields");
      w.StartObject();
      for (const auto& [field, value] : profile.fields) {
        const auto type =
            std::find_if(profile.types.begin(), profile.types.end(), [&](const auto& t) { return t.first == field; });
        write_key(w, field);
        write_stored(w, value, type == profile.types.end() ? std::string_view() : std::string_view(type->second));
      }
      w.EndObject();
      write_member(w, "updated_at", codec::format_time(profile.updated_at));
    });
  }
  response.cache_control = "private, no-cache";
  response.with("ETag", tag);
  responder->send(std::move(response));
}

void get_profile(Api& api, const Responder& responder) {
  for_user(api.authority, api.ports.gateway, responder, responder->request().parameters[0],
           [&api, responder](const projections::UserSelector& user) {
             when_fresh(api, responder, "profile", user, [&api, responder](const projections::UserSelector& fresh) {
               api.ports.queries.profile(fresh, [responder](result<projections::Profile> profile) {
                 if (!profile) return responder->fail(profile.error());
                 send_profile(responder, *profile);
               });
             });
           });
}

// ---- lists of sessions, page by page

constexpr std::uint64_t most_rows = 1'000, usual_rows = 100;

/// `?limit=` and `?after=`, which is what a page's `next` says: the place of its last row. Answers 422 and returns nullopt.
std::optional<projections::PageRequest> page_of(const Responder& responder) {
  const auto limit = query_number(responder, "limit", usual_rows, 1, most_rows);
  if (!limit) return std::nullopt;
  projections::PageRequest page;
  page.limit = static_cast<std::uint32_t>(*limit);
  const auto* after = responder->request().query_value("after");
  if (after == nullptr) return page;
  const auto dot = std::min(after->find('.'), after->size());
  std::int64_t micros = 0;
  const auto [end, error] = std::from_chars(after->data(), after->data() + dot, micros);
  if (error != std::errc() || end != after->data() + dot || micros < 0 || micros > last_place || dot + 1 >= after->size())
    return responder->fail(Errc::invalid, "after must be what an earlier page's next says."), std::nullopt;
  page.after = projections::SessionPlace{domain::Timestamp(std::chrono::microseconds(micros)), after->substr(dot + 1)};
  return page;
}

/// Path and query of the page behind `place`, with all that was asked for.
std::string path_of_next(const Request& request, const projections::SessionPlace& place) {
  std::string path = request.path + "?";
  for (const auto& [name, value] : request.query)
    if (name != "after" && name != "min_position" && name != "wait_ms") path += name + "=" + percent_encode(value) + "&";
  return path + "after=" + std::to_string(place.created_at.time_since_epoch().count()) + "." + percent_encode(place.session_id);
}

template <class WriteMore>
void send_page(const Responder& responder, const result<projections::SessionPage>& page, const WriteMore& write_more) {
  if (!page) return responder->fail(page.error());
  responder->send(json_response(200, [&](JsonWriter& w) {
    write_objects(w, "sessions", page->rows, [&](const projections::SessionRow& row) {
      write_member(w, "session_id", row.session_id);
      write_member(w, "user_id", row.user_id);
      write_member(w, "status", row.status);
      write_member(w, "flow", row.flow);
      write_member(w, "plan", row.plan);
      write_member(w, "created_at", codec::format_time(row.created_at));
      write_member(w, "updated_at", codec::format_time(row.updated_at));
      if (row.completed_at) write_member(w, "completed_at", codec::format_time(*row.completed_at));
      write_member(w, "total_messages_count", row.total_messages_count);
      write_more(w, row);
    });
    if (page->next) write_member(w, "next", path_of_next(responder->request(), *page->next));
  }));
}

void get_sessions(Api& api, const Responder& responder) {
  const auto page = page_of(responder);
  if (!page) return;
  for_user(api.authority, api.ports.gateway, responder, responder->request().parameters[0],
           [&api, responder, page = *page](const projections::UserSelector& user) {
             when_fresh(api, responder, "sessions", user, [&api, responder, page](const projections::UserSelector& fresh) {
               api.ports.queries.sessions_of_user(fresh, page, [responder](const result<projections::SessionPage>& rows) {
                 send_page(responder, rows, [](JsonWriter&, const projections::SessionRow&) {});
               });
             });
           });
}

void get_all_sessions(Api& api, const Responder& responder) {
  if (!api.authority.operator_only(responder)) return;
  const auto page = page_of(responder);
  if (!page) return;
  const auto value = [&](std::string_view name) {
    const auto* text = responder->request().query_value(name);
    return text == nullptr ? std::string() : *text;
  };
  projections::SessionFilter filter{value("status"), value("flow"), value("plan"), value("user_id"), {}, {}};
  if (!query_time(responder, "since", filter.since) || !query_time(responder, "before", filter.before)) return;
  if (!filter.status.empty() && filter.status != "active" && filter.status != "completed" && filter.status != "abandoned")
    return responder->fail(Errc::invalid, "status must be active, completed or abandoned.");
  api.ports.queries.sessions(std::move(filter), *page, [responder](const result<projections::SessionPage>& rows) {
    send_page(responder, rows, [](JsonWriter& w, const projections::SessionRow& row) {
      write_member(w, "user_key", row.user_key);
      write_member(w, "flow_version", row.flow_version);
    });
  });
}

/// All that is known of a person, session by session, each written as it was read: from the log, so it is the newest.
class PersonExport : public std::enable_shared_from_this<PersonExport> {
 public:
  PersonExport(Api& api, Responder responder, std::string user_id, std::vector<std::string> sessions)
      : api_(api), responder_(std::move(responder)), user_id_(std::move(user_id)), sessions_(std::move(sessions)) {}

  void next() {
    if (answered_ || (body_ && body_->over())) return;
    if (at_ == sessions_.size()) return end();
    api_.ports.gateway.get_session(sessions_[at_++], std::nullopt, [self = shared_from_this()](result<SessionSnapshot> session) {
      if (session) self->write(*session);
      else if (session.error().code != make_error_code(GatewayErrc::unknown_session)) return self->fail(session.error());
      self->next();  // who was erased is not there
    });
  }

 private:
  void write(const SessionSnapshot& session) {
    const bool first = body_ == nullptr;
    if (first) {
      Response head;
      head.with("Content-Disposition", "attachment; filename=\"my-data.json\"");
      body_ = responder_->begin_stream(std::move(head), " ", std::chrono::seconds(15));
      answered_ = body_ == nullptr;  // HEAD, or no room for a stream
      if (answered_) return;
      const auto opening = json_response(200, [&](JsonWriter& w) {
        write_member(w, "user_id", user_id_);
        write_member(w, "exported_at", codec::format_time(api_.ports.clock.now()));
        write_key(w, "sessions");
        w.StartArray();
        w.EndArray();
      });
      body_->write(std::string_view(opening.body).substr(0, opening.body.size() - 2));  // before "]}"
    }
    const auto written = json_response(200, [&](JsonWriter& w) {
      write_session(w, session);
      write_key(w, "messages");
      w.StartArray();
      for (const Line& line : conversation(*session.state)) write_line(w, line);
      w.EndArray();
      write_objects(w, "refused_values", refused(*session.state), [&](const domain::RejectedValue* value) {
        write_member(w, "field", value->field);
        write_member(w, "value", value->value);
        write_member(w, "code", value->reason);
      });
    });
    body_->write((first ? "" : ",") + written.body);
  }
  static std::vector<const domain::RejectedValue*> refused(const domain::State& state) {
    std::vector<const domain::RejectedValue*> values;
    for (const auto& turn : state.turns)
      for (const auto& value : turn.rejected) values.push_back(&value);
    return values;
  }
  void fail(const Failure& why) {
    if (body_) body_->end(false);
    else responder_->fail(why);
  }
  void end() {
    if (!body_) return responder_->fail(Errc::not_found);
    body_->write("]}");
    body_->end();
  }

  Api& api_;
  const Responder responder_;
  const std::string user_id_;
  const std::vector<std::string> sessions_;
  std::size_t at_ = 0;
  bool answered_ = false;
  std::shared_ptr<BodyStream> body_;  // once there is something to tell
};

void get_export(Api& api, const Responder& responder) {
  for_user(api.authority, api.ports.gateway, responder, responder->request().parameters[0],
           [&api, responder](const projections::UserSelector& user) {
             api.ports.gateway.sessions_of(
                 {user.user_id, user.user_key}, [&api, responder, user_id = user.user_id](auto sessions) {
                   if (!sessions) return responder->fail(sessions.error());
                   std::make_shared<PersonExport>(api, responder, user_id, std::move(*sessions))->next();
                 });
           });
}

void erase_user(Api& api, const Responder& responder) {
  for_user(api.authority, api.ports.gateway, responder, responder->request().parameters[0],
           [&api, responder](const projections::UserSelector& user) {
             const RequestContext context{responder->request().request_id, responder->request().traceparent};
             api.ports.gateway.erase_person(context, {user.user_id, user.user_key}, [responder](result<std::uint32_t> sessions) {
               if (!sessions) return responder->fail(sessions.error());
               if (*sessions == 0) return responder->fail(Errc::not_found);
               responder->send(json_response(200, [&](JsonWriter& w) {
                 write_member(w, "status", "erased");
                 write_member(w, "sessions", *sessions);
               }));
             });
           });
}

}  // namespace

void add_user_routes(Router& router, Api& api) {
  router.add({.method = Method::get, .path = "/api/users/{user_id}/profile", .handler = [&api](const Responder& r) {
                get_profile(api, r);
              }});
  router.add({.method = Method::get, .path = "/api/users/{user_id}/sessions", .handler = [&api](const Responder& r) {
                get_sessions(api, r);
              }});
  router.add({.method = Method::get, .path = "/api/users/{user_id}/export", .handler = [&api](const Responder& r) {
                get_export(api, r);
              }});
  router.add(
      {.method = Method::delete_, .path = "/api/users/{user_id}", .handler = [&api](const Responder& r) { erase_user(api, r); }});
}

void add_session_list_route(Router& router, Api& api) {
  router.add({.method = Method::get, .path = "/api/admin/sessions", .handler = [&api](const Responder& r) {
                get_all_sessions(api, r);
              }});
}

}  // namespace onboarding::http
