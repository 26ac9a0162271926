#include "infra/app/server/model_changes.hpp"

#include <fstream>
#include <map>
#include <mutex>
#include <optional>
#include <sstream>

#include "events/codec/json.hpp"
#include "infra/app/config/config.hpp"
#include "infra/app/server/replace_file.hpp"

namespace onboarding::app {
namespace {

using model::ProviderChange;
using model::ProviderSettings;

/// Visits each thing that can be changed: its name in the file, the member of a change, the member of a setting.
template <class Visit>
void each_member(Visit&& visit) {
  visit("enabled", &ProviderChange::enabled, &ProviderSettings::enabled);
  visit("weight", &ProviderChange::weight, &ProviderSettings::weight);
  visit("requests_per_minute", &ProviderChange::requests_per_minute, &ProviderSettings::requests_per_minute);
  visit("requests_per_day", &ProviderChange::requests_per_day, &ProviderSettings::requests_per_day);
  visit("max_concurrent", &ProviderChange::max_concurrent, &ProviderSettings::max_concurrent);
  visit("tokens_per_minute", &ProviderChange::tokens_per_minute, &ProviderSettings::tokens_per_minute);
  visit("input_tokens_per_minute", &ProviderChange::input_tokens_per_minute, &ProviderSettings::input_tokens_per_minute);
  visit("output_tokens_per_minute", &ProviderChange::output_tokens_per_minute, &ProviderSettings::output_tokens_per_minute);
  visit("spend_per_day_nanodollars", &ProviderChange::spend_per_day_nanodollars, &ProviderSettings::spend_per_day_nanodollars);
}

}  // namespace

struct ModelChanges::Kept {
  std::filesystem::path file;
  std::mutex mutex;
  std::optional<model::QueueMode> queue_mode;
  std::map<std::string, ProviderChange> providers;

  result<void> write() {
    rapidjson::StringBuffer buffer;
    codec::JsonWriter w(buffer);
    w.StartObject();
    if (queue_mode) codec::write_key(w, "queue_mode"), codec::write_string(w, model::to_string(*queue_mode));
    codec::write_key(w, "providers");
    w.StartObject();
    for (auto& [name, change] : providers) {
      codec::write_key(w, name);
      w.StartObject();
      each_member([&, &change = change](const char* member, auto changed, auto) {
        const auto& value = change.*changed;
        if (!value) return;
        codec::write_key(w, member);
        if constexpr (std::is_same_v<decltype(*value), const bool&>) w.Bool(*value);
        else w.Uint64(*value);
      });
      w.EndObject();
    }
    w.EndObject();
    w.EndObject();
    return replace_file(file, std::string(codec::written(buffer)) + "\n");
  }

  result<void> read() {
    std::ifstream in(file);
    if (!in) return {};
    std::stringstream content;
    content << in.rdbuf();
    const auto wrong = [&](const std::string& what) {
      return failure(Errc::bad_data_folder, file.string() + ": " + what + "; delete it to go on with the configuration alone");
    };
    const auto document = codec::parse_json(content.str());
    if (!document || !document->IsObject()) return wrong("is no JSON object");
    const auto* kept_mode = codec::find_member(*document, "queue_mode");
    const auto mode = codec::string_member(*document, "queue_mode");
    for (const auto each : {model::QueueMode::automatic, model::QueueMode::on, model::QueueMode::off})
      if (mode == model::to_string(each)) queue_mode = each;
    if (kept_mode && !queue_mode) return wrong("queue_mode is none of auto, on, off");
    const auto* all = codec::find_member(*document, "providers");
    if (!all || !all->IsObject()) return wrong("has no providers");
    bool good = true;
    for (const auto& entry : all->GetObject()) {
      if (!entry.value.IsObject()) return wrong("a provider's changes are no object");
      ProviderChange change;
      change.name = entry.name.GetString();
      each_member([&](const char* member, auto changed, auto) {
        auto& value = change.*changed;
        using Value = std::decay_t<decltype(*value)>;
        const auto* found = codec::find_member(entry.value, member);
        if (!found) return;
        if constexpr (std::is_same_v<Value, bool>) {
          if (found->IsBool()) value = found->GetBool();
        } else if (found->IsUint64() && found->GetUint64() <= std::numeric_limits<Value>::max()) {
          value = static_cast<Value>(found->GetUint64());
        }
        good = good && value.has_value();
      });
      good = good && change.weight.value_or(0) <= model::kGreatestWeight;
      providers[change.name] = change;
    }
    return good ? result<void>{} : wrong("a value has the wrong type or is too great");
  }
};

result<std::unique_ptr<ModelChanges>> ModelChanges::load(const std::filesystem::path& data) {
  auto kept = std::make_shared<Kept>();
  kept->file = data / "model-changes.json";
  if (auto read = kept->read(); !read) return tl::unexpected(read.error());
  return std::unique_ptr<ModelChanges>(new ModelChanges(std::move(kept)));
}

void ModelChanges::apply(std::vector<model::ProviderSettings>& providers, model::QueueSettings& queue) {
  for (const auto& settings : providers) known_.insert(settings.name);
  if (kept_->queue_mode) queue.mode = *kept_->queue_mode;
  for (auto& settings : providers)
    if (const auto found = kept_->providers.find(settings.name); found != kept_->providers.end())
      each_member([&](const char*, auto changed, auto setting) {
        if (found->second.*changed) settings.*setting = *(found->second.*changed);
      });
}

void ModelChanges::change(ProviderChange change, Done done) {
  if (!known_.contains(change.name))
    return done(failure(std::make_error_code(std::errc::no_such_device), "no provider of this name has an API key"));
  // What would be refused must not be written down: it would be in force after the next start.
  if (change.weight.value_or(0) > model::kGreatestWeight)
    return done(failure(std::make_error_code(std::errc::invalid_argument),
                        "a weight is at most " + std::to_string(model::kGreatestWeight)));
  {
    std::lock_guard lock(kept_->mutex);
    auto& all = kept_->providers[change.name];
    all.name = change.name;
    const auto before = all;
    each_member([&](const char*, auto changed, auto) {
      if (change.*changed) all.*changed = change.*changed;
    });
    if (auto written = kept_->write(); !written) {
      all = before;
      return done(tl::unexpected(written.error()));
    }
  }
  running_->change(std::move(change), std::move(done));
}

void ModelChanges::set_queue_mode(model::QueueMode mode, Done done) {
  {
    std::lock_guard lock(kept_->mutex);
    const auto before = std::exchange(kept_->queue_mode, mode);
    if (auto written = kept_->write(); !written) {
      kept_->queue_mode = before;
      return done(tl::unexpected(written.error()));
    }
  }
  running_->set_queue_mode(mode, std::move(done));
}

}  // namespace onboarding::app
