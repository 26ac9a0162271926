// Partitions that come and go while the process lives.
#include <gtest/gtest.h>

#include "tests/unit/session/stage.hpp"

namespace onboarding::session {
namespace {

const std::error_code elsewhere = make_error_code(GatewayErrc::owned_elsewhere);

struct MovingStage : Stage {
  MovingStage() : Stage(log::make_memory_store(1), {}, {}, {}, {}, false) {}
  void gain() {
    gateway->gain(0);
    run();
    look_up();
  }
  void lose() {
    gateway->lose(0);
    run();
  }
};

TEST(MovingPartition, is_served_from_when_it_is_gained_and_before_says_where_it_belongs) {
  MovingStage stage;
  Heard<SessionStartedAnswer> before, after;
  stage.start(before);
  EXPECT_EQ(before.error(), elsewhere);
  EXPECT_EQ(before.answers.at(0).error().detail, "0") << "the partition, for whoever passes the request on";
  stage.gain();
  stage.start(after);
  stage.append();
  EXPECT_TRUE(after.answers.at(0).has_value());
}

TEST(MovingPartition, that_is_lost_answers_who_waits_for_a_durable_turn_and_sends_the_others_on) {
  MovingStage stage;
  stage.gain();
  const std::string session = stage.started();
  Heard<TurnAnswer> durable, not_begun;
  stage.say(session, "My name is Zoe", durable);
  stage.append();
  stage.say(session, "I mean Zoe Quick", not_begun);  // decided, and not written
  stage.append(log::Fate::fenced);
  EXPECT_EQ(not_begun.error(), elsewhere) << "nothing of it was written: another server may do it";
  stage.lose();
  ASSERT_FALSE(durable.nothing());
  EXPECT_TRUE(durable.only().queued) << "its turn goes on elsewhere";
  EXPECT_FALSE(stage.gateway->status().fenced) << "the process serves its other partitions";
  Heard<SessionSnapshot> later;
  stage.look(session, later);
  EXPECT_EQ(later.error(), elsewhere);
}

TEST(MovingPartition, that_is_lost_before_an_append_has_ended_says_that_its_end_is_not_known) {
  MovingStage stage;
  stage.gain();
  const std::string session = stage.started();
  Heard<TurnAnswer> under_way;
  stage.say(session, "My name is Zoe", under_way);
  stage.lose();
  EXPECT_EQ(under_way.error(), make_error_code(GatewayErrc::in_doubt))
      << "it may be written: another server must not do it again";
  stage.append();
}

TEST(MovingPartition, that_is_gained_takes_up_the_turn_that_its_owner_before_left) {
  MovingStage stage;
  stage.gain();
  const std::string session = stage.started();
  Heard<TurnAnswer> said;
  stage.say(session, "My name is Zoe", said);
  stage.append();
  stage.lose();
  stage.questions.clear();
  stage.run();
  stage.gain();
  stage.read();    // the session
  stage.append();  // its second attempt
  ASSERT_EQ(stage.questions.size(), 1U);
  stage.model_answers({{"full_name", "Zoe"}});
  stage.append();
  Heard<SessionSnapshot> seen;
  stage.look(session, seen);
  stage.read();  // nobody had asked for it: it had left
  ASSERT_FALSE(seen.nothing());
  EXPECT_EQ(seen.only().state->turns.at(0).status, domain::TurnStatus::answered);
  EXPECT_EQ(seen.only().state->turns.at(0).activation, 2U);
}

TEST(MovingPartition, whose_owner_was_replaced_unawares_tells_nobody_that_a_person_is_erased_or_what_was_answered_before) {
  MovingStage stage;
  stage.gain();
  const std::string session = stage.started();
  Heard<TurnAnswer> said, again;
  stage.say(session, "My name is Zoe", said, "one");
  stage.append();
  stage.model_answers({{"full_name", "Zoe"}});
  stage.append();
  ASSERT_FALSE(said.only().queued);
  stage.log.read = failure(make_error_code(log::Errc::locked), "another server owns the partition");
  Heard<std::uint32_t> erased;
  stage.gateway->erase_person({}, {"somebody who came to the other one", {}}, erased.ear());
  stage.run();
  stage.look_up();
  EXPECT_EQ(erased.error(), elsewhere);
  stage.say(session, "My name is Zoe", again, "one");
  ASSERT_FALSE(again.nothing());
  EXPECT_EQ(again.error(), elsewhere) << "whose person may be erased by now, or whose token replaced";
  // It may also be that nobody replaced it.
  stage.log.read = {};
  Heard<TurnAnswer> current;
  stage.say(session, "My name is Zoe", current, "one");
  EXPECT_EQ(current.only().turn_id, said.only().turn_id);
}

}  // namespace
}  // namespace onboarding::session
