-- A person may come by a token, by a password, or by both; who has no token has no hash of one. Who is disabled may do
-- nothing until an admin lets them again.
CREATE TABLE operators_0011 (
    name       TEXT PRIMARY KEY,
    -- JSON array of role words.
    roles      TEXT NOT NULL,
    -- SHA-256 of the token, which itself is kept nowhere. NULL: they have none.
    token_hash TEXT UNIQUE,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    revoked_by TEXT,
    disabled_at INTEGER,
    disabled_by TEXT,
    -- When they last began a session, whichever way.
    came_at    INTEGER
) STRICT;
INSERT INTO operators_0011 (name, roles, token_hash, created_at, created_by, expires_at, revoked_at, revoked_by)
    SELECT name, roles, token_hash, created_at, created_by, expires_at, revoked_at, revoked_by FROM operators;
DROP TABLE operators;
ALTER TABLE operators_0011 RENAME TO operators;

-- Passwords, hashed by argon2id; `phc` names the parameters and the salt. `set_at` says which password it is: hashing the
-- same one again leaves it.
CREATE TABLE passwords (
    operator TEXT PRIMARY KEY REFERENCES operators(name),
    phc      TEXT NOT NULL,
    set_at   INTEGER NOT NULL,
    set_by   TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Sessions of the web pages. A row that is gone is a session that has ended.
CREATE TABLE sessions (
    -- SHA-256 of what the cookie holds.
    id         TEXT PRIMARY KEY,
    -- The principal; the holder of the server's own token is no operator.
    principal  TEXT NOT NULL,
    way        TEXT NOT NULL,
    -- What it was begun with: it ends when there is another.
    credential TEXT NOT NULL,
    -- 1: the page came by TLS.
    secure     INTEGER NOT NULL,
    began_at   INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    address    TEXT NOT NULL,
    browser    TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_by_principal ON sessions (principal, began_at);
