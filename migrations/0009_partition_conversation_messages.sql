-- Version 2 of the projection `conversation`: a person's messages lie in one of sixteen partitions, by hash of the user key. The
-- table is filled again from the log's beginning; nothing is copied, so that the lock is held for a moment only.
DROP TABLE conversation_messages;
DELETE FROM projection_parked_keys WHERE projection = 'conversation' AND version = 1;
DELETE FROM projection_checkpoints WHERE projection = 'conversation' AND version = 1;

-- The one unique index answers "the conversation of this session, in order", too: hence its name. It ends with the user key
-- because a partition's key must be in it.
CREATE TABLE conversation_messages (
    session_id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,  -- of the event in the session's stream
    user_key text COLLATE "C" NOT NULL,
    timestamp timestamptz NOT NULL,
    role text COLLATE "C" NOT NULL CHECK (role IN ('user', 'assistant')),
    turn_id text COLLATE "C",  -- NULL: the greeting
    text text NOT NULL,
    source text COLLATE "C",   -- of a reply: the provider, 'offline' or 'none'
    error boolean NOT NULL DEFAULT false,
    CONSTRAINT idx_messages_session_id PRIMARY KEY (session_id, version, user_key)
) PARTITION BY HASH (user_key);
CREATE INDEX idx_messages_timestamp ON conversation_messages (timestamp);

DO $$
BEGIN
    FOR i IN 0..15 LOOP
        EXECUTE format('CREATE TABLE conversation_messages_%s PARTITION OF conversation_messages FOR VALUES WITH (MODULUS 16, REMAINDER %s)',
                       to_char(i, 'FM00'), i);
    END LOOP;
END $$;
