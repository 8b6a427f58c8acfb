-- Which problems the health command and the webhook were told of, so that what ends while nobody looks is told, too.

CREATE TABLE told (
    -- A digest of the command or of the address, which may hold a secret.
    listener TEXT NOT NULL,
    code TEXT NOT NULL,
    subject TEXT NOT NULL,
    what TEXT NOT NULL,
    what_to_do TEXT NOT NULL,
    PRIMARY KEY (listener, code, subject)
) STRICT, WITHOUT ROWID;
