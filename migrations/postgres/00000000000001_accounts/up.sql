-- Tenants, accounts and how people sign in.
--
-- Rules that a test reads back from the catalogue: a tenant's table has the tenant first in every key and index, loses
-- its rows with its tenant (and its account), and lets nobody see a row of a tenant that the transaction did not name
-- in `selkie.tenants`, its owner included. Times are milliseconds since 1970 by the server's clock.

-- What belongs to the server as a whole -----------------------------------------------------------------------------

CREATE TABLE server_meta (
    id                     smallint PRIMARY KEY CHECK (id = 1),
    incarnation            bytea NOT NULL CHECK (octet_length(incarnation) = 16),
    master_key_fingerprint bytea NOT NULL CHECK (octet_length(master_key_fingerprint) BETWEEN 1 AND 64),
    created_at             bigint NOT NULL
);
COMMENT ON TABLE server_meta IS 'Who this database is: one row.';
COMMENT ON COLUMN server_meta.incarnation IS 'Random; made anew with the database and after a restore from a backup.';
COMMENT ON COLUMN server_meta.master_key_fingerprint IS 'Recognises the master key that sealed what is in here.';

CREATE TABLE plans (
    plan         text PRIMARY KEY CHECK (char_length(plan) BETWEEN 1 AND 64),
    max_accounts bigint CHECK (max_accounts >= 0),
    max_devices  bigint CHECK (max_devices >= 0)
);
COMMENT ON TABLE plans IS 'What a tenant may use. A limit that is null is no limit.';
COMMENT ON COLUMN plans.max_devices IS 'Devices of one account that are not revoked.';
INSERT INTO plans (plan, max_accounts, max_devices) VALUES ('home', NULL, NULL), ('free', 10, 5);

CREATE TABLE opaque_setup (
    id         integer PRIMARY KEY CHECK (id > 0),
    sealed     bytea NOT NULL CHECK (octet_length(sealed) BETWEEN 1 AND 4096),
    created_at bigint NOT NULL
);
COMMENT ON TABLE opaque_setup IS
    'The OPAQUE server setups. With one of them and the credentials, passwords can be guessed offline.';
COMMENT ON COLUMN opaque_setup.sealed IS 'Sealed under the master key, which is never in the database.';

CREATE TABLE signing_keys (
    id         integer PRIMARY KEY CHECK (id > 0),
    sealed     bytea NOT NULL CHECK (octet_length(sealed) BETWEEN 1 AND 4096),
    created_at bigint NOT NULL
);
COMMENT ON TABLE signing_keys IS
    'Keys that sign access tokens: the newest signs, the others verify until they are forgotten.';
COMMENT ON COLUMN signing_keys.sealed IS 'Sealed under the master key.';

CREATE TABLE tenants (
    tenant          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slug            text NOT NULL CONSTRAINT tenants_slug UNIQUE CHECK (char_length(slug) BETWEEN 1 AND 64),
    name            text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 256),
    plan            text NOT NULL REFERENCES plans (plan),
    suspended       boolean NOT NULL DEFAULT false,
    created_at      bigint NOT NULL,
    accounts        bigint NOT NULL DEFAULT 0 CHECK (accounts >= 0),
    last_account    bigint NOT NULL DEFAULT 0 CHECK (last_account >= accounts),
    last_invitation bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE tenants IS
    'The tenants. Not behind row-level security: a tenant must be found by its slug before there is one to name.';
COMMENT ON COLUMN tenants.tenant IS 'The database''s own number; never enters cryptography, never used twice.';
COMMENT ON COLUMN tenants.slug IS 'How a request names its tenant.';
COMMENT ON COLUMN tenants.accounts IS
    'How many accounts there are: counted here so that the limit is exact under concurrency.';
COMMENT ON COLUMN tenants.last_account IS 'The newest account number; numbers are never used twice.';
COMMENT ON COLUMN tenants.last_invitation IS 'The newest invitation number.';

-- What belongs to a tenant ------------------------------------------------------------------------------------------

CREATE TABLE invitations (
    tenant        bigint NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    invitation    bigint NOT NULL,
    code_hash     bytea NOT NULL CHECK (octet_length(code_hash) = 32),
    role          smallint NOT NULL CHECK (role BETWEEN 0 AND 2),
    uses_left     integer NOT NULL CHECK (uses_left >= 0),
    first_account boolean NOT NULL DEFAULT false,
    created_at    bigint NOT NULL,
    expires_at    bigint NOT NULL,
    revoked_at    bigint,
    PRIMARY KEY (tenant, invitation),
    CONSTRAINT invitations_code UNIQUE (tenant, code_hash)
);
COMMENT ON TABLE invitations IS 'Who may make an account where registration is not open.';
COMMENT ON COLUMN invitations.code_hash IS 'SHA-256 of the code; the code itself is not kept.';
COMMENT ON COLUMN invitations.role IS '0 member, 1 admin, 2 owner.';
COMMENT ON COLUMN invitations.first_account IS 'Made by an empty server at its start; replaced at the next start.';

CREATE TABLE accounts (
    tenant        bigint NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    account       bigint NOT NULL CHECK (account > 0),
    uuid          bytea NOT NULL CHECK (octet_length(uuid) = 16),
    login_name    text NOT NULL CHECK (octet_length(login_name) BETWEEN 1 AND 1024),
    uid           bytea CHECK (octet_length(uid) = 32),
    audit_subject bytea NOT NULL CHECK (octet_length(audit_subject) = 16),
    role          smallint NOT NULL CHECK (role BETWEEN 0 AND 2),
    suspended     boolean NOT NULL DEFAULT false,
    created_at    bigint NOT NULL,
    delete_after  bigint,
    last_seen     bigint,
    log_length    bigint NOT NULL DEFAULT 0 CHECK (log_length >= 0),
    last_factor   bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, account),
    CONSTRAINT accounts_login_name UNIQUE (tenant, login_name),
    CONSTRAINT accounts_uuid UNIQUE (tenant, uuid),
    CONSTRAINT accounts_uid UNIQUE (tenant, uid),
    CONSTRAINT accounts_audit_subject UNIQUE (tenant, audit_subject)
);
COMMENT ON TABLE accounts IS
    'People. Whether an account is bare, active, suspended or deleting follows from uid, suspended and '
    'delete_after.';
COMMENT ON COLUMN accounts.uuid IS 'The OPAQUE credential identifier: random, fixed for life, never shown.';
COMMENT ON COLUMN accounts.uid IS 'The hash of the genesis of the account log; null while the account has no keys.';
COMMENT ON COLUMN accounts.audit_subject IS
    'Random; stands for the account in the audit log. Nothing else connects the two.';
COMMENT ON COLUMN accounts.role IS '0 member, 1 admin, 2 owner.';
COMMENT ON COLUMN accounts.delete_after IS 'When a job may remove the account; null unless its owner asked for it.';
COMMENT ON COLUMN accounts.log_length IS 'Entries in account_log.';
COMMENT ON COLUMN accounts.last_factor IS 'The newest second factor''s number; numbers are never used twice.';
CREATE INDEX accounts_to_delete ON accounts (tenant, delete_after) WHERE delete_after IS NOT NULL;

CREATE TABLE credentials (
    tenant              bigint NOT NULL,
    account             bigint NOT NULL,
    setup_id            integer NOT NULL REFERENCES opaque_setup (id),
    ksf_id              smallint NOT NULL CHECK (ksf_id BETWEEN 0 AND 255),
    record              bytea NOT NULL CHECK (octet_length(record) = 192),
    password_generation bigint NOT NULL CHECK (password_generation BETWEEN 1 AND 4294967295),
    recovery_generation bigint CHECK (recovery_generation BETWEEN 1 AND 4294967295),
    recovery_key        bytea CHECK (octet_length(recovery_key) = 32),
    version             bigint NOT NULL DEFAULT 1 CHECK (version > 0),
    updated_at          bigint NOT NULL,
    PRIMARY KEY (tenant, account),
    FOREIGN KEY (tenant, account) REFERENCES accounts (tenant, account) ON DELETE CASCADE,
    CHECK ((recovery_generation IS NULL) = (recovery_key IS NULL))
);
COMMENT ON TABLE credentials IS 'What an account can sign in with.';
COMMENT ON COLUMN credentials.setup_id IS
    'The OPAQUE setup under which the record was made; it must stay as long as a credential names it.';
COMMENT ON COLUMN credentials.ksf_id IS 'The profile of the client''s password stretching.';
COMMENT ON COLUMN credentials.version IS
    'Counts the changes: a sign-in that began under another version opens no session.';
COMMENT ON COLUMN credentials.record IS 'The OPAQUE record: useless for guessing without the setup.';
COMMENT ON COLUMN credentials.recovery_key IS 'The public half of the key that signs a recovery.';

CREATE UNLOGGED TABLE login_state (
    tenant     bigint NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    login      bytea NOT NULL CHECK (octet_length(login) = 24),
    account    bigint,
    purpose    smallint NOT NULL CHECK (purpose BETWEEN 0 AND 2),
    sealed     bytea NOT NULL CHECK (octet_length(sealed) BETWEEN 1 AND 4096),
    expires_at bigint NOT NULL,
    attempts   smallint NOT NULL CHECK (attempts >= 0),
    PRIMARY KEY (tenant, login)
);
COMMENT ON TABLE login_state IS 'Sign-ins between their two steps. Unlogged: a crash only asks people to start again.';
COMMENT ON COLUMN login_state.account IS
    'Null for a name that does not exist. On purpose no foreign key: checking it only for names that exist would '
    'take measurably longer for them. Removing an account removes its rows here.';
COMMENT ON COLUMN login_state.purpose IS '0 password, 1 second factor, 2 recovery.';
COMMENT ON COLUMN login_state.sealed IS 'The OPAQUE state, sealed under the master key.';
COMMENT ON COLUMN login_state.attempts IS 'Second factors tried and found wrong.';
CREATE INDEX login_state_to_sweep ON login_state (tenant, expires_at);

CREATE TABLE account_log (
    tenant   bigint NOT NULL,
    account  bigint NOT NULL,
    position bigint NOT NULL CHECK (position >= 0),
    entry    bytea NOT NULL CHECK (octet_length(entry) BETWEEN 1 AND 65536),
    PRIMARY KEY (tenant, account, position),
    FOREIGN KEY (tenant, account) REFERENCES accounts (tenant, account) ON DELETE CASCADE
);
COMMENT ON TABLE account_log IS 'The signed chain behind a person: the only source of their device and KEM keys.';
COMMENT ON COLUMN account_log.entry IS 'As it was signed, byte for byte.';

CREATE TABLE keybag (
    tenant     bigint NOT NULL,
    account    bigint NOT NULL,
    sealed     bytea NOT NULL CHECK (octet_length(sealed) BETWEEN 1 AND 4096),
    updated_at bigint NOT NULL,
    PRIMARY KEY (tenant, account),
    FOREIGN KEY (tenant, account) REFERENCES accounts (tenant, account) ON DELETE CASCADE
);
COMMENT ON TABLE keybag IS 'An account''s keys, sealed under its password and its recovery key.';

CREATE TABLE devices (
    tenant     bigint NOT NULL,
    account    bigint NOT NULL,
    device     bytea NOT NULL CHECK (octet_length(device) = 16),
    public_key bytea NOT NULL CHECK (octet_length(public_key) = 32),
    label      bytea NOT NULL CHECK (octet_length(label) BETWEEN 1 AND 1024),
    added_at   bigint NOT NULL,
    last_seen  bigint,
    revoked_at bigint,
    PRIMARY KEY (tenant, account, device),
    FOREIGN KEY (tenant, account) REFERENCES accounts (tenant, account) ON DELETE CASCADE
);
COMMENT ON TABLE devices IS 'Devices that the account log certified, revoked ones included.';
COMMENT ON COLUMN devices.device IS 'The hash of the public key.';
COMMENT ON COLUMN devices.label IS 'What the device is called: sealed, of one length.';

CREATE TABLE sessions (
    tenant             bigint NOT NULL,
    session            bytea NOT NULL CHECK (octet_length(session) = 16),
    account            bigint NOT NULL,
    device             bytea CHECK (octet_length(device) = 16),
    scope              smallint NOT NULL CHECK (scope BETWEEN 0 AND 1),
    app                text CHECK (octet_length(app) <= 1024),
    refresh_seed       bytea NOT NULL CHECK (octet_length(refresh_seed) = 32),
    refresh_generation bigint NOT NULL CHECK (refresh_generation BETWEEN 0 AND 4294967295),
    rotated_at         bigint NOT NULL,
    auth_time          bigint NOT NULL,
    created_at         bigint NOT NULL,
    idle_expires_at    bigint NOT NULL,
    expires_at         bigint NOT NULL,
    ended_at           bigint,
    over_at            bigint NOT NULL,
    PRIMARY KEY (tenant, session),
    FOREIGN KEY (tenant, account) REFERENCES accounts (tenant, account) ON DELETE CASCADE,
    FOREIGN KEY (tenant, account, device) REFERENCES devices (tenant, account, device) ON DELETE CASCADE,
    CHECK (over_at = coalesce(ended_at, least(idle_expires_at, expires_at)))
);
COMMENT ON TABLE sessions IS
    'Sign-ins, live and ended. A refresh token is derived from the row and the master key; none is kept.';
COMMENT ON COLUMN sessions.device IS 'Null for a session that is not bound to a device key.';
COMMENT ON COLUMN sessions.scope IS '0 full, 1 recovery.';
COMMENT ON COLUMN sessions.refresh_seed IS 'Random; with the master key it yields the refresh tokens of this session.';
COMMENT ON COLUMN sessions.refresh_generation IS
    'The generation of the token that is good now; a lower one was used before.';
COMMENT ON COLUMN sessions.over_at IS 'When the session ended, or will end by itself.';
CREATE INDEX sessions_of_account ON sessions (tenant, account);
CREATE INDEX sessions_to_sweep ON sessions (tenant, over_at);

CREATE TABLE second_factors (
    tenant     bigint NOT NULL,
    account    bigint NOT NULL,
    factor     bigint NOT NULL,
    kind       smallint NOT NULL CHECK (kind BETWEEN 0 AND 1),
    sealed     bytea NOT NULL CHECK (octet_length(sealed) BETWEEN 1 AND 65536),
    confirmed  boolean NOT NULL,
    last_step  bigint NOT NULL,
    created_at bigint NOT NULL,
    PRIMARY KEY (tenant, account, factor),
    CONSTRAINT second_factors_kind UNIQUE (tenant, account, kind, confirmed),
    FOREIGN KEY (tenant, account) REFERENCES accounts (tenant, account) ON DELETE CASCADE
);
COMMENT ON TABLE second_factors IS
    'Second factors: at most one of a kind that counts and one that waits to be confirmed.';
COMMENT ON COLUMN second_factors.kind IS '0 TOTP, 1 WebAuthn.';
COMMENT ON COLUMN second_factors.sealed IS 'The TOTP secret or the WebAuthn credential, sealed under the master key.';
COMMENT ON COLUMN second_factors.last_step IS
    'The newest TOTP step that was used; it and those before cannot be used again.';

CREATE TABLE recovery_codes (
    tenant    bigint NOT NULL,
    account   bigint NOT NULL,
    code_hash bytea NOT NULL CHECK (octet_length(code_hash) = 32),
    used_at   bigint,
    PRIMARY KEY (tenant, account, code_hash),
    FOREIGN KEY (tenant, account) REFERENCES accounts (tenant, account) ON DELETE CASCADE
);
COMMENT ON TABLE recovery_codes IS 'Codes that stand in for a lost second factor, each once; as SHA-256.';

CREATE TABLE links (
    tenant     bigint NOT NULL,
    channel    bytea NOT NULL CHECK (octet_length(channel) = 16),
    account    bigint NOT NULL,
    offer      bytea NOT NULL CHECK (octet_length(offer) BETWEEN 1 AND 8192),
    request    bytea CHECK (octet_length(request) BETWEEN 1 AND 8192),
    answer     bytea CHECK (octet_length(answer) BETWEEN 1 AND 8192),
    device     bytea CHECK (octet_length(device) = 16),
    expires_at bigint NOT NULL,
    PRIMARY KEY (tenant, channel),
    FOREIGN KEY (tenant, account) REFERENCES accounts (tenant, account) ON DELETE CASCADE,
    FOREIGN KEY (tenant, account, device) REFERENCES devices (tenant, account, device) ON DELETE CASCADE,
    CHECK ((answer IS NULL) = (device IS NULL) AND (request IS NOT NULL OR answer IS NULL))
);
COMMENT ON TABLE links IS
    'Meetings of two devices of one account; what they say is sealed under a key the server does not have.';
COMMENT ON COLUMN links.offer IS 'From the device that is signed in.';
COMMENT ON COLUMN links.request IS 'From the new device.';
COMMENT ON COLUMN links.answer IS
    'From the device that is signed in, once it has certified the new one, which is then in device.';
CREATE INDEX links_of_account ON links (tenant, account);
CREATE INDEX links_to_sweep ON links (tenant, expires_at);

CREATE TABLE audit_log (
    tenant  bigint NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    number  bigint NOT NULL CHECK (number > 0),
    at      bigint NOT NULL,
    subject bytea CHECK (octet_length(subject) = 16),
    action  text NOT NULL CHECK (char_length(action) BETWEEN 1 AND 64),
    device  bytea CHECK (octet_length(device) = 16),
    detail  text CHECK (char_length(detail) <= 1024),
    chain   bytea NOT NULL CHECK (octet_length(chain) = 32),
    PRIMARY KEY (tenant, number)
);
COMMENT ON TABLE audit_log IS 'What happened, append-only: the application role may read and add, nothing else.';
COMMENT ON COLUMN audit_log.subject IS 'The account''s audit_subject; null where no account is meant.';
COMMENT ON COLUMN audit_log.chain IS 'SHA-256 of the previous chain, the number and the hash of the content.';
CREATE INDEX audit_log_of_subject ON audit_log (tenant, subject, number);

CREATE TABLE audit_head (
    tenant bigint PRIMARY KEY REFERENCES tenants (tenant) ON DELETE CASCADE,
    number bigint NOT NULL CHECK (number > 0),
    chain  bytea NOT NULL CHECK (octet_length(chain) = 32)
);
COMMENT ON TABLE audit_head IS
    'The newest entry of each tenant''s audit log: the row that orders writers, locked last.';

-- Who may do what ---------------------------------------------------------------------------------------------------

-- The role the server works as. Making it needs CREATEROLE; where that is not given, whoever runs the database makes
-- it first (docs/self-hosting.md), or the server works as the owner of the tables, whom row-level security binds, too.
-- A role belongs to the whole cluster, so another database's migration may be making the same one at this moment.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'selkie_app') THEN
        CREATE ROLE selkie_app NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOINHERIT;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN
        RAISE WARNING 'the role selkie_app is missing and may not be made: the server will work as the tables'' owner';
END $$;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'selkie_app')
       AND NOT pg_has_role(current_user, 'selkie_app', 'MEMBER') THEN
        EXECUTE format('GRANT selkie_app TO %I', current_user);
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE WARNING '% may not become selkie_app: grant it, or let another role run the server', current_user;
    WHEN internal_error THEN NULL; -- another database's migration granted it at the same moment
END $$;

-- Whoever may connect may ask which migrations ran: a server does so before it becomes anybody else.
GRANT SELECT ON __diesel_schema_migrations TO PUBLIC;

DO $$
DECLARE
    name text;
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'selkie_app') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO selkie_app', current_schema());
        GRANT SELECT ON plans TO selkie_app;
        GRANT SELECT, INSERT ON server_meta, opaque_setup TO selkie_app;
        GRANT SELECT, INSERT, DELETE ON signing_keys TO selkie_app;
        GRANT SELECT, INSERT, UPDATE ON tenants TO selkie_app;
        GRANT SELECT, INSERT, UPDATE, DELETE ON invitations, accounts, credentials, login_state, account_log, keybag,
            devices, sessions, second_factors, recovery_codes, links TO selkie_app;
        GRANT SELECT, INSERT ON audit_log TO selkie_app;
        GRANT SELECT, INSERT, UPDATE ON audit_head TO selkie_app;
        -- Tables of later migrations are usable unless those say otherwise.
        EXECUTE format(
            'ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO selkie_app',
            current_schema());
    END IF;

    FOREACH name IN ARRAY ARRAY['invitations', 'accounts', 'credentials', 'login_state', 'account_log', 'keybag',
        'devices', 'sessions', 'second_factors', 'recovery_codes', 'links', 'audit_log', 'audit_head']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant_select ON %I FOR SELECT USING
            (tenant = ANY (nullif(current_setting(''selkie.tenants'', true), '''')::bigint[]))', name);
        EXECUTE format('CREATE POLICY tenant_insert ON %I FOR INSERT WITH CHECK
            (tenant = ANY (nullif(current_setting(''selkie.tenants'', true), '''')::bigint[]))', name);
        CONTINUE WHEN name = 'audit_log'; -- append-only: no policy, no row to change
        EXECUTE format('CREATE POLICY tenant_update ON %I FOR UPDATE USING
            (tenant = ANY (nullif(current_setting(''selkie.tenants'', true), '''')::bigint[])) WITH CHECK
            (tenant = ANY (nullif(current_setting(''selkie.tenants'', true), '''')::bigint[]))', name);
        EXECUTE format('CREATE POLICY tenant_delete ON %I FOR DELETE USING
            (tenant = ANY (nullif(current_setting(''selkie.tenants'', true), '''')::bigint[]))', name);
    END LOOP;
END $$;
