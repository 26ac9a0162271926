#include "projections/postgres/queries.hpp"

#include <prometheus/counter.h>
#include <prometheus/registry.h>
#include <pthread.h>
#include <spdlog/logger.h>

#include <algorithm>

namespace onboarding::projections {

namespace {

// What is behind an event that could not be applied is stale: the person's own key, or one of their sessions that cannot
// even be read. Nearly always the table is empty, and this costs nothing.
#define PARKED(projection, user_key)                                                                                          \
  "EXISTS (SELECT FROM projection_parked_keys JOIN projection_generations USING (projection, generation) WHERE projection = " \
  "'" projection "' AND state = 'live' AND (parked_key = " user_key                                                           \
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
  "(extract(epoch FROM s.completed_at) * 1000000)::bigint, s.total_messages_count, s.user_key, s.flow_version, "              \
  "(extract(epoch FROM s.updated_at) * 1000000)::bigint FROM "
#define BEHIND(micros, session_id) \
  "(s.created_at, s.session_id) < (timestamptz 'epoch' + " micros " * interval '1 microsecond', " session_id ")"
#define NEWEST_FIRST " ORDER BY s.created_at DESC, s.session_id DESC LIMIT "
constexpr const char* sessions_by_key = "SELECT " PARKED("sessions", "$1") SESSION_COLUMNS
    "(VALUES (1)) AS always LEFT JOIN onboarding_sessions s ON s.user_key = $1 AND NOT s.erased AND " BEHIND("$2", "$3")
        NEWEST_FIRST "$4";
constexpr const char* sessions_by_id = "SELECT " PARKED("sessions", "s.user_key") SESSION_COLUMNS
    "onboarding_sessions s WHERE s.user_id = $1 AND NOT s.erased AND " BEHIND("$2", "$3") NEWEST_FIRST "$4";
// Filters follow: each makes a statement of its own, so that PostgreSQL plans it with the index that fits.
constexpr const char* all_sessions = "SELECT false" SESSION_COLUMNS "onboarding_sessions s WHERE " BEHIND("$2", "$3");
constexpr const char* newest_first = NEWEST_FIRST "$1";
#undef PARKED
#undef PROFILE_COLUMNS
#undef PROFILE_FIELDS
#undef SESSION_COLUMNS
#undef BEHIND
#undef NEWEST_FIRST

constexpr const char* stats_statement = R"(
SELECT (SELECT count(*) FROM onboarding_sessions WHERE status = 'active' AND NOT erased),
       (SELECT count(*) FROM onboarding_sessions WHERE completed_at >= date_trunc('day', now(), 'UTC')),
       coalesce((SELECT avg((status = 'completed')::integer) FROM onboarding_sessions WHERE created_at > now() - interval '7 days'), 0)::float8,
       coalesce((SELECT avg(extract(epoch FROM completed_at - created_at) / 60) FROM onboarding_sessions WHERE status = 'completed'), 0)::float8,
       coalesce((SELECT sum(failed)::float8 / nullif(greatest(sum(turns), sum(failed)), 0) FROM turn_outcomes
                  WHERE minute > now() - interval '1 hour'), 0))";

// The definitions stand in the views (migrations, READ_MODELS.md): here they are only counted.
constexpr const char* completion_statement = R"(
SELECT to_char(day, 'YYYY-MM-DD') AS day, count(*), count(*) FILTER (WHERE status = 'completed'), coalesce(avg(minutes_to_complete), 0),
       coalesce(percentile_cont(0.5) WITHIN GROUP (ORDER BY minutes_to_complete), 0),
       coalesce(percentile_cont(0.9) WITHIN GROUP (ORDER BY minutes_to_complete), 0),
       coalesce(percentile_cont(0.99) WITHIN GROUP (ORDER BY minutes_to_complete), 0)
  FROM session_facts WHERE created_at >= date_trunc('day', now(), 'UTC') - ($1 - 1) * interval '1 day' GROUP BY GROUPING SETS ((session_facts.day), ()) ORDER BY 1 NULLS FIRST)";

constexpr const char* abandonment_statement = R"(
WITH patterns AS (
  SELECT asked_fields, filled_fields, abandonment_at_field, count(*) AS sessions
    FROM session_facts WHERE created_at >= date_trunc('day', now(), 'UTC') - ($1 - 1) * interval '1 day' GROUP BY 1, 2, 3
), fields AS (
  SELECT field, coalesce(sum(sessions) FILTER (WHERE abandoned_here), 0)::bigint AS abandoned,
         coalesce(sum(sessions) FILTER (WHERE asked), 0)::bigint AS asked,
         coalesce(sum(sessions) FILTER (WHERE asked AND abandoned_here), 0)::bigint AS asked_and_abandoned
    FROM patterns, LATERAL fields_of(asked_fields, filled_fields, abandonment_at_field) GROUP BY 1
)
SELECT field, abandoned, asked, asked_and_abandoned, (sum(abandoned) OVER ())::bigint
  FROM fields WHERE asked > 0 OR abandoned > 0 ORDER BY abandoned DESC, asked DESC, field)";

constexpr const char* funnel_statement = R"(
SELECT flow, flow_version, step, name, coalesce(field, ''), sessions, coalesce(share_of_started, 0) FROM funnel ORDER BY 1, 2, 3)";

constexpr const char* messages_statement = R"(
SELECT count(*) FILTER (WHERE message_bucket = '<8'), count(*) FILTER (WHERE message_bucket = '8-10'),
       count(*) FILTER (WHERE message_bucket = '11-15'), count(*) FILTER (WHERE message_bucket = '>15'),
       coalesce(avg(total_messages_count), 0)::float8
  FROM session_facts WHERE status = 'completed' AND created_at >= date_trunc('day', now(), 'UTC') - ($1 - 1) * interval '1 day')";

constexpr const char* usage_statement = R"(
SELECT to_char(day, 'YYYY-MM-DD'), provider, model, plan, calls, failed_calls, unreported_calls, unpriced_calls, input_tokens,
       cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, latency_ms, cost_nanodollars
  FROM token_usage WHERE day > (now() AT TIME ZONE 'UTC')::date - $1::integer ORDER BY day, provider, model, plan)";

constexpr const char* quality_statement = R"(
SELECT to_char(day, 'YYYY-MM-DD'), count(*), sum(fields_asked)::bigint, sum(asked_fields_filled)::bigint, sum(questions_asked)::bigint,
       sum(fields_reasked)::bigint, sum(values_said)::bigint, sum(values_rejected)::bigint, sum(replies)::bigint,
       sum(fallback_replies)::bigint, sum(turns_failed)::bigint, sum(llm_calls)::bigint, sum(llm_calls_failed)::bigint
  FROM session_facts WHERE created_at >= date_trunc('day', now(), 'UTC') - ($1 - 1) * interval '1 day' GROUP BY session_facts.day ORDER BY 1)";

domain::Timestamp time_of(const pqxx::field& microseconds) {
  return domain::Timestamp(std::chrono::microseconds(microseconds.as<std::int64_t>()));
}

/// The first column of what is read by person.
bool any_parked(const pqxx::result& rows) {
  return std::any_of(rows.begin(), rows.end(), [](const auto& row) { return row[0].template as<bool>(); });
}

double share(double part, double whole) { return whole > 0 ? part / whole : 0; }

// The latest time there is room for in a count of microseconds that PostgreSQL takes.
constexpr std::int64_t end_of_time = 9'000'000'000'000'000;

struct Place {
  std::int64_t micros;
  std::string session_id;
};
Place place_of(const PageRequest& page) {
  return page.after ? Place{page.after->created_at.time_since_epoch().count(), page.after->session_id} : Place{end_of_time, {}};
}

/// One row more than wanted was asked for.
SessionPage page_of(const pqxx::result& rows, const PageRequest& asked) {
  SessionPage page;
  for (const auto& row : rows) {
    if (row[1].is_null()) continue;  // there are none
    if (page.rows.size() == asked.limit) {
      page.next = SessionPlace{page.rows.back().created_at, page.rows.back().session_id};
      break;
    }
    SessionRow& session = page.rows.emplace_back();
    session.session_id = row[1].as<std::string>();
    session.user_id = row[2].as<std::string>();
    session.status = row[3].as<std::string>();
    session.flow = row[4].as<std::string>("");
    session.plan = row[5].as<std::string>();
    session.created_at = time_of(row[6]);
    if (!row[7].is_null()) session.completed_at = time_of(row[7]);
    session.total_messages_count = row[8].as<std::int64_t>();
    session.user_key = row[9].as<std::string>("");
    session.flow_version = row[10].as<std::int64_t>(0);
    session.updated_at = time_of(row[11]);
  }
  return page;
}

}  // namespace

PostgresQueries::PostgresQueries(Pool& pool, Progress& progress, const PostgresOptions& options, prometheus::Registry* registry)
    : pool_(pool),
      progress_(progress),
      max_threads_(std::max<std::size_t>(1, options.pool_size + options.max_overflow)),
      slow_query_(options.slow_query),
      logger_(options.logger),
      stats_(options.metrics_ttl),
      completion_(options.metrics_ttl),
      abandonment_(options.metrics_ttl),
      funnel_(options.metrics_ttl),
      messages_(options.metrics_ttl),
      usage_(options.metrics_ttl),
      quality_(options.metrics_ttl) {
  if (registry == nullptr) return;
  slow_ = &prometheus::BuildCounter()
               .Name("onboarding_postgres_slow_queries_total")
               .Help("Queries that took longer than postgres.slow_query_seconds.")
               .Register(*registry);
  asked_ = &prometheus::BuildCounter()
                .Name("onboarding_metrics_cache_total")
                .Help("Aggregates that were asked for: `hit` where the answer was there.")
                .Register(*registry);
}

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
void PostgresQueries::ask(Freshness rows, Done<T> done, Work work) {
  submit([this, rows = std::move(rows), done = std::move(done), work = std::move(work)](bool refused) {
    if (refused) return done(failure(Errc::unavailable, "too many queries wait"));
    if (replica_ && replica_->serves(rows.projection, rows.at_least)) {
      result<result<T>> answer = replica_->pool().once(work);
      if (answer) return done(std::move(*answer));
      replica_->failed(answer.error().detail);
    }
    result<result<T>> answer = pool_.run(work);
    done(answer ? std::move(*answer) : result<T>(tl::unexpected(answer.error())));
  });
}

template <class T, class Work>
void PostgresQueries::ask_cached(Cached<T>& cached, const char* name, std::uint32_t key, Done<T> done, Work work) {
  const bool hit = cached.get(key, std::move(done), [&](Done<T> fetched) { ask<T>({}, std::move(fetched), std::move(work)); });
  if (asked_ != nullptr) asked_->Add({{"query", name}, {"outcome", hit ? "hit" : "miss"}}).Increment();
}

template <class... Arguments>
pqxx::result PostgresQueries::read(Connection& connection, const std::string& name, const std::string& sql,
                                   const Arguments&... arguments) const {
  connection.prepare(name, sql);
  const auto began = std::chrono::steady_clock::now();
  auto rows = pqxx::nontransaction(connection.db).exec_prepared(name, arguments...);
  const auto took = std::chrono::steady_clock::now() - began;
  if (took > slow_query_) {
    if (slow_ != nullptr) slow_->Add({{"query", name}}).Increment();
    if (logger_)
      logger_->warn(R"({{"event":"slow_query","query":"{}","duration_ms":{}}})", name,
                    std::chrono::duration_cast<std::chrono::milliseconds>(took).count());
  }
  return rows;
}

void PostgresQueries::profile(UserSelector who, Done<Profile> done) {
  ask<Profile>({who.at_least, 0, "profile"}, std::move(done), [this, who](Connection& connection) -> result<Profile> {
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

void PostgresQueries::sessions_of_user(UserSelector who, PageRequest page, Done<SessionPage> done) {
  ask<SessionPage>({who.at_least, 0, "sessions"}, std::move(done),
                   [this, who, page](Connection& connection) -> result<SessionPage> {
                     const auto [micros, behind] = place_of(page);
                     const auto rows =
                         who.user_key.empty()
                             ? read(connection, "sessions_by_id", sessions_by_id, who.user_id, micros, behind, page.limit + 1)
                             : read(connection, "sessions_by_key", sessions_by_key, who.user_key, micros, behind, page.limit + 1);
                     if (any_parked(rows)) return failure(Errc::poison);
                     return page_of(rows, page);
                   });
}

void PostgresQueries::sessions(SessionFilter filter, PageRequest page, Done<SessionPage> done) {
  ask<SessionPage>({}, std::move(done), [this, filter = std::move(filter), page](Connection& connection) -> result<SessionPage> {
    std::string name = "sessions", sql = all_sessions;
    std::vector<std::string> values;
    const auto where = [&](const char* column, const std::string& condition, std::string value) {
      values.push_back(std::move(value));
      name.append("/").append(column);
      sql.append(" AND s.").append(column).append(condition).append("$" + std::to_string(values.size() + 3));
    };
    const auto micros_of = [](domain::Timestamp time) { return std::to_string(time.time_since_epoch().count()); };
    const std::string of_micros = " timestamptz 'epoch' + interval '1 microsecond' * ";
    if (!filter.status.empty()) where("status", " = ", filter.status);
    if (!filter.flow.empty()) where("flow", " = ", filter.flow);
    if (!filter.plan.empty()) where("plan", " = ", filter.plan);
    if (!filter.user_id.empty()) where("user_id", " = ", filter.user_id);
    if (filter.since) where("created_at", " >=" + of_micros, micros_of(*filter.since));
    if (filter.before) where("created_at", " <" + of_micros, micros_of(*filter.before));
    if (filter.before) name += "<";
    const auto [micros, behind] = place_of(page);
    const auto rows =
        read(connection, name, sql + newest_first, page.limit + 1, micros, behind, pqxx::prepare::make_dynamic_params(values));
    return page_of(rows, page);
  });
}

void PostgresQueries::stats(Done<Stats> done) {
  ask_cached<Stats>(stats_, "stats", 0, std::move(done), [this](Connection& connection) -> result<Stats> {
    const auto row = read(connection, "stats", stats_statement)[0];
    return Stats{row[0].as<std::int64_t>(), row[1].as<std::int64_t>(), row[2].as<double>(), row[3].as<double>(),
                 row[4].as<double>()};
  });
}

void PostgresQueries::completion(std::uint32_t days, Done<Completion> done) {
  ask_cached<Completion>(
      completion_, "completion", days, std::move(done), [this, days](Connection& connection) -> result<Completion> {
        Completion completion;
        completion.days = days;
        for (const auto& row : read(connection, "completion", completion_statement, days)) {
          CompletionDay day{
              row[0].as<std::string>(""), row[1].as<std::int64_t>(), row[2].as<std::int64_t>(), 0,
              row[3].as<double>(),        row[4].as<double>(),       row[5].as<double>(),       row[6].as<double>()};
          day.rate = share(static_cast<double>(day.completed), static_cast<double>(day.started));
          if (day.day.empty()) static_cast<CompletionDay&>(completion) = std::move(day);
          else completion.by_day.push_back(std::move(day));
        }
        return completion;
      });
}

void PostgresQueries::abandonment(std::uint32_t days, Done<std::vector<AbandonmentField>> done) {
  ask_cached<std::vector<AbandonmentField>>(
      abandonment_, "abandonment", days, std::move(done),
      [this, days](Connection& connection) -> result<std::vector<AbandonmentField>> {
        std::vector<AbandonmentField> fields;
        for (const auto& row : read(connection, "abandonment", abandonment_statement, days)) {
          AbandonmentField field{row[0].as<std::string>(), row[1].as<std::int64_t>(), row[2].as<std::int64_t>(), 0, 0};
          field.share_of_abandoned = share(static_cast<double>(field.count), row[4].as<double>());
          field.share_of_asked = share(row[3].as<double>(), static_cast<double>(field.asked));
          fields.push_back(std::move(field));
        }
        return fields;
      });
}

void PostgresQueries::funnel(Done<std::vector<FunnelStep>> done) {
  ask_cached<std::vector<FunnelStep>>(
      funnel_, "funnel", 0, std::move(done), [this](Connection& connection) -> result<std::vector<FunnelStep>> {
        std::vector<FunnelStep> steps;
        for (const auto& row : read(connection, "funnel", funnel_statement)) {
          steps.push_back({row[0].as<std::string>(""), row[1].as<std::int64_t>(0), row[2].as<std::int64_t>(),
                           row[3].as<std::string>(), row[4].as<std::string>(), row[5].as<std::int64_t>(), row[6].as<double>()});
        }
        return steps;
      });
}

void PostgresQueries::messages(std::uint32_t days, Done<MessageBuckets> done) {
  ask_cached<MessageBuckets>(messages_, "messages", days, std::move(done),
                             [this, days](Connection& connection) -> result<MessageBuckets> {
                               const auto row = read(connection, "messages", messages_statement, days)[0];
                               return MessageBuckets{row[0].as<std::int64_t>(), row[1].as<std::int64_t>(),
                                                     row[2].as<std::int64_t>(), row[3].as<std::int64_t>(), row[4].as<double>()};
                             });
}

void PostgresQueries::usage(std::uint32_t days, Done<std::vector<UsageRow>> done) {
  ask_cached<std::vector<UsageRow>>(
      usage_, "usage", days, std::move(done), [this, days](Connection& connection) -> result<std::vector<UsageRow>> {
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
  ask_cached<std::vector<QualityDay>>(
      quality_, "quality", days, std::move(done), [this, days](Connection& connection) -> result<std::vector<QualityDay>> {
        std::vector<QualityDay> quality;
        for (const auto& row : read(connection, "quality", quality_statement, days)) {
          QualityDay& day = quality.emplace_back();
          day.day = row[0].as<std::string>();
          QualityFigures& f = day.figures;
          int column = 1;
          for (std::int64_t* figure :
               {&f.sessions, &f.fields_asked, &f.asked_fields_filled, &f.questions, &f.reasked, &f.values_said,
                &f.values_rejected, &f.replies, &f.fallback_replies, &f.failed_turns, &f.calls, &f.failed_calls}) {
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
DatabaseStatus PostgresQueries::database() const {
  DatabaseStatus status = pool_.status();
  if (replica_) status.replica = replica_->status();
  return status;
}

}  // namespace onboarding::projections
