// plan: what a number of onboardings takes. Every figure follows from measured inputs (measured.json, with the command that gives each),
// the provider's limits, the price table, and what the caller assumes; each says which.
#include <cmath>
#include <iostream>
#include <sstream>

#include "actors/model/providers/defaults.hpp"
#include "events/clock.hpp"
#include "events/codec/json.hpp"
#include "events/domain/assertion.hpp"
#include "events/pricing/pricing.hpp"
#include "infra/app/ctl/commands.hpp"
#include "infra/app/ctl/measured.hpp"

namespace onboarding::app {
namespace {

constexpr double most_of_a_core =
    0.5;  // of a server's time: the rest is for the peak within a second, a rebuild, a neighbour's failure
constexpr double cores_of_a_server = 4;
constexpr double bytes_of_a_broker = 4e12;
constexpr std::uint32_t least_partitions = 24, most_partitions = 999, partitions_of_a_server = 8;

struct Figure {
  std::string name, unit;
  double value;
  std::string rests_on;
};

class Inputs {
 public:
  Inputs() {
    auto parsed = codec::parse_json(measured_json());
    ONBOARDING_ASSERT(parsed, "measured.json can be read");
    document_ = std::move(*parsed);
  }
  double operator()(std::string_view name) const {
    const rapidjson::Value* const input = codec::find_member(document_, name);
    const rapidjson::Value* const value = input ? codec::find_member(*input, "value") : nullptr;
    return value && value->IsNumber() ? value->GetDouble() : 0;
  }
  /// Names that begin so.
  std::vector<std::string> names(std::string_view prefix) const {
    std::vector<std::string> found;
    for (const auto& member : document_.GetObject())
      if (std::string_view(member.name.GetString(), member.name.GetStringLength()).starts_with(prefix))
        found.emplace_back(member.name.GetString(), member.name.GetStringLength());
    return found;
  }
  std::string from(std::string_view name) const {
    const rapidjson::Value* const input = codec::find_member(document_, name);
    return input ? std::string(codec::string_member(*input, "from")) : "";
  }

 private:
  rapidjson::Document document_;
};

/// "90s", "30m", "12h", "1d", "2w"; seconds.
std::optional<double> parse_span(const std::string& text) {
  if (text.size() < 2 || text.size() > 8 || text.find_first_not_of("0123456789") != text.size() - 1 || text[0] == '0')
    return std::nullopt;
  const double number = std::stod(text);
  switch (text.back()) {
    case 's': return number;
    case 'm': return number * 60;
    case 'h': return number * 3600;
    case 'd': return number * 86400;
    case 'w': return number * 7 * 86400;
    default: return std::nullopt;
  }
}

std::string shown(double value) {
  std::ostringstream out;
  out.imbue(std::locale::classic());
  out << std::fixed;
  out.precision(value < 10 && value != std::floor(value) ? 2 : 0);
  out << value;
  std::string text = out.str();
  const auto end = text.find('.') == text.npos ? text.size() : text.find('.');
  for (auto at = static_cast<std::ptrdiff_t>(end) - 3; at > 0; at -= 3) text.insert(static_cast<std::size_t>(at), ",");
  return text;
}

std::string shown_bytes(double bytes) {
  for (const char* const unit : {"B", "kB", "MB", "GB", "TB"}) {
    if (bytes < 1000 || std::string_view(unit) == "TB") return shown(bytes) + " " + unit;
    bytes /= 1000;
  }
  return {};
}

struct Limit {
  const char* kind;
  double demand, a_minute;
};

/// What the provider is asked for in a minute, against what it gives; a limit of 0 is none.
std::vector<Limit> limits_of(const model::ProviderSettings& provider, const PlanOptions& options, double calls, double input,
                             double output, double counted) {
  const double requests =
      options.requests_per_minute > 0 ? options.requests_per_minute : static_cast<double>(provider.requests_per_minute);
  const double tokens =
      options.tokens_per_minute > 0 ? options.tokens_per_minute : static_cast<double>(provider.tokens_per_minute);
  std::vector<Limit> limits = {{"requests", calls, requests},
                               {"tokens", counted, tokens},
                               {"input tokens", input, static_cast<double>(provider.input_tokens_per_minute)},
                               {"output tokens", output, static_cast<double>(provider.output_tokens_per_minute)}};
  std::erase_if(limits, [](const Limit& limit) { return limit.a_minute <= 0; });
  return limits;
}

void print(const std::vector<Figure>& figures, const Inputs& inputs, const PlanOptions& options, const std::string& verdict) {
  std::cout << shown(static_cast<double>(options.users)) << " onboardings over " << options.over << " at " << options.provider
            << "\n\n";
  for (const Figure& figure : figures) {
    const std::string value = figure.unit == "bytes" ? shown_bytes(figure.value) : shown(figure.value) + " " + figure.unit;
    std::cout << "  " << figure.name << std::string(figure.name.size() < 34 ? 34 - figure.name.size() : 1, ' ') << value
              << std::string(value.size() < 30 ? 30 - value.size() : 1, ' ') << figure.rests_on << '\n';
  }
  std::cout << '\n' << verdict << "\n\nMeasured inputs:\n";
  for (const std::string& name : inputs.names(""))
    if (name.find('.') == name.npos || name.starts_with(options.provider + "."))
      std::cout << "  " << name << " = " << shown(inputs(name)) << "  (" << inputs.from(name) << ")\n";
}

void print_json(const std::vector<Figure>& figures, const Inputs& inputs, const std::string& verdict) {
  rapidjson::StringBuffer buffer;
  codec::JsonWriter w(buffer);
  w.StartObject();
  codec::write_key(w, "figures");
  w.StartArray();
  for (const Figure& figure : figures) {
    w.StartObject();
    codec::write_key(w, "name");
    codec::write_string(w, figure.name);
    codec::write_key(w, "value");
    w.Double(figure.value);
    codec::write_key(w, "unit");
    codec::write_string(w, figure.unit);
    codec::write_key(w, "rests_on");
    codec::write_string(w, figure.rests_on);
    w.EndObject();
  }
  w.EndArray();
  codec::write_key(w, "verdict");
  codec::write_string(w, verdict);
  codec::write_key(w, "inputs");
  w.StartObject();
  for (const std::string& name : inputs.names("")) {
    codec::write_key(w, name);
    w.StartObject();
    codec::write_key(w, "value");
    w.Double(inputs(name));
    codec::write_key(w, "from");
    codec::write_string(w, inputs.from(name));
    w.EndObject();
  }
  w.EndObject();
  w.EndObject();
  std::cout << codec::written(buffer) << '\n';
}

}  // namespace

int plan(const PlanOptions& options) {
  const auto span = parse_span(options.over);
  if (!span)
    return complain({Errc::wrong_use, "--over takes a span such as 90s, 30m, 12h, 1d, 2w, not \"" + options.over + "\""});
  if (std::ranges::find(model::kProviderNames, options.provider) == std::end(model::kProviderNames))
    return complain({Errc::wrong_use, "--provider takes openai, gemini, deepseek or anthropic"});
  if (options.tier != 1 && options.requests_per_minute == 0 && options.tokens_per_minute == 0)
    return complain({Errc::wrong_use,
                     "only the limits of the first paid tier are known here: give yours with --requests-per-minute and "
                     "--tokens-per-minute, as the provider's console shows them"});
  const Inputs in;
  const auto settings = model::default_settings(options.provider);
  const std::string& p = options.provider;
  const double users = static_cast<double>(options.users), a_minute = users / *span * 60, peak_a_minute = a_minute * options.peak;
  const double turns = in("turns_per_onboarding"), calls = in(p + ".calls"), input = in(p + ".input_tokens"),
               cached = in(p + ".cached_tokens"), output = in(p + ".output_tokens");
  std::vector<Figure> figures;
  const auto add = [&](std::string name, double value, std::string unit, std::string rests_on) {
    figures.push_back({std::move(name), std::move(unit), value, std::move(rests_on)});
  };
  const std::string peak = "users, over, peak (" + shown(options.peak) + ")";
  add("sessions a minute", a_minute, "", "users, over");
  add("sessions a minute at the peak", peak_a_minute, "", peak);
  const double seconds = turns * options.seconds_per_message;
  add("concurrent sessions at the peak", peak_a_minute / 60 * seconds, "",
      "turns_per_onboarding, seconds a message (" + shown(options.seconds_per_message) + ")");
  const double turns_a_second = peak_a_minute / 60 * turns;
  add("turns a second at the peak", turns_a_second, "", "turns_per_onboarding");
  add("events", users * in("events_per_onboarding"), "", "events_per_onboarding");

  // The provider.
  add("turns", users * turns, "", "turns_per_onboarding");
  add(p + ".calls", users * calls, "", p + ".calls");
  add(p + ".input_tokens", users * input, "", p + ".input_tokens");
  add(p + ".cached_tokens", users * cached, "", p + ".cached_tokens");
  add(p + ".output_tokens", users * output, "", p + ".output_tokens");
  domain::Usage usage;
  usage.input_tokens = static_cast<std::int64_t>(std::llround(input / calls));
  usage.cached_input_tokens = static_cast<std::int64_t>(std::llround(cached / calls));
  usage.output_tokens = static_cast<std::int64_t>(std::llround(output / calls));
  if (const auto nanodollars = pricing::cost_nanodollars(p, settings.model, usage, system_clock().now()))
    add("cost", users * calls * static_cast<double>(*nanodollars) / 1e9, "$",
        p + ".*_tokens, prices of " + pricing::price_version() + " for " + settings.model);
  std::string verdict, bottleneck = "none";
  double tightest = 0, takes = *span;
  const double counted = in(p + ".budget_tokens_per_call") > 0 ? in(p + ".budget_tokens_per_call") * calls : input + output;
  for (const Limit& limit : limits_of(settings, options, peak_a_minute * calls, peak_a_minute * input, peak_a_minute * output,
                                      peak_a_minute * counted)) {
    const std::string_view kind = limit.kind;
    const std::string rests = p + (kind == "tokens"          ? ".budget_tokens_per_call"
                                   : kind == "input tokens"  ? ".input_tokens"
                                   : kind == "output tokens" ? ".output_tokens"
                                                             : ".calls");
    add(std::string(kind) + " a minute at the peak", limit.demand, "of " + shown(limit.a_minute),
        rests + ", tier " + std::to_string(options.tier));
    if (limit.demand / limit.a_minute > tightest) {
      tightest = limit.demand / limit.a_minute;
      bottleneck = kind;
      takes = users * limit.demand / peak_a_minute / limit.a_minute * 60;
    }
  }
  add("onboardings a minute the limits allow", tightest > 0 ? peak_a_minute / tightest : 0, "",
      "the tightest limit: " + bottleneck);
  if (tightest > 1)
    verdict = "The bottleneck is the provider's " + bottleneck + ": at the peak " + shown(tightest) +
              " times what this tier gives. All of them take " + shown(takes / 3600) +
              " hours there; who comes faster waits in the queue. Ask for a higher limit, or add providers.";
  else verdict = "The provider's limits suffice: at the peak " + shown(100 * tightest) + " % of its " + bottleneck + ".";

  // Storage.
  double tables = 0;
  for (const std::string& name : in.names("bytes.")) {
    const std::string what = name.substr(6);
    if (what == "events.db" || what == "keys.db" || what.starts_with("kafka")) continue;
    if (in(name) <= 0) continue;
    add(name, users * in(name), "bytes", name);
    tables += users * in(name);
  }
  add("PostgreSQL, all tables", tables, "bytes", "bytes.<table>");
  const bool kafka = turns_a_second > in("embedded_turns_per_second") * most_of_a_core;
  add("bytes.events.db", users * in("bytes.events.db"), "bytes", "bytes.events.db: the embedded log");
  add("bytes.keys.db", users * in("bytes.keys.db"), "bytes", "bytes.keys.db");
  const double in_kafka = users * (in("bytes.kafka_log") + in("bytes.kafka_keys"));
  add("Kafka, three copies", 3 * in_kafka, "bytes", "bytes.kafka_log, bytes.kafka_keys");

  // Machines.
  const double cores = turns_a_second * (in("server_us_per_turn") + (kafka ? in("kafka_us_per_turn") : 0)) / 1e6 / most_of_a_core;
  const double servers = kafka ? std::max(3.0, std::ceil(cores / cores_of_a_server)) : 1;
  add("cores of servers", cores, "", "server_us_per_turn, half busy at the peak");
  add("servers", servers, kafka ? "with Kafka" : "with the embedded log", "embedded_turns_per_second, 4 cores each");
  add("cores of PostgreSQL", turns_a_second * in("postgres_us_per_turn") / 1e6 / most_of_a_core, "",
      "postgres_us_per_turn, half busy at the peak");
  add("partitions",
      std::min<double>(most_partitions,
                       std::max<double>(least_partitions, std::ceil(servers * partitions_of_a_server / 24) * 24)),
      "", "8 a server, so that a server's share can be spread; fixed when the log is made");
  add("brokers", kafka ? std::max(3.0, std::ceil(3 * in_kafka / bytes_of_a_broker)) : 0, "",
      "three copies, 4 TB each; bytes.kafka_*");
  if (!kafka) verdict += "\nThe embedded log carries it on one server; Kafka is for going on when that machine fails.";
  options.json ? print_json(figures, in, verdict) : print(figures, in, options, verdict);
  return exit_good;
}

}  // namespace onboarding::app
