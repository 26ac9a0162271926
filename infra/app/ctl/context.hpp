// What every command of onboardctl needs: the data folder, the configuration, the server that runs there, and the log
// opened beside it. Data goes to standard output, notes and progress to standard error.
#pragma once

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "events/domain/result.hpp"
#include "events/log/event_log.hpp"
#include "events/privacy/key_store.hpp"
#include "events/privacy/secrets.hpp"
#include "infra/app/config/config.hpp"

namespace onboarding::app {

/// Stable: scripts may rely on them.
enum ExitCode { exit_good = 0, exit_failed = 1, exit_wrong_use = 2, exit_not_found = 3, exit_no_server = 4, exit_damaged = 5 };

struct Context {
  std::string data_flag, config_flag;
  std::vector<std::string> set_flags;

  std::filesystem::path data() const { return data_folder(data_flag); }
  /// Of the server that runs in the data folder; else as the next start would have it.
  result<Configuration> configuration() const;
};

/// What is sealed, and whom an identifier names: Errc::not_found where there is no master.key; none is ever made here.
result<privacy::Secrets> secrets_of(const Context&);

/// Says the failure on standard error; its exit code.
int complain(const Failure&);
void note(std::string_view line);
/// What the system says of a file: errno, unless another error is given.
Failure about_file(const std::filesystem::path&, std::error_code = {errno, std::generic_category()});

/// The embedded log and its keys, read only, beside the writing server if there is one.
struct OpenedLog {
  std::unique_ptr<privacy::KeyStore> keys;  // without `open`: one that knows no key, so that nothing personal is read
  std::unique_ptr<log::EventLog> log;
};
result<OpenedLog> open_log(const Context&, bool open_texts);
/// The file that events are read from: the embedded log, or what this server has read from Kafka.
struct LogPath {
  std::string file;
  bool is_copy = false;  // of what lies in Kafka
};
result<LogPath> log_path(const Context&);
result<std::string> embedded_log_path(const Context&);

/// For whoever follows a log: waits until it grew since the last wait.
class LogGrowth {
 public:
  explicit LogGrowth(log::EventLog&);
  ~LogGrowth();
  void wait(std::chrono::milliseconds at_most);

 private:
  std::mutex mutex_;
  std::condition_variable grew_;
  bool has_grown_ = false;
  std::unique_ptr<log::Subscription> subscription_;  // ends first: its calls come to the members above
};

}  // namespace onboarding::app
