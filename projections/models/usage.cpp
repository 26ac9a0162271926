#include <algorithm>

#include "events/pricing/pricing.hpp"
#include "projections/models/models.hpp"
#include "projections/models/rows.hpp"

namespace onboarding::projections {

namespace {

using namespace rows;

enum ModelTable : std::size_t { token_usage };
namespace usage {
enum Column : std::size_t {
  day,
  provider,
  model,
  plan,
  calls,
  failed_calls,
  unreported_calls,
  input_tokens,
  cached_input_tokens,
  cache_write_tokens,
  output_tokens,
  reasoning_tokens,
  latency_ms,
  cost_nanodollars,
  unpriced_calls
};
}

std::vector<Table> usage_tables() {
  return {{.name = "token_usage",
           .columns = {{"day", "date", Combine::key},
                       {"provider", "text", Combine::key},
                       {"model", "text", Combine::key},
                       {"plan", "text", Combine::key},
                       {"calls", "bigint", Combine::add},
                       {"failed_calls", "bigint", Combine::add},
                       {"unreported_calls", "bigint", Combine::add},
                       {"input_tokens", "bigint", Combine::add},
                       {"cached_input_tokens", "bigint", Combine::add},
                       {"cache_write_tokens", "bigint", Combine::add},
                       {"output_tokens", "bigint", Combine::add},
                       {"reasoning_tokens", "bigint", Combine::add},
                       {"latency_ms", "bigint", Combine::add},
                       {"cost_nanodollars", "bigint", Combine::add},
                       {"unpriced_calls", "bigint", Combine::add}},
           .partitioned_by_day = true}};
}

class UsageProjection : public NamedProjection {
 public:
  UsageProjection() : NamedProjection("usage", 2, usage_tables()) {}

  result<void> apply(const codec::DecodedEvent& event, RowOperations& out) const override {
    if (const auto* succeeded = std::get_if<domain::LlmCallSucceeded>(&event.recorded.event)) call(event, *succeeded, 0, out);
    if (const auto* failed = std::get_if<domain::LlmCallFailed>(&event.recorded.event)) call(event, *failed, 1, out);
    return {};
  }

 private:
  template <class Call>
  static void call(const codec::DecodedEvent& event, const Call& call, std::int64_t failed, RowOperations& out) {
    const auto reported = [](std::int64_t tokens) { return std::max<std::int64_t>(tokens, 0); };
    const domain::Usage& used = call.usage;
    const auto cost = pricing::cost_nanodollars(call.provider, call.model, used, event.recorded.time);
    const domain::Timestamp day = std::chrono::floor<std::chrono::days>(event.recorded.time);
    Row(token_usage, day, call.provider, call.model, event.meta ? event.meta->plan : std::string())
        .set(usage::calls, one())
        .set(usage::failed_calls, failed)
        .set(usage::unreported_calls, std::int64_t{used.input_tokens < 0 && used.output_tokens < 0})
        .set(usage::input_tokens, reported(used.input_tokens))
        .set(usage::cached_input_tokens, reported(used.cached_input_tokens))
        .set(usage::cache_write_tokens, reported(used.cache_write_tokens))
        .set(usage::output_tokens, reported(used.output_tokens))
        .set(usage::reasoning_tokens, reported(used.reasoning_tokens))
        .set(usage::latency_ms, call.latency_ms)
        .set(usage::cost_nanodollars, cost.value_or(0))
        .set(usage::unpriced_calls, std::int64_t{!cost})
        .into(out);
  }
};

}  // namespace

std::unique_ptr<Projection> make_usage_projection() { return std::make_unique<UsageProjection>(); }

}  // namespace onboarding::projections
