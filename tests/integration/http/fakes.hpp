// Stand-ins for what the HTTP layer calls. The gateway keeps real session states by the real decider, so that the shapes
// of answers are those of the real thing; it can be told to hold answers back and to refuse.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "actors/flows.hpp"
#include "actors/gateway.hpp"
#include "actors/model/control.hpp"
#include "events/clock.hpp"
#include "events/log/event_log.hpp"
#include "events/privacy/secrets.hpp"
#include "projections/control.hpp"
#include "projections/queries.hpp"

namespace onboarding::http::testing {

class OneFlow final : public domain::FlowCatalog {
 public:
  std::shared_ptr<const domain::Flow> find(std::string_view name, std::uint32_t) const override { return newest(name); }
  std::shared_ptr<const domain::Flow> newest(std::string_view name) const override {
    return name == "default" ? std::make_shared<const domain::Flow>(domain::default_flow()) : nullptr;
  }
};

class FakeGateway : public Gateway {
 public:
  explicit FakeGateway(const privacy::Secrets& secrets) : secrets_(secrets) {}
  ~FakeGateway() override { release(); }

  void start_session(StartRequest request, Done<SessionStartedAnswer> done) override {
    std::lock_guard lock(mutex_);
    last_start = request;
    if (refuse_with) return done(failure(*refuse_with));
    const auto flow = flows_.newest(request.flow);
    if (!flow) return done(failure(make_error_code(GatewayErrc::unknown_flow)));
    const auto user = request.user_id.value_or("usr_made_up");
    std::string random = "0123456789abcdef";
    random[0] = static_cast<char>(sessions_.size() % 256);
    random[1] = static_cast<char>(sessions_.size() / 256);
    const auto id = make_session_id(7, random);
    auto& session = sessions_[id];
    session.user_key = secrets_.user_key(user, request.vouched, id);
    session.state = domain::initial();
    apply(session,
          domain::StartSession{user, flow, "", request.plan, request.locale, "hash", request.vouched, "", request.fingerprint});
    done(SessionStartedAnswer{snapshot(id, session), secrets_.session_token(id, 1), false});
  }

  void post_message(MessageRequest request, Done<TurnAnswer> done) override {
    std::unique_lock lock(mutex_);
    if (refuse_with) return done(failure(*refuse_with));
    auto found = sessions_.find(request.session_id);
    if (found == sessions_.end()) return done(failure(make_error_code(GatewayErrc::unknown_session)));
    auto& session = found->second;
    if (request.token_generation != session.state.token_generation)
      return done(failure(make_error_code(GatewayErrc::stale_token)));
    ++messages_received;
    const auto turn = "trn_" + std::to_string(messages_received);
    const auto received =
        apply(session, domain::ReceiveMessage{turn, request.text, request.idempotency_key.value_or(""), request.fingerprint});
    if (!received) return done(failure(make_error_code(GatewayErrc::message_empty)));
    if (request.respond_async) return done(TurnAnswer{snapshot(request.session_id, session), turn, true, 1, 3});
    auto finish = [this, id = request.session_id, turn, text = request.text, done] {
      std::unique_lock inner(mutex_);
      auto& s = sessions_[id];
      domain::ConcludeTurn conclude;
      conclude.turn_id = turn;
      conclude.answer = domain::ModelAnswer{"Heard: " + text, {{"full_name", "Ann Lee"}, {"team_size", "40"}}, {}};
      if (text == "bad address") conclude.answer->fields.emplace_back("email", "nobody");
      conclude.source = "offline";
      if (domain::find_turn(s.state, turn)->activation == 0) apply(s, domain::StartTurn{turn, 1});
      apply(s, conclude);
      auto answer = TurnAnswer{snapshot(id, s), turn};
      const auto watchers = watchers_[id];
      inner.unlock();
      for (const auto& watcher : watchers) {
        watcher->writing(turn, "Heard: ", false);
        watcher->changed(answer.session);
      }
      done(std::move(answer));
    };
    if (hold_answers) {
      held_.push_back(std::move(finish));
      return;
    }
    lock.unlock();
    finish();
  }

  void get_session(std::string id, std::optional<std::uint32_t> generation, Done<SessionSnapshot> done) override {
    std::unique_lock lock(mutex_);
    const auto found = sessions_.find(id);
    if (found == sessions_.end()) return done(failure(make_error_code(GatewayErrc::unknown_session)));
    if (generation && *generation != found->second.state.token_generation)
      return done(failure(make_error_code(GatewayErrc::stale_token)));
    auto answer = snapshot(id, found->second);
    lock.unlock();
    done(std::move(answer));
  }

  void get_turn(std::string id, std::uint32_t generation, std::string turn_id, Done<TurnAnswer> done) override {
    get_session(std::move(id), generation,
                [turn_id = std::move(turn_id), done = std::move(done)](result<SessionSnapshot> session) {
                  if (!session) return done(tl::make_unexpected(session.error()));
                  if (domain::find_turn(*session->state, turn_id) == nullptr)
                    return done(failure(make_error_code(GatewayErrc::unknown_turn)));
                  std::uint32_t place = 0;
                  for (const auto& turn : session->state->turns) {
                    if (turn.replied_version == 0) ++place;
                    if (turn.turn_id == turn_id) break;
                  }
                  done(TurnAnswer{*session, turn_id, true, place, 3});
                });
  }

  void watch(std::string id, std::uint32_t generation, std::shared_ptr<SessionWatcher> watcher,
             Done<SessionSnapshot> done) override {
    get_session(id, generation, [&](result<SessionSnapshot> session) {
      done(session);
      if (!session) return;
      {
        // First: whoever sees the first event may cause the next.
        std::lock_guard lock(mutex_);
        watchers_[id].push_back(watcher);
      }
      watcher->changed(*session);
    });
  }

  void resume(RequestContext, std::string id, std::optional<std::uint32_t> generation, Done<ResumeAnswer> done) override {
    std::unique_lock lock(mutex_);
    const auto found = sessions_.find(id);
    if (found == sessions_.end()) return done(failure(make_error_code(GatewayErrc::unknown_session)));
    if (generation && *generation != found->second.state.token_generation)
      return done(failure(make_error_code(GatewayErrc::stale_token)));
    const auto next = found->second.state.token_generation + 1;
    apply(found->second, domain::IssueToken{next, "hash"});
    auto answer = ResumeAnswer{snapshot(id, found->second), secrets_.session_token(id, next)};
    lock.unlock();
    done(std::move(answer));
  }

  void sessions_of(PersonSelector who, Done<std::vector<std::string>> done) override {
    std::vector<std::string> ids;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& [id, session] : sessions_)
        if (who.user_key.empty() ? session.state.user_id.text == who.user_id : session.user_key == who.user_key)
          ids.push_back(id);
    }
    done(std::move(ids));
  }
  void erase_person(RequestContext, PersonSelector who, Done<std::uint32_t> done) override {
    sessions_of(std::move(who), [&](const result<std::vector<std::string>>& ids) {
      const std::lock_guard lock(mutex_);
      for (const auto& id : *ids) sessions_.erase(id);
      done(static_cast<std::uint32_t>(ids->size()));
    });
  }
  void drain(std::function<void()> done) override { done(); }
  bool draining() const override { return false; }

  /// Answers all that is held, on a thread that is not the server's.
  void release() {
    std::vector<std::function<void()>> held;
    {
      std::lock_guard lock(mutex_);
      hold_answers = false;
      held.swap(held_);
    }
    std::thread([&] {
      for (const auto& answer : held) answer();
    }).join();
  }
  std::size_t held() const {
    std::lock_guard lock(mutex_);
    return held_.size();
  }

  std::atomic<bool> hold_answers{false};
  std::optional<std::error_code> refuse_with;
  std::size_t messages_received = 0;
  std::optional<StartRequest> last_start;

 private:
  struct Session {
    std::string user_key;
    domain::State state;
  };
  bool apply(Session& session, domain::Command command) {
    const domain::Facts facts{domain::Timestamp(std::chrono::seconds(1'700'000'000)), {}};
    auto events = domain::decide(session.state, command, facts);
    if (!events) return false;
    for (auto& event : *events)
      domain::evolve(session.state, {session.state.version + 1, session.state.sequence + 1, facts.now, std::move(event)}, flows_);
    return true;
  }
  SessionSnapshot snapshot(const std::string& id, const Session& session) const {
    return {id, session.user_key, 7, std::make_shared<const domain::State>(session.state)};
  }

  const privacy::Secrets& secrets_;
  OneFlow flows_;
  mutable std::mutex mutex_;
  std::map<std::string, Session> sessions_;
  std::map<std::string, std::vector<std::shared_ptr<SessionWatcher>>> watchers_;
  std::vector<std::function<void()>> held_;
};

/// Does as it is told, unless the revision is not 7.
class FakeProjections final : public projections::Control {
 public:
  void act(projections::Action action, Done<projections::Outcome> done) override {
    last = action;
    if (action.revision && *action.revision != 7) return done(failure(projections::Errc::changed, "it is 7 now"));
    projections::Outcome outcome{8, {}, 5, 1, 0, action.after == "usr_0", "usr_1"};
    outcome.complete = outcome.complete || action.verb != "retry";
    done(outcome);
  }
  void parked(std::string, std::string after, Done<std::vector<projections::ParkedRow>> done) override {
    if (after == "usr_1") return done(std::vector<projections::ParkedRow>{});
    done(std::vector<projections::ParkedRow>{{"usr_1", 2, false, {3, 12}, 4, "as the test wants", "2026-11-21T10:00:00Z"}});
  }
  projections::Action last;
};

class FakeQueries final : public projections::Queries {
 public:
  void profile(projections::UserSelector user, Done<projections::Profile> done) override {
    last_selector = user;
    if (down) return done(failure(make_error_code(projections::Errc::unavailable)));
    done(projections::Profile{user.user_id,
                              true,
                              {{"full_name", "Ann Lee"}, {"team_size", "40"}},
                              {{"full_name", "person_name"}, {"team_size", "integer"}},
                              {},
                              "v1"});
  }
  void sessions_of_user(projections::UserSelector user, projections::PageRequest page,
                        Done<projections::SessionPage> done) override {
    last_selector = user;
    last_page = std::move(page);
    if (down) return done(failure(make_error_code(projections::Errc::unavailable)));
    done(page_of(user.user_id));
  }
  void sessions(projections::SessionFilter filter, projections::PageRequest page, Done<projections::SessionPage> done) override {
    last_page = std::move(page);
    last_filter = filter;
    done(page_of(filter.user_id));
  }
  /// One session, and more behind it.
  static projections::SessionPage page_of(const std::string& user_id) {
    const domain::Timestamp time{std::chrono::microseconds(1'763'750'000'000'001)};
    projections::SessionRow row{"ses_1", user_id, "active", "default", "free", time, {}, 3, "key", 1, time};
    return {{row}, projections::SessionPlace{time, "ses_1"}};
  }
  void funnel(Done<std::vector<projections::FunnelStep>> done) override {
    done(std::vector<projections::FunnelStep>{{"default", 1, 0, "started", "", 4, 1.0},
                                              {"default", 1, 1, "asked", "email", 3, 0.75}});
  }
  void stats(Done<projections::Stats> done) override { done(projections::Stats{3, 2, 0.8, 4.5, 0.01}); }
  void completion(std::uint32_t days, Done<projections::Completion> done) override {
    done(projections::Completion{{"", 10, 8, 0.8, 4.5, 4, 5, 6}, days, {{"2026-11-21", 10, 8, 0.8, 4.5, 4, 5, 6}}});
  }
  void abandonment(std::uint32_t, Done<std::vector<projections::AbandonmentField>> done) override {
    done(std::vector<projections::AbandonmentField>{{"email", 2, 9, 1.0, 0.22}});
  }
  void messages(std::uint32_t, Done<projections::MessageBuckets> done) override {
    done(projections::MessageBuckets{1, 2, 3, 4, 9.5});
  }
  void usage(std::uint32_t, Done<std::vector<projections::UsageRow>> done) override {
    projections::UsageFigures one, two;
    one.calls = 3, one.input_tokens = 900, one.output_tokens = 100, one.cost_nanodollars = 1'500'000'000;
    two.calls = 1, two.cost_nanodollars = 1;
    done(std::vector<projections::UsageRow>{{"2026-11-20", "openai", "gpt-6-luna", "free", one},
                                            {"2026-11-21", "gemini", "m", "pro", two}});
  }
  void quality(std::uint32_t, Done<std::vector<projections::QualityDay>> done) override {
    done(std::vector<projections::QualityDay>{{"2026-11-20", {2, 10, 5, 20, 5, 8, 2, 10, 1, 1, 10, 2}},
                                              {"2026-11-21", {1, 10, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0}}});
  }
  void wait_for(projections::Freshness, std::function<void(bool, projections::Lag)> done) override {
    done(fresh, {{7, 3}, {7, 9}, 6});
  }
  std::vector<projections::ProjectionStatus> projections() const override {
    return {{"profile", 1, "running", 0, 0, 0, down ? "relation at 10.1.2.3" : ""}};
  }
  projections::DatabaseStatus database() const override {
    projections::DatabaseStatus status{!down, false, 1, 2, 30, 0, 0.5, down ? "connection to 10.1.2.3" : ""};
    if (down) status.replica.configured = true, status.replica.detail = "replica at 10.1.2.3";
    return status;
  }

  bool down = false, fresh = true;
  projections::UserSelector last_selector;
  projections::PageRequest last_page;
  projections::SessionFilter last_filter;
};

/// One provider that can be changed.
class FakeControl final : public model::Control {
 public:
  void status(Done done) override {
    model::ModelStatus status;
    status.providers.emplace_back();
    status.providers[0].name = "openai";
    status.providers[0].limits = {{"requests_per_minute", 500, 125}};
    status.queue_mode = mode;
    done(std::make_shared<const model::ModelStatus>(std::move(status)));
  }
  void change(model::ProviderChange change, Done done) override {
    if (change.name != "openai") return done(failure(std::make_error_code(std::errc::no_such_device)));
    last_change = std::move(change);
    status(std::move(done));
  }
  void set_queue_mode(model::QueueMode to, Done done) override {
    mode = to;
    status(std::move(done));
  }
  const std::vector<std::string>& plans() const override { return configured_plans; }

  model::QueueMode mode = model::QueueMode::automatic;
  std::optional<model::ProviderChange> last_change;
  std::vector<std::string> configured_plans;
};

/// The shipped flow, which cannot be changed.
class FakeFlows final : public Flows {
 public:
  result<PublishedFlow> find(std::string_view name, std::uint32_t version) const override {
    if (name != "default" || version > 1) return failure(make_error_code(GatewayErrc::unknown_flow));
    return PublishedFlow{1, R"({"name":"default"})"};
  }
  void put(std::string, std::string, std::function<void(result<PublishedFlow>)> done) override {
    done(failure(make_error_code(GatewayErrc::overloaded)));
  }
};

/// Only writable() matters here.
class FakeLog final : public log::EventLog {
 public:
  std::string log_id() const override { return "log"; }
  std::uint32_t partitions() const override { return 24; }
  result<void> writable() const override {
    if (full) return failure(make_error_code(log::Errc::not_writable));
    return {};
  }
  void append(log::Append, log::AppendDone) override {}
  void read_stream(std::uint32_t, std::string, std::uint64_t, std::size_t, log::RecordsRead) override {}
  result<std::vector<log::Record>> read_partition(std::uint32_t, std::uint64_t, std::size_t, std::size_t) override {
    return std::vector<log::Record>();
  }
  std::uint64_t head(std::uint32_t) const override { return 100; }
  std::unique_ptr<log::Subscription> subscribe(std::function<void(std::uint32_t)>) override { return nullptr; }
  result<std::vector<log::OpenStream>> pending_turns(std::uint32_t, std::size_t) override {
    return std::vector<log::OpenStream>();
  }
  result<std::vector<log::OpenStream>> due(std::uint32_t, domain::Timestamp, std::size_t) override {
    return std::vector<log::OpenStream>();
  }
  result<std::uint64_t> open_count() override { return 0; }

  bool full = false;
};

}  // namespace onboarding::http::testing
