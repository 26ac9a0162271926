#include "projections/postgres/queries.hpp"

#include <pthread.h>

#include <algorithm>

namespace onboarding::projections {

namespace {

// What is behind an event that could not be applied is stale: the person's own key, or one of their sessions that cannot
// even be read. Nearly always the table is empty, and this costs nothing.
#define PARKED(projection, user_key)                                                                           \
  "EXISTS (SELECT FROM projection_parked_keys WHERE projection = '" projection "' AND (parked_key = " user_key \
  " OR parked_key IN (SELECT 'stream/' || session_id FROM onboarding_sessions AS o WHERE o.user_key = " user_key "))) "

// A profile is one row; a user_id that several people claim (nobody vouched for them) is answered with the one that was
// vouched for, else with the newest. By key there is always a row, which may say nothing but whether the key is parked.
#define PROFILE_COLUMNS                                                                                                          \
  ", p.user_id, p.vouched, (extract(epoch FROM p.updated_at) * 1000000)::bigint, p.position, f.key, f.value, p.field_types ->> " \
  "f.key "
#define PROFILE_FIELDS " LEFT JOIN LATERAL jsonb_each_text(p.fields) f ON f.value IS NOT NULL ORDER BY f.key COLLATE \"C\""
constexpr const char* profile_by_key = "SELECT " PARKED("profile", "$1") PROFILE_COLUMNS
    "FROM (VALUES (1)) AS always LEFT JOIN user_profiles p ON p.user_key = $1" PROFILE_FIELDS;
constexpr const char* profile_by_id = "SELECT " PARKED("profile", "p.user_key") PROFILE_COLUMNS
    "FROM (SELECT * FROM user_profiles WHERE user_id = $1 ORDER BY vouched DESC, updated_at DESC, user_key LIMIT 1) "
    "p" PROFILE_FIELDS;

#define SESSION_COLUMNS                                                                                                       \
  ", s.session_id, coalesce(s.user_id, ''), s.status, s.flow, s.plan, (extract(epoch FROM s.created_at) * 1000000)::bigint, " \
  "(extract(epoch FROM s.completed_at) * 1000000)::bigint, s.total_messages_count FROM "
#define NEWEST_FIRST " ORDER BY s.created_at DESC, s.session_id LIMIT 1000"
constexpr const char* sessions_by_key = "SELECT " PARKED("sessions", "$1") SESSION_COLUMNS
    "(VALUES (1)) AS always LEFT JOIN onboarding_sessions s ON s.user_key = $1 AND NOT s.erased" NEWEST_FIRST;
constexpr const char* sessions_by_id = "SELECT " PARKED("sessions", "s.user_key") SESSION_COLUMNS
    "onboarding_sessions s WHERE s.user_id = $1 AND NOT s.erased" NEWEST_FIRST;
#undef PARKED
#undef PROFILE_COLUMNS
#undef PROFILE_FIELDS
#undef SESSION_COLUMNS
#undef NEWEST_FIRST

constexpr const char* stats_statement = R"(
SELECT (SELECT count(*) FROM onboarding_sessions WHERE status = 'active' AND NOT erased),
       (SELECT count(*) FROM onboarding_sessions WHERE completed_at >= date_trunc('day', now(), 'UTC')),
       coalesce((SELECT avg((status = 'completed')::integer) FROM onboarding_sessions WHERE created_at > now() - interval '7 days'), 0)::float8,
       coalesce((SELECT avg(extract(epoch FROM completed_at - created_at) / 60) FROM onboarding_sessions WHERE status = 'completed'), 0)::float8,
       coalesce((SELECT sum(failed)::float8 / nullif(greatest(sum(turns), sum(failed)), 0) FROM turn_outcomes
                  WHERE minute > now() - interval '1 hour'), 0))";

constexpr const char* completion_statement = R"(
SELECT to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day, count(*), count(*) FILTER (WHERE status = 'completed'),
       coalesce(sum(extract(epoch FROM completed_at - created_at) / 60) FILTER (WHERE status = 'completed'), 0)::float8
  FROM onboarding_sessions WHERE created_at > now() - $1 * interval '1 day' GROUP BY 1 ORDER BY 1)";

constexpr const char* abandonment_statement = R"(
WITH chosen AS MATERIALIZED (
  SELECT abandonment_at_field, asked_fields FROM session_analytics WHERE created_at > now() - $1 * interval '1 day'
), asked AS (
  SELECT field, count(*) AS sessions FROM chosen, jsonb_object_keys(asked_fields) AS field GROUP BY 1
), abandoned AS (
  SELECT abandonment_at_field AS field, count(*) AS sessions FROM chosen WHERE abandonment_at_field IS NOT NULL GROUP BY 1
)
SELECT field, coalesce(abandoned.sessions, 0), coalesce(asked.sessions, 0), (SELECT coalesce(sum(sessions), 0) FROM abandoned)::bigint
  FROM asked FULL JOIN abandoned USING (field) ORDER BY 2 DESC, 3 DESC, 1)";

constexpr const char* messages_statement = R"(
SELECT count(*) FILTER (WHERE total_messages_count < 8), count(*) FILTER (WHERE total_messages_count BETWEEN 8 AND 10),
       count(*) FILTER (WHERE total_messages_count BETWEEN 11 AND 15), count(*) FILTER (WHERE total_messages_count > 15),
       coalesce(avg(total_messages_count), 0)::float8
  FROM onboarding_sessions WHERE status = 'completed' AND created_at > now() - $1 * interval '1 day')";

constexpr const char* usage_statement = R"(
SELECT to_char(day, 'YYYY-MM-DD'), provider, model, plan, calls, failed_calls, unreported_calls, unpriced_calls, input_tokens,
       cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, latency_ms, cost_nanodollars
  FROM token_usage WHERE day > (now() AT TIME ZONE 'UTC')::date - $1::integer ORDER BY day, provider, model, plan)";

// A field that was never asked for but told counts neither as asked nor as filled.
constexpr const char* quality_statement = R"(
SELECT to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day, count(*), sum(fields.asked)::bigint, sum(fields.filled)::bigint,
       sum(questions_asked)::bigint, sum(fields_reasked)::bigint, sum(fields_extracted + fields_corrected + fields_rejected)::bigint,
       sum(fields_rejected)::bigint, sum(replies)::bigint, sum(fallback_replies)::bigint, sum(turns_failed)::bigint, sum(llm_calls)::bigint,
       sum(llm_calls_failed)::bigint
  FROM session_analytics, LATERAL (SELECT count(*) AS asked, count(*) FILTER (WHERE filled_fields -> field = 'true') AS filled
                                     FROM jsonb_object_keys(asked_fields) AS field) AS fields
 WHERE created_at > now() - $1 * interval '1 day' GROUP BY 1 ORDER BY 1)";

domain::Timestamp time_of(const pqxx::field& microseconds) {
  return domain::Timestamp(std::chrono::microseconds(microseconds.as<std::int64_t>()));
}

/// The first column of what is read by person.
bool any_parked(const pqxx::result& rows) {
  return std::any_of(rows.begin(), rows.end(), [](const auto& row) { return row[0].template as<bool>(); });
}

double share(double part, double whole) { return whole > 0 ? part / whole : 0; }

template <class... Arguments>
pqxx::result read(Connection& connection, const char* name, const char* sql, const Arguments&... arguments) {
  connection.prepare(name, sql);
  pqxx::nontransaction reading(connection.db);
  return reading.exec_prepared(name, arguments...);
}

}  // namespace

PostgresQueries::PostgresQueries(Pool& pool, Progress& progress, const PostgresOptions& options)
    : pool_(pool), progress_(progress), max_threads_(std::max<std::size_t>(1, options.pool_size + options.max_overflow)) {}

PostgresQueries::~PostgresQueries() {
  std::deque<std::function<void(bool)>> left;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    left.swap(waiting_);
    changed_.notify_all();
  }
  for (auto& task : left) task(true);
  for (std::thread& thread : threads_) thread.join();
}

void PostgresQueries::submit(std::function<void(bool)> task) {
  {
    const std::lock_guard lock(mutex_);
    if (!stopping_ && waiting_.size() < max_waiting) {
      waiting_.push_back(std::move(task));
      if (idle_threads_ < waiting_.size() && threads_.size() < max_threads_) {
        threads_.emplace_back([this] { run(); });
        pthread_setname_np(threads_.back().native_handle(), "pg-query");
      }
      changed_.notify_one();
      return;
    }
  }
  task(true);
}

void PostgresQueries::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    ++idle_threads_;
    changed_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    --idle_threads_;
    if (waiting_.empty()) return;
    auto task = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    task(false);
    lock.lock();
  }
}

template <class T, class Work>
void PostgresQueries::ask(Done<T> done, Work work) {
  submit([this, done = std::move(done), work = std::move(work)](bool refused) {
    if (refused) return done(failure(Errc::unavailable, "too many queries wait"));
    result<result<T>> answer = pool_.run(work);
    done(answer ? std::move(*answer) : result<T>(tl::unexpected(answer.error())));
  });
}

void PostgresQueries::profile(UserSelector who, Done<Profile> done) {
  ask<Profile>(std::move(done), [who = std::move(who)](Connection& connection) -> result<Profile> {
    const auto rows = who.user_key.empty() ? read(connection, "profile_by_id", profile_by_id, who.user_id)
                                           : read(connection, "profile_by_key", profile_by_key, who.user_key);
    if (any_parked(rows)) return failure(Errc::poison);
    if (rows.empty() || rows[0][3].is_null()) return failure(Errc::not_found);
    Profile profile;
    profile.user_id = rows[0][1].as<std::string>("");
    profile.vouched = rows[0][2].as<bool>();
    profile.updated_at = time_of(rows[0][3]);
    profile.etag = rows[0][4].as<std::string>();
    for (const auto& row : rows) {
      if (row[5].is_null()) continue;  // nothing is known yet
      profile.fields.emplace_back(row[5].as<std::string>(), row[6].as<std::string>(""));
      profile.types.emplace_back(row[5].as<std::string>(), row[7].as<std::string>(""));
    }
    return profile;
  });
}

void PostgresQueries::sessions_of_user(UserSelector who, Done<std::vector<SessionRow>> done) {
  ask<std::vector<SessionRow>>(
      std::move(done), [who = std::move(who)](Connection& connection) -> result<std::vector<SessionRow>> {
        const auto rows = who.user_key.empty() ? read(connection, "sessions_by_id", sessions_by_id, who.user_id)
                                               : read(connection, "sessions_by_key", sessions_by_key, who.user_key);
        if (any_parked(rows)) return failure(Errc::poison);
        std::vector<SessionRow> sessions;
        for (const auto& row : rows) {
          if (row[1].is_null()) continue;  // there are none
          SessionRow session;
          session.session_id = row[1].as<std::string>();
          session.user_id = row[2].as<std::string>();
          session.status = row[3].as<std::string>();
          session.flow = row[4].as<std::string>("");
          session.plan = row[5].as<std::string>();
          session.created_at = time_of(row[6]);
          if (!row[7].is_null()) session.completed_at = time_of(row[7]);
          session.total_messages_count = row[8].as<std::int64_t>();
          sessions.push_back(std::move(session));
        }
        return sessions;
      });
}

void PostgresQueries::stats(Done<Stats> done) {
  ask<Stats>(std::move(done), [](Connection& connection) -> result<Stats> {
    const auto row = read(connection, "stats", stats_statement)[0];
    return Stats{row[0].as<std::int64_t>(), row[1].as<std::int64_t>(), row[2].as<double>(), row[3].as<double>(),
                 row[4].as<double>()};
  });
}

void PostgresQueries::completion(std::uint32_t days, Done<Completion> done) {
  ask<Completion>(std::move(done), [days](Connection& connection) -> result<Completion> {
    Completion completion;
    completion.days = days;
    double minutes = 0;
    for (const auto& row : read(connection, "completion", completion_statement, days)) {
      CompletionDay day{row[0].as<std::string>(), row[1].as<std::int64_t>(), row[2].as<std::int64_t>(), 0, 0};
      day.rate = share(static_cast<double>(day.completed), static_cast<double>(day.started));
      day.average_minutes = share(row[3].as<double>(), static_cast<double>(day.completed));
      completion.started += day.started;
      completion.completed += day.completed;
      minutes += row[3].as<double>();
      completion.by_day.push_back(std::move(day));
    }
    completion.rate = share(static_cast<double>(completion.completed), static_cast<double>(completion.started));
    completion.average_minutes = share(minutes, static_cast<double>(completion.completed));
    return completion;
  });
}

void PostgresQueries::abandonment(std::uint32_t days, Done<std::vector<AbandonmentField>> done) {
  ask<std::vector<AbandonmentField>>(std::move(done), [days](Connection& connection) -> result<std::vector<AbandonmentField>> {
    std::vector<AbandonmentField> fields;
    for (const auto& row : read(connection, "abandonment", abandonment_statement, days)) {
      AbandonmentField field{row[0].as<std::string>(), row[1].as<std::int64_t>(), row[2].as<std::int64_t>(), 0, 0};
      field.share_of_abandoned = share(static_cast<double>(field.count), row[3].as<double>());
      field.share_of_asked = share(static_cast<double>(field.count), static_cast<double>(field.asked));
      fields.push_back(std::move(field));
    }
    return fields;
  });
}

void PostgresQueries::messages(std::uint32_t days, Done<MessageBuckets> done) {
  ask<MessageBuckets>(std::move(done), [days](Connection& connection) -> result<MessageBuckets> {
    const auto row = read(connection, "messages", messages_statement, days)[0];
    return MessageBuckets{row[0].as<std::int64_t>(), row[1].as<std::int64_t>(), row[2].as<std::int64_t>(),
                          row[3].as<std::int64_t>(), row[4].as<double>()};
  });
}

void PostgresQueries::usage(std::uint32_t days, Done<std::vector<UsageRow>> done) {
  ask<std::vector<UsageRow>>(std::move(done), [days](Connection& connection) -> result<std::vector<UsageRow>> {
    std::vector<UsageRow> usage;
    for (const auto& row : read(connection, "usage", usage_statement, days)) {
      UsageRow& one = usage.emplace_back();
      one.day = row[0].as<std::string>();
      one.provider = row[1].as<std::string>();
      one.model = row[2].as<std::string>();
      one.plan = row[3].as<std::string>();
      UsageFigures& f = one.figures;
      int column = 4;
      for (std::int64_t* figure :
           {&f.calls, &f.failed_calls, &f.unreported_calls, &f.unpriced_calls, &f.input_tokens, &f.cached_input_tokens,
            &f.cache_write_tokens, &f.output_tokens, &f.reasoning_tokens, &f.latency_ms, &f.cost_nanodollars}) {
        *figure = row[column++].as<std::int64_t>();
      }
    }
    return usage;
  });
}

void PostgresQueries::quality(std::uint32_t days, Done<std::vector<QualityDay>> done) {
  ask<std::vector<QualityDay>>(std::move(done), [days](Connection& connection) -> result<std::vector<QualityDay>> {
    std::vector<QualityDay> quality;
    for (const auto& row : read(connection, "quality", quality_statement, days)) {
      QualityDay& day = quality.emplace_back();
      day.day = row[0].as<std::string>();
      QualityFigures& f = day.figures;
      int column = 1;
      for (std::int64_t* figure :
           {&f.sessions, &f.fields_asked, &f.asked_fields_filled, &f.questions, &f.reasked, &f.values_said, &f.values_rejected,
            &f.replies, &f.fallback_replies, &f.failed_turns, &f.calls, &f.failed_calls}) {
        *figure = row[column++].as<std::int64_t>();
      }
    }
    return quality;
  });
}

void PostgresQueries::wait_for(Freshness freshness, std::function<void(bool, Lag)> done) {
  progress_.wait_for(freshness, std::move(done));
}

std::vector<ProjectionStatus> PostgresQueries::projections() const { return progress_.status(); }
DatabaseStatus PostgresQueries::database() const { return pool_.status(); }

}  // namespace onboarding::projections
