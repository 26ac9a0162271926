#include "infra/app/server/app.hpp"

#include <prometheus/registry.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <condition_variable>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include "actors/model/providers/client.hpp"
#include "actors/model/providers/embeddings.hpp"
#include "actors/runtime.hpp"
#include "actors/session/flow_registry.hpp"
#include "events/codec/codec.hpp"
#include "events/codec/envelope.hpp"
#include "events/log/kafka/kafka_log.hpp"
#include "events/log/memory/memory_log.hpp"
#include "events/log/sqlite/sqlite_log.hpp"
#include "events/pricing/pricing.hpp"
#include "events/privacy/kafka/kafka_key_store.hpp"
#include "events/privacy/memory_key_store.hpp"
#include "events/privacy/sqlite_key_store.hpp"
#include "http/http_server.hpp"
#include "http/ops_server.hpp"
#include "infra/app/config/kafka_settings.hpp"
#include "infra/app/server/cluster.hpp"
#include "infra/app/server/day_use_file.hpp"
#include "infra/app/server/logging.hpp"
#include "infra/app/server/model_changes.hpp"
#include "infra/app/server/no_read_models.hpp"
#include "infra/app/server/server_id.hpp"
#include "projections/postgres/read_models.hpp"
#include "projections/postgres/share_store.hpp"

namespace onboarding::app {
namespace {

using std::chrono::milliseconds;

milliseconds from_seconds(double seconds) { return milliseconds(static_cast<std::int64_t>(seconds * 1000)); }

result<void> make_folder(const std::filesystem::path& folder) {
  std::error_code error;
  const bool made = std::filesystem::create_directories(folder, error);
  if (error) return failure(Errc::bad_data_folder, folder.string() + ": " + error.message());
  if (made) ::chmod(folder.c_str(), 0711);  // the private PostgreSQL's user passes through; the files in it are 0600
  return {};
}

/// The shipped flow, and one of every *.json file in the configured folder, in order of name.
result<std::vector<domain::Flow>> read_flows(const Configuration& c) {
  std::vector<domain::Flow> flows = {domain::default_flow()};
  if (!c.is_set("flows.path")) return flows;
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(c.text("flows.path"), error))
    if (entry.path().extension() == ".json") files.push_back(entry.path());
  if (error)
    return failure(Errc::bad_configuration,
                   c.source("flows.path") + ": flows.path: " + c.text("flows.path") + ": " + error.message());
  std::sort(files.begin(), files.end());
  for (const auto& file : files) {
    std::ifstream in(file);
    std::stringstream content;
    content << in.rdbuf();
    auto flow = codec::parse_flow(content.str());
    if (!flow) return failure(Errc::bad_configuration, file.string() + ": " + flow.error().message());
    if (auto sound = domain::check(*flow); !sound)
      return failure(Errc::bad_configuration, file.string() + ": " + sound.error().message());
    const auto same = std::find_if(flows.begin(), flows.end(), [&](const domain::Flow& f) { return f.name == flow->name; });
    if (same == flows.end()) flows.push_back(std::move(*flow));
    else *same = std::move(*flow);
  }
  return flows;
}

std::string to_hex(std::string_view bytes) {
  std::string hex;
  for (const char c : bytes) {
    hex += "0123456789abcdef"[static_cast<unsigned char>(c) >> 4];
    hex += "0123456789abcdef"[static_cast<unsigned char>(c) & 15];
  }
  return hex;
}

std::string with_port(const std::string& address, std::uint16_t port) {
  return address.substr(0, address.rfind(':') + 1) + std::to_string(port);
}

SessionSettings session_settings(const Configuration& c) {
  SessionSettings s;
  s.limits.abandon_after = std::chrono::seconds(static_cast<std::int64_t>(c.number("sessions.abandon_after_minutes") * 60));
  s.limits.close_after = std::chrono::seconds(static_cast<std::int64_t>(c.number("sessions.close_after_minutes") * 60));
  s.limits.max_messages = static_cast<std::uint32_t>(c.integer("sessions.max_messages"));
  s.queued_deadline = from_seconds(c.number("queue_mode.max_wait_minutes") * 60);
  s.max_in_memory = static_cast<std::size_t>(c.integer("sessions.max_in_memory"));
  s.passivate_after = from_seconds(c.number("sessions.passivate_after_seconds"));
  return s;
}

projections::PostgresOptions postgres_options(const Configuration& c, std::shared_ptr<spdlog::logger> logger) {
  projections::PostgresOptions p;
  p.url = c.text("postgres.url");
  p.pool_size = static_cast<std::uint32_t>(c.integer("postgres.pool_size"));
  p.max_overflow = static_cast<std::uint32_t>(c.integer("postgres.max_overflow"));
  p.pool_timeout = from_seconds(c.number("postgres.pool_timeout_seconds"));
  p.recycle = std::chrono::seconds(c.integer("postgres.recycle_seconds"));
  p.pre_ping = c.flag("postgres.pre_ping");
  p.replica_url = c.text("postgres.replica_url");
  p.replica_max_lag = from_seconds(c.number("postgres.replica_max_lag_seconds"));
  p.metrics_ttl = from_seconds(c.number("postgres.metrics_ttl_seconds"));
  p.slow_query = from_seconds(c.number("postgres.slow_query_seconds"));
  p.logger = std::move(logger);
  return p;
}

http::HttpOptions http_options(const Configuration& c, std::string operator_key) {
  http::HttpOptions h;
  h.listen = c.text("http.listen");
  h.admin_listen = c.text("http.admin_listen");
  h.threads = static_cast<std::uint32_t>(c.integer("http.threads"));
  h.operator_key = std::move(operator_key);
  h.throttle.requests_per_minute_per_ip = static_cast<std::uint32_t>(c.integer("throttle.requests_per_minute_per_ip"));
  h.throttle.messages_per_minute_per_ip =
      c.is_set("throttle.messages_per_minute_per_ip") ? c.integer("throttle.messages_per_minute_per_ip") : -1;
  h.throttle.trusted_proxies = c.list("throttle.trusted_proxies");
  h.limits.max_streams_per_client = static_cast<std::size_t>(c.integer("throttle.streams_per_ip"));
  h.limits.event_stream_age = std::chrono::milliseconds(static_cast<std::int64_t>(60'000 * c.number("http.stream_minutes")));
  h.limits.drain_time = milliseconds(static_cast<std::int64_t>(1'000 * c.number("http.drain_seconds")));
  h.cors_origins = c.list("http.cors_origins");
  h.version = std::string(version());
  return h;
}

}  // namespace

// Members are destroyed from the last to the first: each stands after everything it uses.
struct App::Parts {
  AppOptions options;
  std::shared_ptr<spdlog::logger> server_log;
  std::shared_ptr<prometheus::Registry> metrics = std::make_shared<prometheus::Registry>();
  std::optional<privacy::Secrets> secrets;
  std::string operator_key;
  std::unique_ptr<log::EventLog> log;
  log::KafkaLog* kafka = nullptr;  // the log, when it is that one
  std::unique_ptr<privacy::KeyStore> keys;
  privacy::KafkaKeyStore* kafka_keys = nullptr;  // the keys, when they are those
  privacy::SqliteKeyStore* keys_db = nullptr;    // or these
  std::vector<domain::Flow> configured_flows;
  std::unique_ptr<session::FlowRegistry> flows;
  std::unique_ptr<session::FlowDesk> flow_desk;
  NoReadModels no_read_models;
  std::unique_ptr<projections::ReadModels> read_models;
  std::unique_ptr<model::CurlLoop> curl;
  std::unique_ptr<model::ShareStore> share_store;
  std::unique_ptr<ModelChanges> model_changes;
  std::unique_ptr<DayUseFile> day_use;
  std::unique_ptr<Runtime> runtime;
  std::unique_ptr<Cluster> cluster;  // with Kafka
  std::unique_ptr<http::AccessLog> access_log;
  std::unique_ptr<http::HttpServer> http;
  std::string listen, admin_listen;

  bool has(Role role) const { return options.roles.contains(role); }
  const Configuration& c() const { return options.configuration; }

  result<void> open_log();
  std::function<void(const std::string&)> kafka_note() const {
    return [logger = server_log](const std::string& what) { logger->warn("Kafka: {}", what); };
  }
  result<void> check_keys() const;
  result<void> check_log_id() const;
  void look_for_lost_keys() const;
  result<void> open_secrets();
  result<void> start_read_models();
  result<void> start_runtime();
  result<void> start_http();
  result<void> start_ops();
  result<void> join_cluster();
  http::HealthReport health() const;
};

/// Keys that were lost must not be made anew: the store would be empty, and everybody's session would read as erased.
result<void> App::Parts::check_keys() const {
  const auto there = [&](const char* name) {
    struct stat file {};
    return ::stat((options.data / name).c_str(), &file) == 0 && file.st_size > 0;
  };
  const auto lost = [&](const char* name, const std::string& sealed) {
    return failure(Errc::bad_data_folder,
                   (options.data / name).string() + " is missing, and " + sealed +
                       " cannot be read without it: restore it from the back-up, or begin with an empty data folder");
  };
  bool has_events = false;
  if (c().text("log.kind") != "memory")
    for (std::uint32_t p = 0; p < log->partitions() && !has_events; ++p) has_events = log->head(p) > 0;
  const bool has_master_key = std::filesystem::exists(secrets_folder(c(), options.data) / "master.key");
  if (kafka != nullptr && !has_master_key && has_events)
    return failure(Errc::bad_data_folder,
                   (secrets_folder(c(), options.data) / "master.key").string() +
                       " is missing, and the event log in Kafka cannot be read without it: copy master.key and "
                       "operator.key of a server that uses this log, or from the back-up");
  if (!has_master_key && (has_events || there("keys.db")))
    return lost("master.key", there("keys.db") ? "keys.db" : "the event log");
  if (kafka == nullptr && !there("keys.db") && has_events) return lost("keys.db", "the event log");
  return {};
}

/// A log that vanished (a volume that is not mounted) must not begin anew in silence: the data folder knows whose it is.
result<void> App::Parts::check_log_id() const {
  if (c().text("log.kind") == "memory" || !has(Role::sessions)) return {};
  const auto file = options.data / "log.id";
  std::string known;
  std::ifstream(file) >> known;
  if (known == log->log_id()) return {};
  if (!known.empty())
    return failure(Errc::bad_data_folder, "the event log is " + log->log_id() + ", and this data folder belongs to log " + known +
                                              ": mount or restore that one; or, if another log is meant, remove " +
                                              file.string());
  std::ofstream out(file);
  out << log->log_id() << '\n';
  if (!out.flush()) return failure(Errc::bad_data_folder, file.string() + " cannot be written");
  return {};
}

/// Keys older than the log are found when a session is read; the newest records tell at once.
void App::Parts::look_for_lost_keys() const {
  constexpr std::uint64_t newest = 16;
  std::set<std::string> sessions;
  for (std::uint32_t p = 0; p < log->partitions(); ++p) {
    const auto head = log->head(p);
    const auto records = log->read_partition(p, head > newest ? head - newest : 0, newest, 1 << 20);
    if (!records) continue;
    for (const log::Record& record : *records) {
      const auto seal = codec::read_seal(record);
      if (!seal || seal->key_id.empty()) continue;
      if (seal->erases) sessions.erase(record.stream);
      else if (const auto key = keys->find(seal->user, seal->key_id); !key && key.error().code == privacy::Errc::erased)
        sessions.insert(record.stream);
    }
  }
  if (!sessions.empty())
    server_log->error(
        "keys.db lacks the keys of {} of the newest sessions, and nobody erased them: an older keys.db lies under the log. "
        "Restore the "
        "newest one; until then these sessions answer 503 (onboardctl events verify names them)",
        sessions.size());
}

result<void> App::Parts::open_secrets() {
  auto loaded = privacy::Secrets::load_or_create(secrets_folder(c(), options.data));
  if (!loaded) return tl::unexpected(loaded.error());
  secrets.emplace(std::move(*loaded));
  auto key = privacy::Secrets::load_or_create_operator_key(secrets_folder(c(), options.data));
  if (!key) return tl::unexpected(key.error());
  operator_key = std::move(*key);
  if (c().text("log.kind") == "memory") {
    keys = std::make_unique<privacy::MemoryKeyStore>();
    return {};
  }
  const auto file = options.data / "keys.db";
  if (kafka != nullptr) {
    const auto of_log = kafka_settings(c(), log_file(c(), options.data));
    if (!of_log) return tl::unexpected(of_log.error());
    auto of_keys = kafka_key_settings(*of_log, file);
    of_keys.on_note = kafka_note();
    auto store = privacy::KafkaKeyStore::open(std::move(of_keys), secrets->wrapping_key(), *log,
                                              [this](std::uint32_t partition) { return kafka->owns(partition); });
    if (!store) return tl::unexpected(store.error());
    kafka_keys = store->get();
    keys = std::move(*store);
    return {};
  }
  auto store = has(Role::sessions) ? privacy::SqliteKeyStore::open(file, secrets->wrapping_key())
                                   : privacy::SqliteKeyStore::open_read_only(file, secrets->wrapping_key());
  if (!store) return tl::unexpected(store.error());
  keys_db = store->get();
  keys = std::move(*store);
  return {};
}

result<void> App::Parts::open_log() {
  const auto partitions = static_cast<std::uint32_t>(c().integer("log.partitions"));
  if (c().text("log.kind") == "memory") {
    log = std::make_unique<log::MemoryLog>(log::make_memory_store(partitions));
    return {};
  }
  const auto file = log_file(c(), options.data);
  if (auto made = make_folder(file.parent_path()); !made) return made;
  if (!has(Role::sessions)) {
    // With Kafka too: what the server on this host has read is at hand.
    auto reader = log::open_sqlite_reader(file.string());
    if (!reader) return tl::unexpected(reader.error());
    log = std::move(*reader);
    return {};
  }
  if (c().text("log.kind") == "kafka") {
    auto settings = kafka_settings(c(), file);
    if (!settings) return tl::unexpected(settings.error());
    const std::string listens = c().text("cluster.listen");
    if (!c().is_set("cluster.address") && (listens.starts_with("0.0.0.0:") || listens.starts_with("[::]:")))
      return failure(Errc::bad_configuration, c().source("cluster.listen") + ": cluster.listen = \"" + listens +
                                                  "\" tells no other server where this one is: set cluster.address to the "
                                                  "host:port at which they reach it");
    settings->on_note = kafka_note();
    settings->own_everything = false;  // the cluster says what is owned here
    auto opened = log::KafkaLog::open(std::move(*settings));
    if (!opened) return tl::unexpected(opened.error());
    kafka = opened->get();
    log = std::move(*opened);
    return {};
  }
  log::SqliteOptions sqlite;
  sqlite.path = file.string();
  sqlite.partitions = partitions;
  sqlite.on_room = [logger = server_log](const std::string& what) {
    if (what.empty()) logger->info("there is room for the log again");
    else logger->error("nothing can be stored, everybody is told 503: {}", what);
  };
  auto opened = log::SqliteLog::open(std::move(sqlite));
  if (!opened) return tl::unexpected(opened.error());
  log = std::move(*opened);
  return {};
}

result<void> App::Parts::start_read_models() {
  if (!c().is_set("postgres.url")) {
    server_log->warn("postgres.url is not set: no read models; onboarding works, profiles and statistics do not");
    return {};
  }
  auto made = projections::make_read_models(postgres_options(c(), server_log), *log, *keys, *metrics, system_clock());
  if (!made) {
    const bool replica = made.error().detail.starts_with("postgres.replica_url");
    return failure(Errc::bad_configuration,
                   c().source(replica ? "postgres.replica_url" : "postgres.url") + ": " + made.error().message());
  }
  read_models = std::move(*made);
  read_models->start(has(Role::projections));
  return {};
}

result<void> App::Parts::start_runtime() {
  auto read = read_flows(c());
  if (!read) return tl::unexpected(read.error());
  configured_flows = std::move(*read);
  // With several servers, whoever has their partition publishes them.
  auto opened = session::FlowRegistry::open(*log, *keys, system_clock(), system_random(),
                                            kafka != nullptr ? std::vector<domain::Flow>() : configured_flows);
  if (!opened) return tl::unexpected(opened.error());
  flows = std::move(*opened);
  flow_desk = std::make_unique<session::FlowDesk>(*flows);

  auto providers = configured_providers(c());
  if (!providers) return tl::unexpected(providers.error());
  auto plans = configured_plans(c());
  if (!plans) return tl::unexpected(plans.error());
  auto changes = ModelChanges::load(options.data);
  if (!changes) return tl::unexpected(changes.error());
  model_changes = std::move(*changes);

  RuntimeOptions runtime_options;
  runtime_options.log = log.get();
  runtime_options.keys = keys.get();
  runtime_options.secrets = &*secrets;
  runtime_options.clock = &system_clock();
  runtime_options.random = &system_random();
  runtime_options.flows = flows.get();
  runtime_options.metrics = metrics.get();
  runtime_options.sessions = session_settings(c());
  // A note that lies on one server's disk would begin an erasure again when others have finished it long ago.
  if (c().text("log.kind") == "sqlite") runtime_options.erasures = options.data / "erasures";
  runtime_options.all_partitions = kafka == nullptr;
  runtime_options.model.offline_enabled = c().flag("model.offline.enabled");
  runtime_options.model.fallback_order = c().list("model.fallback_order");
  runtime_options.model.plans = std::move(*plans);
  runtime_options.model.queue = {c().flag("queue_mode.auto") ? model::QueueMode::automatic : model::QueueMode::off,
                                 static_cast<std::uint32_t>(c().integer("queue_mode.active_sessions_above")),
                                 static_cast<std::uint32_t>(c().integer("queue_mode.rate_limit_errors_5m_above"))};
  runtime_options.model.cost = [](std::string_view provider, std::string_view model, const domain::Usage& usage,
                                  domain::Timestamp at) {
    return pricing::cost_nanodollars(provider, model, usage, at).value_or(-1);
  };
  runtime_options.model.cache = {c().flag("model.cache.enabled"), std::chrono::seconds(c().integer("model.cache.ttl_seconds")),
                                 static_cast<std::size_t>(c().integer("model.cache.max_bytes"))};
  if (c().is_set("model.shared_budget_url")) {
    runtime_options.model.share_rules.max_servers = static_cast<std::uint32_t>(c().integer("model.max_servers"));
    auto books = projections::make_share_store(c().text("model.shared_budget_url"), runtime_options.model.share_rules);
    if (!books)
      return failure(Errc::bad_configuration,
                     c().source("model.shared_budget_url") + ": model.shared_budget_url: " + books.error().message());
    share_store = std::move(*books);
    runtime_options.model.shares = share_store.get();
    auto id = server_id(options.data, system_random());
    if (!id) return tl::unexpected(id.error());
    runtime_options.model.server_id = std::move(*id);
    runtime_options.model.books = privacy::sha256_hex(c().text("model.shared_budget_url"));
  }
  model_changes->apply(*providers, runtime_options.model.queue);
  if (!providers->empty()) {
    curl = std::make_unique<model::CurlLoop>();
    day_use = std::make_unique<DayUseFile>(options.data);
    runtime_options.model.day_use = day_use->kept();
    runtime_options.model.day_use_is_last = day_use->was_last();
    runtime_options.model.keep_day_use = [this](model::DayUse use, bool last) { day_use->keep(std::move(use), last); };
  }
  if (c().flag("model.embeddings.enabled")) {
    const auto openai = std::find_if(providers->begin(), providers->end(), [](const auto& p) { return p.name == "openai"; });
    if (openai == providers->end())
      return failure(Errc::bad_configuration, c().source("model.embeddings.enabled") +
                                                  ": model.embeddings.enabled is true, but model.openai.api_key is not set");
    auto& embeddings = runtime_options.model.embeddings;
    embeddings.provider = embedding_settings(c(), *openai);
    embeddings.dimensions = static_cast<std::uint32_t>(c().integer("model.embeddings.dimensions"));
    embeddings.threshold = static_cast<float>(c().number("model.embeddings.threshold"));
    auto embedder = model::make_embedder(embeddings.provider, embeddings.dimensions, *curl);
    if (!embedder) return failure(Errc::bad_configuration, "model.embeddings: " + embedder.error().message());
    runtime_options.model.embedder = std::move(*embedder);
  }
  for (model::ProviderSettings& provider : *providers) {
    auto client = model::make_client(provider, *curl);
    if (!client) return failure(Errc::bad_configuration, "model." + provider.name + ": " + client.error().message());
    runtime_options.model.clients.push_back(std::move(*client));
    runtime_options.model.providers.push_back(std::move(provider));
  }
  runtime = std::make_unique<Runtime>(std::move(runtime_options));
  model_changes->attach(runtime->model());
  if (kafka != nullptr)
    cluster = std::make_unique<Cluster>(*kafka, *kafka_keys, *flows, configured_flows, *runtime, *metrics, server_log);
  return {};
}

result<void> App::Parts::start_http() {
  access_log = http::make_access_log(request_sink(options.data));
  projections::Queries& queries = read_models ? read_models->queries() : no_read_models;
  http::HttpPorts ports{runtime->gateway(),
                        queries,
                        *secrets,
                        *log,
                        *metrics,
                        system_clock(),
                        system_random(),
                        [this] { return health(); },
                        access_log.get(),
                        model_changes.get(),
                        read_models ? &read_models->control() : nullptr,
                        flow_desk.get(),
                        cluster.get()};
  auto http_settings = http_options(c(), operator_key);
  if (cluster) {
    http_settings.internal_listen = c().text("cluster.listen");
    http_settings.instance_key = to_hex(secrets->derived16("instance", ""));
  }
  auto started = http::start_http(http_settings, ports);
  if (!started) return tl::unexpected(started.error());
  http = std::move(*started);
  listen = with_port(c().text("http.listen"), http->port());
  if (c().is_set("http.admin_listen")) admin_listen = with_port(c().text("http.admin_listen"), http->admin_port());
  return {};
}

/// Of a process that only follows the log.
result<void> App::Parts::start_ops() {
  if (!has(Role::projections) || !c().is_set("http.ops_listen")) return {};
  projections::Queries& queries = read_models ? read_models->queries() : no_read_models;
  auto started = http::start_ops(c().text("http.ops_listen"), {queries, *metrics, system_clock(), system_random()});
  if (!started) return tl::unexpected(started.error());
  http = std::move(*started);
  listen = with_port(c().text("http.ops_listen"), http->port());
  return {};
}

/// Once this server answers: others pass requests on to it as soon as it has partitions.
result<void> App::Parts::join_cluster() {
  if (!cluster) return {};
  auto settings = kafka_settings(c(), {});
  if (!settings) return tl::unexpected(settings.error());
  log::MembershipOptions membership;
  membership.kafka = std::move(*settings);
  membership.kafka.on_note = kafka_note();
  membership.address =
      c().is_set("cluster.address") ? c().text("cluster.address") : with_port(c().text("cluster.listen"), http->internal_port());
  membership.instance = c().is_set("cluster.instance") ? c().text("cluster.instance") : membership.address;
  membership.session_timeout = from_seconds(c().number("log.session_timeout_seconds"));
  return cluster->join(std::move(membership));
}

http::HealthReport App::Parts::health() const {
  http::HealthReport report;
  const model::ModelStatusPtr status = runtime->model_status();
  for (const model::ProviderStatus& p : status->providers) report.providers.push_back({p.name, p.model, p.enabled, p.healthy});
  report.offline_extractor = status->offline_enabled;
  report.calls_waiting = status->waiting;
  if (keys_db != nullptr && !keys_db->writable()) report.not_ready = "keys.db cannot be written";
  struct statvfs disk {};
  if (::statvfs(options.data.c_str(), &disk) == 0) {
    report.disk_total_bytes = static_cast<std::uint64_t>(disk.f_blocks) * disk.f_frsize;
    report.disk_free_bytes = static_cast<std::uint64_t>(disk.f_bavail) * disk.f_frsize;
  }
  return report;
}

result<std::set<Role>> parse_roles(std::string_view text) {
  std::set<Role> roles;
  std::stringstream in{std::string(text)};
  for (std::string name; std::getline(in, name, ',');) {
    if (name == "api") roles.insert(Role::api);
    else if (name == "sessions") roles.insert(Role::sessions);
    else if (name == "projections") roles.insert(Role::projections);
    else if (name == "jobs") roles.insert(Role::jobs);
    else return failure(Errc::bad_configuration, "--roles: \"" + name + "\" is none of api, sessions, projections, jobs");
  }
  if (roles.empty()) return failure(Errc::bad_configuration, "--roles names none");
  if (roles.contains(Role::api) != roles.contains(Role::sessions))
    return failure(Errc::not_in_this_version,
                   "--roles: api and sessions go together: a server that answers also has partitions of its own");
  return roles;
}

App::App(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

result<std::unique_ptr<App>> App::start(AppOptions options) {
  auto parts = std::make_unique<Parts>();
  parts->options = std::move(options);
  Parts& p = *parts;
  if (auto made = make_folder(p.options.data); !made) return tl::unexpected(made.error());
  std::error_code ignored;
  if (const auto part = p.options.data / "restore.part"; std::filesystem::exists(part, ignored))
    return failure(Errc::bad_data_folder, part.string() +
                                              " is there: a restore is under way, or was cut off: let it end, or repeat it "
                                              "(and first remove what it says is there already)");
  p.server_log = make_server_log();
  spdlog::set_default_logger(p.server_log);  // actors have no logger of their own: theirs are lines of the process
  for (const std::string& name : p.c().strange_variables())
    p.server_log->warn("the environment variable {} is no setting of this version", name);
  if (auto done = p.open_log(); !done) return tl::unexpected(done.error());
  if (auto done = p.check_keys(); !done) return tl::unexpected(done.error());
  if (auto done = p.check_log_id(); !done) return tl::unexpected(done.error());
  if (auto done = p.open_secrets(); !done) return tl::unexpected(done.error());
  if (p.has(Role::sessions)) {
    p.look_for_lost_keys();
    if (auto done = p.start_runtime(); !done) return tl::unexpected(done.error());
  }
  if (p.has(Role::projections) || p.has(Role::api)) {
    if (auto done = p.start_read_models(); !done) return tl::unexpected(done.error());
  }
  if (p.has(Role::api)) {
    if (auto done = p.start_http(); !done) return tl::unexpected(done.error());
    if (auto done = p.join_cluster(); !done) return tl::unexpected(done.error());
  } else if (auto done = p.start_ops(); !done) {
    return tl::unexpected(done.error());
  }
  // Beside it another process may serve: the file is the server's.
  if (auto written =
          !p.has(Role::api) ? result<void>() : write_running(p.options.data, ::getpid(), p.c(), p.listen, p.admin_listen);
      !written)
    return tl::unexpected(written.error());
  if (p.has(Role::api))
    p.server_log->info("ready: http://{} (admin: {})", p.listen, p.admin_listen.empty() ? "none" : "http://" + p.admin_listen);
  else if (!p.listen.empty()) p.server_log->info("ready: http://{}/readyz (also /livez, /metrics)", p.listen);
  else p.server_log->info("ready");
  return std::unique_ptr<App>(new App(std::move(parts)));
}

App::~App() {
  Parts& p = *parts_;
  if (p.cluster) p.cluster->leave();
  if (p.http) p.http->stop();
  p.cluster.reset();
  p.runtime.reset();
  if (p.read_models) p.read_models->stop();
  if (p.has(Role::api)) remove_running(p.options.data);
  p.server_log->info("stopped");
}

const std::string& App::listen() const { return parts_->listen; }
const std::string& App::admin_listen() const { return parts_->admin_listen; }
bool App::fenced() const { return parts_->runtime && parts_->runtime->status().fenced; }

bool App::drain(milliseconds patience, const std::function<bool()>& hurry) {
  Parts& p = *parts_;
  if (!p.runtime) return true;
  const auto deadline = std::chrono::steady_clock::now() + patience;
  if (p.cluster) {
    p.server_log->info("leaving: others take what is served here");
    p.cluster->leave();
  }
  p.server_log->info("draining: answering what was accepted");
  if (p.http) p.http->begin_drain();

  // Shared, since the gateway may still call back after we gave up.
  struct Waiting {
    std::mutex mutex;
    std::condition_variable changed;
    bool drained = false;
  };
  auto waiting = std::make_shared<Waiting>();
  p.runtime->gateway().drain([waiting] {
    const std::lock_guard lock(waiting->mutex);
    waiting->drained = true;
    waiting->changed.notify_all();
  });
  bool drained = false;
  {
    std::unique_lock lock(waiting->mutex);
    while (!waiting->drained && !hurry() && std::chrono::steady_clock::now() < deadline)
      waiting->changed.wait_for(lock, milliseconds(50));
    drained = waiting->drained;
  }
  if (p.http) {
    const auto left =
        std::max(milliseconds(200), std::chrono::duration_cast<milliseconds>(deadline - std::chrono::steady_clock::now()));
    drained = p.http->finish_drain(left, hurry) && drained;
  }
  if (!drained) p.server_log->warn("gave up on requests that were not answered in time");
  return drained;
}

std::string_view version() { return ONBOARDING_VERSION; }

}  // namespace onboarding::app
