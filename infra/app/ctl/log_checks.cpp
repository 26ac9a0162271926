// events verify, events stats: what is wrong with a log, and what is in it. Both read beside the writer as well as alone.
#include <algorithm>
#include <filesystem>
#include <iomanip>
#include <iostream>

#include "events/codec/json.hpp"
#include "events/export/check.hpp"
#include "events/export/survey.hpp"
#include "events/log/sqlite/sqlite_log.hpp"
#include "events/privacy/key_store.hpp"
#include "infra/app/ctl/commands.hpp"
#include "infra/app/ctl/progress.hpp"

namespace onboarding::app {
namespace {

std::uint64_t file_bytes(const std::string& path) {
  std::uint64_t bytes = 0;
  for (const char* suffix : {"", "-wal"}) {
    std::error_code missing;
    const auto size = std::filesystem::file_size(path + suffix, missing);
    if (!missing) bytes += size;
  }
  return bytes;
}

void write_count(codec::JsonWriter& w, std::string_view name, std::uint64_t value) {
  codec::write_key(w, name);
  w.Uint64(value);
}
void write_text(codec::JsonWriter& w, std::string_view name, std::string_view value) {
  codec::write_key(w, name);
  codec::write_string(w, value);
}
void write_span(codec::JsonWriter& w, const exporting::Survey::Span& span) {
  write_count(w, "records", span.records);
  write_count(w, "events", span.events);
  write_count(w, "payload_bytes", span.payload_bytes);
  if (span.first) write_text(w, "first_time", codec::format_time(*span.first));
  if (span.last) write_text(w, "last_time", codec::format_time(*span.last));
}

void print_stats_json(const exporting::Survey& survey, log::EventLog& log, std::uint64_t bytes) {
  rapidjson::StringBuffer buffer;
  codec::JsonWriter w(buffer);
  w.StartObject();
  write_text(w, "log_id", log.log_id());
  write_span(w, survey.all);
  write_count(w, "streams", survey.streams);
  write_count(w, "sessions", survey.sessions);
  write_count(w, "users", survey.users);
  write_count(w, "file_bytes", bytes);
  write_count(w, "compressed_bytes", survey.compressed_bytes);
  codec::write_key(w, "types");
  w.StartObject();
  for (const auto& [type, events] : survey.types) write_count(w, type, events);
  w.EndObject();
  codec::write_key(w, "days");
  w.StartArray();
  for (const auto& [day, counts] : survey.days) {
    w.StartObject();
    write_text(w, "day", day);
    write_count(w, "events", counts.events);
    write_count(w, "sessions_started", counts.sessions_started);
    write_count(w, "sessions_completed", counts.sessions_completed);
    w.EndObject();
  }
  w.EndArray();
  codec::write_key(w, "partitions");
  w.StartArray();
  for (std::size_t p = 0; p < survey.partitions.size(); ++p) {
    w.StartObject();
    write_count(w, "partition", p);
    write_span(w, survey.partitions[p]);
    w.EndObject();
  }
  w.EndArray();
  w.EndObject();
  std::cout << codec::written(buffer) << '\n';
}

std::string in_mebibytes(std::uint64_t bytes) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(1) << static_cast<double>(bytes) / (1 << 20) << " MiB";
  return out.str();
}

void print_stats_text(const exporting::Survey& survey, log::EventLog& log, std::uint64_t bytes) {
  const auto& all = survey.all;
  std::cout << "log        " << log.log_id() << "\nevents     " << all.events << " in " << all.records << " records\nstreams    "
            << survey.streams << ", of these sessions " << survey.sessions << "\nusers      " << survey.users << "\nbytes      "
            << in_mebibytes(all.payload_bytes) << " of events, " << in_mebibytes(bytes) << " of files; zstd makes "
            << in_mebibytes(survey.compressed_bytes) << " of the events";
  if (all.payload_bytes > 0) std::cout << " (" << 100 * survey.compressed_bytes / all.payload_bytes << " %)";
  if (all.first) std::cout << "\ntimes      " << codec::format_time(*all.first) << " to " << codec::format_time(*all.last);
  std::cout << "\n\ntype                        events\n" << std::left;
  for (const auto& [type, events] : survey.types)
    std::cout << "  " << std::setw(20) << type << std::right << std::setw(12) << events << std::left << '\n';
  std::cout << "\nday           events     started   completed\n";
  for (const auto& [day, counts] : survey.days)
    std::cout << "  " << day << std::right << std::setw(8) << counts.events << std::setw(12) << counts.sessions_started
              << std::setw(12) << counts.sessions_completed << std::left << '\n';
  std::cout << "\npartition     events     records\n";
  for (std::size_t p = 0; p < survey.partitions.size(); ++p)
    if (survey.partitions[p].records > 0)
      std::cout << "  " << std::setw(10) << p << std::right << std::setw(8) << survey.partitions[p].events << std::setw(12)
                << survey.partitions[p].records << std::left << '\n';
}

}  // namespace

int events_stats(const Context& context, bool json) {
  const auto path = log_path(context);
  if (!path) return complain(path.error());
  auto log = log::open_sqlite_reader(path->file);
  if (!log) return complain(log.error());
  Progress progress("events", 0);
  const auto survey = exporting::survey(**log, [&](std::uint64_t at, std::uint64_t of) { progress.show(at, of); });
  progress.done();
  if (!survey) return complain({Errc::damaged, survey.error().message() + "; onboardctl events verify says more"});
  if (json) print_stats_json(*survey, **log, file_bytes(path->file));
  else print_stats_text(*survey, **log, file_bytes(path->file));
  return exit_good;
}

int events_verify(const Context& context, bool json) {
  constexpr std::string_view no_key = ": its key is not in keys.db";
  const auto path = log_path(context);
  if (!path) return complain(path.error());
  std::vector<std::string> damage;
  std::uint64_t damaged = 0;
  std::optional<log::LogReport> report;
  {
    Progress progress("records", 0);
    auto read = log::verify_sqlite(
        path->file, [&](std::uint64_t at, std::uint64_t of) { progress.show(at, of); }, path->is_copy);
    progress.done();
    if (read) {
      report = std::move(*read);
    } else if (read.error().code == log::Errc::corrupt || read.error().code == log::Errc::shorter_than_head) {
      damage.push_back(read.error().message());
      ++damaged;
    } else {
      return complain(read.error());
    }
  }
  // Seals are opened where the keys lie; nothing of what they hold leaves the check.
  std::error_code ignored;
  const auto secrets = secrets_of(context);
  const bool with_keys = secrets && std::filesystem::exists(context.data() / "keys.db", ignored);
  if (!with_keys)
    note((secrets ? "there is no keys.db in " + context.data().string() : secrets.error().message()) + ": seals are not opened");
  exporting::EventCheck check;
  if (auto opened = open_log(context, with_keys); opened) {
    Progress progress("events", 0);
    auto checked =
        exporting::check_events(*opened->log, *opened->keys, [&](std::uint64_t at, std::uint64_t of) { progress.show(at, of); });
    progress.done();
    if (!checked) return complain(checked.error());
    check = std::move(*checked);
  } else if (damage.empty()) {
    return complain(opened.error());
  }
  damage.insert(damage.end(), check.damage.begin(), check.damage.end());
  damaged += check.damaged;
  if (with_keys) {
    damaged += check.lost_keys;
    for (const std::string& stream : check.lost_streams)
      damage.push_back(stream + std::string(no_key) + ", and nobody erased it; an older keys.db lies under the log");
  }
  if (json) {
    rapidjson::StringBuffer buffer;
    codec::JsonWriter w(buffer);
    w.StartObject();
    codec::write_key(w, "good");
    w.Bool(damaged == 0);
    write_count(w, "records", check.records);
    write_count(w, "events", check.events);
    if (report) write_text(w, "log_id", report->log_id);
    codec::write_key(w, "seals_opened");
    w.Bool(with_keys);
    write_count(w, "records_with_forgotten_keys", with_keys ? check.unopened : 0);
    write_count(w, "damaged", damaged);
    codec::write_key(w, "damage");
    w.StartArray();
    for (const auto& what : damage) codec::write_string(w, what);
    w.EndArray();
    w.EndObject();
    std::cout << codec::written(buffer) << '\n';
  } else if (damaged == 0) {
    std::cout << "good: " << report->records << " records, " << report->events << " events, " << report->streams << " streams in "
              << report->partitions.size() << " partitions; checksums, order, indexes, " << (path->is_copy ? "" : "head, ")
              << "codec";
    if (with_keys) std::cout << ", seals (" << check.unopened << " records of forgotten persons)";
    std::cout << '\n';
  } else {
    std::cout << "damaged: " << damaged << " places in " << check.records << " records that can be read";
    for (const auto& what : damage) std::cout << "\n  " << what;
    if (damaged > damage.size()) std::cout << "\n  … and " << damaged - damage.size() << " more";
    // Whose checksums are right, and which do not open all the same: the keys are not those they were sealed with.
    const auto unopened = make_error_code(privacy::Errc::forged).message();
    const bool keys_only = report && with_keys && std::all_of(damage.begin(), damage.end(), [&](const std::string& what) {
                             return what.find(unopened) != what.npos || what.find(no_key) != what.npos;
                           });
    if (path->is_copy)
      std::cout << "\nThis is a copy of what lies in Kafka: stop the server, delete "
                << (keys_only ? (context.data() / "keys.db").string() : path->file) << " and start it, and it is read anew.\n";
    else
      std::cout << (keys_only ? "\nThe log itself is good: restore the newest keys.db, with its master.key.\n"
                              : "\nRestore the log from the newest back-up: onboardctl restore --help\n");
  }
  return damaged == 0 ? exit_good : exit_damaged;
}

}  // namespace onboarding::app
