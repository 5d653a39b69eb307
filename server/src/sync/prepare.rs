//! Making a checkpoint ready to begin from: its pages, with the payloads, laid out in the blob store.
//!
//! Owns the layout of the pages there and the chore that writes them. A page is kept in parts of about a megabyte, so
//! that an answer is one part. The pages are hashed as they are written and held against what was signed.

use super::checkpoints::forgotten;
use super::leaves::{Bounds, Depth, Found, Leaves};
use super::pull::stored_frame;
use super::refusal::{Refusal, Result};
use super::{Logs, Room};
use crate::blobs::{BlobError, BlobKey, BlobPrefix, NotABlobKey};
use crate::store::{CheckpointRow, PageLimits, Place, Tenant, VaultNumber};
use selkie_protocol::id::RecordId;
use selkie_protocol::log::{Body, Leaf, PAGE_SIZE, PageItem, Pages, Root};
use selkie_protocol::vault::CheckpointItems;
use selkie_protocol::{Bytes, Face};
use std::sync::Arc;

const WINDOW: Bounds = Bounds { rows: 65_536, bytes: 64 << 20 };
/// What one part holds, unless a single change is longer.
const PART_BYTES: usize = 1 << 20;
/// Checkpoints kept of each vault: whoever is beginning from the last but one can finish.
pub(super) const KEPT: u32 = 2;
/// How many are made ready in one go.
const AT_ONCE: u32 = 8;

impl From<BlobError> for Refusal {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::NotFound => Refusal::NotFound("page"),
            failed @ BlobError::Unavailable { .. } => Refusal::Unavailable(Arc::new(failed)),
        }
    }
}

impl From<NotABlobKey> for Refusal {
    fn from(error: NotABlobKey) -> Self {
        Refusal::Broken(Arc::new(error))
    }
}

impl Logs {
    /// Makes the newest checkpoints ready that are not. Returns how many.
    pub async fn prepare_checkpoints(&self) -> Result<u64> {
        let waiting = self.room.office.vaults.checkpoints_to_prepare(AT_ONCE).await?;
        let mut done = 0;
        let mut failure = None;
        for (at, n) in waiting {
            match self.room.prepare(at, n).await {
                Ok(()) => done += 1,
                // The others are not to wait for it.
                Err(refusal) => failure = Some(refusal),
            }
        }
        match failure {
            Some(failure) if done == 0 => Err(failure),
            _ => Ok(done),
        }
    }
}

impl Room {
    async fn prepare(&self, at: Place, n: u64) -> Result<()> {
        let limits = PageLimits { entries: 1, bytes: u64::MAX };
        let (stored, _) = self.office.vaults.entries_after(at, n - 1, limits).await?;
        let stored = stored.first().filter(|stored| stored.n == n);
        let stored = stored.ok_or_else(|| Refusal::broken("a checkpoint is not where it was"))?;
        let frame = stored_frame(&stored.frame)?;
        let Body::Checkpoint(checkpoint) = &frame.entry.body else {
            return Err(Refusal::broken("a checkpoint is not where it was"));
        };
        let page_hashes = self.write_pages(at, n, checkpoint.root, &forgotten(&frame, checkpoint)?).await?;
        let forgotten = self.office.vaults.add_checkpoint(at, CheckpointRow { n, page_hashes }, KEPT).await?;
        for old in forgotten {
            self.blobs.delete_prefix(&checkpoint_prefix(at, old)?).await?;
        }
        metrics::counter!("selkie_checkpoints_prepared_total").increment(1);
        Ok(())
    }

    /// Returns the hashes of the pages, once they are the ones that were signed.
    async fn write_pages(&self, at: Place, n: u64, expected: Root, without: &[RecordId]) -> Result<Vec<u8>> {
        let mut leaves = Leaves::new(&*self.office.vaults, at, n - 1, WINDOW, Depth::Payloads);
        let mut pages = Pages::default();
        let mut part = Part::default();
        while let Some(window) = leaves.next(laid_out).await? {
            for item in window.into_iter().filter(|item| without.binary_search(&item.leaf.record).is_err()) {
                pages.push(&item.leaf);
                if let Some(full) = part.is_full_before(&item) {
                    self.write_part(at, n, full).await?;
                }
                if let Some(last) = part.take(item) {
                    self.write_part(at, n, last).await?;
                }
            }
        }
        if let Some(last) = part.last() {
            self.write_part(at, n, last).await?;
        }
        let (hashes, root) = pages.finish();
        if root == expected { Ok(hashes) } else { Err(Refusal::broken("what is live is not what a checkpoint says")) }
    }

    async fn write_part(&self, at: Place, n: u64, part: Written) -> Result<()> {
        let key = part_key(at, n, part.page, part.first)?;
        Ok(self.blobs.put(&key, Face::Cbor.encode(&part.items)).await?)
    }

    /// The live changes of a page of a checkpoint that is ready, from its `from`th on.
    pub(super) async fn page_of(&self, at: Place, n: u64, page: u64, from: u64) -> Result<CheckpointItems> {
        let prefix = page_prefix(at, n, page)?;
        let parts = self.blobs.list(&prefix, None, PAGE_SIZE).await?;
        let first_of = |key: &BlobKey| key.as_str().rsplit('/').next().and_then(|word| word.parse::<u64>().ok());
        let parts = parts.into_iter().filter_map(|key| Some((first_of(&key)?, key)));
        let (first, key) = parts.take_while(|(first, _)| *first <= from).last().ok_or(Refusal::NotFound("page"))?;
        let bytes = self.blobs.get(&key).await?;
        let mut part: CheckpointItems =
            Face::Cbor.decode(&bytes).map_err(|damaged| Refusal::Broken(Arc::new(damaged)))?;
        let skipped = usize::try_from(from - first).unwrap_or(usize::MAX);
        if skipped >= part.items.len() {
            return Err(Refusal::NotFound("page"));
        }
        part.items.drain(..skipped);
        part.payloads.drain(..skipped);
        Ok(part)
    }
}

/// One live change as it lies in a page.
struct Item {
    leaf: Leaf,
    item: Vec<u8>,
    payload: Vec<u8>,
}

impl Item {
    fn len(&self) -> usize {
        self.item.len() + self.payload.len()
    }
}

fn laid_out(found: Found<'_>) -> Result<(Item, usize)> {
    let header = found.header;
    let item = PageItem {
        user: header.user,
        device: header.device,
        dev_seq: header.dev_seq,
        epoch: header.epoch,
        head: found.row.head,
        change: *found.change,
    };
    let payload = found.payload.ok_or_else(|| Refusal::broken("a live change without its payload"))?;
    let item = Item { leaf: found.leaf(), item: item.to_bytes(), payload: payload.to_vec() };
    let size = item.len() + size_of::<Item>();
    Ok((item, size))
}

/// The part of a page that is being filled.
#[derive(Default)]
struct Part {
    page: u64,
    first: usize,
    items: Vec<Item>,
    bytes: usize,
}

struct Written {
    page: u64,
    first: usize,
    items: CheckpointItems,
}

impl Part {
    /// What was filled, if the next item has no room in it.
    fn is_full_before(&mut self, next: &Item) -> Option<Written> {
        (!self.items.is_empty() && self.bytes + next.len() > PART_BYTES).then(|| self.close(true))
    }

    /// Takes an item, and gives the part up if the page ends with it.
    fn take(&mut self, item: Item) -> Option<Written> {
        self.bytes += item.len();
        self.items.push(item);
        (self.first + self.items.len() == PAGE_SIZE).then(|| self.close(false))
    }

    fn last(&mut self) -> Option<Written> {
        (!self.items.is_empty()).then(|| self.close(false))
    }

    fn close(&mut self, more: bool) -> Written {
        let (page, first) = (self.page, self.first);
        let items = std::mem::take(&mut self.items);
        self.bytes = 0;
        if more {
            self.first += items.len();
        } else {
            self.first = 0;
            self.page += 1;
        }
        let (items, payloads) = items.into_iter().map(|item| (Bytes(item.item), Bytes(item.payload))).unzip();
        Written { page, first, items: CheckpointItems { items, payloads, more } }
    }
}

/// Where everything of a vault is that is not in the database.
pub fn blob_prefix(tenant: Tenant, vault: VaultNumber) -> BlobPrefix {
    BlobPrefix::below(tenant.0, &["vaults", &vault.0.to_string()]).expect("both are plain words")
}

fn checkpoint_words(at: Place, n: u64) -> [String; 4] {
    ["vaults".into(), at.vault.0.to_string(), "checkpoints".into(), format!("{n:020}")]
}

fn checkpoint_prefix(at: Place, n: u64) -> Result<BlobPrefix> {
    let words = checkpoint_words(at, n);
    Ok(BlobPrefix::below(at.tenant.0, &words.each_ref().map(String::as_str))?)
}

fn page_prefix(at: Place, n: u64, page: u64) -> Result<BlobPrefix> {
    let [vaults, vault, checkpoints, n] = checkpoint_words(at, n);
    Ok(BlobPrefix::below(at.tenant.0, &[&vaults, &vault, &checkpoints, &n, &format!("{page:010}")])?)
}

fn part_key(at: Place, n: u64, page: u64, first: usize) -> Result<BlobKey> {
    let [vaults, vault, checkpoints, n] = checkpoint_words(at, n);
    let (page, first) = (format!("{page:010}"), format!("{first:04}"));
    Ok(BlobKey::new(at.tenant.0, &[&vaults, &vault, &checkpoints, &n, &page, &first])?)
}
