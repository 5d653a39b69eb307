-- Vaults: their logs, what is live in them, their keys and people.
--
-- The rules of the first migration hold here, too. Rows with a frame have it last: what is before it can be read
-- without it.

-- What all vaults of the tenant may take.
ALTER TABLE plans ADD COLUMN max_bytes integer CHECK (max_bytes >= 0);
-- Vaults that one account may have made.
ALTER TABLE plans ADD COLUMN max_vaults integer CHECK (max_vaults >= 0);
-- How long payloads stay that were superseded; null keeps them for ever.
ALTER TABLE plans ADD COLUMN history_days integer DEFAULT 30 CHECK (history_days >= 0);
UPDATE plans SET max_bytes = 1073741824, max_vaults = 20 WHERE plan = 'free';

-- The newest vault number; numbers are never used twice.
ALTER TABLE tenants ADD COLUMN last_vault integer NOT NULL DEFAULT 0 CHECK (last_vault >= 0);

-- The vaults and where their logs stand.
CREATE TABLE vaults (
    tenant     integer NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    vault      integer NOT NULL CHECK (vault > 0),
    -- The hash of the first entry.
    vid        blob NOT NULL CHECK (length(vid) = 32),
    -- As the first entry says it.
    app        text NOT NULL CHECK (length(CAST(app AS blob)) BETWEEN 1 AND 1024),
    -- The account that counts it against its limit; null once that is gone. No foreign key: the vault may stay.
    made_by    integer,
    created_at integer NOT NULL,
    -- The newest position of the log.
    n          integer NOT NULL CHECK (n > 0),
    -- The chain value there.
    h          blob NOT NULL CHECK (length(h) = 32),
    -- All frames as they came. What was dropped of them since is in vault_upkeep.
    bytes      integer NOT NULL CHECK (bytes >= 0),
    -- The newest CHECKPOINT entry; 0 for none.
    checkpoint integer NOT NULL DEFAULT 0 CHECK (checkpoint >= 0),
    -- The newest checkpoint that can be begun from; 0 for none.
    prepared   integer NOT NULL DEFAULT 0 CHECK (prepared >= 0),
    PRIMARY KEY (tenant, vault),
    CONSTRAINT vaults_vid UNIQUE (tenant, vid)
) STRICT, WITHOUT ROWID;
CREATE INDEX vaults_of_maker ON vaults (tenant, made_by) WHERE made_by IS NOT NULL;
CREATE INDEX vaults_to_prepare ON vaults (tenant, vault) WHERE checkpoint > prepared;

-- How far the dropping of superseded payloads has come.
CREATE TABLE vault_upkeep (
    tenant  integer NOT NULL,
    vault   integer NOT NULL,
    -- What entries up to here superseded is dropped.
    walked  integer NOT NULL DEFAULT 0 CHECK (walked >= 0),
    -- Except what was live at this position, for which it was kept; from there the walk begins again when it need not.
    kept_at integer CHECK (kept_at >= 0),
    -- Bytes that were dropped.
    freed   integer NOT NULL DEFAULT 0 CHECK (freed >= 0),
    PRIMARY KEY (tenant, vault),
    FOREIGN KEY (tenant, vault) REFERENCES vaults (tenant, vault) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- By what the next entry is judged, as of some position: the entries after it bring it up to the head.
CREATE TABLE vault_states (
    tenant integer NOT NULL,
    vault  integer NOT NULL,
    -- At the latest CONTROL entry or after it.
    n      integer NOT NULL CHECK (n > 0),
    state  blob NOT NULL CHECK (length(state) > 0),
    PRIMARY KEY (tenant, vault),
    FOREIGN KEY (tenant, vault) REFERENCES vaults (tenant, vault) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- The logs: for every position one entry with what travels beside it.
CREATE TABLE vault_entries (
    tenant      integer NOT NULL,
    vault       integer NOT NULL,
    n           integer NOT NULL CHECK (n > 0),
    -- 1 CONTROL, 2 CHECKPOINT, 0 any other.
    kind        integer NOT NULL CHECK (kind BETWEEN 0 AND 2),
    -- Counts the entries of the device in this vault.
    dev_seq     integer NOT NULL,
    received_at integer NOT NULL,
    -- The chain value.
    h           blob NOT NULL CHECK (length(h) = 32),
    -- The entry's hash.
    hash        blob NOT NULL CHECK (length(hash) = 32),
    device      blob NOT NULL CHECK (length(device) = 16),
    -- As it was pushed, byte for byte, until payloads that were superseded are dropped.
    frame       blob NOT NULL CHECK (length(frame) > 4),
    PRIMARY KEY (tenant, vault, n),
    FOREIGN KEY (tenant, vault) REFERENCES vaults (tenant, vault) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX vault_entries_of_kind ON vault_entries (tenant, vault, kind, n) WHERE kind > 0;

-- Changes of records that are live, or were until lately. On purpose no foreign key: a push has up to 256 of them, and
-- moves its vault's row. They go with the vault by a trigger.
CREATE TABLE vault_changes (
    tenant        integer NOT NULL,
    vault         integer NOT NULL,
    record        blob NOT NULL CHECK (length(record) = 16),
    -- The position of the entry times 256, and the place of the change in it.
    place         integer NOT NULL CHECK (place >= 256),
    change        blob NOT NULL CHECK (length(change) = 32),
    -- The record's complete state, not a difference.
    whole         integer NOT NULL CHECK (whole IN (0, 1)),
    -- The entry from which on it is not live; null while it is.
    superseded_at integer,
    -- The entry from which on it is no head of its record; null while it is.
    unheaded_at   integer,
    PRIMARY KEY (tenant, vault, record, place)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER vault_changes_go AFTER DELETE ON vaults
BEGIN
    DELETE FROM vault_changes WHERE tenant = OLD.tenant AND vault = OLD.vault;
END;

-- Who is, or was, a member of which vault.
CREATE TABLE vault_members (
    tenant  integer NOT NULL,
    account integer NOT NULL,
    vault   integer NOT NULL,
    -- False for who was removed: what they did stays in the log, and is verified with their account log.
    present integer NOT NULL CHECK (present IN (0, 1)),
    PRIMARY KEY (tenant, account, vault),
    FOREIGN KEY (tenant, account) REFERENCES accounts (tenant, account) ON DELETE CASCADE,
    FOREIGN KEY (tenant, vault) REFERENCES vaults (tenant, vault) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX vault_members_of_vault ON vault_members (tenant, vault, account);

-- Epoch keys, each sealed to one member.
CREATE TABLE vault_wraps (
    tenant     integer NOT NULL,
    vault      integer NOT NULL,
    account    integer NOT NULL,
    epoch      integer NOT NULL CHECK (epoch BETWEEN 0 AND 4294967295),
    -- Of the member's key that it is sealed to.
    generation integer NOT NULL CHECK (generation BETWEEN 0 AND 4294967295),
    sealed     blob NOT NULL CHECK (length(sealed) BETWEEN 1 AND 8192),
    PRIMARY KEY (tenant, vault, account, epoch, generation),
    FOREIGN KEY (tenant, account) REFERENCES accounts (tenant, account) ON DELETE CASCADE,
    FOREIGN KEY (tenant, vault) REFERENCES vaults (tenant, vault) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX vault_wraps_of_account ON vault_wraps (tenant, account);

-- Checkpoints that can be begun from: their pages are in the blob store.
CREATE TABLE vault_checkpoints (
    tenant      integer NOT NULL,
    vault       integer NOT NULL,
    -- Where the CHECKPOINT entry stands.
    n           integer NOT NULL CHECK (n > 0),
    page_hashes blob NOT NULL CHECK (length(page_hashes) % 32 = 0),
    PRIMARY KEY (tenant, vault, n),
    FOREIGN KEY (tenant, vault) REFERENCES vaults (tenant, vault) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Account logs of people whose account is gone, while a vault they were in stays: their entries there are verified with
-- nothing else. Public keys and hashes, and no link to what the account was called.
CREATE TABLE departed_logs (
    tenant   integer NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    uid      blob NOT NULL CHECK (length(uid) = 32),
    position integer NOT NULL CHECK (position >= 0),
    entry    blob NOT NULL CHECK (length(entry) BETWEEN 1 AND 65536),
    PRIMARY KEY (tenant, uid, position)
) STRICT, WITHOUT ROWID;

-- For which vaults the log of somebody who is gone is kept.
CREATE TABLE departed_from (
    tenant integer NOT NULL,
    vault  integer NOT NULL,
    uid    blob NOT NULL CHECK (length(uid) = 32),
    PRIMARY KEY (tenant, vault, uid),
    FOREIGN KEY (tenant, vault) REFERENCES vaults (tenant, vault) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX departed_from_by ON departed_from (tenant, uid);
