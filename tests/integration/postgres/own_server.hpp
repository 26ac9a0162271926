#pragma once

#include <signal.h>
#include <sys/stat.h>

#include <fstream>
#include <string>

#include "tests/integration/postgres/following.hpp"

namespace onboarding::testing {

/// A server of its own, to be stopped and killed.
class OwnServer {
 public:
  explicit OwnServer(const std::string& options) : options_(options) {
    ONBOARDING_ASSERT(mkdtemp(folder_.data()) != nullptr && chmod(folder_.c_str(), 0755) == 0, "a folder can be made");
  }
  ~OwnServer() {
    stop();
    std::system(("rm -rf " + folder_).c_str());
  }
  bool start() const { return control("start", options_); }
  bool stop() const { return control("stop", ""); }
  /// Without a checkpoint or a flush: what was not on disk yet is gone.
  bool end_at_once() const {
    pid_t postmaster = 0;
    std::ifstream(folder_ + "/pg/postmaster.pid") >> postmaster;
    return postmaster > 0 && kill(postmaster, SIGQUIT) == 0 && eventually([&] { return has_ended(postmaster); });
  }
  /// Where nobody reaps orphans, an ended process keeps its number, without a command line.
  static bool has_ended(pid_t process) {
    return std::ifstream("/proc/" + std::to_string(process) + "/cmdline").peek() == std::ifstream::traits_type::eof();
  }
  std::string url(const std::string& database = "postgres") const {
    return "postgresql:///" + database + "?host=" + folder_ + "/pg&user=postgres";
  }
  std::string folder() const { return folder_ + "/pg"; }
  /// Becomes a streaming replica of another one, and starts.
  bool replicate(const OwnServer& primary) const {
    const std::string as = geteuid() == 0 ? "runuser -u postgres -- " : "";
    const std::string bin = "$(pg_config --bindir)/";
    return shell((geteuid() == 0 ? "chown postgres: " + folder_ + " && cd / && " : "cd / && ") + as + bin + "pg_basebackup -h " +
                 primary.folder() + " -U postgres -D " + folder() + " -R -X stream -c fast --no-sync") &&
           start();
  }
  bool promote() const {
    return shell("cd / && " + std::string(geteuid() == 0 ? "runuser -u postgres -- " : "") +
                 "$(pg_config --bindir)/pg_ctl -w -D " + folder() + " promote");
  }

 private:
  bool control(const std::string& action, const std::string& options) const {
    return shell("infra/dev/postgres " + action + " " + folder_ + "/pg " + options);
  }
  static bool shell(const std::string& command) { return std::system(("(" + command + ") >/dev/null").c_str()) == 0; }

  std::string folder_ = "/tmp/onboarding-pg-XXXXXX", options_;
};

}  // namespace onboarding::testing
