#include "tests/simulation/agents.hpp"

namespace onboarding::simulation {

namespace {

bool passes(const Failure& failure) {
  for (const GatewayErrc code : {GatewayErrc::overloaded, GatewayErrc::draining, GatewayErrc::not_writable,
                                 GatewayErrc::keys_unreachable, GatewayErrc::in_doubt, GatewayErrc::too_many_waiting})
    if (failure.code == make_error_code(code)) return true;
  return false;
}
bool is(const Failure& failure, GatewayErrc code) { return failure.code == make_error_code(code); }

std::string letters(std::size_t number) {
  std::string out;
  for (std::size_t n = number + 26; n > 0; n /= 26) out += static_cast<char>('a' + n % 26);
  out[0] = static_cast<char>(out[0] - 'a' + 'A');
  return out;
}

}  // namespace

Agents::Agents(World& world) : world_(world) {
  const std::size_t count = 20 + world_.dice.below(6);
  for (std::size_t i = 0; i < count; ++i) {
    auto person = std::make_unique<Person>();
    person->name = "person" + std::to_string(i);
    person->start.context = {"req-" + person->name, {}};
    // A key each, so that a start that was not answered can be repeated; some come without a user_id.
    person->start.idempotency_key = "start-" + person->name;
    if (world_.dice.chance(0.5)) person->start.user_id = "user-" + std::to_string(world_.dice.below(count));
    person->start.vouched = person->start.user_id && world_.dice.chance(0.5);
    person->start.fingerprint = "start-fingerprint-" + person->name;
    person->messages_wanted = world_.dice.between(6, 12);
    people_.push_back(std::move(person));
  }
  world_.tally.sessions += count;
}

template <class T, class F>
Gateway::Done<T> Agents::once(Person* person, std::string what, F take) {
  ++world_.tally.commands;
  if (person) ++person->requests_under_way;
  return [this, person, life = world_.life, what = std::move(what), take = std::move(take),
          answers = std::make_shared<int>(0)](result<T> answer) {
    if (life != world_.life) return;
    if (++*answers > 1) return world_.violation("answered twice: " + what);
    if (person) --person->requests_under_way;
    ++world_.tally.answers[answer ? what + " ok" : what + " " + std::to_string(answer.error().code.value())];
    take(std::move(answer));
  };
}

void Agents::act() {
  Person& person = *people_[world_.dice.below(people_.size())];
  if (person.requests_under_way >= 6) return;
  if (person.session_id.empty()) return start(person);
  if (person.token_lost) return resume(person);
  const std::size_t what = world_.dice.below(100);
  if (what < 55) {
    // First what was not answered yet, then something new.
    for (auto& message : person.messages)
      if (!message->finished && message->under_way == 0) return say(person, *message, world_.dice.chance(0.2));
    if (person.messages.size() < person.messages_wanted) return say(person, new_message(person), world_.dice.chance(0.15));
  } else if (what < 70) {
    if (!person.messages.empty()) {
      world_.fault("client repeats");
      return say(person, *person.messages[world_.dice.below(person.messages.size())], false);
    }
  } else if (what < 74) {
    for (auto& message : person.messages)
      if (message->turn_id) return repeat_differently(person, *message);
  } else if (what < 84) {
    return read(person);
  } else if (what < 89) {
    return resume(person);
  } else if (what < 94) {
    return use_old_token(person);
  } else if (what < 96) {
    world_.fault("client repeats the start");
    return start(person);
  } else {
    return bother_nobody();
  }
}

void Agents::act_to_the_end() {
  for (auto& person : people_) {
    if (person->session_id.empty()) {
      if (person->starts_under_way == 0) start(*person);
      continue;
    }
    if (person->token_lost) {
      if (person->requests_under_way == 0) resume(*person);
      continue;
    }
    for (auto& message : person->messages)
      if (message->sent && !message->finished && message->under_way == 0) {
        say(*person, *message, false);
        break;
      }
  }
}

bool Agents::content() const {
  for (const auto& person : people_) {
    if (person->session_id.empty() || person->requests_under_way > 0 || person->token_lost) return false;
    for (const auto& message : person->messages)
      if (message->sent && !message->finished) return false;
  }
  return true;
}

bool Agents::waiting() const {
  for (const auto& person : people_)
    if (person->requests_under_way > 0) return true;
  return false;
}

void Agents::crashed() {
  for (auto& person : people_) {
    person->requests_under_way = person->starts_under_way = 0;
    for (auto& message : person->messages) message->under_way = 0;
  }
}

void Agents::start(Person& person) {
  ++person.starts_under_way;
  world_.process->gateway->start_session(
      person.start, once<SessionStartedAnswer>(&person, "start", [this, &person](result<SessionStartedAnswer> answer) {
        --person.starts_under_way;
        if (!answer) {
          if (!passes(answer.error())) world_.violation("start of " + person.name + " refused: " + answer.error().message());
          return;
        }
        const domain::State& state = *answer->session.state;
        if (person.session_id.empty()) person.session_id = answer->session.session_id;
        else if (person.session_id != answer->session.session_id) world_.violation("a repeated start gave another session");
        if (answer->token != world_.secrets.session_token(person.session_id, answer->session.state->token_generation))
          world_.violation("a start gave a token that is not the newest");
        if (state.started_last_version == 0) world_.violation("a start was answered without its session");
        person.seen_version = std::max(person.seen_version, state.version);
      }));
}

Message& Agents::new_message(Person& person) {
  const std::size_t number = messages_made_++;
  auto message = std::make_unique<Message>();
  message->key = "key-" + std::to_string(number);
  message->fingerprint = "fingerprint-" + std::to_string(number);
  // Each value is said in one message only, so that a value in the wrong turn is seen.
  message->text = "m" + std::to_string(number);
  const auto say_it = [&](const char* field, const std::string& value) {
    message->text += std::string(";") + field + "=" + value;
  };
  if (world_.dice.chance(0.3)) say_it("full_name", "Ann " + letters(number));
  if (world_.dice.chance(0.3)) say_it("email", "ann" + std::to_string(number) + "@example.org");
  if (world_.dice.chance(0.3)) say_it("company", "Acme " + letters(number));
  if (world_.dice.chance(0.3)) say_it("role", "role " + letters(number));
  if (world_.dice.chance(0.3)) say_it("team_size", std::to_string(1000 + number));
  if (world_.dice.chance(0.3)) say_it("goal", "goal " + letters(number));
  if (world_.dice.chance(0.1)) say_it("email", "no address " + std::to_string(number));
  person.messages.push_back(std::move(message));
  return *person.messages.back();
}

void Agents::say(Person& person, Message& message, bool respond_async) {
  message.sent = true;
  ++message.under_way;
  MessageRequest request;
  request.context = {"req-" + message.key, {}};
  request.session_id = person.session_id;
  request.token_generation = person.generation;
  request.text = message.text;
  request.idempotency_key = message.key;
  request.fingerprint = message.fingerprint;
  request.respond_async = respond_async;
  world_.process->gateway->post_message(
      std::move(request),
      once<TurnAnswer>(&person, "message", [this, &person, &message, generation = person.generation](result<TurnAnswer> answer) {
        --message.under_way;
        if (answer) return take_turn(person, message, *answer);
        const Failure& why = answer.error();
        if (passes(why)) return;
        if (is(why, GatewayErrc::stale_token)) {
          // A resume of ours may have been carried out without our being told, or another one overtook this request.
          if (generation == person.generation) person.token_lost = true;
          return;
        }
        if (is(why, GatewayErrc::closed) || is(why, GatewayErrc::too_many_messages)) {
          if (message.turn_id) world_.violation("a received message was refused when repeated");
          message.finished = true;
          return;
        }
        world_.violation("message refused: " + why.message());
      }));
}

void Agents::take_turn(Person& person, Message& message, const TurnAnswer& answer) {
  const domain::State& state = *answer.session.state;
  person.seen_version = std::max(person.seen_version, state.version);
  if (message.turn_id && *message.turn_id != answer.turn_id) world_.violation("a repeated message became another turn");
  message.turn_id = answer.turn_id;
  const domain::Turn* turn = domain::find_turn(state, answer.turn_id);
  if (!turn) return world_.violation("an answer without its turn");
  if (turn->text.text != message.text) world_.violation("an answer to somebody else's message");
  if (answer.queued) {
    if (answer.position_in_queue == 0 || answer.eta_seconds == 0) world_.violation("queued without a place or a time");
    return;
  }
  if (turn->status != domain::TurnStatus::answered && turn->status != domain::TurnStatus::failed)
    return world_.violation("answered before the turn was done");
  message.finished = true;
  TurnTold told{person.session_id, turn->reply.text, turn->extracted,    turn->rejected,     turn->missing,
                turn->is_complete, turn->error,      turn->last_version, turn->last_sequence};
  const auto [before, first] = told_.emplace(answer.turn_id, told);
  if (!first && !(before->second == told)) world_.violation("two answers to one turn differ");
}

void Agents::repeat_differently(Person& person, Message& message) {
  MessageRequest request;
  request.session_id = person.session_id;
  request.token_generation = person.generation;
  request.text = message.text + " and more";
  request.idempotency_key = message.key;
  request.fingerprint = message.fingerprint + "-other";
  world_.process->gateway->post_message(std::move(request),
                                        once<TurnAnswer>(&person, "other body", [this](result<TurnAnswer> answer) {
                                          if (answer) world_.violation("a key was used with another body, and answered");
                                        }));
}

void Agents::read(Person& person) {
  const std::uint64_t at_least = person.seen_version;
  const std::uint32_t generation = person.generation;
  world_.process->gateway->get_session(
      person.session_id, generation,
      once<SessionSnapshot>(&person, "read", [this, &person, at_least, generation](result<SessionSnapshot> answer) {
        if (!answer) {
          if (is(answer.error(), GatewayErrc::stale_token)) {
            if (generation == person.generation) person.token_lost = true;
          } else if (!passes(answer.error())) {
            world_.violation("read refused: " + answer.error().message());
          }
          return;
        }
        if (answer->state->version < at_least) world_.violation("a read is older than an answer before it");
        person.seen_version = std::max(person.seen_version, answer->state->version);
      }));
}

void Agents::resume(Person& person) {
  const bool with_token = !person.token_lost && world_.dice.chance(0.5);
  person.token_lost = true;
  world_.process->gateway->resume({"req-resume", {}}, person.session_id,
                                  with_token ? std::optional(person.generation) : std::nullopt,
                                  once<ResumeAnswer>(&person, "resume", [this, &person](result<ResumeAnswer> answer) {
                                    if (!answer) {
                                      if (!passes(answer.error()) && !is(answer.error(), GatewayErrc::stale_token))
                                        world_.violation("resume refused: " + answer.error().message());
                                      return;
                                    }
                                    const std::uint32_t generation = answer->session.state->token_generation;
                                    if (answer->token != world_.secrets.session_token(person.session_id, generation))
                                      world_.violation("a resume gave a token that is not the newest");
                                    person.generation = std::max(person.generation, generation);
                                    person.token_lost = false;
                                    person.seen_version = std::max(person.seen_version, answer->session.state->version);
                                  }));
}

void Agents::use_old_token(Person& person) {
  if (person.generation < 2) return;
  world_.process->gateway->get_session(person.session_id, person.generation - 1,
                                       once<SessionSnapshot>(&person, "old token", [this](result<SessionSnapshot> answer) {
                                         if (answer) world_.violation("a token that was replaced opened the session");
                                       }));
}

void Agents::bother_nobody() {
  std::string random16(16, '\0');
  world_.random.fill({reinterpret_cast<std::uint8_t*>(random16.data()), random16.size()});
  world_.process->gateway->get_session(make_session_id(static_cast<std::uint32_t>(world_.dice.below(4)), random16), std::nullopt,
                                       once<SessionSnapshot>(nullptr, "nobody", [this](result<SessionSnapshot> answer) {
                                         if (answer) world_.violation("a session that nobody started was found");
                                       }));
}

std::map<std::string, domain::State> Agents::read_all() {
  auto states = std::make_shared<std::map<std::string, domain::State>>();
  for (const auto& person : people_)
    world_.process->gateway->get_session(
        person->session_id, std::nullopt,
        once<SessionSnapshot>(person.get(), "last read", [this, states, &person](result<SessionSnapshot> answer) {
          if (!answer) return world_.violation("the last read failed: " + answer.error().message());
          (*states)[person->session_id] = *answer->state;
        }));
  world_.settle();
  return *states;
}

}  // namespace onboarding::simulation
