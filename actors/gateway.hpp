// What http/ may call. No CAF type in it. Implemented by actors/session; a fake of it serves the HTTP tests.
//
// Every call is asynchronous: `done` is called exactly once, on an actor's thread; it must not block.
// Who may call: http/ has verified the credential (privacy::Secrets::verify_session_token, or the operator key); the token's
// generation is checked here, against the session.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "events/domain/session.hpp"
#include "events/ids.hpp"

namespace onboarding {

enum class GatewayErrc {
  unknown_session = 1,  // or erased
  stale_token,          // the token's generation was replaced
  unknown_turn,
  unknown_flow,
  key_reused,         // Idempotency-Key with another request
  closed,             // completed, and the time for corrections is over
  too_many_waiting,   // as many messages of the session wait as may; retry later
  too_many_messages,  // the session's message limit
  message_empty,
  message_too_long,
  message_not_text,
  overloaded,        // queues are full; retry later
  draining,          // the server is shutting down; retry later
  not_writable,      // the log cannot be written (disk full …); retry later
  keys_unreachable,  // the key store cannot be reached; retry later
  owned_elsewhere,   // nothing was done: another server owns the session's partition, which the detail names as a decimal number
  in_doubt           // the outcome could not be determined in time; repeat with the same Idempotency-Key
};
std::error_code make_error_code(GatewayErrc);

/// Where a request comes from, for the events' metadata.
struct RequestContext {
  std::string request_id;   // correlation id
  std::string traceparent;  // W3C; empty: none
};

struct StartRequest {
  RequestContext context;
  std::optional<std::string> user_id;  // the client's
  std::string flow = "default";
  std::string plan;    // empty: "free"
  std::string locale;  // empty: the flow's
  std::optional<std::string> idempotency_key;
  std::string fingerprint;  // hex SHA-256 of the body in canonical form; kept only blinded
  bool vouched = false;     // an application key or a user's token came with it
};

struct MessageRequest {
  RequestContext context;
  std::string session_id;
  std::uint32_t token_generation = 0;
  std::string text;
  std::optional<std::string> idempotency_key;
  std::string fingerprint;
  bool respond_async = false;  // Prefer: respond-async
};

/// The session's state as it is now, read-only, shared: the newest, never from a read model.
struct SessionSnapshot {
  std::string session_id;
  std::string user_key;  // internal, never leaves the server
  std::uint32_t partition = 0;
  std::shared_ptr<const domain::State> state;

  Position position() const { return {partition, state->sequence}; }
};

struct SessionStartedAnswer {
  SessionSnapshot session;
  std::string token;
  bool repeated = false;  // the answer of an earlier request with the same key
};

/// The turn stands in the snapshot's state; it may be waiting, running, answered or failed.
struct TurnAnswer {
  SessionSnapshot session;
  std::string turn_id;
  bool queued = false;  // answer 202: it was queued, or was not done within the time a request may take
  std::uint32_t position_in_queue = 0;
  std::uint32_t eta_seconds = 0;

  const domain::Turn& turn() const { return *domain::find_turn(*session.state, turn_id); }
};

struct ResumeAnswer {
  SessionSnapshot session;
  std::string token;
};

/// Whose sessions: one person's, or those of all who ever went by a client's user_id.
struct PersonSelector {
  std::string user_id;   // the client's
  std::string user_key;  // SessionSnapshot::user_key; empty: all by user_id
};

/// Somebody who looks on while a session goes on. Called on actors' and model clients' threads; must not block.
class SessionWatcher {
 public:
  virtual ~SessionWatcher() = default;
  /// The session as it is now: once at the beginning, and after each change. False: it is not interested any more.
  virtual bool changed(const SessionSnapshot&) = 0;
  /// The reply to a turn while the model writes it; the answer that counts comes with changed() and may differ.
  /// `restart`: what came before is void.
  virtual void writing(const std::string& turn_id, std::string_view text, bool restart) = 0;
  virtual bool interested() const = 0;
  /// Nothing more comes: the session's token was replaced, its person erased, or the server ends. Watch again to go on.
  virtual void ended() = 0;
};

class Gateway {
 public:
  virtual ~Gateway() = default;
  template <class T>
  using Done = std::function<void(result<T>)>;

  virtual void start_session(StartRequest, Done<SessionStartedAnswer>) = 0;
  /// Done when the turn is answered or failed, or queued (respond_async, queue mode, or 25 s are over).
  virtual void post_message(MessageRequest, Done<TurnAnswer>) = 0;
  /// `token_generation`: of the presented token; nullopt for callers with another right to it (operator, application key).
  virtual void get_session(std::string session_id, std::optional<std::uint32_t> token_generation, Done<SessionSnapshot>) = 0;
  /// One turn, with its place in the queue while it waits.
  virtual void get_turn(std::string session_id, std::uint32_t token_generation, std::string turn_id, Done<TurnAnswer>) = 0;
  /// From now on the watcher is told; a session keeps its eight newest watchers. `done` before its first changed().
  virtual void watch(std::string session_id, std::uint32_t token_generation, std::shared_ptr<SessionWatcher>,
                     Done<SessionSnapshot>) = 0;
  /// A fresh token, the old one void.
  virtual void resume(RequestContext, std::string session_id, std::optional<std::uint32_t> token_generation,
                      Done<ResumeAnswer>) = 0;

  /// The ids of a person's sessions, oldest first, from the log; those of the erased are among them, and look unknown.
  virtual void sessions_of(PersonSelector, Done<std::vector<std::string>>) = 0;
  /// Forgets a person: each of their sessions is told, then their sealing keys go, and only then `done` gets how many sessions there
  /// were; 0: none. An erasure that failed or was cut off is tried again until it is done, also after a restart.
  virtual void erase_person(RequestContext, PersonSelector, Done<std::uint32_t>) = 0;

  /// Stop taking new work; `done` when every accepted request was answered (or refused as draining).
  virtual void drain(std::function<void()> done) = 0;
  virtual bool draining() const = 0;
};

}  // namespace onboarding

template <>
struct std::is_error_code_enum<onboarding::GatewayErrc> : std::true_type {};
