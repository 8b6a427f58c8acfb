-- The farm's memory, in SQLite's words. Types are SQLite's; the queries keep to what PostgreSQL
-- understands as well, so a second dialect is a second folder beside this one.
--
-- Times are milliseconds since the Unix epoch. Everything but counters, fetches, accesses, reports, runs
-- and closed decisions can be had again from sync-server and the replicas' inventories.

-- Numbers that only grow: fence, decision, run, revision, created_ms, and the totals for the savings.
CREATE TABLE counters (
    name TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;

-- ---------------------------------------------------------------- catalogue

CREATE TABLE modules (
    name TEXT NOT NULL PRIMARY KEY,
    -- The order in which modules are asked for a name.
    position INTEGER NOT NULL,
    -- What the catalogue was imported from; 0 before the first import.
    generation INTEGER NOT NULL DEFAULT 0,
    published_ms INTEGER NOT NULL DEFAULT 0,
    -- Highest revision of its distfiles.
    revision INTEGER NOT NULL DEFAULT 0,
    distfiles INTEGER NOT NULL DEFAULT 0,
    imported_ms INTEGER NOT NULL DEFAULT 0,
    -- A replica's word that it holds a generation below this says nothing: sync-server lost its state
    -- and counts from 1 again, so the number may mean an older, different generation.
    series_floor INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The generations that differences can start from: whoever has one lacks the rows above its revision.
CREATE TABLE generations (
    module TEXT NOT NULL,
    generation INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    imported_ms INTEGER NOT NULL,
    PRIMARY KEY (module, generation)
) STRICT;

-- `removed` rows are what a difference needs to say "no longer"; they are pruned with their generation.
CREATE TABLE distfiles (
    module TEXT NOT NULL,
    name TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    -- NULL where the Manifest has no BLAKE2B.
    blake2b BLOB,
    restriction INTEGER NOT NULL,
    removed INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    -- The encoded rookery.v1.Distfile, handed to the replicas as it is.
    record BLOB NOT NULL,
    PRIMARY KEY (module, name)
) STRICT;
CREATE INDEX distfiles_by_revision ON distfiles (module, revision, name);
CREATE INDEX distfiles_by_blake2b ON distfiles (blake2b);
CREATE INDEX distfiles_without_blake2b ON distfiles (name) WHERE blake2b IS NULL;

-- A generation while it arrives. Emptied before each import.
CREATE TABLE staged_distfiles (
    name TEXT NOT NULL PRIMARY KEY,
    size_bytes INTEGER NOT NULL,
    blake2b BLOB,
    restriction INTEGER NOT NULL,
    removed INTEGER NOT NULL,
    record BLOB NOT NULL
) STRICT;

-- ---------------------------------------------------------------- replicas and what they hold

CREATE TABLE replicas (
    replica_id TEXT NOT NULL PRIMARY KEY,
    advertise TEXT NOT NULL,
    capacity_bytes INTEGER NOT NULL,
    used_bytes INTEGER NOT NULL,
    version TEXT NOT NULL,
    last_seen_ms INTEGER NOT NULL,
    inventory_ms INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE blobs (
    blake2b BLOB NOT NULL PRIMARY KEY,
    size_bytes INTEGER NOT NULL,
    last_access_ms INTEGER NOT NULL DEFAULT 0,
    -- When it was first seen that no module refers to it; NULL while one does, or before anybody looked.
    unreferenced_since_ms INTEGER,
    -- It was last referred to by RESTRICT=fetch distfiles only.
    fetch_restricted INTEGER NOT NULL DEFAULT 0
) STRICT;

-- `inventory` is the number of the last inventory that named the row.
CREATE TABLE holders (
    replica_id TEXT NOT NULL,
    blake2b BLOB NOT NULL,
    added_ms INTEGER NOT NULL,
    inventory INTEGER NOT NULL,
    PRIMARY KEY (replica_id, blake2b)
) STRICT;
CREATE INDEX holders_by_blob ON holders (blake2b);

CREATE TABLE names (
    replica_id TEXT NOT NULL,
    blake2b BLOB NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (replica_id, blake2b, name)
) STRICT;
CREATE INDEX names_by_blob ON names (blake2b);

-- Which blob a DIST line's digest turned out to be, learnt from commits.
CREATE TABLE objects (
    name TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    digest BLOB NOT NULL,
    blake2b BLOB NOT NULL,
    PRIMARY KEY (name, algorithm, digest)
) STRICT;

-- Every reason that the catalogue has for a blob. A distfile without BLAKE2B counts for every blob of its
-- name and size: keeping too much is the harmless mistake.
CREATE VIEW blob_references AS
    SELECT d.blake2b AS blake2b, d.restriction AS restriction
    FROM distfiles d WHERE d.removed = 0 AND d.blake2b IS NOT NULL
    UNION ALL
    SELECT n.blake2b, d.restriction
    FROM distfiles d
    JOIN names n ON n.name = d.name
    JOIN blobs b ON b.blake2b = n.blake2b AND b.size_bytes = d.size_bytes
    WHERE d.removed = 0 AND d.blake2b IS NULL;

-- ---------------------------------------------------------------- leases, accesses, decisions, runs

-- The last lease of each object.
CREATE TABLE leases (
    name TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    digest BLOB NOT NULL,
    size_bytes INTEGER NOT NULL,
    lease_id TEXT NOT NULL UNIQUE,
    fence INTEGER NOT NULL,
    replica_id TEXT NOT NULL,
    phase TEXT NOT NULL,
    bytes_so_far INTEGER NOT NULL,
    granted_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    PRIMARY KEY (name, algorithm, digest)
) STRICT;

-- Downloads that ended in a blob; the key makes a repeated commit count once.
CREATE TABLE fetches (
    replica_id TEXT NOT NULL,
    lease_id TEXT NOT NULL,
    name TEXT NOT NULL,
    blake2b BLOB NOT NULL,
    source TEXT NOT NULL,
    upstream_bytes INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (replica_id, lease_id, name, blake2b)
) STRICT;

CREATE TABLE accesses (
    name TEXT NOT NULL,
    client TEXT NOT NULL,
    requests INTEGER NOT NULL,
    hits INTEGER NOT NULL,
    bytes_served INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    PRIMARY KEY (name, client)
) STRICT;

-- Access reports already counted.
CREATE TABLE reports (
    replica_id TEXT NOT NULL,
    report_id TEXT NOT NULL,
    received_ms INTEGER NOT NULL,
    PRIMARY KEY (replica_id, report_id)
) STRICT;

-- `outcome` is NULL until the decision is acknowledged or withdrawn.
CREATE TABLE decisions (
    sequence INTEGER NOT NULL PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    replica_id TEXT NOT NULL,
    action TEXT NOT NULL,
    blake2b BLOB NOT NULL,
    reason TEXT NOT NULL,
    unless_accessed_after_ms INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    outcome TEXT,
    detail TEXT NOT NULL DEFAULT '',
    closed_ms INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX decisions_pending ON decisions (replica_id, action, blake2b) WHERE outcome IS NULL;

CREATE TABLE runs (
    id INTEGER NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    started_ms INTEGER NOT NULL,
    finished_ms INTEGER NOT NULL DEFAULT 0,
    outcome TEXT NOT NULL DEFAULT '',
    report TEXT NOT NULL DEFAULT ''
) STRICT;
