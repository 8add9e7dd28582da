-- Whether whoever was given the recalled version is to be taken back, those too who were at work when it was recalled.
ALTER TABLE recalls ADD COLUMN undo INTEGER NOT NULL DEFAULT 0;

-- Which versions each rollout brings, so that whoever asks who was given one need not read every rollout. Older rollouts
-- are gone through once: every change in their plans, however the plan keeps it, is an object with these fields.
CREATE TABLE rollout_versions (
    version TEXT NOT NULL,
    package TEXT NOT NULL,
    rollout TEXT NOT NULL REFERENCES rollouts(id),
    PRIMARY KEY (version, package, rollout)
) STRICT, WITHOUT ROWID;
INSERT OR IGNORE INTO rollout_versions (version, package, rollout)
    SELECT change.value ->> '$.to', change.value ->> '$.name', rollout_events.rollout
    FROM rollout_events, json_tree(rollout_events.event) AS change
    WHERE rollout_events.version = 1 AND change.type = 'object'
        AND typeof(change.value ->> '$.to') = 'text' AND typeof(change.value ->> '$.name') = 'text'
        AND change.value ->> '$.sha256' IS NOT NULL;
