-- Version 2 of the projections `usage`, `sessions` and `profile` (where a declined field's value is withdrawn): their tables
-- are emptied and filled again from the log's beginning.
TRUNCATE token_usage, onboarding_sessions, session_analytics, turn_outcomes, users, user_profiles;
DELETE FROM projection_parked_keys WHERE projection IN ('usage', 'sessions', 'profile') AND version = 1;
DELETE FROM projection_checkpoints WHERE projection IN ('usage', 'sessions', 'profile') AND version = 1;

ALTER TABLE token_usage
    ADD COLUMN cost_nanodollars bigint NOT NULL DEFAULT 0,  -- by the price table in force at the call
    ADD COLUMN unpriced_calls bigint NOT NULL DEFAULT 0;    -- of the calls: what they cost is not known

ALTER TABLE session_analytics
    ADD COLUMN filled_fields jsonb NOT NULL DEFAULT '{}',    -- field → whether it has a value, for every field that ever got one or was declined
    ADD COLUMN questions_asked bigint NOT NULL DEFAULT 0,    -- how often any field was asked for
    ADD COLUMN input_tokens bigint NOT NULL DEFAULT 0,
    ADD COLUMN output_tokens bigint NOT NULL DEFAULT 0,
    ADD COLUMN cost_nanodollars bigint NOT NULL DEFAULT 0,
    ADD COLUMN unpriced_calls bigint NOT NULL DEFAULT 0;
