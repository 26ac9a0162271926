// The people of the simulation and their ledger: what they asked for, what they were told, and what must therefore be
// true. A person repeats a request that was not answered, or answered "try again", with the same idempotency key.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/simulation/world.hpp"

namespace onboarding::simulation {

/// A message that a person wants to have answered, across repetitions and crashes.
struct Message {
  std::string text, key, fingerprint;
  bool sent = false;
  std::size_t under_way = 0;           // requests not answered in this life
  bool finished = false;               // answered, or refused for good
  std::optional<std::string> turn_id;  // once told: it is durable
};

struct Person {
  std::string name;
  StartRequest start;
  std::string session_id;  // empty: not told yet
  std::size_t starts_under_way = 0;
  std::uint32_t generation = 1;
  bool token_lost = false;         // a resume was not answered: the token may be void
  std::uint64_t seen_version = 0;  // of the session, in any answer
  std::vector<std::unique_ptr<Message>> messages;
  std::size_t messages_wanted = 0;
  std::size_t requests_under_way = 0;
};

/// What an answer to a turn says; the same for everybody who asks.
struct TurnTold {
  std::string session_id, reply;
  std::vector<std::pair<std::string, domain::FieldValue>> extracted;
  std::vector<domain::RejectedValue> rejected;
  std::vector<std::uint8_t> missing;
  bool is_complete, error;
  std::uint64_t last_version, last_sequence;
  bool operator==(const TurnTold&) const = default;
};

class Agents {
 public:
  explicit Agents(World&);

  void act();             // somebody does something
  void act_to_the_end();  // whoever waits for an answer asks again
  bool content() const;   // everybody said what they wanted and was answered
  void crashed();         // whatever was under way will never be answered
  bool waiting() const;   // requests of this life are under way

  const std::vector<std::unique_ptr<Person>>& people() const { return people_; }
  const std::map<std::string, TurnTold>& told() const { return told_; }
  std::map<std::string, domain::State> read_all();  // what the gateway says of each session

 private:
  void start(Person&);
  void say(Person&, Message&, bool respond_async);
  void repeat_differently(Person&, Message&);
  void read(Person&);
  void resume(Person&);
  void use_old_token(Person&);
  void bother_nobody();
  void take_turn(Person&, Message&, const TurnAnswer&);
  Message& new_message(Person&);
  /// Wraps a callback: it counts for this life only, and comes exactly once.
  template <class T, class F>
  Gateway::Done<T> once(Person*, std::string what, F);

  World& world_;
  std::vector<std::unique_ptr<Person>> people_;
  std::map<std::string, TurnTold> told_;
  std::size_t messages_made_ = 0;
};

}  // namespace onboarding::simulation
