#include "tests/simulation/world.hpp"

#include <algorithm>

#include "events/codec/codec.hpp"
#include "events/codec/json.hpp"
#include "events/domain/assertion.hpp"
#include "projections/models/models.hpp"
#include "tests/simulation/agents.hpp"
#include "tests/simulation/simple_model.hpp"

namespace onboarding::simulation {

namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t partitions = 4;
constexpr std::size_t commands_wanted = 220;
constexpr std::size_t crashes_wanted = 2;
constexpr std::size_t max_steps = 400'000;
constexpr std::size_t max_settling = 400'000;

std::array<std::uint8_t, 32> master() {
  std::array<std::uint8_t, 32> bytes{};
  bytes.fill(7);
  return bytes;
}

std::uint64_t asked_to_make_room(prometheus::Registry& registry) {
  for (const auto& family : registry.Collect())
    if (family.name == "onboarding_sessions_asked_to_make_room_total")
      return static_cast<std::uint64_t>(family.metric.front().counter.value);
  return 0;
}

model::ProviderSettings provider(const char* name, std::uint32_t weight) {
  model::ProviderSettings settings;
  settings.name = name;
  settings.enabled = true;
  settings.weight = weight;
  settings.model = "model";
  settings.requests_per_minute = 600;
  settings.max_concurrent = 8;
  settings.timeout = 20s;
  return settings;
}

/// What the model sees first: counts who asks for what, and hands it on to the real supervisor.
caf::behavior front_desk(caf::event_based_actor* self, World* world, caf::actor supervisor) {
  return {[=](model::forget_atom forget, const std::string& user_key) { self->send(supervisor, forget, user_key); },
          [=](model::extract_atom, const model::RequestPtr& request) {
            const auto partition = *partition_of_session(request->session_id);
            world->asks[request->turn_id].push_back({world->process->log.head(partition)});
            ++world->tally.asks;
            if (request->turn_id.empty() || request->message.empty()) world->violation("the model was asked about nothing");
            return self->delegate(supervisor, model::extract_atom::value, request);
          },
          [=](model::place_atom, const model::RequestPtr& request) {
            return self->delegate(supervisor, model::place_atom::value, request);
          }};
}

/// An honest reading of a simulated message: `m12;full_name=Ann Bo;team_size=40`.
std::vector<std::pair<std::string, std::string>> said(const std::string& message) {
  std::vector<std::pair<std::string, std::string>> fields;
  for (std::size_t at = message.find(';'); at != std::string::npos;) {
    const std::size_t end = message.find(';', at + 1);
    const std::string part = message.substr(at + 1, end == std::string::npos ? end : end - at - 1);
    const std::size_t equals = part.find('=');
    fields.emplace_back(part.substr(0, equals), part.substr(equals + 1));
    at = end;
  }
  return fields;
}

std::string answer_json(const std::string& reply, const std::vector<std::pair<std::string, std::string>>& fields,
                        const char* more = "") {
  rapidjson::StringBuffer buffer;
  codec::JsonWriter writer(buffer);
  writer.StartObject();
  codec::write_key(writer, "reply");
  codec::write_string(writer, reply);
  codec::write_key(writer, "fields");
  writer.StartObject();
  std::set<std::string> written;
  for (auto field = fields.rbegin(); field != fields.rend(); ++field) {
    if (!written.insert(field->first).second) continue;
    codec::write_key(writer, field->first);
    codec::write_string(writer, field->second);
  }
  writer.EndObject();
  writer.EndObject();
  std::string json(codec::written(buffer));
  if (*more) json.insert(json.size() - 1, more);
  return json;
}

}  // namespace

void Tally::operator+=(const Tally& other) {
  for (const auto& [kind, count] : other.faults) faults[kind] += count;
  for (const auto& [kind, count] : other.answers) answers[kind] += count;
  commands += other.commands;
  sessions += other.sessions;
  events += other.events;
  steps += other.steps;
  asks += other.asks;
}

// ---- what fails

void WatchedLog::append(log::Append append, log::AppendDone done) {
  const std::string stream = append.stream;
  if (!in_flight_.insert(stream).second) world_.violation("two appends to " + stream + " at the same time: two writers");
  log_.append(std::move(append), [this, stream, done = std::move(done)](log::AppendOutcome outcome) {
    in_flight_.erase(stream);
    if (std::holds_alternative<log::InDoubt>(outcome)) doubted_.insert(stream);
    if (std::holds_alternative<log::Conflict>(outcome) && !doubted_.contains(stream))
      world_.violation("a conflict in " + stream + " that no doubt explains: two writers");
    done(std::move(outcome));
  });
}

void UnreliableKeys::obtain(std::string user, Obtained done) {
  const bool fails = world_.dice.chance(world_.probabilities.keys_unreachable);
  if (fails) world_.fault("keys unreachable");
  world_.process->offloaded.push_back([this, fails, user = std::move(user), done = std::move(done)] {
    if (fails) return done(failure(make_error_code(privacy::Errc::unreachable)));
    keys_.obtain(user, done);
  });
}

result<privacy::SealingKeyPtr> UnreliableKeys::find(std::string_view user, std::string_view key_id) {
  if (world_.dice.chance(world_.probabilities.keys_unreachable / 4)) {
    world_.fault("keys unreachable while reading");
    return failure(make_error_code(privacy::Errc::unreachable));
  }
  return keys_.find(user, key_id);
}

void UnreliableProvider::call(const model::Prompt& prompt, std::chrono::milliseconds timeout, model::TextSink,
                              std::function<void(model::CallResult)> done) {
  world_.process->calls.push_back({prompt.user_message, world_.clock.elapsed + timeout, std::move(done)});
}

// ---- a process

Process::Config::Config() {
  session::configure(*this);
  set("scheduler.policy", caf::atom("testing"));
}

Process::Process(World& the_world)
    : world(the_world),
      system(config),
      scheduler(dynamic_cast<caf::scheduler::test_coordinator&>(system.scheduler())),
      start_log(std::make_unique<log::MemoryLog>(world.store)),
      flows(session::FlowRegistry::open(*start_log, world.keys, world.clock, world.random, {domain::default_flow()}).value()),
      log(world.store, log::MemoryLog::Mode::controlled),
      watched(world, log),
      keys(world, world.keys) {
  start_log->close();
  // A session that was forgotten (a planted bug) must not keep the process from dying.
  system.await_actors_before_shutdown(false);
  world.process.reset(this);  // the callbacks below already need it; the world owns it from here on
  model::SupervisorOptions options;
  // In one history of four there is no provider: messages are answered at once.
  const bool alone = world.seed % 4 == 3;
  if (!alone) {
    options.providers = {provider("openai", 40), provider("gemini", 40)};
    options.clients = {std::make_shared<UnreliableProvider>(world), std::make_shared<UnreliableProvider>(world)};
  }
  options.offline_enabled = alone || world.seed % 3 != 0;
  options.clock = &world.clock;
  options.random = &world.random;
  model::InstantExtractor instant;
  supervisor = model::spawn_supervisor(system, std::move(options), &instant);
  front = system.spawn(front_desk, &world, supervisor);
  SessionSettings settings;
  settings.max_activations = 8;
  settings.poll_page = 3;
  // In one history of three there is room for fewer sessions than are open.
  if (world.seed % 3 == 1) settings.max_in_memory = 2 * partitions;
  gateway = session::make_gateway(system, {&watched,
                                           &keys,
                                           &world.secrets,
                                           &world.clock,
                                           &world.random,
                                           flows.get(),
                                           &registry,
                                           settings,
                                           front,
                                           [this](std::function<void()> work) { offloaded.push_back(std::move(work)); },
                                           {},
                                           {},
                                           instant});
}

void Process::die() {
  // Nothing of what was under way happens any more; the actors only get to know that they are to end.
  calls.clear();
  offloaded.clear();
  gateway->stop();
  caf::anon_send_exit(front, caf::exit_reason::kill);
  caf::anon_send_exit(supervisor, caf::exit_reason::kill);
  while (scheduler.has_job()) scheduler.run_once();
  calls.clear();
  offloaded.clear();
}

// ---- the world

World::World(std::uint64_t given)
    : make_projections(projections::make_all_projections),
      seed(given),
      dice(given),
      random(given ^ 0x9e3779b97f4a7c15),
      secrets(privacy::Secrets::from_bytes(master())),
      key_random(given + 1),
      keys(key_random),
      store(log::make_memory_store(partitions)) {
  new Process(*this);
  agents_ = std::make_unique<Agents>(*this);
}

World::~World() {
  ++life;
  process->log.crash(dice.engine);
  process->die();
}

bool World::run_job() {
  auto& jobs = process->scheduler.jobs;
  if (jobs.empty()) return false;
  std::swap(jobs.front(), jobs[dice.below(jobs.size())]);
  process->scheduler.run_once();
  return true;
}

bool World::answer_call() {
  auto& calls = process->calls;
  if (calls.empty()) return false;
  const std::size_t chosen = dice.below(calls.size());
  if (dice.chance(probabilities.model_fault * 0.1) && !probabilities.none) {
    fault("model hangs");
    return true;  // it stays where it is, until its time is over
  }
  const Process::Call call = std::move(calls[chosen]);
  calls.erase(calls.begin() + static_cast<std::ptrdiff_t>(chosen));
  model::CallResult result;
  result.was_sent = true;
  result.usage.input_tokens = 100;
  result.usage.output_tokens = 20;
  const auto fields = said(call.message);
  result.answer = answer_json("Noted.", fields);
  if (dice.chance(probabilities.model_fault)) {
    switch (dice.below(7)) {
      case 0: fault("model: garbage"), result.answer = "I'd rather {not"; break;
      case 1: fault("model: unknown field"), result.answer = answer_json("Noted.", {{"password", "x"}}); break;
      case 2: fault("model: wrong type"), result.answer = R"({"reply":"Noted.","fields":[1,2]})"; break;
      case 3: fault("model: claims completion"), result.answer = answer_json("All done!", {}, R"(,"is_complete":true)"); break;
      case 4:
        fault("model: invents a bad value"), result.answer = answer_json("Fine.", {{"team_size", "-5"}, {"email", "nobody"}});
        break;
      case 5: fault("model: unavailable"), result.answer.clear(), result.error = model::CallError::unavailable; break;
      default:
        fault("model: rate limited"), result.answer.clear(), result.error = model::CallError::rate_limited,
                                                             result.retry_after = 2s;
    }
  }
  call.done(std::move(result));
  return true;
}

bool World::run_offloaded() {
  auto& work = process->offloaded;
  if (work.empty()) return false;
  std::swap(work.front(), work[dice.below(work.size())]);
  const auto next = std::move(work.front());
  work.pop_front();
  next();
  return true;
}

void World::advance(std::chrono::microseconds by) {
  clock.elapsed += by;
  process->scheduler.advance_time(by);
  for (std::size_t i = 0; i < process->calls.size();) {
    if (process->calls[i].gives_up_at > clock.elapsed) {
      i++;
      continue;
    }
    const Process::Call call = std::move(process->calls[i]);
    process->calls.erase(process->calls.begin() + static_cast<std::ptrdiff_t>(i));
    fault("model: timeout");
    model::CallResult result;
    result.error = model::CallError::timeout;
    result.was_sent = true;
    call.done(std::move(result));
  }
}

void World::pass_time() {
  const std::size_t how = dice.below(100);
  if (how < 88) return advance(std::chrono::milliseconds(dice.between(1, 400)));
  if (how < 97) return advance(std::chrono::milliseconds(dice.between(1'000, 30'000)));
  if (how < 98) {
    fault("clock jumps back");
    clock.skew -= std::chrono::milliseconds(dice.between(1, 100'000));
    return;
  }
  if (how < 99) {
    fault("clock jumps forward");
    clock.skew += std::chrono::milliseconds(dice.between(1, 100'000));
    return;
  }
  fault("long silence");
  advance(std::chrono::minutes(dice.between(1, 45)));
}

void World::crash() {
  fault("crash");
  ++life;
  process->log.crash(dice.engine);
  const log::FaultCounts& counts = process->log.counts();
  for (const auto& [kind, count] : {std::pair("log: late", counts.late),
                                    {"log: duplicate", counts.duplicate},
                                    {"log: in doubt, written", counts.in_doubt_written},
                                    {"log: in doubt, lost", counts.in_doubt_lost},
                                    {"log: fenced", counts.fenced},
                                    {"log: refused", counts.refused},
                                    {"log: failed read", counts.failed_read},
                                    {"log: slow read", counts.slow_read},
                                    {"log: lost at crash", counts.lost_at_crash},
                                    {"log: written at crash", counts.written_at_crash}})
    tally.faults[kind] += count;
  tally.faults["no room in memory"] += asked_to_make_room(process->registry);
  process->die();
  process.reset();
  agents_->crashed();
  if (dice.chance(0.3)) clock.elapsed += std::chrono::minutes(dice.between(1, 60));
  new Process(*this);
}

void World::step() {
  ++tally.steps;
  if (process->gateway->status().fenced) return crash();
  const std::size_t what = dice.below(100);
  if (what < 50 && run_job()) return;
  if (what < 72 && process->log.step(dice.engine, probabilities.log)) return;
  if (what < 80 && run_offloaded()) return;
  if (what < 87 && answer_call()) return;
  if (what < 95) return agents_->act();
  pass_time();
}

/// Everything that can move without time passing does.
void World::settle() {
  for (std::size_t i = 0; i < max_settling; ++i) {
    ++tally.steps;
    const bool moved = run_job() || process->log.step(dice.engine, probabilities.log) || run_offloaded();
    if (moved) continue;
    if (process->calls.empty()) return;
    answer_call();
  }
  violation("the system does not come to rest");
}

std::vector<std::string> World::run() {
  std::vector<std::size_t> crashes;
  while (crashes.size() < crashes_wanted + dice.below(2)) crashes.push_back(dice.between(20, commands_wanted));
  std::sort(crashes.begin(), crashes.end());
  for (std::size_t next = 0; tally.commands < commands_wanted || next < crashes.size();) {
    if (tally.steps > max_steps || !violations_.empty()) break;
    if (next < crashes.size() && tally.commands >= crashes[next] && dice.chance(0.02)) {
      ++next;
      crash();
    }
    step();
  }

  // The faults end. Whoever was not answered asks again, and in the end everybody is content.
  probabilities = {{}, 0, 0, true};
  clock.skew = std::max(clock.skew, 0us);
  for (int round = 0; round < 200 && !agents_->content() && violations_.empty(); ++round) {
    if (process->gateway->status().fenced) crash();
    agents_->act_to_the_end();
    settle();
    advance(2s);
    settle();
  }
  if (violations_.empty() && !agents_->content()) violation("somebody waits for an answer for ever");

  // Nobody says anything any more: every session that is not completed must be abandoned.
  for (int i = 0; i < 8 && violations_.empty(); ++i) {
    advance(6min);
    settle();
    for (int poll = 0; poll < 20; ++poll) {
      advance(5s);
      settle();
    }
  }
  if (violations_.empty()) check_log();

  if (violations_.empty()) {
    bool drained = false;
    process->gateway->drain([&] { drained = true; });
    settle();
    if (!drained) violation("draining does not end although nobody waits");
    bool refused = false;
    process->gateway->get_session(agents_->people().front()->session_id, std::nullopt, [&](result<SessionSnapshot> answer) {
      refused = !answer && answer.error().code == make_error_code(GatewayErrc::draining);
    });
    if (!refused) violation("a draining server takes new work");
  }
  crash();
  if (tally.sessions < 20 || tally.commands < 200) violation("too little happened");
  return violations_;
}

// ---- what must be true in the end

void World::check_log() {
  std::map<std::string, std::deque<codec::DecodedEvent>> streams;  // a deque: what lies in it does not move
  std::vector<const codec::DecodedEvent*> in_order;
  for (std::uint32_t partition = 0; partition < partitions; ++partition) {
    const auto records = process->log.read_partition(partition, 0, 1'000'000, 1u << 30).value();
    std::uint64_t next_sequence = 1;
    for (const log::Record& record : records) {
      if (record.first_sequence != next_sequence) violation("a partition's sequences have a gap");
      next_sequence = record.last_sequence() + 1;
      const auto events = codec::decode(record, keys);
      if (!events) return violation("a record cannot be read: " + events.error().message());
      for (const codec::DecodedEvent& event : *events) {
        auto& stream = streams[event.stream];
        if (event.recorded.version != stream.size() + 1) violation("versions of " + event.stream + " are not contiguous");
        if (!stream.empty() && event.recorded.time < stream.back().recorded.time) violation("time goes back in " + event.stream);
        in_order.push_back(&stream.emplace_back(event));
        ++tally.events;
      }
    }
  }
  if (!violations_.empty()) return;

  ReadModels read_models(make_projections());
  // What a person said last, over all their sessions; one person's sessions lie in one partition.
  std::map<std::string, std::map<std::string, std::pair<std::uint64_t, std::string>>> newest;
  for (const auto& [name, events] : streams) {
    for (const codec::DecodedEvent& event : events) {
      const auto learn = [&](const std::string& field, const std::string& value) {
        auto& known = newest[event.meta->user][field];
        if (known.first < event.recorded.sequence) known = {event.recorded.sequence, value};
      };
      if (const auto* extracted = std::get_if<domain::FieldExtracted>(&event.recorded.event))
        learn(extracted->field, extracted->value.canonical);
      if (const auto* corrected = std::get_if<domain::FieldCorrected>(&event.recorded.event))
        learn(corrected->field, corrected->value.canonical);
    }
  }
  for (const codec::DecodedEvent* event : in_order) read_models.apply(*event);
  for (const std::string& complaint : read_models.complaints()) violation(complaint);

  const std::map<std::string, domain::State> live = agents_->read_all();
  std::map<std::string, std::string> session_of_turn;
  for (const auto& [name, events] : streams) {
    if (name == "flows") continue;
    domain::State folded = domain::initial();
    SimpleModel simple;
    for (const codec::DecodedEvent& event : events) {
      domain::evolve(folded, event.recorded, *process->flows);
      simple.apply(event.recorded);
    }
    const auto found = live.find(name);
    if (found == live.end()) {
      violation("the log has a session that nobody was told of: " + name);
      continue;
    }
    if (!(found->second == folded)) violation("the live state of " + name + " is not the fold of its events");
    for (const std::string& difference : simple.differences(folded)) violation(name + ": " + difference);
    for (const std::string& complaint : simple.complaints()) violation(name + ": " + complaint);
    std::map<std::string, std::string> values;
    const std::string& user_key = events.front().meta->user;
    for (const auto& [field, value] : newest[user_key]) values[field] = value.second;
    for (const std::string& difference : read_models.differences(name, user_key, found->second, values))
      violation(name + ": " + difference);
    if (folded.status == domain::SessionStatus::active) violation(name + " is idle and was not abandoned: its timer was lost");

    std::map<std::string, std::uint64_t> received;
    std::map<std::string, std::vector<std::uint64_t>> started;
    for (const codec::DecodedEvent& event : events) {
      if (const auto* message = std::get_if<domain::MessageReceived>(&event.recorded.event)) {
        received[message->turn_id] = event.recorded.sequence;
        session_of_turn[message->turn_id] = name;
      }
      if (const auto* start = std::get_if<domain::TurnStarted>(&event.recorded.event))
        started[start->turn_id].push_back(event.recorded.sequence);
    }
    for (const auto& [turn, sequence] : received) {
      std::uint64_t made = 0;
      bool overlapped = false;
      for (const AskSeen& ask : asks[turn]) {
        if (ask.head < sequence) {
          overlapped = true;
          continue;
        }
        ++made;
        const auto counted = static_cast<std::uint64_t>(
            std::count_if(started[turn].begin(), started[turn].end(), [&](std::uint64_t s) { return s <= ask.head; }));
        if (made + overlapped > counted) violation("the model was asked for " + turn + " more often than attempts were counted");
      }
    }
  }

  // The ledger: what was acknowledged is there, and as it was told.
  for (const auto& person : agents_->people()) {
    if (!streams.contains(person->session_id)) violation("a session that was acknowledged is not in the log");
    for (const auto& message : person->messages)
      if (message->turn_id && session_of_turn[*message->turn_id] != person->session_id)
        violation("a message that was acknowledged is not in the log");
  }
  for (const auto& [turn_id, told] : agents_->told()) {
    const auto found = live.find(told.session_id);
    const domain::Turn* turn = found == live.end() ? nullptr : domain::find_turn(found->second, turn_id);
    if (!turn) {
      violation("an answered turn is not in its session");
      continue;
    }
    if (turn->reply.text != told.reply || turn->extracted != told.extracted || turn->last_version != told.last_version ||
        turn->last_sequence != told.last_sequence)
      violation("a turn is not what its client was told");
  }
}

}  // namespace onboarding::simulation
