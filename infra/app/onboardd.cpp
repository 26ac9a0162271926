// The server. Reads its configuration, starts the parts (infra/app/server), waits for a signal, and stops in order.
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <CLI/CLI.hpp>

#include <condition_variable>
#include <iostream>
#include <mutex>
#include <thread>

#include "events/fault_point.hpp"
#include "infra/app/config/config.hpp"
#include "infra/app/server/app.hpp"

// Read by jemalloc at start (ADR 0803). What was freed goes back to the system soon and without anybody's help; a tcache
// that holds what the JSON reader takes at a time; no more arenas than threads that allocate much.
extern "C" const char* malloc_conf;
const char* malloc_conf = "background_thread:true,dirty_decay_ms:2000,muzzy_decay_ms:0,lg_tcache_max:17,narenas:4";

namespace onboarding::app {
namespace {

constexpr int exit_good = 0, exit_failed = 1, exit_wrong_use = 2;
constexpr auto drain_patience = std::chrono::seconds(25);  // the rest of the promised 30 s is for closing the log

constexpr const char* examples = R"(Examples:
  onboardd                                         everything in one process, data in .data
  onboardd --data-dir /srv/onboarding --set http.listen=0.0.0.0:8080
  onboardd --print-config                          the configuration in force, secrets hidden
  onboardd --roles projections                     only follows the log into PostgreSQL, beside the server
  onboardd --roles projections --set http.ops_listen=127.0.0.1:9101    and answers /livez, /readyz and /metrics there

Signals: SIGTERM or SIGINT answers what was accepted, refuses the rest with 503, and exits 0 within 30 s; a second one hurries.
Exit codes: 0 stopped as asked, 1 could not start or had to stop, 2 wrong use or configuration, 70 a failed fsync.)";

/// Signals arrive on a thread of their own; everybody else has them blocked.
class Signals {
 public:
  Signals() {
    ::sigemptyset(&set_);
    for (int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR2}) ::sigaddset(&set_, signal);
    ::pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    ::signal(SIGPIPE, SIG_IGN);
    thread_ = std::thread([this] { run(); });
    ::pthread_setname_np(thread_.native_handle(), "signals");
  }
  ~Signals() {
    ::pthread_kill(thread_.native_handle(), SIGUSR2);
    thread_.join();
  }
  int count() const {
    const std::lock_guard lock(mutex_);
    return count_;
  }
  /// Returns at the first signal, or after `at_most`.
  bool wait(std::chrono::milliseconds at_most) {
    std::unique_lock lock(mutex_);
    return arrived_.wait_for(lock, at_most, [this] { return count_ > 0; });
  }

 private:
  void run() {
    for (int signal = 0; ::sigwait(&set_, &signal) == 0 && signal != SIGUSR2;) {
      const std::lock_guard lock(mutex_);
      if (++count_ > 2) ::_exit(exit_failed);
      arrived_.notify_all();
    }
  }
  sigset_t set_{};
  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  int count_ = 0;
  std::thread thread_;
};

/// Two descriptors a connection (http/ keeps a duplicate): take what the hard limit gives.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
}

int complain(const Failure& error) {
  std::cerr << "onboardd: " << error.message() << '\n';
  const bool usage = error.code == Errc::bad_configuration || error.code == Errc::not_in_this_version;
  return usage ? exit_wrong_use : exit_failed;
}

int serve(AppOptions options) {
  raise_descriptor_limit();
  Signals signals;
  auto app = App::start(std::move(options));
  if (!app) return complain(app.error());
  while (!signals.wait(std::chrono::seconds(1)))
    if ((*app)->fenced()) {
      std::cerr << "onboardd: another server owns the log now\n";
      return exit_failed;
    }
  (*app)->drain(drain_patience, [&] { return signals.count() > 1; });
  return exit_good;
}

int run(int argc, char** argv) {
  CLI::App cli{"The onboarding server: sessions, events, read models and HTTP in one process."};
  cli.footer(examples);
  std::string config, data, roles = "api,sessions,projections,jobs";
  std::vector<std::string> set;
  bool print_config = false, fault_points = false, show_version = false;
  cli.add_option("--config", config,
                 "configuration file (default: ONBOARD_CONFIG, onboard.toml in the data folder, ./onboard.toml)");
  cli.add_option("--data-dir", data, "data folder (default: ONBOARD_DATA_DIR, .data)");
  cli.add_option("--roles", roles, "what this process does: api, sessions, projections, jobs")->capture_default_str();
  cli.add_option("--set", set, "KEY=VALUE: sets one key, over file and environment; may be repeated");
  cli.add_flag("--print-config", print_config, "print the configuration in force, secrets hidden, and stop");
  cli.add_flag("--fault-points", fault_points, "list the names that ONBOARD_FAULT takes, and stop");
  cli.add_flag("--version", show_version, "print the version, and stop");
  try {
    cli.parse(argc, argv);
  } catch (const CLI::ParseError& error) { return cli.exit(error) == 0 ? exit_good : exit_wrong_use; }
  if (show_version) {
    std::cout << version() << '\n';
    return exit_good;
  }
  if (fault_points) {
    for (const std::string_view name : FaultPoint::names()) std::cout << name << '\n';
    return exit_good;
  }
  AppOptions options;
  options.data = data_folder(data);
  auto configuration = load_configuration(options.data, config, set);
  if (!configuration) return complain(configuration.error());
  if (print_config) {
    std::cout << configuration->print();
    return exit_good;
  }
  auto parsed = parse_roles(roles);
  if (!parsed) return complain(parsed.error());
  options.configuration = std::move(*configuration);
  options.roles = std::move(*parsed);
  return serve(std::move(options));
}

}  // namespace
}  // namespace onboarding::app

int main(int argc, char** argv) {
  ::umask(077);  // conversations and keys: nobody else's, whatever the shell says
  try {
    return onboarding::app::run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "onboardd: " << error.what() << '\n';
    return onboarding::app::exit_failed;
  }
}
