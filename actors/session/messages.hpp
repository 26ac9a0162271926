// What gateway, partition host and session actor say to each other. Payloads are shared pointers or values that never
// leave the process.
#pragma once

#include <caf/actor.hpp>
#include <caf/actor_clock.hpp>
#include <caf/allowed_unsafe_message_type.hpp>
#include <caf/atom.hpp>

#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "actors/gateway.hpp"
#include "actors/session/admission.hpp"
#include "actors/session/person.hpp"
#include "events/codec/codec.hpp"
#include "events/log/event_log.hpp"
#include "events/privacy/key_store.hpp"

namespace onboarding::session {

// ---- one request on its way to a session

struct StartJob {
  domain::StartSession command;
  std::string user_key, blinded_user_id, token;
  privacy::SealingKeyPtr key;
  Reply<SessionStartedAnswer> reply;
};
struct MessageJob {
  domain::ReceiveMessage command;
  bool respond_async = false;
  Reply<TurnAnswer> reply;
};
struct ReadJob {
  Reply<SessionSnapshot> reply;
};
struct ReadTurnJob {
  std::string turn_id;
  Reply<TurnAnswer> reply;
};
struct WatchJob {
  std::shared_ptr<SessionWatcher> watcher;
  Reply<SessionSnapshot> reply;
};
struct ResumeJob {
  Reply<ResumeAnswer> reply;
};
/// Answers the user key of a person who was just forgotten, unknown_session when the session is not theirs or was erased before.
struct EraseJob {
  Person person;
  Reply<std::string> reply;
};

struct Job {
  std::string session_id;
  std::uint32_t partition = 0;
  RequestContext context;
  std::optional<std::uint32_t> token_generation;  // nullopt: the caller has another right
  bool certainly_new = false;                     // a start whose session id is random: nothing to read
  caf::actor_clock::time_point due{};             // when the client must have an answer; set by the session
  std::variant<StartJob, MessageJob, ReadJob, ReadTurnJob, WatchJob, ResumeJob, EraseJob> what;

  void refuse(GatewayErrc why) {
    const std::string detail = why == GatewayErrc::owned_elsewhere ? std::to_string(partition) : std::string();
    std::visit([&](auto& job) { job.reply(failure(make_error_code(why), detail)); }, what);
  }
};
using JobPtr = std::shared_ptr<Job>;

/// While a person is forgotten, none of their sessions begins: what they say afterwards must not go with what was there. `begun` gets
/// the ids of those sessions in memory that this person began.
struct Forgetting {
  Person person;
  std::function<void(std::vector<std::string>)> begun;
  std::chrono::milliseconds retry_after{100};
};
using ForgettingPtr = std::shared_ptr<Forgetting>;

// ---- a session read back from the log

struct Loaded {
  std::shared_ptr<domain::State> state;
  codec::RecordMeta meta;      // of the session's first record: user, blinded user id, plan
  privacy::SealingKeyPtr key;  // null: there is no such session, or its person was erased
  bool forgotten = false;      // the person's key is gone
};
struct LoadResult {
  result<Loaded> loaded;
};
using LoadResultPtr = std::shared_ptr<LoadResult>;

/// What the log's index knows of a partition's open sessions.
struct IndexFindings {
  bool failed = false;
  std::vector<log::OpenStream> pending, due;
  std::optional<std::vector<std::string>> late;  // see PartitionHost::late_; nullopt: not looked for
  bool more = false;                             // the page was full: look again soon
};
using IndexFindingsPtr = std::shared_ptr<IndexFindings>;

using job_atom = caf::atom_constant<caf::atom("job")>;
// to a session
using loaded_atom = caf::atom_constant<caf::atom("loaded")>;
using appended_atom = caf::atom_constant<caf::atom("appended")>;
using deadline_atom = caf::atom_constant<caf::atom("deadline")>;
using retry_atom = caf::atom_constant<caf::atom("retry")>;
using reread_atom = caf::atom_constant<caf::atom("reread")>;
using due_atom = caf::atom_constant<caf::atom("due")>;
using stop_atom = caf::atom_constant<caf::atom("stop")>;
using current_atom = caf::atom_constant<caf::atom("current")>;  // nobody has taken the partition since; or the job was refused
using lost_atom = caf::atom_constant<caf::atom("lost")>;        // the partition is another's: to a host, too
// to a host
using ready_atom = caf::atom_constant<caf::atom("ready")>;            // the session was read
using unreadable_atom = caf::atom_constant<caf::atom("unreadable")>;  // it could not be read, and ends
using passivate_atom = caf::atom_constant<caf::atom("passivate")>;    // it would like to go
using stay_atom = caf::atom_constant<caf::atom("stay")>;              // it changed its mind
using gone_atom = caf::atom_constant<caf::atom("gone")>;              // it wrote its last
using forget_atom = caf::atom_constant<caf::atom("forget")>;          // a person
using forgotten_atom = caf::atom_constant<caf::atom("forgotten")>;    // it is done
using failed_atom = caf::atom_constant<caf::atom("failed")>;          // it is not: begun again after a while, until it is
using still_atom = caf::atom_constant<caf::atom("still")>;            // does it still keep the person out: calls `begun` if so
using again_atom = caf::atom_constant<caf::atom("again")>;            // begin those that failed
using poll_atom = caf::atom_constant<caf::atom("poll")>;
using found_atom = caf::atom_constant<caf::atom("found")>;

}  // namespace onboarding::session

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(onboarding::session::JobPtr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(onboarding::session::ForgettingPtr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(onboarding::session::LoadResultPtr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(onboarding::session::IndexFindingsPtr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(onboarding::log::AppendOutcome)
