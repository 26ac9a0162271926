-- How several servers share the limits of one account at a model provider (actors/model/shares). Times are milliseconds of this
-- database's clock; every change is made under one advisory lock.
CREATE TABLE model_budget_slots (
  slot integer PRIMARY KEY,
  server_id text NOT NULL UNIQUE,
  seen_ms bigint NOT NULL
);
CREATE TABLE model_budget_holdings (
  limit_name text NOT NULL,
  slot integer NOT NULL,
  amount bigint NOT NULL,
  wanted bigint NOT NULL,
  until_ms bigint NOT NULL,
  PRIMARY KEY (limit_name, slot)
);
CREATE TABLE model_budget_cooling (
  limit_name text NOT NULL,
  slot integer NOT NULL,
  amount bigint NOT NULL,
  free_at_ms bigint NOT NULL
);
