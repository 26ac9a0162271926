// A person is forgotten: by every session, by the key store, and also when the process dies in between.
#include <gtest/gtest.h>

#include "actors/session/erasure.hpp"
#include "tests/unit/session/stage.hpp"

namespace onboarding::session {
namespace {

class Erasing : public ::testing::Test {
 protected:
  void erase(Stage& stage, Heard<std::uint32_t>& heard, std::string user_key = {}) {
    stage.gateway->erase_person({}, {"zoe", std::move(user_key)}, heard.ear());
    stage.run();
    stage.look_up();  // notes it
    stage.look_up();  // looks for the sessions
  }
  /// The person's keys that are left.
  static bool has_key(Stage& stage, const SessionSnapshot& session, const std::string& key_id) {
    return stage.keys.find(session.user_key, key_id).has_value();
  }
  static std::string key_of(Stage& stage, const std::string& user_key) {
    std::string id;
    stage.keys.obtain(user_key, [&](result<privacy::SealingKeyPtr> key) { id = (*key)->id; });
    return id;
  }
};

TEST_F(Erasing, is_answered_when_every_session_was_told_and_no_key_is_left) {
  Stage stage;
  Heard<SessionSnapshot> before, after;
  const std::string one = stage.started(), other = stage.started();
  stage.look(one, before);
  const std::string key = key_of(stage, before.only().user_key);
  Heard<TurnAnswer> waiting;
  stage.say(one, "I am Zoe", waiting);
  stage.append();
  Heard<std::uint32_t> erased;
  erase(stage, erased);
  stage.append();
  EXPECT_EQ(waiting.error(), make_error_code(GatewayErrc::unknown_session)) << "whoever still waits is let go";
  EXPECT_TRUE(erased.nothing());
  EXPECT_TRUE(has_key(stage, before.only(), key)) << "the other session was not told yet";
  stage.append();
  stage.look_up();
  EXPECT_EQ(erased.only(), 2u);
  EXPECT_FALSE(has_key(stage, before.only(), key));
  ASSERT_EQ(stage.forgotten.size(), 2u) << "nor does the model's side remember";
  EXPECT_EQ(stage.forgotten[0], before.only().user_key);
  stage.look(other, after);
  stage.read();
  EXPECT_EQ(after.error(), make_error_code(GatewayErrc::unknown_session));
  stage.model_answers({{"full_name", "Zoe Miller"}});  // to a question that nobody asks any more
  EXPECT_TRUE(stage.nothing_waits());
}

TEST_F(Erasing, by_one_persons_key_leaves_those_of_the_same_name_alone) {
  Stage stage;
  Heard<SessionSnapshot> before, after;
  const std::string mine = stage.started(), anothers = stage.started();
  stage.look(mine, before);
  Heard<std::uint32_t> erased;
  erase(stage, erased, before.only().user_key);
  stage.append();
  stage.look_up();
  EXPECT_EQ(erased.only(), 1u);
  stage.look(anothers, after);
  EXPECT_EQ(after.only().state->status, domain::SessionStatus::active);
}

TEST_F(Erasing, reaches_a_session_that_is_just_beginning_and_lets_no_other_begin) {
  Stage stage;
  Heard<SessionStartedAnswer> beginning, next;
  stage.start(beginning);
  Heard<std::uint32_t> erased;
  erase(stage, erased);
  stage.start(next);
  EXPECT_EQ(next.error(), make_error_code(GatewayErrc::overloaded));
  stage.append();  // the start
  stage.append();  // its end
  stage.look_up();
  EXPECT_EQ(erased.only(), 1u);
  Heard<SessionStartedAnswer> later;
  stage.start(later);
  stage.append();
  EXPECT_EQ(later.only().session.state->status, domain::SessionStatus::active) << "a new life";
}

TEST_F(Erasing, that_failed_is_tried_again_and_until_then_the_person_begins_nothing_that_it_could_take) {
  Stage stage;
  Heard<SessionSnapshot> before;
  stage.look(stage.started(), before);
  const std::string key = key_of(stage, before.only().user_key);
  Heard<std::uint32_t> erased;
  erase(stage, erased);
  stage.append(log::Fate::refused);
  EXPECT_EQ(erased.error(), make_error_code(GatewayErrc::not_writable));
  Heard<SessionStartedAnswer> meanwhile, later;
  stage.start(meanwhile);
  EXPECT_EQ(meanwhile.error(), make_error_code(GatewayErrc::overloaded));
  stage.pass(std::chrono::milliseconds(100));
  stage.look_up();
  stage.append();
  stage.look_up();
  EXPECT_FALSE(has_key(stage, before.only(), key));
  EXPECT_EQ(erased.answers.size(), 1u);
  stage.start(later);
  stage.append();
  EXPECT_EQ(later.only().session.state->status, domain::SessionStatus::active);
}

TEST_F(Erasing, of_a_session_that_fails_holds_up_nobody_elses_key) {
  Stage stage;
  Heard<SessionSnapshot> one, other;
  stage.look(stage.started(), one);
  stage.look(stage.started(), other);
  ASSERT_NE(one.only().user_key, other.only().user_key) << "nobody vouched for that user id";
  const std::string one_key = key_of(stage, one.only().user_key), other_key = key_of(stage, other.only().user_key);
  Heard<std::uint32_t> erased;
  erase(stage, erased);
  stage.append(log::Fate::refused);
  stage.append();
  stage.look_up();
  EXPECT_EQ(erased.error(), make_error_code(GatewayErrc::not_writable));
  EXPECT_TRUE(has_key(stage, one.only(), one_key)) << "its session was not told";
  EXPECT_FALSE(has_key(stage, other.only(), other_key));
  stage.pass(std::chrono::milliseconds(100));
  stage.look_up();
  stage.append();
  stage.read();
  stage.look_up();
  EXPECT_FALSE(has_key(stage, one.only(), one_key));
}

TEST_F(Erasing, reads_the_log_in_pages_between_which_others_look_something_up) {
  Stage stage;
  for (int i = 0; i < 600; ++i) stage.started();
  stage.look_up();  // what the host looks for
  Heard<std::vector<std::string>> found;
  stage.gateway->sessions_of({"zoe", {}}, found.ear());
  stage.run();
  ASSERT_EQ(stage.lookups.size(), 1u);
  stage.lookups.front()();
  stage.lookups.pop_front();
  EXPECT_TRUE(found.nothing());
  EXPECT_EQ(stage.lookups.size(), 1u);
  stage.look_up();
  EXPECT_EQ(found.only().size(), 600u);
}

TEST_F(Erasing, is_refused_while_too_many_are_under_way) {
  Stage stage;
  std::vector<Heard<std::vector<std::string>>> exports(17);
  std::vector<Heard<std::uint32_t>> erasures(65);
  stage.log.holds = true;  // who waits for that is under way, too
  for (auto& heard : exports) stage.gateway->sessions_of({"zoe", {}}, heard.ear());
  for (auto& heard : erasures) stage.gateway->erase_person({}, {"zoe", {}}, heard.ear());
  EXPECT_EQ(exports.back().error(), make_error_code(GatewayErrc::overloaded));
  ASSERT_FALSE(erasures.back().nothing());
  EXPECT_EQ(erasures.back().error(), make_error_code(GatewayErrc::overloaded));
  stage.log.let_go();
  stage.run();
  stage.look_up();
  EXPECT_EQ(exports.front().only().size(), 0u);
  EXPECT_EQ(erasures.front().only(), 0u);
  Heard<std::vector<std::string>> next;
  stage.gateway->sessions_of({"zoe", {}}, next.ear());
  stage.look_up();
  EXPECT_EQ(next.only().size(), 0u);
}

TEST_F(Erasing, is_not_stopped_by_how_much_is_asked_of_a_session) {
  SessionSettings settings;
  settings.max_requests_per_session = 1;
  Stage stage(log::make_memory_store(1), settings);
  StartRequest request;
  request.user_id = "max";
  Heard<SessionStartedAnswer> strangers;
  stage.gateway->start_session(std::move(request), strangers.ear());
  stage.run();
  stage.append();
  Heard<TurnAnswer> waiting, mine;
  stage.say(strangers.only().session.session_id, "I am Max", waiting);
  stage.append();
  stage.say(stage.started(), "I am Zoe", mine);
  stage.append();
  Heard<std::uint32_t> erased;
  erase(stage, erased);
  stage.append();
  stage.look_up();
  EXPECT_EQ(erased.only(), 1u);
  EXPECT_TRUE(waiting.nothing());
}

TEST_F(Erasing, asked_for_again_while_a_key_is_left_tells_that_there_was_somebody) {
  Stage stage;
  Heard<SessionSnapshot> before;
  stage.look(stage.started(), before);
  const std::string key = key_of(stage, before.only().user_key);
  Heard<std::uint32_t> first, second, third;
  stage.keys.set_reachable(false);
  erase(stage, first);
  stage.append();
  EXPECT_EQ(first.error(), make_error_code(GatewayErrc::keys_unreachable));
  stage.keys.set_reachable(true);
  erase(stage, second);
  stage.read();
  stage.look_up();
  EXPECT_EQ(second.only(), 1u);
  EXPECT_FALSE(has_key(stage, before.only(), key));
  erase(stage, third);
  stage.read();
  stage.look_up();
  EXPECT_EQ(third.only(), 0u);
}

TEST_F(Erasing, of_somebody_unknown_finds_nobody) {
  Stage stage;
  Heard<std::uint32_t> erased;
  erase(stage, erased);
  stage.look_up();
  EXPECT_EQ(erased.only(), 0u);
}

/// Every session was told, and the erasure asks whether it may take the keys.
struct ErasingThatAsks : Erasing {
  ErasingThatAsks() {
    stage.look(stage.started(), before);
    user_key = before.only().user_key;
    old_key = key_of(stage, user_key);
    erase(stage, erased);
    stage.log.holds = true;
    stage.append();
  }
  /// With the server that has taken the partition.
  void person_comes_back() {
    auto key = std::make_shared<privacy::SealingKey>();
    key->id = new_key;
    stage.keys.put(user_key, key);
  }
  void goes_on() {
    stage.log.let_go();
    stage.run();
    stage.look_up();
  }

  Stage stage;
  Heard<SessionSnapshot> before;
  Heard<std::uint32_t> erased;
  std::string user_key, old_key;
  const std::string new_key = "0123456789abcdef";
};

TEST_F(ErasingThatAsks, takes_the_keys_that_were_there_before_nobody_else_can_have_let_the_person_back_in) {
  EXPECT_TRUE(erased.nothing());
  person_comes_back();
  goes_on();
  EXPECT_EQ(erased.only(), 1u);
  EXPECT_FALSE(has_key(stage, before.only(), old_key));
  EXPECT_TRUE(has_key(stage, before.only(), new_key)) << "it seals what was said since";
}

TEST_F(ErasingThatAsks, takes_no_key_once_another_server_has_the_partition) {
  stage.log.read = failure(log::Errc::locked);
  goes_on();
  EXPECT_EQ(erased.error(), make_error_code(GatewayErrc::keys_unreachable))
      << "it is not asked of that one unless the client does";
  EXPECT_TRUE(has_key(stage, before.only(), old_key));
}

TEST_F(ErasingThatAsks, takes_no_key_while_the_log_cannot_say_whose_the_partition_is) {
  stage.log.read = failure(log::Errc::not_writable);
  goes_on();
  EXPECT_EQ(erased.error(), make_error_code(GatewayErrc::keys_unreachable));
  EXPECT_TRUE(has_key(stage, before.only(), old_key));
  stage.log.read = {};
  stage.pass(std::chrono::milliseconds(100));
  stage.look_up();
  stage.read();
  stage.look_up();
  EXPECT_FALSE(has_key(stage, before.only(), old_key)) << "tried again";
}

TEST_F(ErasingThatAsks, takes_no_key_after_another_server_had_the_partition_in_between) {
  stage.gateway->lose(0);
  stage.gateway->gain(0);
  stage.run();
  goes_on();
  EXPECT_EQ(erased.error(), make_error_code(GatewayErrc::keys_unreachable));
  EXPECT_TRUE(has_key(stage, before.only(), old_key));
}

TEST_F(ErasingThatAsks, takes_no_key_while_its_host_has_not_heard_yet_that_the_partition_went) {
  stage.gateway->lose(0);
  stage.gateway->gain(0);
  goes_on();
  EXPECT_FALSE(erased.nothing());
  EXPECT_TRUE(has_key(stage, before.only(), old_key));
}

TEST_F(Erasing, ends_with_the_process_wherever_it_is) {
  for (int steps = 0; steps < 5; ++steps) {
    Heard<std::uint32_t> erased;
    {
      Stage stage;
      stage.started();
      stage.gateway->erase_person({}, {"zoe", {}}, erased.ear());
      if (steps > 0) stage.run();
      if (steps > 1) stage.look_up();
      if (steps > 2) stage.look_up();
      if (steps > 3) stage.append();
    }
    EXPECT_EQ(erased.error(), make_error_code(GatewayErrc::in_doubt)) << steps;
  }
}

TEST_F(Erasing, that_was_cut_off_is_finished_at_the_next_start) {
  std::string scratch = (std::filesystem::temp_directory_path() / "erasing.XXXXXX").string();
  ASSERT_NE(::mkdtemp(scratch.data()), nullptr);
  const auto store = log::make_memory_store(1);
  const auto folder = std::filesystem::path(scratch) / "erasures";
  std::string session, user_key;
  privacy::SealingKeyPtr key;
  {
    Stage stage(store, {}, folder);
    session = stage.started();
    Heard<SessionSnapshot> before;
    stage.look(session, before);
    user_key = before.only().user_key;
    stage.keys.obtain(user_key, [&](result<privacy::SealingKeyPtr> kept) { key = *kept; });
    Heard<std::uint32_t> erased;
    erase(stage, erased);
    stage.append(log::Fate::refused);
    EXPECT_EQ(erased.error(), make_error_code(GatewayErrc::not_writable));
    EXPECT_EQ(erasures_begun(folder).size(), 1u);
  }
  Stage stage(store, {}, folder);
  stage.keys.put(user_key, key);
  Heard<SessionStartedAnswer> too_early;
  stage.start(too_early);
  EXPECT_EQ(too_early.error(), make_error_code(GatewayErrc::overloaded)) << "it would go with what was there";
  stage.look_up();
  stage.look_up();
  stage.read();
  stage.append();
  stage.look_up();
  EXPECT_FALSE(stage.keys.find(user_key, key->id));
  EXPECT_TRUE(erasures_begun(folder).empty());
  Heard<SessionSnapshot> after;
  stage.look(session, after);
  stage.read();
  EXPECT_EQ(after.error(), make_error_code(GatewayErrc::unknown_session));
  std::filesystem::remove_all(scratch);
}

}  // namespace
}  // namespace onboarding::session
