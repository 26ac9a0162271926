-- Why a process that follows the log does not get on, so that every other one can tell.
ALTER TABLE projection_workers ADD COLUMN trouble text NOT NULL DEFAULT '';
