#include <signal.h>

#include <atomic>
#include <condition_variable>
#include <iostream>
#include <mutex>

#include "actors/session/flow_registry.hpp"
#include "events/codec/codec.hpp"
#include "events/codec/json.hpp"
#include "events/log/sqlite/sqlite_log.hpp"
#include "infra/app/ctl/commands.hpp"

namespace onboarding::app {
namespace {

constexpr std::size_t page_records = 512, page_bytes = 8 << 20;

std::string describe(const codec::DecodedEvent& event, const std::string& log_id, const TailOptions& options) {
  const std::string json = codec::to_cloud_event(event, log_id, options.open ? codec::Reveal::open : codec::Reveal::sealed);
  if (options.json) return json;
  std::string data;
  if (const auto parsed = codec::parse_json(json)) {
    if (const rapidjson::Value* member = codec::find_member(*parsed, "data")) data = codec::canonical_json(*member);
  }
  return codec::format_time(event.recorded.time) + "  " + to_string(event.position()) + "  " + event.stream + " v" +
         std::to_string(event.recorded.version) + "  " + std::string(domain::type_name(event.recorded.event)) + "  " + data;
}

/// Prints a partition's events after `seen` and moves it. False with the failure said.
result<void> print_partition(OpenedLog& opened, const std::string& log_id, std::uint32_t partition, std::uint64_t& seen,
                             const TailOptions& options) {
  for (;;) {
    const auto records = opened.log->read_partition(partition, seen, page_records, page_bytes);
    if (!records) return tl::unexpected(records.error());
    if (records->empty()) return {};
    for (const log::Record& record : *records) {
      seen = record.last_sequence();
      if (!options.session.empty() && record.stream != options.session) continue;
      const auto events = codec::decode(record, *opened.keys);
      if (!events) return tl::unexpected(events.error());
      for (const codec::DecodedEvent& event : *events) std::cout << describe(event, log_id, options) << '\n';
    }
    std::cout.flush();
    if (!std::cout) return failure(Errc::bad_data_folder, "standard output was closed");
  }
}

/// All of a stream's events. Blocking.
result<std::vector<codec::DecodedEvent>> read_stream(OpenedLog& opened, std::uint32_t partition, const std::string& stream) {
  std::vector<codec::DecodedEvent> out;
  for (std::uint64_t version = 0;;) {
    std::mutex mutex;
    std::condition_variable arrived;
    std::optional<result<std::vector<log::Record>>> page;
    opened.log->read_stream(partition, stream, version, page_records, [&](result<std::vector<log::Record>> read) {
      const std::lock_guard lock(mutex);
      page = std::move(read);
      arrived.notify_one();
    });
    std::unique_lock lock(mutex);
    arrived.wait(lock, [&] { return page.has_value(); });
    if (!*page) return tl::unexpected(page->error());
    if ((*page)->empty()) return out;
    for (const log::Record& record : **page) {
      auto events = codec::decode(record, *opened.keys);
      if (!events) return tl::unexpected(events.error());
      for (auto& event : *events) out.push_back(std::move(event));
      version = record.last_version();
    }
  }
}

std::string shown(const domain::Personal& text, bool open) { return text.erased ? (open ? "[erased]" : "[sealed]") : text.text; }

std::string shown(const domain::FieldValue& value, bool open) {
  return value.canonical.empty() ? (open ? "[erased]" : "[sealed]") : value.canonical;
}

void print_json(const std::string& id, const domain::State& state, bool open) {
  rapidjson::StringBuffer buffer;
  codec::JsonWriter w(buffer);
  const auto text = [&](std::string_view key, std::string_view value) {
    codec::write_key(w, key);
    codec::write_string(w, value);
  };
  w.StartObject();
  text("session_id", id);
  text("user_id", shown(state.user_id, open));
  text("status", domain::to_string(state.status));
  text("flow", state.flow ? state.flow->name : "");
  codec::write_key(w, "version");
  w.Uint64(state.version);
  text("created_at", codec::format_time(state.created_at));
  text("updated_at", codec::format_time(state.updated_at));
  codec::write_key(w, "fields");
  w.StartObject();
  for (const auto& [name, field] : state.fields)
    if (field.value) text(name, shown(*field.value, open));
  w.EndObject();
  codec::write_key(w, "missing");
  w.StartArray();
  for (const std::string& name : domain::missing_fields(state)) codec::write_string(w, name);
  w.EndArray();
  codec::write_key(w, "turns");
  w.Uint64(state.turns.size());
  w.EndObject();
  std::cout << codec::written(buffer) << '\n';
}

void print_text(const std::string& id, const domain::State& state, bool open) {
  std::cout << id << "  " << domain::to_string(state.status) << "  version " << state.version << "  flow "
            << (state.flow ? state.flow->name : "?") << "\n  user      " << shown(state.user_id, open) << "\n  created   "
            << codec::format_time(state.created_at) << "\n  updated   " << codec::format_time(state.updated_at)
            << "\n  missing  ";
  for (const std::string& name : domain::missing_fields(state)) std::cout << ' ' << name;
  std::cout << "\n  fields\n";
  for (const auto& [name, field] : state.fields)
    if (field.value) std::cout << "    " << name << " = " << shown(*field.value, open) << '\n';
  std::cout << "  conversation\n";
  std::cout << "    host: " << shown(state.greeting, open) << '\n';
  for (const domain::Turn& turn : state.turns) {
    std::cout << "    user: " << shown(turn.text, open) << '\n';
    if (turn.replied_version) std::cout << "    host: " << shown(turn.reply, open) << '\n';
  }
}

}  // namespace

int events_tail(const Context& context, const TailOptions& options) {
  auto opened = open_log(context, options.open);
  if (!opened) return complain(opened.error());
  const std::string log_id = opened->log->log_id();
  const std::uint32_t partitions = opened->log->partitions();
  std::vector<std::uint64_t> seen(partitions, 0);
  if (options.last)
    for (std::uint32_t p = 0; p < partitions; ++p) {
      const std::uint64_t head = opened->log->head(p);
      seen[p] = head > *options.last ? head - *options.last : 0;
    }
  std::optional<LogGrowth> growth;
  if (options.follow) growth.emplace(*opened->log);
  for (;;) {
    for (std::uint32_t p = 0; p < partitions; ++p)
      if (auto printed = print_partition(*opened, log_id, p, seen[p], options); !printed) return complain(printed.error());
    if (!options.follow) return exit_good;
    growth->wait(std::chrono::hours(1));
  }
}

int events_verify(const Context& context) {
  const auto path = log_path(context);
  if (!path) return complain(path.error());
  const auto report = log::verify_sqlite(*path, [last = 0](std::uint64_t done, std::uint64_t of) mutable {
    const int percent = of ? static_cast<int>(done * 100 / of) : 100;
    if (percent / 10 == last / 10) return;
    last = percent;
    note(std::to_string(percent) + " %");
  });
  if (!report) return complain(report.error());
  std::cout << "good: " << report->records << " records, " << report->events << " events, " << report->streams << " streams in "
            << report->partitions.size() << " partitions\n";
  return exit_good;
}

int events_stats(const Context& context, bool json) {
  const auto path = log_path(context);
  if (!path) return complain(path.error());
  const auto report = log::sqlite_stats(*path);
  if (!report) return complain(report.error());
  if (!json) {
    std::cout << "log        " << report->log_id << "\nrecords    " << report->records << "\nevents     " << report->events
              << "\nstreams    " << report->streams << "\npayload    " << report->payload_bytes << " bytes\nfiles      "
              << report->file_bytes << " bytes\n";
    for (std::size_t p = 0; p < report->partitions.size(); ++p)
      if (report->partitions[p].records)
        std::cout << "  " << p << ": " << report->partitions[p].records << " records, head " << report->partitions[p].head
                  << '\n';
    return exit_good;
  }
  rapidjson::StringBuffer buffer;
  codec::JsonWriter w(buffer);
  w.StartObject();
  codec::write_key(w, "log_id");
  codec::write_string(w, report->log_id);
  const std::pair<const char*, std::uint64_t> counts[] = {{"records", report->records},
                                                          {"events", report->events},
                                                          {"streams", report->streams},
                                                          {"payload_bytes", report->payload_bytes},
                                                          {"file_bytes", report->file_bytes}};
  for (const auto& [name, value] : counts) {
    codec::write_key(w, name);
    w.Uint64(value);
  }
  codec::write_key(w, "heads");
  w.StartArray();
  for (const auto& partition : report->partitions) w.Uint64(partition.head);
  w.EndArray();
  w.EndObject();
  std::cout << codec::written(buffer) << '\n';
  return exit_good;
}

int events_rebuild_head(const Context& context, bool yes) {
  const auto path = log_path(context);
  if (!path) return complain(path.error());
  if (!yes) {
    note("The head file beside " + *path +
         " says how far the server acknowledged. Writing it anew accepts the log as it is:\n"
         "acknowledged records that are missing at its end are given up, and nobody will be told again that they are.\n"
         "Restore the newest copy of the log and its head file first, if there is one. To go on: onboardctl events rebuild-head "
         "--yes");
    return exit_wrong_use;
  }
  const auto configuration = context.configuration();
  if (!configuration) return complain(configuration.error());
  log::SqliteOptions options;
  options.path = *path;
  options.partitions = static_cast<std::uint32_t>(configuration->integer("log.partitions"));
  options.rebuild_head = true;
  if (auto opened = log::SqliteLog::open(std::move(options)); !opened) return complain(opened.error());
  const auto report = log::sqlite_stats(*path);
  if (!report) return complain(report.error());
  std::cout << "the head file names record " << report->acknowledged << " of " << report->records << '\n';
  return exit_good;
}

int session_show(const Context& context, const std::string& session_id, bool json, bool open) {
  const auto partition = partition_of_session(session_id);
  if (!partition) return complain({Errc::bad_configuration, "\"" + session_id + "\" is not a session id"});
  auto opened = open_log(context, open);
  if (!opened) return complain(opened.error());
  if (*partition >= opened->log->partitions()) return complain({Errc::not_found, "no session " + session_id});
  auto flows = session::FlowRegistry::open(*opened->log, *opened->keys, system_clock(), system_random(), {});
  if (!flows) return complain(flows.error());
  const auto events = read_stream(*opened, *partition, session_id);
  if (!events) return complain(events.error());
  if (events->empty()) return complain({Errc::not_found, "no session " + session_id});
  domain::State state = domain::initial();
  for (const codec::DecodedEvent& event : *events) domain::evolve(state, event.recorded, **flows);
  if (json) print_json(session_id, state, open);
  else print_text(session_id, state, open);
  return exit_good;
}

}  // namespace onboarding::app
