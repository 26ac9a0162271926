#include "infra/app/config/keys.hpp"

#include <charconv>
#include <cmath>

#include "actors/model/providers/defaults.hpp"

namespace onboarding::app {
namespace {

constexpr double no_limit = 1e12;

Key text(std::string name, KeyType type, std::string value, std::string says) {
  Key key;
  key.name = std::move(name);
  key.type = type;
  key.default_value = std::move(value);
  key.says = std::move(says);
  return key;
}
Key number(std::string name, std::string value, double minimum, double maximum, std::string says,
           KeyType type = KeyType::integer) {
  Key key = text(std::move(name), type, std::move(value), std::move(says));
  key.minimum = minimum;
  key.maximum = maximum;
  return key;
}
Key choice(std::string name, std::string value, std::vector<std::string> choices, std::string says) {
  Key key = text(std::move(name), KeyType::choice, std::move(value), std::move(says));
  key.choices = std::move(choices);
  return key;
}
Key with_variable(Key key, std::string variable) {
  key.usual_variable = std::move(variable);
  return key;
}

std::string upper(std::string_view name) {
  std::string out(name);
  for (char& c : out) c = c == '.' ? '_' : static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  return out;
}

void add_provider(std::vector<Key>& all, std::string_view name) {
  const model::ProviderSettings d = model::default_settings(name);
  const std::string at = "model." + d.name + ".", usual = upper(d.name);
  all.push_back(text(at + "enabled", KeyType::boolean, "", "on or off; not set: on when there is an api_key"));
  all.push_back(
      number(at + "weight", std::to_string(d.weight), 0, 1e6, "its share of the calls, against the weights of the others"));
  all.push_back(with_variable(text(at + "base_url", KeyType::url, d.base_url,
                                   d.name == "openai" ? "with /v1; /chat/completions is appended" : "up to the host"),
                              usual + "_BASE_URL"));
  all.push_back(text(at + "model", KeyType::text, d.model, "the model's name at the provider"));
  all.push_back(with_variable(text(at + "api_key", KeyType::secret, "", "without one the provider is off"), usual + "_API_KEY"));
  all.push_back(
      number(at + "requests_per_minute", std::to_string(d.requests_per_minute), 0, no_limit, "0: no limit of this kind"));
  all.push_back(number(at + "tokens_per_minute", std::to_string(d.tokens_per_minute), 0, no_limit,
                       "input and output together; 0: no limit of this kind"));
  all.push_back(
      number(at + "input_tokens_per_minute", std::to_string(d.input_tokens_per_minute), 0, no_limit, "0: no limit of this kind"));
  all.push_back(number(at + "output_tokens_per_minute", std::to_string(d.output_tokens_per_minute), 0, no_limit,
                       "0: no limit of this kind"));
  all.push_back(number(at + "requests_per_day", std::to_string(d.requests_per_day), 0, no_limit, "0: no limit of this kind"));
  all.push_back(
      number(at + "max_concurrent", std::to_string(d.max_concurrent), 0, 1e6, "calls in flight; 0: no limit of this kind"));
  all.push_back(number(at + "burst_seconds", "1", 0.01, 60, "how much of a limit may be used at once, in seconds of its refill",
                       KeyType::number));
  all.push_back(
      number(at + "spend_per_day_dollars", "0", 0, 1e6, "by our own price list; 0: no limit of this kind", KeyType::number));
  all.push_back(number(at + "timeout_seconds", "20", 0.1, 600, "a call is given up after this long", KeyType::number));
  all.push_back(number(at + "first_token_timeout_seconds", "10", 0, 600,
                       "of a streamed call: without a word; 0: no limit of this kind", KeyType::number));
  all.push_back(number(at + "idle_timeout_seconds", "5", 0, 600,
                       "of a streamed call: between two pieces; 0: no limit of this kind", KeyType::number));
}

std::vector<Key> make_keys() {
  std::vector<Key> all = {
      text("http.listen", KeyType::address, "127.0.0.1:8080", "the public listener"),
      text("http.admin_listen", KeyType::address, "127.0.0.1:8081", "the listener for operators and analysts"),
      text("http.ops_listen", KeyType::address, "",
           "where a process with --roles projections answers /livez, /readyz and /metrics; each one needs its own; not set: "
           "nowhere"),
      number("http.threads", "2", 1, 256, "workers of the public listener"),
      text("http.cors_origins", KeyType::list, "", "origins that browsers may call from, e.g. https://app.example.org"),
      number("http.stream_minutes", "60", 0.01, 1e6,
             "a session's stream of events ends after so long; the client comes again and goes on", KeyType::number),
      number("http.drain_seconds", "5", 0, 20,
             "at the end, clients that keep a connection open are told 503 for so long before it is closed", KeyType::number),
      choice("log.kind", "sqlite", {"sqlite", "kafka", "memory"}, "where events are kept; memory forgets everything at the end"),
      text("log.path", KeyType::path, "",
           "folder of the embedded log, or of the copy of what lies in Kafka; not set: log in the data folder"),
      number("log.partitions", "24", 1, 1024, "fixed when the log is made"),
      text("log.brokers", KeyType::list, "", "Kafka's bootstrap servers"),
      text("log.topic", KeyType::text, "onboarding-events", "Kafka's topic"),
      text("log.create_topic", KeyType::boolean, "true", "make the topic when there is none"),
      number("log.replicas", "0", 0, 100, "copies of a topic that is made; 0: three, or as many as there are brokers"),
      choice("log.security_protocol", "plaintext", {"plaintext", "ssl", "sasl_plaintext", "sasl_ssl"}, "how Kafka is spoken to"),
      text("log.ca_file", KeyType::path, "", "the authority that vouches for Kafka's certificates; not set: the system's"),
      text("log.certificate_file", KeyType::path, "", "our own certificate, where Kafka asks for one"),
      text("log.key_file", KeyType::path, "", "its key"),
      text("log.key_password", KeyType::secret, "", "the key's password"),
      choice("log.sasl_mechanism", "PLAIN", {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}, "how we log in to Kafka"),
      text("log.username", KeyType::text, "", "whom we log in to Kafka as"),
      text("log.password", KeyType::secret, "", "and the password"),
      text("log.client", KeyType::list, "", "more settings of librdkafka's, e.g. [\"socket.timeout.ms=5000\"]"),
      number("log.session_timeout_seconds", "6", 1, 300,
             "a server that Kafka has not heard of for so long is dealt no partitions", KeyType::number),
      text("cluster.listen", KeyType::address, "127.0.0.1:0", "with Kafka: where other servers pass requests on to"),
      text("cluster.address", KeyType::text, "", "how they reach it, host:port; not set: where it listens"),
      text("cluster.instance", KeyType::text, "",
           "this server's name, no other's: letters, digits, '.', ':', '-'; not set: that address"),
      text("secrets.path", KeyType::path, "",
           "folder of master.key and operator.key, the same for all servers; not set: the data folder"),
      text("postgres.url", KeyType::secret, "", "the read models' database; not set: the one that infra/run made, else none"),
      text("postgres.replica_url", KeyType::secret, "", "a streaming replica of it: reads go there while it keeps up"),
      number("postgres.replica_max_lag_seconds", "5", 0.1, 3600, "a replica further behind is left", KeyType::number),
      number("postgres.pool_size", "10", 1, 1000, "connections kept"),
      number("postgres.max_overflow", "20", 0, 1000, "connections more under load"),
      number("postgres.pool_timeout_seconds", "30", 0.01, 3600, "how long a request waits for a connection", KeyType::number),
      number("postgres.recycle_seconds", "3600", 1, 1e7, "a connection older than this is replaced"),
      number("postgres.metrics_ttl_seconds", "2", 0, 3600, "figures of /api/metrics are kept so long; 0: asked anew each time",
             KeyType::number),
      number("postgres.slow_query_seconds", "1", 0.001, 3600, "a query that takes longer is logged by its name", KeyType::number),
      text("postgres.pre_ping", KeyType::boolean, "true", "check a connection before it is used"),
      text("flows.path", KeyType::path, "", "folder of flow files (*.json); the shipped flow is always there"),
      number("sessions.abandon_after_minutes", "30", 0.01, 1e6, "a session that nobody writes to counts as abandoned",
             KeyType::number),
      number("sessions.close_after_minutes", "60", 0, 1e6, "how long a completed session takes corrections", KeyType::number),
      number("sessions.passivate_after_seconds", "60", 0.05, 1e6, "an idle session leaves the memory", KeyType::number),
      number("sessions.max_in_memory", "50000", 100, 1e8, "sessions; beyond it the idle one that was unused longest leaves"),
      number("sessions.max_messages", "200", 1, 100'000, "user messages a session"),
      number("throttle.requests_per_minute_per_ip", "30", 0, 1e9, "new sessions an address; 0 switches it off"),
      number("throttle.messages_per_minute_per_ip", "", 0, 1e9,
             "messages an address; not set: as many as that; 0 switches it off"),
      number("throttle.streams_per_ip", "100", 0, 1e6, "streams that an address may have open at once; 0 switches it off"),
      text("throttle.trusted_proxies", KeyType::list, "", "addresses or CIDR blocks whose X-Forwarded-For is believed"),
      text("queue_mode.auto", KeyType::boolean, "true", "queue mode switches itself on under load"),
      number("queue_mode.active_sessions_above", "50", 1, 1e9, "sessions that wait for budget"),
      number("queue_mode.rate_limit_errors_5m_above", "10", 1, 1e9, "rate-limit errors in five minutes"),
      number("queue_mode.max_wait_minutes", "30", 0.1, 1440,
             "how long a queued message waits for budget before the offline extractor answers", KeyType::number),
      text("model.plans", KeyType::list, "",
           "plans with a share of the budget against the others', tokens a day and models; any but free takes the application "
           "key; "
           "e.g. [\"free share=1 tokens_per_day=200000 openai=gpt-6-luna\", \"pro share=4\"]"),
      text("model.fallback_order", KeyType::list, "", "providers to try after the chosen one; not set: by weight"),
      text("model.shared_budget_url", KeyType::secret, "",
           "a PostgreSQL database in which servers that use the same provider accounts share their limits; not set: all of them "
           "are this server's"),
      number("model.max_servers", "8", 1, 1000, "how many may share; each always has an equal part of a tenth of each limit"),
      text("model.cache.enabled", KeyType::boolean, "true",
           "questions are answered from the flow's FAQ, and repeated ones from what a model said"),
      number("model.cache.ttl_seconds", "3600", 1, 1e7, "how long a model's answer is kept"),
      number("model.cache.max_bytes", "16777216", 0, 1e10, "of all that is kept; the longest unused gives way"),
      text("model.embeddings.enabled", KeyType::boolean, "false",
           "a question that the FAQ does not have in these words is looked up by meaning, with openai's embeddings; its text "
           "goes to "
           "them for that"),
      text("model.embeddings.model", KeyType::text, "text-embedding-3-small", "of the account in [model.openai]"),
      number("model.embeddings.dimensions", "256", 8, 3072, "numbers a text; fewer are faster, more tell nearer things apart"),
      number("model.embeddings.threshold", "0.8", 0, 1, "least cosine of two questions that are taken for one", KeyType::number),
      number("model.embeddings.requests_per_minute", "500", 1, no_limit, "beyond, questions go to a model"),
      number("model.embeddings.tokens_per_minute", "200000", 1, no_limit, "beyond, questions go to a model"),
      text("model.offline.enabled", KeyType::boolean, "true", "the extractor that needs no network and no key"),
  };
  for (std::string_view name : model::kProviderNames) add_provider(all, name);
  return all;
}

bool is_space(char c) { return c == ' ' || c == '\t'; }
std::string_view trim(std::string_view s) {
  while (!s.empty() && is_space(s.front())) s.remove_prefix(1);
  while (!s.empty() && is_space(s.back())) s.remove_suffix(1);
  return s;
}

Checked good(std::string value) { return {true, std::move(value), {}}; }
Checked wrong(std::string why) { return {false, {}, std::move(why)}; }

std::string short_number(double value) {
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed).ptr;
  return {buffer, end};
}

Checked check_number(const Key& key, std::string_view value) {
  double parsed = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), parsed);
  const bool whole = key.type == KeyType::integer;
  if (error != std::errc{} || end != value.data() + value.size() || !std::isfinite(parsed) ||
      (whole && parsed != std::floor(parsed)))
    return wrong(whole ? "is not a whole number" : "is not a number");
  if (parsed < key.minimum || parsed > key.maximum) {
    return wrong(key.maximum >= no_limit ? "is below " + short_number(key.minimum)
                                         : "is not between " + short_number(key.minimum) + " and " + short_number(key.maximum));
  }
  return good(short_number(parsed));
}

Checked check_address(std::string_view value) {
  const auto colon = value.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return wrong("is not host:port");
  const std::string_view host = value.substr(0, colon), port = value.substr(colon + 1);
  unsigned parsed = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), parsed);
  if (port.empty() || error != std::errc{} || end != port.data() + port.size() || parsed > 65535)
    return wrong("has no port between 0 and 65535");
  if (host.find(':') != std::string_view::npos && (host.front() != '[' || host.back() != ']'))
    return wrong("needs brackets around an IPv6 address: [::1]:8080");
  return good(std::string(value));
}

Checked check_list(std::string_view value) {
  std::string out;
  while (!value.empty()) {
    const auto comma = value.find(',');
    const std::string_view item = trim(value.substr(0, comma));
    if (!item.empty()) out += (out.empty() ? "" : ",") + std::string(item);
    value = comma == std::string_view::npos ? std::string_view{} : value.substr(comma + 1);
  }
  return good(out);
}

std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string_view to_string(KeyType type) {
  switch (type) {
    case KeyType::text: return "text";
    case KeyType::address: return "host:port";
    case KeyType::path: return "path";
    case KeyType::url: return "URL";
    case KeyType::list: return "list of texts";
    case KeyType::integer: return "whole number";
    case KeyType::number: return "number";
    case KeyType::boolean: return "true or false";
    case KeyType::choice: return "one of";
    case KeyType::secret: return "text, never shown";
  }
  return "";
}

std::string Key::variable() const { return "ONBOARD_" + upper(name); }

const std::vector<Key>& keys() {
  static const std::vector<Key> all = make_keys();
  return all;
}

const Key* find_key(std::string_view name) {
  for (const Key& key : keys())
    if (key.name == name) return &key;
  return nullptr;
}

namespace {

/// Of the known names, the one that differs from `name` in the fewest letters, and in less than `bound`.
std::string nearest(std::string_view name, std::size_t bound, std::vector<std::string> known) {
  std::string best;
  for (std::string& one : known) {
    const std::size_t d = distance(name, one);
    if (d < bound) {
      bound = d;
      best = std::move(one);
    }
  }
  return best;
}

}  // namespace

std::string nearest_key(std::string_view name) {
  std::vector<std::string> known;
  for (const Key& key : keys()) known.push_back(key.name);
  return nearest(name, std::max<std::size_t>(3, name.size() / 3), std::move(known));
}

std::string nearest_variable(std::string_view variable) {
  std::vector<std::string> known(kOtherVariables.begin(), kOtherVariables.end());
  for (const Key& key : keys()) known.push_back(key.variable());
  return nearest(variable, 3, std::move(known));
}

Checked check_value(const Key& key, std::string_view raw) {
  const std::string_view value = trim(raw);
  if (value.find('\0') != std::string_view::npos) return wrong("holds a NUL");
  if (value.empty()) return good({});  // as if it were not set
  switch (key.type) {
    case KeyType::text:
    case KeyType::path:
    case KeyType::secret: return good(std::string(value));
    case KeyType::list: return check_list(value);
    case KeyType::address: return check_address(value);
    case KeyType::integer:
    case KeyType::number: return check_number(key, value);
    case KeyType::url: {
      if (!value.starts_with("http://") && !value.starts_with("https://"))
        return wrong("does not begin with http:// or https://");
      std::string_view stem = value;
      while (stem.ends_with('/')) stem.remove_suffix(1);
      return good(std::string(stem));
    }
    case KeyType::boolean: {
      std::string lower(value);
      for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
      if (lower == "true" || lower == "1" || lower == "on" || lower == "yes") return good("true");
      if (lower == "false" || lower == "0" || lower == "off" || lower == "no") return good("false");
      return wrong("is neither true nor false");
    }
    case KeyType::choice: {
      std::string names;
      for (const std::string& one : key.choices) {
        if (one == value) return good(one);
        names += (names.empty() ? "" : ", ") + one;
      }
      return wrong("is none of " + names);
    }
  }
  return wrong("is of no known type");
}

}  // namespace onboarding::app
