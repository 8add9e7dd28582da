-- Stands for what plans look at of the host's inventory: of hosts with the same one, one inventory is read. NULL: nobody has
-- written it down yet.
ALTER TABLE hosts ADD COLUMN likeness TEXT;
