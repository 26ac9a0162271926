// Where log lines go. On a terminal: text on standard error, the access log in a file of the data folder. Otherwise: one
// JSON object a line, the server's own on standard error, the access log on standard output.
#pragma once

#include <spdlog/logger.h>

#include <filesystem>
#include <memory>

namespace onboarding::app {

std::shared_ptr<spdlog::logger> make_server_log();
spdlog::sink_ptr request_sink(const std::filesystem::path& data);

}  // namespace onboarding::app
