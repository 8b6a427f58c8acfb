-- The same facts, found with fewer steps: at 1,000,000 names and 200,000 blobs each step to a row and back to
-- an index is what a question's time is made of.

DROP VIEW blob_references;

-- Everything that is asked of a distfile by its contents, without its record.
DROP INDEX distfiles_by_blake2b;
CREATE INDEX distfiles_by_blake2b ON distfiles (blake2b, removed, restriction, packages);
-- How many there are.
CREATE INDEX distfiles_present ON distfiles (module) WHERE removed = 0;

CREATE TABLE new_blobs (
    blake2b BLOB NOT NULL PRIMARY KEY,
    size_bytes INTEGER NOT NULL,
    last_access_ms INTEGER NOT NULL DEFAULT 0,
    -- When it was first seen that no module refers to it; NULL while one does, or before anybody looked.
    unreferenced_since_ms INTEGER,
    -- It was last referred to by RESTRICT=fetch distfiles only.
    fetch_restricted INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
INSERT INTO new_blobs
    SELECT blake2b, size_bytes, last_access_ms, unreferenced_since_ms, fetch_restricted FROM blobs;
DROP TABLE blobs;
-- No index by access any more: questions that look at all blobs went through it, in no order of use.
ALTER TABLE new_blobs RENAME TO blobs;

-- `inventory` is the number of the last inventory that named the row.
CREATE TABLE new_holders (
    replica_id TEXT NOT NULL,
    blake2b BLOB NOT NULL,
    -- The blob's: a replica's fullness is a sum over one index.
    size_bytes INTEGER NOT NULL,
    added_ms INTEGER NOT NULL,
    inventory INTEGER NOT NULL,
    -- When the replica last read all of it and found it right; 0: not since it came.
    verified_ms INTEGER NOT NULL DEFAULT 0,
    -- The copy's contents are wrong: it lies in quarantine and is nobody's source.
    quarantined INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (replica_id, blake2b)
) STRICT, WITHOUT ROWID;
INSERT INTO new_holders
    SELECT h.replica_id, h.blake2b, COALESCE(b.size_bytes, 0), h.added_ms, h.inventory, h.verified_ms, h.quarantined
    FROM holders h LEFT JOIN blobs b ON b.blake2b = h.blake2b;
DROP TABLE holders;
ALTER TABLE new_holders RENAME TO holders;
CREATE INDEX holders_by_blob ON holders (blake2b, replica_id, quarantined);
CREATE INDEX holders_by_size ON holders (replica_id, size_bytes);

CREATE TABLE new_names (
    replica_id TEXT NOT NULL,
    blake2b BLOB NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (replica_id, blake2b, name)
) STRICT, WITHOUT ROWID;
INSERT INTO new_names SELECT replica_id, blake2b, name FROM names;
DROP TABLE names;
ALTER TABLE new_names RENAME TO names;
CREATE INDEX names_by_blob ON names (blake2b, name);
CREATE INDEX names_by_name ON names (name, blake2b);

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
