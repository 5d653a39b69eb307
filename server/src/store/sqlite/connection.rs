//! Connections to a SQLite file, and how the operations' futures run on them.
//!
//! A connection belongs to one thread that does nothing else, so the work is done on the spot and every future is
//! ready when it is first asked.

use super::{OpenError, Options, unavailable};
use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};
use diesel_async::sync_connection_wrapper::{SpawnBlocking, SyncConnectionWrapper};
use futures_util::future::{BoxFuture, FutureExt as _, ready};
use std::error::Error;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

pub(super) type Conn = SyncConnectionWrapper<SqliteConnection, Here>;

/// Runs what would block right here.
pub(super) struct Here;

impl SpawnBlocking for Here {
    fn spawn_blocking<'a, R: Send + 'static>(
        &mut self,
        task: impl FnOnce() -> R + Send + 'static,
    ) -> BoxFuture<'a, Result<R, Box<dyn Error + Send + Sync + 'static>>> {
        ready(Ok(task())).boxed()
    }

    fn get_runtime() -> Self {
        Here
    }
}

pub(super) fn open_writer(file: &Path, options: &Options) -> Result<Conn, OpenError> {
    open(file, options.statement_timeout).map(Conn::new)
}

pub(super) fn open_reader(file: &Path, options: &Options) -> Result<Conn, OpenError> {
    let mut connection = open(file, options.statement_timeout)?;
    connection.batch_execute("PRAGMA query_only = ON").map_err(unavailable)?;
    Ok(Conn::new(connection))
}

/// Opens a file, which is made if it is missing: readable by its owner alone, in a folder that is, too. SQLite gives
/// its write-ahead log the same permissions.
pub(super) fn open(file: &Path, busy_timeout: Duration) -> Result<SqliteConnection, OpenError> {
    make_private(file).map_err(|error| OpenError::File(file.to_owned(), error))?;
    // An absolute path cannot be taken for one of SQLite's own URIs.
    let path = std::path::absolute(file).map_err(|error| OpenError::File(file.to_owned(), error))?;
    let path = path.to_str().ok_or_else(|| OpenError::Url("the path is not UTF-8".into()))?;
    let mut connection = SqliteConnection::establish(path).map_err(unavailable)?;
    // Another process may write at the same time (the command line does): it is waited for. Records have random names,
    // so a push touches as many pages as it has changes, and the next one the same again: they are copied from the
    // write-ahead log into the file only now and then, every 8 MiB. Rarer is cheaper, and whoever pushes just then
    // waits longer (docs/benchmarks.md, "Under load").
    connection
        .batch_execute(&format!("PRAGMA busy_timeout = {}", busy_timeout.as_millis()))
        .and_then(|()| {
            connection.batch_execute(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                 PRAGMA temp_store = MEMORY; PRAGMA secure_delete = ON; PRAGMA wal_autocheckpoint = 2000;",
            )
        })
        .map_err(unavailable)?;
    Ok(connection)
}

fn make_private(file: &Path) -> std::io::Result<()> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
