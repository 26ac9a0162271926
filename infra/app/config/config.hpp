// The configuration in force: one TOML file, overridden by the environment, overridden by flags. Values of the same key
// keep where they came from, so that every complaint and --print-config can say it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "actors/model/status.hpp"
#include "events/domain/result.hpp"
#include "infra/app/config/keys.hpp"

namespace onboarding::app {

enum class Errc {
  bad_configuration = 1,  // a file, variable or flag; the detail names it, the key and what is wrong
  not_in_this_version,    // known, and its feature comes later
  bad_data_folder,        // cannot be made, read or written
  not_running,            // no server answers
  not_found,
  damaged,   // events verify found something
  wrong_use  // of a command: the detail says what is right
};
std::error_code make_error_code(Errc);

using Pairs = std::vector<std::pair<std::string, std::string>>;

/// What is read, weakest first.
struct Sources {
  Pairs weak_defaults;                        // key → value: what the data folder suggests (postgres.url)
  std::optional<std::filesystem::path> file;  // must exist
  Pairs environment;                          // name → value: all of the process's, others' names are skipped
  Pairs flags;                                // key → value
};

class Configuration {
 public:
  /// Every value checked; or Errc::bad_configuration with the first thing that is wrong.
  static result<Configuration> load(const Sources&);

  /// The text form; empty when not set. Asking for a key that is none is a bug.
  const std::string& text(std::string_view key) const;
  bool is_set(std::string_view key) const { return !text(key).empty(); }
  std::int64_t integer(std::string_view key) const;  // 0 when not set
  double number(std::string_view key) const;
  bool flag(std::string_view key) const;  // false when not set
  std::vector<std::string> list(std::string_view key) const;
  /// "default", "/etc/onboard.toml:12", "environment ONBOARD_HTTP_LISTEN", "flag".
  const std::string& source(std::string_view key) const;

  /// Variables that begin with ONBOARD_, are none of ours and resemble none: a script's, a cluster's. One that names a known
  /// section, or is nearly a known name, is an error instead.
  const std::vector<std::string>& strange_variables() const { return strange_variables_; }

  /// As TOML with each value's source; secrets as "(set)" unless asked for.
  std::string print(bool with_secrets = false) const;

 private:
  struct Value {
    std::string text, source;
  };
  result<void> set(const Key&, std::string_view value, std::string source);
  result<void> read_file(const std::filesystem::path&);

  std::map<std::string, Value, std::less<>> values_;
  std::vector<std::string> strange_variables_;
};

/// The providers that have a key, with their limits; `enabled` says whether they are on. Errc::bad_configuration when one is
/// switched on and has none.
result<std::vector<model::ProviderSettings>> configured_providers(const Configuration&);
/// Of the model for embeddings, with its own limits, at that account.
model::ProviderSettings embedding_settings(const Configuration&, model::ProviderSettings account);
/// What stands in model.plans. Errc::bad_configuration names the plan and what is wrong with it.
result<std::vector<model::PlanSettings>> configured_plans(const Configuration&);

/// A complete file with every key commented out at its default.
std::string example_file();

// ---- the data folder

/// --data-dir, else ONBOARD_DATA_DIR, else .data; absolute.
std::filesystem::path data_folder(const std::string& flag);
/// The embedded log's database, or what was read from Kafka: events.db or kafka-cache.db in log.path, or in the data folder's log/.
std::filesystem::path log_file(const Configuration&, const std::filesystem::path& data);
/// Where master.key and operator.key lie: secrets.path, or the data folder.
std::filesystem::path secrets_folder(const Configuration&, const std::filesystem::path& data);
/// --config, else ONBOARD_CONFIG, else onboard.toml in the data folder, else in the working folder; nullopt: none of these.
std::optional<std::filesystem::path> configuration_file(const std::string& flag, const std::filesystem::path& data);
/// Everything together, for both programs: `flags` are the --set KEY=VALUE of the command line.
result<Configuration> load_configuration(const std::filesystem::path& data, const std::string& config_flag,
                                         const std::vector<std::string>& set_flags);
Pairs process_environment();

// What a running server writes into its data folder (running.toml, mode 0600) so that onboardctl finds it: its pid and the
// configuration in force, with the ports it really has.
struct Running {
  int pid = 0;
  Configuration configuration;
};
result<void> write_running(const std::filesystem::path& data, int pid, const Configuration&, const std::string& listen,
                           const std::string& admin_listen);
/// nullopt when no server runs there.
std::optional<Running> read_running(const std::filesystem::path& data);
void remove_running(const std::filesystem::path& data);

}  // namespace onboarding::app

template <>
struct std::is_error_code_enum<onboarding::app::Errc> : std::true_type {};
