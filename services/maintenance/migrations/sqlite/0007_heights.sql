-- What modules' catalogues are compared with: the most that each had lately, by days since 1 January 1970, UTC.

CREATE TABLE catalogue_heights (
    module TEXT NOT NULL,
    day INTEGER NOT NULL,
    distfiles INTEGER NOT NULL,
    PRIMARY KEY (module, day)
) STRICT, WITHOUT ROWID;

-- In how many steps a module that is not believed lost it, in the policy's words, and when it last had all; 0: not known.
ALTER TABLE modules ADD COLUMN suspect_pace TEXT NOT NULL DEFAULT 'at_once';
ALTER TABLE modules ADD COLUMN suspect_since_ms INTEGER NOT NULL DEFAULT 0;
