// The commands of onboardctl. Each function carries one out and returns its exit code; onboardctl.cpp gives them their
// options, as plain values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "infra/app/ctl/context.hpp"

namespace onboarding::app {

struct ChatOptions {
  std::string url;  // empty: the server that runs in the data folder
  std::string flow, locale;
  bool resume = false;            // go on with the saved session
  bool json = false;              // answers as the server's JSON, one a line
  double patience_seconds = 300;  // how long a message is repeated while the server does not answer
};
int chat(const Context&, const ChatOptions&);

struct TailOptions {
  bool follow = false, json = false, open = false;
  std::string session;                // only this stream
  std::optional<std::uint64_t> last;  // only the last n events of each partition
};
int events_tail(const Context&, const TailOptions&);
struct ExportOptions {
  std::vector<std::string> types;
  std::string session, user, flow, since, before, after, output;
  bool open = false, follow = false, zstd = false, resume = false;
};
/// NDJSON to the file or standard output. With `output`, FILE.cursor remembers how far it is, so that `resume` goes on after an
/// interruption without a line twice.
int events_export(const Context&, const ExportOptions&);
/// Exit code 5 and where, when anything is damaged.
int events_verify(const Context&, bool json);
int events_stats(const Context&, bool json);
/// Accepts the log as it is and writes its head file anew; without `yes` only says what that gives up.
int events_rebuild_head(const Context&, bool yes);

struct LogCopyOptions {
  std::string from, to;              // sqlite, kafka
  bool servers_are_stopped = false;  // a claim that stands in Kafka is a dead server's
};
/// Log and keys of the data folder's installation from one kind of log into the other; resumed by the same call.
int log_copy(const Context&, const LogCopyOptions&);

struct PlanOptions {
  std::uint64_t users = 0;
  std::string over = "1d", provider = "openai";
  std::uint32_t tier = 1;
  double requests_per_minute = 0, tokens_per_minute = 0;  // instead of the tier's; 0: the tier's
  double peak = 3;                                        // the busiest minute against the mean
  double seconds_per_message = 30;                        // a person reads, thinks and types
  bool json = false;
};
/// What so many onboardings take: sessions, tokens, money, storage, machines; each figure with the inputs that it rests on.
int plan(const PlanOptions&);

struct SessionShowOptions {
  bool json = false, open = false;
  std::string as_of;  // a version or a time; empty: now
};
int session_show(const Context&, const std::string& session_id, const SessionShowOptions&);

/// The model supervisor of the running server: providers, budgets, queue. `watch`: again every second, until Ctrl-C.
int model_status(const Context&, bool json, bool watch);
/// `changes`: NAME=VALUE as PATCH /api/admin/llm/{provider} takes them.
int model_set(const Context&, const std::string& provider, const std::vector<std::string>& changes, bool json);
/// A flow as its file has it, `version` 0: the newest; and a flow file made the flow's next version ("-": standard input).
int flow_show(const Context&, const std::string& name, std::uint32_t version);
int flow_put(const Context&, const std::string& file);
/// The projections of the running server: state, lag. `watch` as above.
int projections_list(const Context&, bool json, bool watch);
int projections_parked(const Context&, const std::string& name, bool json);
struct ProjectionAction {
  std::string name, verb, reason;
  std::string key, position;             // of retry (none: all) and skip
  std::optional<std::int64_t> revision;  // as `list` showed it; none: as it is now
  bool yes = false, json = false;
};
/// As POST /api/admin/projections/{name}/{verb}, of the state that is seen now.
int projections_act(const Context&, const ProjectionAction&);
/// Begins a rebuild, or goes on watching the one that is under way, until it is live, compared, or waits for somebody.
int projections_rebuild(const Context&, const ProjectionAction&, bool compare_only, bool no_swap);
/// Builds the projection's tables as of `until` (RFC 3339; empty: now) in `schema`, beside the live ones. Resumed by the same call.
int replay(const Context&, const std::string& projection, const std::string& schema, const std::string& until);
/// `mode`: on, off, auto; empty: says how it is.
int queue(const Context&, const std::string& mode, bool json);

/// All that is known of a person, as JSON, to the file or standard output.
int user_export(const Context&, const std::string& user_id, const std::string& output);
/// Without `yes` only says what it would do.
int user_erase(const Context&, const std::string& user_id, bool yes, bool json);

int config_get(const Context&, const std::string& key);
int config_check(const Context&);
int config_list();
int config_example();

struct ArchiveCommand {
  std::string older_than, into;
  std::vector<std::string> tables;  // empty: all that have old rows
  bool open = false, yes = false;
};
/// Old rows of read models into compressed files; without `yes` only says how many there are.
int archive(const Context&, const ArchiveCommand&);

/// Looks at the whole installation and says what is wrong and what to do; exit code 1 when anything fails.
int doctor(const Context&, bool json);

/// Where the chat and the docs are, if a server runs in the data folder; `ready`: only if /readyz says yes.
int where(const Context&, bool ready);

}  // namespace onboarding::app
