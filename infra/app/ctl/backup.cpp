// backup, restore: an installation's log, keys and settings in a folder of checksummed files, and back. Read models are not in it:
// they hold in clear what the log holds sealed, and are made again from it (ADR 0804); only what operators decided on them is.
#include "infra/app/ctl/backup.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <iostream>
#include <sstream>

#include "events/codec/json.hpp"
#include "events/export/check.hpp"
#include "events/log/sqlite/sqlite_copy.hpp"
#include "events/log/sqlite/sqlite_log.hpp"
#include "events/log/sqlite/writer_lock.hpp"
#include "events/privacy/copy_keys.hpp"
#include "events/privacy/secrets.hpp"
#include "events/privacy/sqlite_key_store.hpp"
#include "infra/app/ctl/json_text.hpp"
#include "infra/app/ctl/progress.hpp"
#include "projections/postgres/inspect.hpp"

namespace onboarding::app {
namespace {

namespace fs = std::filesystem;

constexpr const char* sums_file = "SHA256SUMS";  // written last: a folder without it is no whole back-up
constexpr const char* decisions_file = "projections.json";
constexpr int format = 1;

result<void> sync_path(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const bool synced = fd >= 0 && ::fsync(fd) == 0;
  if (fd >= 0) ::close(fd);
  if (!synced) return tl::unexpected(about_file(path));
  return {};
}

/// 0600, on the disk.
result<void> copy_to_disk(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::create_directories(to.parent_path(), error);
  if (!error) fs::copy_file(from, to, error);
  if (error) return tl::unexpected(about_file(from, error));
  ::chmod(to.c_str(), 0600);
  return sync_path(to);
}

result<void> write_file(const fs::path& file, const std::string& content) {
  std::ofstream(file, std::ios::trunc) << content;
  ::chmod(file.c_str(), 0600);
  std::error_code error;
  if (fs::file_size(file, error) != content.size() || error)
    return tl::unexpected(about_file(file, error ? error : std::make_error_code(std::errc::io_error)));
  return sync_path(file);
}

std::string read_file(const fs::path& file) {
  std::ifstream in(file);
  std::stringstream content;
  content << in.rdbuf();
  return content.str();
}

constexpr const char* secret_files[] = {"master.key", "operator.key"};

/// Tells a wrong master.key without telling anything of it.
std::string mark_of(const privacy::Secrets& secrets) { return secrets.derived16("backup", "master.key"); }

std::string hex(std::string_view bytes) {
  std::string out;
  for (const unsigned char byte : bytes) {
    out += "0123456789abcdef"[byte >> 4];
    out += "0123456789abcdef"[byte & 15];
  }
  return out;
}

std::function<void(std::uint64_t, std::uint64_t)> shown(Progress& progress) {
  return [&progress](std::uint64_t at, std::uint64_t of) { progress.show(at, of); };
}

/// Removes what was not finished, whatever ends this.
struct Unfinished {
  fs::path folder;
  ~Unfinished() {
    std::error_code ignored;
    if (!folder.empty()) fs::remove_all(folder, ignored);
  }
};

bool is_empty_or_absent(const fs::path& folder) {
  std::error_code error;
  return !fs::exists(folder, error) || (fs::is_directory(folder, error) && fs::is_empty(folder, error));
}

// ---- back-up

std::string manifest_of(const log::CopiedLog& copy, const privacy::Secrets& secrets, bool with_secrets, bool running) {
  rapidjson::StringBuffer buffer;
  codec::JsonWriter w(buffer);
  w.StartObject();
  codec::write_key(w, "format");
  w.Int(format);
  write_text(w, "made_at", codec::format_time(system_clock().now()));
  write_text(w, "log_id", copy.log_id);
  codec::write_key(w, "records");
  w.Uint64(copy.records);
  codec::write_key(w, "events");
  w.Uint64(copy.events);
  codec::write_key(w, "heads");
  w.StartArray();
  for (const auto head : copy.heads) w.Uint64(head);
  w.EndArray();
  write_text(w, "master_key_mark", hex(mark_of(secrets)));
  codec::write_key(w, "with_secrets");
  w.Bool(with_secrets);
  codec::write_key(w, "server_was_running");
  w.Bool(running);
  w.EndObject();
  return std::string(codec::written(buffer)) + "\n";
}

result<std::string> sums_of(const fs::path& folder) {
  std::string sums;
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  for (const auto& file : files) {
    const auto sum = privacy::sha256_of_file(file);
    if (!sum) return tl::unexpected(sum.error());
    sums += *sum + "  " + fs::relative(file, folder).string() + "\n";
  }
  return sums;
}

/// What of the settings is a file of its own, and goes with the secrets: any of them may hold a key or a password.
result<void> copy_settings(const Context& context, const Configuration& configuration, const fs::path& part, bool with_secrets) {
  const auto data = context.data();
  std::error_code ignored;
  if (with_secrets) {
    const auto folder = secrets_folder(configuration, data);
    for (const char* name : secret_files)
      if (fs::exists(folder / name, ignored))
        if (auto copied = copy_to_disk(folder / name, part / "secrets" / name); !copied) return copied;
    if (const auto file = configuration_file(context.config_flag, data))
      if (auto copied = copy_to_disk(*file, part / "secrets" / "onboard.toml"); !copied) return copied;
  }
  if (fs::exists(data / "model-changes.json", ignored))
    if (auto copied = copy_to_disk(data / "model-changes.json", part / "model-changes.json"); !copied) return copied;
  if (configuration.is_set("flows.path"))
    for (const auto& entry : fs::directory_iterator(configuration.text("flows.path"), ignored))
      if (entry.path().extension() == ".json")
        if (auto copied = copy_to_disk(entry.path(), part / "flows" / entry.path().filename()); !copied) return copied;
  return write_file(part / "settings-in-force.toml", configuration.print());
}

/// Without PostgreSQL the back-up is as good, but for these.
result<void> copy_decisions(const Configuration& configuration, const log::CopiedLog& copy, const fs::path& part) {
  if (!configuration.is_set("postgres.url")) return {};
  const auto decisions = projections::read_decisions(configuration.text("postgres.url"), copy.log_id, copy.heads);
  if (decisions) return decisions->empty() ? result<void>() : write_file(part / decisions_file, *decisions + "\n");
  note("What operators skipped and paused, and their record, is not in this back-up: " + decisions.error().message());
  return {};
}

result<log::CopiedLog> make_backup(const Context& context, const fs::path& part, bool with_secrets) {
  const auto path = embedded_log_path(context);
  if (!path) return tl::unexpected(path.error());
  const auto configuration = context.configuration();
  if (!configuration) return tl::unexpected(configuration.error());
  std::error_code ignored;
  if (!fs::exists(context.data() / "keys.db", ignored))
    return failure(Errc::not_found,
                   (context.data() / "keys.db").string() + " is missing: a back-up without it could not be read");
  const auto secrets = secrets_of(context);
  if (!secrets) return tl::unexpected(secrets.error());
  const bool running = read_running(context.data()).has_value();

  Progress pages("pages", 0);
  auto copy = log::copy_sqlite(*path, part / "events.db", shown(pages));
  pages.done();
  if (!copy) return copy;
  // After the log: a key is durable before the first event that needs it, so every key that this log needs is there by now.
  if (auto copied = privacy::copy_keys(context.data() / "keys.db", part / "keys.db"); !copied)
    return tl::unexpected(copied.error());
  if (auto copied = copy_settings(context, *configuration, part, with_secrets); !copied) return tl::unexpected(copied.error());
  if (auto copied = copy_decisions(*configuration, *copy, part); !copied) return tl::unexpected(copied.error());

  Progress records("records", 0);
  const auto report = log::verify_sqlite(part / "events.db", shown(records));
  records.done();
  if (!report) return tl::unexpected(report.error());
  for (const char* rest : {"events.db-wal", "events.db-shm", "keys.db-wal", "keys.db-shm"}) fs::remove(part / rest, ignored);
  if (auto written = write_file(part / "manifest.json", manifest_of(*copy, *secrets, with_secrets, running)); !written)
    return tl::unexpected(written.error());
  const auto sums = sums_of(part);
  if (!sums) return tl::unexpected(sums.error());
  if (auto written = write_file(part / sums_file, *sums); !written) return tl::unexpected(written.error());
  return copy;
}

// ---- restore

struct Manifest {
  std::string log_id, made_at, master_key_mark;
  std::uint64_t records = 0, events = 0;
  bool server_was_running = false;
};

result<Manifest> read_manifest(const fs::path& backup) {
  const auto parsed = codec::parse_json(read_file(backup / "manifest.json"));
  if (!parsed || !parsed->IsObject()) return failure(Errc::damaged, "manifest.json cannot be read");
  if (codec::int_member(*parsed, "format") != format)
    return failure(Errc::not_in_this_version, "the back-up has format " + std::to_string(codec::int_member(*parsed, "format")));
  return Manifest{std::string(codec::string_member(*parsed, "log_id")),
                  std::string(codec::string_member(*parsed, "made_at")),
                  std::string(codec::string_member(*parsed, "master_key_mark")),
                  static_cast<std::uint64_t>(codec::int_member(*parsed, "records")),
                  static_cast<std::uint64_t>(codec::int_member(*parsed, "events")),
                  codec::bool_member(*parsed, "server_was_running")};
}

/// Every file is there, as it was written.
result<void> check_sums(const fs::path& backup) {
  std::ifstream in(backup / sums_file);
  if (!in) return failure(Errc::not_found, backup.string() + " is no whole back-up: it has no " + sums_file);
  bool has_log = false;
  for (std::string line; std::getline(in, line);) {
    if (line.size() < 67) return failure(Errc::damaged, (backup / sums_file).string() + " is damaged");
    const std::string name = line.substr(66);
    has_log |= name == "events.db";
    const auto sum = privacy::sha256_of_file(backup / name);
    if (!sum || *sum != line.substr(0, 64))
      return failure(Errc::damaged, (backup / name).string() + (sum ? " is not as it was written" : " is missing"));
  }
  if (!has_log) return failure(Errc::damaged, (backup / sums_file).string() + " is damaged");
  return {};
}

/// The folder that holds master.key, and it is the right one.
result<fs::path> find_secrets(const fs::path& backup, const std::string& flag, const Manifest& manifest) {
  const fs::path folder = flag.empty() ? backup / "secrets" : fs::path(flag);
  std::error_code ignored;
  if (!fs::exists(folder / "master.key", ignored))
    return failure(Errc::wrong_use, (folder / "master.key").string() +
                                        " is missing: the back-up was made without secrets, or they lie elsewhere; --secrets "
                                        "FOLDER says where");
  const auto secrets = privacy::Secrets::load_or_create(folder);
  if (!secrets) return tl::unexpected(secrets.error());
  if (hex(mark_of(*secrets)) != manifest.master_key_mark)
    return failure(Errc::wrong_use,
                   (folder / "master.key").string() + " is another installation's: it opens nothing of this back-up");
  return folder;
}

/// What becomes of the database that postgres.url names.
struct DatabasePlan {
  bool empties = false;
  bool begins = false;  // it is empty, or will be
};

/// A database that has more than the back-up, or something else, would be refused by the server, or worse: be taken for its own.
result<void> check_database(const Configuration& configuration, const Manifest& manifest, const fs::path& backup_log,
                            const RestoreOptions& options, bool has_decisions, DatabasePlan& plan) {
  if (!configuration.is_set("postgres.url")) {
    note("postgres.url is not set: point it at an empty database, the server makes the read models again from the log");
    return {};
  }
  const auto database = projections::inspect_database(configuration.text("postgres.url"));
  if (!database && has_decisions)
    return tl::unexpected(Failure{
        database.error().code,
        database.error().detail + ": what operators skipped and paused goes into it before the server starts; when PostgreSQL is "
                                  "there again, repeat this. Or restore without that, with --set postgres.url= : the read models "
                                  "then get what was skipped"});
  if (!database) {
    note("PostgreSQL cannot be reached (" + database.error().detail + "): its database must be empty when the server starts");
    return {};
  }
  plan.begins = database->empty || options.reset_read_models;
  plan.empties = !database->empty && options.reset_read_models;
  if (plan.begins) return {};
  if (options.same_log && database->log_id == manifest.log_id) {
    const auto end = log::open_sqlite_reader(backup_log);
    if (!end) return tl::unexpected(end.error());
    const auto beyond = std::any_of(database->checkpoints.begin(), database->checkpoints.end(), [&](const auto& checkpoint) {
      return checkpoint.partition >= (*end)->partitions() || checkpoint.sequence > (*end)->head(checkpoint.partition);
    });
    if (!beyond) return {};
    return failure(Errc::wrong_use,
                   "the database (postgres.url) has events that the back-up does not have: without --same-log, and with "
                   "--reset-read-models, the log goes on from the back-up and the read models are made again from it");
  }
  return failure(
      Errc::wrong_use,
      "the database (postgres.url) is not empty; --reset-read-models drops all that is in it, and the server makes the "
      "read models again from the log");
}

result<std::string> restore_log(const fs::path& backup, const fs::path& part, const fs::path& secrets_folder, bool same_log,
                                const Manifest& manifest) {
  std::error_code error;
  for (const char* name : {"events.db", "events.db.head", "keys.db"}) {
    if (!fs::exists(backup / name, error)) continue;  // an empty log has no head
    if (auto copied = copy_to_disk(backup / name, part / name); !copied) return tl::unexpected(copied.error());
  }
  const std::string log_file = (part / "events.db").string();
  Progress first("records checked", 0);
  const auto report = log::verify_sqlite(log_file, shown(first));
  first.done();
  if (!report) return tl::unexpected(report.error());
  if (report->records != manifest.records || report->log_id != manifest.log_id)
    return failure(Errc::damaged, "the log is not the one that the manifest tells of");
  std::string log_id = manifest.log_id;
  if (!same_log) {
    std::array<std::uint8_t, 16> random{};
    system_random().fill(random);
    log_id = hex({reinterpret_cast<const char*>(random.data()), random.size()});
    Progress renaming("records under the new log id", 0);
    if (auto renamed = log::rename_sqlite(log_file, log_id, shown(renaming)); !renamed) return tl::unexpected(renamed.error());
    renaming.done();
    Progress again("records checked", 0);
    if (const auto verified = log::verify_sqlite(log_file, shown(again)); !verified) return tl::unexpected(verified.error());
  }
  const auto secrets = privacy::Secrets::load_or_create(secrets_folder);
  if (!secrets) return tl::unexpected(secrets.error());
  auto keys = privacy::SqliteKeyStore::open_read_only(part / "keys.db", secrets->wrapping_key());
  if (!keys) return tl::unexpected(keys.error());
  auto log = log::open_sqlite_reader(log_file);
  if (!log) return tl::unexpected(log.error());
  Progress events("events checked", 0);
  const auto check = exporting::check_events(**log, **keys, shown(events));
  events.done();
  if (!check) return tl::unexpected(check.error());
  if (check->damaged > 0) return failure(Errc::damaged, check->damage.front());
  return log_id;
}

/// Empties the database if that was asked for, and puts into it what operators decided. What is paused now, by name.
result<std::vector<std::string>> prepare_database(const Configuration& configuration, const DatabasePlan& plan,
                                                  const fs::path& decisions) {
  const std::string& url = configuration.text("postgres.url");
  if (plan.empties)
    if (auto emptied = projections::empty_database(url); !emptied) return tl::unexpected(emptied.error());
  std::error_code ignored;
  if (!plan.begins || !fs::exists(decisions, ignored)) return {};
  auto paused = projections::write_decisions(url, read_file(decisions));
  if (!paused)
    return tl::unexpected(Failure{paused.error().code, paused.error().detail + ": what operators skipped and paused did not get "
                                                                               "into the database, and nothing was restored"});
  return *std::move(paused);
}

result<void> nothing_is_there(const std::vector<fs::path>& files) {
  std::error_code error;
  for (const auto& file : files)
    if (fs::exists(file, error))
      return failure(Errc::wrong_use,
                     file.string() + " is there: a restore overwrites nothing; --data-dir names another data folder");
  return {};
}

/// The log first: with it and without keys a server refuses to start; the other way round it would begin an empty log.
result<void> move_into_place(const fs::path& part, const fs::path& data, const fs::path& secrets, const fs::path& log_file) {
  std::error_code error;
  std::vector<std::pair<fs::path, fs::path>> moves = {{part / "events.db.head", fs::path(log_file.string() + ".head")},
                                                      {part / "events.db", log_file}};
  if (fs::create_directories(secrets, error)) ::chmod(secrets.c_str(), 0700);
  for (const char* name : secret_files) moves.emplace_back(part / name, secrets / name);
  for (const char* name : {"keys.db", "onboard.toml", "model-changes.json", "flows"})
    moves.emplace_back(part / name, data / name);
  for (const auto& [from, to] : moves) {
    if (!fs::exists(from, error)) continue;
    fs::rename(from, to, error);
    if (error == std::errc::cross_device_link && fs::is_regular_file(from)) {
      if (auto copied = copy_to_disk(from, to); !copied) return copied;
      error.clear();
    }
    if (error) return tl::unexpected(about_file(to, error));
  }
  for (const fs::path& folder : {log_file.parent_path(), secrets})
    if (auto synced = sync_path(folder); !synced) return synced;
  return sync_path(data);
}

}  // namespace

int backup(const Context& context, const std::string& folder, bool with_secrets) {
  const fs::path target = fs::absolute(folder).lexically_normal(), part = target.string() + ".part";
  if (!is_empty_or_absent(target))
    return complain({Errc::wrong_use, target.string() + " is not empty: a back-up overwrites nothing"});
  std::error_code error;
  fs::remove_all(part, error);
  fs::create_directories(part, error);
  if (error) return complain(about_file(part, error));
  Unfinished unfinished{part};
  const auto copy = make_backup(context, part, with_secrets);
  if (!copy) return complain(copy.error());
  fs::remove(target, error);
  fs::rename(part, target, error);
  if (error) return complain(about_file(target, error));
  unfinished.folder.clear();
  if (auto synced = sync_path(target.parent_path()); !synced) return complain(synced.error());
  std::cout << target.string() << ": " << copy->records << " records, " << copy->events << " events, verified\n";
  const auto where = secrets_folder(*context.configuration(), context.data()).string();
  note(with_secrets
           ? "It holds master.key: whoever has this folder can read everybody's texts. --without-secrets leaves the secrets out."
           : "It holds no secrets: keep master.key and operator.key of " + where +
                 " elsewhere; without master.key the back-up cannot be restored.");
  return exit_good;
}

int restore(const Context& context, const RestoreOptions& options) {
  const fs::path backup = options.folder, data = context.data(), part = data / "restore.part";
  if (auto sums = check_sums(backup); !sums) return complain(sums.error());
  const auto manifest = read_manifest(backup);
  if (!manifest) return complain(manifest.error());
  const auto secrets = find_secrets(backup, options.secrets, *manifest);
  if (!secrets) return complain(secrets.error());
  if (const auto running = read_running(data))
    return complain({Errc::wrong_use, "a server runs in " + data.string() + " (pid " + std::to_string(running->pid) + ")"});

  Context with_settings = context;
  std::error_code error;
  if (!configuration_file(context.config_flag, data) && fs::exists(backup / "secrets" / "onboard.toml", error))
    with_settings.config_flag = (backup / "secrets" / "onboard.toml").string();
  const auto configuration = with_settings.configuration();
  if (!configuration) return complain(configuration.error());
  if (configuration->text("log.kind") == "kafka")
    return complain({Errc::bad_configuration,
                     "log.kind = \"kafka\": a back-up is of an embedded log and becomes one; set log.kind to \"sqlite\" for it"});
  const auto log_file = app::log_file(*configuration, data);
  // Secrets that lie apart may have outlived what is restored.
  const auto secrets_to = secrets_folder(*configuration, data);
  const bool has_secrets = secrets_to != data && fs::exists(secrets_to / "master.key", error);
  if (has_secrets)
    if (const auto same = find_secrets(backup, secrets_to.string(), *manifest); !same) return complain(same.error());
  std::vector<fs::path> new_files = {log_file, fs::path(log_file.string() + ".head"), data / "keys.db"};
  if (!has_secrets)
    for (const char* name : secret_files) new_files.push_back(secrets_to / name);
  if (auto none = nothing_is_there(new_files); !none) return complain(none.error());
  DatabasePlan plan;
  const bool has_decisions = fs::exists(backup / decisions_file, error);
  if (auto good = check_database(*configuration, *manifest, backup / "events.db", options, has_decisions, plan); !good)
    return complain(good.error());

  if (fs::create_directories(data, error)) ::chmod(data.c_str(), 0711);
  if (fs::create_directories(log_file.parent_path(), error)) ::chmod(log_file.parent_path().c_str(), 0711);
  // A server that a supervisor starts meanwhile is refused: by the lock, and by the folder `part` should this be killed.
  const auto lock = log::WriterLock::take(log_file.string() + ".lock");
  if (!lock) return complain(lock.error());
  if (auto none = nothing_is_there(new_files); !none) return complain(none.error());
  fs::remove_all(part, error);
  fs::create_directories(part, error);
  if (error) return complain(about_file(part, error));
  const Unfinished unfinished{part};
  const auto log_id = restore_log(backup, part, *secrets, options.same_log, *manifest);
  if (!log_id) return complain(log_id.error());
  for (const char* name : {secret_files[0], secret_files[1], "onboard.toml"}) {
    const fs::path to = name == std::string_view("onboard.toml") ? data : secrets_to;
    if (!fs::exists(*secrets / name, error) || fs::exists(to / name, error)) continue;
    if (auto copied = copy_to_disk(*secrets / name, part / name); !copied) return complain(copied.error());
  }
  if (fs::exists(backup / "model-changes.json", error))
    if (auto copied = copy_to_disk(backup / "model-changes.json", part / "model-changes.json"); !copied)
      return complain(copied.error());
  if (!fs::exists(data / "flows", error) && fs::exists(backup / "flows", error))
    fs::copy(backup / "flows", part / "flows", fs::copy_options::recursive, error);
  // Before the log: whoever has it would apply what was skipped.
  const auto paused = prepare_database(*configuration, plan, backup / decisions_file);
  if (!paused) return complain(paused.error());
  if (auto moved = move_into_place(part, data, secrets_to, log_file); !moved) return complain(moved.error());

  std::cout << data.string() << ": " << manifest->events << " events as of " << manifest->made_at << ", verified; log " << *log_id
            << '\n';
  if (options.same_log) note("It goes on as the same log: true only if nothing was written after the back-up.");
  else
    note("It goes on as a new log: what was acknowledged after " + manifest->made_at +
         " is gone, and cursors and read models of the old log fit it nowhere.");
  if (fs::exists(backup / "flows", error) && configuration->text("flows.path") != (data / "flows").string())
    note("Flow files lie in " + (data / "flows").string() + "; flows.path is " +
         (configuration->is_set("flows.path") ? configuration->text("flows.path") : "not set") +
         ". Published versions are in the log in any case.");
  for (const std::string& name : *paused)
    note(name + " is paused, as it was: its tables are empty until onboardctl projections resume " + name);
  if (has_decisions && !plan.begins && !options.same_log)
    note("No database knows what operators skipped and paused, and their record: " + (backup / decisions_file).string());
  note("Start it: infra/run, or onboardd --data-dir " + data.string() +
       ". The read models are made again from the log meanwhile.");
  return exit_good;
}

}  // namespace onboarding::app
