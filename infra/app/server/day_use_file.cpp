#include "infra/app/server/day_use_file.hpp"

#include <pthread.h>
#include <spdlog/spdlog.h>

#include <fstream>
#include <sstream>
#include <utility>

#include "events/codec/json.hpp"
#include "infra/app/server/replace_file.hpp"

namespace onboarding::app {
namespace {

std::string text_of(const model::DayUse& use, bool last) {
  rapidjson::StringBuffer buffer;
  codec::JsonWriter w(buffer);
  w.StartObject();
  codec::write_key(w, "last"), w.Bool(last);
  if (use.slot) {
    codec::write_key(w, "slot"), w.StartObject();
    codec::write_key(w, "number"), w.Uint(use.slot->number);
    codec::write_key(w, "asked_at"), w.Int64(use.slot->asked_at);
    codec::write_key(w, "books"), w.String(use.slot->books.c_str());
    w.EndObject();
  }
  codec::write_key(w, "use"), w.StartObject();
  for (const auto& [name, entry] : use.of) {
    codec::write_key(w, name), w.StartObject();
    codec::write_key(w, "margin"), w.Int64(entry.margin);
    codec::write_key(w, "used"), w.StartArray();
    for (const auto& [at, amount] : entry.used) w.Int64(at), w.Int64(amount);
    w.EndArray(), w.EndObject();
  }
  w.EndObject(), w.EndObject();
  return std::string(codec::written(buffer)) + "\n";
}

std::optional<model::DayUse> use_of(const rapidjson::Value& document) {
  const auto* all = codec::find_member(document, "use");
  if (!all || !all->IsObject()) return std::nullopt;
  model::DayUse use;
  if (const auto* slot = codec::find_member(document, "slot"); slot && slot->IsObject()) {
    const auto* books = codec::find_member(*slot, "books");
    const auto number = codec::int_member(*slot, "number", -1);
    if (!books || !books->IsString() || number < 0 || number > UINT32_MAX) return std::nullopt;
    use.slot = {static_cast<std::uint32_t>(number), codec::int_member(*slot, "asked_at", 0), books->GetString()};
  }
  for (const auto& limit : all->GetObject()) {
    const auto* used = limit.value.IsObject() ? codec::find_member(limit.value, "used") : nullptr;
    if (!used || !used->IsArray() || used->Size() % 2 != 0) return std::nullopt;
    auto& entry = use.of[limit.name.GetString()];
    entry.margin = codec::int_member(limit.value, "margin", 0);
    for (rapidjson::SizeType i = 0; i < used->Size(); i += 2) {
      if (!(*used)[i].IsInt64() || !(*used)[i + 1].IsInt64()) return std::nullopt;
      entry.used.emplace_back((*used)[i].GetInt64(), (*used)[i + 1].GetInt64());
    }
  }
  return use;
}

}  // namespace

DayUseFile::DayUseFile(const std::filesystem::path& data) : file_(data / "model-use.json") {
  read();
  writer_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "model-use");
    write_all();
  });
}

DayUseFile::~DayUseFile() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_one();
  writer_.join();
}

void DayUseFile::read() {
  std::ifstream in(file_);
  if (!in) return;
  std::stringstream content;
  content << in.rdbuf();
  const auto document = codec::parse_json(content.str());
  auto use = document && document->IsObject() ? use_of(*document) : std::nullopt;
  if (!use) return spdlog::warn("{} cannot be read: what this day has used of limits a day is not known", file_.string());
  kept_ = std::move(*use);
  const auto* last = codec::find_member(*document, "last");
  was_last_ = last && last->IsTrue();
}

void DayUseFile::keep(model::DayUse use, bool last) {
  auto text = text_of(use, last);
  {
    const std::lock_guard lock(mutex_);
    next_ = std::move(text);
  }
  changed_.notify_one();
}

void DayUseFile::write_all() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return ending_ || next_; });
    if (!next_) return;
    const auto text = *std::exchange(next_, std::nullopt);
    lock.unlock();
    if (const auto written = replace_file(file_, text); !written) spdlog::warn("{}", written.error().message());
    lock.lock();
  }
}

}  // namespace onboarding::app
