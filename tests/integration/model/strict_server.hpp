// The strict provider server (strict_provider.py) as a child process; it ends with this object, also when the test dies.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <future>
#include <stdexcept>

#include "actors/model/providers/curl_loop.hpp"
#include "actors/model/providers/defaults.hpp"
#include "events/codec/json.hpp"

namespace onboarding::model {

class StrictServer {
 public:
  /// Without limits and at once, unless the options say otherwise.
  explicit StrictServer(std::vector<std::string> options = {}) {
    int in[2], out[2];
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) throw std::runtime_error("pipe");
    child_ = fork();
    if (child_ == 0) {
      dup2(in[0], STDIN_FILENO);
      dup2(out[1], STDOUT_FILENO);
      std::vector<std::string> words = {"python3",      "tests/integration/model/strict_provider.py",
                                        "--until-eof",  "--key",
                                        "sk-test",      "--no-limits",
                                        "--latency-ms", "0",
                                        "--jitter-ms",  "0"};
      words.insert(words.end(), options.begin(), options.end());
      std::vector<char*> argv;
      for (auto& w : words) argv.push_back(w.data());
      argv.push_back(nullptr);
      execvp("python3", argv.data());
      _exit(127);
    }
    close(in[0]);
    close(out[1]);
    alive_ = in[1];
    char c = 0;
    std::string line;
    while (read(out[0], &c, 1) == 1 && c != '\n') line += c;
    close(out[0]);
    const auto urls = codec::parse_json(line);
    if (!urls || !urls->IsObject()) throw std::runtime_error("the strict server does not start");
    for (const auto& m : urls->GetObject()) urls_[m.name.GetString()] = m.value.GetString();
  }
  ~StrictServer() {
    close(alive_);
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
  StrictServer(const StrictServer&) = delete;
  StrictServer& operator=(const StrictServer&) = delete;

  ProviderSettings settings(std::string_view provider) const {
    auto s = default_settings(provider);
    s.enabled = true;
    s.api_key = "sk-test";
    s.base_url = urls_.at(std::string(provider)) + (provider == "openai" ? "/v1" : "");
    s.requests_per_minute = s.requests_per_day = s.max_concurrent = 0;
    s.tokens_per_minute = s.input_tokens_per_minute = s.output_tokens_per_minute = 0;
    return s;
  }

  /// What the control port answers to POST /control.
  void control(std::string command) {
    std::promise<HttpReply> promise;
    HttpCall call;
    call.url = urls_.at("control") + "/control";
    call.body = std::move(command);
    loop_.submit(std::move(call), [&](HttpReply r) { promise.set_value(std::move(r)); });
    const auto reply = promise.get_future().get();
    if (reply.status != 200) throw std::runtime_error("the strict server: " + reply.body);
  }
  void fault(std::string_view provider, std::string_view mode, std::string_view more = "") {
    control(R"({"provider":")" + std::string(provider) + R"(","fault":")" + std::string(mode) + "\"" + std::string(more) + "}");
  }

 private:
  pid_t child_ = -1;
  int alive_ = -1;
  std::map<std::string, std::string> urls_;
  CurlLoop loop_;
};

}  // namespace onboarding::model
