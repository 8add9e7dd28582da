-- When a finding last came back after it had been proved gone. NULL: it never did, or before this was noted. Reports and
-- deadlines count from it, so that what was fixed and came back is not a fix that took all the time between.
ALTER TABLE findings ADD COLUMN reopened_at INTEGER;
