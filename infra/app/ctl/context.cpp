#include "infra/app/ctl/context.hpp"

#include <iostream>

#include "events/log/sqlite/sqlite_log.hpp"
#include "events/privacy/no_keys.hpp"
#include "events/privacy/sqlite_key_store.hpp"

namespace onboarding::app {
result<Configuration> Context::configuration() const {
  if (set_flags.empty() && config_flag.empty())
    if (auto running = read_running(data())) return std::move(running->configuration);
  return load_configuration(data(), config_flag, set_flags);
}

int complain(const Failure& error) {
  std::cerr << "onboardctl: " << error.message() << '\n';
  if (error.code == Errc::bad_configuration || error.code == Errc::not_in_this_version || error.code == Errc::wrong_use)
    return exit_wrong_use;
  if (error.code == Errc::not_found) return exit_not_found;
  if (error.code == Errc::not_running) return exit_no_server;
  const bool damaged =
      error.code == Errc::damaged || error.code == log::Errc::corrupt || error.code == log::Errc::shorter_than_head;
  return damaged ? exit_damaged : exit_failed;
}

Failure about_file(const std::filesystem::path& file, std::error_code error) { return {error, file.string()}; }

void note(std::string_view line) { std::cerr << line << std::endl; }

result<privacy::Secrets> secrets_of(const Context& context) {
  const auto configuration = context.configuration();
  if (!configuration) return tl::unexpected(configuration.error());
  const auto folder = secrets_folder(*configuration, context.data());
  std::error_code ignored;
  if (!std::filesystem::exists(folder / "master.key", ignored))
    return failure(Errc::not_found, (folder / "master.key").string() + " is missing: sealed texts cannot be read without it");
  return privacy::Secrets::load_or_create(folder);
}

result<LogPath> log_path(const Context& context) {
  const auto configuration = context.configuration();
  if (!configuration) return tl::unexpected(configuration.error());
  if (configuration->text("log.kind") == "memory")
    return failure(Errc::bad_configuration, "log.kind = \"memory\": only the server itself can read that log");
  const auto file = log_file(*configuration, context.data());
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored))
    return failure(Errc::not_found, "no log at " + file.string() + "; --data-dir or ONBOARD_DATA_DIR says where it is");
  return LogPath{file.string(), configuration->text("log.kind") == "kafka"};
}

result<std::string> embedded_log_path(const Context& context) {
  const auto configuration = context.configuration();
  if (!configuration) return tl::unexpected(configuration.error());
  if (configuration->text("log.kind") == "kafka")
    return failure(Errc::bad_configuration,
                   "log.kind = \"kafka\": this is for the embedded log; what was read from Kafka is checked by onboardctl events "
                   "verify, and at every start of the server");
  return log_path(context).map([](LogPath path) { return std::move(path.file); });
}

result<OpenedLog> open_log(const Context& context, bool open_texts) {
  const auto path = log_path(context);
  if (!path) return tl::unexpected(path.error());
  OpenedLog out;
  if (open_texts) {
    const auto secrets = secrets_of(context);
    if (!secrets) return tl::unexpected(secrets.error());
    auto keys = privacy::SqliteKeyStore::open_read_only(context.data() / "keys.db", secrets->wrapping_key());
    if (!keys) return tl::unexpected(keys.error());
    out.keys = std::move(*keys);
  } else {
    out.keys = std::make_unique<privacy::NoKeys>();
  }
  auto log = log::open_sqlite_reader(path->file);
  if (!log) return tl::unexpected(log.error());
  out.log = std::move(*log);
  return out;
}

LogGrowth::LogGrowth(log::EventLog& log)
    : subscription_(log.subscribe([this](std::uint32_t) {
        const std::lock_guard lock(mutex_);
        has_grown_ = true;
        grew_.notify_one();
      })) {}

LogGrowth::~LogGrowth() = default;

void LogGrowth::wait(std::chrono::milliseconds at_most) {
  std::unique_lock lock(mutex_);
  grew_.wait_for(lock, at_most, [this] { return has_grown_; });
  has_grown_ = false;
}

}  // namespace onboarding::app
