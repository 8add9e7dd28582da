-- Times are whole microseconds since 1970-01-01T00:00:00Z, except in the ledger, whose hash covers the text.
CREATE TABLE hosts (
    id               TEXT PRIMARY KEY,
    name             TEXT NOT NULL UNIQUE,
    enrolled_at      INTEGER NOT NULL,
    last_seen        INTEGER,
    agent_version    TEXT NOT NULL,
    inventory_digest TEXT,
    cohort           TEXT,
    -- The inventory without its long lists: enough for lists and selectors.
    summary          TEXT,
    upgrades         INTEGER NOT NULL DEFAULT 0,
    quarantined_at   INTEGER,
    quarantined_for  TEXT,
    -- Highest generation ever given to the host.
    generation       INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE labels (
    host  TEXT NOT NULL REFERENCES hosts(id) ON DELETE CASCADE,
    key   TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (host, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE inventories (
    host   TEXT PRIMARY KEY REFERENCES hosts(id) ON DELETE CASCADE,
    digest TEXT NOT NULL,
    at     INTEGER NOT NULL,
    -- JSON, gzip.
    body   BLOB NOT NULL
) STRICT;

CREATE TABLE findings (
    host       TEXT NOT NULL REFERENCES hosts(id) ON DELETE CASCADE,
    id         TEXT NOT NULL,
    source     TEXT NOT NULL,
    state      TEXT NOT NULL,
    severity   TEXT NOT NULL,
    kev        INTEGER NOT NULL,
    rank       INTEGER NOT NULL,
    deadline   INTEGER,
    first_seen INTEGER NOT NULL,
    since      INTEGER NOT NULL,
    fixed_at   INTEGER,
    body       TEXT NOT NULL,
    PRIMARY KEY (host, id, source)
) STRICT, WITHOUT ROWID;
CREATE INDEX findings_by_rank ON findings (state, rank DESC);
CREATE INDEX findings_by_id ON findings (id);

CREATE TABLE policies (
    name       TEXT NOT NULL,
    version    INTEGER NOT NULL,
    digest     TEXT NOT NULL,
    text       TEXT NOT NULL,
    applied_at INTEGER NOT NULL,
    applied_by TEXT NOT NULL,
    PRIMARY KEY (name, version)
) STRICT;

CREATE TABLE plans (
    number  INTEGER PRIMARY KEY,
    digest  TEXT NOT NULL,
    parent  TEXT,
    policy  TEXT NOT NULL,
    made_at INTEGER NOT NULL,
    made_by TEXT NOT NULL,
    body    TEXT NOT NULL
) STRICT;

-- The plan that is in force for each policy: replaced only by one that names it as its parent.
CREATE TABLE current_plans (
    policy TEXT PRIMARY KEY,
    digest TEXT NOT NULL
) STRICT;

CREATE TABLE rollouts (
    id         TEXT PRIMARY KEY,
    number     INTEGER NOT NULL UNIQUE,
    plan       INTEGER NOT NULL REFERENCES plans(number),
    policy     TEXT NOT NULL,
    -- Number of events: every write is conditional on it.
    version    INTEGER NOT NULL,
    phase      TEXT NOT NULL,
    finished   INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER
) STRICT;

CREATE TABLE rollout_events (
    rollout TEXT NOT NULL REFERENCES rollouts(id),
    version INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    event   TEXT NOT NULL,
    PRIMARY KEY (rollout, version)
) STRICT;

CREATE TABLE assignments (
    id         TEXT PRIMARY KEY,
    host       TEXT NOT NULL REFERENCES hosts(id) ON DELETE CASCADE,
    generation INTEGER NOT NULL,
    rollout    TEXT NOT NULL,
    status     TEXT NOT NULL CHECK (status IN ('current', 'ended', 'withdrawn')),
    signed     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (host, generation)
) STRICT;
CREATE INDEX assignments_by_host ON assignments (host, status);

CREATE TABLE transactions (
    host       TEXT NOT NULL REFERENCES hosts(id) ON DELETE CASCADE,
    id         TEXT NOT NULL,
    assignment TEXT NOT NULL,
    generation INTEGER NOT NULL,
    -- First sequence number that is not here yet.
    next       INTEGER NOT NULL,
    begun_at   INTEGER NOT NULL,
    PRIMARY KEY (host, id)
) STRICT;
CREATE INDEX transactions_by_assignment ON transactions (assignment);

CREATE TABLE transaction_entries (
    host     TEXT NOT NULL,
    id       TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    entry    TEXT NOT NULL,
    PRIMARY KEY (host, id, sequence),
    FOREIGN KEY (host, id) REFERENCES transactions(host, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE barred (
    package TEXT NOT NULL,
    version TEXT NOT NULL,
    cohort  TEXT NOT NULL,
    reason  TEXT NOT NULL,
    rollout TEXT NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (package, version, cohort)
) STRICT;

CREATE TABLE tokens (
    hash       TEXT PRIMARY KEY,
    labels     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at    INTEGER,
    used_by    TEXT
) STRICT;

CREATE TABLE feeds (
    name        TEXT PRIMARY KEY,
    -- As it was given, compressed; the last one that could be read.
    body        BLOB,
    digest      TEXT,
    records     INTEGER NOT NULL,
    errors      INTEGER NOT NULL,
    date        TEXT NOT NULL,
    origin      TEXT NOT NULL,
    imported_at INTEGER,
    last_error  TEXT
) STRICT;

CREATE TABLE ledger (
    idx      INTEGER PRIMARY KEY,
    at       TEXT NOT NULL,
    actor    TEXT NOT NULL,
    kind     TEXT NOT NULL,
    subject  TEXT NOT NULL,
    body     TEXT NOT NULL,
    previous TEXT NOT NULL,
    hash     TEXT NOT NULL
) STRICT;

CREATE TABLE settings (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
