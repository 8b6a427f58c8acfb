-- The replica's copy of the catalogue. Only a copy: a file of another version is thrown away.
CREATE TABLE module (
    id         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    generation INTEGER NOT NULL,
    rank       INTEGER NOT NULL          -- lower is asked first
) STRICT;

CREATE TABLE distfile (
    id          INTEGER PRIMARY KEY,
    module      INTEGER NOT NULL REFERENCES module (id),
    name        TEXT NOT NULL,
    size_bytes  INTEGER NOT NULL,
    restriction INTEGER NOT NULL,        -- 0 none, 1 mirror, 2 fetch
    digests     TEXT NOT NULL,           -- ALGORITHM hex …, as in a DIST line
    sources     TEXT NOT NULL,           -- one URL a line, in the order to try
    packages    TEXT NOT NULL            -- category/package …, sorted
) STRICT;
CREATE UNIQUE INDEX distfile_by_name ON distfile (module, name);

-- Which distfiles a URL may give.
CREATE TABLE source (
    url_hash INTEGER NOT NULL,
    distfile INTEGER NOT NULL REFERENCES distfile (id) ON DELETE CASCADE,
    PRIMARY KEY (url_hash, distfile)
) STRICT, WITHOUT ROWID;
CREATE INDEX source_by_distfile ON source (distfile);
