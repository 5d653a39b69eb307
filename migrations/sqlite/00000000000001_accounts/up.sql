-- Tenants, accounts and how people sign in.
--
-- Rules that a test reads back from the catalogue: a tenant's table has the tenant first in every key and index, and
-- loses its rows with its tenant (and its account). Times are milliseconds since 1970 by the server's clock.

-- What belongs to the server as a whole -----------------------------------------------------------------------------

-- Who this database is: one row.
CREATE TABLE server_meta (
    id                     integer PRIMARY KEY CHECK (id = 1),
    -- Random; made anew with the database and after a restore from a backup.
    incarnation            blob NOT NULL CHECK (length(incarnation) = 16),
    -- Recognises the master key that sealed what is in here.
    master_key_fingerprint blob NOT NULL CHECK (length(master_key_fingerprint) BETWEEN 1 AND 64),
    created_at             integer NOT NULL
) STRICT, WITHOUT ROWID;

-- What a tenant may use. A limit that is null is no limit.
CREATE TABLE plans (
    plan         text PRIMARY KEY CHECK (length(plan) BETWEEN 1 AND 64),
    max_accounts integer CHECK (max_accounts >= 0),
    -- Devices of one account that are not revoked.
    max_devices  integer CHECK (max_devices >= 0)
) STRICT, WITHOUT ROWID;
INSERT INTO plans (plan, max_accounts, max_devices) VALUES ('home', NULL, NULL), ('free', 10, 5);

-- The OPAQUE server setups. With one of them and the credentials, passwords can be guessed offline.
CREATE TABLE opaque_setup (
    id         integer PRIMARY KEY CHECK (id > 0),
    -- Sealed under the master key, which is never in the database.
    sealed     blob NOT NULL CHECK (length(sealed) BETWEEN 1 AND 4096),
    created_at integer NOT NULL
) STRICT, WITHOUT ROWID;

-- Keys that sign access tokens: the newest signs, the others verify until they are forgotten.
CREATE TABLE signing_keys (
    id         integer PRIMARY KEY CHECK (id > 0),
    -- Sealed under the master key.
    sealed     blob NOT NULL CHECK (length(sealed) BETWEEN 1 AND 4096),
    created_at integer NOT NULL
) STRICT, WITHOUT ROWID;

-- The tenants.
CREATE TABLE tenants (
    -- The database's own number; never enters cryptography, never used twice.
    tenant          integer PRIMARY KEY AUTOINCREMENT,
    -- How a request names its tenant.
    slug            text NOT NULL CONSTRAINT tenants_slug UNIQUE CHECK (length(slug) BETWEEN 1 AND 64),
    name            text NOT NULL CHECK (length(name) BETWEEN 1 AND 256),
    plan            text NOT NULL REFERENCES plans (plan),
    suspended       integer NOT NULL DEFAULT 0 CHECK (suspended IN (0, 1)),
    created_at      integer NOT NULL,
    -- How many accounts there are: counted here so that the limit is exact under concurrency.
    accounts        integer NOT NULL DEFAULT 0 CHECK (accounts >= 0),
    -- The newest account number; numbers are never used twice.
    last_account    integer NOT NULL DEFAULT 0 CHECK (last_account >= accounts),
    -- The newest invitation number.
    last_invitation integer NOT NULL DEFAULT 0
) STRICT;

-- What belongs to a tenant ------------------------------------------------------------------------------------------

-- Who may make an account where registration is not open.
CREATE TABLE invitations (
    tenant        integer NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    invitation    integer NOT NULL,
    -- SHA-256 of the code; the code itself is not kept.
    code_hash     blob NOT NULL CHECK (length(code_hash) = 32),
    -- 0 member, 1 admin, 2 owner.
    role          integer NOT NULL CHECK (role BETWEEN 0 AND 2),
    uses_left     integer NOT NULL CHECK (uses_left >= 0),
    -- Made by an empty server at its start; replaced at the next start.
    first_account integer NOT NULL DEFAULT 0 CHECK (first_account IN (0, 1)),
    created_at    integer NOT NULL,
    expires_at    integer NOT NULL,
    revoked_at    integer,
    PRIMARY KEY (tenant, invitation),
    CONSTRAINT invitations_code UNIQUE (tenant, code_hash)
) STRICT, WITHOUT ROWID;

-- People. Whether an account is bare, active, suspended or deleting follows from uid, suspended and delete_after.
CREATE TABLE accounts (
    tenant        integer NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    account       integer NOT NULL CHECK (account > 0),
    -- The OPAQUE credential identifier: random, fixed for life, never shown.
    uuid          blob NOT NULL CHECK (length(uuid) = 16),
    login_name    text NOT NULL CHECK (length(CAST(login_name AS blob)) BETWEEN 1 AND 1024),
    -- The hash of the genesis of the account log; null while the account has no keys.
    uid           blob CHECK (length(uid) = 32),
    -- Random; stands for the account in the audit log. Nothing else connects the two.
    audit_subject blob NOT NULL CHECK (length(audit_subject) = 16),
    -- 0 member, 1 admin, 2 owner.
    role          integer NOT NULL CHECK (role BETWEEN 0 AND 2),
    suspended     integer NOT NULL DEFAULT 0 CHECK (suspended IN (0, 1)),
    created_at    integer NOT NULL,
    -- When a job may remove the account; null unless its owner asked for it.
    delete_after  integer,
    last_seen     integer,
    -- Entries in account_log.
    log_length    integer NOT NULL DEFAULT 0 CHECK (log_length >= 0),
    -- The newest second factor's number; numbers are never used twice.
    last_factor   integer NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, account),
    CONSTRAINT accounts_login_name UNIQUE (tenant, login_name),
    CONSTRAINT accounts_uuid UNIQUE (tenant, uuid),
    CONSTRAINT accounts_uid UNIQUE (tenant, uid),
    CONSTRAINT accounts_audit_subject UNIQUE (tenant, audit_subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX accounts_to_delete ON accounts (tenant, delete_after) WHERE delete_after IS NOT NULL;

-- What an account can sign in with.
CREATE TABLE credentials (
    tenant              integer NOT NULL,
    account             integer NOT NULL,
    -- The OPAQUE setup under which the record was made; it must stay as long as a credential names it.
    setup_id            integer NOT NULL REFERENCES opaque_setup (id),
    -- The profile of the client's password stretching.
    ksf_id              integer NOT NULL CHECK (ksf_id BETWEEN 0 AND 255),
    -- The OPAQUE record: useless for guessing without the setup.
    record              blob NOT NULL CHECK (length(record) = 192),
    password_generation integer NOT NULL CHECK (password_generation BETWEEN 1 AND 4294967295),
    recovery_generation integer CHECK (recovery_generation BETWEEN 1 AND 4294967295),
    -- The public half of the key that signs a recovery.
    recovery_key        blob CHECK (length(recovery_key) = 32),
    -- Counts the changes: a sign-in that began under another version opens no session.
    version             integer NOT NULL DEFAULT 1 CHECK (version > 0),
    updated_at          integer NOT NULL,
    PRIMARY KEY (tenant, account),
    FOREIGN KEY (tenant, account) REFERENCES accounts (tenant, account) ON DELETE CASCADE,
    CHECK ((recovery_generation IS NULL) = (recovery_key IS NULL))
) STRICT, WITHOUT ROWID;

-- Sign-ins between their two steps.
CREATE TABLE login_state (
    tenant     integer NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    login      blob NOT NULL CHECK (length(login) = 24),
    -- Null for a name that does not exist. On purpose no foreign key: checking it only for names that exist would take
    -- measurably longer for them. Removing an account removes its rows here.
    account    integer,
    -- 0 password, 1 second factor, 2 recovery.
    purpose    integer NOT NULL CHECK (purpose BETWEEN 0 AND 2),
    -- The OPAQUE state, sealed under the master key.
    sealed     blob NOT NULL CHECK (length(sealed) BETWEEN 1 AND 4096),
    expires_at integer NOT NULL,
    -- Second factors tried and found wrong.
    attempts   integer NOT NULL CHECK (attempts >= 0),
    PRIMARY KEY (tenant, login)
) STRICT, WITHOUT ROWID;
CREATE INDEX login_state_to_sweep ON login_state (tenant, expires_at);

-- The signed chain behind a person: the only source of their device and KEM keys.
CREATE TABLE account_log (
    tenant   integer NOT NULL,
    account  integer NOT NULL,
    position integer NOT NULL CHECK (position >= 0),
    -- As it was signed, byte for byte.
    entry    blob NOT NULL CHECK (length(entry) BETWEEN 1 AND 65536),
    PRIMARY KEY (tenant, account, position),
    FOREIGN KEY (tenant, account) REFERENCES accounts (tenant, account) ON DELETE CASCADE
) STRICT;

-- An account's keys, sealed under its password and its recovery key.
CREATE TABLE keybag (
    tenant     integer NOT NULL,
    account    integer NOT NULL,
    sealed     blob NOT NULL CHECK (length(sealed) BETWEEN 1 AND 4096),
    updated_at integer NOT NULL,
    PRIMARY KEY (tenant, account),
    FOREIGN KEY (tenant, account) REFERENCES accounts (tenant, account) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Devices that the account log certified, revoked ones included.
CREATE TABLE devices (
    tenant     integer NOT NULL,
    account    integer NOT NULL,
    -- The hash of the public key.
    device     blob NOT NULL CHECK (length(device) = 16),
    public_key blob NOT NULL CHECK (length(public_key) = 32),
    -- What the device is called: sealed, of one length.
    label      blob NOT NULL CHECK (length(label) BETWEEN 1 AND 1024),
    added_at   integer NOT NULL,
    last_seen  integer,
    revoked_at integer,
    PRIMARY KEY (tenant, account, device),
    FOREIGN KEY (tenant, account) REFERENCES accounts (tenant, account) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Sign-ins, live and ended. A refresh token is derived from the row and the master key; none is kept.
CREATE TABLE sessions (
    tenant             integer NOT NULL,
    session            blob NOT NULL CHECK (length(session) = 16),
    account            integer NOT NULL,
    -- Null for a session that is not bound to a device key.
    device             blob CHECK (length(device) = 16),
    -- 0 full, 1 recovery.
    scope              integer NOT NULL CHECK (scope BETWEEN 0 AND 1),
    app                text CHECK (length(CAST(app AS blob)) <= 1024),
    -- Random; with the master key it yields the refresh tokens of this session.
    refresh_seed       blob NOT NULL CHECK (length(refresh_seed) = 32),
    -- The generation of the token that is good now; a lower one was used before.
    refresh_generation integer NOT NULL CHECK (refresh_generation BETWEEN 0 AND 4294967295),
    rotated_at         integer NOT NULL,
    auth_time          integer NOT NULL,
    created_at         integer NOT NULL,
    idle_expires_at    integer NOT NULL,
    expires_at         integer NOT NULL,
    ended_at           integer,
    -- When the session ended, or will end by itself.
    over_at            integer NOT NULL,
    PRIMARY KEY (tenant, session),
    FOREIGN KEY (tenant, account) REFERENCES accounts (tenant, account) ON DELETE CASCADE,
    FOREIGN KEY (tenant, account, device) REFERENCES devices (tenant, account, device) ON DELETE CASCADE,
    CHECK (over_at = coalesce(ended_at, min(idle_expires_at, expires_at)))
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_of_account ON sessions (tenant, account);
CREATE INDEX sessions_to_sweep ON sessions (tenant, over_at);

-- Second factors: at most one of a kind that counts and one that waits to be confirmed.
CREATE TABLE second_factors (
    tenant     integer NOT NULL,
    account    integer NOT NULL,
    factor     integer NOT NULL,
    -- 0 TOTP, 1 WebAuthn.
    kind       integer NOT NULL CHECK (kind BETWEEN 0 AND 1),
    -- The TOTP secret or the WebAuthn credential, sealed under the master key.
    sealed     blob NOT NULL CHECK (length(sealed) BETWEEN 1 AND 65536),
    confirmed  integer NOT NULL CHECK (confirmed IN (0, 1)),
    -- The newest TOTP step that was used; it and those before cannot be used again.
    last_step  integer NOT NULL,
    created_at integer NOT NULL,
    PRIMARY KEY (tenant, account, factor),
    CONSTRAINT second_factors_kind UNIQUE (tenant, account, kind, confirmed),
    FOREIGN KEY (tenant, account) REFERENCES accounts (tenant, account) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Codes that stand in for a lost second factor, each once; as SHA-256.
CREATE TABLE recovery_codes (
    tenant    integer NOT NULL,
    account   integer NOT NULL,
    code_hash blob NOT NULL CHECK (length(code_hash) = 32),
    used_at   integer,
    PRIMARY KEY (tenant, account, code_hash),
    FOREIGN KEY (tenant, account) REFERENCES accounts (tenant, account) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Meetings of two devices of one account; what they say is sealed under a key the server does not have.
CREATE TABLE links (
    tenant     integer NOT NULL,
    channel    blob NOT NULL CHECK (length(channel) = 16),
    account    integer NOT NULL,
    -- From the device that is signed in.
    offer      blob NOT NULL CHECK (length(offer) BETWEEN 1 AND 8192),
    -- From the new device.
    request    blob CHECK (length(request) BETWEEN 1 AND 8192),
    -- From the device that is signed in, once it has certified the new one, which is then in device.
    answer     blob CHECK (length(answer) BETWEEN 1 AND 8192),
    device     blob CHECK (length(device) = 16),
    expires_at integer NOT NULL,
    PRIMARY KEY (tenant, channel),
    FOREIGN KEY (tenant, account) REFERENCES accounts (tenant, account) ON DELETE CASCADE,
    FOREIGN KEY (tenant, account, device) REFERENCES devices (tenant, account, device) ON DELETE CASCADE,
    CHECK ((answer IS NULL) = (device IS NULL) AND (request IS NOT NULL OR answer IS NULL))
) STRICT;
CREATE INDEX links_of_account ON links (tenant, account);
CREATE INDEX links_to_sweep ON links (tenant, expires_at);

-- What happened, append-only: triggers refuse to change it.
CREATE TABLE audit_log (
    tenant  integer NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    number  integer NOT NULL CHECK (number > 0),
    at      integer NOT NULL,
    -- The account's audit_subject; null where no account is meant.
    subject blob CHECK (length(subject) = 16),
    action  text NOT NULL CHECK (length(action) BETWEEN 1 AND 64),
    device  blob CHECK (length(device) = 16),
    detail  text CHECK (length(detail) <= 1024),
    -- SHA-256 of the previous chain, the number and the hash of the content.
    chain   blob NOT NULL CHECK (length(chain) = 32),
    PRIMARY KEY (tenant, number)
) STRICT;
CREATE INDEX audit_log_of_subject ON audit_log (tenant, subject, number);

-- The newest entry of each tenant's audit log: the row that orders writers, locked last.
CREATE TABLE audit_head (
    tenant integer PRIMARY KEY REFERENCES tenants (tenant) ON DELETE CASCADE,
    number integer NOT NULL CHECK (number > 0),
    chain  blob NOT NULL CHECK (length(chain) = 32)
) STRICT, WITHOUT ROWID;

-- What may never change ---------------------------------------------------------------------------------------------

CREATE TRIGGER audit_log_stays BEFORE UPDATE ON audit_log
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

-- A tenant that goes takes its audit log along; nothing else does.
CREATE TRIGGER audit_log_is_kept BEFORE DELETE ON audit_log
WHEN EXISTS (SELECT 1 FROM tenants WHERE tenant = OLD.tenant)
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
