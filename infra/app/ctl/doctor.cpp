// doctor: looks at an installation from outside, whether its server runs or not, and says of each thing whether it is well and what
// to do when it is not. Changes nothing.
#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <iomanip>
#include <iostream>

#include "events/clock.hpp"
#include "events/codec/json.hpp"
#include "events/log/sqlite/sqlite_copy.hpp"
#include "events/log/sqlite/sqlite_log.hpp"
#include "events/privacy/secrets.hpp"
#include "events/privacy/sqlite_key_store.hpp"
#include "infra/app/ctl/admin_client.hpp"
#include "infra/app/ctl/commands.hpp"
#include "infra/app/ctl/http_client.hpp"
#include "infra/app/ctl/json_text.hpp"
#include "projections/postgres/inspect.hpp"

namespace onboarding::app {
namespace {

namespace fs = std::filesystem;

enum class Level { ok, warn, fail };
constexpr const char* words[] = {"ok", "warn", "fail"};
constexpr std::int64_t clocks_may_differ_ms = 2'000;
constexpr int oldest_postgres = 14, tried_postgres = 15;

struct Finding {
  std::string part;
  Level level = Level::ok;
  std::string says, to_do;
};

class Doctor {
 public:
  explicit Doctor(const Context& context) : data_(context.data()), running_(read_running(context.data())), context_(context) {}

  std::vector<Finding> examine() {
    configuration();
    data_folder();
    disk();
    if (configuration_ && configuration_->text("log.kind") != "sqlite")
      found("log", Level::ok, "log.kind is \"" + configuration_->text("log.kind") + "\": not looked at from here");
    else log();
    keys();
    if (configuration_) {
      database();
      server();
      if (running_ && configuration_->is_set("postgres.url")) projections();
      providers();
    }
    return std::move(findings_);
  }

 private:
  void found(std::string part, Level level, std::string says, std::string to_do = {}) {
    findings_.push_back({std::move(part), level, std::move(says), std::move(to_do)});
  }
  void configuration();
  void data_folder();
  void disk();
  void log();
  void keys();
  void database();
  void server();
  void projections();
  void ports();
  void providers();

  const fs::path data_;
  const std::optional<Running> running_;
  const Context& context_;
  std::optional<Configuration> configuration_;
  std::optional<log::LogEnd> end_;
  std::vector<Finding> findings_;
};

void Doctor::configuration() {
  auto loaded = context_.configuration();
  if (!loaded)
    return found("configuration", Level::fail, loaded.error().message(), "mend it; onboardctl config check tries again");
  configuration_ = std::move(*loaded);
  const auto file = configuration_file(context_.config_flag, data_);
  if (const auto& strange = configuration_->strange_variables(); !strange.empty())
    return found("configuration", Level::warn, "the variable " + strange.front() + " is no setting of this version",
                 "is it misspelt? onboardctl config list shows all");
  found("configuration", Level::ok,
        running_ ? "of the running server (pid " + std::to_string(running_->pid) + ")"
        : file   ? file->string()
                 : "no file, all defaults");
}

void Doctor::data_folder() {
  struct stat folder {};
  if (::stat(data_.c_str(), &folder) != 0)
    return found("data folder", Level::fail, data_.string() + " is not there",
                 "--data-dir or ONBOARD_DATA_DIR says where it is; infra/run makes one");
  if (!S_ISDIR(folder.st_mode)) return found("data folder", Level::fail, data_.string() + " is no folder", "name another one");
  if ((folder.st_mode & 022) != 0)
    return found("data folder", Level::fail, "others may write into " + data_.string(), "chmod go-w " + data_.string());
  if (::access(data_.c_str(), W_OK | X_OK) != 0)
    return found("data folder", Level::fail, "we may not write into " + data_.string(), "run as its owner, or chown it");
  for (const char* name : {"master.key", "operator.key", "keys.db", "running.toml", "onboard.toml"}) {
    struct stat file {};
    if (::stat((data_ / name).c_str(), &file) == 0 && (file.st_mode & 077) != 0)
      return found("data folder", Level::fail, std::string(name) + " can be read by others",
                   "chmod 600 " + (data_ / name).string() + ", and find out who read it");
  }
  found("data folder", Level::ok, data_.string());
}

void Doctor::disk() {
  struct statvfs disk {};
  if (::statvfs(data_.c_str(), &disk) != 0 || disk.f_blocks == 0) return;
  const auto percent = 100 * disk.f_bavail / disk.f_blocks;
  const auto gib = static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize) / (1 << 30);
  std::ostringstream says;
  says << percent << " % free, " << std::fixed << std::setprecision(1) << gib << " GiB";
  found("disk",
        percent < 20   ? Level::fail
        : percent < 30 ? Level::warn
                       : Level::ok,
        says.str(), percent < 30 ? "make room, or move the data folder while the server is stopped" : "");
}

void Doctor::log() {
  if (!configuration_) return;
  const auto file = log_file(*configuration_, data_);
  std::error_code error;
  if (!fs::exists(file, error)) return found("log", Level::ok, "none yet: the first start makes it");
  const auto end = log::look_at_end(file.string());
  if (!end)
    return found("log", Level::fail, end.error().message(), "onboardctl events verify says more; restore the newest back-up");
  if (!end->head_fits)
    return found(
        "log", Level::fail,
        "its head file does not fit: acknowledged " + std::to_string(end->acknowledged) + " records, there are " +
            std::to_string(end->records),
        "the server will not start: restore the newest back-up; onboardctl events rebuild-head says what accepting it gives up");
  end_ = *end;
  found("log", Level::ok,
        std::to_string(end->records) + " records, " + std::to_string(end->acknowledged) + " acknowledged; id " + end->log_id);
  const auto now = system_clock().now();
  if (end->last_time && *end->last_time > now + std::chrono::milliseconds(clocks_may_differ_ms))
    return found("clock", Level::warn,
                 "it is " + codec::format_time(now) + ", and the newest event is of " + codec::format_time(*end->last_time),
                 "the clock was set back: until it has caught up, due times are late; run a time service");
  if (now < domain::Timestamp(std::chrono::seconds(1'760'000'000)))
    return found("clock", Level::fail, "it is " + codec::format_time(now) + ": before this program was made",
                 "set it; run a time service");
  found("clock", Level::ok, codec::format_time(now));
}

void Doctor::keys() {
  std::error_code error;
  const bool has_events = end_ && end_->records > 0;
  const auto folder = configuration_ ? secrets_folder(*configuration_, data_) : data_;
  for (const auto& file : {folder / "master.key", data_ / "keys.db"})
    if (!fs::exists(file, error)) {
      if (has_events)
        found("keys", Level::fail,
              file.filename().string() + " is missing: what is sealed in the log cannot be read, and the server will not start",
              "restore it from the back-up");
      else found("keys", Level::ok, "none yet: the first start makes them");
      return;
    }
  const auto secrets = privacy::Secrets::load_or_create(folder);
  if (!secrets) return found("keys", Level::fail, secrets.error().message(), "restore master.key, mode 0600");
  const auto store = privacy::SqliteKeyStore::open_read_only(data_ / "keys.db", secrets->wrapping_key());
  if (!store) return found("keys", Level::fail, store.error().message(), "restore master.key and keys.db of one installation");
  found("keys", Level::ok, "keys.db opens with master.key");
}

void Doctor::database() {
  if (!configuration_->is_set("postgres.url"))
    return found("PostgreSQL", Level::warn, "postgres.url is not set: no profiles, no statistics",
                 "infra/run starts one; or set postgres.url");
  const auto report = projections::inspect_database(configuration_->text("postgres.url"));
  if (!report)
    return found("PostgreSQL", Level::fail, report.error().detail,
                 "start it, or mend postgres.url; onboarding goes on meanwhile, the read models catch up");
  if (!report->takes_writes)
    return found("PostgreSQL", Level::fail, "it is a standby, or read only",
                 "point postgres.url at the primary; several hosts with target_session_attrs=read-write find it");
  found("PostgreSQL",
        report->major < oldest_postgres   ? Level::fail
        : report->major != tried_postgres ? Level::warn
                                          : Level::ok,
        "version " + report->version + ", " + std::to_string(report->bytes >> 20) + " MiB",
        report->major != tried_postgres ? "tests run on version 15" : "");
  if (std::abs(report->clock_ahead_ms) > clocks_may_differ_ms)
    found("PostgreSQL clock", Level::warn, std::to_string(report->clock_ahead_ms) + " ms ahead of ours",
          "run a time service on both machines");
  if (!report->migrations_wrong.empty())
    found("migrations", Level::fail, report->migrations_wrong, "use the program that made this database, or an empty database");
  else
    found("migrations", report->migrations_missing > 0 && running_ ? Level::warn : Level::ok,
          report->migrations_missing > 0
              ? std::to_string(report->migrations_missing) + " are applied when the server reaches PostgreSQL next"
              : "all applied",
          report->migrations_missing > 0 && running_ ? "the running server is older than this program: restart it" : "");
  for (const std::string& schema : report->left_schemas)
    found("left tables", Level::warn,
          "schema " + schema + " is of tables that were given up: something that is not ours is in it or depends on it",
          "see what you need of it, then DROP SCHEMA " + schema + " CASCADE");
  if (!end_) return;
  if (!report->log_id.empty() && report->log_id != end_->log_id)
    return found("read models", Level::fail, "they belong to log " + report->log_id + ", ours is " + end_->log_id,
                 "point postgres.url at an empty database: they are made again from the log");
  const auto log = log::open_sqlite_reader(log_file(*configuration_, data_).string());
  if (!log) return;
  std::uint64_t behind = 0;
  for (const auto& checkpoint : report->checkpoints) {
    if (checkpoint.partition >= (*log)->partitions() || checkpoint.sequence > (*log)->head(checkpoint.partition))
      return found("read models", Level::fail,
                   checkpoint.projection + " is at " + std::to_string(checkpoint.partition) + ":" +
                       std::to_string(checkpoint.sequence) + ", beyond the end of the log",
                   "the log is an older copy: restore the newest one, or point postgres.url at an empty database");
    behind = std::max(behind, (*log)->head(checkpoint.partition) - checkpoint.sequence);
  }
  if (report->parked_keys > 0)
    return found("read models", Level::warn,
                 std::to_string(report->parked_keys) + " keys are parked behind an event that could not be applied",
                 "onboardctl projections parked");
  found("read models", Level::ok, "at most " + std::to_string(behind) + " events behind in a partition, nobody parked");
}

void Doctor::server() {
  if (!running_) return ports();
  HttpClient client;
  const auto url = "http://" + running_->configuration.text("http.listen");
  const auto answer = client.send(url + "/readyz", {}, {}, std::chrono::seconds(5));
  if (!answer)
    return found("server", Level::fail,
                 "pid " + std::to_string(running_->pid) + " runs and does not answer: " + answer.error().detail,
                 "look into its log; restart it");
  if (answer->status != 200)
    return found("server", Level::fail, url + "/readyz says " + std::to_string(answer->status),
                 "curl '" + url + "/readyz?verbose' says why");
  const auto health = client.send(url + "/api/metrics/health", {}, {}, std::chrono::seconds(5));
  const auto parsed = health ? codec::parse_json(health->body) : result<rapidjson::Document>(failure(Errc::not_running));
  const std::string status = parsed && parsed->IsObject() ? std::string(codec::string_member(*parsed, "status")) : "unknown";
  found("server", health && health->status == 200 ? Level::ok : Level::warn, url + " is ready, health: " + status,
        health && health->status == 200 ? "" : "curl " + url + "/api/metrics/health says which part");
}

/// As the running server sees them.
void Doctor::projections() {
  HttpClient client;
  const auto answer = admin::ask(context_, client, "/api/admin/projections");
  const auto parsed = answer ? codec::parse_json(answer->body) : result<rapidjson::Document>(failure(Errc::not_running));
  const auto* all = parsed && parsed->IsObject() ? codec::find_member(*parsed, "projections") : nullptr;
  if (all == nullptr || !all->IsArray())
    return found("projections", Level::warn, "the server does not tell of them", "is http.admin_listen set?");
  std::string wrong, paused;
  for (const auto& projection : all->GetArray()) {
    const std::string name(codec::string_member(projection, "name")), state(codec::string_member(projection, "state"));
    if (state == "paused") paused += (paused.empty() ? "" : ", ") + name;
    else if (state != "running")
      wrong += (wrong.empty() ? "" : "; ") + name + " " + state + ": " + std::string(codec::string_member(projection, "detail"));
  }
  if (!wrong.empty()) return found("projections", Level::fail, wrong, "onboardctl projections list says since when and why");
  if (!paused.empty())
    return found("projections", Level::warn, "paused: " + paused, "onboardctl projections resume NAME --reason …");
  found("projections", Level::ok, "all running");
}

/// Whether a server could listen.
void Doctor::ports() {
  for (const char* key : {"http.listen", "http.admin_listen"}) {
    const std::string& address = configuration_->text(key);
    const auto colon = address.rfind(':');
    if (colon == std::string::npos) continue;
    std::string host = address.substr(0, colon);
    if (host.size() > 1 && host.front() == '[') host = host.substr(1, host.size() - 2);
    addrinfo hints{}, *list = nullptr;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE;
    if (::getaddrinfo(host.c_str(), address.substr(colon + 1).c_str(), &hints, &list) != 0) {
      found("ports", Level::fail, std::string(key) + ": " + address + " is no address", "mend it");
      continue;
    }
    const int fd = ::socket(list->ai_family, list->ai_socktype | SOCK_CLOEXEC, 0);
    const int yes = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    const bool free = fd >= 0 && ::bind(fd, list->ai_addr, list->ai_addrlen) == 0;
    const std::string why = free ? "" : std::error_code(errno, std::generic_category()).message();
    ::freeaddrinfo(list);
    if (fd >= 0) ::close(fd);
    found("ports", free ? Level::ok : Level::fail, std::string(key) + " " + address + (free ? " is free" : ": " + why),
          free ? "" : "stop who listens there, or set " + std::string(key));
  }
  found("server", Level::ok, "does not run");
}

void Doctor::providers() {
  // What a running server was given in its environment is not ours to see: its own word counts.
  if (running_) {
    HttpClient client;
    const auto health = client.send("http://" + running_->configuration.text("http.listen") + "/api/metrics/health", {}, {},
                                    std::chrono::seconds(5));
    const auto parsed = health ? codec::parse_json(health->body) : result<rapidjson::Document>(failure(Errc::not_running));
    if (!parsed || !parsed->IsObject()) return;
    const auto* llm = codec::find_member(*parsed, "llm_api");
    const std::string status = llm != nullptr ? std::string(codec::string_member(*llm, "status")) : "unknown";
    return found("models", status == "ok" ? Level::ok : Level::warn, "llm_api: " + status,
                 status == "ok" ? "" : "onboardctl model status says which provider, and why");
  }
  const auto configured = configured_providers(*configuration_);
  if (!configured) return found("models", Level::fail, configured.error().message(), "mend it");
  std::string names;
  for (const auto& provider : *configured)
    if (provider.enabled) names += (names.empty() ? "" : ", ") + provider.name;
  if (!names.empty()) return found("models", Level::ok, "keys are set for " + names);
  const bool offline = configuration_->flag("model.offline.enabled");
  found("models", offline ? Level::warn : Level::fail,
        offline ? "no provider has a key: the offline extractor answers"
                : "no provider has a key, and the offline extractor is off: nobody answers",
        "set OPENAI_API_KEY, GEMINI_API_KEY, DEEPSEEK_API_KEY or ANTHROPIC_API_KEY");
}

}  // namespace

int doctor(const Context& context, bool json) {
  const auto findings = Doctor(context).examine();
  Level worst = Level::ok;
  for (const auto& finding : findings) worst = std::max(worst, finding.level);
  if (json) {
    rapidjson::StringBuffer buffer;
    codec::JsonWriter w(buffer);
    w.StartObject();
    write_text(w, "status", words[static_cast<int>(worst)]);
    codec::write_key(w, "checks");
    w.StartArray();
    for (const auto& finding : findings) {
      w.StartObject();
      write_text(w, "part", finding.part);
      write_text(w, "status", words[static_cast<int>(finding.level)]);
      write_text(w, "says", finding.says);
      if (!finding.to_do.empty()) write_text(w, "to_do", finding.to_do);
      w.EndObject();
    }
    w.EndArray();
    w.EndObject();
    std::cout << codec::written(buffer) << '\n';
  } else {
    for (const auto& finding : findings) {
      std::cout << std::left << std::setw(6) << words[static_cast<int>(finding.level)] << std::setw(18) << finding.part
                << finding.says << '\n';
      if (finding.level != Level::ok && !finding.to_do.empty())
        std::cout << std::setw(24) << ""
                  << "→ " << finding.to_do << '\n';
    }
  }
  return worst == Level::fail ? exit_failed : exit_good;
}

}  // namespace onboarding::app
