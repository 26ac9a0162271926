#include "infra/app/ctl/admin_client.hpp"

#include <unistd.h>

#include <fstream>
#include <iostream>
#include <thread>

namespace onboarding::app::admin {

using codec::find_member;
using codec::string_member;

result<Listener> listener_of(const Context& context, const char* which) {
  const auto running = read_running(context.data());
  if (!running) return failure(Errc::not_running, "no server runs in " + context.data().string());
  const auto& address = running->configuration.text(which);
  if (address.empty()) return failure(Errc::not_running, std::string("the server has no such listener (") + which + ")");
  const auto key_file = secrets_folder(running->configuration, context.data()) / "operator.key";
  std::ifstream file(key_file);
  std::string key;
  if (!std::getline(file, key)) return failure(Errc::bad_data_folder, key_file.string() + " cannot be read");
  return Listener{"http://" + address, "Authorization: Bearer " + key};
}

result<HttpAnswer> ask(const Context& context, HttpClient& client, const std::string& path, const std::string& body,
                       const char* method) {
  const auto listener = listener_of(context, "http.admin_listen");
  if (!listener) return tl::unexpected(listener.error());
  // A change is begun within eight seconds or not at all, and then bounded by PostgreSQL's time for a statement.
  const std::chrono::seconds patience(body.empty() ? 10 : 45);
  auto answer = client.send(listener->url + path, {listener->authorization}, body, patience, method);
  if (!answer && !body.empty()) answer.error().detail += "; look whether it was done before you repeat it";
  return answer;
}

int finish(const result<HttpAnswer>& answer, bool json, const std::function<void(const Value&)>& show) {
  if (!answer) return complain(answer.error());
  const auto document = codec::parse_json(answer->body);
  if (answer->status / 100 != 2) {
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
double real(const Value& in, const char* name) {
  const auto* found = find_member(in, name);
  return found && found->IsNumber() ? found->GetDouble() : 0;
}
bool truth(const Value& in, const char* name) {
  const auto* found = find_member(in, name);
  return found && found->IsBool() && found->GetBool();
}
const Value& part(const Value& in, const char* name) {
  static const Value none(rapidjson::kObjectType);
  const auto* found = find_member(in, name);
  return found ? *found : none;
}

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

}  // namespace onboarding::app::admin
