//! Brings a SQLite file to this server's schema.

use super::{OpenError, connection};
use crate::store::open::{Known, SchemaState};
use diesel::migration::{Migration, MigrationSource as _};
use diesel::sqlite::Sqlite;
use diesel::{ExpressionMethods as _, QueryDsl as _, RunQueryDsl as _, SqliteConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};
use std::path::Path;
use std::time::Duration;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../migrations/sqlite");

/// Another server that starts at the same moment migrates for both; this one waits.
const PATIENCE: Duration = Duration::from_secs(60);

diesel::table! {
    sqlite_master (name) {
        name -> Text,
    }
}

diesel::table! {
    __diesel_schema_migrations (version) {
        version -> Text,
    }
}

pub(in crate::store) fn state(file: &Path) -> Result<SchemaState, OpenError> {
    let applied = if file.exists() { applied(&mut connection::open(file, PATIENCE)?)? } else { Vec::new() };
    Ok(SchemaState::of(&known()?, &applied))
}

pub(in crate::store) fn migrate(file: &Path) -> Result<Vec<String>, OpenError> {
    locked(file, |conn| {
        let ran = conn.run_pending_migrations(MIGRATIONS).map_err(OpenError::Migration)?;
        let ran: Vec<String> = ran.iter().map(ToString::to_string).collect();
        Ok(known()?.into_iter().filter(|known| ran.contains(&known.version)).map(|known| known.name).collect())
    })
}

pub(in crate::store) fn revert(file: &Path) -> Result<Option<String>, OpenError> {
    locked(file, |conn| {
        if applied(conn)?.is_empty() {
            return Ok(None);
        }
        let version = conn.revert_last_migration(MIGRATIONS).map_err(OpenError::Migration)?.to_string();
        Ok(known()?.into_iter().find(|known| known.version == version).map(|known| known.name))
    })
}

/// All of it in one transaction that nobody else can write beside: all migrations or none.
fn locked<T>(file: &Path, work: impl FnOnce(&mut SqliteConnection) -> Result<T, OpenError>) -> Result<T, OpenError> {
    let mut conn = connection::open(file, PATIENCE)?;
    conn.immediate_transaction(|conn| {
        if let SchemaState::Newer(version) = SchemaState::of(&known()?, &applied(conn)?) {
            return Err(OpenError::Newer(version));
        }
        work(conn)
    })
}

impl From<diesel::result::Error> for OpenError {
    fn from(error: diesel::result::Error) -> Self {
        OpenError::Store(crate::store::failure::Failure::from(error).into())
    }
}

/// Diesel's own question would make the table it looks into.
fn applied(conn: &mut SqliteConnection) -> Result<Vec<String>, OpenError> {
    let tables: i64 =
        sqlite_master::table.filter(sqlite_master::name.eq("__diesel_schema_migrations")).count().get_result(conn)?;
    if tables == 0 {
        return Ok(Vec::new());
    }
    Ok(__diesel_schema_migrations::table.select(__diesel_schema_migrations::version).load(conn)?)
}

fn known() -> Result<Vec<Known>, OpenError> {
    let migrations: Vec<Box<dyn Migration<Sqlite>>> = MIGRATIONS.migrations().map_err(OpenError::Migration)?;
    let mut known: Vec<Known> = migrations
        .iter()
        .map(|migration| Known { version: migration.name().version().to_string(), name: migration.name().to_string() })
        .collect();
    known.sort_by(|one, other| one.version.cmp(&other.version));
    Ok(known)
}
