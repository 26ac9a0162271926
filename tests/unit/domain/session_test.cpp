#include "tests/unit/domain/harness.hpp"
#include "tests/unit/domain/legal.hpp"

#include "events/domain/replies.hpp"

namespace onboarding::domain::testing {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr const char* apology = "We're experiencing technical difficulties";

ModelAnswer says(std::string reply, std::vector<std::pair<std::string, std::string>> fields, std::vector<std::string> asks = {}) {
  return {std::move(reply), std::move(fields), std::move(asks)};
}

std::vector<Event> running_turn(const Flow& flow = default_flow()) {
  return {started(flow), received("t1"), TurnStarted{"t1", 1}};
}

std::vector<Event> with(std::vector<Event> events, std::vector<Event> more) {
  events.insert(events.end(), more.begin(), more.end());
  return events;
}

/// A session that has everything but the goal, its second turn running.
std::vector<Event> all_but_the_goal() {
  return with(running_turn(),
              {FieldExtracted{"t1", "full_name", {FieldType::person_name, "Zoe"}, true},
               FieldExtracted{"t1", "email", {FieldType::email, "zoe@acme.io"}, true},
               FieldExtracted{"t1", "company", {FieldType::company, "Acme"}, true},
               FieldExtracted{"t1", "role", {FieldType::text, "CTO"}, true},
               FieldExtracted{"t1", "team_size", {FieldType::integer, "40"}, true},
               AssistantReplied{"t1", "And your goal?", {"goal"}, "offline", false}, received("t2"), TurnStarted{"t2", 1}});
}

std::vector<Event> completed() {
  return with(all_but_the_goal(), {FieldExtracted{"t2", "goal", {FieldType::text, "grow"}, true},
                                   AssistantReplied{"t2", "Done", {}, "offline", false}, SessionCompleted{"t2"}});
}

StartSession start_command() {
  StartSession command;
  command.user_id = "usr_1";
  command.flow = std::make_shared<const Flow>(default_flow());
  command.plan = "free";
  command.locale = "en";
  command.token_hash = "hash1";
  command.idempotency_key_hash = "startkey";
  command.request_fingerprint = "startprint";
  return command;
}

Flow flow_with_conditions() {
  Flow flow;
  flow.name = "branching";
  flow.greeting = "Hi!";
  FieldSpec role = spec("role", FieldType::choice);
  role.options = {{"student", {"a student"}}, {"employee", {"an employee"}}};
  FieldSpec school = spec("school", FieldType::text);
  school.when = Condition{"role", Condition::Operator::is, "student"};
  FieldSpec heard = spec("heard_from", FieldType::text, false);
  heard.when = Condition{"role", Condition::Operator::is_not, "student"};
  flow.fields = {role, school, heard, spec("phone", FieldType::phone, false), spec("goal", FieldType::text)};
  return flow;
}

// ---- start

TEST(ShortHash, tells_two_hashes_apart_whichever_digit_differs) {
  for (const std::size_t digits : {32, 64}) {
    const std::string hash = std::string("0123456789abcdef0123456789abcdeffedcba9876543210fedcba9876543210").substr(0, digits);
    for (std::size_t i = 0; i < digits; ++i) {
      std::string other = hash;
      other[i] = hash[i] == '7' ? 'f' : '7';
      EXPECT_FALSE(ShortHash(hash) == ShortHash(other)) << other;
    }
    EXPECT_TRUE(ShortHash(hash) == ShortHash(hash));
    EXPECT_FALSE(ShortHash(hash) == ShortHash());
  }
  EXPECT_TRUE(ShortHash("") == ShortHash());
}

TEST(StartSession, greets_and_asks_the_first_field) {
  const auto scenario = given({}).when(start_command());
  const auto event = scenario.only<SessionStarted>();
  EXPECT_EQ(event.asks, std::vector<std::string>{"full_name"});
  EXPECT_EQ(event.greeting.text, default_flow().greeting + " " + default_flow().fields[0].prompt);
  EXPECT_EQ(event.flow, "default");
  EXPECT_EQ(event.token_generation, 1U);
  EXPECT_EQ(scenario.after().status, SessionStatus::active);
  EXPECT_EQ(missing_fields(scenario.after()),
            (std::vector<std::string>{"full_name", "email", "company", "role", "team_size", "goal"}));
}
TEST(StartSession, repeated_with_the_same_key_and_body_changes_nothing) {
  given({started()}).when(start_command()).then_nothing();
}
TEST(StartSession, repeated_with_the_same_key_and_another_body_is_refused) {
  auto command = start_command();
  command.request_fingerprint = "other";
  given({started()}).when(command).then(Rejection::key_reused);
}
TEST(StartSession, without_a_key_on_a_started_session_needs_the_same_body) {
  auto begun = started();
  begun.idempotency_key_hash.clear();
  auto command = start_command();
  command.idempotency_key_hash.clear();
  given({begun}).when(command).then_nothing();
  command.request_fingerprint = "other";
  given({begun}).when(command).then(Rejection::key_reused);
}

// ---- messages

TEST(ReceiveMessage, is_recorded_and_begins_a_turn) {
  given({started()})
      .when(ReceiveMessage{"t1", "I'm Zoe", "k", "f"})
      .then({MessageReceived{"t1", "I'm Zoe", "k", "f"}, TurnStarted{"t1", 1}});
}
TEST(ReceiveMessage, that_nobody_waits_for_is_queued_from_the_start) {
  given({started()})
      .when(ReceiveMessage{"t1", "I'm Zoe", "k", "f", "queue_mode"})
      .then({MessageReceived{"t1", "I'm Zoe", "k", "f"}, TurnQueued{"t1", "queue_mode"}, TurnStarted{"t1", 1}});
  given(running_turn())
      .when(ReceiveMessage{"t2", "and", "k", "f", "queue_mode"})
      .then({MessageReceived{"t2", "and", "k", "f"}, TurnQueued{"t2", "queue_mode"}});
}
TEST(StartTurn, of_a_queued_turn_may_begin_more_often_than_of_one_that_somebody_waits_for) {
  auto history = running_turn();
  history.push_back(TurnQueued{"t1", "queue_mode"});
  for (std::uint32_t n = 2; n <= 3; ++n) history.push_back(TurnStarted{"t1", n});
  given(history).when(StartTurn{"t1", 4}).then({TurnStarted{"t1", 4}});
  for (std::uint32_t n = 4; n <= 30; ++n) history.push_back(TurnStarted{"t1", n});
  given(history).when(StartTurn{"t1", 31}).then_types({"TurnFailed", "AssistantReplied"});
}
TEST(ReceiveMessage, waits_behind_a_running_turn) {
  given(running_turn()).when(ReceiveMessage{"t2", "and", "k", "f"}).then({MessageReceived{"t2", "and", "k", "f"}});
}
TEST(ReceiveMessage, is_refused_when_three_already_wait) {
  given(with(running_turn(), {received("t2"), received("t3"), received("t4")}))
      .when(ReceiveMessage{"t5", "x", "", "f"})
      .then(Rejection::too_many_waiting);
}
TEST(ReceiveMessage, with_a_known_key_and_the_same_body_changes_nothing) {
  given(running_turn()).when(ReceiveMessage{"other", "hello", "key-t1", "print-t1"}).then_nothing();
}
TEST(ReceiveMessage, with_a_known_key_and_another_body_is_refused) {
  given(running_turn()).when(ReceiveMessage{"other", "bye", "key-t1", "else"}).then(Rejection::key_reused);
}
TEST(ReceiveMessage, with_a_known_turn_and_the_same_body_changes_nothing) {
  given(running_turn()).when(ReceiveMessage{"t1", "hello", "", "print-t1"}).then_nothing();
}
TEST(ReceiveMessage, without_a_key_never_matches_another_one_without_a_key) {
  given({started(), MessageReceived{"t1", "a", "", "f"}, TurnStarted{"t1", 1}})
      .when(ReceiveMessage{"t2", "a", "", "f"})
      .then_types({"MessageReceived"});
}
TEST(ReceiveMessage, must_be_text_of_a_reasonable_length) {
  given({started()}).when(ReceiveMessage{"t1", " \n\t\u00A0\u3000\u200B ", "", "f"}).then(Rejection::message_empty);
  given({started()}).when(ReceiveMessage{"t1", "", "", "f"}).then(Rejection::message_empty);
  given({started()}).when(ReceiveMessage{"t1", "a\xFF", "", "f"}).then(Rejection::message_not_text);
  given({started()}).when(ReceiveMessage{"t1", std::string("a\0b", 3), "", "f"}).then(Rejection::message_not_text);
  given({started()}).when(ReceiveMessage{"t1", "\xED\xA0\x80", "", "f"}).then(Rejection::message_not_text);
  given({started()}).when(ReceiveMessage{"t1", std::string(16385, 'a'), "", "f"}).then(Rejection::message_too_long);
  given({started()}).when(ReceiveMessage{"t1", std::string(16384, 'a'), "", "f"}).then_types({"MessageReceived", "TurnStarted"});
}
TEST(ReceiveMessage, is_refused_beyond_the_limit_of_messages) {
  Limits limits;
  limits.max_messages = 1;
  given(with(running_turn(), {AssistantReplied{"t1", "r", {"email"}, "offline", false}}))
      .within(limits)
      .when(ReceiveMessage{"t2", "x", "", "f"})
      .then(Rejection::too_many_messages);
}
TEST(ReceiveMessage, resumes_an_abandoned_session) {
  given({started(), SessionAbandoned{"full_name"}})
      .when(ReceiveMessage{"t1", "hi", "", "f"})
      .then({SessionResumed{}, MessageReceived{"t1", "hi", "", "f"}, TurnStarted{"t1", 1}});
}
TEST(ReceiveMessage, is_taken_after_completion_until_the_time_for_corrections_is_over) {
  const State done = folded(completed(), FixedFlowCatalog());
  given(completed())
      .at(*done.completed_at + hours(1))
      .when(ReceiveMessage{"t3", "wait", "", "f"})
      .then_types({"MessageReceived", "TurnStarted"});
  given(completed())
      .at(*done.completed_at + hours(1) + std::chrono::microseconds(1))
      .when(ReceiveMessage{"t3", "wait", "", "f"})
      .then(Rejection::closed);
}
TEST(ReceiveMessage, that_was_answered_is_found_again_after_the_session_closed) {
  given(completed()).at(noon + hours(100)).when(ReceiveMessage{"x", "hello", "key-t2", "print-t2"}).then_nothing();
}
TEST(Everything, is_refused_before_the_start) {
  given({}).when(ReceiveMessage{"t1", "x", "", "f"}).then(Rejection::not_started);
  given({}).when(EraseUser{}).then(Rejection::not_started);
  given({}).when(AbandonIfDue{noon}).then(Rejection::not_started);
}

// ---- attempts

TEST(StartTurn, counts_another_attempt_at_the_running_turn) {
  given(running_turn()).when(StartTurn{"t1", 2}).then({TurnStarted{"t1", 2}});
}
TEST(StartTurn, for_an_attempt_that_already_began_changes_nothing) {
  given(running_turn()).when(StartTurn{"t1", 1}).then_nothing();
  given(running_turn()).when(StartTurn{"t1", 3}).then_nothing();
}
TEST(StartTurn, fails_the_turn_visibly_after_the_third_attempt_and_starts_the_next) {
  const auto scenario =
      given(with(running_turn(), {received("t2"), TurnStarted{"t1", 2}, TurnStarted{"t1", 3}})).when(StartTurn{"t1"});
  scenario.then_types({"TurnFailed", "AssistantReplied", "TurnStarted"});
  EXPECT_EQ(scenario.only<TurnFailed>().reason, "activations_exhausted");
  EXPECT_EQ(scenario.only<AssistantReplied>().source, "none");
  EXPECT_TRUE(scenario.only<AssistantReplied>().error);
  EXPECT_EQ(scenario.only<TurnStarted>(), (TurnStarted{"t2", 1}));
}
TEST(StartTurn, for_a_turn_that_is_not_due_changes_nothing) {
  given(with(running_turn(), {received("t2")})).when(StartTurn{"t2"}).then_nothing();
  given(completed()).when(StartTurn{"t1"}).then_nothing();
  given(completed()).when(StartTurn{"nobody"}).then(Rejection::unknown_turn);
}
TEST(QueueTurn, is_recorded_once) {
  given(running_turn()).when(QueueTurn{"t1", "budget"}).then({TurnQueued{"t1", "budget"}});
  given(with(running_turn(), {TurnQueued{"t1", "budget"}})).when(QueueTurn{"t1", "slow"}).then_nothing();
  given(completed()).when(QueueTurn{"t1", "slow"}).then_nothing();
}

// ---- outcomes

TEST(ConcludeTurn, records_calls_and_values_then_the_reply) {
  ConcludeTurn command = conclude("t1", says("Thanks Zoe! What's your e-mail address?", {{"full_name", "Zoe"}}, {"email"}));
  command.calls = {{1, "openai", "m", "p1", "c1", {}, noon, 12, "timeout", "provider", ""},
                   {2, "offline", "rules", "p1", "c1", {}, noon, 1, "", "", "{}"}};
  command.fallback_reason = "timeout";
  const auto scenario = given(running_turn()).when(command);
  scenario.then_types(
      {"LlmCallStarted", "LlmCallFailed", "LlmCallStarted", "LlmCallSucceeded", "FieldExtracted", "AssistantReplied"});
  EXPECT_EQ(scenario.only<FieldExtracted>(), (FieldExtracted{"t1", "full_name", {FieldType::person_name, "Zoe"}, true}));
  EXPECT_EQ(scenario.only<AssistantReplied>(),
            (AssistantReplied{"t1", "Thanks Zoe! What's your e-mail address?", {"email"}, "offline", false, "timeout"}));
  const State after = scenario.after();
  EXPECT_EQ(names_of(*after.flow, find_turn(after, "t1")->missing),
            (std::vector<std::string>{"email", "company", "role", "team_size", "goal"}));
  EXPECT_EQ(after.asked_last, "email");
}
TEST(ConcludeTurn, of_a_superseded_attempt_changes_nothing) {
  given(with(running_turn(), {TurnStarted{"t1", 2}})).when(conclude("t1", says("x", {{"full_name", "Zoe"}}), 1)).then_nothing();
}
TEST(ConcludeTurn, of_an_answered_turn_changes_nothing) {
  given(completed()).when(conclude("t1", says("x", {{"full_name", "Eve"}}))).then_nothing();
}
TEST(ConcludeTurn, takes_several_fields_in_the_flows_order_whatever_the_models) {
  const auto scenario = given(running_turn())
                            .when(conclude("t1", says("", {{"team_size", "about forty"},
                                                           {"email", "zoe at acme dot io"},
                                                           {"nonsense", "x"},
                                                           {"full_name", "Zo\u00eb O'Brien-Smith"}})));
  scenario.then_types({"FieldExtracted", "FieldExtracted", "FieldExtracted", "AssistantReplied"});
  EXPECT_EQ(std::get<FieldExtracted>(scenario.decided()[0]).field, "full_name");
  EXPECT_EQ(std::get<FieldExtracted>(scenario.decided()[1]).value.canonical, "zoe@acme.io");
  EXPECT_EQ(std::get<FieldExtracted>(scenario.decided()[2]).value.canonical, "40");
  EXPECT_EQ(scenario.only<AssistantReplied>().asks, std::vector<std::string>{"company"});
}
TEST(ConcludeTurn, corrects_a_value_and_ignores_the_same_one) {
  given(all_but_the_goal())
      .when(conclude("t2", says("", {{"full_name", "Ann"}, {"company", "Acme"}})))
      .then_types({"FieldCorrected", "FieldReasked", "AssistantReplied"});
}
TEST(ConcludeTurn, tells_the_reason_of_a_refusal_and_asks_again) {
  const auto scenario =
      given(
          with(running_turn(), {FieldExtracted{"t1", "full_name", {FieldType::person_name, "Zoe"}, true},
                                AssistantReplied{"t1", "?", {"email"}, "offline", false}, received("t2"), TurnStarted{"t2", 1}}))
          .when(conclude("t2", says("Great, noted your e-mail!", {{"email", "zoe.acme.io"}, {"company", "Acme"}}, {"role"})));
  scenario.then_types({"FieldRejected", "FieldExtracted", "FieldReasked", "AssistantReplied"});
  EXPECT_EQ(scenario.only<FieldRejected>(), (FieldRejected{"t2", "email", "zoe.acme.io", "no_at_sign"}));
  EXPECT_EQ(scenario.only<FieldReasked>(), (FieldReasked{"t2", "email", 2}));
  const auto reply = scenario.only<AssistantReplied>();
  EXPECT_NE(reply.text.text.find("no @"), std::string::npos) << reply.text.text;
  EXPECT_EQ(reply.text.text.find("zoe.acme.io"), std::string::npos) << "a refused value is not repeated";
  EXPECT_EQ(reply.text.text.find("noted your e-mail!"), std::string::npos) << "what the model believed is not said";
  EXPECT_EQ(reply.asks, std::vector<std::string>{"email"});
}
TEST(ConcludeTurn, keeps_the_old_value_when_a_correction_is_refused) {
  const auto scenario = given(all_but_the_goal()).when(conclude("t2", says("", {{"email", "zoe at"}})));
  EXPECT_EQ(scenario.after().fields.at("email").value->canonical, "zoe@acme.io");
  const auto reply = scenario.only<AssistantReplied>();
  EXPECT_NE(reply.text.text.find("kept"), std::string::npos) << reply.text.text;
  EXPECT_EQ(reply.asks, std::vector<std::string>{"goal"});
}
TEST(ConcludeTurn, completes_when_nothing_required_is_missing) {
  const auto scenario = given(all_but_the_goal()).when(conclude("t2", says("Lovely.", {{"goal", "grow revenue"}})));
  scenario.then_types({"FieldExtracted", "AssistantReplied", "SessionCompleted"});
  const State after = scenario.after();
  EXPECT_EQ(after.status, SessionStatus::completed);
  const Turn& turn = *find_turn(after, "t2");
  EXPECT_TRUE(turn.is_complete);
  EXPECT_EQ(turn.last_version, after.version);
  EXPECT_EQ(turn.last_sequence, after.sequence);
  EXPECT_NE(turn.reply.text.find("everything we need"), std::string::npos);
}
TEST(ConcludeTurn, never_completes_on_the_models_word) {
  const auto scenario =
      given(running_turn()).when(conclude("t1", says("You're all set, goodbye!", {{"full_name", "Zoe"}}, {"email"})));
  scenario.then_types({"FieldExtracted", "AssistantReplied"});
  const auto reply = scenario.only<AssistantReplied>();
  EXPECT_EQ(reply.text.text.find("all set"), std::string::npos) << reply.text.text;
  EXPECT_EQ(reply.asks, std::vector<std::string>{"email"});
}
TEST(ConcludeTurn, adds_the_next_question_when_the_model_forgot_it) {
  const auto scenario = given(running_turn()).when(conclude("t1", says("We have offices in Berlin.", {})));
  const auto reply = scenario.only<AssistantReplied>();
  EXPECT_EQ(reply.text.text, "We have offices in Berlin. " + default_flow().fields[0].prompt);
  EXPECT_EQ(reply.asks, std::vector<std::string>{"full_name"});
  EXPECT_EQ(scenario.only<FieldReasked>().times, 2U);
}
TEST(ConcludeTurn, does_not_count_a_question_for_a_field_that_is_known) {
  const auto scenario = given(all_but_the_goal())
                            .when(conclude("t2", says("And your name? And your goal?", {}, {"full_name", "goal", "nonsense"})));
  EXPECT_EQ(scenario.only<AssistantReplied>().asks, std::vector<std::string>{"goal"});
}
TEST(ConcludeTurn, without_an_answer_fails_visibly_and_keeps_the_message) {
  ConcludeTurn command;
  command.turn_id = "t1";
  command.source = "none";
  command.failure = "deadline";
  const auto scenario = given(with(running_turn(), {received("t2")})).when(command);
  scenario.then_types({"TurnFailed", "AssistantReplied", "TurnStarted"});
  EXPECT_EQ(scenario.only<TurnFailed>().reason, "deadline");
  EXPECT_EQ(scenario.only<AssistantReplied>().text.text.rfind(apology, 0), 0U);
  const State after = scenario.after();
  EXPECT_EQ(find_turn(after, "t1")->status, TurnStatus::failed);
  EXPECT_EQ(find_turn(after, "t1")->text.text, "hello");
  EXPECT_EQ(after.asked, std::vector<std::string>{"full_name"}) << "the question before the apology still stands";
}
TEST(ConcludeTurn, begins_the_next_waiting_turn) {
  const auto scenario = given(with(running_turn(), {received("t2"), received("t3")})).when(conclude("t1", says("", {})));
  EXPECT_EQ(scenario.only<TurnStarted>(), (TurnStarted{"t2", 1}));
}
TEST(ConcludeTurn, survives_a_model_that_answers_rubbish) {
  const auto scenario = given(running_turn())
                            .when(conclude("t1", says(std::string("\xFF\0oops", 6), {{"full_name", std::string("\xC3\x28\0", 3)},
                                                                                     {"email", std::string(100'000, 'a')}})));
  scenario.then_types({"FieldRejected", "FieldRejected", "FieldReasked", "AssistantReplied"});
  for (const Event& event : scenario.decided()) {
    const auto* rejected = std::get_if<FieldRejected>(&event);
    EXPECT_LE(rejected ? rejected->value.text.size() : 0, 4096U);
  }
  EXPECT_EQ(std::get<FieldRejected>(scenario.decided()[0]).value.text, "\xEF\xBF\xBD(\xEF\xBF\xBD");
}
TEST(ConcludeTurn, refuses_to_let_a_required_field_be_declined) {
  const auto scenario = given(running_turn()).when(conclude("t1", says("Sure!", {{"full_name", "I'd rather not say"}})));
  EXPECT_EQ(scenario.only<FieldRejected>().reason, "required");
  EXPECT_NE(scenario.only<AssistantReplied>().text.text.find("can't set things up without your name"), std::string::npos);
}
TEST(ConcludeTurn, does_not_lose_a_known_required_value_to_a_no) {
  given(all_but_the_goal()).when(conclude("t2", says("", {{"company", "no"}}))).then_types({"FieldReasked", "AssistantReplied"});
}

// ---- conditions and optional fields

TEST(Conditions, decide_what_is_missing) {
  const Flow flow = flow_with_conditions();
  auto events = running_turn(flow);
  EXPECT_EQ(missing_fields(folded(events, FixedFlowCatalog({flow}))),
            (std::vector<std::string>{"role", "heard_from", "phone", "goal"}));
  events.push_back(FieldExtracted{"t1", "role", {FieldType::choice, "student"}, true});
  EXPECT_EQ(missing_fields(folded(events, FixedFlowCatalog({flow}))), (std::vector<std::string>{"school", "phone", "goal"}));
}
TEST(Conditions, settled_in_the_same_message_count_already) {
  const Flow flow = flow_with_conditions();
  given(running_turn(flow))
      .on(flow)
      .when(conclude("t1", says("", {{"school", "MIT"}, {"role", "a student"}})))
      .then_types({"FieldExtracted", "FieldExtracted", "AssistantReplied"});
}
TEST(Conditions, that_do_not_hold_make_a_value_unheard) {
  const Flow flow = flow_with_conditions();
  given(running_turn(flow))
      .on(flow)
      .when(conclude("t1", says("", {{"school", "MIT"}, {"role", "employee"}})))
      .then_types({"FieldExtracted", "AssistantReplied"});
}
TEST(Conditions, that_stop_holding_keep_the_value_but_do_not_miss_it) {
  const Flow flow = flow_with_conditions();
  const auto scenario = given(with(running_turn(flow), {FieldExtracted{"t1", "role", {FieldType::choice, "student"}, true},
                                                        FieldExtracted{"t1", "school", {FieldType::text, "MIT"}, true}}))
                            .on(flow)
                            .when(conclude("t1", says("", {{"role", "employee"}})));
  const State after = scenario.after();
  EXPECT_EQ(after.fields.at("school").value->canonical, "MIT");
  EXPECT_EQ(missing_fields(after), (std::vector<std::string>{"phone", "goal"})) << "heard_from was asked by this reply";
}
TEST(OptionalField, can_be_declined) {
  const Flow flow = flow_with_conditions();
  const auto scenario = given(running_turn(flow)).on(flow).when(conclude("t1", says("", {{"phone", "rather not say"}})));
  EXPECT_EQ(scenario.only<FieldDeclined>(), (FieldDeclined{"t1", "phone"}));
  EXPECT_TRUE(scenario.after().fields.at("phone").declined);
}
TEST(OptionalField, is_withdrawn_by_declining_later) {
  const Flow flow = flow_with_conditions();
  const auto scenario = given(with(running_turn(flow), {FieldExtracted{"t1", "phone", {FieldType::phone, "+4930901820"}, true}}))
                            .on(flow)
                            .when(conclude("t1", says("", {{"phone", "I'd rather not share my phone"}})));
  EXPECT_FALSE(scenario.after().fields.at("phone").value);
}
TEST(OptionalField, is_asked_once_then_passed_over) {
  const Flow flow = flow_with_conditions();
  auto events = with(running_turn(flow),
                     {FieldExtracted{"t1", "role", {FieldType::choice, "employee"}, true},
                      AssistantReplied{"t1", "?", {"heard_from"}, "offline", false}, received("t2"), TurnStarted{"t2", 1}});
  const auto scenario = given(events).on(flow).when(conclude("t2", says("", {})));
  EXPECT_EQ(scenario.only<AssistantReplied>().asks, std::vector<std::string>{"phone"});
}
TEST(OptionalField, that_is_still_unasked_at_completion_is_asked_once) {
  const Flow flow = flow_with_conditions();
  const auto scenario = given(running_turn(flow))
                            .on(flow)
                            .when(conclude("t1", says("All done!", {{"role", "student"}, {"school", "MIT"}, {"goal", "learn"}})));
  scenario.then_types({"FieldExtracted", "FieldExtracted", "FieldExtracted", "AssistantReplied", "SessionCompleted"});
  EXPECT_EQ(scenario.only<AssistantReplied>().asks, std::vector<std::string>{"phone"});
}

// ---- after completion

TEST(CompletedSession, takes_corrections_and_stays_complete) {
  const auto scenario = given(with(completed(), {received("t3"), TurnStarted{"t3", 1}}))
                            .when(conclude("t3", says("Changed.", {{"full_name", "Ann"}})));
  scenario.then({FieldCorrected{"t3", "full_name", {FieldType::person_name, "Ann"}, true},
                 AssistantReplied{"t3", "Changed.", {}, "offline", false}});
  EXPECT_TRUE(find_turn(scenario.after(), "t3")->is_complete);
}
TEST(CompletedSession, stays_complete_when_a_correction_opens_a_question) {
  const Flow flow = flow_with_conditions();
  const auto events = with(running_turn(flow), {FieldExtracted{"t1", "role", {FieldType::choice, "employee"}, true},
                                                FieldExtracted{"t1", "goal", {FieldType::text, "learn"}, true},
                                                AssistantReplied{"t1", "?", {"heard_from", "phone"}, "offline", false},
                                                SessionCompleted{"t1"}, received("t2"), TurnStarted{"t2", 1}});
  const auto scenario = given(events).on(flow).when(conclude("t2", says("", {{"role", "student"}})));
  scenario.then_types({"FieldCorrected", "AssistantReplied"});
  EXPECT_EQ(scenario.only<AssistantReplied>().asks, std::vector<std::string>{"school"});
  EXPECT_TRUE(is_complete(scenario.after()));
}

// ---- abandonment

TEST(AbandonIfDue, happens_at_the_limit_and_names_the_field) {
  const State begun = folded({started()}, FixedFlowCatalog());
  given({started()}).at(begun.last_activity + minutes(30)).when(AbandonIfDue{noon}).then({SessionAbandoned{"full_name"}});
  given({started()}).at(begun.last_activity + minutes(30) - seconds(1)).when(AbandonIfDue{noon}).then_nothing();
}
TEST(AbandonIfDue, does_not_count_the_time_that_the_server_was_down) {
  given({started()}).at(noon + hours(9)).when(AbandonIfDue{noon + hours(9) - minutes(29)}).then_nothing();
  given({started()}).at(noon + hours(9)).when(AbandonIfDue{noon + hours(9) - minutes(30)}).then({SessionAbandoned{"full_name"}});
}
TEST(AbandonIfDue, spares_pending_complete_and_abandoned_sessions) {
  given(running_turn()).at(noon + hours(9)).when(AbandonIfDue{noon}).then_nothing();
  given(completed()).at(noon + hours(9)).when(AbandonIfDue{noon}).then_nothing();
  given({started(), SessionAbandoned{"full_name"}}).at(noon + hours(9)).when(AbandonIfDue{noon}).then_nothing();
}
TEST(AbandonIfDue, names_the_field_asked_last_that_is_still_open) {
  const auto events = with(running_turn(), {FieldExtracted{"t1", "full_name", {FieldType::person_name, "Zoe"}, true},
                                            AssistantReplied{"t1", "?", {"role", "goal"}, "offline", false}});
  given(events).at(noon + hours(9)).when(AbandonIfDue{noon}).then({SessionAbandoned{"role"}});
}

// ---- tokens and erasure

TEST(IssueToken, takes_the_next_generation_once) {
  given({started()}).when(IssueToken{2, "hash2"}).then({TokenIssued{2, "hash2"}});
  given({started(), TokenIssued{2, "hash2"}}).when(IssueToken{2, "hash2"}).then_nothing();
  given({started(), TokenIssued{2, "hash2"}}).when(IssueToken{2, "other"}).then(Rejection::stale_generation);
  given({started()}).when(IssueToken{3, "hash3"}).then(Rejection::stale_generation);
}
TEST(EraseUser, forgets_everything_and_refuses_the_rest) {
  const auto scenario =
      given(with(running_turn(), {FieldExtracted{"t1", "full_name", {FieldType::person_name, "Zoe"}, true}})).when(EraseUser{});
  scenario.then({UserErased{}});
  EXPECT_EQ(illegal(scenario.after(), Limits{}), "");
  EXPECT_EQ(recovery_index(scenario.after(), Limits{}), RecoveryIndex{});
  given({started(), UserErased{}}).when(EraseUser{}).then_nothing();
  given({started(), UserErased{}}).when(ReceiveMessage{"t1", "x", "", "f"}).then(Rejection::erased);
  given({started(), UserErased{}}).when(start_command()).then(Rejection::erased);
  given({started(), UserErased{}}).when(StartTurn{"t1"}).then(Rejection::erased);
}

// ---- recovery

TEST(RecoveryIndex, of_an_active_session_is_due_after_its_last_activity) {
  const State begun = folded(running_turn(), FixedFlowCatalog());
  EXPECT_EQ(recovery_index(begun, Limits{}), (RecoveryIndex{true, true, begun.last_activity + minutes(30)}));
}
TEST(RecoveryIndex, of_a_completed_session_knows_its_pending_turn_only) {
  EXPECT_EQ(recovery_index(folded(completed(), FixedFlowCatalog()), Limits{}), RecoveryIndex{});
  const State correcting = folded(with(completed(), {received("t3"), TurnStarted{"t3", 1}}), FixedFlowCatalog());
  EXPECT_EQ(recovery_index(correcting, Limits{}), (RecoveryIndex{false, true, Timestamp{}}));
}

TEST(EventNames, are_those_of_the_contract) {
  EXPECT_EQ(type_name(SessionStarted{}), "SessionStarted");
  EXPECT_EQ(type_name(FieldReasked{}), "FieldReasked");
  EXPECT_EQ(type_name(TurnFailed{}), "TurnFailed");
  EXPECT_EQ(type_name(UserErased{}), "UserErased");
  EXPECT_EQ(type_name(FlowPublished{}), "FlowPublished");
}

}  // namespace
}  // namespace onboarding::domain::testing
