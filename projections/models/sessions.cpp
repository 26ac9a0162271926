#include <algorithm>

#include "events/pricing/pricing.hpp"
#include "projections/models/models.hpp"
#include "projections/models/rows.hpp"

namespace onboarding::projections {

namespace {

using namespace rows;

enum ModelTable : std::size_t { onboarding_sessions, session_analytics, turn_outcomes };
namespace session {
enum Column : std::size_t {
  id,
  user_id,
  user_key,
  vouched,
  status,
  erased,
  flow,
  flow_version,
  variant,
  plan,
  locale,
  created_at,
  updated_at,
  completed_at,
  abandoned_at,
  total_messages_count
};
}
namespace analytics {
enum Column : std::size_t {
  id,
  flow,
  flow_version,
  created_at,
  abandonment_at_field,
  asked_fields,
  user_messages,
  replies,
  fields_extracted,
  fields_corrected,
  fields_rejected,
  fields_declined,
  fields_reasked,
  turns_queued,
  turns_failed,
  fallback_replies,
  llm_calls,
  llm_calls_failed,
  abandonments,
  resumes,
  filled_fields,
  questions_asked,
  input_tokens,
  output_tokens,
  cost_nanodollars,
  unpriced_calls
};
}
namespace outcome {
enum Column : std::size_t { minute, turns, failed };
}

std::vector<Table> session_tables() {
  return {{.name = "onboarding_sessions",
           .columns = {{"session_id", "text", Combine::key},
                       {"user_id", "text"},
                       {"user_key", "text"},
                       {"vouched", "boolean"},
                       {"status", "text"},
                       {"erased", "boolean"},
                       {"flow", "text"},
                       {"flow_version", "integer"},
                       {"variant", "text"},
                       {"plan", "text"},
                       {"locale", "text"},
                       {"created_at", "timestamptz", Combine::keep_first},
                       {"updated_at", "timestamptz", Combine::greatest},
                       {"completed_at", "timestamptz", Combine::keep_first},
                       {"abandoned_at", "timestamptz"},
                       {"total_messages_count", "bigint", Combine::add_until, session::completed_at}}},
          {.name = "session_analytics",
           .columns = {{"session_id", "text", Combine::key},
                       {"flow", "text"},
                       {"flow_version", "integer"},
                       {"created_at", "timestamptz", Combine::keep_first},
                       {"abandonment_at_field", "text"},
                       {"asked_fields", "jsonb", Combine::merge},
                       {"user_messages", "bigint", Combine::add},
                       {"replies", "bigint", Combine::add},
                       {"fields_extracted", "bigint", Combine::add},
                       {"fields_corrected", "bigint", Combine::add},
                       {"fields_rejected", "bigint", Combine::add},
                       {"fields_declined", "bigint", Combine::add},
                       {"fields_reasked", "bigint", Combine::add},
                       {"turns_queued", "bigint", Combine::add},
                       {"turns_failed", "bigint", Combine::add},
                       {"fallback_replies", "bigint", Combine::add},
                       {"llm_calls", "bigint", Combine::add},
                       {"llm_calls_failed", "bigint", Combine::add},
                       {"abandonments", "bigint", Combine::add},
                       {"resumes", "bigint", Combine::add},
                       {"filled_fields", "jsonb", Combine::merge},
                       {"questions_asked", "bigint", Combine::add},
                       {"input_tokens", "bigint", Combine::add},
                       {"output_tokens", "bigint", Combine::add},
                       {"cost_nanodollars", "bigint", Combine::add},
                       {"unpriced_calls", "bigint", Combine::add}}},
          {.name = "turn_outcomes",
           .columns = {
               {"minute", "timestamptz", Combine::key}, {"turns", "bigint", Combine::add}, {"failed", "bigint", Combine::add}}}};
}

Members as_members(const std::vector<std::string>& fields) {
  Members members;
  for (const std::string& field : fields) members.emplace(field, true);
  return members;
}

class SessionsProjection : public NamedProjection {
 public:
  SessionsProjection() : NamedProjection("sessions", 2, session_tables()) {}

  result<void> apply(const codec::DecodedEvent& event, RowOperations& out) const override {
    return std::visit(
        Overloaded{[&](const domain::SessionStarted& started) { return start(event, started, out); },
                   [&](const domain::MessageReceived&) -> result<void> {
                     touched(event).set(session::total_messages_count, one()).into(out);
                     counted(event, analytics::user_messages).into(out);
                     return {};
                   },
                   [&](const domain::AssistantReplied& replied) -> result<void> {
                     touched(event).set(session::total_messages_count, one()).into(out);
                     Row row = counted(event, analytics::replies);
                     asks(row, replied.asks);
                     if (replied.source == "offline" || replied.source == "none") row.set(analytics::fallback_replies, one());
                     row.into(out);
                     outcome(event, outcome::turns, out);
                     return {};
                   },
                   [&](const domain::TurnFailed&) -> result<void> {
                     counted(event, analytics::turns_failed).into(out);
                     outcome(event, outcome::failed, out);
                     return {};
                   },
                   [&](const domain::TurnQueued&) { return count(event, analytics::turns_queued, out); },
                   [&](const domain::FieldExtracted& extracted) -> result<void> {
                     counted(event, analytics::fields_extracted)
                         .set(analytics::filled_fields, Members{{extracted.field, true}})
                         .into(out);
                     return {};
                   },
                   [&](const domain::FieldCorrected&) { return count(event, analytics::fields_corrected, out); },
                   [&](const domain::FieldRejected&) { return count(event, analytics::fields_rejected, out); },
                   [&](const domain::FieldDeclined& declined) -> result<void> {
                     counted(event, analytics::fields_declined)
                         .set(analytics::filled_fields, Members{{declined.field, false}})
                         .into(out);
                     return {};
                   },
                   [&](const domain::FieldReasked&) { return count(event, analytics::fields_reasked, out); },
                   [&](const domain::LlmCallSucceeded& call) -> result<void> {
                     called(event, call).into(out);
                     return {};
                   },
                   [&](const domain::LlmCallFailed& call) -> result<void> {
                     called(event, call).set(analytics::llm_calls_failed, one()).into(out);
                     return {};
                   },
                   [&](const domain::SessionCompleted&) -> result<void> {
                     touched(event).set(session::status, "completed").set(session::completed_at, event.recorded.time).into(out);
                     return {};
                   },
                   [&](const domain::SessionAbandoned& abandoned) -> result<void> {
                     touched(event).set(session::status, "abandoned").set(session::abandoned_at, event.recorded.time).into(out);
                     counted(event, analytics::abandonments)
                         .set(analytics::abandonment_at_field, cell_or_null(abandoned.at_field))
                         .into(out);
                     return {};
                   },
                   [&](const domain::SessionResumed&) -> result<void> {
                     touched(event).set(session::status, "active").set(session::abandoned_at, null_cell).into(out);
                     counted(event, analytics::resumes).set(analytics::abandonment_at_field, null_cell).into(out);
                     return {};
                   },
                   [&](const domain::UserErased&) -> result<void> {
                     touched(event).set(session::user_id, null_cell).set(session::erased, true).into(out);
                     return {};
                   },
                   [](const auto&) -> result<void> { return {}; }},
        event.recorded.event);
  }

 private:
  static result<void> start(const codec::DecodedEvent& event, const domain::SessionStarted& started, RowOperations& out) {
    if (auto person = check_person(event); !person) return person;
    Row(onboarding_sessions, event.stream)
        .set(session::user_id, cell_of(started.user_id))
        .set(session::user_key, event.meta->user)
        .set(session::vouched, started.vouched)
        .set(session::status, "active")
        .set(session::flow, started.flow)
        .set(session::flow_version, std::int64_t{started.flow_version})
        .set(session::variant, started.variant)
        .set(session::plan, started.plan)
        .set(session::locale, started.locale)
        .set(session::created_at, event.recorded.time)
        .set(session::updated_at, event.recorded.time)
        .into(out);
    Row analysed(session_analytics, event.stream);
    analysed.set(analytics::flow, started.flow)
        .set(analytics::flow_version, std::int64_t{started.flow_version})
        .set(analytics::created_at, event.recorded.time);
    asks(analysed, started.asks);
    analysed.into(out);
    return {};
  }

  static Row touched(const codec::DecodedEvent& event) {
    Row row(onboarding_sessions, event.stream);
    row.set(session::updated_at, event.recorded.time);
    return row;
  }
  static Row counted(const codec::DecodedEvent& event, analytics::Column column) {
    Row row(session_analytics, event.stream);
    row.set(column, one());
    return row;
  }
  static void asks(Row& row, const std::vector<std::string>& fields) {
    if (fields.empty()) return;
    row.set(analytics::asked_fields, as_members(fields))
        .set(analytics::questions_asked, static_cast<std::int64_t>(fields.size()));
  }
  template <class Call>
  static Row called(const codec::DecodedEvent& event, const Call& call) {
    const auto cost = pricing::cost_nanodollars(call.provider, call.model, call.usage, event.recorded.time);
    Row row = counted(event, analytics::llm_calls);
    row.set(analytics::input_tokens, std::max<std::int64_t>(call.usage.input_tokens, 0))
        .set(analytics::output_tokens, std::max<std::int64_t>(call.usage.output_tokens, 0))
        .set(analytics::cost_nanodollars, cost.value_or(0))
        .set(analytics::unpriced_calls, std::int64_t{!cost});
    return row;
  }
  static result<void> count(const codec::DecodedEvent& event, analytics::Column column, RowOperations& out) {
    counted(event, column).into(out);
    return {};
  }
  static void outcome(const codec::DecodedEvent& event, outcome::Column column, RowOperations& out) {
    const domain::Timestamp minute = std::chrono::floor<std::chrono::minutes>(event.recorded.time);
    Row(turn_outcomes, minute).set(column, one()).into(out);
  }
};

}  // namespace

std::unique_ptr<Projection> make_sessions_projection() { return std::make_unique<SessionsProjection>(); }

}  // namespace onboarding::projections
