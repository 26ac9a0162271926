// The counters and histograms of the model side, by OpenTelemetry's gen_ai names in Prometheus form. Thread-safe; without
// a registry everything is a no-op.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "actors/model/extraction.hpp"
#include "actors/model/policy/lease.hpp"

namespace prometheus {
class Registry;
}

namespace onboarding::model {

class ModelMetrics {
 public:
  explicit ModelMetrics(prometheus::Registry*);
  ~ModelMetrics();
  ModelMetrics(const ModelMetrics&) = delete;
  ModelMetrics& operator=(const ModelMetrics&) = delete;

  /// onboarding_model_calls_total, gen_ai_client_operation_duration_seconds, gen_ai_client_token_usage, of a streamed one
  /// gen_ai_client_operation_time_to_first_chunk_seconds and, for a 429, onboarding_model_rate_limited_total{origin="provider"}.
  /// `operation`: gen_ai_operation_name.
  void called(const domain::LlmCall&, std::string_view requested_model, std::int64_t first_token_ms,
              std::string_view operation = "chat");
  /// onboarding_model_calls_total{provider="offline"}: outcome "ok", or "unsure" when there was no answer.
  void extracted_offline(bool answered);
  /// onboarding_model_rate_limited_total{origin="self"}: our own budget made somebody wait.
  void refused_by_budget(std::string_view provider);
  /// onboarding_model_denied_total{reason}: a lease that was not granted, by our own rules.
  void denied(LeaseStatus);
  /// onboarding_model_decisions_total{what,provider}: breaker changes, holds, fallbacks, queue mode, run-time changes.
  void decided(std::string_view what, std::string_view provider);
  /// onboarding_model_wait_actual_over_promised: how honest the forecasts were.
  void waited(double actual_over_promised);
  /// onboarding_model_cache_total{result}: "faq", "exact" and "embedding" hits, "miss" of what might have been kept, "embedding_miss" of
  /// what was looked up by meaning.
  void looked_up(std::string_view result);
  void in_flight(std::string_view provider, std::int64_t calls);  // onboarding_model_in_flight
  void queue_depth(std::int64_t waiting);                         // onboarding_model_queue_depth

 private:
  struct Families;
  std::unique_ptr<Families> families_;
};

}  // namespace onboarding::model
