-- Vaults: their logs, what is live in them, their keys and people.
--
-- The rules of the first migration hold here, too. A vault's number is an integer and not a bigint, and a change's
-- place is one number and not two: in the largest table, and in its only index, that is a tenth of what a row takes.

ALTER TABLE plans
    ADD COLUMN max_bytes    bigint CHECK (max_bytes >= 0),
    ADD COLUMN max_vaults   bigint CHECK (max_vaults >= 0),
    ADD COLUMN history_days bigint DEFAULT 30 CHECK (history_days >= 0);
COMMENT ON COLUMN plans.max_bytes IS 'What all vaults of the tenant may take.';
COMMENT ON COLUMN plans.max_vaults IS 'Vaults that one account may have made.';
COMMENT ON COLUMN plans.history_days IS 'How long payloads stay that were superseded; null keeps them for ever.';
UPDATE plans SET max_bytes = 1073741824, max_vaults = 20 WHERE plan = 'free';

ALTER TABLE tenants ADD COLUMN last_vault integer NOT NULL DEFAULT 0 CHECK (last_vault >= 0);
COMMENT ON COLUMN tenants.last_vault IS 'The newest vault number; numbers are never used twice.';

CREATE TABLE vaults (
    tenant     bigint NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    vault      integer NOT NULL CHECK (vault > 0),
    vid        bytea NOT NULL CHECK (octet_length(vid) = 32),
    app        text NOT NULL CHECK (octet_length(app) BETWEEN 1 AND 1024),
    made_by    bigint,
    created_at bigint NOT NULL,
    n          bigint NOT NULL CHECK (n > 0),
    h          bytea NOT NULL CHECK (octet_length(h) = 32),
    bytes      bigint NOT NULL CHECK (bytes >= 0),
    checkpoint bigint NOT NULL DEFAULT 0 CHECK (checkpoint >= 0),
    prepared   bigint NOT NULL DEFAULT 0 CHECK (prepared >= 0),
    PRIMARY KEY (tenant, vault),
    CONSTRAINT vaults_vid UNIQUE (tenant, vid)
) WITH (fillfactor = 50);
COMMENT ON TABLE vaults IS
    'The vaults and where their logs stand. The row orders who writes to the log; half of each page is left free, so '
    'that moving the head touches no index.';
COMMENT ON COLUMN vaults.vid IS 'The hash of the first entry.';
COMMENT ON COLUMN vaults.app IS 'As the first entry says it.';
COMMENT ON COLUMN vaults.made_by IS
    'The account that counts it against its limit; null once that is gone. No foreign key: the vault may stay.';
COMMENT ON COLUMN vaults.n IS 'The newest position of the log.';
COMMENT ON COLUMN vaults.h IS 'The chain value there.';
COMMENT ON COLUMN vaults.bytes IS 'All frames as they came. What was dropped of them since is in vault_upkeep.';
COMMENT ON COLUMN vaults.checkpoint IS 'The newest CHECKPOINT entry; 0 for none.';
COMMENT ON COLUMN vaults.prepared IS 'The newest checkpoint that can be begun from; 0 for none.';
CREATE INDEX vaults_of_maker ON vaults (tenant, made_by) WHERE made_by IS NOT NULL;
CREATE INDEX vaults_to_prepare ON vaults (tenant, vault) WHERE checkpoint > prepared;

CREATE TABLE vault_upkeep (
    tenant  bigint NOT NULL,
    vault   integer NOT NULL,
    walked  bigint NOT NULL DEFAULT 0 CHECK (walked >= 0),
    kept_at bigint CHECK (kept_at >= 0),
    freed   bigint NOT NULL DEFAULT 0 CHECK (freed >= 0),
    PRIMARY KEY (tenant, vault),
    FOREIGN KEY (tenant, vault) REFERENCES vaults (tenant, vault) ON DELETE CASCADE
);
COMMENT ON TABLE vault_upkeep IS
    'How far the dropping of superseded payloads has come. Apart from the vault''s row, which pushes wait for.';
COMMENT ON COLUMN vault_upkeep.walked IS 'What entries up to here superseded is dropped.';
COMMENT ON COLUMN vault_upkeep.kept_at IS
    'Except what was live at this position, for which it was kept; from there the walk begins again when it need not.';
COMMENT ON COLUMN vault_upkeep.freed IS 'Bytes that were dropped.';

CREATE TABLE vault_states (
    tenant bigint NOT NULL,
    vault  integer NOT NULL,
    n      bigint NOT NULL CHECK (n > 0),
    state  bytea NOT NULL CHECK (octet_length(state) > 0),
    PRIMARY KEY (tenant, vault),
    FOREIGN KEY (tenant, vault) REFERENCES vaults (tenant, vault) ON DELETE CASCADE
);
COMMENT ON TABLE vault_states IS
    'By what the next entry is judged, as of some position: the entries after it bring it up to the head.';
COMMENT ON COLUMN vault_states.n IS 'At the latest CONTROL entry or after it.';

CREATE TABLE vault_entries (
    tenant      bigint NOT NULL,
    n           bigint NOT NULL CHECK (n > 0),
    dev_seq     bigint NOT NULL,
    received_at bigint NOT NULL,
    vault       integer NOT NULL,
    kind        smallint NOT NULL CHECK (kind BETWEEN 0 AND 2),
    h           bytea NOT NULL CHECK (octet_length(h) = 32),
    hash        bytea NOT NULL CHECK (octet_length(hash) = 32),
    device      bytea NOT NULL CHECK (octet_length(device) = 16),
    frame       bytea NOT NULL CHECK (octet_length(frame) > 4),
    PRIMARY KEY (tenant, vault, n),
    FOREIGN KEY (tenant, vault) REFERENCES vaults (tenant, vault) ON DELETE CASCADE
);
COMMENT ON TABLE vault_entries IS 'The logs: for every position one entry with what travels beside it.';
COMMENT ON COLUMN vault_entries.dev_seq IS 'Counts the entries of the device in this vault.';
COMMENT ON COLUMN vault_entries.kind IS '1 CONTROL, 2 CHECKPOINT, 0 any other.';
COMMENT ON COLUMN vault_entries.h IS 'The chain value.';
COMMENT ON COLUMN vault_entries.hash IS 'The entry''s hash.';
COMMENT ON COLUMN vault_entries.frame IS
    'As it was pushed, byte for byte, until payloads that were superseded are dropped. It is ciphertext and does not '
    'compress; as it is, its first bytes can be read without the rest.';
ALTER TABLE vault_entries ALTER COLUMN frame SET STORAGE EXTERNAL;
CREATE INDEX vault_entries_of_kind ON vault_entries (tenant, vault, kind, n) WHERE kind > 0;

CREATE TABLE vault_changes (
    tenant        bigint NOT NULL,
    place         bigint NOT NULL CHECK (place >= 256),
    vault         integer NOT NULL,
    record        bytea NOT NULL CHECK (octet_length(record) = 16),
    change        bytea NOT NULL CHECK (octet_length(change) = 32),
    whole         boolean NOT NULL,
    superseded_at bigint,
    unheaded_at   bigint,
    PRIMARY KEY (tenant, vault, record, place)
);
COMMENT ON TABLE vault_changes IS
    'Changes of records that are live, or were until lately. On purpose no foreign key: a push has up to 256 of them, '
    'and holds its vault''s row. They go with the vault by a trigger.';
COMMENT ON COLUMN vault_changes.place IS 'The position of the entry times 256, and the place of the change in it.';
COMMENT ON COLUMN vault_changes.whole IS 'The record''s complete state, not a difference.';
COMMENT ON COLUMN vault_changes.superseded_at IS 'The entry from which on it is not live; null while it is.';
COMMENT ON COLUMN vault_changes.unheaded_at IS 'The entry from which on it is no head of its record; null while it is.';

CREATE FUNCTION vault_changes_go() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM vault_changes WHERE tenant = OLD.tenant AND vault = OLD.vault;
    RETURN NULL;
END $$;
CREATE TRIGGER vault_changes_go AFTER DELETE ON vaults FOR EACH ROW EXECUTE FUNCTION vault_changes_go();

CREATE TABLE vault_members (
    tenant  bigint NOT NULL,
    account bigint NOT NULL,
    vault   integer NOT NULL,
    present boolean NOT NULL,
    PRIMARY KEY (tenant, account, vault),
    FOREIGN KEY (tenant, account) REFERENCES accounts (tenant, account) ON DELETE CASCADE,
    FOREIGN KEY (tenant, vault) REFERENCES vaults (tenant, vault) ON DELETE CASCADE
);
COMMENT ON TABLE vault_members IS 'Who is, or was, a member of which vault.';
COMMENT ON COLUMN vault_members.present IS
    'False for who was removed: what they did stays in the log, and is verified with their account log.';
CREATE INDEX vault_members_of_vault ON vault_members (tenant, vault, account);

CREATE TABLE vault_wraps (
    tenant     bigint NOT NULL,
    vault      integer NOT NULL,
    account    bigint NOT NULL,
    epoch      bigint NOT NULL CHECK (epoch BETWEEN 0 AND 4294967295),
    generation bigint NOT NULL CHECK (generation BETWEEN 0 AND 4294967295),
    sealed     bytea NOT NULL CHECK (octet_length(sealed) BETWEEN 1 AND 8192),
    PRIMARY KEY (tenant, vault, account, epoch, generation),
    FOREIGN KEY (tenant, account) REFERENCES accounts (tenant, account) ON DELETE CASCADE,
    FOREIGN KEY (tenant, vault) REFERENCES vaults (tenant, vault) ON DELETE CASCADE
);
COMMENT ON TABLE vault_wraps IS 'Epoch keys, each sealed to one member.';
COMMENT ON COLUMN vault_wraps.generation IS 'Of the member''s key that it is sealed to.';
CREATE INDEX vault_wraps_of_account ON vault_wraps (tenant, account);

CREATE TABLE vault_checkpoints (
    tenant      bigint NOT NULL,
    vault       integer NOT NULL,
    n           bigint NOT NULL CHECK (n > 0),
    page_hashes bytea NOT NULL CHECK (octet_length(page_hashes) % 32 = 0),
    PRIMARY KEY (tenant, vault, n),
    FOREIGN KEY (tenant, vault) REFERENCES vaults (tenant, vault) ON DELETE CASCADE
);
COMMENT ON TABLE vault_checkpoints IS 'Checkpoints that can be begun from: their pages are in the blob store.';
COMMENT ON COLUMN vault_checkpoints.n IS 'Where the CHECKPOINT entry stands.';

CREATE TABLE departed_logs (
    tenant   bigint NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    uid      bytea NOT NULL CHECK (octet_length(uid) = 32),
    position bigint NOT NULL CHECK (position >= 0),
    entry    bytea NOT NULL CHECK (octet_length(entry) BETWEEN 1 AND 65536),
    PRIMARY KEY (tenant, uid, position)
);
COMMENT ON TABLE departed_logs IS
    'Account logs of people whose account is gone, while a vault they were in stays: their entries there are verified '
    'with nothing else. Public keys and hashes, and no link to what the account was called.';

CREATE TABLE departed_from (
    tenant bigint NOT NULL,
    vault  integer NOT NULL,
    uid    bytea NOT NULL CHECK (octet_length(uid) = 32),
    PRIMARY KEY (tenant, vault, uid),
    FOREIGN KEY (tenant, vault) REFERENCES vaults (tenant, vault) ON DELETE CASCADE
);
COMMENT ON TABLE departed_from IS 'For which vaults the log of somebody who is gone is kept.';
CREATE INDEX departed_from_by ON departed_from (tenant, uid);

-- Who may do what ---------------------------------------------------------------------------------------------------

DO $$
DECLARE
    name text;
    names text[] := ARRAY['vaults', 'vault_upkeep', 'vault_states', 'vault_entries', 'vault_changes', 'vault_members',
        'vault_wraps', 'vault_checkpoints', 'departed_logs', 'departed_from'];
BEGIN
    FOREACH name IN ARRAY names
    LOOP
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'selkie_app') THEN
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO selkie_app', name);
        END IF;
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant_select ON %I FOR SELECT USING
            (tenant = ANY (nullif(current_setting(''selkie.tenants'', true), '''')::bigint[]))', name);
        EXECUTE format('CREATE POLICY tenant_insert ON %I FOR INSERT WITH CHECK
            (tenant = ANY (nullif(current_setting(''selkie.tenants'', true), '''')::bigint[]))', name);
        EXECUTE format('CREATE POLICY tenant_update ON %I FOR UPDATE USING
            (tenant = ANY (nullif(current_setting(''selkie.tenants'', true), '''')::bigint[])) WITH CHECK
            (tenant = ANY (nullif(current_setting(''selkie.tenants'', true), '''')::bigint[]))', name);
        EXECUTE format('CREATE POLICY tenant_delete ON %I FOR DELETE USING
            (tenant = ANY (nullif(current_setting(''selkie.tenants'', true), '''')::bigint[]))', name);
    END LOOP;
    -- A push writes hundreds of changes: what they are held to is read once, not for every row.
    ALTER POLICY tenant_insert ON vault_changes WITH CHECK
        (tenant = ANY ((SELECT nullif(current_setting('selkie.tenants', true), '')::bigint[])::bigint[]));
    ALTER POLICY tenant_update ON vault_changes WITH CHECK
        (tenant = ANY ((SELECT nullif(current_setting('selkie.tenants', true), '')::bigint[])::bigint[]));
    -- A restored database is given a new incarnation; nothing else of who it is may change.
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'selkie_app') THEN
        GRANT UPDATE (incarnation) ON server_meta TO selkie_app;
    END IF;
END $$;
