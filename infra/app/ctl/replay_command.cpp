// replay: a projection as it was at a time, in a schema of its own beside the live tables.
#include <signal.h>

#include <atomic>
#include <iostream>

#include "events/codec/json.hpp"
#include "infra/app/ctl/commands.hpp"
#include "infra/app/ctl/progress.hpp"
#include "projections/postgres/replay.hpp"

namespace onboarding::app {
namespace {

std::atomic<bool> interrupted{false};

}  // namespace

int replay(const Context& context, const std::string& projection, const std::string& schema, const std::string& until) {
  projections::ReplayOptions options;
  options.projection = projection;
  options.schema = schema;
  if (!until.empty()) {
    const auto time = codec::parse_time(until);
    if (!time) return complain({Errc::bad_configuration, "--until: " + until + " is no time; write it as 2026-11-21T00:00:00Z"});
    options.until = *time;
  }
  const auto configuration = context.configuration();
  if (!configuration) return complain(configuration.error());
  if (!configuration->is_set("postgres.url"))
    return complain({Errc::bad_configuration, "postgres.url is not set: a replay needs the read models' database"});
  auto opened = open_log(context, true);
  if (!opened) return complain(opened.error());

  struct sigaction on_end {};
  on_end.sa_handler = [](int) { interrupted = true; };
  for (const int signal : {SIGINT, SIGTERM}) ::sigaction(signal, &on_end, nullptr);
  std::optional<Progress> progress;
  options.progress = [&](std::uint64_t events, std::uint64_t of) {
    if (!progress) progress.emplace("events", events);
    progress->show(events, of);
    return !interrupted;
  };
  projections::PostgresOptions postgres;
  postgres.url = configuration->text("postgres.url");
  const auto replayed = projections::replay(postgres, *opened->log, *opened->keys, options);
  progress.reset();
  if (!replayed) {
    note("onboardctl: " + replayed.error().message());
    return replayed.error().code == projections::Errc::not_found      ? exit_not_found
           : replayed.error().code == projections::Errc::not_possible ? exit_wrong_use
                                                                      : exit_failed;
  }
  if (replayed->parked > 0)
    note(std::to_string(replayed->parked) + " people's events could not be applied: see projection_parked_keys");
  note(std::to_string(replayed->events) + " events read" +
       (replayed->complete ? "; look: SELECT … FROM " + schema + ".…; away with it: DROP SCHEMA " + schema + " CASCADE"
                           : ", interrupted; the same command goes on"));
  return replayed->complete ? exit_good : exit_failed;
}

}  // namespace onboarding::app
