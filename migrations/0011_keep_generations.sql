-- A projection has generations: sets of its tables, each filled by itself, with checkpoints and parked keys of its own. The live
-- one's tables are in `public`; every other's are in a schema of its own, and change places with it in one transaction.
CREATE TABLE projection_generations (
    projection text COLLATE "C" NOT NULL,
    generation integer NOT NULL CHECK (generation > 0),
    version integer NOT NULL,                -- of the projection whose rows these are
    state text COLLATE "C" NOT NULL CHECK (state IN ('live', 'building', 'previous', 'replay', 'gone')),
    schema_name text COLLATE "C" NOT NULL,   -- where its tables are while it is not live
    layout integer NOT NULL,                 -- the newest migration when its tables were made
    phase text COLLATE "C" NOT NULL DEFAULT '' CHECK (phase IN ('', 'filling', 'ready')),  -- of a build
    swap text COLLATE "C" NOT NULL DEFAULT 'if_equal' CHECK (swap IN ('if_equal', 'always', 'never', 'compare_only')),
    until_time timestamptz,                  -- of a replay: no event after it counts
    report jsonb,                            -- what the comparison with the live generation found
    detail text NOT NULL DEFAULT '',
    began_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (projection, generation)
);
CREATE UNIQUE INDEX projection_generations_one_of_each ON projection_generations (projection, state)
    WHERE state IN ('live', 'building', 'previous');

INSERT INTO projection_generations (projection, generation, version, state, schema_name, layout)
SELECT projection, 1, max(version), 'live', 'projection_' || projection || '_1', 0 FROM projection_checkpoints GROUP BY projection;
DELETE FROM projection_parked_events p USING projection_generations g WHERE p.projection = g.projection AND p.version <> g.version;
DELETE FROM projection_parked_keys p USING projection_generations g WHERE p.projection = g.projection AND p.version <> g.version;
DELETE FROM projection_checkpoints p USING projection_generations g WHERE p.projection = g.projection AND p.version <> g.version;

-- The columns' constraints go with them: the keys are made anew, with the generation in the version's place.
ALTER TABLE projection_parked_events DROP COLUMN version;
ALTER TABLE projection_parked_keys DROP COLUMN version CASCADE;
ALTER TABLE projection_checkpoints DROP COLUMN version;
-- Whoever changes what a runner believes (an operator, another runner that takes the partition over) raises the fence of the
-- checkpoints: the runner's batch in hand is refused, and it reads anew how things are.
ALTER TABLE projection_checkpoints
    ADD COLUMN generation integer NOT NULL DEFAULT 1,
    ADD COLUMN fence bigint NOT NULL DEFAULT 0,
    ADD PRIMARY KEY (log_id, projection, generation, partition);
ALTER TABLE projection_parked_keys
    ADD COLUMN generation integer NOT NULL DEFAULT 1,
    ADD PRIMARY KEY (log_id, projection, generation, partition, parked_key);
ALTER TABLE projection_parked_events
    ADD COLUMN generation integer NOT NULL DEFAULT 1,
    ADD PRIMARY KEY (log_id, projection, generation, partition, parked_key, sequence),
    ADD FOREIGN KEY (log_id, projection, generation, partition, parked_key) REFERENCES projection_parked_keys ON DELETE CASCADE;

-- What operators want. The revision counts the changes: who changes something says which one they saw.
CREATE TABLE projection_controls (
    projection text COLLATE "C" PRIMARY KEY,
    revision bigint NOT NULL DEFAULT 1,
    paused boolean NOT NULL DEFAULT false,
    because text NOT NULL DEFAULT ''
);

-- Events that an operator gave up: no generation takes them, so that a rebuild gives what is live.
CREATE TABLE projection_skipped_events (
    projection text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    sequence bigint NOT NULL,
    PRIMARY KEY (projection, partition, sequence)
);

-- The processes that follow the log, and which of them has a partition. One that died lost its connection, and with it the
-- advisory lock that says it lives; one that hangs lets its time pass.
CREATE TABLE projection_workers (
    worker integer PRIMARY KEY,
    name text NOT NULL,
    until timestamptz NOT NULL
);
CREATE TABLE projection_leases (
    partition integer PRIMARY KEY,
    worker integer NOT NULL
);
