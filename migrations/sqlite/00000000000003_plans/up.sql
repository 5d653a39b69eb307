-- Plans that allow more, and failures that are counted.

-- How many per cent of the table's rate limits accounts, devices and the tenant have; taken up to 100 times the next
-- power of two. What protects from guessing is the same for every plan.
ALTER TABLE plans ADD COLUMN limit_factor integer NOT NULL DEFAULT 100 CHECK (limit_factor BETWEEN 100 AND 6400);
INSERT INTO plans (plan, max_accounts, max_devices, limit_factor) VALUES ('team', NULL, NULL, 400);

-- How often somebody failed to come in: counted, so that strangers cannot make the audit log grow. Kept for 30 days.
CREATE TABLE failures (
    tenant  integer NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    -- Zero for all names that do not exist. On purpose no foreign key: checking it only for names that exist would
    -- take measurably longer for them. Removing an account removes its rows here.
    account integer NOT NULL CHECK (account >= 0),
    -- 0 password, 1 second factor, 2 recovery key.
    kind    integer NOT NULL CHECK (kind BETWEEN 0 AND 2),
    -- Whole days since 1970, in UTC.
    day     integer NOT NULL,
    times   integer NOT NULL CHECK (times > 0),
    PRIMARY KEY (tenant, account, kind, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX failures_to_sweep ON failures (tenant, day);
