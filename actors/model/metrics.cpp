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
        in_flight(family(r, prometheus::BuildGauge(), "onboarding_model_in_flight", "Leases not yet settled")),
        queue_depth(family(r, prometheus::BuildGauge(), "onboarding_model_queue_depth", "Extractions that wait for budget")),
        duration(family(r, prometheus::BuildHistogram(), "gen_ai_client_operation_duration_seconds", "Duration of a model call")),
        tokens(family(r, prometheus::BuildHistogram(), "gen_ai_client_token_usage", "Tokens of a model call, as billed")),
        offline_ok(calls.Add({{"provider", "offline"}, {"outcome", "ok"}})),
        offline_unsure(calls.Add({{"provider", "offline"}, {"outcome", "unsure"}})),
        waiting(queue_depth.Add({})) {}

  prometheus::Family<prometheus::Counter>&calls, &rate_limited;
  prometheus::Family<prometheus::Gauge>&in_flight, &queue_depth;
  prometheus::Family<prometheus::Histogram>&duration, &tokens;
  prometheus::Counter &offline_ok, &offline_unsure;
  prometheus::Gauge& waiting;
};

ModelMetrics::ModelMetrics(prometheus::Registry* registry) {
  if (registry) families_ = std::make_unique<Families>(*registry);
}
ModelMetrics::~ModelMetrics() = default;

void ModelMetrics::called(const domain::LlmCall& call) {
  if (!families_) return;
  const auto outcome = call.error.empty() ? std::string("ok") : call.error;
  families_->calls.Add({{"provider", call.provider}, {"outcome", outcome}}).Increment();
  if (call.error == to_string(CallError::rate_limited))
    families_->rate_limited.Add({{"provider", call.provider}, {"origin", "provider"}}).Increment();
  std::map<std::string, std::string> labels{{"gen_ai_operation_name", "chat"},
                                            {"gen_ai_provider_name", call.provider == "gemini" ? "gcp.gemini" : call.provider},
                                            {"gen_ai_request_model", call.model}};
  const auto tokens = [&](const char* type, std::int64_t count) {
    if (count < 0) return;
    auto with_type = labels;
    with_type.emplace("gen_ai_token_type", type);
    families_->tokens.Add(with_type, token_counts()).Observe(static_cast<double>(count));
  };
  tokens("input", call.usage.input_tokens);
  tokens("output", call.usage.output_tokens);
  if (!call.error.empty()) labels.emplace("error_type", call.error);
  families_->duration.Add(labels, seconds()).Observe(static_cast<double>(call.latency_ms) / 1000);
}

void ModelMetrics::extracted_offline(bool answered) {
  if (families_) (answered ? families_->offline_ok : families_->offline_unsure).Increment();
}

void ModelMetrics::refused_by_budget(std::string_view provider) {
  if (families_) families_->rate_limited.Add({{"provider", std::string(provider)}, {"origin", "self"}}).Increment();
}

void ModelMetrics::in_flight(std::string_view provider, std::int64_t calls) {
  if (families_) families_->in_flight.Add({{"provider", std::string(provider)}}).Set(static_cast<double>(calls));
}

void ModelMetrics::queue_depth(std::int64_t waiting) {
  if (families_) families_->waiting.Set(static_cast<double>(waiting));
}

}  // namespace onboarding::model
