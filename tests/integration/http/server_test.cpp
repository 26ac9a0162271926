// The running server over real sockets, with a fake gateway and fake queries behind it.
#include <gtest/gtest.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>
#include <rapidjson/document.h>

#include <future>
#include <set>

#include "http/http_server.hpp"
#include "http/openapi.hpp"
#include "tests/integration/http/client.hpp"
#include "tests/integration/http/fakes.hpp"

namespace onboarding::http::testing {
namespace {

const std::string operator_key = "operator-key-of-the-test";

class Lines final : public AccessLog {
 public:
  void write(std::string_view line) override {
    std::lock_guard lock(mutex_);
    lines_.emplace_back(line);
  }
  std::uint64_t dropped() const override { return 0; }
  std::vector<std::string> lines() const {
    std::lock_guard lock(mutex_);
    return lines_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;
};

template <class Condition>
bool eventually(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(15);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

struct Started {
  std::string id, token, user_id;
};

class HttpServerTest : public ::testing::Test {
 protected:
  void SetUp() override { serve(); }
  void TearDown() override { gateway.release(); }

  void serve(const std::function<void(HttpOptions&)>& change = {}) {
    server.reset();
    registry = std::make_unique<prometheus::Registry>();
    HttpOptions options;
    options.listen = "127.0.0.1:0";
    options.admin_listen = "127.0.0.1:0";
    options.operator_key = operator_key;
    options.throttle.requests_per_minute_per_ip = 0;
    options.version = "test";
    if (change) change(options);
    auto started = start_http(
        options,
        HttpPorts{
            gateway, queries, secrets, log, *registry, system_clock(), system_random(), {}, &lines, &control, &operated, &flows});
    ASSERT_TRUE(started.has_value()) << started.error().message();
    server = std::move(*started);
  }

  static std::string request(const std::string& method, const std::string& target, const std::string& body = {},
                             const std::string& fields = {}) {
    std::string text = method + " " + target + " HTTP/1.1\r\nHost: localhost\r\n" + fields;
    if (!body.empty()) text += "Content-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n";
    return text + "\r\n" + body;
  }
  static std::string bearer(const std::string& token) { return "Authorization: Bearer " + token + "\r\n"; }
  Answer ask(const std::string& text, bool admin = false) {
    Client client(admin ? server->admin_port() : server->port());
    client.say(text);
    return client.hear();
  }
  Started start(const std::string& user = "ann", const std::string& fields = {}) {
    const auto answer = ask(request("POST", "/api/onboarding/sessions", R"({"user_id":")" + user + "\"}", fields));
    EXPECT_EQ(answer.status, 201) << answer.body;
    const auto body = json(answer);
    return {body["session_id"].GetString(), body["token"].GetString(), body["user_id"].GetString()};
  }
  static rapidjson::Document json(const Answer& answer) {
    rapidjson::Document document;
    document.Parse(answer.body.data(), answer.body.size());
    EXPECT_FALSE(document.HasParseError()) << answer.body;
    return document;
  }
  static std::string messages(const Started& session) { return "/api/onboarding/sessions/" + session.id + "/messages"; }

  privacy::Secrets secrets = privacy::Secrets::from_bytes({1, 2, 3});
  FakeGateway gateway{secrets};
  FakeQueries queries;
  FakeLog log;
  FakeControl control;
  FakeProjections operated;
  FakeFlows flows;
  Lines lines;
  std::unique_ptr<prometheus::Registry> registry;
  std::unique_ptr<HttpServer> server;
};

// ---- server-sent events

TEST_F(HttpServerTest, a_stream_tells_the_reply_while_it_is_written_and_then_the_turn) {
  const auto session = start();
  Client looking(server->port());
  looking.say(request("GET", "/api/onboarding/sessions/" + session.id + "/stream", {}, bearer(session.token)));
  const auto head = looking.hear(10'000, true);
  ASSERT_EQ(head.status, 200);
  EXPECT_EQ(head.headers.at("content-type"), "text/event-stream; charset=utf-8");
  EXPECT_EQ(head.headers.at("transfer-encoding"), "chunked");
  EXPECT_NE(looking.hear_until("event: status\n"), "");
  EXPECT_EQ(ask(request("POST", messages(session), R"({"message":"hi"})", bearer(session.token))).status, 200);
  EXPECT_NE(looking.hear_until("event: reply\ndata: {\"turn_id\":\"trn_1\",\"text\":\"Heard: \",\"restart\":true}\n\n"), "")
      << "the first piece on a connection makes void what came on one before";
  EXPECT_NE(looking.hear_until("event: turn\nid: "), "");
  EXPECT_NE(looking.hear_until("\"turn_id\":\"trn_1\""), "");
}

TEST_F(HttpServerTest, a_streams_head_alone_is_that_of_the_stream_and_the_connection_goes_on) {
  const auto session = start();
  Client looking(server->port());
  looking.say(request("HEAD", "/api/onboarding/sessions/" + session.id + "/stream", {}, bearer(session.token)));
  const auto head = looking.hear(10'000, true);
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.headers.at("content-type"), "text/event-stream; charset=utf-8");
  EXPECT_EQ(head.headers.at("transfer-encoding"), "chunked");
  EXPECT_FALSE(head.headers.contains("content-length"));
  looking.say(request("GET", "/livez"));
  EXPECT_EQ(looking.hear().status, 200);
}

TEST_F(HttpServerTest, a_stream_goes_on_behind_the_last_event_id) {
  const auto session = start();
  for (const char* text : {"one", "two", "three"})
    ASSERT_EQ(
        ask(request("POST", messages(session), std::string(R"({"message":")") + text + "\"}", bearer(session.token))).status,
        200);
  const auto turn =
      json(ask(request("GET", "/api/onboarding/sessions/" + session.id + "/turns/trn_1", {}, bearer(session.token))));
  Client looking(server->port());
  looking.say(request("GET", "/api/onboarding/sessions/" + session.id + "/stream", {},
                      bearer(session.token) + "Last-Event-ID: " + std::to_string(turn["version"].GetUint64()) + "\r\n"));
  const auto told = looking.hear_until("event: status");
  EXPECT_EQ(told.find("Heard: one"), std::string::npos);
  EXPECT_NE(told.find("Heard: two"), std::string::npos);
  EXPECT_NE(told.find("Heard: three"), std::string::npos);
}

TEST_F(HttpServerTest, a_last_event_id_that_is_not_reached_yet_hides_no_turn) {
  const auto session = start();
  Client looking(server->port());
  looking.say(request("GET", "/api/onboarding/sessions/" + session.id + "/stream", {},
                      bearer(session.token) + "Last-Event-ID: 18446744073709551615\r\n"));
  ASSERT_NE(looking.hear_until("event: status"), "");
  ASSERT_EQ(ask(request("POST", messages(session), R"({"message":"hi"})", bearer(session.token))).status, 200);
  EXPECT_NE(looking.hear_until("event: turn\nid: "), "");
}

TEST_F(HttpServerTest, a_drain_does_not_wait_for_whoever_never_reads_his_stream) {
  const auto session = start();
  Client looking(server->port(), 2'048);
  looking.say(request("GET", "/api/onboarding/sessions/" + session.id + "/stream", {}, bearer(session.token)));
  ASSERT_NE(looking.hear_until("event: status"), "");
  const auto text = std::string(60'000, 'x');
  for (int n = 0; n < 50; ++n) ask(request("POST", messages(session), R"({"message":")" + text + "\"}", bearer(session.token)));
  server->begin_drain();
  EXPECT_TRUE(server->finish_drain(std::chrono::seconds(10)));
}

TEST_F(HttpServerTest, a_stream_is_for_its_session_s_token_and_its_ids_only) {
  const auto ann = start("ann"), bob = start("bob");
  const auto path = "/api/onboarding/sessions/" + ann.id + "/stream";
  EXPECT_EQ(ask(request("GET", path)).status, 401);
  EXPECT_EQ(ask(request("GET", path, {}, bearer(bob.token))).status, 404);
  EXPECT_EQ(ask(request("GET", path, {}, bearer(ann.token) + "Last-Event-ID: x\r\n")).status, 400);
}

TEST_F(HttpServerTest, a_drain_ends_streams_in_order_and_does_not_wait_for_them) {
  const auto session = start();
  Client looking(server->port());
  looking.say(request("GET", "/api/onboarding/sessions/" + session.id + "/stream", {}, bearer(session.token)));
  ASSERT_NE(looking.hear_until("event: status"), "");
  server->begin_drain();
  EXPECT_TRUE(server->finish_drain(std::chrono::seconds(10)));
  EXPECT_NE(looking.hear_until("\r\n0\r\n\r\n"), "");
  EXPECT_TRUE(looking.hears_end());
}

TEST_F(HttpServerTest, more_streams_than_may_be_are_503) {
  serve([](HttpOptions& options) { options.limits.max_streams = 1; });
  const auto session = start();
  const auto stream = request("GET", "/api/onboarding/sessions/" + session.id + "/stream", {}, bearer(session.token));
  Client first(server->port());
  first.say(stream);
  EXPECT_EQ(first.hear(10'000, true).status, 200);
  EXPECT_EQ(ask(stream).status, 503);
}

TEST_F(HttpServerTest, an_address_has_so_many_streams_at_once_and_another_has_its_own) {
  serve([](HttpOptions& options) {
    options.limits.max_streams_per_client = 1;
    options.throttle.trusted_proxies = {"127.0.0.1"};
  });
  const auto session = start();
  const auto stream_for = [&](const std::string& address) {
    return request("GET", "/api/onboarding/sessions/" + session.id + "/stream", {},
                   bearer(session.token) + "X-Forwarded-For: " + address + "\r\n");
  };
  auto first = std::make_unique<Client>(server->port());
  first->say(stream_for("192.0.2.1"));
  EXPECT_EQ(first->hear(10'000, true).status, 200);
  const auto refused = ask(stream_for("192.0.2.1"));
  EXPECT_EQ(refused.status, 429);
  EXPECT_NE(refused.headers.at("retry-after"), "0");
  Client other(server->port());
  other.say(stream_for("192.0.2.2"));
  EXPECT_EQ(other.hear(10'000, true).status, 200);
  first.reset();
  EXPECT_TRUE(eventually([&] {
    // Whoever watches is told of each turn, and then it is seen that the client has gone.
    ask(request("POST", messages(session), R"({"message":"hi"})", bearer(session.token)));
    Client again(server->port());
    again.say(stream_for("192.0.2.1"));
    return again.hear(10'000, true).status == 200;
  }));
}

TEST_F(HttpServerTest, a_stream_ends_when_it_is_old_and_goes_on_where_it_was_when_the_client_comes_again) {
  serve([](HttpOptions& options) { options.limits.event_stream_age = std::chrono::milliseconds(300); });
  const auto session = start();
  const auto path = "/api/onboarding/sessions/" + session.id + "/stream";
  Client looking(server->port());
  looking.say(request("GET", path, {}, bearer(session.token)));
  const auto told = looking.hear_until("\r\n0\r\n\r\n");
  ASSERT_NE(told, "") << "in order, on a connection that goes on";
  EXPECT_NE(told.find("retry: "), std::string::npos);
  const auto id = told.find("event: status\nid: ");
  ASSERT_NE(id, std::string::npos) << "there was no turn yet, and still there is an id to go on from";
  const auto last = told.substr(id + 18, told.find('\n', id + 18) - id - 18);
  ASSERT_EQ(ask(request("POST", messages(session), R"({"message":"in between"})", bearer(session.token))).status, 200);
  looking.say(request("GET", path, {}, bearer(session.token) + "Last-Event-ID: " + last + "\r\n"));
  EXPECT_NE(looking.hear_until("Heard: in between"), "");
}

// ---- operators

TEST_F(HttpServerTest, operators_see_the_model_supervisor_and_change_it) {
  const auto status = json(ask(request("GET", "/api/admin/llm", {}, bearer(operator_key)), true));
  EXPECT_STREQ(status["providers"][0]["name"].GetString(), "openai");
  EXPECT_EQ(status["providers"][0]["limits"][0]["use"].GetDouble(), 0.25);
  EXPECT_EQ(ask(request("PATCH", "/api/admin/llm/openai", R"({"weight":7,"enabled":false,"tokens_per_minute":0})",
                        bearer(operator_key)),
                true)
                .status,
            200);
  ASSERT_TRUE(control.last_change);
  EXPECT_EQ(control.last_change->weight, 7u);
  EXPECT_EQ(control.last_change->enabled, false);
  EXPECT_EQ(control.last_change->tokens_per_minute, 0u);
  EXPECT_EQ(control.last_change->requests_per_minute, std::nullopt);
  const auto queue = ask(request("PUT", "/api/admin/queue-mode", R"({"mode":"on"})", bearer(operator_key)), true);
  EXPECT_STREQ(json(queue)["queue"]["mode"].GetString(), "on");
}

TEST_F(HttpServerTest, operators_see_how_far_each_projection_is) {
  const auto body = json(ask(request("GET", "/api/admin/projections", {}, bearer(operator_key)), true));
  EXPECT_STREQ(body["projections"][0]["name"].GetString(), "profile");
  EXPECT_STREQ(body["projections"][0]["state"].GetString(), "running");
  EXPECT_EQ(ask(request("GET", "/api/admin/projections"), true).status, 401);
  EXPECT_EQ(ask(request("GET", "/api/admin/projections", {}, bearer(operator_key))).status, 404);
}

TEST_F(HttpServerTest, a_change_that_is_not_one_changes_nothing_and_says_what_is_wrong) {
  const auto patch = [&](const std::string& body) {
    return ask(request("PATCH", "/api/admin/llm/openai", body, bearer(operator_key)), true);
  };
  for (const std::string body : {R"({"wieght":7})", R"({"weight":-1})", R"({"weight":1.5})", R"({"weight":"7"})",
                                 R"({"enabled":1})", R"({"weight":99999999999})"}) {
    const auto answer = patch(body);
    EXPECT_EQ(answer.status, 422) << body;
    EXPECT_TRUE(json(answer)["errors"].Size() == 1) << answer.body;
  }
  EXPECT_EQ(ask(request("PATCH", "/api/admin/llm/nobody", R"({"weight":7})", bearer(operator_key)), true).status, 404);
  EXPECT_EQ(ask(request("PUT", "/api/admin/queue-mode", R"({"mode":"perhaps"})", bearer(operator_key)), true).status, 422);
  EXPECT_EQ(ask(request("PUT", "/api/admin/queue-mode", "{}", bearer(operator_key)), true).status, 422);
  EXPECT_FALSE(control.last_change);
}

TEST_F(HttpServerTest, admin_routes_are_for_operators_and_on_the_admin_listener_only) {
  const auto session = start();
  for (const std::string target : {"/api/admin/llm", "/api/admin/queue-mode"}) {
    const auto method = target == "/api/admin/llm" ? "GET" : "PUT";
    const auto body = target == "/api/admin/llm" ? "" : R"({"mode":"on"})";
    EXPECT_EQ(ask(request(method, target, body), true).status, 401);
    EXPECT_EQ(ask(request(method, target, body, bearer(session.token)), true).status, 403);
    EXPECT_EQ(ask(request(method, target, body, bearer(operator_key))).status, 404);
  }
  EXPECT_EQ(control.mode, model::QueueMode::automatic);
}

// ---- contracts

TEST_F(HttpServerTest, a_start_answers_201_with_the_contract_s_members) {
  const auto answer =
      ask(request("POST", "/api/onboarding/sessions", R"({"user_id":"ann","plan":"pro"})", "X-Request-Id: abc-1\r\n"));
  ASSERT_EQ(answer.status, 201) << answer.body;
  const auto body = json(answer);
  EXPECT_EQ(answer.headers.at("location"), std::string("/api/onboarding/sessions/") + body["session_id"].GetString());
  EXPECT_EQ(answer.headers.at("x-request-id"), "abc-1");
  EXPECT_EQ(answer.headers.count("date"), 1u);
  EXPECT_EQ(answer.headers.at("cache-control"), "no-store");
  EXPECT_STREQ(body["user_id"].GetString(), "ann");
  EXPECT_STREQ(body["status"].GetString(), "active");
  EXPECT_EQ(body["missing"].Size(), 6u);
  EXPECT_FALSE(body["is_complete"].GetBool());
  EXPECT_GE(body["version"].GetUint64(), 1u);
  EXPECT_EQ(std::string(body["position"].GetString()).substr(0, 2), "7:");
  EXPECT_FALSE(gateway.last_start->vouched);
}

TEST_F(HttpServerTest, a_plan_that_gives_more_takes_the_applications_word_and_one_that_is_not_there_is_refused_by_name) {
  control.configured_plans = {"free", "pro", "team"};
  const auto with_plan = [&](const std::string& plan, const std::string& fields = {}) {
    return ask(request("POST", "/api/onboarding/sessions", R"({"user_id":"ann","plan":")" + plan + "\"}", fields));
  };
  const auto unknown = with_plan("gold", bearer(operator_key));
  ASSERT_EQ(unknown.status, 422) << unknown.body;
  EXPECT_STREQ(json(unknown)["errors"][0]["pointer"].GetString(), "/plan");
  EXPECT_NE(unknown.body.find("free, pro, team"), std::string::npos) << unknown.body;
  EXPECT_EQ(with_plan("pro").status, 401) << "anybody can say so";
  EXPECT_EQ(with_plan("free").status, 201);
  EXPECT_EQ(with_plan("pro", bearer(operator_key)).status, 201);
  const auto started = json(with_plan("pro", bearer(operator_key)));
  const std::string token = started["token"].GetString();
  EXPECT_EQ(with_plan("pro", bearer(token)).status, 201) << "who has it may begin again with it";
  EXPECT_EQ(with_plan("team", bearer(token)).status, 403);
  const std::string unvouched = start("eve").token;
  EXPECT_EQ(ask(request("POST", "/api/onboarding/sessions", R"({"user_id":"eve","plan":"pro"})", bearer(unvouched))).status, 403);
  control.configured_plans.clear();
  EXPECT_EQ(with_plan("gold").status, 201) << "where there are none, a plan is a label";
}

TEST_F(HttpServerTest, a_start_without_a_body_is_a_start) {
  EXPECT_EQ(ask(request("POST", "/api/onboarding/sessions")).status, 201);
}

TEST_F(HttpServerTest, a_user_id_with_a_control_character_is_refused_by_name) {
  // A NUL never gets this far: the JSON reader refuses it everywhere, with 400.
  for (const std::string user : {R"(a\u0001b)", R"(\n)", R"(a\u001f)", "a\x7f"}) {
    const auto answer = ask(request("POST", "/api/onboarding/sessions", R"({"user_id":")" + user + "\"}"));
    ASSERT_EQ(answer.status, 422) << user;
    EXPECT_STREQ(json(answer)["errors"][0]["pointer"].GetString(), "/user_id");
  }
  EXPECT_EQ(start("Zo\u00eb \u738b").user_id, "Zo\u00eb \u738b");
}

TEST_F(HttpServerTest, the_operator_key_vouches_and_a_wrong_key_is_refused) {
  start("ann", bearer(operator_key));
  EXPECT_TRUE(gateway.last_start->vouched);
  EXPECT_EQ(ask(request("POST", "/api/onboarding/sessions", "{}", bearer("wrong"))).status, 401);
}

TEST_F(HttpServerTest, a_token_vouches_only_when_its_own_session_was_vouched_for) {
  const auto unvouched = start("ann");
  start("ann", bearer(unvouched.token));
  EXPECT_FALSE(gateway.last_start->vouched);
  const auto vouched = start("bob", bearer(operator_key));
  start("bob", bearer(vouched.token));
  EXPECT_TRUE(gateway.last_start->vouched);
  EXPECT_EQ(ask(request("POST", "/api/onboarding/sessions", R"({"user_id":"ann"})", bearer(vouched.token))).status, 403);
}

TEST_F(HttpServerTest, a_message_answers_what_was_understood_with_json_types) {
  const auto session = start();
  const auto answer = ask(request("POST", messages(session), R"({"message":"bad address"})", bearer(session.token)));
  ASSERT_EQ(answer.status, 200) << answer.body;
  const auto body = json(answer);
  EXPECT_NE(std::string(body["response"].GetString()), "");
  EXPECT_STREQ(body["extracted"]["full_name"].GetString(), "Ann Lee");
  EXPECT_EQ(body["extracted"]["team_size"].GetInt(), 40);
  ASSERT_EQ(body["rejected"].Size(), 1u);
  EXPECT_STREQ(body["rejected"][0]["field"].GetString(), "email");
  EXPECT_STREQ(body["rejected"][0]["value"].GetString(), "nobody");
  EXPECT_STRNE(body["rejected"][0]["reason"].GetString(), body["rejected"][0]["code"].GetString());
  EXPECT_FALSE(body["error"].GetBool());
  EXPECT_TRUE(body["turn_id"].IsString() && body["version"].IsUint64() && body["position"].IsString() &&
              body["missing"].IsArray());
}

TEST_F(HttpServerTest, respond_async_answers_202_and_the_turn_is_found_at_its_location) {
  const auto session = start();
  const auto answer =
      ask(request("POST", messages(session), R"({"message":"hello"})", bearer(session.token) + "Prefer: respond-async\r\n"));
  ASSERT_EQ(answer.status, 202);
  EXPECT_EQ(answer.headers.at("preference-applied"), "respond-async");
  const auto body = json(answer);
  EXPECT_EQ(answer.headers.at("location"), body["status_url"].GetString());
  EXPECT_STREQ(body["status"].GetString(), "queued");
  const auto first = ask(request("GET", answer.headers.at("location"), {}, bearer(session.token)));
  EXPECT_EQ(first.status, 202);
  EXPECT_EQ(json(first)["position_in_queue"].GetUint(), body["position_in_queue"].GetUint());
  const auto next =
      ask(request("POST", messages(session), R"({"message":"and"})", bearer(session.token) + "Prefer: respond-async\r\n"));
  EXPECT_EQ(json(ask(request("GET", next.headers.at("location"), {}, bearer(session.token))))["position_in_queue"].GetUint(), 2u);
}

TEST_F(HttpServerTest, prefer_is_a_list_of_tokens_in_any_case) {
  const auto status = [&](const std::string& prefer) {
    const auto session = start();
    return ask(request("POST", messages(session), R"({"message":"hello"})", bearer(session.token) + "Prefer: " + prefer + "\r\n"))
        .status;
  };
  for (const std::string prefer : {"Respond-Async", "wait=10, respond-async", "return=minimal ,respond-async ; foo=bar,"})
    EXPECT_EQ(status(prefer), 202) << prefer;
  for (const std::string prefer : {"", ",", "no-respond-async", "respond-asynchronously", "wait=10; respond-async"})
    EXPECT_EQ(status(prefer), 200) << prefer;
}

TEST_F(HttpServerTest, the_session_and_its_conversation_are_read_page_by_page) {
  const auto session = start();
  for (int i = 0; i < 3; ++i) ask(request("POST", messages(session), R"({"message":"hello"})", bearer(session.token)));
  const auto now = json(ask(request("GET", "/api/onboarding/sessions/" + session.id, {}, bearer(session.token))));
  EXPECT_STREQ(now["fields"]["full_name"].GetString(), "Ann Lee");
  EXPECT_STREQ(now["status"].GetString(), "active");
  std::vector<std::string> roles;
  std::string next = messages(session) + "?limit=3";
  int pages = 0;
  for (; !next.empty() && pages < 10; ++pages) {
    const auto page = json(ask(request("GET", next, {}, bearer(session.token))));
    for (const auto& line : page["messages"].GetArray()) roles.emplace_back(line["role"].GetString());
    next = page.HasMember("next") ? page["next"].GetString() : "";
  }
  EXPECT_EQ(pages, 3);
  EXPECT_EQ(roles, (std::vector<std::string>{"assistant", "user", "assistant", "user", "assistant", "user", "assistant"}));
}

TEST_F(HttpServerTest, a_resume_makes_the_old_token_void) {
  const auto session = start();
  const auto answer = ask(request("POST", "/api/onboarding/sessions/" + session.id + "/resume", {}, bearer(session.token)));
  ASSERT_EQ(answer.status, 200) << answer.body;
  const std::string fresh = json(answer)["token"].GetString();
  EXPECT_EQ(ask(request("GET", "/api/onboarding/sessions/" + session.id, {}, bearer(session.token))).status, 401);
  EXPECT_EQ(ask(request("GET", "/api/onboarding/sessions/" + session.id, {}, bearer(fresh))).status, 200);
}

TEST_F(HttpServerTest, every_id_bearing_route_refuses_strangers_and_forgeries) {
  const auto ann = start("ann"), bob = start("bob");
  const std::string base = "/api/onboarding/sessions/" + ann.id;
  const std::vector<std::pair<std::string, std::string>> routes{{"GET", base},
                                                                {"GET", base + "/messages"},
                                                                {"POST", base + "/messages"},
                                                                {"GET", base + "/turns/trn_1"},
                                                                {"POST", base + "/resume"},
                                                                {"GET", "/api/users/ann/profile"},
                                                                {"GET", "/api/users/ann/sessions"},
                                                                {"GET", "/api/users/ann/export"},
                                                                {"DELETE", "/api/users/ann"}};
  for (const auto& [method, path] : routes) {
    const std::string body = path.ends_with("/messages") && method == "POST" ? R"({"message":"x"})" : "";
    const auto none = ask(request(method, path, body));
    EXPECT_EQ(none.status, 401) << method << path;
    EXPECT_EQ(none.headers.at("www-authenticate"), R"(Bearer realm="onboarding")") << method << path;
    const auto forged = ask(request(method, path, body, bearer(ann.token + "x")));
    EXPECT_EQ(forged.status, 401) << method << path;
    EXPECT_EQ(forged.headers.at("www-authenticate"), R"(Bearer realm="onboarding", error="invalid_token")") << method << path;
    EXPECT_EQ(ask(request(method, path, body, "Authorization: Basic YTpi\r\n")).status, 401) << method << path;
    EXPECT_EQ(ask(request(method, path, body, bearer(bob.token))).status, 404) << method << path;
  }
  EXPECT_EQ(gateway.messages_received, 0u);
}

TEST_F(HttpServerTest, a_profile_has_an_etag_and_reads_your_writes) {
  const auto ann = start("ann", bearer(operator_key));
  const auto first = ask(request("GET", "/api/users/ann/profile", {}, bearer(ann.token)));
  ASSERT_EQ(first.status, 200) << first.body;
  EXPECT_FALSE(queries.last_selector.user_key.empty());
  EXPECT_EQ(json(first)["fields"]["team_size"].GetInt(), 40);
  EXPECT_EQ(ask(request("GET", "/api/users/ann/profile", {},
                        bearer(ann.token) + "If-None-Match: W/" + first.headers.at("etag") + "\r\n"))
                .status,
            304);
  EXPECT_EQ(ask(request("GET", "/api/users/a%20b/profile", {}, bearer(operator_key))).status, 200);
  EXPECT_EQ(queries.last_selector.user_id, "a b");
  queries.fresh = false;
  EXPECT_EQ(ask(request("GET", "/api/users/ann/profile?min_position=7:9&wait_ms=10", {}, bearer(ann.token))).status, 202);
  const auto beyond = [&](const char* position) {
    const auto answer =
        ask(request("GET", std::string("/api/users/ann/profile?min_position=") + position, {}, bearer(ann.token)));
    EXPECT_EQ(answer.status, 422) << position;
    return std::string(json(answer)["detail"].GetString());
  };
  EXPECT_EQ(beyond("7:1000000"), "min_position: the log's partition ends at 7:100.");
  EXPECT_EQ(beyond("24:1"), "min_position: the log has 24 partitions.");
  log.full = true;  // it does not know its end
  EXPECT_EQ(ask(request("GET", "/api/users/ann/profile?min_position=7:1000000", {}, bearer(ann.token))).status, 202);
  log.full = false;
  EXPECT_EQ(ask(request("GET", "/api/users/ann/profile?min_position=x", {}, bearer(ann.token))).status, 422);
  queries.down = true;
  const auto down = ask(request("GET", "/api/users/ann/profile", {}, bearer(ann.token)));
  EXPECT_EQ(down.status, 503);
  EXPECT_EQ(down.headers.count("retry-after"), 1u);
}

TEST_F(HttpServerTest, lists_are_told_page_by_page) {
  const auto ann = start("ann", bearer(operator_key));
  const auto first = ask(request("GET", "/api/users/ann/sessions?limit=1&min_position=7:3&wait_ms=9", {}, bearer(ann.token)));
  ASSERT_EQ(first.status, 200) << first.body;
  EXPECT_EQ(queries.last_page.limit, 1u);
  EXPECT_EQ(queries.last_selector.at_least, (Position{7, 3}));
  const std::string next = json(first)["next"].GetString();
  EXPECT_EQ(next, "/api/users/ann/sessions?limit=1&after=1763750000000001.ses_1");
  EXPECT_EQ(ask(request("GET", next, {}, bearer(ann.token))).status, 200);
  EXPECT_EQ(queries.last_page.after->session_id, "ses_1");
  EXPECT_EQ(queries.last_page.after->created_at, domain::Timestamp(std::chrono::microseconds(1'763'750'000'000'001)));

  const auto all = ask(
      request("GET", "/api/admin/sessions?status=abandoned&user_id=a%26b&since=2026-11-21T08:00:00Z", {}, bearer(operator_key)),
      true);
  ASSERT_EQ(all.status, 200) << all.body;
  EXPECT_EQ(queries.last_filter.status, "abandoned");
  EXPECT_EQ(queries.last_filter.user_id, "a&b");
  EXPECT_TRUE(queries.last_filter.since);
  EXPECT_EQ(json(all)["sessions"][0]["flow_version"].GetInt(), 1);
  EXPECT_NE(std::string(json(all)["next"].GetString()).find("user_id=a%26b&since="), std::string::npos);
  for (const std::string wrong : {"limit=0", "limit=1001", "after=x", "after=1.", "after=-1.s", "after=99999999999999999.s",
                                  "status=gone", "since=yesterday"})
    EXPECT_EQ(ask(request("GET", "/api/admin/sessions?" + wrong, {}, bearer(operator_key)), true).status, 422) << wrong;
}

TEST_F(HttpServerTest, a_person_takes_all_that_is_known_along_and_is_forgotten) {
  const auto ann = start("ann"), other = start("ann"), bob = start("bob");
  ask(request("POST", "/api/onboarding/sessions/" + ann.id + "/messages", R"({"message":"bad address"})", bearer(ann.token)));
  const auto exported = [&](const std::string& credential) {
    Client client(server->port());
    client.say(request("GET", "/api/users/ann/export", {}, bearer(credential)));
    auto answer = client.hear();
    EXPECT_EQ(answer.status, 200) << answer.body;
    answer.body = client.hear_pieces();
    return answer;
  };
  const auto own = exported(ann.token);
  ASSERT_EQ(json(own)["sessions"].Size(), 1u) << "nobody vouched for the other one: it may be anybody's";
  EXPECT_STREQ(json(own)["sessions"][0]["session_id"].GetString(), ann.id.c_str());
  EXPECT_EQ(json(own)["sessions"][0]["messages"].Size(), 3u);
  EXPECT_STREQ(json(own)["sessions"][0]["fields"]["full_name"].GetString(), "Ann Lee");
  EXPECT_STREQ(json(own)["sessions"][0]["refused_values"][0]["value"].GetString(), "nobody");
  EXPECT_EQ(json(exported(operator_key))["sessions"].Size(), 2u);
  EXPECT_EQ(ask(request("GET", "/api/users/nobody/export", {}, bearer(operator_key))).status, 404);
  Client head(server->port());
  head.say(request("HEAD", "/api/users/ann/export", {}, bearer(operator_key)));
  EXPECT_EQ(head.hear(10'000, true).status, 200);
  const auto erased = ask(request("DELETE", "/api/users/ann", {}, bearer(operator_key)));
  ASSERT_EQ(erased.status, 200) << erased.body;
  EXPECT_EQ(json(erased)["sessions"].GetInt(), 2);
  EXPECT_EQ(ask(request("DELETE", "/api/users/ann", {}, bearer(operator_key))).status, 404);
  EXPECT_EQ(ask(request("GET", "/api/onboarding/sessions/" + other.id, {}, bearer(other.token))).status, 404);
  EXPECT_EQ(ask(request("GET", "/api/onboarding/sessions/" + bob.id, {}, bearer(bob.token))).status, 200);
}

TEST_F(HttpServerTest, figures_are_for_the_operator_on_the_admin_listener) {
  for (const std::string path :
       {"/api/metrics/stats", "/api/metrics/completion?days=7", "/api/metrics/abandonment", "/api/metrics/messages",
        "/api/metrics/usage", "/api/metrics/quality?days=90", "/api/metrics/funnel", "/api/admin/sessions"}) {
    EXPECT_EQ(ask(request("GET", path), true).status, 401) << path;
    EXPECT_EQ(ask(request("GET", path, {}, bearer(start().token)), true).status, 403) << path;
    EXPECT_EQ(ask(request("GET", path, {}, bearer(operator_key)), true).status, 200) << path;
    EXPECT_EQ(ask(request("GET", path, {}, bearer(operator_key))).status, 404) << path;
  }
  EXPECT_EQ(ask(request("GET", "/api/metrics/completion?days=0", {}, bearer(operator_key)), true).status, 422);
}

TEST_F(HttpServerTest, usage_and_quality_are_added_up_over_their_days) {
  const auto usage = json(ask(request("GET", "/api/metrics/usage?days=2", {}, bearer(operator_key)), true));
  EXPECT_EQ(usage["usage"].Size(), 2u);
  EXPECT_STREQ(usage["usage"][0]["model"].GetString(), "gpt-6-luna");
  EXPECT_EQ(usage["total"]["calls"].GetInt(), 4);
  EXPECT_EQ(usage["total"]["cost_nanodollars"].GetInt64(), 1'500'000'001);
  EXPECT_DOUBLE_EQ(usage["usage"][0]["cost_usd"].GetDouble(), 1.5);
  EXPECT_DOUBLE_EQ(usage["usage"][0]["cost_usd_per_call"].GetDouble(), 0.5);
  const auto quality = json(ask(request("GET", "/api/metrics/quality?days=2", {}, bearer(operator_key)), true));
  EXPECT_DOUBLE_EQ(quality["extraction_rate"].GetDouble(), 0.75);
  EXPECT_DOUBLE_EQ(quality["by_day"][0]["extraction_rate"].GetDouble(), 0.5);
  EXPECT_DOUBLE_EQ(quality["reask_rate"].GetDouble(), 0.25);
  EXPECT_DOUBLE_EQ(quality["validation_failure_rate"].GetDouble(), 0.25);
  EXPECT_DOUBLE_EQ(quality["by_day"][1]["fallback_rate"].GetDouble(), 0);  // no replies
  EXPECT_DOUBLE_EQ(quality["failed_call_rate"].GetDouble(), 0.2);
}

TEST_F(HttpServerTest, health_says_what_keeps_people_out_and_readiness_ignores_postgresql) {
  EXPECT_EQ(ask(request("GET", "/livez")).status, 200);
  queries.down = true;
  EXPECT_EQ(ask(request("GET", "/readyz")).status, 200);
  EXPECT_STREQ(json(ask(request("GET", "/readyz?verbose")))["database"].GetString(), "down");
  const auto degraded = ask(request("GET", "/api/metrics/health"));
  EXPECT_EQ(degraded.status, 200);
  EXPECT_STREQ(json(degraded)["status"].GetString(), "degraded");
  log.full = true;
  EXPECT_EQ(ask(request("GET", "/readyz")).status, 503);
  EXPECT_EQ(ask(request("GET", "/api/metrics/health"), true).status, 503);
}

TEST_F(HttpServerTest, what_the_database_said_is_told_to_operators_and_not_to_strangers) {
  queries.down = true;
  for (const std::string path : {"/api/metrics/health", "/readyz?verbose"}) {
    const auto stranger = ask(request("GET", path)).body;
    EXPECT_EQ(stranger.find("10.1.2.3"), std::string::npos) << stranger;
    EXPECT_NE(stranger.find("down"), std::string::npos);
    const auto shown = path == "/readyz?verbose" ? "relation at 10.1.2.3" : "connection to 10.1.2.3";
    EXPECT_NE(ask(request("GET", path, {}, bearer(operator_key))).body.find(shown), std::string::npos);
    EXPECT_NE(ask(request("GET", path), true).body.find(shown), std::string::npos);
    EXPECT_EQ(ask(request("GET", path, {}, bearer("no" + operator_key))).body.find("10.1.2.3"), std::string::npos);
  }
  const auto replica = json(ask(request("GET", "/api/metrics/health"), true));
  EXPECT_STREQ(replica["database"]["replica"]["detail"].GetString(), "replica at 10.1.2.3");
}

TEST_F(HttpServerTest, pages_and_the_contract_are_served_and_metrics_are_the_admin_s) {
  for (const std::string path :
       {"/", "/web/chat.js", "/web/chat.css", "/docs", "/web/docs.js", "/web/docs.css", "/openapi.json"}) {
    const auto answer = ask(request("GET", path));
    EXPECT_EQ(answer.status, 200) << path;
    EXPECT_EQ(answer.headers.at("x-content-type-options"), "nosniff");
    EXPECT_NE(answer.headers.at("content-security-policy").find("default-src 'none'"), std::string::npos);
  }
  EXPECT_EQ(ask(request("GET", "/metrics")).status, 404);
  const auto metrics = ask(request("GET", "/metrics"), true);
  EXPECT_NE(metrics.body.find(R"(http_requests_total{method="GET",route="/",status="200"} 1)"), std::string::npos)
      << metrics.body;
}

TEST_F(HttpServerTest, errors_are_problems_with_a_request_id) {
  const auto session = start();
  const auto check = [](const Answer& answer, int status) {
    EXPECT_EQ(answer.status, status) << answer.body;
    EXPECT_EQ(answer.headers.at("content-type"), "application/problem+json");
    const auto body = json(answer);
    EXPECT_EQ(body["status"].GetInt(), status);
    EXPECT_TRUE(body["type"].IsString() && body["title"].IsString());
    if (body.HasMember("instance")) { EXPECT_STRNE(body["instance"].GetString(), ""); }
    EXPECT_EQ(answer.headers.at("x-request-id"), body["request_id"].GetString());
  };
  const auto key = bearer(session.token);
  check(ask(request("GET", "/nowhere")), 404);
  const auto wrong_method = ask(request("DELETE", messages(session), {}, key));
  check(wrong_method, 405);
  EXPECT_EQ(wrong_method.headers.at("allow"), "POST, GET, HEAD, OPTIONS");
  check(ask(request("BREW", "/")), 501);
  check(ask(request("POST", messages(session), "{", key)), 400);
  check(ask(request("POST", messages(session), "[]", key)), 400);
  const auto invalid = ask(request("POST", messages(session), R"({"message":1})", key));
  check(invalid, 422);
  EXPECT_STREQ(json(invalid)["errors"][0]["pointer"].GetString(), "/message");
  check(ask(request("POST", messages(session), R"({"message":"x"})", key + "Idempotency-Key: a b\r\n")), 400);
  const auto coded = ask(request("POST", messages(session), R"({"message":"x"})", key + "Content-Encoding: gzip\r\n"));
  check(coded, 415);
  EXPECT_EQ(coded.headers.at("accept-encoding"), "identity");
  EXPECT_EQ(gateway.messages_received, 0u);
  check(ask("POST " + messages(session) + " HTTP/1.1\r\nHost: x\r\n" + key +
            "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}"),
        415);
  check(ask("POST " + messages(session) + " HTTP/1.1\r\nHost: x\r\n" + key +
            "Content-Type: application/json\r\nContent-Length: 65537\r\n\r\n"),
        413);
  check(ask("GET / HTTP/1.1\r\nHost: x\r\nA: " + std::string(17'000, 'a') + "\r\n\r\n"), 431);
  check(ask("GET /" + std::string(9'000, 'a') + " HTTP/1.1\r\nHost: x\r\n\r\n"), 414);
  check(ask(request("GET", "/api/users/%zz/profile")), 400);
  check(ask(request("GET", "/livez?a=1&a=2")), 400);
  gateway.refuse_with = make_error_code(GatewayErrc::too_many_waiting);
  const auto later = ask(request("POST", messages(session), R"({"message":"x"})", key));
  check(later, 429);
  EXPECT_EQ(later.headers.count("retry-after"), 1u);
}

TEST_F(HttpServerTest, the_access_log_has_ids_and_never_texts_or_tokens) {
  const auto session = start("secret-user");
  ask(request("POST", messages(session), R"({"message":"my secret words"})", bearer(session.token)));
  ASSERT_TRUE(eventually([&] { return lines.lines().size() >= 2; }));
  const auto all = lines.lines();
  rapidjson::Document last;
  last.Parse(all.back().c_str());
  ASSERT_FALSE(last.HasParseError()) << all.back();
  EXPECT_STREQ(last["event"].GetString(), "http_request");
  EXPECT_STREQ(last["route"].GetString(), "/api/onboarding/sessions/{session_id}/messages");
  EXPECT_STREQ(last["session_id"].GetString(), session.id.c_str());
  EXPECT_TRUE(last["turn_id"].IsString() && last["duration_ms"].IsNumber() && last["request_id"].IsString());
  for (const auto& line : all) {
    EXPECT_EQ(line.find("secret"), std::string::npos);
    EXPECT_EQ(line.find(session.token), std::string::npos);
  }
}

TEST_F(HttpServerTest, the_document_and_the_routes_are_the_same_set) {
  const auto document = parse_yaml(openapi_json().substr(0, 0) + "a: 1");
  ASSERT_TRUE(document.has_value());
  rapidjson::Document api;
  api.Parse(openapi_json().c_str());
  std::size_t documented = 0;
  for (const auto& path : api["paths"].GetObject()) {
    std::string target = path.name.GetString();
    for (const auto& [name, value] : std::map<std::string, std::string>{{"{session_id}", "ses_x"},
                                                                        {"{turn_id}", "trn_x"},
                                                                        {"{user_id}", "u"},
                                                                        {"{provider}", "openai"},
                                                                        {"{name}", "usage"}})
      if (const auto at = target.find(name); at != std::string::npos) target.replace(at, name.size(), value);
    for (const auto& method : path.value.GetObject()) {
      ++documented;
      std::string verb = method.name.GetString();
      std::transform(verb.begin(), verb.end(), verb.begin(), [](unsigned char c) { return std::toupper(c); });
      bool admin = false;
      for (const auto& tag : method.value["tags"].GetArray()) admin = admin || std::string(tag.GetString()) == "admin";
      const auto allowed = ask(request("OPTIONS", target), admin);
      EXPECT_EQ(allowed.status, 204) << target;
      EXPECT_NE(allowed.headers.at("allow").find(verb), std::string::npos) << verb << " " << target;
    }
  }
  EXPECT_EQ(documented, 44u);
}

TEST_F(HttpServerTest, operators_act_on_projections_as_they_saw_them) {
  const auto act = [&](const char* verb, const std::string& body) {
    return ask(request("POST", std::string("/api/admin/projections/usage/") + verb, body, bearer(operator_key)), true);
  };
  const auto done = act("rebuild", R"({"revision":7,"swap":"always","reason":"wrong counts","actor":"ann"})");
  EXPECT_EQ(done.status, 202);
  EXPECT_EQ(done.headers.at("location"), "/api/admin/projections/usage");
  EXPECT_EQ(json(done)["revision"].GetInt(), 8);
  EXPECT_EQ(operated.last.projection + operated.last.verb + operated.last.swap + operated.last.reason + operated.last.actor,
            "usagerebuildalwayswrong countsann");
  EXPECT_EQ(act("pause", R"({"revision":6})").status, 409);
  EXPECT_EQ(act("pause", "{}").status, 202);
  EXPECT_FALSE(operated.last.revision);
  EXPECT_EQ(act("resume", {}).status, 202);
  EXPECT_EQ(act("retry", {}).status, 202);
  EXPECT_EQ(act("rebuild", R"({"revision":7,"swap":"perhaps"})").status, 422);
  EXPECT_EQ(act("pause", R"({"revision":7,"swap":"always"})").status, 422);
  EXPECT_EQ(act("skip", R"({"key":"usr_1"})").status, 422);
  EXPECT_EQ(act("retry", R"({"key":"usr_1","position":"nowhere"})").status, 422);
  EXPECT_EQ(json(act("skip", R"({"key":"usr_1","position":"3:12"})"))["released_events"].GetInt(), 5);
  EXPECT_EQ(operated.last.position, (Position{3, 12}));
  EXPECT_EQ(ask(request("POST", "/api/admin/projections/usage/pause", R"({"revision":7})"), true).status, 401);
  EXPECT_EQ(ask(request("GET", "/api/admin/projections/nothing", {}, bearer(operator_key)), true).status, 404);
  const auto some = json(act("retry", "{}"));
  EXPECT_FALSE(some["complete"].GetBool());
  EXPECT_STREQ(some["after"].GetString(), "usr_1");
  EXPECT_TRUE(json(act("retry", R"({"after":"usr_0"})"))["complete"].GetBool());
  const auto parked = json(ask(request("GET", "/api/admin/projections/usage/parked", {}, bearer(operator_key)), true));
  EXPECT_STREQ(parked["after"].GetString(), "usr_1");
  EXPECT_STREQ(parked["parked"][0]["state"].GetString(), "building");
  EXPECT_EQ(
      json(ask(request("GET", "/api/admin/projections/usage/parked?after=usr_1", {}, bearer(operator_key)), true)).MemberCount(),
      1u);
  EXPECT_STREQ(parked["parked"][0]["position"].GetString(), "3:12");
}

TEST_F(HttpServerTest, the_throttle_answers_429_with_when_to_come_back_and_spares_the_operator) {
  serve([](HttpOptions& options) { options.throttle.requests_per_minute_per_ip = 2; });
  start();
  start();
  const auto answer = ask(request("POST", "/api/onboarding/sessions", "{}"));
  EXPECT_EQ(answer.status, 429);
  EXPECT_EQ(answer.headers.at("ratelimit-limit"), "2");
  EXPECT_GE(std::atoi(answer.headers.at("retry-after").c_str()), 1);
  start("ann", bearer(operator_key));
}

TEST_F(HttpServerTest, only_listed_origins_are_let_in) {
  serve([](HttpOptions& options) { options.cors_origins = {"https://app.example.org"}; });
  const auto good = ask(request("OPTIONS", "/api/onboarding/sessions", {},
                                "Origin: https://app.example.org\r\nAccess-Control-Request-Method: POST\r\n"));
  EXPECT_EQ(good.headers.at("access-control-allow-origin"), "https://app.example.org");
  const auto bad = ask(request("OPTIONS", "/api/onboarding/sessions", {}, "Origin: https://evil.example.org\r\n"));
  EXPECT_EQ(bad.headers.count("access-control-allow-origin"), 0u);
}

// ---- connections

TEST_F(HttpServerTest, a_connection_is_kept_alive_by_version_and_wish) {
  Client client(server->port());
  for (int i = 0; i < 3; ++i) {
    client.say(request("GET", "/livez"));
    const auto answer = client.hear();
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.headers.count("connection"), 0u);
  }
  client.say(request("GET", "/livez", {}, "Connection: close\r\n"));
  EXPECT_EQ(client.hear().headers.at("connection"), "close");
  EXPECT_TRUE(client.hears_end());
  Client old(server->port());
  old.say("GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_EQ(old.hear().headers.at("connection"), "keep-alive");
  old.say("GET /livez HTTP/1.0\r\n\r\n");
  EXPECT_EQ(old.hear().status, 200);
  EXPECT_TRUE(old.hears_end());
}

TEST_F(HttpServerTest, head_answers_without_a_body_and_keeps_the_connection_in_step) {
  Client client(server->port());
  client.say("HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(client.hear(10'000, true).headers.at("content-length"), "3");
  client.say(request("GET", "/livez"));
  EXPECT_EQ(client.hear().body, "ok\n");
}

TEST_F(HttpServerTest, pipelined_requests_are_answered_in_order_also_when_the_first_waits) {
  const auto session = start();
  gateway.hold_answers = true;
  Client client(server->port());
  client.say(request("POST", messages(session), R"({"message":"first"})", bearer(session.token)) + request("GET", "/livez") +
             request("GET", "/nowhere") + request("GET", "/livez", {}, "Connection: close\r\n"));
  ASSERT_TRUE(eventually([&] { return gateway.held() == 1; }));
  gateway.release();
  EXPECT_NE(client.hear().body.find("Heard: first"), std::string::npos);
  EXPECT_EQ(client.hear().status, 200);
  EXPECT_EQ(client.hear().status, 404);
  EXPECT_EQ(client.hear().status, 200);
  EXPECT_TRUE(client.hears_end());
}

TEST_F(HttpServerTest, who_finishes_sending_is_still_answered) {
  const auto session = start();
  gateway.hold_answers = true;
  Client client(server->port());
  client.say(request("POST", messages(session), R"({"message":"half"})", bearer(session.token)) + request("GET", "/livez"));
  client.finish_sending();
  ASSERT_TRUE(eventually([&] { return gateway.held() == 1; }));
  gateway.release();
  EXPECT_NE(client.hear().body.find("Heard: half"), std::string::npos);
  EXPECT_EQ(client.hear().status, 200);
  EXPECT_TRUE(client.hears_end());
}

TEST_F(HttpServerTest, a_chunked_request_may_be_split_at_every_byte) {
  const auto session = start();
  const std::string text = "POST " + messages(session) + " HTTP/1.1\r\nHost: x\r\n" + bearer(session.token) +
                           "Content-Type: application/json; charset=UTF-8\r\nTransfer-Encoding: chunked\r\n\r\n"
                           "8\r\n{\"messag\r\nA;x=y\r\ne\":\"hello\"\r\n1\r\n}\r\n0\r\nT: x\r\n\r\n";
  Client whole(server->port());
  for (std::size_t at = 0; at <= text.size(); at += 3) {
    whole.say(text.substr(0, at));
    whole.say(text.substr(at));
    ASSERT_EQ(whole.hear().status, 200) << at;
  }
  Client bytes(server->port());
  for (const char c : text) bytes.say({&c, 1});
  EXPECT_EQ(bytes.hear().status, 200);
  // What made Pistache hang for good: the two bytes of a line end in two packets, twice, on two workers.
  for (int i = 0; i < 4; ++i) {
    Client stuck(server->port());
    stuck.say("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r");
  }
  EXPECT_EQ(ask(request("GET", "/livez")).status, 200);
}

TEST_F(HttpServerTest, a_client_is_told_to_continue_before_it_sends_a_body_and_not_when_it_would_be_refused) {
  const auto session = start();
  const std::string body = R"({"message":"hello"})";
  Client client(server->port());
  client.say("POST " + messages(session) + " HTTP/1.1\r\nHost: x\r\n" + bearer(session.token) +
             "Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: " + std::to_string(body.size()) +
             "\r\n\r\n");
  EXPECT_EQ(client.hear().status, 100);
  client.say(body);
  EXPECT_EQ(client.hear().status, 200);
  EXPECT_EQ(ask("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n").status, 413);
}

TEST_F(HttpServerTest, smuggling_is_refused_and_ends_the_connection) {
  for (const std::string head : {"Content-Length: 5\r\nContent-Length: 6\r\n", "Content-Length : 5\r\n", "Content-Length: -5\r\n",
                                 "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked, chunked\r\n",
                                 "X: a\n", " folded: x\r\n", "Host: again\r\n"}) {
    Client client(server->port());
    client.say("POST /livez HTTP/1.1\r\nHost: x\r\n" + head + "\r\nhello" + request("GET", "/livez"));
    const auto answer = client.hear();
    EXPECT_EQ(answer.status, 400) << head;
    EXPECT_EQ(answer.headers.at("connection"), "close");
    EXPECT_TRUE(client.hears_end()) << head;
  }
}

TEST_F(HttpServerTest, slow_heads_slow_bodies_and_idlers_are_let_go_and_slow_answers_are_not) {
  serve([](HttpOptions& options) {
    options.limits.head_timeout = std::chrono::milliseconds(300);
    options.limits.body_timeout = std::chrono::milliseconds(300);
    options.limits.idle_timeout = std::chrono::milliseconds(300);
  });
  const auto session = start();
  gateway.hold_answers = true;
  Client waiting(server->port());
  waiting.say(request("POST", messages(session), R"({"message":"slow"})", bearer(session.token)));
  Client head(server->port()), body(server->port()), idle(server->port());
  head.say("GET / HTT");
  body.say("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab");
  EXPECT_EQ(head.hear().status, 408);
  EXPECT_EQ(body.hear().status, 408);
  EXPECT_TRUE(head.hears_end());
  EXPECT_TRUE(idle.hears_end());
  gateway.release();
  EXPECT_EQ(waiting.hear().status, 200);
}

TEST_F(HttpServerTest, a_reader_that_does_not_read_costs_itself_and_nobody_else) {
  serve([](HttpOptions& options) {
    options.limits.write_timeout = std::chrono::milliseconds(500);
    options.limits.max_unsent_bytes = 64 * 1024;
  });
  Client slow(server->port(), 4096);
  std::string many;
  for (int i = 0; i < 50; ++i) many += request("GET", "/openapi.json");
  std::thread pusher([&] {  // the server ends it: 50 documents do not fit into any buffer
    for (int i = 0; i < 40; ++i)
      if (!slow.say(many)) break;
  });
  Client other(server->port());
  for (int i = 0; i < 200; ++i) {
    other.say(request("GET", "/livez"));
    ASSERT_EQ(other.hear().status, 200);
  }
  EXPECT_TRUE(eventually([&] {
    return prometheus::TextSerializer().Serialize(registry->Collect()).find("http_answers_cut_total{") != std::string::npos;
  }));
  ::shutdown(slow.descriptor(), SHUT_RDWR);
  pusher.join();
}

TEST_F(HttpServerTest, a_hang_up_before_the_answer_never_reaches_another_client) {
  for (int round = 0; round < 10; ++round) {
    std::vector<Started> sessions;
    for (int i = 0; i < 20; ++i) sessions.push_back(start());
    gateway.hold_answers = true;
    {
      std::vector<Client> leaving;
      for (const auto& session : sessions)
        leaving.emplace_back(server->port())
            .say(request("POST", messages(session), R"({"message":"private"})", bearer(session.token)));
      ASSERT_TRUE(eventually([&] { return gateway.held() == sessions.size(); }));
    }
    // Newcomers get the descriptors that the others left.
    std::vector<Client> coming;
    for (int i = 0; i < 20; ++i) coming.emplace_back(server->port()).say(request("GET", "/livez"));
    gateway.release();
    for (auto& client : coming) {
      const auto answer = client.hear();
      ASSERT_EQ(answer.body, "ok\n");
      client.say(request("GET", "/livez"));
      ASSERT_EQ(client.hear().body, "ok\n");
    }
  }
}

TEST_F(HttpServerTest, a_thousand_connections_are_served) {
  std::vector<Client> clients;
  clients.reserve(1000);
  for (int i = 0; i < 1000; ++i) {
    clients.emplace_back(server->port());
    ASSERT_TRUE(clients.back().connected());
  }
  for (int round = 0; round < 2; ++round) {
    for (auto& client : clients) ASSERT_TRUE(client.say(request("GET", "/livez")));
    for (auto& client : clients) ASSERT_EQ(client.hear(20'000).status, 200);
  }
}

TEST_F(HttpServerTest, connections_beyond_the_cap_are_told_so) {
  serve([](HttpOptions& options) { options.limits.max_connections = 2; });
  Client one(server->port()), two(server->port());
  for (auto* client : {&one, &two}) {
    client->say(request("GET", "/livez"));
    ASSERT_EQ(client->hear().status, 200);
  }
  Client three(server->port());
  const auto answer = three.hear();
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(answer.headers.count("retry-after"), 1u);
}

TEST_F(HttpServerTest, a_drain_under_256_clients_answers_or_refuses_everybody_and_resets_nobody) {
  const auto session = start();
  const std::string post = request("POST", messages(session), R"({"message":"turn"})", bearer(session.token));
  std::atomic<int> answered{0}, refused{0}, broken{0};
  std::atomic<bool> draining{false};
  std::vector<std::thread> crowd;
  for (int t = 0; t < 8; ++t) {
    crowd.emplace_back([&, t] {
      std::vector<Client> clients;
      for (int i = 0; i < 32; ++i) clients.emplace_back(server->port());
      std::vector<bool> open(32, true);
      for (int left = 32; left > 0;) {
        for (int i = 0; i < 32; ++i) {
          if (!open[i]) continue;
          const bool said = clients[i].say(i == 0 && t == 0 ? post : request("GET", "/nowhere"));
          const auto answer = clients[i].hear();
          if (answer.status == 503 && answer.headers.count("retry-after") == 1 && answer.headers.at("connection") == "close")
            ++refused;
          else if (answer.status == 404 || answer.status == 200) ++answered;
          else if (!answer.reset && said && draining) {
          }  // an idle connection ended in order: the client may ask elsewhere
          else
            ++broken;
          if (answer.status == 0 || answer.headers.count("connection") == 1) {
            if (!clients[i].hears_end()) ++broken;
            open[i] = false;
            --left;
          }
        }
      }
    });
  }
  ASSERT_TRUE(eventually([&] { return answered > 600; }));
  draining = true;
  server->begin_drain();
  EXPECT_TRUE(server->finish_drain(std::chrono::seconds(10)));
  server->stop();
  for (auto& thread : crowd) thread.join();
  EXPECT_EQ(broken, 0);
  EXPECT_GT(refused, 0);
}

TEST_F(HttpServerTest, a_drain_answers_whoever_pauses_between_two_requests_on_a_kept_connection) {
  Client pausing(server->port());
  pausing.say(request("GET", "/livez"));
  ASSERT_EQ(pausing.hear().status, 200);
  server->begin_drain();
  std::atomic<bool> over{false};
  std::thread stopping([&] {
    EXPECT_TRUE(server->finish_drain(std::chrono::seconds(20)));
    server->stop();
    over = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(700));  // the client's pause, not a wait for anything
  EXPECT_FALSE(over) << "a connection is open that may be spoken on";
  EXPECT_TRUE(pausing.say(request("POST", "/api/onboarding/sessions", "{}")));
  const auto answer = pausing.hear();
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(answer.headers.count("retry-after"), 1u);
  EXPECT_EQ(answer.headers.at("connection"), "close");
  EXPECT_TRUE(pausing.hears_end());
  { const Client gone(std::move(pausing)); }
  stopping.join();
}

TEST_F(HttpServerTest, a_drain_waits_for_no_silent_connection_longer_than_it_is_told_to_or_when_it_must_hurry) {
  serve([](HttpOptions& options) { options.limits.drain_time = std::chrono::milliseconds(50); });
  Client silent(server->port());
  silent.say(request("GET", "/livez"));
  ASSERT_EQ(silent.hear().status, 200);
  server->begin_drain();
  EXPECT_TRUE(server->finish_drain(std::chrono::hours(1)));
  serve([](HttpOptions& options) { options.limits.drain_time = std::chrono::hours(1); });
  Client hurried(server->port());
  hurried.say(request("GET", "/livez"));
  ASSERT_EQ(hurried.hear().status, 200);
  server->begin_drain();
  EXPECT_TRUE(server->finish_drain(std::chrono::hours(1), [] { return true; }));
}

TEST_F(HttpServerTest, a_drain_waits_for_the_turn_in_flight_and_readiness_says_so) {
  const auto session = start();
  gateway.hold_answers = true;
  Client client(server->port());
  client.say(request("POST", messages(session), R"({"message":"last"})", bearer(session.token)));
  ASSERT_TRUE(eventually([&] { return gateway.held() == 1; }));
  server->begin_drain();
  EXPECT_EQ(ask(request("GET", "/readyz")).status, 503);
  EXPECT_EQ(ask(request("GET", "/livez")).status, 200);
  EXPECT_EQ(ask(request("POST", "/api/onboarding/sessions", "{}")).status, 503);
  EXPECT_FALSE(server->finish_drain(std::chrono::milliseconds(20)));
  gateway.release();
  const auto answer = client.hear();
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.headers.at("connection"), "close");
  EXPECT_TRUE(server->finish_drain(std::chrono::seconds(10)));
}

TEST_F(HttpServerTest, a_handler_that_never_answers_is_answered_for) {
  // The exchange is let go when the gateway forgets its callback.
  const auto session = start();
  class Forgetful final : public Gateway {
   public:
    void start_session(StartRequest, Done<SessionStartedAnswer>) override {}
    void post_message(MessageRequest, Done<TurnAnswer>) override {}
    void get_session(std::string, std::optional<std::uint32_t>, Done<SessionSnapshot>) override {}
    void get_turn(std::string, std::uint32_t, std::string, Done<TurnAnswer>) override {}
    void watch(std::string, std::uint32_t, std::shared_ptr<SessionWatcher>, Done<SessionSnapshot>) override {}
    void resume(RequestContext, std::string, std::optional<std::uint32_t>, Done<ResumeAnswer>) override {}
    void sessions_of(PersonSelector, Done<std::vector<std::string>>) override {}
    void erase_person(RequestContext, PersonSelector, Done<std::uint32_t>) override {}
    void drain(std::function<void()>) override {}
    bool draining() const override { return false; }
  } forgetful;
  prometheus::Registry own;
  HttpOptions options;
  options.listen = "127.0.0.1:0";
  options.admin_listen = "";
  auto started =
      start_http(options, HttpPorts{forgetful, queries, secrets, log, own, system_clock(), system_random(), {}, nullptr});
  ASSERT_TRUE(started.has_value());
  Client client((*started)->port());
  client.say(request("POST", "/api/onboarding/sessions", "{}"));
  EXPECT_EQ(client.hear().status, 500);
}

}  // namespace
}  // namespace onboarding::http::testing
