#include "actors/model/metrics.hpp"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include "actors/model/provider.hpp"

namespace onboarding::model {
namespace {

template <class Builder>
auto& family(prometheus::Registry& registry, Builder builder, const char* name, const char* help) {
  return builder.Name(name).Help(help).Register(registry);
}

prometheus::Histogram::BucketBoundaries doubling(double from, double to, double factor) {
  prometheus::Histogram::BucketBoundaries b;
  for (auto x = from; x <= to * 1.0001; x *= factor) b.push_back(x);
  return b;
}

// The bounds that the semantic conventions advise.
prometheus::Histogram::BucketBoundaries seconds() { return doubling(0.01, 81.92, 2); }
prometheus::Histogram::BucketBoundaries token_counts() { return doubling(1, 67108864, 4); }

}  // namespace

struct ModelMetrics::Families {
  explicit Families(prometheus::Registry& r)
      : calls(family(r, prometheus::BuildCounter(), "onboarding_model_calls_total", "Calls of models by provider and outcome")),
        rate_limited(family(r, prometheus::BuildCounter(), "onboarding_model_rate_limited_total",
                            "Calls refused by a provider's 429, or made to wait by our own budget")),
        denied(family(r, prometheus::BuildCounter(), "onboarding_model_denied_total", "Leases refused by our own rules")),
        decisions(family(r, prometheus::BuildCounter(), "onboarding_model_decisions_total", "What the supervisor decided")),
        cache(
            family(r, prometheus::BuildCounter(), "onboarding_model_cache_total", "Look-ups for an answer that needs no model")),
        in_flight(family(r, prometheus::BuildGauge(), "onboarding_model_in_flight", "Leases not yet settled")),
        queue_depth(family(r, prometheus::BuildGauge(), "onboarding_model_queue_depth", "Extractions that wait for budget")),
        honesty(family(r, prometheus::BuildHistogram(), "onboarding_model_wait_actual_over_promised",
                       "Time until the answer over the time that was forecast, of those who waited for budget")),
        duration(family(r, prometheus::BuildHistogram(), "gen_ai_client_operation_duration_seconds", "Duration of a model call")),
        first_chunk(family(r, prometheus::BuildHistogram(), "gen_ai_client_operation_time_to_first_chunk_seconds",
                           "Time until a streamed answer began")),
        tokens(family(r, prometheus::BuildHistogram(), "gen_ai_client_token_usage", "Tokens of a model call, as billed")),
        offline_ok(calls.Add({{"provider", "offline"}, {"outcome", "ok"}})),
        offline_unsure(calls.Add({{"provider", "offline"}, {"outcome", "unsure"}})),
        waiting(queue_depth.Add({})),
        actual_over_promised(
            honesty.Add({}, prometheus::Histogram::BucketBoundaries{0.25, 0.5, 0.75, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5, 10})) {}

  prometheus::Family<prometheus::Counter>&calls, &rate_limited, &denied, &decisions, &cache;
  prometheus::Family<prometheus::Gauge>&in_flight, &queue_depth;
  prometheus::Family<prometheus::Histogram>&honesty, &duration, &first_chunk, &tokens;
  prometheus::Counter &offline_ok, &offline_unsure;
  prometheus::Gauge& waiting;
  prometheus::Histogram& actual_over_promised;
};

ModelMetrics::ModelMetrics(prometheus::Registry* registry) {
  if (registry) families_ = std::make_unique<Families>(*registry);
}
ModelMetrics::~ModelMetrics() = default;

void ModelMetrics::called(const domain::LlmCall& call, std::string_view requested_model, std::int64_t first_token_ms,
                          std::string_view operation) {
  if (!families_) return;
  const auto outcome = call.error.empty() ? std::string("ok") : call.error;
  families_->calls.Add({{"provider", call.provider}, {"outcome", outcome}}).Increment();
  if (call.error == to_string(CallError::rate_limited))
    families_->rate_limited.Add({{"provider", call.provider}, {"origin", "provider"}}).Increment();
  std::map<std::string, std::string> labels{{"gen_ai_operation_name", std::string(operation)},
                                            {"gen_ai_provider_name", call.provider == "gemini" ? "gcp.gemini" : call.provider},
                                            {"gen_ai_request_model", std::string(requested_model)}};
  const auto tokens = [&](const char* type, std::int64_t count) {
    if (count < 0) return;
    auto with_type = labels;
    with_type.emplace("gen_ai_token_type", type);
    families_->tokens.Add(with_type, token_counts()).Observe(static_cast<double>(count));
  };
  tokens("input", call.usage.input_tokens);
  tokens("output", call.usage.output_tokens);
  if (first_token_ms >= 0) families_->first_chunk.Add(labels, seconds()).Observe(static_cast<double>(first_token_ms) / 1000);
  if (!call.error.empty()) labels.emplace("error_type", call.error);
  families_->duration.Add(labels, seconds()).Observe(static_cast<double>(call.latency_ms) / 1000);
}

void ModelMetrics::looked_up(std::string_view result) {
  if (families_) families_->cache.Add({{"result", std::string(result)}}).Increment();
}

void ModelMetrics::extracted_offline(bool answered) {
  if (families_) (answered ? families_->offline_ok : families_->offline_unsure).Increment();
}

void ModelMetrics::refused_by_budget(std::string_view provider) {
  if (families_) families_->rate_limited.Add({{"provider", std::string(provider)}, {"origin", "self"}}).Increment();
}

void ModelMetrics::denied(LeaseStatus status) {
  if (!families_) return;
  const char* reason = status == LeaseStatus::deadline     ? "deadline"
                       : status == LeaseStatus::queue_full ? "queue_full"
                       : status == LeaseStatus::plan_limit ? "plan_limit"
                                                           : "no_provider";
  families_->denied.Add({{"reason", reason}}).Increment();
}

void ModelMetrics::decided(std::string_view what, std::string_view provider) {
  if (families_) families_->decisions.Add({{"what", std::string(what)}, {"provider", std::string(provider)}}).Increment();
}

void ModelMetrics::waited(double actual_over_promised) {
  if (families_) families_->actual_over_promised.Observe(actual_over_promised);
}

void ModelMetrics::in_flight(std::string_view provider, std::int64_t calls) {
  if (families_) families_->in_flight.Add({{"provider", std::string(provider)}}).Set(static_cast<double>(calls));
}

void ModelMetrics::queue_depth(std::int64_t waiting) {
  if (families_) families_->waiting.Set(static_cast<double>(waiting));
}

}  // namespace onboarding::model
