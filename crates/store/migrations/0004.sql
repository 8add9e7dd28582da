-- Ring 0: tests of a plan's works on twins. The newest of a work is the one that counts.
CREATE TABLE tests (
    number     INTEGER PRIMARY KEY,
    -- What is tested: these changes, on hosts of that cohort.
    cohort     TEXT NOT NULL,
    changes    TEXT NOT NULL,
    plan       INTEGER NOT NULL REFERENCES plans(number),
    -- The host that the twin is made after, and what people called it.
    host       TEXT NOT NULL,
    like_host  TEXT NOT NULL,
    asked_at   INTEGER NOT NULL,
    asked_by   TEXT NOT NULL,
    -- The worker that was told, by which assignment, since when. NULL: none yet.
    worker     TEXT,
    assignment TEXT,
    ordered_at INTEGER,
    ended_at   INTEGER,
    -- JSON.
    report     TEXT
) STRICT;
CREATE INDEX tests_by_work ON tests (cohort, changes, number);
CREATE INDEX tests_open ON tests (number) WHERE ended_at IS NULL;
CREATE INDEX tests_by_assignment ON tests (assignment);
