-- When the database was last restored from a backup; null if it never was. For some time after that, clients put back
-- what it has lost.

ALTER TABLE server_meta ADD COLUMN restored_at integer;
