#include "infra/app/config/config.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <toml++/toml.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <fstream>
#include <sstream>

#include "actors/model/providers/client.hpp"
#include "actors/model/providers/defaults.hpp"
#include "events/domain/assertion.hpp"

extern char** environ;

namespace onboarding::app {
namespace {

struct Category final : std::error_category {
  const char* name() const noexcept override { return "app"; }
  std::string message(int code) const override {
    switch (static_cast<Errc>(code)) {
      case Errc::bad_configuration: return "the configuration has an error";
      case Errc::not_in_this_version: return "this version does not have it yet";
      case Errc::bad_data_folder: return "the data folder cannot be used";
      case Errc::not_running: return "no server answers";
      case Errc::not_found: return "there is no such thing";
      case Errc::damaged: return "the log is damaged";
      case Errc::wrong_use: return "wrong use";
    }
    return "unknown error";
  }
};

/// A TOML value in the text form that check_value takes; nullopt for tables, dates and nested lists.
std::optional<std::string> as_text(const toml::node& node) {
  if (const auto* s = node.as_string()) return s->get();
  if (const auto* b = node.as_boolean()) return b->get() ? "true" : "false";
  if (const auto* i = node.as_integer()) return std::to_string(i->get());
  if (const auto* f = node.as_floating_point()) {
    std::ostringstream out;
    out.precision(17);
    out << f->get();
    return out.str();
  }
  if (const auto* array = node.as_array()) {
    std::string out;
    for (const toml::node& item : *array) {
      const auto* s = item.as_string();
      if (!s || s->get().find(',') != std::string::npos) return std::nullopt;
      out += (out.empty() ? "" : ",") + s->get();
    }
    return out;
  }
  return std::nullopt;
}

bool fits(const Key& key, const toml::node& node) {
  switch (key.type) {
    case KeyType::integer:
    case KeyType::number: return node.is_number();
    case KeyType::boolean: return node.is_boolean();
    case KeyType::list: return node.is_array() || node.is_string();
    default: return node.is_string();
  }
}

struct Leaf {
  std::string name;
  const toml::node* node;
};
void collect(const toml::table& table, const std::string& prefix, std::vector<Leaf>& out) {
  for (const auto& [name, node] : table) {
    const std::string full = prefix + std::string(name.str());
    const auto* inner = node.as_table();
    if (inner && !inner->empty()) collect(*inner, full + ".", out);
    else out.push_back({full, &node});
  }
}

bool is_section(const std::string& name) {
  return std::any_of(keys().begin(), keys().end(), [&](const Key& key) { return key.name.starts_with(name + "."); });
}

/// A variable that is no setting but looks like a misspelt one: of a known section, or nearly a known name.
bool is_meant_for_us(const std::string& variable, const std::string& near) {
  const auto in_section = [&](Key key) {
    key.name.erase(key.name.find('.'));
    return variable.starts_with(key.variable() + "_");
  };
  return !near.empty() || std::any_of(keys().begin(), keys().end(), in_section);
}

bool is_address_of_a_service(std::string_view value) {
  return value.starts_with("tcp://") || value.starts_with("udp://") || value.starts_with("sctp://");
}

/// Kubernetes and Docker links tell each service's address in variables of its name: a service "onboard-http" is no mistake.
bool is_of_a_cluster(const std::string& variable, const std::string& value) {
  constexpr std::array inside{"_SERVICE_HOST", "_SERVICE_PORT", "_TCP_", "_UDP_", "_SCTP_", "_ENV_"};
  return is_address_of_a_service(value) || (variable.ends_with("_NAME") && value.starts_with('/')) ||
         std::any_of(inside.begin(), inside.end(), [&](const char* part) { return variable.find(part) != std::string::npos; });
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    out += c;
  }
  return out + '"';
}

std::string toml_value(const Key& key, std::string_view text) {
  switch (key.type) {
    case KeyType::integer:
    case KeyType::number:
    case KeyType::boolean: return std::string(text);
    case KeyType::list: {
      std::string out = "[";
      while (!text.empty()) {
        const auto comma = text.find(',');
        out += (out.size() > 1 ? ", " : "") + quoted(text.substr(0, comma));
        text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
      }
      return out + "]";
    }
    default: return quoted(text);
  }
}

std::pair<std::string, std::string> split(const std::string& name) {
  const auto dot = name.rfind('.');
  return {name.substr(0, dot), name.substr(dot + 1)};
}

std::string range(const Key& key) {
  std::ostringstream out;
  out.precision(15);  // 1000000, not 1e+06
  out << to_string(key.type);
  if (key.type == KeyType::choice) {
    for (const std::string& one : key.choices) out << ' ' << one;
  } else if (key.type == KeyType::integer || key.type == KeyType::number) {
    out << " from " << key.minimum;
    if (key.maximum < 1e9) out << " to " << key.maximum;
  }
  return out.str();
}

std::filesystem::path running_file(const std::filesystem::path& data) { return data / "running.toml"; }

result<void> write_private(const std::filesystem::path& file, const std::string& content) {
  const std::filesystem::path fresh = file.string() + ".new";
  ::unlink(fresh.c_str());
  const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return failure(Errc::bad_data_folder, fresh.string() + ": " + std::strerror(errno));
  const bool whole = ::write(fd, content.data(), content.size()) == static_cast<ssize_t>(content.size());
  ::close(fd);
  if (!whole || ::rename(fresh.c_str(), file.c_str()) != 0)
    return failure(Errc::bad_data_folder, file.string() + " cannot be written");
  return {};
}

}  // namespace

std::error_code make_error_code(Errc code) {
  static const Category category;
  return {static_cast<int>(code), category};
}

result<Configuration> Configuration::load(const Sources& sources) {
  Configuration out;
  for (const Key& key : keys()) out.values_[key.name] = {key.default_value, "default"};
  for (const auto& [name, value] : sources.weak_defaults) {
    const Key* key = find_key(name);
    ONBOARDING_ASSERT(key, "a weak default for a key that is none");
    if (auto set = out.set(*key, value, "data folder"); !set) return tl::unexpected(set.error());
  }
  if (sources.file) {
    if (auto read = out.read_file(*sources.file); !read) return tl::unexpected(read.error());
  }
  std::map<std::string_view, const Key*> own, usual;
  for (const Key& key : keys()) {
    if (!key.usual_variable.empty()) usual[key.usual_variable] = &key;
  }
  std::vector<std::string> variables;
  variables.reserve(keys().size());
  for (const Key& key : keys()) variables.push_back(key.variable());
  for (std::size_t i = 0; i < variables.size(); ++i) own[variables[i]] = &keys()[i];
  // The usual names first: our own ones are more precise and win.
  for (const auto* names : {&usual, &own}) {
    for (const auto& [name, value] : sources.environment) {
      const auto found = names->find(name);
      if (found == names->end() || value.empty()) continue;
      if (is_address_of_a_service(value))
        return failure(Errc::bad_configuration,
                       "environment " + name +
                           ": looks like what a cluster injected for a service of that name, not like a setting; rename the "
                           "service, or switch such variables off (Kubernetes: enableServiceLinks: false)");
      if (auto set = out.set(*found->second, value, "environment " + name); !set) return tl::unexpected(set.error());
    }
  }
  for (const auto& [name, value] : sources.environment) {
    const bool ours = std::find(kOtherVariables.begin(), kOtherVariables.end(), name) != kOtherVariables.end();
    if (!name.starts_with("ONBOARD_") || ours || own.contains(name)) continue;
    const std::string near = nearest_variable(name);
    if (!is_meant_for_us(name, near) || is_of_a_cluster(name, value)) out.strange_variables_.push_back(name);
    else
      return failure(Errc::bad_configuration,
                     "environment " + name + ": no such setting" + (near.empty() ? "" : "; did you mean " + near + "?"));
  }
  for (const auto& [name, value] : sources.flags) {
    const Key* key = find_key(name);
    if (!key) {
      const std::string near = nearest_key(name);
      return failure(Errc::bad_configuration,
                     "flag --set " + name + ": unknown key" + (near.empty() ? "" : "; did you mean " + near + "?"));
    }
    if (auto set = out.set(*key, value, "flag"); !set) return tl::unexpected(set.error());
  }
  return out;
}

result<void> Configuration::set(const Key& key, std::string_view value, std::string source) {
  const Checked checked = check_value(key, value);
  if (!checked.good) {
    const std::string shown = key.type == KeyType::secret ? "the value" : "\"" + std::string(value) + "\"";
    return failure(Errc::bad_configuration, source + ": " + key.name + ": " + shown + " " + checked.wrong);
  }
  values_[key.name] = {checked.value, std::move(source)};
  return {};
}

result<void> Configuration::read_file(const std::filesystem::path& file) {
  std::error_code ignored;
  if (std::filesystem::is_directory(file, ignored))
    return failure(Errc::bad_configuration, file.string() + ": is a folder, not a file of settings");
  toml::table table;
  try {
    table = toml::parse_file(file.string());
  } catch (const toml::parse_error& error) {
    return failure(Errc::bad_configuration,
                   file.string() + ":" + std::to_string(error.source().begin.line) + ": " + std::string(error.description()));
  } catch (const std::exception& error) { return failure(Errc::bad_configuration, file.string() + ": " + error.what()); }
  std::vector<Leaf> leaves;
  collect(table, "", leaves);
  // toml++ orders by name; complaints should come in the order of the file.
  std::sort(leaves.begin(), leaves.end(),
            [](const Leaf& a, const Leaf& b) { return a.node->source().begin.line < b.node->source().begin.line; });
  for (const Leaf& leaf : leaves) {
    const std::string at = file.string() + ":" + std::to_string(leaf.node->source().begin.line);
    const Key* key = find_key(leaf.name);
    if (leaf.node->is_table() && is_section(leaf.name)) continue;  // empty, and known
    if (!key) {
      const std::string near = nearest_key(leaf.name);
      return failure(Errc::bad_configuration,
                     at + ": unknown key " + leaf.name + (near.empty() ? "" : "; did you mean " + near + "?"));
    }
    const auto value = as_text(*leaf.node);
    if (!value || !fits(*key, *leaf.node)) {
      return failure(Errc::bad_configuration,
                     at + ": " + key->name + ": the value is not a " + std::string(to_string(key->type)));
    }
    if (auto done = set(*key, *value, at); !done) return done;
  }
  return {};
}

const std::string& Configuration::text(std::string_view key) const {
  const auto found = values_.find(key);
  ONBOARDING_ASSERT(found != values_.end(), "a key was asked for that is none");
  return found->second.text;
}

std::int64_t Configuration::integer(std::string_view key) const { return static_cast<std::int64_t>(number(key)); }

double Configuration::number(std::string_view key) const {
  const std::string& value = text(key);
  double parsed = 0;
  std::from_chars(value.data(), value.data() + value.size(), parsed);
  return parsed;
}

bool Configuration::flag(std::string_view key) const { return text(key) == "true"; }

std::vector<std::string> Configuration::list(std::string_view key) const {
  std::vector<std::string> out;
  std::istringstream in(text(key));
  for (std::string item; std::getline(in, item, ',');) out.push_back(item);
  return out;
}

const std::string& Configuration::source(std::string_view key) const {
  const auto found = values_.find(key);
  ONBOARDING_ASSERT(found != values_.end(), "a key was asked for that is none");
  return found->second.source;
}

std::string Configuration::print(bool with_secrets) const {
  std::string out, section;
  for (const Key& key : keys()) {
    const auto [table, name] = split(key.name);
    if (table != section) {
      out += (out.empty() ? "[" : "\n[") + table + "]\n";
      section = table;
    }
    const Value& value = values_.find(key.name)->second;
    if (value.text.empty()) {
      out += "# " + name + " is not set\n";
    } else {
      const bool hidden = key.type == KeyType::secret && !with_secrets;
      out += name + " = " + (hidden ? "\"(set)\"" : toml_value(key, value.text)) + "  # " + value.source + "\n";
    }
  }
  return out;
}

result<std::vector<model::ProviderSettings>> configured_providers(const Configuration& c) {
  std::vector<model::ProviderSettings> out;
  for (std::string_view name : model::kProviderNames) {
    const std::string at = "model." + std::string(name) + ".";
    const bool has_key = c.is_set(at + "api_key"), by_name = c.flag(at + "enabled");
    if (!has_key && by_name)
      return failure(Errc::bad_configuration,
                     c.source(at + "enabled") + ": " + at + "enabled is true, but " + at + "api_key is not set");
    if (!has_key) continue;
    model::ProviderSettings s = model::default_settings(name);
    s.enabled = !c.is_set(at + "enabled") || by_name;
    s.weight = static_cast<std::uint32_t>(c.integer(at + "weight"));
    s.base_url = c.text(at + "base_url");
    s.model = c.text(at + "model");
    s.api_key = c.text(at + "api_key");
    s.requests_per_minute = static_cast<std::uint32_t>(c.integer(at + "requests_per_minute"));
    s.requests_per_day = static_cast<std::uint32_t>(c.integer(at + "requests_per_day"));
    s.max_concurrent = static_cast<std::uint32_t>(c.integer(at + "max_concurrent"));
    s.tokens_per_minute = static_cast<std::uint64_t>(c.integer(at + "tokens_per_minute"));
    s.input_tokens_per_minute = static_cast<std::uint64_t>(c.integer(at + "input_tokens_per_minute"));
    s.output_tokens_per_minute = static_cast<std::uint64_t>(c.integer(at + "output_tokens_per_minute"));
    s.burst_seconds = c.number(at + "burst_seconds");
    const auto milliseconds = [&](const char* key) {
      return std::chrono::milliseconds(static_cast<std::int64_t>(c.number(at + key) * 1000));
    };
    s.timeout = milliseconds("timeout_seconds");
    s.first_token_timeout = milliseconds("first_token_timeout_seconds");
    s.idle_timeout = milliseconds("idle_timeout_seconds");
    s.spend_per_day_nanodollars = static_cast<std::uint64_t>(std::llround(c.number(at + "spend_per_day_dollars") * 1e9));
    out.push_back(std::move(s));
  }
  return out;
}

model::ProviderSettings embedding_settings(const Configuration& c, model::ProviderSettings account) {
  account.model = c.text("model.embeddings.model");
  account.requests_per_minute = static_cast<std::uint32_t>(c.integer("model.embeddings.requests_per_minute"));
  account.tokens_per_minute = static_cast<std::uint64_t>(c.integer("model.embeddings.tokens_per_minute"));
  account.requests_per_day = account.max_concurrent = 0;
  account.input_tokens_per_minute = account.output_tokens_per_minute = account.spend_per_day_nanodollars = 0;
  return account;
}

result<std::vector<model::PlanSettings>> configured_plans(const Configuration& c) {
  std::vector<model::PlanSettings> plans;
  for (const std::string& text : c.list("model.plans")) {
    const auto wrong = [&](const std::string& why) {
      return failure(Errc::bad_configuration, c.source("model.plans") + ": model.plans: \"" + text + "\": " + why +
                                                  "; write e.g. \"free share=1 tokens_per_day=200000 openai=gpt-6-luna\"");
    };
    std::istringstream words(text);
    model::PlanSettings plan;
    if (!(words >> plan.name) || plan.name.find('=') != std::string::npos) return wrong("begins with no name");
    if (std::any_of(plans.begin(), plans.end(), [&](const auto& other) { return other.name == plan.name; }))
      return wrong("this plan is there twice");
    for (std::string word; words >> word;) {
      const auto equals = word.find('=');
      const std::string name = word.substr(0, equals), value = equals == std::string::npos ? "" : word.substr(equals + 1);
      std::uint64_t number = 0;
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
      const bool whole = error == std::errc{} && end == value.data() + value.size();
      if (name == "share" && whole && number >= 1 && number <= 1'000'000) plan.share = static_cast<std::uint32_t>(number);
      else if (name == "share") return wrong("share is a whole number from 1 to 1000000");
      else if (name == "tokens_per_day" && whole) plan.tokens_per_day = number;
      else if (name == "tokens_per_day") return wrong("tokens_per_day is a whole number, 0 for no limit");
      else if (!model::provider_known(name)) return wrong(name + " is neither share, tokens_per_day nor a provider");
      else if (value.empty()) return wrong(name + " names no model");
      else plan.models[name] = value;
    }
    plans.push_back(std::move(plan));
  }
  return plans;
}

std::string example_file() {
  std::string out =
      "# onboard.toml: every key at its default. It is looked for in the data folder, then in the working folder.\n"
      "# Each key is also an environment variable: [http] listen is ONBOARD_HTTP_LISTEN, [model.openai] weight is\n"
      "# ONBOARD_MODEL_OPENAI_WEIGHT. Variables override the file, flags (--set http.listen=…) override both.\n"
      "# The providers' limits are those of their first paid tier on " +
      std::string(model::kProviderDataDate) + ".\n";
  std::string section;
  for (const Key& key : keys()) {
    const auto [table, name] = split(key.name);
    if (table != section) {
      out += "\n[" + table + "]\n";
      section = table;
    }
    out += "# " + key.says + " (" + range(key) + (key.usual_variable.empty() ? "" : "; also " + key.usual_variable) + ")\n";
    out += "# " + name + " =" + (key.default_value.empty() ? "" : " " + toml_value(key, key.default_value)) + "\n";
  }
  return out;
}

Pairs process_environment() {
  Pairs out;
  for (char** entry = environ; *entry; ++entry) {
    const std::string_view line = *entry;
    const auto equals = line.find('=');
    if (equals != std::string_view::npos) out.emplace_back(line.substr(0, equals), line.substr(equals + 1));
  }
  return out;
}

std::filesystem::path data_folder(const std::string& flag) {
  std::string chosen = flag;
  if (chosen.empty()) {
    for (const auto& [name, value] : process_environment())
      if (name == "ONBOARD_DATA_DIR") chosen = value;
  }
  if (chosen.empty()) chosen = ".data";
  return std::filesystem::absolute(chosen).lexically_normal();
}

std::filesystem::path secrets_folder(const Configuration& c, const std::filesystem::path& data) {
  return c.is_set("secrets.path") ? std::filesystem::path(c.text("secrets.path")) : data;
}

std::filesystem::path log_file(const Configuration& c, const std::filesystem::path& data) {
  return (c.is_set("log.path") ? std::filesystem::path(c.text("log.path")) : data / "log") /
         (c.text("log.kind") == "kafka" ? "kafka-cache.db" : "events.db");
}

std::optional<std::filesystem::path> configuration_file(const std::string& flag, const std::filesystem::path& data) {
  if (!flag.empty()) return flag;
  for (const auto& [name, value] : process_environment())
    if (name == "ONBOARD_CONFIG" && !value.empty()) return value;
  std::error_code ignored;
  for (const auto& candidate : {data / "onboard.toml", std::filesystem::path("onboard.toml")})
    if (std::filesystem::exists(candidate, ignored)) return candidate;
  return std::nullopt;
}

result<Configuration> load_configuration(const std::filesystem::path& data, const std::string& config_flag,
                                         const std::vector<std::string>& set_flags) {
  Sources sources;
  sources.file = configuration_file(config_flag, data);
  sources.environment = process_environment();
  if (std::ifstream in(data / "postgres.url"); in) {
    std::string url;
    std::getline(in, url);
    if (!url.empty()) sources.weak_defaults.emplace_back("postgres.url", url);
  }
  for (const std::string& pair : set_flags) {
    const auto equals = pair.find('=');
    if (equals == std::string::npos) return failure(Errc::bad_configuration, "flag --set " + pair + ": write KEY=VALUE");
    sources.flags.emplace_back(pair.substr(0, equals), pair.substr(equals + 1));
  }
  return Configuration::load(sources);
}

result<void> write_running(const std::filesystem::path& data, int pid, const Configuration& configuration,
                           const std::string& listen, const std::string& admin_listen) {
  // The API keys of the providers stay out: nobody needs them from here. The database's address is needed, hence 0600.
  std::string content = "# pid " + std::to_string(pid) + "\n";
  std::string section;
  for (const Key& key : keys()) {
    const auto [table, name] = split(key.name);
    if (table != section) content += "[" + table + "]\n";
    section = table;
    std::string value = configuration.text(key.name);
    if (key.name == "http.listen") value = listen;
    if (key.name == "http.admin_listen") value = admin_listen;
    if (value.empty() || (key.type == KeyType::secret && table.starts_with("model."))) continue;
    content += name + " = " + toml_value(key, value) + "\n";
  }
  return write_private(running_file(data), content);
}

std::optional<Running> read_running(const std::filesystem::path& data) {
  std::ifstream in(running_file(data));
  std::string hash, word;
  int pid = 0;
  if (!(in >> hash >> word >> pid) || word != "pid") return std::nullopt;
  std::ifstream command("/proc/" + std::to_string(pid) + "/cmdline");  // empty when it was killed and not reaped yet
  std::string program;
  std::getline(command, program, '\0');
  if (std::filesystem::path(program).filename() != "onboardd") return std::nullopt;
  Sources sources;
  sources.file = running_file(data);
  auto loaded = Configuration::load(sources);
  if (!loaded) return std::nullopt;
  return Running{pid, std::move(*loaded)};
}

void remove_running(const std::filesystem::path& data) {
  std::error_code ignored;
  std::filesystem::remove(running_file(data), ignored);
}

}  // namespace onboarding::app
