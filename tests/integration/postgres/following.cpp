#include "tests/integration/postgres/following.hpp"

#include <algorithm>
#include <map>

namespace onboarding::testing {

namespace {

std::string us(domain::Timestamp time) { return std::to_string(time.time_since_epoch().count()); }

struct SessionRow {
  std::string user_id, user_key, plan, status = "active", completed = "~", abandoned = "~", field = "~";
  bool vouched = false, erased = false;
  domain::Timestamp created, updated;
  int total = 0;
  std::map<std::string, int> counts;
  std::set<std::string> asked, filled;
};

// gpt-6-luna: 0.10 and 0.50 dollars a million tokens are 100 and 500 nanodollars a token.
std::int64_t luna_nanodollars(const domain::Usage& usage) { return usage.input_tokens * 100 + usage.output_tokens * 500; }

}  // namespace

Tables tables_of(const Database& database) {
  const std::string at = "(extract(epoch FROM ", us = ") * 1000000)::bigint";
  Tables tables;
  tables.users =
      database.rows("SELECT user_key, user_id, vouched, sessions_started, " + at + "created_at" + us + " FROM users ORDER BY 1");
  tables.profiles = database.rows(
      "SELECT user_key, user_id, vouched, position, (SELECT coalesce(string_agg(key || '=' || value, ';' "
      "ORDER BY key COLLATE \"C\"), '') FROM jsonb_each_text(fields)) FROM user_profiles ORDER BY 1");
  tables.sessions = database.rows("SELECT session_id, user_id, user_key, vouched, status, erased, flow, flow_version, plan, " +
                                  at + "created_at" + us + ", " + at + "updated_at" + us + ", " + at + "completed_at" + us +
                                  ", " + at + "abandoned_at" + us + ", total_messages_count FROM onboarding_sessions ORDER BY 1");
  tables.analytics = database.rows(
      "SELECT session_id, abandonment_at_field, (SELECT string_agg(k, ',' ORDER BY k COLLATE \"C\") FROM "
      "jsonb_object_keys(asked_fields) k), "
      "user_messages, replies, fields_extracted, fields_corrected, fields_rejected, fields_reasked, turns_failed, "
      "fallback_replies, "
      "llm_calls, llm_calls_failed, abandonments, resumes, questions_asked, input_tokens, output_tokens, cost_nanodollars, "
      "unpriced_calls, "
      "(SELECT coalesce(string_agg(key || '=' || value, ',' ORDER BY key COLLATE \"C\"), '') FROM "
      "jsonb_each_text(filled_fields)) FROM session_analytics ORDER BY 1");
  tables.messages = database.rows("SELECT session_id, version, " + at + "timestamp" + us +
                                  ", role, turn_id, text, source, error FROM conversation_messages ORDER BY 1, 2");
  tables.usage = database.rows(
      "SELECT day, provider, model, plan, calls, failed_calls, unreported_calls, input_tokens, output_tokens, "
      "cost_nanodollars, unpriced_calls FROM token_usage ORDER BY 1, 2, 3, 4");
  tables.outcomes = database.rows("SELECT " + at + "minute" + us + ", turns, failed FROM turn_outcomes ORDER BY 1");
  return tables;
}

Tables expected_tables(const History& history) {
  struct PersonRow {
    std::string user_id;
    bool vouched = false;
    int sessions = 0;
    domain::Timestamp created;
    std::map<std::string, std::string> fields;
    std::string position;
  };
  std::map<std::string, PersonRow> people;
  std::map<std::string, SessionRow> sessions;
  std::map<std::pair<std::string, std::uint64_t>, std::string> messages;
  std::map<std::string, std::array<std::int64_t, 7>> usage;
  std::map<std::int64_t, std::pair<int, int>> outcomes;
  for (const Told& told : history.told) {
    SessionRow& session = sessions[told.stream];
    const auto message = [&](const std::string& role, const std::string& turn, const std::string& text, const std::string& source,
                             bool error) {
      messages[{told.stream, told.version}] = told.stream + "|" + std::to_string(told.version) + "|" + us(told.time) + "|" +
                                              role + "|" + turn + "|" + text + "|" + source + "|" + (error ? "t" : "f");
    };
    const auto value = [&](const std::string& field, const std::string& stored) {
      people[told.user_key].fields[field] = stored;
      people[told.user_key].position = to_string(told.position);
    };
    const auto day = [&] {
      const auto date = std::chrono::year_month_day(std::chrono::floor<std::chrono::days>(told.time));
      char text[16];
      std::snprintf(text, sizeof text, "%04d-%02u-%02u", int(date.year()), unsigned(date.month()), unsigned(date.day()));
      return std::string(text);
    };
    const auto minute = [&]() -> std::pair<int, int>& {
      const std::int64_t ticks = told.time.time_since_epoch().count();
      return outcomes[ticks - ticks % 60'000'000];
    };
    if (const auto* e = std::get_if<domain::SessionStarted>(&told.event)) {
      PersonRow& person = people[told.user_key];
      if (person.sessions++ == 0) person.created = told.time;
      person.user_id = session.user_id = e->user_id.text;
      person.vouched = session.vouched = e->vouched;
      person.position = to_string(told.position);
      session.user_key = told.user_key;
      session.plan = e->plan;
      session.created = session.updated = told.time;
      session.asked.insert(e->asks.begin(), e->asks.end());
      session.counts["questions"] += static_cast<int>(e->asks.size());
      message("assistant", "~", e->greeting.text, "~", false);
    } else if (const auto* m = std::get_if<domain::MessageReceived>(&told.event)) {
      if (session.completed == "~") ++session.total;
      ++session.counts["user_messages"];
      session.updated = told.time;
      message("user", m->turn_id, m->text.text, "~", false);
    } else if (const auto* r = std::get_if<domain::AssistantReplied>(&told.event)) {
      if (session.completed == "~") ++session.total;
      ++session.counts["replies"];
      if (r->source == "offline" || r->source == "none") ++session.counts["fallback"];
      session.asked.insert(r->asks.begin(), r->asks.end());
      session.counts["questions"] += static_cast<int>(r->asks.size());
      session.updated = told.time;
      ++minute().first;
      message("assistant", r->turn_id, r->text.text, r->source, r->error);
    } else if (const auto* x = std::get_if<domain::FieldExtracted>(&told.event)) {
      ++session.counts["extracted"];
      session.filled.insert(x->field);
      value(x->field, x->value.canonical);
    } else if (const auto* c = std::get_if<domain::FieldCorrected>(&told.event)) {
      ++session.counts["corrected"];
      value(c->field, c->value.canonical);
    } else if (std::holds_alternative<domain::FieldRejected>(told.event)) {
      ++session.counts["rejected"];
    } else if (std::holds_alternative<domain::FieldReasked>(told.event)) {
      ++session.counts["reasked"];
    } else if (std::holds_alternative<domain::TurnFailed>(told.event)) {
      ++session.counts["failed"];
      ++minute().second;
    } else if (const auto* s = std::get_if<domain::LlmCallSucceeded>(&told.event)) {
      ++session.counts["calls"];
      auto& row = usage[day() + "|" + s->provider + "|" + s->model + "|" + told.plan];
      ++row[0];
      row[3] += s->usage.input_tokens;
      row[4] += s->usage.output_tokens;
      const std::int64_t cost = s->provider == "openai" ? luna_nanodollars(s->usage) : 0;  // the offline extractor is free
      row[5] += cost;
      session.counts["input"] += static_cast<int>(s->usage.input_tokens);
      session.counts["output"] += static_cast<int>(s->usage.output_tokens);
      session.counts["cost"] += static_cast<int>(cost);
    } else if (const auto* f = std::get_if<domain::LlmCallFailed>(&told.event)) {
      ++session.counts["calls"];
      ++session.counts["calls_failed"];
      auto& row = usage[day() + "|" + f->provider + "|" + f->model + "|" + told.plan];
      ++row[0];
      ++row[1];
      ++row[2];
      ++row[6];
      ++session.counts["unpriced"];
    } else if (std::holds_alternative<domain::SessionCompleted>(told.event)) {
      session.status = "completed";
      session.completed = us(told.time);
      session.updated = told.time;
    } else if (const auto* a = std::get_if<domain::SessionAbandoned>(&told.event)) {
      session.status = "abandoned";
      session.abandoned = us(told.time);
      session.field = a->at_field.empty() ? "~" : a->at_field;
      session.updated = told.time;
      ++session.counts["abandonments"];
    } else if (std::holds_alternative<domain::SessionResumed>(told.event)) {
      session.status = "active";
      session.abandoned = session.field = "~";
      session.updated = told.time;
      ++session.counts["resumes"];
    } else if (std::holds_alternative<domain::UserErased>(told.event)) {
      people.erase(told.user_key);
      session.user_id = "~";
      session.erased = true;
      session.updated = told.time;
      std::erase_if(messages, [&](const auto& entry) { return entry.first.first == told.stream; });
    }
  }
  Tables tables;
  const auto flag = [](bool set) { return set ? "t" : "f"; };
  for (const auto& [key, person] : people) {
    tables.users.push_back(key + "|" + person.user_id + "|" + flag(person.vouched) + "|" + std::to_string(person.sessions) + "|" +
                           us(person.created));
    std::string fields;
    for (const auto& [field, value] : person.fields) fields += (fields.empty() ? "" : ";") + field + "=" + value;
    tables.profiles.push_back(key + "|" + person.user_id + "|" + flag(person.vouched) + "|" + person.position + "|" + fields);
  }
  for (auto& [id, session] : sessions) {
    tables.sessions.push_back(id + "|" + session.user_id + "|" + session.user_key + "|" + flag(session.vouched) + "|" +
                              session.status + "|" + flag(session.erased) + "|default|1|" + session.plan + "|" +
                              us(session.created) + "|" + us(session.updated) + "|" + session.completed + "|" +
                              session.abandoned + "|" + std::to_string(session.total));
    std::string asked;
    for (const std::string& field : session.asked) asked += (asked.empty() ? "" : ",") + field;
    std::string line = id + "|" + session.field + "|" + asked;
    for (const char* count :
         {"user_messages", "replies", "extracted", "corrected", "rejected", "reasked", "failed", "fallback", "calls",
          "calls_failed", "abandonments", "resumes", "questions", "input", "output", "cost", "unpriced"}) {
      line += "|" + std::to_string(session.counts[count]);
    }
    std::string filled;
    for (const std::string& field : session.filled) filled += (filled.empty() ? "" : ",") + field + "=true";
    line += "|" + filled;
    tables.analytics.push_back(line);
  }
  for (const auto& [key, line] : messages) tables.messages.push_back(line);
  for (const auto& [key, row] : usage) {
    std::string line = key;
    for (const std::int64_t number : row) line += "|" + std::to_string(number);
    tables.usage.push_back(line);
  }
  for (const auto& [minute, row] : outcomes) {
    tables.outcomes.push_back(std::to_string(minute) + "|" + std::to_string(row.first) + "|" + std::to_string(row.second));
  }
  return tables;
}

void expect_equal(const Tables& actual, const Tables& expected) {
  EXPECT_EQ(actual.users, expected.users);
  EXPECT_EQ(actual.profiles, expected.profiles);
  EXPECT_EQ(actual.sessions, expected.sessions);
  EXPECT_EQ(actual.analytics, expected.analytics);
  EXPECT_EQ(actual.messages, expected.messages);
  EXPECT_EQ(actual.usage, expected.usage);
  EXPECT_EQ(actual.outcomes, expected.outcomes);
}

}  // namespace onboarding::testing
