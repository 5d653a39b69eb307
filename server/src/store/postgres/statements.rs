//! The statements of the log's hot paths, each prepared once for a connection.
//!
//! Every one takes arrays and answers for many vaults at once. Arguments that belong together stand at the same place
//! of each array; `i` says whose they are.
//!
//! A plan is made once, perhaps while the tables are empty and any plan is as good as another: it might begin with all
//! rows of the tenants, which row-level security offers as a condition, too. `LATERAL (... OFFSET 0)` leaves the
//! planner no choice but to look rows up one by one.

use tokio_postgres::{Client, Error, Statement};

/// Names the tenants whose rows are seen, until the transaction ends; and takes on the role in the same breath: behind
/// a pooler that lends connections by the transaction, what a session once said is not true of the next one.
const NAME_TENANTS: &str = "SELECT set_config('selkie.tenants', $1, true)";
const NAME_TENANTS_AND_ROLE: &str = "SELECT set_config('selkie.tenants', $1, true), set_config('role', $2::text, true)";

/// Moves the heads that are still where they were, and remembers which for the statements that follow. The rows are
/// taken in the order in which they are asked for, which is that of the vaults, so that two servers never wait for each
/// other.
const MOVE_HEADS: &str = "
    WITH held AS MATERIALIZED (
        SELECT a.* FROM unnest($1::int4[], $2::int8[], $3::int4[], $4::int8[], $5::bytea[], $6::int8[], $7::bytea[],
            $8::int8[]) AS a (i, tenant, vault, before_n, before_h, n, h, added)
        CROSS JOIN LATERAL (
            SELECT FROM vaults v WHERE v.tenant = a.tenant AND v.vault = a.vault FOR NO KEY UPDATE
        ) v
    ), moved AS (
        UPDATE vaults v SET n = a.n, h = a.h, bytes = v.bytes + a.added
        FROM held a
        WHERE v.tenant = a.tenant AND v.vault = a.vault AND v.n = a.before_n AND v.h = a.before_h
        RETURNING a.i
    ), taken AS MATERIALIZED (SELECT coalesce(array_agg(i), '{}') AS list FROM moved)
    SELECT list, set_config('selkie.taken', list::text, true) FROM taken";

const INSERT_ENTRIES: &str = "
    INSERT INTO vault_entries (tenant, vault, n, kind, dev_seq, received_at, h, hash, device, frame)
    SELECT tenant, vault, n, kind, dev_seq, received_at, h, hash, device, frame
    FROM unnest($1::int4[], $2::int8[], $3::int4[], $4::int8[], $5::int2[], $6::int8[], $7::int8[], $8::bytea[],
        $9::bytea[], $10::bytea[], $11::bytea[])
        AS e (i, tenant, vault, n, kind, dev_seq, received_at, h, hash, device, frame)
    WHERE i = ANY ((SELECT current_setting('selkie.taken')::int4[])::int4[])";

const INSERT_CHANGES: &str = "
    INSERT INTO vault_changes (tenant, vault, record, place, change, whole, superseded_at, unheaded_at)
    SELECT tenant, vault, record, place, change, whole, superseded_at, unheaded_at
    FROM unnest($1::int4[], $2::int8[], $3::int4[], $4::bytea[], $5::int8[], $6::bytea[], $7::bool[], $8::int8[],
        $9::int8[]) AS c (i, tenant, vault, record, place, change, whole, superseded_at, unheaded_at)
    WHERE i = ANY ((SELECT current_setting('selkie.taken')::int4[])::int4[])";

/// The rows are found first and changed where they are: nobody else changes them while the vault's row is held.
const END_CHANGES: &str = "
    UPDATE vault_changes c
    SET superseded_at = coalesce(c.superseded_at, e.superseded_at), unheaded_at = coalesce(c.unheaded_at, e.unheaded_at)
    FROM (
        SELECT c.at, e.superseded_at, e.unheaded_at
        FROM unnest($1::int4[], $2::int8[], $3::int4[], $4::bytea[], $5::bytea[], $6::int8[], $7::int8[])
            AS e (i, tenant, vault, record, change, superseded_at, unheaded_at)
        CROSS JOIN LATERAL (
            SELECT c.ctid AS at FROM vault_changes c
            WHERE c.tenant = e.tenant AND c.vault = e.vault AND c.record = e.record AND c.change = e.change OFFSET 0
        ) c
        WHERE e.i = ANY ((SELECT current_setting('selkie.taken')::int4[])::int4[]) OFFSET 0
    ) e
    WHERE c.ctid = e.at";

const KEEP_STATES: &str = "
    INSERT INTO vault_states (tenant, vault, n, state)
    SELECT tenant, vault, n, state
    FROM unnest($1::int4[], $2::int8[], $3::int4[], $4::int8[], $5::bytea[]) AS s (i, tenant, vault, n, state)
    WHERE i = ANY ((SELECT current_setting('selkie.taken')::int4[])::int4[])
    ON CONFLICT (tenant, vault) DO UPDATE SET n = excluded.n, state = excluded.state";

/// A standby replays what another database has done, and its transactions say nothing of that.
const SNAPSHOT: &str = "SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_snapshot()::text END";

/// Everything a request must know of who sends it.
const SESSIONS: &str = "
    SELECT q.i, a.uuid, a.uid, a.suspended, a.delete_after, a.role, t.suspended, p.limit_factor,
        s.session, s.account, s.device, d.public_key, d.revoked_at, s.scope, s.app,
        s.refresh_seed, s.refresh_generation, s.rotated_at,
        s.auth_time, s.created_at, s.idle_expires_at, s.expires_at, s.ended_at
    FROM unnest($1::int4[], $2::int8[], $3::bytea[]) AS q (i, tenant, session)
    CROSS JOIN LATERAL (
        SELECT s.* FROM sessions s WHERE s.tenant = q.tenant AND s.session = q.session OFFSET 0
    ) s
    CROSS JOIN LATERAL (
        SELECT a.* FROM accounts a WHERE a.tenant = s.tenant AND a.account = s.account OFFSET 0
    ) a
    CROSS JOIN LATERAL (SELECT t.suspended, t.plan FROM tenants t WHERE t.tenant = s.tenant OFFSET 0) t
    CROSS JOIN LATERAL (SELECT p.limit_factor FROM plans p WHERE p.plan = t.plan OFFSET 0) p
    LEFT JOIN LATERAL (
        SELECT d.public_key, d.revoked_at FROM devices d
        WHERE d.tenant = s.tenant AND d.account = s.account AND d.device = s.device OFFSET 0
    ) d ON true";

const VAULTS_OF: &str = "
    SELECT q.i, v.vault, v.vid, v.app, v.n, v.h
    FROM unnest($1::int4[], $2::int8[], $3::int8[]) AS q (i, tenant, account)
    CROSS JOIN LATERAL (
        SELECT m.tenant, m.vault FROM vault_members m
        WHERE m.tenant = q.tenant AND m.account = q.account AND m.present OFFSET 0
    ) m
    CROSS JOIN LATERAL (
        SELECT v.vault, v.vid, v.app, v.n, v.h FROM vaults v
        WHERE v.tenant = m.tenant AND v.vault = m.vault OFFSET 0
    ) v ORDER BY q.i, v.vault";

const POSITIONS: &str = "
    SELECT coalesce(v.n, 0) FROM unnest($1::int8[], $2::int4[]) WITH ORDINALITY AS p (tenant, vault, i)
    LEFT JOIN LATERAL (
        SELECT v.n FROM vaults v WHERE v.tenant = p.tenant AND v.vault = p.vault OFFSET 0
    ) v ON true ORDER BY p.i";

/// Heads; and for who does not know it the newest state, with the entries after it. Of those frames only the beginning
/// is read, which `STORAGE EXTERNAL` makes possible.
const STANDINGS: &str = "
    SELECT q.i, v.n, v.h, v.vid, s.state, after.entries
    FROM unnest($1::int4[], $2::int8[], $3::int4[], $4::int8[]) AS q (i, tenant, vault, known)
    CROSS JOIN LATERAL (
        SELECT v.tenant, v.vault, v.n, v.h, v.vid FROM vaults v
        WHERE v.tenant = q.tenant AND v.vault = q.vault OFFSET 0
    ) v
    LEFT JOIN LATERAL (
        SELECT s.tenant, s.vault, s.n, s.state FROM vault_states s
        WHERE s.tenant = v.tenant AND s.vault = v.vault AND v.n IS DISTINCT FROM q.known OFFSET 0
    ) s ON true
    LEFT JOIN LATERAL (
        SELECT array_agg(substr(e.frame, 5, (get_byte(l.l, 0) << 24) | (get_byte(l.l, 1) << 16)
            | (get_byte(l.l, 2) << 8) | get_byte(l.l, 3)) ORDER BY e.n) AS entries
        FROM (
            SELECT e.n, e.frame FROM vault_entries e
            WHERE e.tenant = s.tenant AND e.vault = s.vault AND e.n > s.n OFFSET 0
        ) e CROSS JOIN LATERAL (SELECT substr(e.frame, 1, 4) AS l) l
    ) after ON s.n < v.n";

/// What is live of a record: everything, or the heads, the whole write and whatever is named, one after the other.
const LIVE: &str = "
    SELECT q.i, c.record, c.place, c.change, c.whole, c.unheaded_at IS NULL
    FROM unnest($1::int4[], $2::int8[], $3::int4[], $4::bytea[], $5::bool[], $6::bytea[])
        AS q (i, tenant, vault, record, everything, named)
    CROSS JOIN LATERAL (
        SELECT c.record, c.place, c.change, c.whole, c.unheaded_at FROM vault_changes c
        WHERE c.tenant = q.tenant AND c.vault = q.vault AND c.record = q.record AND c.superseded_at IS NULL
            AND (q.everything OR c.unheaded_at IS NULL OR c.whole OR position(c.change IN q.named) > 0) OFFSET 0
    ) c";

const CHAIN: &str = "
    SELECT q.i, e.n, e.h FROM unnest($1::int4[], $2::int8[], $3::int4[], $4::int8[]) AS q (i, tenant, vault, n)
    CROSS JOIN LATERAL (
        SELECT e.n, e.h FROM vault_entries e
        WHERE e.tenant = q.tenant AND e.vault = q.vault AND e.n = q.n OFFSET 0
    ) e";

const HEAD: &str = "SELECT n, h FROM vaults WHERE tenant = $1 AND vault = $2";

/// At most so many, and no more bytes than that, except that the first one always comes.
const PAGE: &str = "
    SELECT n, frame FROM (
        SELECT n, frame, sum(octet_length(frame)) OVER (ORDER BY n) AS total, octet_length(frame) AS length
        FROM (
            SELECT n, frame FROM vault_entries WHERE tenant = $1 AND vault = $2 AND n > $3 ORDER BY n LIMIT $4
        ) e
    ) e WHERE total <= $5 OR total = length ORDER BY n";

pub(super) struct Statements {
    pub(super) name_tenants: Statement,
    pub(super) move_heads: Statement,
    pub(super) insert_entries: Statement,
    pub(super) insert_changes: Statement,
    pub(super) end_changes: Statement,
    pub(super) keep_states: Statement,
    pub(super) snapshot: Statement,
    pub(super) sessions: Statement,
    pub(super) vaults_of: Statement,
    pub(super) positions: Statement,
    pub(super) standings: Statement,
    pub(super) live: Statement,
    pub(super) chain: Statement,
    pub(super) head: Statement,
    pub(super) page: Statement,
}

/// What would go over whole tables, or keep them in memory.
const PLAN_FOR_MANY: &str = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; \
    SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_bitmapscan = off; SET enable_material = off; \
    SET jit = off";

impl Statements {
    pub(super) async fn prepare(client: &Client, with_role: bool) -> Result<Self, Error> {
        client.batch_execute(PLAN_FOR_MANY).await?;
        let name_tenants = if with_role { NAME_TENANTS_AND_ROLE } else { NAME_TENANTS };
        Ok(Statements {
            name_tenants: client.prepare(name_tenants).await?,
            move_heads: client.prepare(MOVE_HEADS).await?,
            insert_entries: client.prepare(INSERT_ENTRIES).await?,
            insert_changes: client.prepare(INSERT_CHANGES).await?,
            end_changes: client.prepare(END_CHANGES).await?,
            keep_states: client.prepare(KEEP_STATES).await?,
            snapshot: client.prepare(SNAPSHOT).await?,
            sessions: client.prepare(SESSIONS).await?,
            vaults_of: client.prepare(VAULTS_OF).await?,
            positions: client.prepare(POSITIONS).await?,
            standings: client.prepare(STANDINGS).await?,
            live: client.prepare(LIVE).await?,
            chain: client.prepare(CHAIN).await?,
            head: client.prepare(HEAD).await?,
            page: client.prepare(PAGE).await?,
        })
    }
}
