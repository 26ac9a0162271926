#include "actors/model/providers/defaults.hpp"

#include "events/domain/assertion.hpp"

namespace onboarding::model {
namespace {

struct Row {
  std::string_view name, base_url, model;
  std::uint32_t weight, requests_per_minute, max_concurrent;
  std::uint64_t tokens_per_minute, input_tokens_per_minute, output_tokens_per_minute;
  Counting counting;
};

// First paid tier, collected on kProviderDataDate from the providers' documents. 0: no limit of that kind.
constexpr Row kRows[] = {
    // Counts the larger of the answer's cap and its estimate when the call comes in, failed ones too.
    {"openai",
     "https://api.openai.com/v1",
     "gpt-6-luna",
     40,
     500,
     0,
     30'000,
     0,
     0,
     {.output_cap_reserved = true, .cached_input_counts = true, .failed_calls_count = true}},
    {"gemini",
     "https://generativelanguage.googleapis.com",
     "gemini-3.5-flash-lite",
     40,
     1'000,
     0,
     0,
     1'000'000,
     0,
     {.output_cap_reserved = false, .cached_input_counts = true, .failed_calls_count = true}},
    // Limits calls in flight per account (2,500 for flash), not requests: 500 a minute is our own caution.
    {"deepseek",
     "https://api.deepseek.com",
     "deepseek-flash",
     20,
     500,
     2'500,
     0,
     0,
     0,
     {.output_cap_reserved = false, .cached_input_counts = true, .failed_calls_count = true}},
    // Input read from the cache is free, the answer counts by its real length.
    {"anthropic",
     "https://api.anthropic.com",
     "claude-haiku-4-5",
     0,
     1'000,
     0,
     0,
     2'000'000,
     400'000,
     {.output_cap_reserved = false, .cached_input_counts = false, .failed_calls_count = true}},
};

}  // namespace

ProviderSettings default_settings(std::string_view name) {
  for (const auto& row : kRows) {
    if (row.name != name) continue;
    ProviderSettings s;
    s.name = row.name;
    s.base_url = row.base_url;
    s.model = row.model;
    s.weight = row.weight;
    s.requests_per_minute = row.requests_per_minute;
    s.max_concurrent = row.max_concurrent;
    s.tokens_per_minute = row.tokens_per_minute;
    s.input_tokens_per_minute = row.input_tokens_per_minute;
    s.output_tokens_per_minute = row.output_tokens_per_minute;
    s.counting = row.counting;
    return s;
  }
  ONBOARDING_ASSERT(false, "default settings were asked for a provider that is not known");
}

}  // namespace onboarding::model
