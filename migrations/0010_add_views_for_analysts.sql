-- What the published flows ask for, in order: a funnel needs to know what comes next.
CREATE TABLE flow_fields (
    flow text COLLATE "C" NOT NULL,
    flow_version integer NOT NULL,
    place integer NOT NULL,  -- from 1, as they are asked
    field text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    required boolean NOT NULL,
    PRIMARY KEY (flow, flow_version, place)
);

-- One row a session: where the figures of infra/docs/READ_MODELS.md are defined once. The HTTP routes and the views below read it. Every
-- join is a left one on a primary key, so that PostgreSQL leaves out what a query does not ask for.
CREATE VIEW session_facts AS
SELECT s.session_id, s.user_key, s.vouched, s.status, s.erased, s.flow, s.flow_version, s.variant, s.plan, s.locale,
       (s.created_at AT TIME ZONE 'UTC')::date AS day,
       s.created_at, s.updated_at, s.completed_at, s.abandoned_at,
       CASE WHEN s.status = 'completed' THEN (extract(epoch FROM s.completed_at - s.created_at) / 60)::float8 END AS minutes_to_complete,
       s.total_messages_count,
       CASE WHEN s.status <> 'completed' THEN NULL WHEN s.total_messages_count < 8 THEN '<8' WHEN s.total_messages_count <= 10 THEN '8-10'
            WHEN s.total_messages_count <= 15 THEN '11-15' ELSE '>15' END AS message_bucket,
       a.abandonment_at_field, a.asked_fields, a.filled_fields,
       (SELECT count(*) FROM jsonb_object_keys(a.asked_fields)) AS fields_asked,
       (SELECT count(*) FROM jsonb_object_keys(a.asked_fields) AS field WHERE a.filled_fields -> field = 'true') AS asked_fields_filled,
       a.questions_asked, a.fields_reasked,
       a.fields_extracted + a.fields_corrected + a.fields_rejected AS values_said, a.fields_rejected AS values_rejected,
       a.user_messages, a.replies, a.fallback_replies, a.turns_queued, a.turns_failed, a.llm_calls, a.llm_calls_failed,
       a.input_tokens, a.output_tokens, a.cost_nanodollars, a.unpriced_calls, a.abandonments, a.resumes
  FROM onboarding_sessions s LEFT JOIN session_analytics a USING (session_id);

-- One row a session and field that was asked for, told, declined, or where the session was abandoned.
CREATE VIEW session_fields AS
SELECT s.session_id, s.flow, s.flow_version, s.day, s.created_at, s.status, f.field,
       s.asked_fields ? f.field AS asked,
       coalesce(s.filled_fields -> f.field = 'true', false) AS filled,
       coalesce(s.filled_fields -> f.field = 'false', false) AS declined,
       coalesce(s.abandonment_at_field = f.field, false) AS abandoned_here
  FROM session_facts s,
       LATERAL jsonb_object_keys(s.asked_fields || s.filled_fields ||
                                 CASE WHEN s.abandonment_at_field IS NULL THEN '{}' ELSE jsonb_build_object(s.abandonment_at_field, true) END) AS f(field);

CREATE VIEW completion_by_day AS
SELECT day, flow, flow_version, count(*) AS started,
       count(*) FILTER (WHERE status = 'completed') AS completed,
       count(*) FILTER (WHERE status = 'abandoned') AS abandoned,
       count(*) FILTER (WHERE status = 'active') AS active,
       avg((status = 'completed')::integer)::float8 AS completion_rate,
       avg(minutes_to_complete) AS avg_minutes,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY minutes_to_complete) AS p50_minutes,
       percentile_cont(0.9) WITHIN GROUP (ORDER BY minutes_to_complete) AS p90_minutes,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY minutes_to_complete) AS p99_minutes
  FROM session_facts GROUP BY 1, 2, 3;

CREATE VIEW time_to_complete AS
SELECT flow, flow_version, count(*) AS completed, avg(minutes_to_complete) AS avg_minutes,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY minutes_to_complete) AS p50_minutes,
       percentile_cont(0.9) WITHIN GROUP (ORDER BY minutes_to_complete) AS p90_minutes,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY minutes_to_complete) AS p99_minutes
  FROM session_facts WHERE status = 'completed' GROUP BY 1, 2;

CREATE VIEW abandonment_by_field AS
SELECT flow, flow_version, field,
       count(*) FILTER (WHERE asked) AS asked,
       count(*) FILTER (WHERE abandoned_here) AS abandoned,
       count(*) FILTER (WHERE abandoned_here) / nullif(sum(count(*) FILTER (WHERE abandoned_here)) OVER (PARTITION BY flow, flow_version), 0)::float8
           AS share_of_abandoned,
       count(*) FILTER (WHERE asked AND abandoned_here) / nullif(count(*) FILTER (WHERE asked), 0)::float8 AS share_of_asked
  FROM session_fields GROUP BY 1, 2, 3;

CREATE VIEW message_buckets AS
SELECT flow, flow_version, message_bucket AS bucket, count(*) AS sessions,
       count(*) / sum(count(*)) OVER (PARTITION BY flow, flow_version)::float8 AS share, avg(total_messages_count)::float8 AS avg_messages
  FROM session_facts WHERE status = 'completed' GROUP BY 1, 2, 3;

CREATE VIEW quality_by_day AS
SELECT day, flow, flow_version, sessions, fields_asked, asked_fields_filled, questions_asked, fields_reasked, values_said, values_rejected,
       replies, fallback_replies, turns_failed, llm_calls, llm_calls_failed,
       asked_fields_filled / nullif(fields_asked, 0)::float8 AS extraction_rate,
       fields_reasked / nullif(questions_asked, 0)::float8 AS reask_rate,
       values_rejected / nullif(values_said, 0)::float8 AS validation_failure_rate,
       fallback_replies / nullif(replies, 0)::float8 AS fallback_rate,
       turns_failed / nullif(replies, 0)::float8 AS failed_turn_rate,
       llm_calls_failed / nullif(llm_calls, 0)::float8 AS failed_call_rate
  FROM (SELECT day, flow, flow_version, count(*) AS sessions, sum(fields_asked)::bigint AS fields_asked,
               sum(asked_fields_filled)::bigint AS asked_fields_filled, sum(questions_asked)::bigint AS questions_asked,
               sum(fields_reasked)::bigint AS fields_reasked, sum(values_said)::bigint AS values_said,
               sum(values_rejected)::bigint AS values_rejected, sum(replies)::bigint AS replies, sum(fallback_replies)::bigint AS fallback_replies,
               sum(turns_failed)::bigint AS turns_failed, sum(llm_calls)::bigint AS llm_calls, sum(llm_calls_failed)::bigint AS llm_calls_failed
          FROM session_facts GROUP BY 1, 2, 3) AS days;

-- started → asked field 1 → filled field 1 → … → completed. A field that was told without being asked counts as asked, so that a
-- step is never wider than the one of the same field before it.
CREATE VIEW funnel AS
WITH flows AS (
  SELECT flow, flow_version, count(*) AS started, count(*) FILTER (WHERE status = 'completed') AS completed FROM session_facts GROUP BY 1, 2
), fields AS (
  SELECT flow, flow_version, field, count(*) FILTER (WHERE asked OR filled OR declined) AS asked, count(*) FILTER (WHERE filled) AS filled
    FROM session_fields GROUP BY 1, 2, 3
), steps AS (
  SELECT flow, flow_version, 0 AS step, 'started' AS name, NULL::text AS field, started AS sessions FROM flows
  UNION ALL
  SELECT flow, flow_version, 2 * place - 1, 'asked', field, coalesce(asked, 0)
    FROM flows JOIN flow_fields USING (flow, flow_version) LEFT JOIN fields USING (flow, flow_version, field)
  UNION ALL
  SELECT flow, flow_version, 2 * place, 'filled', field, coalesce(filled, 0)
    FROM flows JOIN flow_fields USING (flow, flow_version) LEFT JOIN fields USING (flow, flow_version, field)
  UNION ALL
  SELECT flow, flow_version, 2 * (SELECT count(*)::integer FROM flow_fields o WHERE o.flow = f.flow AND o.flow_version = f.flow_version) + 1,
         'completed', NULL, completed
    FROM flows f
)
SELECT flow, flow_version, step, name, field, sessions, sessions / nullif(started, 0)::float8 AS share_of_started
  FROM steps JOIN flows USING (flow, flow_version);
