DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'selkie_app') THEN
        REVOKE UPDATE (incarnation) ON server_meta FROM selkie_app;
    END IF;
END $$;
DROP TABLE departed_from;
DROP TABLE departed_logs;
DROP TABLE vault_checkpoints;
DROP TABLE vault_wraps;
DROP TABLE vault_members;
DROP TABLE vault_changes;
DROP TABLE vault_entries;
DROP TABLE vault_states;
DROP TABLE vault_upkeep;
DROP TABLE vaults;
DROP FUNCTION vault_changes_go;
ALTER TABLE tenants DROP COLUMN last_vault;
ALTER TABLE plans DROP COLUMN max_bytes, DROP COLUMN max_vaults, DROP COLUMN history_days;
