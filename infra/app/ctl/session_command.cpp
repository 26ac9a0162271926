// session show: the state of a session, folded from the log, now or as it was.
#include <algorithm>
#include <condition_variable>
#include <iostream>
#include <mutex>

#include "actors/session/flow_registry.hpp"
#include "events/codec/codec.hpp"
#include "events/codec/json.hpp"
#include "infra/app/ctl/commands.hpp"
#include "infra/app/ctl/json_text.hpp"

namespace onboarding::app {
namespace {

constexpr std::size_t page_records = 512;

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

void print_json(const std::string& id, const domain::State& state, const SessionShowOptions& options) {
  rapidjson::StringBuffer buffer;
  codec::JsonWriter w(buffer);
  w.StartObject();
  write_text(w, "session_id", id);
  write_text(w, "user_id", shown(state.user_id, options.open));
  write_text(w, "status", domain::to_string(state.status));
  write_text(w, "flow", state.flow ? state.flow->name : "");
  codec::write_key(w, "version");
  w.Uint64(state.version);
  if (!options.as_of.empty()) write_text(w, "as_of", options.as_of);
  write_text(w, "created_at", codec::format_time(state.created_at));
  write_text(w, "updated_at", codec::format_time(state.updated_at));
  if (state.completed_at) write_text(w, "completed_at", codec::format_time(*state.completed_at));
  codec::write_key(w, "fields");
  w.StartObject();
  for (const auto& [name, field] : state.fields)
    if (field.value) write_text(w, name, shown(*field.value, options.open));
  w.EndObject();
  codec::write_key(w, "missing");
  w.StartArray();
  for (const std::string& name : domain::missing_fields(state)) codec::write_string(w, name);
  w.EndArray();
  codec::write_key(w, "turns");
  w.Uint64(state.turns.size());
  codec::write_key(w, "conversation");
  w.StartArray();
  const auto line = [&](const char* role, const domain::Personal& said, domain::Timestamp time) {
    w.StartObject();
    write_text(w, "role", role);
    write_text(w, "text", shown(said, options.open));
    write_text(w, "time", codec::format_time(time));
    w.EndObject();
  };
  line("assistant", state.greeting, state.created_at);
  for (const domain::Turn& turn : state.turns) {
    line("user", turn.text, turn.received_at);
    if (turn.replied_version) line("assistant", turn.reply, turn.replied_at);
  }
  w.EndArray();
  w.EndObject();
  std::cout << codec::written(buffer) << '\n';
}

void print_text(const std::string& id, const domain::State& state, std::uint64_t events, const SessionShowOptions& options) {
  std::cout << id << "  " << domain::to_string(state.status) << "  version " << state.version;
  if (state.version < events) std::cout << " of " << events << " (as of " << options.as_of << ")";
  std::cout << "  flow " << (state.flow ? state.flow->name : "?") << "\n  user      " << shown(state.user_id, options.open)
            << "\n  created   " << codec::format_time(state.created_at) << "\n  updated   "
            << codec::format_time(state.updated_at) << "\n  missing  ";
  for (const std::string& name : domain::missing_fields(state)) std::cout << ' ' << name;
  std::cout << "\n  fields\n";
  for (const auto& [name, field] : state.fields)
    if (field.value) std::cout << "    " << name << " = " << shown(*field.value, options.open) << '\n';
  std::cout << "  conversation\n";
  std::cout << "    host: " << shown(state.greeting, options.open) << '\n';
  for (const domain::Turn& turn : state.turns) {
    std::cout << "    user: " << shown(turn.text, options.open) << '\n';
    if (turn.replied_version) std::cout << "    host: " << shown(turn.reply, options.open) << '\n';
  }
}

/// Keeps the events that had happened by then: a version of the stream, or a time.
result<void> cut(std::vector<codec::DecodedEvent>& events, const std::string& as_of) {
  if (as_of.empty()) return {};
  const auto last = events.back().recorded.version;
  if (as_of.size() < 19 && as_of.find_first_not_of("0123456789") == std::string::npos) {
    const auto version = std::stoull(as_of);
    if (version < 1 || version > last)
      return failure(Errc::wrong_use, "--as-of " + as_of + ": the session has versions 1 to " + std::to_string(last));
    std::erase_if(events, [&](const auto& event) { return event.recorded.version > version; });
    return {};
  }
  const auto time = codec::parse_time(as_of);
  if (!time)
    return failure(Errc::wrong_use,
                   "--as-of " + as_of + " is neither a version nor a time; write e.g. 7 or 2026-11-21T08:00:00Z");
  if (events.front().recorded.time > *time)
    return failure(Errc::not_found, "the session began at " + codec::format_time(events.front().recorded.time));
  std::erase_if(events, [&](const auto& event) { return event.recorded.time > *time; });
  return {};
}

}  // namespace

int session_show(const Context& context, const std::string& session_id, const SessionShowOptions& options) {
  const auto partition = partition_of_session(session_id);
  if (!partition) return complain({Errc::wrong_use, "\"" + session_id + "\" is not a session id"});
  auto opened = open_log(context, options.open);
  if (!opened) return complain(opened.error());
  if (*partition >= opened->log->partitions()) return complain({Errc::not_found, "no session " + session_id});
  auto flows = session::FlowRegistry::open(*opened->log, *opened->keys, system_clock(), system_random(), {});
  if (!flows) return complain(flows.error());
  auto events = read_stream(*opened, *partition, session_id);
  if (!events) return complain(events.error());
  if (events->empty()) return complain({Errc::not_found, "no session " + session_id});
  const auto all = events->back().recorded.version;
  if (auto done = cut(*events, options.as_of); !done) return complain(done.error());
  domain::State state = domain::initial();
  for (const codec::DecodedEvent& event : *events) domain::evolve(state, event.recorded, **flows);
  if (options.json) print_json(session_id, state, options);
  else print_text(session_id, state, all, options);
  return exit_good;
}

}  // namespace onboarding::app
