#include <iostream>

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

int events_rebuild_head(const Context& context, bool yes) {
  const auto path = embedded_log_path(context);
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

}  // namespace onboarding::app
