-- The one unique index answers "the conversation of this session, in order", too: hence its name.
CREATE TABLE conversation_messages (
    session_id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,  -- of the event in the session's stream
    timestamp timestamptz NOT NULL,
    role text COLLATE "C" NOT NULL CHECK (role IN ('user', 'assistant')),
    turn_id text COLLATE "C",  -- NULL: the greeting
    text text NOT NULL,
    source text COLLATE "C",   -- of a reply: the provider, 'offline' or 'none'
    error boolean NOT NULL DEFAULT false,
    CONSTRAINT idx_messages_session_id PRIMARY KEY (session_id, version)
);
CREATE INDEX idx_messages_timestamp ON conversation_messages (timestamp);
