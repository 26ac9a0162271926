-- What the projections know about themselves. Rows of a read model and the checkpoint they belong to move in one
-- transaction; a database follows one log for ever.

CREATE TABLE projection_log (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    log_id text NOT NULL
);

-- Up to which event of a partition a projection has written. Locked FOR UPDATE and compared by every batch: the fence
-- between two runners. Small and hot, hence the free space for in-place updates.
CREATE TABLE projection_checkpoints (
    log_id text COLLATE "C" NOT NULL,
    projection text COLLATE "C" NOT NULL,
    version integer NOT NULL,
    partition integer NOT NULL,
    sequence bigint NOT NULL DEFAULT 0 CHECK (sequence >= 0),
    resume_token text NOT NULL DEFAULT '',
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (log_id, projection, version, partition)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- A key (a user's, or `stream/<name>` where an event's user cannot be read) with an event that could not be applied.
CREATE TABLE projection_parked_keys (
    log_id text COLLATE "C" NOT NULL,
    projection text COLLATE "C" NOT NULL,
    version integer NOT NULL,
    partition integer NOT NULL,
    parked_key text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    error text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (log_id, projection, version, partition, parked_key)
);

-- The poison event and the later ones of its key that wait behind it: places only, the events themselves stay in the log.
CREATE TABLE projection_parked_events (
    log_id text COLLATE "C" NOT NULL,
    projection text COLLATE "C" NOT NULL,
    version integer NOT NULL,
    partition integer NOT NULL,
    parked_key text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    stream text COLLATE "C" NOT NULL,
    PRIMARY KEY (log_id, projection, version, partition, parked_key, sequence),
    FOREIGN KEY (log_id, projection, version, partition, parked_key) REFERENCES projection_parked_keys ON DELETE CASCADE
);

-- What was done to a projection, by whom and why.
CREATE TABLE projection_audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    projection text COLLATE "C" NOT NULL,
    version integer NOT NULL,
    action text NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL DEFAULT '',
    detail jsonb NOT NULL DEFAULT '{}'
);
