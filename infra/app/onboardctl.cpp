// The operators', analysts' and testers' program. Options are read here; what the commands do stands in infra/app/ctl.
#include <sys/stat.h>
#include <CLI/CLI.hpp>

#include <iostream>

#include "infra/app/ctl/backup.hpp"
#include "infra/app/ctl/commands.hpp"

namespace onboarding::app {
namespace {

constexpr const char* exit_codes =
    "Exit codes: 0 good, 1 failed, 2 wrong use or configuration, 3 not found, 4 no server answers, 5 the log is damaged.\n"
    "Data goes to standard output, notes to standard error.";

CLI::App* command(CLI::App& under, const std::string& name, const std::string& says, const std::string& examples) {
  CLI::App* made = under.add_subcommand(name, says);
  made->footer("Examples:\n" + examples);
  return made;
}

int run(int argc, char** argv) {
  CLI::App cli{"Talks to, looks into and checks an onboarding server. It finds the server by its data folder."};
  cli.require_subcommand(1);
  cli.footer(
      std::string("Examples:\n  onboardctl chat\n  onboardctl events tail --follow\n  onboardctl session show ses_007_01J…\n"
                  "  onboardctl config get postgres.url\n\n") +
      exit_codes);
  Context context;
  cli.add_option("--data-dir", context.data_flag, "data folder (default: ONBOARD_DATA_DIR, .data)");
  cli.add_option("--config", context.config_flag, "configuration file, instead of the one that is found");
  cli.add_option("--set", context.set_flags, "KEY=VALUE: sets one key; may be repeated")->allow_extra_args(false);
  cli.fallthrough();
  std::function<int()> chosen;

  ChatOptions chatting;
  CLI::App* chat_command =
      command(cli, "chat", "hold an onboarding conversation in the terminal",
              "  onboardctl chat\n  onboardctl chat --resume\n  printf 'I am Ada Lovelace\\n' | onboardctl chat --json\n"
              "  onboardctl chat --url http://onboarding.example.org");
  chat_command->add_option("--url", chatting.url, "of the public listener (default: the server that runs in the data folder)");
  chat_command->add_option("--flow", chatting.flow, "which flow (default: default)");
  chat_command->add_option("--locale", chatting.locale, "e.g. en");
  chat_command->add_flag("--resume", chatting.resume, "go on with the last conversation");
  chat_command->add_flag("--json", chatting.json, "print the server's answers as JSON, one a line");
  chat_command->add_option("--patience", chatting.patience_seconds, "seconds to repeat a message while nobody answers")
      ->capture_default_str();
  chat_command->callback([&] { chosen = [&] { return chat(context, chatting); }; });

  CLI::App* events = command(cli, "events", "read and check the event log",
                             "  onboardctl events tail\n  onboardctl events verify\n  onboardctl events stats");
  events->require_subcommand(1);
  TailOptions tailing;
  CLI::App* tail = command(*events, "tail", "print events, each partition in order",
                           "  onboardctl events tail --follow\n  onboardctl events tail --json --session ses_007_01J… --open\n  "
                           "onboardctl events tail --last 5");
  tail->add_flag("--follow", tailing.follow, "go on with what comes");
  tail->add_flag("--json", tailing.json, "CloudEvents 1.0, one a line");
  tail->add_flag("--open", tailing.open, "show sealed texts (needs the data folder's keys)");
  tail->add_option("--session", tailing.session, "only this session's");
  tail->add_option("--last", tailing.last, "only the last N events of each partition");
  tail->callback([&] { chosen = [&] { return events_tail(context, tailing); }; });
  ExportOptions exporting;
  CLI::App* exported = command(*events, "export", "write events as CloudEvents 1.0, one a line, each partition in order",
                               "  onboardctl events export >events.ndjson\n  onboardctl events export --type "
                               "SessionStarted,SessionCompleted --since 2026-11-01T00:00:00Z\n"
                               "  onboardctl events export --output events.ndjson.zst --zstd\n  onboardctl events export "
                               "--output events.ndjson.zst --zstd --resume   goes on where it was interrupted");
  exported->add_option("--type", exporting.types, "only these event types")->delimiter(',');
  exported->add_option("--session", exporting.session, "only this session's");
  exported->add_option("--user", exporting.user, "only this user's (the client's user_id)");
  exported->add_option("--flow", exporting.flow, "only sessions on this flow");
  exported->add_option("--since", exporting.since, "from this time on, e.g. 2026-11-21T00:00:00Z");
  exported->add_option("--before", exporting.before, "before this time");
  exported->add_option("--after", exporting.after, "go on behind this cursor");
  exported->add_option("--output", exporting.output, "write to this file (default: standard output)");
  exported->add_flag("--zstd", exporting.zstd, "compressed");
  exported->add_flag("--resume", exporting.resume, "go on with the file where it was interrupted");
  exported->add_flag("--follow", exporting.follow, "go on with what comes, until Ctrl-C");
  exported->add_flag("--open", exporting.open, "show sealed texts (needs the data folder's keys)");
  exported->callback([&] { chosen = [&] { return events_export(context, exporting); }; });
  bool verify_json = false;
  CLI::App* verify =
      command(*events, "verify", "check the log, also beside a running server: checksums, order, indexes, head, every event",
              "  onboardctl events verify && echo good\n  onboardctl events verify --json");
  verify->add_flag("--json", verify_json, "as JSON");
  verify->callback([&] { chosen = [&] { return events_verify(context, verify_json); }; });
  bool stats_json = false;
  CLI::App* stats = command(*events, "stats", "count events by type, day and partition, sessions, users and bytes",
                            "  onboardctl events stats\n  onboardctl events stats --json");
  stats->add_flag("--json", stats_json, "as JSON");
  stats->callback([&] { chosen = [&] { return events_stats(context, stats_json); }; });
  bool rebuild_yes = false;
  CLI::App* rebuild =
      command(*events, "rebuild-head", "accept a log whose head file is lost, damaged or ahead of it, and write a new one",
              "  onboardctl events rebuild-head         what that gives up\n  onboardctl events rebuild-head --yes");
  rebuild->add_flag("--yes", rebuild_yes, "do it: what the log no longer holds is given up");
  rebuild->callback([&] { chosen = [&] { return events_rebuild_head(context, rebuild_yes); }; });

  CLI::App* log = command(cli, "log", "move the event log", "  onboardctl log copy --from sqlite --to kafka");
  log->require_subcommand(1);
  LogCopyOptions copying;
  CLI::App* copy =
      command(*log, "copy", "copy log and keys between the embedded log and Kafka, compare, and let sessions go on there",
              "  onboardctl --set log.brokers=kafka-1:9092 log copy --from sqlite --to kafka\n  onboardctl log copy --from kafka "
              "--to sqlite\n"
              "The server is stopped before, and started with the other log.kind afterwards (infra/docs/RUNBOOK.md, \"From one "
              "log to the "
              "other\").\nInterrupted, the same command goes on. The target must be empty, or an unfinished copy of this log.");
  copy->add_option("--from", copying.from, "sqlite or kafka")->required()->check(CLI::IsMember({"sqlite", "kafka"}));
  copy->add_option("--to", copying.to, "kafka or sqlite")->required()->check(CLI::IsMember({"sqlite", "kafka"}));
  copy->add_flag("--servers-are-stopped", copying.servers_are_stopped, "of Kafka: a server that was killed still has the log");
  copy->callback([&] { chosen = [&] { return log_copy(context, copying); }; });

  PlanOptions planning;
  CLI::App* planned =
      command(cli, "plan", "what a number of onboardings takes: sessions, tokens, money, storage, machines",
              "  onboardctl plan --users 10000 --over 1d --provider openai --tier 1\n"
              "  onboardctl plan --users 1000000 --over 1d --requests-per-minute 30000 --tokens-per-minute 150000000 --peak 5\n"
              "Each figure names the measured inputs it rests on; `tests/bench/plan` measures them (infra/docs/CAPACITY.md).");
  planned->add_option("--users", planning.users, "onboardings")
      ->required()
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1'000'000'000'000}));
  planned->add_option("--over", planning.over, "the time they come in, e.g. 30m, 12h, 1d, 2w (default: 1d)");
  planned->add_option("--provider", planning.provider, "openai, gemini, deepseek or anthropic (default: openai)");
  planned->add_option("--tier", planning.tier, "of the account: 1 is known here; for others give the two limits");
  planned->add_option("--requests-per-minute", planning.requests_per_minute, "the provider's limit")->check(CLI::PositiveNumber);
  planned->add_option("--tokens-per-minute", planning.tokens_per_minute, "the provider's limit")->check(CLI::PositiveNumber);
  planned->add_option("--peak", planning.peak, "the busiest minute against the mean (default: 3)")
      ->check(CLI::Range(1.0, 1000.0));
  planned->add_option("--seconds-per-message", planning.seconds_per_message, "a person reads, thinks, types (default: 30)")
      ->check(CLI::Range(0.1, 86400.0));
  planned->add_flag("--json", planning.json, "as JSON");
  planned->callback([&] { chosen = [&] { return plan(planning); }; });

  CLI::App* session = command(cli, "session", "look at one session", "  onboardctl session show ses_007_01J…");
  session->require_subcommand(1);
  std::string session_id;
  SessionShowOptions showing;
  bool session_sealed = false;
  CLI::App* show = command(*session, "show", "the state of a session, folded from the log",
                           "  onboardctl session show ses_007_01J…\n  onboardctl session show ses_007_01J… --json --sealed\n"
                           "  onboardctl session show ses_007_01J… --as-of 7\n"
                           "  onboardctl session show ses_007_01J… --as-of 2026-11-21T08:00:00Z");
  show->add_option("id", session_id, "session id")->required();
  show->add_option("--as-of", showing.as_of, "as it was: after this VERSION of its events, or at this TIME");
  show->add_flag("--json", showing.json, "as JSON");
  show->add_flag("--sealed", session_sealed, "keep personal texts hidden");
  show->callback([&] {
    showing.open = !session_sealed;
    chosen = [&] { return session_show(context, session_id, showing); };
  });

  CLI::App* model = command(cli, "model", "see and change how the running server uses model providers",
                            "  onboardctl model status --watch\n  onboardctl model set openai weight=20 "
                            "requests_per_minute=1000\n  onboardctl model set gemini enabled=false");
  model->require_subcommand(1);
  bool model_json = false, model_watch = false;
  CLI::App* status = command(*model, "status", "budgets with their use, breakers, queue, plans, and what was decided lately",
                             "  onboardctl model status\n  onboardctl model status --json");
  status->add_flag("--json", model_json, "as JSON");
  status->add_flag("--watch", model_watch, "again every second, until Ctrl-C");
  status->callback([&] { chosen = [&] { return model_status(context, model_json, model_watch); }; });
  std::string provider;
  std::vector<std::string> changes;
  CLI::App* set =
      command(*model, "set", "change a provider while the server runs; kept over restarts, above the configuration",
              "  onboardctl model set openai weight=20\n  onboardctl model set deepseek enabled=false max_concurrent=50\n"
              "Names: enabled, weight, requests_per_minute, requests_per_day, max_concurrent, tokens_per_minute,\n"
              "  input_tokens_per_minute, output_tokens_per_minute, spend_per_day_nanodollars; a limit of 0 is no limit.");
  set->add_option("provider", provider, "openai, gemini, deepseek or anthropic")->required();
  set->add_option("changes", changes, "NAME=VALUE …")->required();
  set->add_flag("--json", model_json, "print the state afterwards as JSON");
  set->callback([&] { chosen = [&] { return model_set(context, provider, changes, model_json); }; });

  CLI::App* projections = command(cli, "projections", "look at the read models' projections, rebuild and repair them",
                                  "  onboardctl projections list --watch\n  onboardctl projections rebuild sessions");
  projections->require_subcommand(1);
  CLI::App* list = command(*projections, "list", "state, lag and rate of each projection, and its rebuilds",
                           "  onboardctl projections list\n  onboardctl projections list --json");
  list->add_flag("--json", model_json, "as JSON");
  list->add_flag("--watch", model_watch, "again every second, until Ctrl-C");
  list->callback([&] { chosen = [&] { return projections_list(context, model_json, model_watch); }; });
  ProjectionAction acting;
  bool compare_only = false, no_swap = false;
  const auto on_projection = [&](const char* verb, const char* says, const char* examples) {
    CLI::App* made = command(*projections, verb, says, examples);
    made->add_option("name", acting.name, "of the projection")->required();
    made->add_flag("--json", acting.json, "as JSON");
    if (std::string_view(verb) == "parked") return made;
    made->add_option("--reason", acting.reason, "noted in projection_audit, with who did it");
    if (std::string_view(verb) != "retry" && std::string_view(verb) != "skip")
      made->add_option("--revision", acting.revision, "only if the projection is still as `list` showed it");
    made->callback([&, verb] {
      acting.verb = verb;
      chosen = [&] { return projections_act(context, acting); };
    });
    return made;
  };
  CLI::App* rebuilt = on_projection("rebuild", "fill new tables beside the live ones, compare, and let them change places",
                                    "  onboardctl projections rebuild sessions               goes live when it is equal\n"
                                    "  onboardctl projections rebuild sessions --yes         goes live even when it differs\n"
                                    "  onboardctl projections rebuild sessions --compare-only");
  rebuilt->add_flag("--compare-only", compare_only, "drop the new tables once they are compared");
  rebuilt->add_flag("--no-swap", no_swap, "keep the new tables beside the live ones, following")->excludes("--compare-only");
  rebuilt->add_flag("--yes", acting.yes, "go live even if the live tables differ")
      ->excludes("--compare-only")
      ->excludes("--no-swap");
  rebuilt->callback([&] { chosen = [&] { return projections_rebuild(context, acting, compare_only, no_swap); }; });
  on_projection("cancel", "give a rebuild up", "  onboardctl projections cancel sessions");
  on_projection("rollback", "the previous tables go live again, the live ones become the previous",
                "  onboardctl projections rollback sessions --reason 'wrong counts'");
  on_projection("discard", "give the previous tables up", "  onboardctl projections discard sessions");
  on_projection("pause", "stop following the log, over restarts, too",
                "  onboardctl projections pause usage --reason 'looking at it'");
  on_projection("resume", "follow the log again", "  onboardctl projections resume usage");
  on_projection("restart", "let its runner read everything anew", "  onboardctl projections restart usage");
  on_projection("reset", "empty the live tables and fill them from the log's beginning",
                "  onboardctl projections reset usage --yes")
      ->add_flag("--yes", acting.yes, "do it: readers see the tables empty");
  on_projection("parked", "whose events wait behind one that could not be applied", "  onboardctl projections parked sessions")
      ->callback([&] { chosen = [&] { return projections_parked(context, acting.name, acting.json); }; });
  on_projection("retry", "apply parked events again: of one key, or of all",
                "  onboardctl projections retry sessions\n  onboardctl projections retry sessions 76775ee5… 3:1207")
      ->add_option("key", acting.key, "a parked key (default: all)");
  projections->get_subcommand("retry")->add_option("position", acting.position, "only if it is still parked at this event");
  CLI::App* skip = on_projection("skip", "give one event up for good, and apply what waits behind it",
                                 "  onboardctl projections skip sessions 76775ee5… 3:1207 --reason 'a bug of version 3'");
  skip->add_option("key", acting.key, "the parked key")->required();
  skip->add_option("position", acting.position, "of the event, as `parked` shows it")->required();

  std::string replayed, into, until;
  CLI::App* replay_command =
      command(cli, "replay", "build a projection's tables and views as they were at a time, in a schema of their own",
              "  onboardctl replay --projection sessions --into november --until 2026-11-30T23:59:59Z\n"
              "  psql \"$(onboardctl config get postgres.url)\" -c 'SELECT status, count(*) FROM november.onboarding_sessions "
              "GROUP BY 1'");
  replay_command->add_option("--projection", replayed, "profile, sessions, conversation, usage or flows")->required();
  replay_command->add_option("--into", into, "the schema, made for it")->required();
  replay_command->add_option("--until", until, "no event after this time counts (default: all events)");
  replay_command->callback([&] { chosen = [&] { return replay(context, replayed, into, until); }; });

  CLI::App* user =
      command(cli, "user", "what is known of a person, and forgetting them",
              "  onboardctl user export ann@example.org --output ann.json\n  onboardctl user erase ann@example.org --yes");
  user->require_subcommand(1);
  std::string user_id, user_output;
  bool user_yes = false;
  CLI::App* user_exported = command(
      *user, "export", "all that is known of a person, as JSON: sessions, messages, fields, refused values",
      "  onboardctl user export ann@example.org | python3 -m json.tool\n  onboardctl user export ann@example.org --output "
      "ann.json");
  user_exported->add_option("user_id", user_id, "as the client application calls them")->required();
  user_exported->add_option("--output", user_output, "write to this file, readable by you alone (default: standard output)");
  user_exported->callback([&] { chosen = [&] { return user_export(context, user_id, user_output); }; });
  CLI::App* erased = command(*user, "erase", "forget everybody who went by this user id, in the log and the read models",
                             "  onboardctl user erase ann@example.org          what that does\n  onboardctl user erase "
                             "ann@example.org --yes");
  erased->add_option("user_id", user_id, "as the client application calls them")->required();
  erased->add_flag("--yes", user_yes, "do it: it cannot be undone");
  erased->add_flag("--json", model_json, "print the server's answer as JSON");
  erased->callback([&] { chosen = [&] { return user_erase(context, user_id, user_yes, model_json); }; });

  CLI::App* flow = command(cli, "flow", "see and change the flows: which fields a person is asked for, and how",
                           "  onboardctl flow show default > default.json\n  onboardctl flow put default.json");
  flow->require_subcommand(1);
  std::string flow_name, flow_file;
  std::uint32_t flow_version = 0;
  CLI::App* flow_shown = command(*flow, "show", "a flow as its file has it",
                                 "  onboardctl flow show default\n  onboardctl flow show default --version 1");
  flow_shown->add_option("name", flow_name, "name of the flow")->required();
  flow_shown->add_option("--version", flow_version, "an older version; the newest unless told")->check(CLI::PositiveNumber);
  flow_shown->callback([&] { chosen = [&] { return flow_show(context, flow_name, flow_version); }; });
  CLI::App* flow_replaced = command(
      *flow, "put", "make a file the flow's next version; sessions under way stay with theirs",
      "  onboardctl flow put default.json\n  onboardctl flow show default | jq '.greeting=\"Hi!\"' | onboardctl flow put -");
  flow_replaced->add_option("file", flow_file, "flow file (JSON); - is standard input")->required();
  flow_replaced->callback([&] { chosen = [&] { return flow_put(context, flow_file); }; });

  CLI::App* queue_command = command(cli, "queue", "queue mode: messages are answered with 202 and worked off by budget",
                                    "  onboardctl queue            how it is\n  onboardctl queue on\n  onboardctl queue auto");
  std::string queue_mode;
  queue_command->add_option("mode", queue_mode, "on, off or auto (by itself when there is too much)")
      ->check(CLI::IsMember({"on", "off", "auto"}));
  queue_command->add_flag("--json", model_json, "as JSON");
  queue_command->callback([&] { chosen = [&] { return queue(context, queue_mode, model_json); }; });

  CLI::App* config =
      command(cli, "config", "look at the configuration", "  onboardctl config get http.listen\n  onboardctl config check");
  config->require_subcommand(1);
  std::string key;
  CLI::App* get =
      command(*config, "get", "one value: of the running server, else of its next start", "  onboardctl config get postgres.url");
  get->add_option("key", key, "e.g. http.listen")->required();
  get->callback([&] { chosen = [&] { return config_get(context, key); }; });
  command(*config, "check", "say what is wrong with file and environment, if anything",
          "  onboardctl --config onboard.toml config check")
      ->callback([&] { chosen = [&] { return config_check(context); }; });
  command(*config, "list", "every key: name, variable, default, meaning", "  onboardctl config list | grep throttle")
      ->callback([&] { chosen = config_list; });
  command(*config, "example", "a complete file with every key at its default", "  onboardctl config example >onboard.toml")
      ->callback([&] { chosen = config_example; });

  std::string backup_folder;
  bool without_secrets = false;
  CLI::App* backup_command =
      command(cli, "backup", "copy log, keys and settings into a folder of checksummed files, beside the running server",
              "  onboardctl backup /backup/2026-11-21\n  onboardctl backup --without-secrets /backup/2026-11-21");
  backup_command->add_option("folder", backup_folder, "must not exist or be empty")->required();
  backup_command->add_flag("--without-secrets", without_secrets, "leave out master.key, operator.key and the configuration file");
  backup_command->callback([&] { chosen = [&] { return backup(context, backup_folder, !without_secrets); }; });
  RestoreOptions restoring;
  CLI::App* restore_command = command(
      cli, "restore", "make a data folder from a back-up, verify it, and let the log go on as a new one",
      "  onboardctl --data-dir /srv/onboarding restore /backup/2026-11-21\n  onboardctl restore --reset-read-models "
      "/backup/2026-11-21\n  onboardctl restore --secrets /safe --same-log /backup/2026-11-21   moving to another machine");
  restore_command->add_option("folder", restoring.folder, "the back-up")->required();
  restore_command->add_option("--secrets", restoring.secrets, "folder with master.key, where the back-up has none");
  restore_command->add_flag("--same-log", restoring.same_log, "nothing was written after the back-up: keep the log's id");
  restore_command->add_flag("--reset-read-models", restoring.reset_read_models, "empty the database that postgres.url names");
  restore_command->callback([&] { chosen = [&] { return restore(context, restoring); }; });
  ArchiveCommand archiving;
  CLI::App* archive_command =
      command(cli, "archive", "move old rows of the read models into compressed files (the log keeps everything)",
              "  onboardctl archive --older-than 365d                                  how many there are\n"
              "  onboardctl archive --older-than 2y --into /archive/2026 --yes\n"
              "  onboardctl archive --older-than 90d --table conversation_messages --into /archive/2026 --yes");
  archive_command->add_option("--older-than", archiving.older_than, "e.g. 90d, 12w, 2y; at least 7d")->required();
  archive_command->add_option("--table", archiving.tables, "conversation_messages, token_usage, turn_outcomes (default: all)")
      ->delimiter(',');
  archive_command->add_option("--into", archiving.into, "folder for the files");
  archive_command->add_flag("--open", archiving.open, "keep message texts readable in the files: nobody can forget them there");
  archive_command->add_flag("--yes", archiving.yes, "do it");
  archive_command->callback([&] { chosen = [&] { return archive(context, archiving); }; });
  bool doctor_json = false;
  CLI::App* doctor_command = command(cli, "doctor", "look at the whole installation: what is wrong, and what to do",
                                     "  onboardctl doctor\n  onboardctl doctor --json");
  doctor_command->add_flag("--json", doctor_json, "as JSON");
  doctor_command->callback([&] { chosen = [&] { return doctor(context, doctor_json); }; });

  bool ready = false;
  CLI::App* where_command =
      command(cli, "where", "the addresses of the server that runs in the data folder", "  onboardctl where --ready && echo up");
  where_command->add_flag("--ready", ready, "only if it is ready");
  where_command->callback([&] { chosen = [&] { return where(context, ready); }; });

  try {
    cli.parse(argc, argv);
  } catch (const CLI::RequiredError& error) {
    // What it did not know says more than what it then missed.
    const auto unknown = cli.remaining(true);
    if (unknown.empty()) cli.exit(error);
    else cli.exit(CLI::ExtrasError(unknown));
    return exit_wrong_use;
  } catch (const CLI::ParseError& error) { return cli.exit(error) == 0 ? exit_good : exit_wrong_use; }
  return chosen();
}

}  // namespace
}  // namespace onboarding::app

int main(int argc, char** argv) {
  ::umask(077);
  try {
    return onboarding::app::run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "onboardctl: " << error.what() << '\n';
    return onboarding::app::exit_failed;
  }
}
