-- Names the judgement that a host's findings are of: another number at each change. An index of the fleet in memory, or in a
-- file beside the database, that has this number of a host knows its findings as they stand here. NULL: never changed since.
ALTER TABLE hosts ADD COLUMN judged INTEGER;
