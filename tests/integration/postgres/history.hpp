// Histories of onboarding sessions, written into a log (in memory, unless another kind is chosen: kafka_history.cpp) through the real
// codec, sealed; and remembered in clear, so that a test can fold them its own way.
#pragma once

#include <array>
#include <atomic>
#include <future>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "events/codec/codec.hpp"
#include "events/domain/assertion.hpp"
#include "events/log/memory/memory_log.hpp"
#include "events/privacy/memory_key_store.hpp"
#include "events/privacy/secrets.hpp"

namespace onboarding::testing {

struct Told {
  std::string stream, user_key, plan;
  Position position;
  std::uint64_t version = 0;
  domain::Timestamp time;
  domain::Event event;
};

class History {
 public:
  explicit History(std::uint64_t seed = 1, std::string log_id = "log-of-the-test", std::uint32_t partitions = 4)
      : owned_log_(make_log ? make_log(partitions)
                            : std::make_unique<log::MemoryLog>(log::make_memory_store(partitions, std::move(log_id)))),
        log(*owned_log_),
        random_(seed) {}
  static inline std::function<std::unique_ptr<log::EventLog>(std::uint32_t partitions)> make_log;

  struct Person {
    std::string user_id;
    bool vouched = false;
  };
  struct Session {
    std::string id;
    std::uint32_t partition = 0;
    codec::RecordMeta meta;
    std::uint64_t version = 0;
    std::uint32_t turns = 0;
    bool completed = false, abandoned = false, erased = false;
    std::map<std::string, std::string> values;
  };

  /// Begins a session of this person.
  Session start(const Person& person, const std::string& plan = "free") {
    Session session;
    const std::string blinded = secrets.blinded_user_id(person.user_id);
    session.partition = partition_of_user(blinded, log.partitions());
    std::string random16(16, '\0');
    for (char& byte : random16) byte = static_cast<char>(random_());
    session.id = make_session_id(session.partition, random16);
    session.meta.user = secrets.user_key(person.user_id, person.vouched, session.id);
    session.meta.blinded_user_id = blinded;
    session.meta.plan = plan;
    domain::SessionStarted started;
    started.user_id = person.user_id;
    started.flow = "default";
    started.plan = plan;
    started.locale = "en";
    started.vouched = person.vouched;
    started.greeting = "Hello! What should we call you?";
    started.asks = {"full_name"};
    append(session, {started});
    return session;
  }

  void append(Session& session, std::vector<domain::Event> events) {
    log::Append append;
    append.partition = session.partition;
    append.stream = session.id;
    append.expected_version = session.version;
    append.record_id.assign(16, '\0');
    for (char& byte : append.record_id) byte = static_cast<char>(random_());
    append.count = static_cast<std::uint32_t>(events.size());
    append.index.open = true;
    append.time = now;
    std::promise<privacy::SealingKeyPtr> key;
    keys.obtain(session.meta.user, [&](result<privacy::SealingKeyPtr> got) { key.set_value(got.value_or(nullptr)); });
    const auto sealed_with = key.get_future().get();
    auto payload = codec::encode(session.meta, session.id, session.version + 1, now, events, sealed_with.get());
    ONBOARDING_ASSERT(payload, "a test's event can be encoded");
    append.payload = std::move(*payload);
    std::promise<log::AppendOutcome> outcome;
    log.append(std::move(append), [&](log::AppendOutcome ended) { outcome.set_value(std::move(ended)); });
    const auto ended = outcome.get_future().get();
    ONBOARDING_ASSERT(std::holds_alternative<log::Durable>(ended), "a test's append is durable");
    Position position = std::get<log::Durable>(ended).first;
    for (domain::Event& event : events) {
      ++session.version;
      ++events_told;
      if (remembers)
        told.push_back({session.id, session.meta.user, session.meta.plan, position, session.version, now, std::move(event)});
      ++position.sequence;
    }
    last = {session.partition, position.sequence - 1};
    now += std::chrono::milliseconds(1 + static_cast<int>(random_() % 4000));
  }

  /// One message and its answer; `fields` are extracted, or corrected where there is a value already.
  void turn(Session& session, const std::string& text, const std::vector<std::pair<std::string, std::string>>& fields = {},
            bool completes = false, const std::string& source = "openai") {
    const std::string turn_id = begin_turn(session, text);
    std::vector<domain::Event> events = {
        domain::LlmCallStarted{turn_id, 1, source, "gpt-6-luna", "p1", now},
        domain::LlmCallSucceeded{turn_id, 1, source, "gpt-6-luna", "p1", "2026", usage(), 120, R"({"reply":"…"})"}};
    for (const auto& [field, value] : fields) {
      const domain::FieldValue stored{domain::FieldType::text, value};
      if (session.values.contains(field)) {
        events.emplace_back(domain::FieldCorrected{turn_id, field, stored, true});
      } else {
        events.emplace_back(domain::FieldExtracted{turn_id, field, stored, true});
      }
      session.values[field] = value;
    }
    domain::AssistantReplied replied{turn_id, "Thank you, and \"what\" is {next}\\?", {}, source, false};
    if (!completes && !session.completed) replied.asks = {next_field(session)};
    events.emplace_back(replied);
    if (completes) events.emplace_back(domain::SessionCompleted{turn_id});
    session.completed = session.completed || completes;
    append(session, events);
  }

  void failed_turn(Session& session) {
    const std::string turn_id = begin_turn(session, "is anybody there?");
    append(session,
           {domain::LlmCallStarted{turn_id, 1, "gemini", "model-2", "p1", now},
            domain::LlmCallFailed{turn_id, 1, "gemini", "model-2", "p1", "2026", {}, 5000, "timeout", "provider", {}},
            domain::TurnFailed{turn_id, "no_provider"}, domain::AssistantReplied{turn_id, "We're sorry.", {}, "none", true}});
  }

  void refused_value(Session& session) {
    const std::string turn_id = begin_turn(session, "my mail is zoe");
    append(session, {domain::FieldRejected{turn_id, "email", "zoe", "no_at_sign"}, domain::FieldReasked{turn_id, "email", 2},
                     domain::AssistantReplied{turn_id, "That has no @.", {"email"}, "offline", false}});
  }

  void abandon(Session& session, const std::string& at_field) {
    append(session, {domain::SessionAbandoned{at_field}});
    session.abandoned = true;
  }

  /// Each of the user's sessions is told, then the key goes.
  void erase(std::vector<Session*> sessions) {
    tell(sessions);
    forget(*sessions.front());
  }
  void tell(std::vector<Session*> sessions) {
    for (Session* session : sessions) {
      append(*session, {domain::UserErased{}});
      session->erased = true;
    }
  }
  void forget(const Session& session) {
    std::promise<void> gone;
    keys.erase(session.meta.user, [&](result<void>) { gone.set_value(); });
    gone.get_future().get();
  }

  /// Many sessions side by side, every kind of thing happening to them.
  void live(std::size_t sessions, std::size_t steps) {
    std::vector<Session> all;
    for (std::size_t i = 0; i < sessions; ++i) {
      // Nobody of an earlier call: who is erased here is told in all of their sessions.
      all.push_back(start({"person-" + std::to_string(people_ + i % (sessions * 2 / 3 + 1)) + "@ex\"am\\ple.org", i % 2 == 0},
                          i % 3 == 0 ? "pro" : "free"));
    }
    people_ += sessions;
    for (std::size_t i = 0; i < steps; ++i) {
      Session& session = all[random_() % all.size()];
      if (session.erased) continue;
      const auto dice = random_() % 100;
      if (session.abandoned) {
        append(session, {domain::SessionResumed{}});
        session.abandoned = false;
      } else if (dice < 60) {
        const std::string field = next_field(session);
        const bool completes = !session.completed && session.values.size() >= 5;
        turn(session, "I say “" + field + "” {1,2} NULL \t ' \" \\ é",
             {{field, "value " + std::to_string(random_() % 100) + "'\"\\"}}, completes, dice < 10 ? "offline" : "openai");
      } else if (dice < 75) {
        turn(session, "just chatting");
      } else if (dice < 82) {
        failed_turn(session);
      } else if (dice < 90) {
        refused_value(session);
      } else if (dice < 93) {
        std::vector<Session*> same;
        for (Session& other : all) {
          if (other.meta.user == session.meta.user) same.push_back(&other);
        }
        if (random_() % 3 == 0) erase(same);
      } else if (!session.completed) {
        abandon(session, dice < 98 ? next_field(session) : "");
      }
    }
  }

  static std::string next_field(const Session& session) {
    static const std::vector<std::string> order = {"full_name", "email", "company", "role", "team_size", "goal"};
    return order[session.values.size() < order.size() ? session.values.size() : session.turns % order.size()];
  }

 private:
  const std::unique_ptr<log::EventLog> owned_log_;

 public:
  log::EventLog& log;
  privacy::MemoryKeyStore keys;
  privacy::Secrets secrets = privacy::Secrets::from_bytes({});
  std::vector<Told> told;
  bool remembers = true;  // what was told; a bench has no use for it
  std::uint64_t events_told = 0;
  Position last;
  domain::Timestamp now =
      std::chrono::floor<std::chrono::hours>(std::chrono::floor<std::chrono::microseconds>(system_clock().now())) -
      std::chrono::hours(30);

 private:
  std::string begin_turn(Session& session, const std::string& text) {
    const std::string turn_id = "trn_" + session.id.substr(8, 6) + std::to_string(++session.turns);
    append(session, {domain::MessageReceived{turn_id, text, {}, {}}, domain::TurnStarted{turn_id, 1}});
    return turn_id;
  }
  domain::Usage usage() {
    domain::Usage used;
    used.input_tokens = 100 + static_cast<int>(random_() % 50);
    used.output_tokens = 30;
    return used;
  }
  std::mt19937_64 random_;
  std::size_t people_ = 0;
};

}  // namespace onboarding::testing
