-- Reports that the server makes by itself. `body`: when, of what, as what, where to; `state`: what became of it so far.
CREATE TABLE report_schedules (
    name   TEXT PRIMARY KEY,
    body   TEXT NOT NULL,
    state  TEXT NOT NULL,
    set_at INTEGER NOT NULL,
    set_by TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What is to be sent to a webhook. The id is the message's: the receiver tells by it what it had already. A row goes when
-- the receiver took it; one that nobody took within its tries stays, without a next time, until a person sends it again.
CREATE TABLE deliveries (
    id      TEXT PRIMARY KEY,
    kind    TEXT NOT NULL,
    subject TEXT NOT NULL,
    url     TEXT NOT NULL,
    body    BLOB NOT NULL,
    made_at INTEGER NOT NULL,
    tries   INTEGER NOT NULL DEFAULT 0,
    -- NULL: dead.
    next_at INTEGER,
    dead_at INTEGER,
    error   TEXT
) STRICT;
CREATE INDEX deliveries_by_time ON deliveries (next_at);

-- Lists of hosts that somebody wants to see again: the query of the page, under a name of theirs.
CREATE TABLE saved_views (
    owner    TEXT NOT NULL,
    name     TEXT NOT NULL,
    query    TEXT NOT NULL,
    shared   INTEGER NOT NULL,
    saved_at INTEGER NOT NULL,
    PRIMARY KEY (owner, name)
) STRICT, WITHOUT ROWID;
