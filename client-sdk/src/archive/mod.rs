//! A vault as one file: taken out, brought in again; and tables of other programs, brought in.
//!
//! | module | what it owns |
//! |---|---|
//! | [`export`] | what of a vault goes into an archive, page by page |
//! | [`import`] | what of an archive is written, and what is left as it is here |
//! | [`table`], [`csv`] | rows of CSV and JSON, and the records they become |
//! | [`whole`] | an archive as a whole: its members, and that they are what it says they are |
//! | [`mod@format`] | the manifest and the lines |
//! | [`zip`] | the container |
//! | [`sealed`] | the same, sealed for a passphrase |
//!
//! The format is described in docs/archive-format.md. Nothing here talks to a server: what is brought in is written as
//! if the app wrote it, and the next sync sends it. Everything is read and written in pieces, so memory does not grow
//! with the vault.

mod csv;
mod export;
mod format;
mod import;
mod mapping;
mod sealed;

mod table;
mod whole;
mod zip;

pub use export::{ExportOptions, ExportReport};
pub(crate) use format::RESERVED;
pub use format::{CollectionMember, Manifest};
pub use import::ImportReport;
pub use mapping::{FieldType, Mapping};
pub use table::{Table, TableForm};

use crate::error::{Error, Result};
use crate::vault::Vault;
use selkie_protocol::Private;
use std::io::{Read, Seek, Write};

/// Why an archive or a table is not taken, or not written. What is wrong with a file is found before anything is
/// changed in the vault. Only a file that changes, or cannot be read any more, between that and the writing is found
/// out half-way: then the same import again goes on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The file is not an archive.
    #[error("the file is not an archive")]
    NotAnArchive,
    /// Cut off, changed or made by something else: one that is whole has exactly one form.
    #[error("the archive is damaged: {0}")]
    Damaged(String),
    /// A later version of the format, and which.
    #[error("the archive has format {0}, which this version does not know")]
    Newer(u32),
    /// The archive is sealed for a passphrase.
    #[error("the archive is sealed for a passphrase")]
    Sealed,
    /// The passphrase does not open the archive, or its beginning was changed.
    #[error("the passphrase does not open the archive, or its beginning was changed")]
    WrongPassphrase,
    /// Sealed in a way that this version cannot open, and how.
    #[error("the archive is sealed in a way that is not taken: {0}")]
    SealedOtherwise(String),
    /// Counted from 1, without the heading of a CSV file.
    #[error("row {row} of the table is not taken: {why}")]
    BadRow {
        /// Counted from 1.
        row: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The file could not be read.
    #[error("the file could not be read")]
    Reading(#[source] std::io::Error),
    /// The file could not be written.
    #[error("the file could not be written")]
    Writing(#[source] std::io::Error),
}

impl ArchiveError {
    /// What a person can do about it.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            ArchiveError::NotAnArchive => "Nothing was changed. Check that it is the right file.",
            ArchiveError::Damaged(_) => "Nothing was changed. Take another copy of the archive, or an older one.",
            ArchiveError::Newer(_) => "Nothing was changed. Update the app.",
            ArchiveError::Sealed => "Give the passphrase it was sealed with.",
            ArchiveError::WrongPassphrase => "Check the passphrase: capitals, spaces and the line's end count.",
            ArchiveError::SealedOtherwise(_) => {
                "Nothing was changed. Open it with `age` first, and take what comes out."
            }
            ArchiveError::BadRow { .. } => "Nothing was changed. Mend that row and try again.",
            ArchiveError::Reading(_) => "Check that the file is there and yours to read.",
            ArchiveError::Writing(_) => "Check that the disk has room and the folder is yours.",
        }
    }

    fn damaged(what: impl Into<String>) -> Self {
        ArchiveError::Damaged(what.into())
    }
}

/// What an archive says of itself, for whoever has to decide where it goes. Nothing but that is checked; the import
/// checks everything. Blocks while it reads.
pub fn read_manifest<R: Read + Seek>(from: R, passphrase: Option<&str>) -> Result<Manifest> {
    Ok(whole::Archive::open(from, passphrase)?.manifest)
}

impl Vault {
    /// Writes what this device has of the vault into one file, see docs/archive-format.md. What cannot be read is
    /// listed in the archive and in the report, and holds up nothing. The writer comes back, for whoever has to close
    /// or keep it; if this fails, what was written so far is no archive.
    ///
    /// ```no_run
    /// # async fn example(journal: selkie_client::Vault) -> selkie_client::Result<()> {
    /// use selkie_client::ExportOptions;
    /// let (archive, report) = journal.export(Vec::new(), ExportOptions::default()).await?;
    /// println!("{} records in {} bytes", report.records, archive.len());
    /// # Ok(()) }
    /// ```
    pub async fn export<W: Write + Send + 'static>(&self, to: W, options: ExportOptions) -> Result<(W, ExportReport)> {
        self.must_be_an_apps().await?;
        let glance = self.glance().await?;
        let about = export::About {
            name: self.name().await?,
            app: glance.app,
            made_at_ms: self.account.context().now_ms(),
            digest: self.digest().await?.to_string(),
        };
        self.read(move |room, vault| export::run(room, vault, about, to, &options)).await
    }

    /// Brings in what [`Vault::export`] has written, from this vault or from another. The archive is checked whole
    /// before anything is written. Records keep their ids: what is here already and says the same, and not earlier,
    /// is left alone, what is newer here or was written by a later version of the app is kept, and a second import
    /// changes nothing.
    pub async fn import<R: Read + Seek + Send + 'static>(
        &self,
        from: R,
        passphrase: Option<&str>,
    ) -> Result<ImportReport> {
        self.must_be_an_apps().await?;
        self.check_may_write().await?;
        let (passphrase, context) = (passphrase.map(Private::from), self.account.context());
        let (collections, now_ms) = (context.collections.clone(), context.now_ms());
        self.read(move |room, vault| {
            let passphrase = passphrase.as_ref().map(Private::as_str);
            import::run(room, vault, from, passphrase, &collections, now_ms)
        })
        .await
    }

    /// Brings in rows that another program has written: a JSON array, a line of JSON each, or CSV with a heading. The
    /// name of a record is made from its row, so the same file twice makes nothing twice. The table is checked whole
    /// before anything is written.
    pub async fn import_table<R: Read + Seek + Send + 'static>(&self, from: R, table: Table) -> Result<ImportReport> {
        if table.collection.starts_with(RESERVED) {
            return Err(Error::NotPossible("collections called `selkie.` are the SDK's own".into()));
        }
        self.must_be_an_apps().await?;
        self.check_may_write().await?;
        let context = self.account.context();
        let (collections, now_ms) = (context.collections.clone(), context.now_ms());
        self.read(move |room, vault| table::run(room, vault, from, &table, &collections, now_ms)).await
    }

    /// What devices of one person tell each other does not leave with an archive, and does not come with one from
    /// somebody else.
    async fn must_be_an_apps(&self) -> Result<()> {
        if self.glance().await?.app == crate::account::OWN_APP {
            return Err(Error::NotPossible("this is the account's own vault: archives are of an app's".into()));
        }
        Ok(())
    }
}
