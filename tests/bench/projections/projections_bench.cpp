// What a turn costs in the read models: CPU of the runner and of all of PostgreSQL, beside COPY of the resulting rows; then all
// projections rebuilt beside the live tables, and what readers notice of that and of tables that change places.
//   bench_projections [sessions] [turns a session] [events a batch]      (ONBOARD_TEST_POSTGRES_URL names the server)
#include <fmt/core.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/integration/postgres/following.hpp"

// As the server has it: what the allocator keeps is part of what is measured.
extern "C" const char* malloc_conf;
const char* malloc_conf = "background_thread:true,dirty_decay_ms:2000,muzzy_decay_ms:0,lg_tcache_max:17,narenas:4";

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

/// From here on the most counts anew.
void forget_most_resident() { std::ofstream("/proc/self/clear_refs") << 5; }

/// Until it holds, however long that takes.
template <class Condition>
void await(Condition&& holds) {
  while (!holds()) std::this_thread::sleep_for(std::chrono::milliseconds(20));
}

/// Four people who read one after another, as long as it lives.
class Readers {
 public:
  Readers(projections::Queries& queries, const std::vector<std::string>& users) {
    for (unsigned n = 0; n < 4; ++n) {
      threads_.emplace_back([&, n](const std::stop_token& stop) {
        std::mt19937 random(n);
        while (!stop.stop_requested()) {
          const std::string& user = users[random() % users.size()];
          const auto began = std::chrono::steady_clock::now();
          const auto page = ask<projections::SessionPage>([&](auto done) {
            queries.sessions_of_user({"", user}, {}, std::move(done));
          });
          ONBOARDING_ASSERT(page, "readers are answered");
          const std::lock_guard lock(mutex_);
          took_.push_back(seconds_since(began) * 1000);
        }
      });
    }
  }
  void tell(const char* during) {
    const std::lock_guard lock(mutex_);
    std::sort(took_.begin(), took_.end());
    const auto at = [&](double part) { return took_[static_cast<std::size_t>(static_cast<double>(took_.size() - 1) * part)]; };
    if (!took_.empty())
      fmt::print("readers {}: {} reads, p50 {:.1f} ms, p99 {:.1f} ms, most {:.1f} ms\n", during, took_.size(), at(0.5), at(0.99),
                 at(1));
    took_.clear();
  }

 private:
  std::mutex mutex_;
  std::vector<double> took_;
  std::vector<std::jthread> threads_;
};

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

void act(Following& following, const std::string& projection, const char* verb, const char* swap = "if_equal") {
  projections::Action action;
  action.projection = projection;
  action.verb = verb;
  action.swap = swap;
  std::promise<bool> begun;
  following.models.control().act(action,
                                 [&](const result<projections::Outcome>& outcome) { begun.set_value(outcome.has_value()); });
  ONBOARDING_ASSERT(begun.get_future().get(), "an operator's change is made");
}

/// What readers notice: of nothing, of a rebuild, of tables that wait behind a long query to change places, and of that.
void read_meanwhile(Following& following, Database& database, const std::vector<std::string>& users) {
  const auto changed_places = [&] {
    return database.value("SELECT count(*) FROM projection_generations WHERE projection = 'sessions' AND state = 'previous'") ==
           "1";
  };
  Readers readers(following.models.queries(), users);
  std::this_thread::sleep_for(std::chrono::seconds(5));
  readers.tell("alone");
  act(following, "sessions", "rebuild", "never");
  await([&] { return database.value("SELECT count(*) FROM projection_generations WHERE phase = 'ready'") == "1"; });
  readers.tell("while a rebuild fills and is compared");
  {
    pqxx::connection connection(database.url());
    pqxx::work long_query(connection);
    long_query.exec("SELECT count(*) FROM onboarding_sessions");
    act(following, "sessions", "rebuild", "always");
    std::this_thread::sleep_for(std::chrono::seconds(4));
    ONBOARDING_ASSERT(!changed_places(), "it waits behind the long query");
    readers.tell("while tables wait behind a long query to change places");
  }
  await(changed_places);
  readers.tell("when they do");
}

void rebuild(History& history, Database& database, int postmaster, double copied, const std::vector<std::string>& users) {
  {
    Following following(history, database.url());
    await([&] { return following.lag_is_zero(); });
    read_meanwhile(following, database, users);
    act(following, "sessions", "discard");
  }
  Following following(history, database.url());
  await([&] { return following.lag_is_zero(); });
  forget_most_resident();
  const auto memory = resident_mib();
  const double own = own_cpu_seconds(), server = server_cpu_seconds(postmaster);
  const auto began = std::chrono::steady_clock::now();
  std::size_t builds = 0;
  for (const auto& status : following.models.queries().projections()) {
    act(following, status.name, "rebuild", "never");
    ++builds;
  }
  const std::string wanted = std::to_string(history.events_told * builds);
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
      static_cast<double>(history.events_told) / filled, filled, filled / copied, own_used, server_used,
      equal ? "equal" : "DIFFERENT", seconds_since(began) - filled, memory.first, after.first, after.second);
}

void run(std::size_t sessions, std::size_t turns, std::size_t batch_events) {
  Database database;
  const std::string folder = database.value("SELECT current_setting('data_directory')");
  int postmaster = 0;
  std::ifstream(folder + "/postmaster.pid") >> postmaster;

  History history(1, "bench", 24);
  history.remembers = false;
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
  const double events = static_cast<double>(history.events_told), all_turns = static_cast<double>(sessions * turns);

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
  std::vector<std::string> users;
  for (std::size_t i = 0; i < all.size(); ++i) users.push_back("person-" + std::to_string(i));
  rebuild(history, database, postmaster, copied, users);
}

}  // namespace
}  // namespace onboarding::testing

int main(int argc, char** argv) {
  const auto argument = [&](int i, std::size_t fallback) { return argc > i ? std::stoul(argv[i]) : fallback; };
  onboarding::testing::run(argument(1, 2000), argument(2, 6), argument(3, 2000));
}
