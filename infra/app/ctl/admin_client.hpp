// What the commands that ask the running server's admin listener have in common. Private to infra/app/ctl.
#pragma once

#include <functional>
#include <string>

#include "events/codec/json.hpp"
#include "infra/app/ctl/context.hpp"
#include "infra/app/ctl/http_client.hpp"

namespace onboarding::app::admin {

using rapidjson::Value;

struct Listener {
  std::string url, authorization;  // http://…, and a header line with the operator key
};
/// `which`: http.listen or http.admin_listen, of the server that runs in the data folder.
result<Listener> listener_of(const Context&, const char* which);

/// Asks the admin listener of the server that runs in the data folder, with its operator key.
result<HttpAnswer> ask(const Context&, HttpClient&, const std::string& path, const std::string& body = {},
                       const char* method = "GET");
/// Hands the answer's JSON to `show`, or says what the server's problem says; the exit code.
int finish(const result<HttpAnswer>&, bool json, const std::function<void(const Value&)>& show);
/// Shows what a path says; with `watch` again every second, until Ctrl-C.
int look(const Context&, const std::string& path, bool json, bool watch, const std::function<void(const Value&)>& show);

std::int64_t number(const Value& in, const char* name);
double real(const Value& in, const char* name);
bool truth(const Value& in, const char* name);
/// The member, or an empty object.
const Value& part(const Value& in, const char* name);

}  // namespace onboarding::app::admin
