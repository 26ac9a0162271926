#include "events/domain/replies.hpp"

#include "tests/unit/domain/harness.hpp"

namespace onboarding::domain::testing {
namespace {

/// The default flow with these fields missing.
TurnOutcome missing(std::vector<std::string> names) {
  TurnOutcome outcome;
  outcome.flow = &default_flow();
  for (const std::string& name : names) outcome.missing.push_back(default_flow().find(name));
  return outcome;
}

Reply reply_to(std::string model_says, std::vector<std::string> asks, const TurnOutcome& outcome) {
  return compose({std::move(model_says), {}, std::move(asks)}, outcome);
}

std::string prompt(const char* field) { return default_flow().find(field)->prompt; }

TEST(Reply, is_the_models_when_it_asks_for_what_is_missing) {
  const Reply reply = reply_to("Nice! And which company?", {"company"}, missing({"company", "goal"}));
  EXPECT_EQ(reply.text, "Nice! And which company?");
  EXPECT_EQ(reply.asks, std::vector<std::string>{"company"});
}
TEST(Reply, is_understood_without_asks_by_what_it_names) {
  EXPECT_EQ(reply_to("Nice! What's your E-Mail address?", {}, missing({"email", "goal"})).asks,
            std::vector<std::string>{"email"});
  EXPECT_EQ(reply_to("Is it raining?", {}, missing({"email"})).text, "Is it raining? " + prompt("email"));
}
TEST(Reply, that_says_it_asks_but_shows_no_question_is_extended) {
  EXPECT_EQ(reply_to("Lovely weather.", {"email"}, missing({"email"})).text, "Lovely weather. " + prompt("email"));
}
TEST(Reply, that_claims_completion_is_replaced_while_something_is_missing) {
  for (const char* claim :
       {"You're all set!", "That\u2019s everything, bye. Or your e-mail address?", "ALL DONE", "Your profile is complete."}) {
    const Reply reply = reply_to(claim, {"email"}, missing({"email"}));
    EXPECT_EQ(reply.text, prompt("email")) << claim;
  }
}
TEST(Reply, that_is_empty_or_no_text_or_endless_is_our_own) {
  for (const std::string& said :
       {std::string(), std::string("  "), std::string("\xFF"), std::string(9000, 'a'), std::string("a\0", 2)})
    EXPECT_EQ(reply_to(said, {}, missing({"email"})).text, prompt("email"));
}
TEST(Reply, that_completes_says_so) {
  TurnOutcome done = missing({});
  done.complete = done.completes = true;
  EXPECT_EQ(reply_to("Great, thanks!", {}, done).text, "Great, thanks! Thank you, that's everything we need. You're all set!");
  EXPECT_EQ(reply_to("Thank you, you're all set.", {}, done).text, "Thank you, you're all set.");
  EXPECT_EQ(reply_to("And your role?", {}, done).text, "Thank you, that's everything we need. You're all set!");
  EXPECT_TRUE(reply_to("And your role?", {"role"}, done).asks.empty());
}
TEST(Reply, to_refusals_gives_every_reason_what_was_understood_and_the_questions) {
  TurnOutcome outcome = missing({"email", "team_size"});
  outcome.accepted = {default_flow().find("full_name"), default_flow().find("company")};
  outcome.refused = {{default_flow().find("email"), "That has no @.", true, 2},
                     {default_flow().find("team_size"), "That's a range.", true, 1}};
  const Reply reply = reply_to("All fine!", {}, outcome);
  EXPECT_EQ(reply.text,
            "Thanks, I've noted your name and company. That has no @. For example: zoe@example.com. That's a range. Could you "
            "give me your e-mail address and team size once more?");
  EXPECT_EQ(reply.asks, (std::vector<std::string>{"email", "team_size"}));
}
TEST(Reply, to_a_refused_correction_of_a_complete_session_says_what_stays) {
  TurnOutcome outcome = missing({});
  outcome.complete = true;
  outcome.refused = {{default_flow().find("email"), "That has no @.", false, 1}};
  EXPECT_EQ(reply_to("Changed!", {}, outcome).text,
            "That has no @. I've kept the e-mail address you gave me before. You're all set. If something should be changed, "
            "just tell me.");
}
TEST(Reply, when_nobody_could_read_the_message_is_the_contracts) {
  EXPECT_EQ(technical_difficulties().rfind("We're experiencing technical difficulties", 0), 0U);
}

}  // namespace
}  // namespace onboarding::domain::testing
