// What must hold for every history: random commands with random answers and jumping clocks, checked after each step.
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <map>
#include <set>

#include "tests/unit/domain/harness.hpp"
#include "tests/unit/domain/legal.hpp"

namespace onboarding::domain::testing {
namespace {

Flow rich_flow() {
  Flow flow;
  flow.name = "rich";
  flow.greeting = "Hi!";
  FieldSpec role = spec("role", FieldType::choice);
  role.options = {{"student", {"a student"}}, {"employee", {"an employee"}}};
  FieldSpec school = spec("school", FieldType::text);
  school.when = Condition{"role", Condition::Operator::is, "student"};
  FieldSpec degree = spec("degree", FieldType::boolean, false);
  degree.when = Condition{"school", Condition::Operator::is_not, "MIT"};
  flow.fields = {spec("name", FieldType::person_name),
                 role,
                 school,
                 degree,
                 spec("email", FieldType::email),
                 spec("age", FieldType::integer, false),
                 spec("phone", FieldType::phone, false)};
  return flow;
}

/// Draws what happens next from a list of random numbers, so that a failing history shrinks with the list.
class Dice {
 public:
  explicit Dice(const std::vector<std::uint32_t>& numbers) : numbers_(numbers) {}
  bool empty() const { return at_ >= numbers_.size(); }
  std::uint32_t below(std::uint32_t n) { return empty() ? 0 : numbers_[at_++] % n; }
  template <class T, std::size_t N>
  const T& pick(const std::array<T, N>& some) {
    return some[below(N)];
  }

 private:
  const std::vector<std::uint32_t>& numbers_;
  std::size_t at_ = 0;
};

std::string random_value(Dice& dice, const std::string& field) {
  static const std::map<std::string, std::string> fitting = {
      {"name", "Zoe"},          {"role", "student"}, {"school", "ETH"},         {"degree", "yes"},
      {"email", "zoe@acme.io"}, {"age", "40"},       {"phone", "+49 30 901820"}};
  if (const auto found = fitting.find(field); found != fitting.end() && dice.below(2) == 0) return found->second;
  static const std::array<std::string, 18> values = {"Zoe", "Ann",      "student", "an employee",   "MIT",
                                                     "ETH", "yes",      "no",      "zoe@acme.io",   "zoe at acme dot io",
                                                     "zoe", "40",       "a dozen", "+49 30 901820", "rather not say",
                                                     "",    "\xFF\xFE", "12345"};
  return dice.pick(values);
}

ModelAnswer random_answer(Dice& dice, const Flow& flow) {
  static const std::array<std::string, 6> replies = {"",        "What's your email?", "You're all set!",
                                                     "Thanks.", "\xFFrubbish",        "And the role?"};
  ModelAnswer answer;
  answer.reply = dice.pick(replies);
  for (std::uint32_t i = dice.below(6); i > 0; --i) {
    const std::uint32_t which = dice.below(static_cast<std::uint32_t>(flow.fields.size()) + 1);
    const std::string field = which < flow.fields.size() ? flow.fields[which].name : "unknown";
    answer.fields.emplace_back(field, random_value(dice, field));
  }
  for (std::uint32_t i = dice.below(3); i > 0; --i)
    answer.asks.push_back(flow.fields[dice.below(static_cast<std::uint32_t>(flow.fields.size()))].name);
  return answer;
}

std::string random_turn(Dice& dice) { return "t" + std::to_string(dice.below(8)); }

Command random_command(Dice& dice, const State& state, const std::shared_ptr<const Flow>& flow) {
  const Turn* pending = pending_turn(state);
  // Mostly about the turn that is due, so that histories get somewhere; sometimes about any.
  const std::string turn = pending && dice.below(4) != 0 ? pending->turn_id : random_turn(dice);
  switch (dice.below(12)) {
    case 0: {
      StartSession start;
      start.user_id = "usr_1";
      start.flow = flow;
      start.token_hash = "hash1";
      start.idempotency_key_hash = dice.below(4) == 0 ? "other" : "startkey";
      start.request_fingerprint = dice.below(4) == 0 ? "other" : "startprint";
      return start;
    }
    case 1:
    case 2:
    case 3: {
      static const std::array<std::string, 5> keys = {"", "", "k1", "k2", "k3"};
      static const std::array<std::string, 4> texts = {"hello", " ", "a\xFF", "my name is Zoe"};
      return ReceiveMessage{random_turn(dice), dice.pick(texts), dice.pick(keys), dice.below(3) == 0 ? "print2" : "print1",
                            dice.below(4) == 0 ? "queue_mode" : ""};
    }
    case 4: return StartTurn{turn, pending ? pending->activation + dice.below(2) : 1 + dice.below(3)};
    case 5: return QueueTurn{turn, "budget"};
    case 6:
    case 7:
    case 8: {
      ConcludeTurn answered =
          conclude(turn, random_answer(dice, *flow), pending && dice.below(5) != 0 ? pending->activation : dice.below(4));
      if (dice.below(3) == 0) answered.calls = {{1, "openai", "m", "p", "c", {}, noon, 5, "", "", "{}"}};
      return answered;
    }
    case 9: {
      ConcludeTurn failed;
      failed.turn_id = turn;
      failed.activation = pending ? pending->activation : 1;
      failed.source = "none";
      failed.calls = {{1, "openai", "m", "p", "c", {}, noon, 5, "timeout", "provider", "\xFF"}};
      return failed;
    }
    case 10: return AbandonIfDue{noon + std::chrono::minutes(dice.below(120))};
    default:
      if (dice.below(12) == 0) return EraseUser{};
      return IssueToken{state.token_generation + dice.below(3), dice.below(2) == 0 ? "hash1" : "hash2"};
  }
}

struct Step {
  Command command;
  Facts facts;
  std::vector<Event> events;
};

struct History {
  std::shared_ptr<const Flow> flow;
  FixedFlowCatalog catalog;
  State state;
  std::vector<Step> steps;
  std::vector<RecordedEvent> recorded;

  explicit History(Flow chosen) : flow(std::make_shared<const Flow>(chosen)), catalog({chosen}), state(initial()) {}

  /// Decides and folds; the sentence that says which rule was broken, if one was.
  std::string take(const Command& command, const Facts& facts) {
    const auto decided = decide(state, command, facts);
    if (!decided) return "";
    const Timestamp time = std::max(facts.now, state.updated_at);
    const RecoveryIndex foreseen = recovery_index(state, *decided, time, facts.limits);
    for (const Event& event : *decided) {
      recorded.push_back({state.version + 1, 101 + state.version, time, event});
      evolve(state, recorded.back(), catalog);
    }
    steps.push_back({command, facts, *decided});
    if (foreseen != recovery_index(state, facts.limits))
      return "the index foreseen for a batch is not that of the state after it";
    return illegal(state, facts.limits);
  }
};

Limits tight_limits() {
  Limits limits;
  limits.max_messages = 6;
  limits.max_waiting_turns = 2;
  limits.max_queued_activations = 4;
  return limits;
}

std::string play(History& history, Dice& dice) {
  Facts facts;
  facts.limits = tight_limits();
  Timestamp now = noon;
  while (!dice.empty()) {
    if (dice.below(5) == 0) now += std::chrono::minutes(dice.below(70));
    if (dice.below(9) == 0) now -= std::chrono::seconds(dice.below(100));  // the clock may jump back
    facts.now = now;
    const Command command = history.steps.empty() ? [&]() -> Command {
      StartSession start;
      start.user_id = "usr_1";
      start.flow = history.flow;
      start.token_hash = "hash1";
      start.idempotency_key_hash = "startkey";
      start.request_fingerprint = "startprint";
      return start;
    }()
        : random_command(dice, history.state, history.flow);
    if (const std::string broken = history.take(command, facts); !broken.empty()) return broken;
    // What was decided is decided: the same command again finds nothing to do, or is refused.
    const auto again = decide(history.state, command, facts);
    if (again && !again->empty())
      return "a command carried out twice had an effect the second time: " + std::string(type_name(again->front()));
  }
  return "";
}

auto numbers() { return rc::gen::container<std::vector<std::uint32_t>>(rc::gen::arbitrary<std::uint32_t>()); }

RC_GTEST_PROP(Decider, no_sequence_of_commands_reaches_an_illegal_state_and_repeating_changes_nothing, ()) {
  const auto drawn = *rc::gen::resize(400, numbers());
  History history(rich_flow());
  Dice dice(drawn);
  const std::string broken = play(history, dice);
  RC_LOG() << broken;
  RC_ASSERT(broken.empty());
}

RC_GTEST_PROP(Decider, folding_any_split_of_a_history_gives_the_same_state, ()) {
  const auto drawn = *rc::gen::resize(300, numbers());
  History history(rich_flow());
  Dice dice(drawn);
  play(history, dice);
  const auto split = *rc::gen::inRange<std::size_t>(0, history.recorded.size() + 1);
  State first = initial();
  for (std::size_t i = 0; i < split; ++i) evolve(first, history.recorded[i], history.catalog);
  State second = first;
  for (std::size_t i = split; i < history.recorded.size(); ++i) evolve(second, history.recorded[i], history.catalog);
  RC_ASSERT(second == history.state);
}

RC_GTEST_PROP(Decider, deciding_is_a_function_of_state_command_and_facts_alone, ()) {
  const auto drawn = *rc::gen::resize(300, numbers());
  History history(rich_flow());
  Dice dice(drawn);
  play(history, dice);
  State state = initial();
  for (const Step& step : history.steps) {
    const auto decided = decide(state, step.command, step.facts);
    RC_ASSERT(decided.has_value());
    RC_ASSERT(*decided == step.events);
    fold_batch(state, *decided, step.facts.now, history.catalog);
  }
}

RC_GTEST_PROP(Decider, every_accepted_message_is_answered_once_when_its_turns_are_concluded, ()) {
  const auto drawn = *rc::gen::resize(200, numbers());
  History history(rich_flow());
  Dice dice(drawn);
  play(history, dice);
  Facts facts{history.state.updated_at, tight_limits()};
  while (const Turn* pending = pending_turn(history.state))
    RC_ASSERT(history.take(conclude(pending->turn_id, {}, pending->activation), facts).empty());
  std::map<std::string, int> received;
  std::map<std::string, int> replied;
  for (const RecordedEvent& event : history.recorded) {
    if (const auto* message = std::get_if<MessageReceived>(&event.event)) received[message->turn_id]++;
    if (const auto* reply = std::get_if<AssistantReplied>(&event.event)) replied[reply->turn_id]++;
  }
  if (history.state.status != SessionStatus::erased) RC_ASSERT(received == replied);
  for (const auto& [turn, times] : received) RC_ASSERT(times == 1);
}

/// The properties say nothing when random histories never get anywhere: they must reach every status and event.
TEST(RandomHistories, reach_every_status_and_every_event_of_a_session) {
  std::set<std::string_view> types;
  std::set<std::string_view> statuses;
  std::uint32_t seed = 1;
  for (int run = 0; run < 400; ++run) {
    std::vector<std::uint32_t> drawn(400);
    for (auto& number : drawn) number = (seed = seed * 1664525U + 1013904223U) >> 8U;
    History history(rich_flow());
    Dice dice(drawn);
    ASSERT_EQ(play(history, dice), "");
    for (const RecordedEvent& event : history.recorded) types.insert(type_name(event.event));
    statuses.insert(to_string(history.state.status));
  }
  EXPECT_EQ(types.size(), std::variant_size_v<Event> - 1) << "all but FlowPublished";
  EXPECT_EQ(statuses, (std::set<std::string_view>{"active", "completed", "abandoned", "erased"}));
}

}  // namespace
}  // namespace onboarding::domain::testing
