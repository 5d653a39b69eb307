ALTER TABLE server_meta DROP COLUMN restored_at;
