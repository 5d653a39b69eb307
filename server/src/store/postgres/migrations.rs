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

/// One server migrates, the others wait and find it done. The lock belongs to the session and goes with it, however
/// this ends. Diesel's migrations block, so they have a thread to themselves.
async fn locked<T: Send + 'static>(
    address: &Address,
    work: fn(&mut Blocking) -> Result<T, OpenError>,
) -> Result<T, OpenError> {
    const LOCK: &str = "SELECT pg_advisory_lock(hashtext('selkie migrations'))";
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
