// The composition root: the one place where the parts meet. Builds them in the order of their needs, serves, and takes
// them down in the opposite order.
//
// Layout of the data folder (mode 0700):
//   master.key operator.key   secrets (0600)        keys.db      the users' sealing keys
//   log/                      the embedded log      running.toml where the running server listens, and what is in force
//   onboard.toml              settings, if any      postgres/    infra/run's private PostgreSQL; postgres.url: its address
//   onboardd.pid              infra/run's           log-files/   onboardd.log (detached), requests.log (on a terminal)
//   chat.json                   onboardctl chat's last session    model-changes.json   what operators changed at run time
//   restore.part/               of onboardctl restore; while it is there, nothing starts
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>

#include "events/domain/result.hpp"
#include "infra/app/config/config.hpp"

namespace onboarding::app {

enum class Role { api, sessions, projections, jobs };
/// "api,sessions,projections,jobs"; or why not: an unknown name, or a subset that the embedded log cannot serve.
result<std::set<Role>> parse_roles(std::string_view text);

struct AppOptions {
  Configuration configuration;
  std::filesystem::path data;
  std::set<Role> roles = {Role::api, Role::sessions, Role::projections, Role::jobs};
};

class App {
 public:
  /// Ready to serve when it returns; pending turns and the read models catch up in the background.
  static result<std::unique_ptr<App>> start(AppOptions);
  ~App();
  App(const App&) = delete;
  App& operator=(const App&) = delete;

  /// Where it really listens ("127.0.0.1:8080"); empty: nowhere. Without the role api that is http.ops_listen.
  const std::string& listen() const;
  const std::string& admin_listen() const;
  /// Another owner took over: this process must go.
  bool fenced() const;
  /// Answers what was accepted, refuses the rest with 503, then stops; at most `patience` for the answers, cut short as
  /// soon as `hurry` says so. True: everything accepted was answered.
  bool drain(std::chrono::milliseconds patience, const std::function<bool()>& hurry);

 private:
  struct Parts;
  explicit App(std::unique_ptr<Parts>);
  std::unique_ptr<Parts> parts_;
};

std::string_view version();

}  // namespace onboarding::app
