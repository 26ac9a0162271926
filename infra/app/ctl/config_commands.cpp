#include <iostream>

#include "infra/app/ctl/commands.hpp"
#include "infra/app/ctl/http_client.hpp"

namespace onboarding::app {

int config_get(const Context& context, const std::string& name) {
  const Key* key = find_key(name);
  if (!key) {
    const std::string near = nearest_key(name);
    return complain({Errc::bad_configuration, "unknown key " + name + (near.empty() ? "" : "; did you mean " + near + "?")});
  }
  const auto configuration = context.configuration();
  if (!configuration) return complain(configuration.error());
  const std::string& value = configuration->text(name);
  // An API key is shown to nobody; the database's address is what this command is for.
  const bool hidden = key->type == KeyType::secret && name.starts_with("model.") && !value.empty();
  std::cout << (hidden ? "(set)" : value) << '\n';
  return exit_good;
}

int config_check(const Context& context) {
  const auto file = configuration_file(context.config_flag, context.data());
  const auto loaded = load_configuration(context.data(), context.config_flag, context.set_flags);
  if (!loaded) return complain(loaded.error());
  if (auto providers = configured_providers(*loaded); !providers) return complain(providers.error());
  if (auto plans = configured_plans(*loaded); !plans) return complain(plans.error());
  for (const std::string& name : loaded->strange_variables())
    note("the environment variable " + name + " is no setting of this version");
  note(file ? file->string() + " and the environment are good" : "there is no file; the environment is good");
  return exit_good;
}

int config_list() {
  for (const Key& key : keys())
    std::cout << key.name << '\t' << key.variable() << '\t' << key.default_value << '\t' << key.says << '\n';
  return exit_good;
}

int config_example() {
  std::cout << example_file();
  return exit_good;
}

int where(const Context& context, bool ready) {
  const auto running = read_running(context.data());
  if (!running) return complain({Errc::not_running, "no server runs in " + context.data().string()});
  const std::string base = "http://" + running->configuration.text("http.listen"),
                    admin = running->configuration.text("http.admin_listen");
  if (ready) {
    HttpClient client;
    const auto answer = client.send(base + "/readyz", {}, {}, std::chrono::seconds(5));
    if (!answer) return complain(answer.error());
    if (answer->status != 200) return complain({Errc::not_running, base + "/readyz says " + std::to_string(answer->status)});
  }
  std::cout << "  chat     " << base << "/         or in the terminal: build/onboardctl chat\n"
            << "  docs     " << base << "/docs\n";
  if (!admin.empty())
    std::cout << "  metrics  http://" << admin << "/metrics   statistics: http://" << admin
              << "/api/metrics/stats (key: operator.key)\n";
  std::cout << "  data     " << context.data().string() << "\n"
            << "  console  none in this version\n";
  return exit_good;
}

}  // namespace onboarding::app
