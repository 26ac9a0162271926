#include "actors/session/instruments.hpp"

#include <spdlog/spdlog.h>

#include "events/codec/json.hpp"

namespace onboarding::session {

namespace {

// From an instant offline answer to the deadline of a request.
const prometheus::Histogram::BucketBoundaries turn_buckets = {0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                                              0.5,   1,     2.5,  5,     10,   25,  60};
const prometheus::Histogram::BucketBoundaries append_buckets = {0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01,
                                                                0.025,  0.05,   0.1,   0.5,   2};

prometheus::Counter& counter(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add({});
}
prometheus::Gauge& gauge(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
}
prometheus::Histogram& histogram(prometheus::Registry& registry, const char* name, const char* help,
                                 const prometheus::Histogram::BucketBoundaries& buckets) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add({}, buckets);
}

/// One line: {"event":…,"session_id":…,"turn_id":…,"fields":[…]}. Ids and field names only.
void log_fields(std::string_view event, const std::string& session_id, const std::string& turn_id,
                const std::vector<const std::string*>& fields) {
  if (fields.empty() || !spdlog::should_log(spdlog::level::info)) return;
  rapidjson::StringBuffer buffer;
  codec::JsonWriter writer(buffer);
  writer.StartObject();
  codec::write_key(writer, "event");
  codec::write_string(writer, event);
  codec::write_key(writer, "session_id");
  codec::write_string(writer, session_id);
  codec::write_key(writer, "turn_id");
  codec::write_string(writer, turn_id);
  codec::write_key(writer, "fields");
  writer.StartArray();
  for (const std::string* field : fields) codec::write_string(writer, *field);
  writer.EndArray();
  writer.EndObject();
  spdlog::default_logger_raw()->log(spdlog::level::info, spdlog::string_view_t(buffer.GetString(), buffer.GetSize()));
}

}  // namespace

LabelledCounter::LabelledCounter(prometheus::Registry& registry, const char* name, const char* help,
                                 std::vector<std::string> labels)
    : family_(prometheus::BuildCounter().Name(name).Help(help).Register(registry)), labels_(std::move(labels)) {}

void LabelledCounter::increment(const std::string& first, const std::string& second) {
  const std::pair<std::string, std::string> key(first, second);
  {
    const std::shared_lock lock(mutex_);
    if (const auto found = counters_.find(key); found != counters_.end()) return found->second->Increment();
  }
  const std::lock_guard lock(mutex_);
  prometheus::Counter*& counter = counters_[key];
  if (!counter) {
    std::map<std::string, std::string> labels = {{labels_[0], first}};
    if (labels_.size() > 1) labels[labels_[1]] = second;
    counter = &family_.Add(labels);
  }
  counter->Increment();
}

Instruments::Instruments(prometheus::Registry& registry)
    : turns_total_(registry, "onboarding_turns_total", "Turns concluded, by outcome.", {"outcome"}),
      extracted_(registry, "onboarding_fields_extracted_total", "Field values extracted or corrected.", {"field"}),
      reasked_(registry, "onboarding_fields_reasked_total", "Fields asked for again.", {"field"}),
      rejected_(registry, "onboarding_fields_rejected_total", "Field values refused by validation.", {"field", "reason"}),
      appends_(registry, "onboarding_appends_total", "Appends to the event log, by how they ended.", {"outcome"}),
      started_(counter(registry, "onboarding_sessions_started_total", "Sessions started.")),
      completed_(counter(registry, "onboarding_sessions_completed_total", "Sessions completed.")),
      abandoned_(counter(registry, "onboarding_sessions_abandoned_total", "Sessions abandoned.")),
      make_room_(counter(registry, "onboarding_sessions_asked_to_make_room_total",
                         "Sessions asked to leave memory because there were sessions.max_in_memory.")),
      open_(gauge(registry, "onboarding_active_sessions", "Sessions that are active in the log.")),
      memory_gauge_(gauge(registry, "onboarding_sessions_in_memory", "Session actors alive.")),
      turn_seconds_(histogram(registry, "onboarding_turn_duration_seconds", "From a message's receipt to its durable answer.",
                              turn_buckets)),
      append_seconds_(
          histogram(registry, "onboarding_append_duration_seconds", "From an append's call to its end.", append_buckets)) {}

void Instruments::durable(const std::string& session_id, const domain::State& after, std::span<const domain::Event> events,
                          std::chrono::nanoseconds batch_took) {
  using namespace domain;
  std::vector<const std::string*> extracted, reasked;
  const std::string* turn_id = nullptr;
  for (const Event& event : events) {
    if (const auto* e = std::get_if<FieldExtracted>(&event)) {
      extracted_.increment(e->field);
      extracted.push_back(&e->field);
    } else if (const auto* e = std::get_if<FieldCorrected>(&event)) {
      extracted_.increment(e->field);
      extracted.push_back(&e->field);
    } else if (const auto* e = std::get_if<FieldReasked>(&event)) {
      reasked_.increment(e->field);
      reasked.push_back(&e->field);
    } else if (const auto* e = std::get_if<FieldRejected>(&event)) {
      rejected_.increment(e->field, e->reason);
    } else if (const auto* e = std::get_if<AssistantReplied>(&event)) {
      turn_id = &e->turn_id;
      turns_total_.increment(e->error ? "failed" : "answered");
      turns_.fetch_add(1, std::memory_order_relaxed);
      if (e->error) turn_errors_.fetch_add(1, std::memory_order_relaxed);
      if (const Turn* turn = find_turn(after, e->turn_id)) {
        // A message and its answer in one record have one time: how long that took only the actor knows.
        const std::chrono::nanoseconds took =
            turn->replied_at > turn->received_at ? turn->replied_at - turn->received_at : batch_took;
        turn_seconds_.Observe(std::chrono::duration<double>(took).count());
        if (turn->queued) continue;  // most of its time it waited, which estimates count by themselves
        const std::int64_t took_ms = std::chrono::duration_cast<std::chrono::milliseconds>(took).count();
        const std::int64_t usual = usual_turn_ms_.load(std::memory_order_relaxed);
        usual_turn_ms_.store(usual + (took_ms - usual) / 8, std::memory_order_relaxed);
      }
    } else if (std::holds_alternative<SessionStarted>(event)) {
      started_.Increment();
    } else if (std::holds_alternative<SessionCompleted>(event)) {
      completed_.Increment();
    } else if (std::holds_alternative<SessionAbandoned>(event)) {
      abandoned_.Increment();
    }
  }
  if (!turn_id) return;
  log_fields("fields_extracted", session_id, *turn_id, extracted);
  log_fields("fields_reasked", session_id, *turn_id, reasked);
}

void Instruments::append_ended(const char* outcome, std::chrono::nanoseconds took) {
  appends_.increment(outcome);
  append_seconds_.Observe(std::chrono::duration<double>(took).count());
}

void Instruments::sessions_in_memory(std::int64_t change) {
  in_memory_.fetch_add(change, std::memory_order_relaxed);
  memory_gauge_.Increment(static_cast<double>(change));
}

void Instruments::open_sessions(std::uint64_t count) { open_.Set(static_cast<double>(count)); }

}  // namespace onboarding::session
