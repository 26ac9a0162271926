// model, queue, flow: what operators see and change of the running server's parts, over its admin listener.
#include <rapidjson/prettywriter.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <iomanip>
#include <iostream>
#include <sstream>
#include <thread>

#include "events/codec/codec.hpp"
#include "events/codec/json.hpp"
#include "infra/app/ctl/admin_client.hpp"
#include "infra/app/ctl/commands.hpp"

namespace onboarding::app {
namespace {

using codec::find_member;
using codec::string_member;
using rapidjson::Value;
using namespace admin;

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
    if (const auto ms = number(p, "wait_ms"); ms >= 1'000) std::cout << "  next call in " << (ms + 999) / 1000 << " s";
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

bool is_name(const std::string& text) {
  return !text.empty() && text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_-") == std::string::npos;
}

}  // namespace

int model_status(const Context& context, bool json, bool watch) {
  return look(context, "/api/admin/llm", json, watch, show_status);
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
  if (!is_name(provider)) return complain({Errc::not_found, "there is no provider " + provider});
  HttpClient client;
  return finish(ask(context, client, "/api/admin/llm/" + provider, std::string(codec::written(buffer)), "PATCH"), json,
                show_status);
}

int flow_show(const Context& context, const std::string& name, std::uint32_t version) {
  if (!is_name(name)) return complain({Errc::not_found, "there is no flow " + name});
  HttpClient client;
  const std::string query = version > 0 ? "?version=" + std::to_string(version) : "";
  return finish(ask(context, client, "/api/admin/flows/" + name + query), false, [](const Value& found) {
    rapidjson::StringBuffer buffer;
    rapidjson::PrettyWriter<rapidjson::StringBuffer> writer(buffer);
    writer.SetIndent(' ', 2);
    part(found, "flow").Accept(writer);
    std::cout << codec::written(buffer) << "\n";
  });
}

int flow_put(const Context& context, const std::string& file) {
  std::stringstream text;
  if (file == "-") text << std::cin.rdbuf();
  else if (std::ifstream in(file); in) text << in.rdbuf();
  else return complain({Errc::not_found, file + " cannot be read"});
  const auto flow = codec::parse_flow(text.str());
  if (!flow) return complain({Errc::bad_configuration, file + ": " + flow.error().message()});
  if (!is_name(flow->name))
    return complain({Errc::bad_configuration, file + ": /name: lower-case letters, digits, _ and - only"});
  HttpClient client;
  const auto answer = ask(context, client, "/api/admin/flows/" + flow->name, text.str(), "PUT");
  return finish(answer, false, [&](const Value& put) {
    std::cout << flow->name << " version " << number(put, "version")
              << (answer->status == 201 ? " is in force for sessions that begin from now on\n"
                                        : " says the same already: nothing changed\n");
  });
}

int queue(const Context& context, const std::string& mode, bool json) {
  HttpClient client;
  const auto show = [](const Value& status) { show_queue(part(status, "queue")); };
  if (mode.empty()) return finish(ask(context, client, "/api/admin/llm"), json, show);
  return finish(ask(context, client, "/api/admin/queue-mode", R"({"mode":")" + mode + "\"}", "PUT"), json, show);
}

}  // namespace onboarding::app
