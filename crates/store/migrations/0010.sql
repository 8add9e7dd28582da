-- Who told what a host without an agent holds, and when; NULL: it has an agent, which tells it.
ALTER TABLE hosts ADD COLUMN listed TEXT;
