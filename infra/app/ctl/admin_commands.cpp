// model, queue, projections: what operators see and change of the running server's parts, over its admin listener.
#include <unistd.h>

#include <fstream>
#include <functional>
#include <iomanip>
#include <iostream>
#include <thread>

#include "events/codec/json.hpp"
#include "infra/app/ctl/commands.hpp"
#include "infra/app/ctl/http_client.hpp"

namespace onboarding::app {
namespace {

using codec::find_member;
using codec::string_member;
using rapidjson::Value;

/// Asks the admin listener of the server that runs in the data folder, with its operator key.
result<HttpAnswer> ask(const Context& context, HttpClient& client, const std::string& path, const std::string& body = {},
                       const char* method = "GET") {
  const auto running = read_running(context.data());
  if (!running) return failure(Errc::not_running, "no server runs in " + context.data().string());
  const auto& admin = running->configuration.text("http.admin_listen");
  if (admin.empty()) return failure(Errc::not_running, "the server has no admin listener (http.admin_listen)");
  std::ifstream file(context.data() / "operator.key");
  std::string key;
  if (!std::getline(file, key))
    return failure(Errc::bad_data_folder, (context.data() / "operator.key").string() + " cannot be read");
  return client.send("http://" + admin + path, {"Authorization: Bearer " + key}, body, std::chrono::seconds(10), method);
}

/// Hands the answer's JSON to `show`, or says what the server's problem says.
int finish(const result<HttpAnswer>& answer, bool json, const std::function<void(const Value&)>& show) {
  if (!answer) return complain(answer.error());
  const auto document = codec::parse_json(answer->body);
  if (answer->status != 200) {
    std::string said = "the server answers " + std::to_string(answer->status);
    if (document && document->IsObject()) {
      said += ": " + std::string(string_member(*document, "title"));
      if (const auto detail = string_member(*document, "detail"); !detail.empty()) said += ": " + std::string(detail);
      if (const auto* errors = find_member(*document, "errors"); errors && errors->IsArray())
        for (const auto& error : errors->GetArray()) {
          auto name = string_member(error, "pointer");
          if (!name.empty()) name.remove_prefix(1);
          said += "; " + std::string(name) + " " + std::string(string_member(error, "detail"));
        }
    }
    note("onboardctl: " + said);
    return answer->status == 404 ? exit_not_found : answer->status == 422 || answer->status == 400 ? exit_wrong_use : exit_failed;
  }
  if (json) std::cout << answer->body << '\n';
  else if (document) show(*document);
  return exit_good;
}

std::int64_t number(const Value& in, const char* name) { return codec::int_member(in, name, 0); }
bool truth(const Value& in, const char* name) {
  const auto* found = find_member(in, name);
  return found && found->IsBool() && found->GetBool();
}
const Value& part(const Value& in, const char* name) {
  static const Value none(rapidjson::kObjectType);
  const auto* found = find_member(in, name);
  return found ? *found : none;
}

std::string bar(std::int64_t used, std::int64_t limit) {
  constexpr int width = 20;
  const auto filled =
      limit > 0 ? static_cast<int>(std::min<std::int64_t>(width, std::max<std::int64_t>(0, used) * width / limit)) : 0;
  std::string out;
  for (int i = 0; i < width; ++i) out += i < filled ? "█" : "·";
  return out;
}

void show_queue(const Value& queue) {
  std::cout << "queue      " << (truth(queue, "queueing") ? "ON" : "off") << " (" << string_member(queue, "mode") << ")";
  if (const auto why = string_member(queue, "why"); !why.empty()) std::cout << ": " << why;
  std::cout << "; " << number(queue, "waiting") << " wait, " << number(queue, "rate_limit_errors_5m")
            << " rate-limit errors in 5 minutes\n";
}

void show_status(const Value& status) {
  for (const auto& p : part(status, "providers").GetArray()) {
    const auto& breaker = part(p, "breaker");
    std::cout << std::left << std::setw(11) << string_member(p, "name") << std::setw(22) << string_member(p, "model")
              << (truth(p, "enabled") ? "on " : "off") << "  weight " << number(p, "weight") << "  breaker "
              << string_member(breaker, "state");
    if (const auto ms = number(breaker, "probe_in_ms"); ms > 0) std::cout << " (probe in " << (ms + 999) / 1000 << " s)";
    if (const auto ms = number(p, "held_ms"); ms > 0) std::cout << "  held for " << (ms + 999) / 1000 << " s by the provider";
    if (const auto error = string_member(p, "last_error"); !error.empty()) std::cout << "  last error " << error;
    std::cout << "\n";
    for (const auto& limit : part(p, "limits").GetArray())
      std::cout << "           " << std::setw(26) << string_member(limit, "name")
                << bar(number(limit, "used"), number(limit, "limit")) << "  " << number(limit, "used") << " of "
                << number(limit, "limit") << "\n";
    std::cout << "           " << number(p, "calls_total") << " calls, " << number(p, "failures_total") << " failed, "
              << number(p, "refused_by_provider_total") << " refused by the provider (429), "
              << number(p, "held_back_by_own_budget_total") << " held back by our own budget, " << number(p, "in_flight")
              << " in flight\n";
  }
  if (part(status, "providers").Empty()) std::cout << "no provider has an API key\n";
  std::cout << "offline    extractor " << (truth(status, "offline_extractor") ? "on" : "off") << "\n";
  show_queue(part(status, "queue"));
  for (const auto& plan : part(status, "plans").GetArray()) {
    std::cout << "plan       " << std::left << std::setw(12) << string_member(plan, "name") << "share " << number(plan, "share")
              << ", " << number(plan, "waiting") << " wait, " << number(plan, "tokens_today") << " tokens today";
    if (const auto most = number(plan, "tokens_per_day"); most > 0) std::cout << " of " << most;
    std::cout << "\n";
  }
  const auto& cache = part(status, "cache");
  std::cout << "cache      " << number(cache, "entries") << " answers, "
            << number(cache, "hits_exact") + number(cache, "hits_semantic") << " hits, " << number(cache, "misses")
            << " misses\n";
  const auto& recent = part(status, "recent");
  for (rapidjson::SizeType i = recent.Size() > 10 ? recent.Size() - 10 : 0; i < recent.Size(); ++i)
    std::cout << string_member(recent[i], "time") << "  " << string_member(recent[i], "what") << "  "
              << string_member(recent[i], "provider") << "  " << string_member(recent[i], "why") << "\n";
}

/// Shows what a path of the admin listener says; with `watch` again every second, until Ctrl-C.
int look(const Context& context, const std::string& path, bool json, bool watch, const std::function<void(const Value&)>& show) {
  HttpClient client;
  for (;;) {
    const auto answer = ask(context, client, path);
    if (watch && !json && ::isatty(STDOUT_FILENO)) std::cout << "\033[H\033[2J";
    const int code = finish(answer, json, show);
    std::cout << std::flush;
    if (!watch || code != exit_good) return code;
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
}

}  // namespace

int model_status(const Context& context, bool json, bool watch) {
  return look(context, "/api/admin/llm", json, watch, show_status);
}

int projections_list(const Context& context, bool json, bool watch) {
  return look(context, "/api/admin/projections", json, watch, [](const Value& answer) {
    const auto& all = part(answer, "projections");
    if (!all.IsArray() || all.Empty()) std::cout << "no projections run: postgres.url is not set\n";
    else
      for (const auto& p : all.GetArray()) {
        const auto* seconds = find_member(p, "lag_seconds");
        std::cout << std::left << std::setw(16) << string_member(p, "name") << "v" << std::setw(4) << number(p, "version")
                  << std::setw(10) << string_member(p, "state") << number(p, "lag_events") << " events, " << std::fixed
                  << std::setprecision(1) << (seconds && seconds->IsNumber() ? seconds->GetDouble() : 0) << " s behind, "
                  << number(p, "parked") << " parked";
        if (const auto detail = string_member(p, "detail"); !detail.empty()) std::cout << ": " << detail;
        std::cout << "\n";
      }
  });
}

int model_set(const Context& context, const std::string& provider, const std::vector<std::string>& changes, bool json) {
  rapidjson::StringBuffer buffer;
  codec::JsonWriter w(buffer);
  w.StartObject();
  for (const std::string& change : changes) {
    const auto equals = change.find('=');
    const std::string value = equals == std::string::npos ? "" : change.substr(equals + 1);
    const bool is_number = !value.empty() && value.size() < 16 && value.find_first_not_of("0123456789") == std::string::npos;
    if (equals == 0 || (!is_number && value != "true" && value != "false"))
      return complain(
          {Errc::bad_configuration, change + ": write NAME=VALUE with a whole number, true or false, e.g. weight=20"});
    codec::write_key(w, change.substr(0, equals));
    if (is_number) w.Uint64(std::stoull(value));
    else w.Bool(value == "true");
  }
  w.EndObject();
  if (provider.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_-") != std::string::npos)
    return complain({Errc::not_found, "there is no provider " + provider});
  HttpClient client;
  return finish(ask(context, client, "/api/admin/llm/" + provider, std::string(codec::written(buffer)), "PATCH"), json,
                show_status);
}

int queue(const Context& context, const std::string& mode, bool json) {
  HttpClient client;
  const auto show = [](const Value& status) { show_queue(part(status, "queue")); };
  if (mode.empty()) return finish(ask(context, client, "/api/admin/llm"), json, show);
  return finish(ask(context, client, "/api/admin/queue-mode", R"({"mode":")" + mode + "\"}", "PUT"), json, show);
}

}  // namespace onboarding::app
