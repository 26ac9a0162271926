// What a turn costs in the read models: CPU of the runner and of all of PostgreSQL, beside COPY of the resulting rows; then all
// projections rebuilt beside the live tables.
//   bench_projections [sessions] [turns a session] [events a batch]      (ONBOARD_TEST_POSTGRES_URL names the server)
#include <fmt/core.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/integration/postgres/following.hpp"

namespace onboarding::testing {
namespace {

double seconds_since(std::chrono::steady_clock::time_point began) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

double own_cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// Of this process, in MiB: now, and at most so far.
std::pair<long, long> resident_mib() {
  std::ifstream file("/proc/self/status");
  long now = 0, most = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("VmRSS:", 0) == 0) now = std::stol(line.substr(6)) / 1024;
    if (line.rfind("VmHWM:", 0) == 0) most = std::stol(line.substr(6)) / 1024;
  }
  return {now, most};
}

/// The server process, its children, and those that ended.
double server_cpu_seconds(int postmaster) {
  double ticks = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream file(entry.path() / "stat");
    std::string line;
    if (!std::getline(file, line)) continue;
    const int pid = std::atoi(line.c_str());
    std::istringstream rest(line.substr(line.rfind(')') + 2));
    std::vector<std::string> fields{std::istream_iterator<std::string>(rest), {}};
    if (pid != postmaster && std::stoi(fields[1]) != postmaster) continue;
    ticks += std::stod(fields[11]) + std::stod(fields[12]);
    if (pid == postmaster) ticks += std::stod(fields[13]) + std::stod(fields[14]);
  }
  return ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

void rebuild(History& history, Database& database, int postmaster, double copied) {
  Following following(history, database.url());
  ONBOARDING_ASSERT(following.caught_up(), "the live tables are caught up with");
  const auto memory = resident_mib();
  const double own = own_cpu_seconds(), server = server_cpu_seconds(postmaster);
  const auto began = std::chrono::steady_clock::now();
  std::size_t builds = 0;
  for (const auto& status : following.models.queries().projections()) {
    projections::Action action;
    action.projection = status.name;
    action.verb = "rebuild";
    action.swap = "never";
    std::promise<bool> begun;
    following.models.control().act(action,
                                   [&](const result<projections::Outcome>& outcome) { begun.set_value(outcome.has_value()); });
    ONBOARDING_ASSERT(begun.get_future().get(), "a rebuild begins");
    ++builds;
  }
  const std::string wanted = std::to_string(history.told.size() * builds);
  pqxx::connection looking(database.url());
  while (pqxx::nontransaction(looking)
             .exec1("SELECT coalesce(sum(sequence), 0) FROM projection_checkpoints JOIN projection_generations "
                    "USING (projection, generation) WHERE state = 'building'")[0]
             .as<std::string>() != wanted) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  const double filled = seconds_since(began);
  const double own_used = own_cpu_seconds() - own, server_used = server_cpu_seconds(postmaster) - server;
  const bool equal = eventually([&] {
    return database.value("SELECT count(*) FROM projection_generations WHERE phase = 'ready' AND report ->> 'equal' = 'true'") ==
           std::to_string(builds);
  });
  const auto after = resident_mib();
  fmt::print(
      "rebuild: {:.0f} events/s, {:.3f} s, {:.1f} times as long as COPY; CPU runner {:.3f} s + PostgreSQL {:.3f} s; compared: "
      "{}, {:.3f} s; "
      "resident {} MiB before, {} after, {} at most\n",
      static_cast<double>(history.told.size()) / filled, filled, filled / copied, own_used, server_used,
      equal ? "equal" : "DIFFERENT", seconds_since(began) - filled, memory.first, after.first, after.second);
}

void run(std::size_t sessions, std::size_t turns, std::size_t batch_events) {
  Database database;
  const std::string folder = database.value("SELECT current_setting('data_directory')");
  int postmaster = 0;
  std::ifstream(folder + "/postmaster.pid") >> postmaster;

  History history(1, "bench", 24);
  std::vector<History::Session> all;
  for (std::size_t i = 0; i < sessions; ++i) all.push_back(history.start({"person-" + std::to_string(i), false}));
  for (std::size_t turn = 0; turn < turns; ++turn) {
    for (auto& session : all) {
      history.turn(session, "Well, what I do is this, and there are about forty of us.",
                   {{History::next_field(session), "a value"}}, turn + 1 == turns);
    }
  }
  projections::RunnerOptions options;
  options.max_batch_events = batch_events;
  Stepping stepping(history, database.url(), options);
  const double events = static_cast<double>(history.told.size()), all_turns = static_cast<double>(sessions * turns);

  // Reading and opening the events alone: the part of the runner that no projection can save.
  const double before_decoding = own_cpu_seconds();
  for (std::uint32_t partition = 0; partition < history.log.partitions(); ++partition) {
    std::uint64_t after = 0;
    while (after < history.log.head(partition)) {
      const auto records = history.log.read_partition(partition, after, 500, 8 << 20);
      for (const auto& record : *records) {
        ONBOARDING_ASSERT(codec::decode(record, history.keys), "the history can be read");
        after = record.last_sequence();
      }
    }
  }
  const double decoding = own_cpu_seconds() - before_decoding;

  const double own = own_cpu_seconds(), server = server_cpu_seconds(postmaster);
  const auto began = std::chrono::steady_clock::now();
  stepping.run_to_end();
  const double wall = seconds_since(began);
  const double own_used = own_cpu_seconds() - own, server_used = server_cpu_seconds(postmaster) - server;

  double copied = 0, copied_cpu = 0, rows = 0;
  for (const auto& projection : stepping.owned) {
    for (const auto& table : projection->tables()) {
      const std::string file = "'" + folder + "/bench.copy'";
      pqxx::connection connection(database.url());
      pqxx::nontransaction session(connection);
      session.exec("CREATE TABLE copy_" + table.name + " (LIKE " + table.name + " INCLUDING ALL)");
      session.exec("COPY (SELECT * FROM " + table.name + ") TO " + file);
      const double before = server_cpu_seconds(postmaster);
      const auto copy_began = std::chrono::steady_clock::now();
      rows += static_cast<double>(session.exec("COPY copy_" + table.name + " FROM " + file).affected_rows());
      copied += seconds_since(copy_began);
      copied_cpu += server_cpu_seconds(postmaster) - before;
    }
  }
  std::filesystem::remove(folder + "/bench.copy");
  fmt::print("{:.0f} turns, {:.0f} events, batches of {}\n", all_turns, events, batch_events);
  fmt::print(
      "runner:  {:.0f} events/s, {:.0f} turns/s; CPU per turn {:.1f} us = runner {:.1f} + PostgreSQL {:.1f}; per event {:.2f} "
      "us; reading and decoding alone {:.1f} us per turn\n",
      events / wall, all_turns / wall, (own_used + server_used) / all_turns * 1e6, own_used / all_turns * 1e6,
      server_used / all_turns * 1e6, (own_used + server_used) / events * 1e6, decoding / all_turns * 1e6);
  fmt::print("COPY of the {:.0f} rows: {:.3f} s, CPU {:.3f} s ({:.1f} us per turn); the runner took {:.1f} times as long\n", rows,
             copied, copied_cpu, copied_cpu / all_turns * 1e6, wall / copied);
  rebuild(history, database, postmaster, copied);
}

}  // namespace
}  // namespace onboarding::testing

int main(int argc, char** argv) {
  const auto argument = [&](int i, std::size_t fallback) { return argc > i ? std::stoul(argv[i]) : fallback; };
  onboarding::testing::run(argument(1, 2000), argument(2, 6), argument(3, 2000));
}
