-- When the database was last restored from a backup: for some time after that, clients put back what it has lost.

ALTER TABLE server_meta ADD COLUMN restored_at bigint;
COMMENT ON COLUMN server_meta.restored_at IS 'When it was last marked as restored; null if it never was.';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'selkie_app') THEN
        GRANT UPDATE (restored_at) ON server_meta TO selkie_app;
    END IF;
END $$;
