-- Whose signatures under plans hosts ask for. One set follows another, version by version; the last is in force.
CREATE TABLE plan_keys (
    version INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    by TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;

-- What operators signed of plans, with keys that are not here. One a key and plan: who signs again renews it.
CREATE TABLE plan_signatures (
    plan INTEGER NOT NULL REFERENCES plans(number),
    key TEXT NOT NULL,
    at INTEGER NOT NULL,
    by TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (plan, key)
) STRICT, WITHOUT ROWID;
