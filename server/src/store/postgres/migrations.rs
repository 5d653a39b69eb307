//! Brings a PostgreSQL database to this server's schema.
//!
//! Works as whoever the URL says, who must own the tables, and never as the application role.

use super::connect::connect;
use super::{Address, Conn, OpenError, unavailable};
use crate::store::open::{Known, SchemaState};
use diesel::connection::SimpleConnection as _;
use diesel::migration::{Migration, MigrationSource as _};
use diesel::pg::Pg;
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};
use tokio::runtime::Handle;
use tokio_postgres::Client;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../migrations/postgres");

const LOCK: &str = "SELECT pg_advisory_lock(hashtext('selkie migrations'))";

/// The rights of the application role, where it was made after the tables: of a table behind row-level security, what
/// its policies are for; of the others, what the first migration says.
const PRIVILEGES: &str = "DO $$
DECLARE
    found record;
BEGIN
    IF has_table_privilege('selkie_app', 'server_meta', 'SELECT') THEN
        RETURN;
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO selkie_app', current_schema());
    GRANT SELECT ON plans TO selkie_app;
    GRANT SELECT, INSERT ON server_meta, opaque_setup TO selkie_app;
    GRANT SELECT, INSERT, DELETE ON signing_keys TO selkie_app;
    GRANT SELECT, INSERT, UPDATE ON tenants TO selkie_app;
    FOR found IN
        SELECT t.relname, CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
            ELSE 'DELETE' END AS command
        FROM pg_policy p JOIN pg_class t ON t.oid = p.polrelid
        WHERE t.relnamespace = current_schema()::regnamespace AND p.polcmd <> '*'
            AND NOT (t.relname = 'audit_head' AND p.polcmd = 'd')
    LOOP
        EXECUTE format('GRANT %s ON %I TO selkie_app', found.command, found.relname);
    END LOOP;
    EXECUTE format(
        'ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO selkie_app',
        current_schema());
END $$";

type Blocking = AsyncConnectionWrapper<Conn>;

pub(in crate::store) async fn state(address: &Address) -> Result<SchemaState, OpenError> {
    let client = connect(address, &Handle::current()).await?;
    Ok(SchemaState::of(&known()?, &applied(&client).await?))
}

pub(in crate::store) async fn migrate(address: &Address) -> Result<Vec<String>, OpenError> {
    locked(address, |conn| {
        let ran = conn.run_pending_migrations(MIGRATIONS).map_err(OpenError::Migration)?;
        let ran: Vec<String> = ran.iter().map(ToString::to_string).collect();
        Ok(known()?.into_iter().filter(|known| ran.contains(&known.version)).map(|known| known.name).collect())
    })
    .await
}

pub(in crate::store) async fn revert(address: &Address) -> Result<Option<String>, OpenError> {
    locked(address, |conn| {
        if conn.applied_migrations().map_err(OpenError::Migration)?.is_empty() {
            return Ok(None);
        }
        let version = conn.revert_last_migration(MIGRATIONS).map_err(OpenError::Migration)?.to_string();
        Ok(known()?.into_iter().find(|known| known.version == version).map(|known| known.name))
    })
    .await
}

/// What a login needs to become the application role, as SQL.
pub(super) fn membership_sql(login: &str, role_exists: bool) -> String {
    let role = if role_exists { "" } else { "CREATE ROLE selkie_app NOLOGIN NOINHERIT; " };
    format!("{role}GRANT selkie_app TO {};", quoted(login))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Gives the application role its rights if it was made after the tables, and lets the login become it.
pub(in crate::store) async fn let_work(login: &Address, owner: &Address) -> Result<Option<String>, OpenError> {
    const EXISTS: &str = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'selkie_app')";
    const MAY_BECOME: &str = "SELECT pg_has_role($1, 'selkie_app', \
        CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)";
    // A URL without a name means the operating system's user, whom nobody needs to be told about here.
    let Some(name) = login.config.get_user() else { return Ok(None) };
    let client = connect(owner, &Handle::current()).await?;
    client.batch_execute(LOCK).await.map_err(unavailable)?;
    if !client.query_one(EXISTS, &[]).await.map_err(unavailable)?.get::<_, bool>(0) {
        return Ok(Some(membership_sql(name, false)));
    }
    client.batch_execute(PRIVILEGES).await.map_err(|error| OpenError::Migration(error.into()))?;
    if client.query_one(MAY_BECOME, &[&name]).await.map_err(unavailable)?.get(0) {
        return Ok(None);
    }
    let granted = client.batch_execute(&format!("GRANT selkie_app TO {}", quoted(name))).await;
    Ok(granted.is_err().then(|| membership_sql(name, true)))
}

/// One server migrates, the others wait and find it done. The lock belongs to the session and goes with it, however
/// this ends. Diesel's migrations block, so they have a thread to themselves.
async fn locked<T: Send + 'static>(
    address: &Address,
    work: fn(&mut Blocking) -> Result<T, OpenError>,
) -> Result<T, OpenError> {
    let client = connect(address, &Handle::current()).await?;
    client.batch_execute(LOCK).await.map_err(unavailable)?;
    if let SchemaState::Newer(version) = SchemaState::of(&known()?, &applied(&client).await?) {
        return Err(OpenError::Newer(version));
    }
    let conn = Conn::try_from(client).await.map_err(unavailable)?;
    let done = tokio::task::spawn_blocking(move || {
        let mut conn = Blocking::from(conn);
        // The first run makes Diesel's own table, which must not be noise in the log.
        conn.batch_execute("SET client_min_messages = warning").map_err(|error| OpenError::Migration(error.into()))?;
        work(&mut conn)
    });
    done.await.map_err(|stopped| OpenError::Migration(stopped.into()))?
}

/// Diesel's own question would make the table it looks into, which the application role may not.
async fn applied(client: &Client) -> Result<Vec<String>, OpenError> {
    const EXISTS: &str = "SELECT to_regclass('__diesel_schema_migrations') IS NOT NULL";
    if !client.query_one(EXISTS, &[]).await.map_err(unavailable)?.get::<_, bool>(0) {
        return Ok(Vec::new());
    }
    let rows = client.query("SELECT version FROM __diesel_schema_migrations", &[]).await.map_err(unavailable)?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn known() -> Result<Vec<Known>, OpenError> {
    let migrations: Vec<Box<dyn Migration<Pg>>> = MIGRATIONS.migrations().map_err(OpenError::Migration)?;
    let mut known: Vec<Known> = migrations
        .iter()
        .map(|migration| Known { version: migration.name().version().to_string(), name: migration.name().to_string() })
        .collect();
    known.sort_by(|one, other| one.version.cmp(&other.version));
    Ok(known)
}
