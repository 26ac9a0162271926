-- Model calls by day (UTC, of the call's end). The writer attaches a partition per day before it writes a row of that day.
CREATE TABLE token_usage (
    day date NOT NULL,
    provider text COLLATE "C" NOT NULL,
    model text COLLATE "C" NOT NULL,
    plan text COLLATE "C" NOT NULL,
    calls bigint NOT NULL DEFAULT 0,
    failed_calls bigint NOT NULL DEFAULT 0,
    unreported_calls bigint NOT NULL DEFAULT 0,  -- of these: the provider did not say what they used
    input_tokens bigint NOT NULL DEFAULT 0,      -- including cached ones
    cached_input_tokens bigint NOT NULL DEFAULT 0,
    cache_write_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,     -- including reasoning
    reasoning_tokens bigint NOT NULL DEFAULT 0,
    latency_ms bigint NOT NULL DEFAULT 0,        -- sum
    PRIMARY KEY (day, provider, model, plan)
) PARTITION BY RANGE (day);
