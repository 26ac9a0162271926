-- Of a generation that nobody follows: erasures in the log up to here were carried out in its tables.
ALTER TABLE projection_checkpoints ADD COLUMN erased_to bigint NOT NULL DEFAULT 0;
