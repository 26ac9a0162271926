-- Rows of this table from before this time are in an archive: a rebuild leaves them out.
CREATE TABLE projection_archived (
    table_name text COLLATE "C" PRIMARY KEY,
    before timestamptz NOT NULL
);
