#include "infra/app/server/logging.hpp"

#include <rapidjson/encodedstream.h>
#include <rapidjson/memorystream.h>
#include <rapidjson/reader.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <unistd.h>

#include "events/codec/json.hpp"
#include "http/line_writer.hpp"

namespace onboarding::app {
namespace {

constexpr std::size_t file_bytes = 10 << 20, files = 3;
constexpr std::size_t max_waiting_lines = 8'192;

/// A JSON object whose first member is the event's name: what our own code writes. Only looked through, no document is made.
bool is_event(std::string_view text) {
  if (!text.starts_with(R"({"event":)") || text.find('\n') != text.npos) return false;
  rapidjson::MemoryStream bytes(text.data(), text.size());
  rapidjson::EncodedInputStream<rapidjson::UTF8<>, rapidjson::MemoryStream> in(bytes);
  rapidjson::BaseReaderHandler<> nobody;
  return !rapidjson::Reader().Parse<rapidjson::kParseIterativeFlag | rapidjson::kParseValidateEncodingFlag>(in, nobody).IsError();
}

/// %* : what follows time and level. A message that is a JSON object gives its members, any other is a "log" event's text.
class Members final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
    const std::string_view text(message.payload.data(), message.payload.size());
    const auto append = [&](std::string_view piece) { out.append(piece.data(), piece.data() + piece.size()); };
    if (is_event(text)) {
      append(",");
      append(text.substr(1));
      return;
    }
    std::string quoted;
    codec::append_string(quoted, text);
    append(R"(,"event":"log","message":)");
    append(quoted);
    append("}");
  }
  std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<Members>(); }
};

/// Lines gather for a moment, but a warning is written at once, and all before it.
class Gathering final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  Gathering() : lines_(std::make_shared<spdlog::sinks::stderr_sink_mt>(), "server-log", max_waiting_lines) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    line_.clear();
    formatter_->format(message, line_);
    lines_.write({line_.data(), line_.size()});
    if (message.level >= spdlog::level::warn) lines_.flush();
  }
  void flush_() override { lines_.flush(); }

  spdlog::memory_buf_t line_;
  http::LineWriter lines_;
};

}  // namespace

std::shared_ptr<spdlog::logger> make_server_log() {
  if (::isatty(STDERR_FILENO)) {
    auto log = std::make_shared<spdlog::logger>("onboardd", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    log->set_pattern("%H:%M:%S %^%l%$ %v");
    return log;
  }
  auto log = std::make_shared<spdlog::logger>("onboardd", std::make_shared<Gathering>());
  auto formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc, "");
  formatter->add_flag<Members>('*').set_pattern(R"({"time":"%Y-%m-%dT%H:%M:%S.%fZ","level":"%l"%*)");
  log->set_formatter(std::move(formatter));
  return log;
}

spdlog::sink_ptr request_sink(const std::filesystem::path& data) {
  if (!::isatty(STDOUT_FILENO)) return std::make_shared<spdlog::sinks::stdout_sink_mt>();
  return std::make_shared<spdlog::sinks::rotating_file_sink_mt>((data / "log-files" / "requests.log").string(), file_bytes,
                                                                files);
}

}  // namespace onboarding::app
