// backup and restore (infra/docs/RUNBOOK.md says what an operator does with them).
#pragma once

#include <string>

#include "infra/app/ctl/commands.hpp"

namespace onboarding::app {

/// Into `folder`, which must not exist or be empty; beside the running server as well as without one. Whole or not at all.
int backup(const Context&, const std::string& folder, bool with_secrets);

struct RestoreOptions {
  std::string folder;              // of the back-up
  std::string secrets;             // folder with master.key; empty: the back-up's own
  bool same_log = false;           // nothing was written after the back-up: keep the log's id, cursors go on
  bool reset_read_models = false;  // empty the database that postgres.url names
};
/// Into the data folder, which must have neither log nor keys. Nothing is put there before all of it was verified.
int restore(const Context&, const RestoreOptions&);

}  // namespace onboarding::app
