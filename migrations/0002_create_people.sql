-- A person is a user_key: a user_id that was vouched for is one person over all sessions, one that nobody vouched for is a
-- person of its own per session. So naming somebody never shows or changes what is theirs.

CREATE TABLE users (
    user_key text COLLATE "C" PRIMARY KEY,
    user_id text COLLATE "C",
    vouched boolean NOT NULL DEFAULT false,
    sessions_started bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    last_started_at timestamptz NOT NULL
);
CREATE INDEX idx_users_user_id ON users (user_id);

CREATE TABLE user_profiles (
    user_key text COLLATE "C" PRIMARY KEY,
    user_id text COLLATE "C",
    vouched boolean NOT NULL DEFAULT false,
    fields jsonb NOT NULL DEFAULT '{}',       -- field → stored value
    field_types jsonb NOT NULL DEFAULT '{}',  -- field → type of the flow
    created_at timestamptz,
    updated_at timestamptz NOT NULL,
    position text NOT NULL                    -- of the event that changed it last, `partition:sequence`
) WITH (fillfactor = 70);
CREATE INDEX idx_profiles_user_id ON user_profiles (user_id);
