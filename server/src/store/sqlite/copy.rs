//! A copy of the whole database while it is in use.
//!
//! Owns how the copy is made whole and durable. Knows nothing of what is in it.

use super::{SqliteStore, connection, unavailable};
use crate::store::{Result, StoreError};
use diesel::RunQueryDsl as _;
use diesel::sql_types::Text;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

impl SqliteStore {
    /// On a connection of its own, which reads one snapshot: nobody waits for it.
    pub(super) async fn copy(&self, to: &Path) -> Result<()> {
        let (from, to) = (self.file.clone(), to.to_owned());
        let copied = tokio::task::spawn_blocking(move || copy(&from, &to));
        copied.await.unwrap_or_else(|stopped| Err(unavailable(stopped)))
    }
}

fn copy(from: &Path, to: &PathBuf) -> Result<()> {
    let path = to.to_str().ok_or_else(|| failed("the path of the copy is not UTF-8"))?;
    // Empty and private before anything is in it; SQLite writes into an empty file, and into no other.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(failed)?;
    let made = write(from, path).and_then(|()| make_durable(to).map_err(failed));
    if made.is_err() {
        // Half a copy must not be taken for one.
        let _ = std::fs::remove_file(to);
    }
    made
}

fn write(from: &Path, to: &str) -> Result<()> {
    let mut conn = connection::open(from, Duration::from_secs(60)).map_err(failed)?;
    diesel::sql_query("VACUUM INTO ?").bind::<Text, _>(to).execute(&mut conn).map_err(failed)?;
    Ok(())
}

fn make_durable(file: &Path) -> io::Result<()> {
    File::open(file)?.sync_all()?;
    match std::path::absolute(file)?.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Internal(error.into())
}
