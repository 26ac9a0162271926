-- Of a generation that nobody follows: erasures in the log up to erased_to were carried out in its tables, when their checkpoint stood
-- at erased_at. Where it has moved since, they are carried out again.
ALTER TABLE projection_checkpoints ADD COLUMN erased_to bigint NOT NULL DEFAULT 0, ADD COLUMN erased_at bigint NOT NULL DEFAULT 0;
