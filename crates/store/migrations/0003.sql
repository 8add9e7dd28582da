-- Versions that nobody is to get, as long as the row is there. What was recalled and lifted is in the ledger.
CREATE TABLE recalls (
    -- Binary package, with globs.
    package TEXT NOT NULL,
    version TEXT NOT NULL,
    reason  TEXT NOT NULL,
    by      TEXT NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (package, version)
) STRICT, WITHOUT ROWID;
