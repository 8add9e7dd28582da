-- Who may do something here. A row stays for ever, so that a name in the ledger means one person.
CREATE TABLE operators (
    name       TEXT PRIMARY KEY,
    -- JSON array of role words.
    roles      TEXT NOT NULL,
    -- SHA-256 of the token, which itself is kept nowhere.
    token_hash TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    revoked_by TEXT
) STRICT;

-- The approvals that stand. What was given and withdrawn is in the ledger.
CREATE TABLE approvals (
    plan     INTEGER NOT NULL REFERENCES plans(number),
    -- The principal: the one whom the token speaks for.
    operator TEXT NOT NULL,
    digest   TEXT NOT NULL,
    at       INTEGER NOT NULL,
    comment  TEXT NOT NULL,
    PRIMARY KEY (plan, operator)
) STRICT, WITHOUT ROWID;

-- Whose token made the plan, whatever name its holder gave. Before there were operators it was the server's own.
ALTER TABLE plans ADD COLUMN maker TEXT NOT NULL DEFAULT 'admin';
