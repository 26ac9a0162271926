#include "infra/app/server/logging.hpp"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <unistd.h>

namespace onboarding::app {
namespace {

constexpr std::size_t file_bytes = 10 << 20, files = 3;

/// %* : the message as the inside of a JSON string; spdlog itself escapes nothing.
class EscapedMessage final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
    constexpr std::string_view hex = "0123456789abcdef";
    for (const char c : message.payload) {
      const auto byte = static_cast<unsigned char>(c);
      if (c == '"' || c == '\\') {
        out.push_back('\\');
        out.push_back(c);
      } else if (byte < 0x20) {
        for (const char e : {'\\', 'u', '0', '0', hex[byte >> 4], hex[byte & 15]}) out.push_back(e);
      } else {
        out.push_back(c);
      }
    }
  }
  std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<EscapedMessage>(); }
};

}  // namespace

std::shared_ptr<spdlog::logger> make_server_log() {
  if (::isatty(STDERR_FILENO)) {
    auto log = std::make_shared<spdlog::logger>("onboardd", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    log->set_pattern("%H:%M:%S %^%l%$ %v");
    return log;
  }
  auto log = std::make_shared<spdlog::logger>("onboardd", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  auto formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
  formatter->add_flag<EscapedMessage>('*').set_pattern(R"({"time":"%Y-%m-%dT%H:%M:%S.%fZ","level":"%l","event":"log","message":"%*"})");
  log->set_formatter(std::move(formatter));
  return log;
}

spdlog::sink_ptr request_sink(const std::filesystem::path& data) {
  if (!::isatty(STDOUT_FILENO)) return std::make_shared<spdlog::sinks::stdout_sink_mt>();
  return std::make_shared<spdlog::sinks::rotating_file_sink_mt>((data / "log-files" / "requests.log").string(), file_bytes, files);
}

}  // namespace onboarding::app
