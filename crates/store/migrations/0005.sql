-- Where feeds are fetched from. A row of JSON each: addresses, interval, limits.
CREATE TABLE feed_sources (
    name     TEXT PRIMARY KEY,
    body     TEXT NOT NULL,
    added_at INTEGER NOT NULL,
    added_by TEXT NOT NULL
) STRICT;

-- What came of looking there.
CREATE TABLE feed_fetches (
    name       TEXT PRIMARY KEY REFERENCES feed_sources(name) ON DELETE CASCADE,
    -- Last look, whatever it gave.
    tried_at   INTEGER,
    -- Looks that failed since one that did not.
    failures   INTEGER NOT NULL DEFAULT 0,
    next_at    INTEGER NOT NULL,
    -- Validators of what is in force (JSON: address, ETag, Last-Modified), and when all of it was last fetched.
    validators TEXT,
    whole_at   INTEGER
) STRICT;

-- Fetched, readable, and changed too suddenly to be taken unseen: waits for a person.
CREATE TABLE feed_held (
    name       TEXT PRIMARY KEY,
    body       BLOB NOT NULL,
    digest     TEXT NOT NULL,
    date       TEXT NOT NULL,
    origin     TEXT NOT NULL,
    code       TEXT NOT NULL,
    reason     TEXT NOT NULL,
    held_at    INTEGER NOT NULL,
    validators TEXT
) STRICT;

-- When the vendor last confirmed what is in force, by giving it or by saying that nothing is new.
ALTER TABLE feeds ADD COLUMN confirmed_at INTEGER;
-- When the last look or import went wrong.
ALTER TABLE feeds ADD COLUMN failed_at INTEGER;

-- What policies did by themselves: one row for each time a cycle came due. The key is what makes it happen once.
CREATE TABLE cycle_runs (
    policy TEXT NOT NULL,
    due    INTEGER NOT NULL,
    body   TEXT NOT NULL,
    PRIMARY KEY (policy, due)
) STRICT, WITHOUT ROWID;

-- A person has looked after what a cycle's rollout did wrong: it may go on.
CREATE TABLE cycle_pardons (
    policy  TEXT NOT NULL,
    rollout TEXT NOT NULL,
    reason  TEXT NOT NULL,
    by      TEXT NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (policy, rollout)
) STRICT, WITHOUT ROWID;

-- Vulnerabilities that an operator says cannot wait, as long as the row is there and its time is not over.
CREATE TABLE emergencies (
    finding TEXT PRIMARY KEY,
    body    TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Plans that the server made because something could not wait.
CREATE TABLE emergency_plans (
    plan   INTEGER PRIMARY KEY REFERENCES plans(number),
    policy TEXT NOT NULL,
    body   TEXT NOT NULL
) STRICT;
CREATE INDEX emergency_plans_by_policy ON emergency_plans (policy, plan);
