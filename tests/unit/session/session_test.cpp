#include <gtest/gtest.h>

#include "tests/unit/session/stage.hpp"

namespace onboarding::session {
namespace {

using namespace std::chrono_literals;
using log::Fate;

TEST(Session, a_start_is_answered_only_once_it_is_durable) {
  Stage stage;
  Heard<SessionStartedAnswer> heard;
  stage.start(heard);
  EXPECT_TRUE(heard.nothing());
  stage.append();
  ASSERT_EQ(heard.answers.size(), 1u);
  EXPECT_EQ(heard.only().session.state->status, domain::SessionStatus::active);
  EXPECT_EQ(heard.only().token, stage.secrets.session_token(heard.only().session.session_id, 1));
}

TEST(Session, a_repeated_start_gives_the_same_session_and_token) {
  Stage stage;
  Heard<SessionStartedAnswer> first, second, other;
  stage.start(first, "key");
  stage.read();
  stage.append();
  stage.start(second, "key");
  EXPECT_EQ(second.only().session.session_id, first.only().session.session_id);
  EXPECT_EQ(second.only().token, first.only().token);
  EXPECT_TRUE(second.only().repeated);
  stage.start(other, "key", "{\"plan\":\"pro\"}");
  EXPECT_EQ(other.error(), make_error_code(GatewayErrc::key_reused));
}

TEST(Session, the_model_is_asked_while_the_message_is_written_and_its_answer_waits_for_both) {
  Stage stage;
  const std::string session = stage.started();
  Heard<TurnAnswer> heard;
  stage.say(session, "I am Zoe Miller", heard);
  ASSERT_EQ(stage.questions.size(), 1u);  // asked, although nothing was written yet
  stage.model_answers({{"full_name", "Zoe Miller"}});
  EXPECT_TRUE(heard.nothing());
  stage.append();  // the message
  EXPECT_TRUE(heard.nothing());
  stage.append();  // the outcome
  ASSERT_EQ(heard.answers.size(), 1u);
  EXPECT_EQ(heard.only().turn().extracted.at(0).second.canonical, "Zoe Miller");
}

model::OutcomePtr says_zoe(const model::ExtractionRequest&) {
  auto outcome = std::make_shared<model::ExtractionOutcome>();
  outcome->answer = domain::ModelAnswer{"Thank you.", {{"full_name", "Zoe Miller"}}, {}};
  outcome->source = "scripted";
  return outcome;
}

TEST(Session, a_message_and_its_answer_are_one_record_where_no_provider_is_waited_for) {
  Stage stage(log::make_memory_store(1), {}, {}, says_zoe);
  const std::string session = stage.started();
  Heard<TurnAnswer> heard, repeated;
  stage.say(session, "I am Zoe Miller", heard, "key");
  EXPECT_TRUE(heard.nothing()) << "nothing is answered before it is durable";
  stage.append();
  ASSERT_EQ(heard.answers.size(), 1u);
  EXPECT_EQ(heard.only().turn().status, domain::TurnStatus::answered);
  EXPECT_EQ(heard.only().turn().activation, 1u);
  EXPECT_EQ(heard.only().turn().extracted.at(0).second.canonical, "Zoe Miller");
  EXPECT_TRUE(stage.questions.empty());
  stage.say(session, "I am Zoe Miller", repeated, "key");
  EXPECT_EQ(repeated.only().turn_id, heard.only().turn_id);
  EXPECT_TRUE(stage.nothing_waits());
}

TEST(Session, a_message_answered_at_once_is_decided_again_after_a_doubt_and_answered_once) {
  for (const Fate fate : {Fate::in_doubt_written, Fate::in_doubt_lost}) {
    Stage stage(log::make_memory_store(1), {}, {}, says_zoe);
    const std::string session = stage.started();
    Heard<TurnAnswer> heard;
    stage.say(session, "I am Zoe Miller", heard);
    stage.append(fate);
    EXPECT_TRUE(heard.nothing());
    stage.read();
    if (fate == Fate::in_doubt_lost) stage.append();
    ASSERT_EQ(heard.answers.size(), 1u);
    EXPECT_EQ(heard.only().session.state->turns.size(), 1u);
    EXPECT_TRUE(stage.nothing_waits());
  }
}

TEST(Session, a_message_that_shall_be_queued_is_durable_before_it_is_answered_even_where_it_could_be_at_once) {
  Stage stage(log::make_memory_store(1), {}, {}, says_zoe);
  const std::string session = stage.started();
  Heard<TurnAnswer> heard;
  stage.say(session, "I am Zoe Miller", heard, std::nullopt, 1, true);
  stage.append();
  EXPECT_TRUE(heard.only().queued);
  ASSERT_EQ(stage.questions.size(), 1u);
  stage.model_answers({{"full_name", "Zoe Miller"}});
  stage.append();
}

TEST(Session, a_message_that_the_log_refuses_is_not_writable_and_leaves_no_trace) {
  Stage stage;
  const std::string session = stage.started();
  Heard<TurnAnswer> heard, again;
  stage.say(session, "hello", heard, "key");
  stage.append(Fate::refused);
  EXPECT_EQ(heard.error(), make_error_code(GatewayErrc::not_writable));
  stage.model_answers({});  // to the question that no longer counts
  EXPECT_TRUE(stage.nothing_waits());
  stage.say(session, "hello", again, "key");
  EXPECT_EQ(stage.questions.size(), 1u);
}

TEST(Session, a_doubt_is_settled_by_what_the_log_has) {
  for (const Fate fate : {Fate::in_doubt_written, Fate::in_doubt_lost}) {
    Stage stage;
    const std::string session = stage.started();
    Heard<TurnAnswer> heard;
    stage.say(session, "I am Zoe Miller", heard);
    stage.append(fate);
    EXPECT_TRUE(heard.nothing());
    stage.read();
    if (fate == Fate::in_doubt_lost) stage.append();
    stage.model_answers({{"full_name", "Zoe Miller"}}, stage.questions.size() - 1);
    stage.append(fate);  // the outcome meets it too
    stage.read();
    if (fate == Fate::in_doubt_lost) stage.append();
    ASSERT_EQ(heard.answers.size(), 1u);
    EXPECT_EQ(heard.only().session.state->turns.size(), 1u);
    EXPECT_EQ(heard.only().turn().reply.text, heard.only().session.state->turns[0].reply.text);
  }
}

TEST(Session, an_outcome_that_the_log_refuses_is_202_and_tried_again) {
  Stage stage;
  const std::string session = stage.started();
  Heard<TurnAnswer> heard;
  stage.say(session, "hello", heard);
  stage.append();
  stage.model_answers({});
  stage.append(Fate::refused);
  ASSERT_EQ(heard.answers.size(), 1u);
  EXPECT_TRUE(heard.only().queued);
  stage.pass(200ms);
  stage.append();
  Heard<SessionSnapshot> look;
  stage.look(session, look);
  EXPECT_EQ(look.only().state->turns[0].status, domain::TurnStatus::answered);
}

TEST(Session, everybody_who_repeats_a_message_gets_the_same_answer) {
  Stage stage;
  const std::string session = stage.started();
  Heard<TurnAnswer> heard;
  stage.say(session, "hello", heard, "key");
  stage.say(session, "hello", heard, "key");
  stage.append();
  stage.say(session, "hello", heard, "key");
  stage.model_answers({});
  stage.append();
  stage.say(session, "hello", heard, "key");
  ASSERT_EQ(heard.answers.size(), 4u);
  for (const auto& answer : heard.answers) EXPECT_EQ(answer->turn_id, heard.only().turn_id);
  EXPECT_TRUE(stage.nothing_waits());
}

TEST(Session, a_turn_that_is_not_done_in_time_is_queued_and_finished_later) {
  Stage stage;
  const std::string session = stage.started();
  Heard<TurnAnswer> heard;
  stage.say(session, "hello", heard);
  stage.append();
  stage.pass(24s);
  EXPECT_TRUE(heard.nothing());
  stage.pass(1s);
  stage.append();  // TurnQueued
  ASSERT_EQ(heard.answers.size(), 1u);
  EXPECT_TRUE(heard.only().queued);
  EXPECT_TRUE(heard.only().turn().queued);
  stage.model_answers({});
  stage.append();
  Heard<SessionSnapshot> look;
  stage.look(session, look);
  EXPECT_EQ(look.only().state->turns[0].status, domain::TurnStatus::answered);
}

TEST(Session, respond_async_is_answered_once_the_message_is_durable_as_queued) {
  Stage stage;
  const std::string session = stage.started();
  Heard<TurnAnswer> heard;
  stage.say(session, "hello", heard, std::nullopt, 1, true);
  EXPECT_TRUE(heard.nothing());
  stage.append();
  EXPECT_TRUE(heard.only().queued);
  EXPECT_TRUE(heard.only().turn().queued);
  EXPECT_GE(heard.only().position_in_queue, 1u);
}

TEST(Session, in_queue_mode_a_message_is_202_with_its_place_and_asked_as_one_that_nobody_waits_for) {
  Stage stage;
  const std::string session = stage.started();
  stage.board->set(true, {7, 12s});
  Heard<TurnAnswer> heard;
  stage.say(session, "hello", heard, "key");
  stage.append();
  EXPECT_TRUE(heard.only().turn().queued);
  EXPECT_EQ(heard.only().position_in_queue, 41u) << "what the stage's model says of the place";
  EXPECT_GE(heard.only().eta_seconds, 5u);
  ASSERT_EQ(stage.questions.size(), 1u);
  EXPECT_EQ(stage.questions[0].request->priority, model::Priority::queued_turn);
  // Whoever repeats the request is told the same, and the answer comes all the same.
  stage.board->set(false, {});
  Heard<TurnAnswer> again;
  stage.say(session, "hello", again, "key");
  EXPECT_TRUE(again.only().queued);
  EXPECT_TRUE(stage.nothing_waits());
  stage.model_answers({});
  stage.append();
  Heard<TurnAnswer> turn;
  stage.gateway->get_turn(session, 1, heard.only().turn_id, turn.ear());
  stage.run();
  EXPECT_EQ(turn.only().turn().status, domain::TurnStatus::answered);
}

TEST(Session, a_waiting_turn_tells_its_place_and_an_unknown_one_that_it_is_none) {
  Stage stage;
  const std::string session = stage.started();
  Heard<TurnAnswer> heard, turn, none;
  stage.say(session, "hello", heard, std::nullopt, 1, true);
  stage.append();
  stage.gateway->get_turn(session, 1, heard.only().turn_id, turn.ear());
  stage.run();
  EXPECT_TRUE(turn.only().queued);
  EXPECT_EQ(turn.only().position_in_queue, 41u);  // what the stage's model says
  stage.gateway->get_turn(session, 1, "trn_of_somebody_else", none.ear());
  stage.run();
  EXPECT_EQ(none.error(), make_error_code(GatewayErrc::unknown_turn));
}

class Onlooker final : public SessionWatcher {
 public:
  bool changed(const SessionSnapshot& session) override {
    versions.push_back(session.state->version);
    return stays;
  }
  void writing(const std::string&, std::string_view text, bool restart) override {
    written = restart ? std::string(text) : written + std::string(text);
  }
  bool interested() const override { return stays; }
  void ended() override { over = true; }

  bool stays = true, over = false;
  std::vector<std::uint64_t> versions;
  std::string written;
};

TEST(Session, a_watcher_sees_the_session_at_once_then_each_durable_change_and_the_reply_while_it_is_written) {
  Stage stage;
  const std::string session = stage.started();
  const auto onlooker = std::make_shared<Onlooker>();
  Heard<SessionSnapshot> watched;
  stage.gateway->watch(session, 1, onlooker, watched.ear());
  stage.run();
  EXPECT_EQ(watched.only().session_id, session);
  EXPECT_EQ(onlooker->versions, (std::vector<std::uint64_t>{1}));
  Heard<TurnAnswer> heard;
  stage.say(session, "hello", heard);
  auto& model = *stage.questions[0].request->watch;
  ASSERT_TRUE(model.watched());
  model.write("Welc", false);
  model.write("ome", false);
  EXPECT_EQ(onlooker->written, "Welcome");
  EXPECT_EQ(onlooker->versions.size(), 1u) << "nothing is durable yet";
  stage.append();
  stage.model_answers({});
  stage.append();
  EXPECT_EQ(onlooker->versions.size(), 3u);
  EXPECT_EQ(onlooker->versions.back(), heard.only().session.state->version);
}

TEST(Session, who_comes_in_mid_turn_gets_what_was_written_so_far_and_then_the_rest) {
  Stage stage;
  const std::string session = stage.started();
  Heard<TurnAnswer> heard;
  stage.say(session, "hello", heard);
  auto& model = *stage.questions[0].request->watch;
  EXPECT_FALSE(model.watched());
  Heard<SessionSnapshot> watched;
  const auto early = std::make_shared<Onlooker>(), late = std::make_shared<Onlooker>(), later = std::make_shared<Onlooker>();
  stage.gateway->watch(session, 1, early, watched.ear());
  stage.run();
  EXPECT_TRUE(model.watched()) << "its call may not have begun yet";
  EXPECT_EQ(early->written, "");
  model.write("Welc", false);
  stage.gateway->watch(session, 1, late, watched.ear());
  stage.run();
  EXPECT_EQ(late->written, "Welc");
  model.write("ome", false);
  EXPECT_EQ(early->written, "Welcome");
  EXPECT_EQ(late->written, "Welcome");
  model.write("Hi", true);
  stage.gateway->watch(session, 1, later, watched.ear());
  stage.run();
  for (const auto& onlooker : {early, late, later}) {
    EXPECT_EQ(onlooker->written, "Hi");
    onlooker->stays = false;
  }
  EXPECT_FALSE(model.watched());
}

TEST(Session, a_watched_session_stays_in_memory_until_its_watcher_goes) {
  Stage stage;
  const std::string session = stage.started();
  const auto onlooker = std::make_shared<Onlooker>();
  Heard<SessionSnapshot> watched;
  stage.gateway->watch(session, 1, onlooker, watched.ear());
  stage.pass(10min);
  EXPECT_EQ(stage.gateway->status().sessions_in_memory, 1u);
  onlooker->stays = false;
  stage.pass(2min);
  EXPECT_EQ(stage.gateway->status().sessions_in_memory, 0u);
}

TEST(Session, a_new_token_ends_those_who_watch_with_the_old_one_and_the_ninth_watcher_the_first) {
  Stage stage;
  const std::string session = stage.started();
  std::vector<std::shared_ptr<Onlooker>> onlookers;
  Heard<SessionSnapshot> watched;
  for (int i = 0; i < 9; ++i) {
    onlookers.push_back(std::make_shared<Onlooker>());
    stage.gateway->watch(session, 1, onlookers.back(), watched.ear());
    stage.run();
  }
  EXPECT_TRUE(onlookers[0]->over);
  EXPECT_FALSE(onlookers[1]->over);
  Heard<ResumeAnswer> resumed;
  stage.gateway->resume({}, session, 1, resumed.ear());
  stage.run();
  stage.append();
  for (const auto& onlooker : onlookers) EXPECT_TRUE(onlooker->over);
  Heard<SessionSnapshot> stale;
  stage.gateway->watch(session, 1, std::make_shared<Onlooker>(), stale.ear());
  stage.run();
  EXPECT_EQ(stale.error(), make_error_code(GatewayErrc::stale_token));
}

TEST(Session, messages_wait_their_turn_and_the_fourth_waiting_one_is_refused) {
  Stage stage;
  const std::string session = stage.started();
  Heard<TurnAnswer> first, waiting, refused;
  stage.say(session, "one", first);
  stage.append();
  for (const char* text : {"two", "three", "four"}) {
    stage.say(session, text, waiting);
    stage.append();
  }
  stage.say(session, "five", refused);
  EXPECT_EQ(refused.error(), make_error_code(GatewayErrc::too_many_waiting));
  EXPECT_EQ(stage.questions.size(), 1u);
  stage.model_answers({});
  stage.append();
  EXPECT_FALSE(first.only().queued);
  ASSERT_EQ(stage.questions.size(), 1u);
  EXPECT_EQ(stage.questions[0].request->message, "two");
  EXPECT_EQ(stage.questions[0].request->history.size(), 3u);  // greeting, "one", its reply
}

TEST(Session, a_new_token_voids_the_old_one) {
  Stage stage;
  const std::string session = stage.started();
  Heard<ResumeAnswer> resumed;
  stage.gateway->resume({}, session, 1, resumed.ear());
  stage.run();
  stage.append();
  EXPECT_EQ(resumed.only().token, stage.secrets.session_token(session, 2));
  Heard<TurnAnswer> heard;
  stage.say(session, "hello", heard, std::nullopt, 1);
  EXPECT_EQ(heard.error(), make_error_code(GatewayErrc::stale_token));
}

TEST(Session, an_idle_session_leaves_the_memory_and_comes_back_for_the_next_request) {
  Stage stage;
  const std::string session = stage.started();
  EXPECT_EQ(stage.gateway->status().sessions_in_memory, 1u);
  stage.pass(61s);
  EXPECT_EQ(stage.gateway->status().sessions_in_memory, 0u);
  Heard<SessionSnapshot> look;
  stage.look(session, look);
  stage.read();
  EXPECT_EQ(look.only().state->status, domain::SessionStatus::active);
}

TEST(Session, a_session_nobody_started_is_unknown_and_does_not_stay) {
  Stage stage;
  Heard<SessionSnapshot> look, nonsense;
  stage.look(make_session_id(0, std::string(16, 'x')), look);
  stage.read();
  EXPECT_EQ(look.error(), make_error_code(GatewayErrc::unknown_session));
  EXPECT_EQ(stage.gateway->status().sessions_in_memory, 0u);
  stage.look("../../etc/passwd", nonsense);
  EXPECT_EQ(nonsense.error(), make_error_code(GatewayErrc::unknown_session));
}

TEST(Session, snapshots_that_were_handed_out_do_not_change) {
  Stage stage;
  const std::string session = stage.started();
  Heard<SessionSnapshot> before;
  stage.look(session, before);
  Heard<TurnAnswer> heard;
  stage.say(session, "hello", heard);
  stage.append();
  EXPECT_EQ(before.only().state->version, 1u);
  EXPECT_TRUE(before.only().state->turns.empty());
}

TEST(Session, a_client_whose_append_does_not_come_back_is_told_so) {
  Stage stage;
  const std::string session = stage.started();
  Heard<TurnAnswer> heard, behind;
  stage.say(session, "hello", heard);
  stage.say(session, "and", behind);
  stage.pass(26s);
  EXPECT_EQ(heard.error(), make_error_code(GatewayErrc::in_doubt));
  EXPECT_EQ(behind.error(), make_error_code(GatewayErrc::overloaded));
}

TEST(Host, a_turn_that_was_cut_off_is_taken_up_again_and_its_attempt_counted_first) {
  const auto store = log::make_memory_store(1);
  std::string session;
  privacy::SealingKeyPtr key;
  {
    Stage before(store);
    session = before.started();
    Heard<TurnAnswer> heard;
    before.say(session, "hello", heard);
    before.append();
    before.keys.obtain(before.secrets.user_key("zoe", false, session), [&](auto obtained) { key = *obtained; });
  }
  Stage stage(store);
  stage.keys.put(stage.secrets.user_key("zoe", false, session), key);
  stage.look_up();
  stage.read();
  EXPECT_TRUE(stage.questions.empty());
  stage.append();  // TurnStarted, activation 2
  ASSERT_EQ(stage.questions.size(), 1u);
  EXPECT_EQ(stage.questions[0].request->message, "hello");
  stage.model_answers({});
  stage.append();
  Heard<SessionSnapshot> look;
  stage.look(session, look);
  if (look.nothing()) stage.read();
  EXPECT_EQ(look.only().state->turns[0].activation, 2u);
  EXPECT_EQ(look.only().state->turns[0].status, domain::TurnStatus::answered);
}

TEST(Host, an_idle_session_is_abandoned_when_its_time_has_come_and_not_before) {
  Stage stage;
  const std::string session = stage.started();
  stage.pass(61s);
  const auto poll = [&] {
    stage.look_up();
    stage.pass(6s);
    stage.look_up();
  };
  stage.pass(20min);
  poll();
  EXPECT_TRUE(stage.nothing_waits());
  stage.pass(10min);
  poll();
  while (stage.log.step_read() || stage.log.step_append(Fate::durable)) stage.run();
  Heard<SessionSnapshot> look;
  stage.look(session, look);
  if (look.nothing()) stage.read();
  EXPECT_EQ(look.only().state->status, domain::SessionStatus::abandoned);
}

TEST(Host, beyond_its_bound_the_idle_session_that_was_unused_longest_leaves_the_memory) {
  SessionSettings settings;
  settings.max_in_memory = 2;
  Stage stage(log::make_memory_store(1), settings);
  const std::string busy = stage.started(), idle = stage.started();
  Heard<TurnAnswer> heard;
  stage.say(busy, "hello", heard);
  stage.append();
  const std::string used = stage.started();
  EXPECT_EQ(stage.gateway->status().sessions_in_memory, 2u);
  stage.model_answers({});  // whoever has a turn to finish stays
  stage.append();
  EXPECT_EQ(heard.answers.size(), 1u);
  Heard<SessionSnapshot> here, gone;
  stage.look(used, here);
  EXPECT_EQ(here.answers.size(), 1u);
  stage.look(idle, gone);
  EXPECT_TRUE(gone.nothing());
  stage.read();
  EXPECT_EQ(gone.only().state->status, domain::SessionStatus::active);
  EXPECT_EQ(stage.gateway->status().sessions_in_memory, 2u);
}

TEST(Host, a_limit_that_was_lowered_holds_for_sessions_that_say_nothing_more) {
  const auto store = log::make_memory_store(1);
  SessionSettings settings;
  settings.limits.abandon_after = 24h;
  std::string silent, speaking;
  std::map<std::string, privacy::SealingKeyPtr> keys;
  {
    Stage before(store, settings);
    for (std::string* session : {&silent, &speaking}) {
      *session = before.started();
      const std::string user = before.secrets.user_key("zoe", false, *session);
      before.keys.obtain(user, [&](auto key) { keys[user] = *key; });
    }
  }
  settings.limits.abandon_after = 30min;
  Stage stage(store, settings, {}, {}, 1min);
  for (const auto& [user, key] : keys) stage.keys.put(user, key);
  stage.look_up();
  const auto settle = [&] {
    stage.pass(6s);
    stage.look_up();
    stage.pass(6s);
    stage.look_up();
    while (stage.log.step_read() || stage.log.step_append(Fate::durable)) stage.run();
  };
  const auto status = [&](const std::string& session) {
    Heard<SessionSnapshot> look;
    stage.look(session, look);
    if (look.nothing()) stage.read();
    return look.only().state->status;
  };
  stage.pass(20min);
  settle();
  Heard<TurnAnswer> heard;
  stage.say(speaking, "hello", heard);
  stage.read();
  stage.append();
  stage.model_answers({});
  stage.append();
  EXPECT_EQ(status(silent), domain::SessionStatus::active) << "down-time is not abandonment";
  stage.pass(10min);
  settle();
  EXPECT_EQ(status(silent), domain::SessionStatus::abandoned);
  EXPECT_EQ(status(speaking), domain::SessionStatus::active);
  stage.pass(20min);
  settle();
  EXPECT_EQ(status(speaking), domain::SessionStatus::abandoned);
}

TEST(Gateway, refuses_new_work_while_draining_and_waits_for_what_it_accepted) {
  Stage stage;
  const std::string session = stage.started();
  Heard<TurnAnswer> accepted, late;
  stage.say(session, "hello", accepted);
  bool drained = false;
  stage.gateway->drain([&] { drained = true; });
  stage.say(session, "too late", late);
  EXPECT_EQ(late.error(), make_error_code(GatewayErrc::draining));
  EXPECT_FALSE(drained);
  stage.append();
  stage.model_answers({});
  stage.append();
  EXPECT_FALSE(accepted.nothing());
  EXPECT_TRUE(drained);
}

TEST(Gateway, takes_no_more_requests_than_it_may) {
  SessionSettings settings;
  settings.max_requests = 1;
  Stage stage(log::make_memory_store(1), settings);
  Heard<SessionStartedAnswer> first, second;
  stage.start(first);
  stage.start(second);
  EXPECT_EQ(second.error(), make_error_code(GatewayErrc::overloaded));
  stage.append();
  EXPECT_FALSE(first.nothing());
}

TEST(Gateway, answers_that_the_keys_are_out_of_reach) {
  Stage stage;
  stage.keys.set_reachable(false);
  Heard<SessionStartedAnswer> heard;
  stage.start(heard);
  EXPECT_EQ(heard.error(), make_error_code(GatewayErrc::keys_unreachable));
  EXPECT_TRUE(stage.nothing_waits());
}

TEST(Gateway, a_fenced_owner_stops_serving) {
  Stage stage;
  Heard<SessionStartedAnswer> heard;
  stage.start(heard);
  stage.append(Fate::fenced);
  EXPECT_EQ(heard.error(), make_error_code(GatewayErrc::not_writable));
  EXPECT_TRUE(stage.gateway->status().fenced);
}

}  // namespace
}  // namespace onboarding::session
