-- What only a session's start sets is never NULL in fact; no constraint says so, because PostgreSQL checks constraints of
-- the proposed row before it finds that the row is there to be updated.

CREATE TABLE onboarding_sessions (
    session_id text COLLATE "C" PRIMARY KEY,
    user_id text COLLATE "C",  -- NULL once the person was erased
    user_key text COLLATE "C",
    vouched boolean NOT NULL DEFAULT false,
    status text COLLATE "C" NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'completed', 'abandoned')),
    erased boolean NOT NULL DEFAULT false,
    flow text COLLATE "C",
    flow_version integer,
    variant text NOT NULL DEFAULT '',
    plan text COLLATE "C" NOT NULL DEFAULT '',
    locale text NOT NULL DEFAULT '',
    created_at timestamptz,
    updated_at timestamptz NOT NULL,
    completed_at timestamptz,
    abandoned_at timestamptz,  -- of the abandonment in force; NULL again after a resume
    total_messages_count bigint NOT NULL DEFAULT 0  -- the user's and the replies to them, up to and including the completing reply
) WITH (fillfactor = 70);
CREATE INDEX idx_sessions_user_id ON onboarding_sessions (user_id);
CREATE INDEX idx_sessions_user_key ON onboarding_sessions (user_key);
CREATE INDEX idx_sessions_status ON onboarding_sessions (status);
CREATE INDEX idx_sessions_created_at ON onboarding_sessions (created_at);
CREATE INDEX idx_sessions_completed_at ON onboarding_sessions (completed_at) WHERE completed_at IS NOT NULL;

-- Counts over the whole life of a session. Nothing personal: erasing a person leaves this table as it is.
CREATE TABLE session_analytics (
    session_id text COLLATE "C" CONSTRAINT idx_analytics_session_id PRIMARY KEY,
    flow text COLLATE "C",
    flow_version integer,
    created_at timestamptz,
    abandonment_at_field text COLLATE "C",     -- of the abandonment in force; NULL when none is, or no field was open
    asked_fields jsonb NOT NULL DEFAULT '{}',  -- field → true, for every field that was ever asked
    user_messages bigint NOT NULL DEFAULT 0,
    replies bigint NOT NULL DEFAULT 0,
    fields_extracted bigint NOT NULL DEFAULT 0,
    fields_corrected bigint NOT NULL DEFAULT 0,
    fields_rejected bigint NOT NULL DEFAULT 0,
    fields_declined bigint NOT NULL DEFAULT 0,
    fields_reasked bigint NOT NULL DEFAULT 0,
    turns_queued bigint NOT NULL DEFAULT 0,
    turns_failed bigint NOT NULL DEFAULT 0,
    fallback_replies bigint NOT NULL DEFAULT 0,  -- by the offline extractor, or by nobody
    llm_calls bigint NOT NULL DEFAULT 0,
    llm_calls_failed bigint NOT NULL DEFAULT 0,
    abandonments bigint NOT NULL DEFAULT 0,
    resumes bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 70);
CREATE INDEX idx_analytics_created_at ON session_analytics (created_at);
CREATE INDEX idx_analytics_abandonment_at_field ON session_analytics (abandonment_at_field) WHERE abandonment_at_field IS NOT NULL;

-- Answered and failed turns, by the minute of the reply, UTC: rates over time without reading conversations.
CREATE TABLE turn_outcomes (
    minute timestamptz PRIMARY KEY,
    turns bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 70);
