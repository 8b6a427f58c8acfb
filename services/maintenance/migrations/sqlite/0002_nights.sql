-- What the operator and the nights need: pins, brakes, scrubbing, savings by day, the steps of a run.

-- The packages that refer to the file, sorted and joined by spaces: files with the same ones supersede
-- each other. Empty in rows from before; the next import that changes such a row fills it.
ALTER TABLE distfiles ADD COLUMN packages TEXT NOT NULL DEFAULT '';
ALTER TABLE staged_distfiles ADD COLUMN packages TEXT NOT NULL DEFAULT '';

-- A generation dropped so much at once that it is not believed until the operator agrees, or until what
-- is missing has come back: the distfiles it had before, and how many of them it lost. 0: believed.
ALTER TABLE modules ADD COLUMN suspect_before INTEGER NOT NULL DEFAULT 0;
ALTER TABLE modules ADD COLUMN suspect_lost INTEGER NOT NULL DEFAULT 0;

-- When the replica last read all of it and found it right; 0: not since it came.
ALTER TABLE holders ADD COLUMN verified_ms INTEGER NOT NULL DEFAULT 0;
-- The copy's contents are wrong: it lies in quarantine and is nobody's source.
ALTER TABLE holders ADD COLUMN quarantined INTEGER NOT NULL DEFAULT 0;

-- What a fetch is for; empty for other actions.
ALTER TABLE decisions ADD COLUMN name TEXT NOT NULL DEFAULT '';
-- Why an eviction was planned, in the policy's words; empty for other actions.
ALTER TABLE decisions ADD COLUMN class TEXT NOT NULL DEFAULT '';
UPDATE decisions SET class = 'unreferenced' WHERE action = 'evict';
-- Of imports: 1 if it only asks what would be done.
ALTER TABLE decisions ADD COLUMN dry_run INTEGER NOT NULL DEFAULT 0;
-- Of imports that are done: the encoded rookery.v1.ImportCounts.
ALTER TABLE decisions ADD COLUMN imported BLOB;
DROP INDEX decisions_pending;
CREATE UNIQUE INDEX decisions_pending ON decisions (replica_id, action, blake2b, name)
    WHERE outcome IS NULL;
-- In the order in which they are delivered.
CREATE INDEX decisions_to_deliver ON decisions (replica_id, sequence) WHERE outcome IS NULL;

CREATE INDEX names_by_name ON names (name);
CREATE INDEX blobs_by_access ON blobs (last_access_ms);

CREATE TABLE pins (
    name TEXT NOT NULL PRIMARY KEY,
    note TEXT NOT NULL,
    pinned_ms INTEGER NOT NULL
) STRICT;

-- Savings by day: days since 1 January 1970, UTC.
CREATE TABLE days (
    day INTEGER NOT NULL PRIMARY KEY,
    requests INTEGER NOT NULL,
    hits INTEGER NOT NULL,
    bytes_served INTEGER NOT NULL,
    bytes_fetched INTEGER NOT NULL
) STRICT;

CREATE TABLE run_steps (
    run INTEGER NOT NULL,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    outcome TEXT NOT NULL,
    report TEXT NOT NULL,
    PRIMARY KEY (run, position)
) STRICT;

-- The few that RESTRICT=fetch keeps from being fetched again (3 is rookery.v1.RESTRICTION_FETCH).
CREATE INDEX distfiles_fetch_restricted ON distfiles (blake2b) WHERE restriction = 3;
