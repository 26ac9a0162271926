-- Many sessions were asked for and told the same fields. What is counted over fields is counted once for each such pattern and taken times
-- its sessions, instead of unpacking the JSON of every session: a third of the time.
CREATE FUNCTION fields_of(asked_fields jsonb, filled_fields jsonb, abandonment_at_field text)
RETURNS TABLE (field text, asked boolean, filled boolean, declined boolean, abandoned_here boolean) LANGUAGE sql IMMUTABLE AS $$
SELECT f, asked_fields ? f, coalesce(filled_fields -> f = 'true', false), coalesce(filled_fields -> f = 'false', false),
       coalesce(abandonment_at_field = f, false)
  FROM jsonb_object_keys(asked_fields || filled_fields ||
                         CASE WHEN abandonment_at_field IS NULL THEN '{}' ELSE jsonb_build_object(abandonment_at_field, true) END) AS f
$$;

-- The count over a session's fields stands in a lateral join: PostgreSQL remembers (Memoize) what it was for the same fields, and leaves it
-- out where nobody asks for it.
CREATE OR REPLACE VIEW session_facts AS
SELECT s.session_id, s.user_key, s.vouched, s.status, s.erased, s.flow, s.flow_version, s.variant, s.plan, s.locale,
       (s.created_at AT TIME ZONE 'UTC')::date AS day,
       s.created_at, s.updated_at, s.completed_at, s.abandoned_at,
       CASE WHEN s.status = 'completed' THEN (extract(epoch FROM s.completed_at - s.created_at) / 60)::float8 END AS minutes_to_complete,
       s.total_messages_count,
       CASE WHEN s.status <> 'completed' THEN NULL WHEN s.total_messages_count < 8 THEN '<8' WHEN s.total_messages_count <= 10 THEN '8-10'
            WHEN s.total_messages_count <= 15 THEN '11-15' ELSE '>15' END AS message_bucket,
       a.abandonment_at_field, a.asked_fields, a.filled_fields, counted.fields_asked, counted.asked_fields_filled,
       a.questions_asked, a.fields_reasked,
       a.fields_extracted + a.fields_corrected + a.fields_rejected AS values_said, a.fields_rejected AS values_rejected,
       a.user_messages, a.replies, a.fallback_replies, a.turns_queued, a.turns_failed, a.llm_calls, a.llm_calls_failed,
       a.input_tokens, a.output_tokens, a.cost_nanodollars, a.unpriced_calls, a.abandonments, a.resumes
  FROM onboarding_sessions s LEFT JOIN session_analytics a USING (session_id)
  LEFT JOIN LATERAL (SELECT count(*) AS fields_asked, count(*) FILTER (WHERE a.filled_fields -> field = 'true') AS asked_fields_filled
                       FROM jsonb_object_keys(a.asked_fields) AS field) AS counted ON true;

CREATE OR REPLACE VIEW session_fields AS
SELECT s.session_id, s.flow, s.flow_version, s.day, s.created_at, s.status, f.field, f.asked, f.filled, f.declined, f.abandoned_here
  FROM session_facts s, LATERAL fields_of(s.asked_fields, s.filled_fields, s.abandonment_at_field) AS f;

CREATE OR REPLACE VIEW abandonment_by_field AS
WITH patterns AS (
  SELECT flow, flow_version, asked_fields, filled_fields, abandonment_at_field, count(*) AS sessions FROM session_facts GROUP BY 1, 2, 3, 4, 5
), fields AS (
  SELECT flow, flow_version, field,
         coalesce(sum(sessions) FILTER (WHERE asked), 0)::bigint AS asked,
         coalesce(sum(sessions) FILTER (WHERE abandoned_here), 0)::bigint AS abandoned,
         coalesce(sum(sessions) FILTER (WHERE asked AND abandoned_here), 0)::bigint AS asked_and_abandoned
    FROM patterns, LATERAL fields_of(asked_fields, filled_fields, abandonment_at_field) GROUP BY 1, 2, 3
)
SELECT flow, flow_version, field, asked, abandoned,
       abandoned / nullif(sum(abandoned) OVER (PARTITION BY flow, flow_version), 0)::float8 AS share_of_abandoned,
       asked_and_abandoned / nullif(asked, 0)::float8 AS share_of_asked
  FROM fields;

CREATE OR REPLACE VIEW funnel AS
WITH flows AS (
  SELECT flow, flow_version, count(*) AS started, count(*) FILTER (WHERE status = 'completed') AS completed FROM session_facts GROUP BY 1, 2
), patterns AS (
  SELECT flow, flow_version, asked_fields, filled_fields, count(*) AS sessions FROM session_facts GROUP BY 1, 2, 3, 4
), fields AS (
  SELECT flow, flow_version, field, coalesce(sum(sessions) FILTER (WHERE asked OR filled OR declined), 0)::bigint AS asked,
         coalesce(sum(sessions) FILTER (WHERE filled), 0)::bigint AS filled
    FROM patterns, LATERAL fields_of(asked_fields, filled_fields, NULL) GROUP BY 1, 2, 3
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
