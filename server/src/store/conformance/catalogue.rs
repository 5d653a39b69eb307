//! What the schemas promise, read back from the databases' own catalogues: every table of a tenant has the tenant
//! first in its keys and indexes, goes with its tenant and its account, and on PostgreSQL is behind row-level security.
//! And every column is in `schema.rs`, which the list of what the server learns is held to.

use super::scribe::vault_with_everything;
use super::*;
use crate::store::*;
use diesel::sql_types::{BigInt, Text};
use diesel::{Connection as _, QueryableByName, RunQueryDsl as _, SqliteConnection};
use std::collections::BTreeSet;

/// What a tenant owns. A new table goes here or into [`SERVER_TABLES`]; the tests below hold it to what that means.
pub(super) const TENANT_TABLES: &[&str] = &[
    "account_log",
    "accounts",
    "audit_head",
    "audit_log",
    "credentials",
    "departed_from",
    "departed_logs",
    "devices",
    "failures",
    "invitations",
    "keybag",
    "links",
    "login_state",
    "recovery_codes",
    "second_factors",
    "sessions",
    "vault_changes",
    "vault_checkpoints",
    "vault_entries",
    "vault_members",
    "vault_states",
    "vault_upkeep",
    "vault_wraps",
    "vaults",
];

const SERVER_TABLES: &[&str] =
    &["__diesel_schema_migrations", "opaque_setup", "plans", "server_meta", "signing_keys", "tenants"];

/// Tables with an account whose rows nevertheless do not hang on it: the schema says why.
const NOT_TIED_TO_THE_ACCOUNT: &[&str] = &["failures", "login_state"];

/// Tables with a vault whose rows go with it by a trigger: the schema says why.
const TIED_TO_THE_VAULT_BY_A_TRIGGER: &[&str] = &["vault_changes"];

/// A connection as the owner of the database.
pub(super) async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn strings(client: &tokio_postgres::Client, sql: &str) -> BTreeSet<String> {
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Every column that `schema.rs` knows, as `table.column`; with a question mark where it may be null.
fn columns_of_schema() -> BTreeSet<String> {
    let columns: BTreeSet<String> = include_str!("../schema.rs")
        .split("diesel::table! {")
        .skip(1)
        .flat_map(|block| {
            let table = block.trim_start().split(' ').next().unwrap_or_default();
            block.lines().filter_map(|line| line.split_once(" -> ")).map(move |(column, kind)| {
                format!("{table}.{}{}", column.trim(), if kind.starts_with("Nullable") { "?" } else { "" })
            })
        })
        .collect();
    assert!(columns.len() > 150, "the schema is read wrongly: {columns:?}");
    columns
}

fn expect_columns_of_schema(found: &BTreeSet<String>) {
    let written = columns_of_schema();
    assert_eq!(found - &written, set(&[]), "the database has these, and schema.rs has not");
    assert_eq!(&written - found, set(&[]), "schema.rs has these, and the database has not");
}

#[tokio::test]
async fn on_postgres_every_column_is_one_of_the_schema() {
    let house = House::on_postgres().await;
    let client = connect(&house.url).await;
    let columns = strings(
        &client,
        "SELECT table_name::text || '.' || column_name::text || CASE is_nullable WHEN 'YES' THEN '?' ELSE '' END
         FROM information_schema.columns
         WHERE table_schema = 'public' AND table_name <> '__diesel_schema_migrations'",
    )
    .await;
    expect_columns_of_schema(&columns);
}

#[tokio::test]
async fn on_postgres_every_table_is_known_and_explained() {
    let house = House::on_postgres().await;
    let client = connect(&house.url).await;
    let tables = strings(&client, "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'").await;
    assert_eq!(tables, &set(TENANT_TABLES) | &set(SERVER_TABLES));
    let unexplained = strings(
        &client,
        "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
         AND obj_description(oid, 'pg_class') IS NULL",
    )
    .await;
    assert_eq!(unexplained, set(&["__diesel_schema_migrations"]));
    let with_tenant = strings(
        &client,
        "SELECT table_name::text FROM information_schema.columns
         WHERE table_schema = 'public' AND column_name = 'tenant' AND table_name <> 'tenants'",
    )
    .await;
    assert_eq!(with_tenant, set(TENANT_TABLES));
}

#[tokio::test]
async fn on_postgres_the_tenant_comes_first_in_every_key_and_index() {
    let house = House::on_postgres().await;
    let client = connect(&house.url).await;
    // Primary keys, unique constraints and plain indexes are all indexes.
    let otherwise = strings(
        &client,
        "SELECT t.relname || '.' || i.relname FROM pg_index x
         JOIN pg_class t ON t.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid
         WHERE t.relnamespace = 'public'::regnamespace AND t.relname = ANY (
            SELECT table_name FROM information_schema.columns WHERE column_name = 'tenant' AND table_name <> 'tenants')
         AND NOT EXISTS (SELECT FROM pg_attribute a
            WHERE a.attrelid = t.oid AND a.attnum = x.indkey[0] AND a.attname = 'tenant')",
    )
    .await;
    assert_eq!(otherwise, set(&[]));
    let keyed = strings(
        &client,
        "SELECT t.relname::text FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
         JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = c.conkey[1]
         WHERE c.contype = 'p' AND a.attname = 'tenant' AND t.relname <> 'tenants'",
    )
    .await;
    assert_eq!(keyed, set(TENANT_TABLES));
}

#[tokio::test]
async fn on_postgres_rows_go_with_their_tenant_and_their_account() {
    let house = House::on_postgres().await;
    let client = connect(&house.url).await;
    // Each foreign key as: table, columns, referenced table, deletion.
    let keys: Vec<(String, Vec<String>, String, String)> = client
        .query(
            "SELECT t.relname::text, ARRAY(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY k(n, o)
                JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.n ORDER BY k.o),
                r.relname::text, c.confdeltype::text
             FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid JOIN pg_class r ON r.oid = c.confrelid
             WHERE c.contype = 'f' AND t.relnamespace = 'public'::regnamespace",
            &[],
        )
        .await
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
        .collect();
    let with_account = strings(
        &client,
        "SELECT table_name::text FROM information_schema.columns
         WHERE table_schema = 'public' AND column_name = 'account' AND table_name <> 'accounts'",
    )
    .await;
    let keys = keys
        .into_iter()
        .map(|(table, columns, referenced, deletion)| ForeignKey {
            table,
            columns,
            referenced,
            cascades: deletion == "c",
        })
        .collect();
    let with_vault = strings(
        &client,
        "SELECT table_name::text FROM information_schema.columns
         WHERE table_schema = 'public' AND column_name = 'vault' AND table_name <> 'vaults'",
    )
    .await;
    expect_rows_to_follow(keys, &with_account, &with_vault);
    let triggers = strings(&client, "SELECT tgname::text FROM pg_trigger WHERE NOT tgisinternal").await;
    assert_eq!(triggers, set(&["vault_changes_go"]));
}

#[tokio::test]
async fn on_postgres_row_level_security_is_forced_for_every_command() {
    let house = House::on_postgres().await;
    let client = connect(&house.url).await;
    let forced = "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
        AND relrowsecurity AND relforcerowsecurity";
    assert_eq!(strings(&client, forced).await, set(TENANT_TABLES));
    const LAW: &str = "(tenant = ANY ((NULLIF(current_setting('selkie.tenants'::text, true), ''::text))::bigint[]))";
    // The same, read once for a statement and not for every row that is written.
    const LAW_READ_ONCE: &str = "(tenant = ANY (( SELECT (NULLIF(current_setting('selkie.tenants'::text, true), \
        ''::text))::bigint[] AS \"nullif\")::bigint[]))";
    let sql = "SELECT t.relname::text, p.polcmd::text, pg_get_expr(p.polqual, p.polrelid),
            pg_get_expr(p.polwithcheck, p.polrelid)
         FROM pg_policy p JOIN pg_class t ON t.oid = p.polrelid WHERE p.polpermissive AND p.polroles = '{0}'";
    let holds = |command: &str, seen: Option<&str>, written: Option<&str>| {
        let (reads, writes) = (command != "a", ["a", "w"].contains(&command));
        seen == reads.then_some(LAW)
            && written.is_some() == writes
            && written.is_none_or(|w| [LAW, LAW_READ_ONCE].contains(&w))
    };
    let policies: BTreeSet<(String, String)> = client
        .query(sql, &[])
        .await
        .unwrap()
        .iter()
        .filter(|row| holds(row.get(1), row.get(2), row.get(3)))
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    let expected = TENANT_TABLES.iter().flat_map(|table| {
        // To read, append, change, delete; without a policy, nobody.
        let commands: &[&str] = if *table == "audit_log" { &["r", "a"] } else { &["r", "a", "w", "d"] };
        commands.iter().map(|command| ((*table).to_owned(), (*command).to_owned()))
    });
    assert_eq!(policies, expected.collect());
    let all = client.query_one("SELECT count(*) FROM pg_policy", &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(all as usize, policies.len(), "and no other policy opens what these close");
}

struct ForeignKey {
    table: String,
    columns: Vec<String>,
    referenced: String,
    cascades: bool,
}

/// Every table of a tenant hangs on its tenant, directly or by its account; every table with an account hangs on that.
/// And every table with a vault on that.
fn expect_rows_to_follow(keys: Vec<ForeignKey>, with_account: &BTreeSet<String>, with_vault: &BTreeSet<String>) {
    let tenant_tables = set(TENANT_TABLES);
    for key in keys.iter().filter(|key| tenant_tables.contains(&key.table)) {
        let ForeignKey { table, columns, referenced, cascades } = key;
        if SERVER_TABLES.contains(&referenced.as_str()) && referenced != "tenants" {
            continue;
        }
        assert_eq!(columns[0], "tenant", "{table} refers to {referenced} within its tenant");
        assert!(cascades, "{table} goes with {referenced}");
    }
    let hang_on = |parent: &str, columns: &[&str]| -> BTreeSet<String> {
        let children = keys.iter().filter(|key| key.referenced == parent && key.columns == columns);
        children.map(|key| key.table.clone()).collect()
    };
    let of_account = hang_on("accounts", &["tenant", "account"]);
    assert_eq!(of_account, with_account - &set(NOT_TIED_TO_THE_ACCOUNT));
    let of_tenant: BTreeSet<String> = hang_on("tenants", &["tenant"]).intersection(&tenant_tables).cloned().collect();
    let by_trigger = set(TIED_TO_THE_VAULT_BY_A_TRIGGER);
    let of_vault = &hang_on("vaults", &["tenant", "vault"]) | &by_trigger;
    assert_eq!(&of_vault, with_vault);
    assert_eq!(&(&of_account | &of_tenant) | &of_vault, tenant_tables);
}

// ---------------------------------------------------------------------------------------------------------------------

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Text)]
    found: String,
}

fn connect_sqlite(house: &House) -> SqliteConnection {
    SqliteConnection::establish(house.url.strip_prefix("sqlite:").unwrap()).unwrap()
}

fn found(conn: &mut SqliteConnection, sql: &str) -> Vec<String> {
    diesel::sql_query(sql).load::<Found>(conn).unwrap().into_iter().map(|row| row.found).collect()
}

#[tokio::test]
async fn on_sqlite_every_table_is_known_and_strict() {
    let house = House::on_sqlite().await;
    let conn = &mut connect_sqlite(&house);
    let tables =
        found(conn, "SELECT name AS found FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'");
    assert_eq!(tables.into_iter().collect::<BTreeSet<_>>(), &set(TENANT_TABLES) | &set(SERVER_TABLES));
    let loose = found(
        conn,
        "SELECT name AS found FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND strict = 0
         AND name NOT LIKE 'sqlite_%'",
    );
    assert_eq!(loose, ["__diesel_schema_migrations"]);
    let with_tenant = found(
        conn,
        "SELECT t.name AS found FROM sqlite_master t, pragma_table_info(t.name) c
         WHERE t.type = 'table' AND c.name = 'tenant' AND t.name <> 'tenants'",
    );
    assert_eq!(with_tenant.into_iter().collect::<BTreeSet<_>>(), set(TENANT_TABLES));
}

#[tokio::test]
async fn on_sqlite_every_column_is_one_of_the_schema() {
    let house = House::on_sqlite().await;
    let conn = &mut connect_sqlite(&house);
    // Generated columns, too, and a key is never null, whether it says so or not.
    let columns = found(
        conn,
        "SELECT t.name || '.' || c.name || iif(c.\"notnull\" = 1 OR c.pk > 0, '', '?') AS found
         FROM sqlite_master t, pragma_table_xinfo(t.name) c
         WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' AND t.name <> '__diesel_schema_migrations'",
    );
    expect_columns_of_schema(&columns.into_iter().collect());
}

#[tokio::test]
async fn on_sqlite_the_tenant_comes_first_in_every_key_and_index() {
    let house = House::on_sqlite().await;
    let conn = &mut connect_sqlite(&house);
    for table in TENANT_TABLES {
        let first = found(conn, &format!("SELECT name AS found FROM pragma_table_info('{table}') WHERE pk = 1"));
        assert_eq!(first, ["tenant"], "{table}");
        let firsts = format!(
            "SELECT i.name || ' ' || c.name AS found FROM pragma_index_list('{table}') i, pragma_index_info(i.name) c
             WHERE c.seqno = 0 AND c.name <> 'tenant'"
        );
        assert_eq!(found(conn, &firsts), [""; 0], "{table}");
    }
}

#[tokio::test]
async fn on_sqlite_rows_go_with_their_tenant_and_their_account() {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        child: String,
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = Text)]
        referenced: String,
        #[diesel(sql_type = Text)]
        column: String,
        #[diesel(sql_type = Text)]
        deletion: String,
    }
    let house = House::on_sqlite().await;
    let conn = &mut connect_sqlite(&house);
    let rows: Vec<Row> = diesel::sql_query(
        "SELECT t.name AS child, f.id, f.\"table\" AS referenced, f.\"from\" AS \"column\", f.on_delete AS deletion
         FROM sqlite_master t, pragma_foreign_key_list(t.name) f WHERE t.type = 'table' ORDER BY t.name, f.id, f.seq",
    )
    .load(conn)
    .unwrap();
    let mut keys: Vec<(i64, ForeignKey)> = Vec::new();
    for row in rows {
        match keys.last_mut() {
            Some((id, key)) if *id == row.id && key.table == row.child => key.columns.push(row.column),
            _ => {
                let Row { child: table, id, referenced, column, deletion } = row;
                let key = ForeignKey { table, columns: vec![column], referenced, cascades: deletion == "CASCADE" };
                keys.push((id, key));
            }
        }
    }
    let with_account = found(
        conn,
        "SELECT t.name AS found FROM sqlite_master t, pragma_table_info(t.name) c
         WHERE t.type = 'table' AND c.name = 'account' AND t.name <> 'accounts'",
    );
    let with_vault = found(
        conn,
        "SELECT t.name AS found FROM sqlite_master t, pragma_table_info(t.name) c
         WHERE t.type = 'table' AND c.name = 'vault' AND t.name <> 'vaults'",
    );
    let keys = keys.into_iter().map(|(_, key)| key).collect();
    expect_rows_to_follow(keys, &with_account.into_iter().collect(), &with_vault.into_iter().collect());
}

#[tokio::test]
async fn on_sqlite_nobody_may_rewrite_the_audit_log() {
    let house = House::on_sqlite().await;
    house.record(house.home, None, audit("happened")).await.unwrap();
    let conn = &mut connect_sqlite(&house);
    for sql in ["UPDATE audit_log SET at = 0", "DELETE FROM audit_log"] {
        let error = diesel::sql_query(sql).execute(conn).unwrap_err();
        assert!(error.to_string().contains("append-only"), "{error}");
    }
}

// ---------------------------------------------------------------------------------------------------------------------

on_both![a_deleted_account_leaves_no_row_in_any_table];

/// Asked of every table there is, not of those that somebody thought of.
async fn a_deleted_account_leaves_no_row_in_any_table(house: House) {
    house.register(house.home, registration(2)).await.unwrap();
    let before = rows_of_tables(&house).await;
    let account = house.register(house.home, registration(1)).await.unwrap();
    house.open_session(house.home, session(1, account, Some(device_id(1))), audit("signed_in")).await.unwrap();
    let factor = house.begin_factor(house.home, account, FactorKind::Totp, vec![1], NOW).await.unwrap();
    house.confirm_factor(house.home, account, factor, 1, vec![[1; 32]], audit("totp_on")).await.unwrap();
    house.begin_factor(house.home, account, FactorKind::Webauthn, vec![1], NOW).await.unwrap();
    let link = NewLink { channel: channel(1), account, offer: vec![1], expires_at: NOW + MINUTE };
    house.open_link(house.home, link).await.unwrap();
    let (login, purpose, account_there) = (login_id(1), LoginPurpose::Password, Some(account));
    let state = LoginStateRow {
        login,
        account: account_there,
        purpose,
        sealed: vec![1],
        expires_at: NOW + MINUTE,
        attempts: 0,
    };
    house.put_login_state(house.home, state).await.unwrap();
    vault_with_everything(&*house.store, house.home, account).await;
    house.count_failure(house.home, account_there, FailureKind::SignIn, audit("sign_in_failed")).await.unwrap();
    let during = rows_of_tables(&house).await;
    for table in TENANT_TABLES.iter().filter(|table| !["audit_head", "invitations"].contains(table)) {
        let of = |rows: &[(String, i64)]| rows.iter().find(|(name, _)| name == table).unwrap().1;
        assert!(of(&during) > of(&before), "the story puts a row into {table}");
    }
    house.delete_account(house.home, account, audit("deleted")).await.unwrap();
    let after = rows_of_tables(&house).await;
    for ((table, before), (_, after)) in before.iter().zip(&after) {
        if table != "audit_log" {
            assert_eq!(before, after, "{table}");
        }
    }
}

/// As they are kept, whatever they mean.
pub(super) async fn devices_in_the_audit_log(house: &House) -> Vec<Vec<u8>> {
    #[derive(QueryableByName)]
    struct Kept {
        #[diesel(sql_type = diesel::sql_types::Binary)]
        device: Vec<u8>,
    }
    const SQL: &str = "SELECT device FROM audit_log WHERE device IS NOT NULL";
    if house.url.starts_with("sqlite:") {
        let rows: Vec<Kept> = diesel::sql_query(SQL).load(&mut connect_sqlite(house)).unwrap();
        return rows.into_iter().map(|row| row.device).collect();
    }
    connect(&house.url).await.query(SQL, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn rows_of_tables(house: &House) -> Vec<(String, i64)> {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        rows: i64,
    }
    let mut counts = Vec::new();
    if house.url.starts_with("sqlite:") {
        let conn = &mut connect_sqlite(house);
        let sql =
            "SELECT name AS found FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY 1";
        for table in found(conn, sql) {
            let count: Count =
                diesel::sql_query(format!("SELECT count(*) AS rows FROM {table}")).get_result(conn).unwrap();
            counts.push((table, count.rows));
        }
    } else {
        let client = connect(&house.url).await;
        let sql = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'";
        for table in strings(&client, sql).await {
            let rows = client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0);
            counts.push((table, rows));
        }
    }
    counts
}
