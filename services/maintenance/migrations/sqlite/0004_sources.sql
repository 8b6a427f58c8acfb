-- How the places do that distfiles are fetched from, as each replica sees them.

CREATE TABLE sources (
    replica_id TEXT NOT NULL,
    -- Scheme, host and port.
    origin TEXT NOT NULL,
    -- The first failure since the last success, 0 if the last request succeeded; and failures since then.
    failing_since_ms INTEGER NOT NULL,
    failures_in_row INTEGER NOT NULL,
    last_failed_ms INTEGER NOT NULL,
    last_ok_ms INTEGER NOT NULL,
    fault TEXT NOT NULL,
    PRIMARY KEY (replica_id, origin)
) STRICT;

-- Requests by spans of five minutes since the epoch; what is older than an hour is removed.
CREATE TABLE source_tries (
    replica_id TEXT NOT NULL,
    origin TEXT NOT NULL,
    span INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    PRIMARY KEY (replica_id, origin, span)
) STRICT;
