-- What replicas told of blobs that contradicts the size which is known. Their copies count for nothing.

CREATE TABLE contradictions (
    replica_id TEXT NOT NULL,
    blake2b BLOB NOT NULL,
    -- One of the names that the replica gives it.
    name TEXT NOT NULL,
    told_bytes INTEGER NOT NULL,
    known_bytes INTEGER NOT NULL,
    -- The number of the replica's inventory that told it; 0: a commit.
    inventory INTEGER NOT NULL,
    PRIMARY KEY (replica_id, blake2b)
) STRICT, WITHOUT ROWID;
