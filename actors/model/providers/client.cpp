#include "actors/model/providers/client.hpp"

#include <algorithm>

#include "actors/model/providers/anthropic.hpp"
#include "actors/model/providers/defaults.hpp"
#include "actors/model/providers/errc.hpp"
#include "actors/model/providers/gemini.hpp"
#include "actors/model/providers/openai.hpp"

namespace onboarding::model {
namespace {

std::unique_ptr<WireFormat> make_format(std::string_view provider) {
  if (provider == "openai") return std::make_unique<OpenAiFormat>();
  if (provider == "gemini") return std::make_unique<GeminiFormat>();
  if (provider == "deepseek") return std::make_unique<DeepSeekFormat>();
  if (provider == "anthropic") return std::make_unique<AnthropicFormat>();
  return nullptr;
}

class HttpProviderClient final : public ProviderClient {
 public:
  HttpProviderClient(ProviderSettings settings, std::unique_ptr<WireFormat> format, CurlLoop& loop)
      : settings_(std::move(settings)), format_(std::move(format)), loop_(loop) {}

  void call(const Prompt& prompt, std::chrono::milliseconds timeout, TextSink on_text,
            std::function<void(CallResult)> done) override {
    const bool streamed = static_cast<bool>(on_text);
    auto http = format_->build(settings_, prompt, streamed);
    http.timeout = std::min(timeout, settings_.timeout);
    std::shared_ptr<AnswerStream> stream;
    if (streamed) {
      stream = std::make_shared<AnswerStream>(*format_, std::move(on_text));
      http.on_piece = [stream](std::string_view piece) { return stream->feed(piece); };
      http.first_text_timeout = settings_.first_token_timeout;
      http.idle_timeout = settings_.idle_timeout;
    }
    loop_.submit(std::move(http), [format = format_, stream, done = std::move(done)](HttpReply reply) {
      auto result = stream                             ? stream->end(reply)
                    : reply.transport == Transport::ok ? read_reply(*format, reply)
                                                       : transport_failure(reply);
      result.latency_ms = reply.latency_ms;
      result.first_token_ms = reply.first_text_ms;
      result.was_sent = reply.was_sent;
      done(std::move(result));
    });
  }

 private:
  const ProviderSettings settings_;
  const std::shared_ptr<const WireFormat> format_;
  CurlLoop& loop_;
};

bool is_http(std::string_view url) {
  const auto host = url.substr(0, 7) == "http://" ? url.substr(7) : url.substr(0, 8) == "https://" ? url.substr(8) : "";
  return !host.empty() && url.find_first_of(" \t\r\n") == url.npos;
}

}  // namespace

bool provider_known(std::string_view name) {
  return std::find(kProviderNames.begin(), kProviderNames.end(), name) != kProviderNames.end();
}

result<std::shared_ptr<ProviderClient>> make_client(ProviderSettings settings, CurlLoop& loop) {
  auto format = make_format(settings.name);
  if (!format) return failure(Errc::unsupported_provider, settings.name);
  // A key with a line break would write headers of its own.
  if (settings.api_key.empty() || settings.api_key.find_first_of("\r\n") != settings.api_key.npos)
    return failure(Errc::bad_settings, settings.name + ": api_key");
  if (settings.model.empty()) return failure(Errc::bad_settings, settings.name + ": model");
  while (!settings.base_url.empty() && settings.base_url.back() == '/') settings.base_url.pop_back();
  if (!is_http(settings.base_url)) return failure(Errc::bad_settings, settings.name + ": base_url");
  return std::make_shared<HttpProviderClient>(std::move(settings), std::move(format), loop);
}

}  // namespace onboarding::model
