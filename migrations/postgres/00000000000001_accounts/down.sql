-- The role selkie_app stays: it belongs to the whole cluster, and other databases may use it.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'selkie_app') THEN
        EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I REVOKE ALL ON TABLES FROM selkie_app', current_schema());
    END IF;
END $$;

REVOKE SELECT ON __diesel_schema_migrations FROM PUBLIC;

DROP TABLE audit_head, audit_log, links, recovery_codes, second_factors, sessions, devices, keybag, account_log,
    login_state, credentials, accounts, invitations, tenants, signing_keys, opaque_setup, plans, server_meta;
