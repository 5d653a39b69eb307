-- Plans that allow more, failures that are counted, devices that the audit log does not name.

COMMENT ON COLUMN audit_log.device IS
    'An alias, made from the account''s uuid and the device: it cannot be traced once the account is gone.';

ALTER TABLE plans ADD COLUMN limit_factor integer NOT NULL DEFAULT 100 CHECK (limit_factor BETWEEN 100 AND 6400);
COMMENT ON COLUMN plans.limit_factor IS
    'How many per cent of the table''s rate limits accounts, devices and the tenant have; taken up to 100 times the next '
    'power of two. What protects from guessing is the same for every plan.';
INSERT INTO plans (plan, max_accounts, max_devices, limit_factor) VALUES ('team', NULL, NULL, 400);

CREATE TABLE failures (
    tenant  bigint NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    account bigint NOT NULL CHECK (account >= 0),
    kind    smallint NOT NULL CHECK (kind BETWEEN 0 AND 2),
    day     bigint NOT NULL,
    times   bigint NOT NULL CHECK (times > 0),
    PRIMARY KEY (tenant, account, kind, day)
);
COMMENT ON TABLE failures IS
    'How often somebody failed to come in: counted, so that strangers cannot make the audit log grow. Kept for 30 days.';
COMMENT ON COLUMN failures.account IS
    'Zero for all names that do not exist. On purpose no foreign key: checking it only for names that exist would take '
    'measurably longer for them. Removing an account removes its rows here.';
COMMENT ON COLUMN failures.kind IS '0 password, 1 second factor, 2 recovery key.';
COMMENT ON COLUMN failures.day IS 'Whole days since 1970, in UTC.';
CREATE INDEX failures_to_sweep ON failures (tenant, day);

DO $$
DECLARE
    names CONSTANT text := '(tenant = ANY (nullif(current_setting(''selkie.tenants'', true), '''')::bigint[]))';
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'selkie_app') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON failures TO selkie_app;
    END IF;
    ALTER TABLE failures ENABLE ROW LEVEL SECURITY;
    ALTER TABLE failures FORCE ROW LEVEL SECURITY;
    EXECUTE 'CREATE POLICY tenant_select ON failures FOR SELECT USING ' || names;
    EXECUTE 'CREATE POLICY tenant_insert ON failures FOR INSERT WITH CHECK ' || names;
    EXECUTE 'CREATE POLICY tenant_update ON failures FOR UPDATE USING ' || names || ' WITH CHECK ' || names;
    EXECUTE 'CREATE POLICY tenant_delete ON failures FOR DELETE USING ' || names;
END $$;
