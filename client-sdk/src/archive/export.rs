//! What of a vault goes into an archive.
//!
//! Owns the way through the store, page by page, and the list of what cannot be read. A record is taken as it is when
//! its page is read; while an export runs, others may write.

use super::format::{CHECKSUMS, CollectionMember, FORMAT, HISTORY, Line, MANIFEST, Manifest, RECORDS, RESERVED};
use super::format::{UNREADABLE, Unread, file_of, sum_line};
use super::sealed::Out;
use super::zip::Packer;
use crate::error::Result;
use crate::store::vaults::{Shelf, Version};
use crate::sync::room::Room;
use selkie_protocol::Private;
use selkie_protocol::id::{ChangeId, RecordId, VaultId};
use selkie_protocol::record::RecordBody;
use std::collections::BTreeMap;
use std::io::Write;

/// How many names are read from the store at once.
const PAGE: usize = 256;

/// How a vault is exported. The default is what it says now, for everybody to read.
#[derive(Clone, Debug, Default)]
pub struct ExportOptions {
    /// Every version that this device keeps, too. An import does not bring those back; they are there to be read.
    pub history: bool,
    /// Seal the file for this passphrase, in the `age` format. Without it the archive is as readable as any file.
    pub passphrase: Option<Private>,
}

/// What went into an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportReport {
    /// How many collections are in it.
    pub collections: usize,
    /// How many records.
    pub records: u64,
    /// Versions in the history.
    pub versions: u64,
    /// Records and changes that could not be read. They are listed in the archive, each with the reason.
    pub unreadable: u64,
}

/// What the archive says of the vault it was made of.
pub(super) struct About {
    pub(super) name: Option<String>,
    pub(super) app: String,
    pub(super) made_at_ms: u64,
    pub(super) digest: String,
}

/// Blocks on the disk and on the writer.
pub(super) fn run<W: Write>(
    room: &Room,
    vault: &VaultId,
    about: About,
    to: W,
    options: &ExportOptions,
) -> Result<(W, ExportReport)> {
    let passphrase = options.passphrase.as_ref().map(Private::as_str);
    let packer = Packer::new(Out::new(to, passphrase)?);
    let mut export = Export { room, vault, packer, sums: String::new(), unread: Vec::new(), unreadable: 0 };
    let mut collections = Vec::new();
    for (name, shelf) in export.collections()? {
        let file = file_of(RECORDS, &name);
        export.packer.begin(file.clone())?;
        let records = export.records(&name, &shelf)?;
        export.end(&file)?;
        let history = options.history.then(|| file_of(HISTORY, &name));
        let mut versions = 0;
        if let Some(file) = &history {
            export.packer.begin(file.clone())?;
            versions = export.history(&name, &shelf)?;
            export.end(file)?;
        }
        collections.push(CollectionMember { name, file, records, history, versions });
    }
    for aside in room.store.aside(vault)? {
        export.cannot_read(aside.record, Some(aside.change), &aside.reason);
    }
    for elsewhere in room.store.elsewhere(vault)? {
        let why = "what it says is not kept on this device: fetch it first";
        export.cannot_read(elsewhere.record, Some(elsewhere.change), why);
    }
    let About { name, app, made_at_ms, digest } = about;
    let records = collections.iter().map(|one| one.records).sum();
    let versions = collections.iter().map(|one| one.versions).sum();
    let (vault, unreadable, format) = (*vault, export.unreadable, FORMAT);
    let report = ExportReport { collections: collections.len(), records, versions, unreadable };
    let manifest =
        Manifest { format, vault, name, app, made_at_ms, digest, records, versions, unreadable, collections };
    let to = export.finish(&manifest)?;
    Ok((to, report))
}

struct Export<'a, W: Write> {
    room: &'a Room,
    vault: &'a VaultId,
    packer: Packer<W>,
    sums: String,
    /// The lines of what could not be read: a few words each, and seldom any.
    unread: Vec<u8>,
    unreadable: u64,
}

impl<W: Write> Export<'_, W> {
    /// The collections that can be read, by name. The store knows only their tags; a record tells the name.
    fn collections(&mut self) -> Result<BTreeMap<String, Shelf>> {
        let mut collections = BTreeMap::new();
        for shelf in self.room.store.shelves(self.vault)? {
            let (mut after, mut name, mut unread) = (None, None, Vec::new());
            while name.is_none() {
                let page = self.room.store.page(self.vault, &shelf, after, PAGE)?;
                let Some(last) = page.last() else { break };
                after = Some(*last);
                for id in page {
                    let told = self.versions_now(id, &shelf)?.into_iter().find_map(|(_, body)| body.ok());
                    name = told.map(|body| body.collection);
                    if name.is_some() {
                        break;
                    }
                    unread.push(id);
                }
            }
            match name {
                Some(name) if name.starts_with(RESERVED) => {}
                Some(name) => drop(collections.insert(name, shelf)),
                None => {
                    for id in unread {
                        for (change, body) in self.versions_now(id, &shelf)? {
                            body.err().iter().for_each(|why| self.cannot_read(id, change, why));
                        }
                    }
                }
            }
        }
        Ok(collections)
    }

    /// Writes a line for every record that is there.
    fn records(&mut self, name: &str, shelf: &Shelf) -> Result<u64> {
        let mut records = 0;
        self.each(shelf, |export, id| {
            let mut newest: Option<(Option<ChangeId>, RecordBody)> = None;
            for (change, body) in export.versions_now(id, shelf)? {
                match body {
                    Ok(body) => {
                        let later = |(id, other): &(_, RecordBody)| (other.hlc, *id) < (body.hlc, change);
                        if newest.as_ref().is_none_or(later) {
                            newest = Some((change, body));
                        }
                    }
                    Err(why) => export.cannot_read(id, change, &why),
                }
            }
            if let Some((_, body)) = newest.filter(|(_, body)| !body.deleted && body.collection == name) {
                export.line(&Line::of(id, &body))?;
                records += 1;
            }
            Ok(())
        })?;
        Ok(records)
    }

    /// Writes a line for every version of every record, oldest first; what is not in the log yet comes last.
    fn history(&mut self, name: &str, shelf: &Shelf) -> Result<u64> {
        let mut versions = 0;
        self.each(shelf, |export, id| {
            for version in export.room.store.versions(export.vault, &id)? {
                let Version { change, n, user, device, sealed, current, .. } = version;
                match export.opened(&id, &sealed) {
                    Ok(body) if body.collection == name => {
                        export.line(&Line::of(id, &body).in_the_log(change, n, user, device))?;
                        versions += 1;
                    }
                    // It stands where the collection is that it says.
                    Ok(_) => {}
                    // What is current was listed with the records.
                    Err(why) if !current => export.cannot_read(id, Some(change), &why),
                    Err(_) => {}
                }
            }
            for pending in export.room.store.pending_of(export.vault, &id)? {
                if let Ok(body) = export.opened(&id, &pending.sealed)
                    && body.collection == name
                {
                    export.line(&Line::of(id, &body))?;
                    versions += 1;
                }
            }
            Ok(())
        })?;
        Ok(versions)
    }

    fn each(&mut self, shelf: &Shelf, mut visit: impl FnMut(&mut Self, RecordId) -> Result<()>) -> Result<()> {
        let mut after = None;
        loop {
            let page = self.room.store.page(self.vault, shelf, after, PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(*last);
            page.into_iter().try_for_each(|id| visit(self, id))?;
        }
    }

    /// What a record says now: this device's own last write, else what is current in the log. Only what lies on that
    /// shelf: where it lies on another, it is met there.
    #[allow(clippy::type_complexity)]
    fn versions_now(
        &self,
        id: RecordId,
        shelf: &Shelf,
    ) -> Result<Vec<(Option<ChangeId>, std::result::Result<RecordBody, String>)>> {
        let now = self.room.store.now(self.vault, &id)?;
        let pending = now.pending.into_iter().map(|pending| (None, pending.shelf, pending.sealed));
        let current = now.current.into_iter().map(|version| (Some(version.change), version.shelf, version.sealed));
        let here = pending.chain(current).filter(|(_, lies, _)| lies == shelf);
        Ok(here.map(|(change, _, sealed)| (change, self.opened(&id, &sealed))).collect())
    }

    /// Opens what lies on the disk, or says why it does not open.
    fn opened(&self, id: &RecordId, sealed: &[u8]) -> std::result::Result<RecordBody, String> {
        let plain = self.room.at_rest.open_record(self.vault, id, sealed);
        let plain = plain.map_err(|_| "it is damaged on this device's disk".to_owned())?;
        RecordBody::from_bytes(&plain).map_err(|error| error.to_string())
    }

    fn cannot_read(&mut self, id: RecordId, change: Option<ChangeId>, reason: &str) {
        // Texts and names: serde_json has a word for each of them.
        let line = serde_json::to_vec(&Unread { id, change, reason }).unwrap_or_default();
        self.unread.extend_from_slice(&line);
        self.unread.push(b'\n');
        self.unreadable += 1;
    }

    fn line(&mut self, line: &Line) -> Result<()> {
        let mut text = line.to_text();
        text.push('\n');
        Ok(self.packer.write(text.as_bytes())?)
    }

    fn end(&mut self, file: &str) -> Result<()> {
        let sha = self.packer.end()?;
        self.sums.push_str(&sum_line(&sha, file));
        Ok(())
    }

    fn document(&mut self, file: &str, bytes: &[u8]) -> Result<()> {
        self.packer.begin(file.to_owned())?;
        self.packer.write(bytes)?;
        self.end(file)
    }

    fn finish(mut self, manifest: &Manifest) -> Result<W> {
        if self.unreadable > 0 {
            let unread = std::mem::take(&mut self.unread);
            self.document(UNREADABLE, &unread)?;
        }
        // Texts and numbers, as above.
        let mut text = serde_json::to_string_pretty(manifest).unwrap_or_default();
        text.push('\n');
        self.document(MANIFEST, text.as_bytes())?;
        let sums = std::mem::take(&mut self.sums);
        self.packer.begin(CHECKSUMS.to_owned())?;
        self.packer.write(sums.as_bytes())?;
        self.packer.end()?;
        Ok(self.packer.finish()?)
    }
}
