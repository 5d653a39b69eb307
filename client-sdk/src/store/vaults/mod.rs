//! What this device keeps of vaults: their logs as far as they were verified, their records, and what is to be sent.
//!
//! Owns the contract and its types. Every method is one transaction: it happened or it did not. Knows nothing of keys,
//! of the network, nor of what may follow what: contents come sealed, states come as bytes, and whoever calls has
//! verified what is written here. [`MemoryVaults`] forgets; `SqliteVaults` keeps one file an account.
//!
//! Two programs may have one store open. Whoever advances a vault names the revision they started from, and is told if
//! somebody else was faster; then nothing was written.

#[cfg(test)]
mod conformance;
mod memory;
#[cfg(feature = "sqlite")]
mod sqlite;

pub use memory::MemoryVaults;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteVaults;

use super::{Folder, StoreError};
use selkie_protocol::id::{ChangeId, DeviceId, RecordId, UserId, VaultId};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

type Result<T> = std::result::Result<T, StoreError>;

/// The vaults of one account. Every call may block on the disk for a moment.
pub trait VaultStore: Send + Sync + Debug {
    /// What is kept for all vaults together, as it was last kept.
    fn account(&self) -> Result<Option<Vec<u8>>>;

    /// Replaces what is kept for all vaults together, if that is `before`; `false` if it is not: another program was
    /// faster.
    fn keep_account(&self, before: Option<&[u8]>, state: &[u8]) -> Result<bool>;

    /// Account logs of people, each in one piece.
    fn people(&self) -> Result<Vec<(UserId, Vec<u8>)>>;

    /// Replaces what is kept of one person.
    fn keep_person(&self, user: &UserId, log: &[u8]) -> Result<()>;

    /// The vaults that are kept here, ascending.
    fn vaults(&self) -> Result<Vec<VaultId>>;

    /// How far a vault has come here; `None` if it is not kept. Quick, whatever else is read meanwhile.
    fn revision(&self, vault: &VaultId) -> Result<Option<u64>>;

    /// Everything of a vault that is needed to go on with it. Records stay where they are.
    fn load(&self, vault: &VaultId) -> Result<Option<KeptVault>>;

    /// Begins to keep a vault. If it is kept already, nothing happens.
    fn begin(&self, vault: &VaultId, begun: &Begun) -> Result<()>;

    /// Moves a vault on: all of it, or nothing. Returns the new revision, or `None` if the vault is not at this
    /// revision any more.
    fn advance(&self, vault: &VaultId, revision: u64, advance: &Advance) -> Result<Option<u64>>;

    /// Begins to put records beside, for [`VaultStore::replace`] to take in; what was put beside before is gone.
    /// Returns the new revision, or `None` as [`VaultStore::advance`] does: so of two programs one goes on.
    fn stage_anew(&self, vault: &VaultId, revision: u64) -> Result<Option<u64>>;

    /// Puts more records beside; `false`, and nothing is done, if the vault is not at this revision any more.
    fn stage(&self, vault: &VaultId, revision: u64, versions: &[Version], aside: &[Aside]) -> Result<bool>;

    /// Replaces the log of a vault and all its records by what was staged. What is to be sent and the keys stay.
    /// Returns the new revision, or `None` as [`VaultStore::advance`] does.
    fn replace(&self, vault: &VaultId, revision: u64, fresh: &Fresh) -> Result<Option<u64>>;

    /// Forgets a vault on this device.
    fn forget(&self, vault: &VaultId) -> Result<()>;

    /// The same, unless something of it is to be sent or on its way. Whether it was forgotten.
    fn forget_if_sent(&self, vault: &VaultId) -> Result<bool>;

    /// Takes down writes of this device, to be sent: all of them, or none. Each is made on top of what is current of
    /// its record here, or of the device's own last write that is not in the log yet. Returns their numbers, which
    /// ascend; or `None` if one of the records was touched after the stamp `seen`.
    ///
    /// This survives the end of the program, and a power cut once anything else was kept: see [`VaultStore::flush`].
    fn write_down(
        &self,
        vault: &VaultId,
        seen: Option<u64>,
        writes: &[NewWrite],
        together: Together,
    ) -> Result<Option<Vec<u64>>>;

    /// Takes back writes that are not in the log yet. Returns the new revision, or `None` as [`VaultStore::advance`]
    /// does: something may be on its way by now that carries them.
    fn take_back(&self, vault: &VaultId, revision: u64, seqs: &[u64]) -> Result<Option<u64>>;

    /// Corrects in which collections writes lie that are to be sent. Those that are gone meanwhile stay gone.
    fn put_on_shelves(&self, vault: &VaultId, seqs: &[(u64, Shelf)]) -> Result<()>;

    /// Returns when everything that was written down would survive a power cut.
    fn flush(&self) -> Result<()>;

    /// What is to be sent, in the order it was written down, at most so many.
    fn outbox(&self, vault: &VaultId, limit: usize) -> Result<Vec<Pending>>;

    /// What is to be sent of one record.
    fn pending_of(&self, vault: &VaultId, record: &RecordId) -> Result<Vec<Pending>>;

    /// A record as it is on this device now. Quick: a page or two are read, and nobody is waited for who writes.
    fn now(&self, vault: &VaultId, record: &RecordId) -> Result<Now>;

    /// Goes through a collection as it is on this device now, and says at which stamp that was.
    fn shelf(&self, vault: &VaultId, shelf: &Shelf, visit: &mut dyn FnMut(Shown)) -> Result<u64>;

    /// The tags of the collections that have records here now, deleted ones among them; ascending.
    fn shelves(&self, vault: &VaultId) -> Result<Vec<Shelf>>;

    /// Records that are in a collection as they are on this device now, deleted ones among them: those after a name,
    /// ascending, at most so many. One that has several current versions in several collections is in each of them.
    fn page(&self, vault: &VaultId, shelf: &Shelf, after: Option<RecordId>, limit: usize) -> Result<Vec<RecordId>>;

    /// Grows with every change of any record of the vault, whoever made it. Quick.
    fn stamp(&self, vault: &VaultId) -> Result<u64>;

    /// The stamp now, and what was touched after another; `None` if that is not known any more: it may be all of them.
    fn touched(&self, vault: &VaultId, after: u64) -> Result<(u64, Option<Vec<RecordId>>)>;

    /// Enough of a vault to tell what may be done with it; quicker than [`VaultStore::load`].
    fn outline(&self, vault: &VaultId) -> Result<Option<Outline>>;

    /// Every version of a record that is kept, oldest first.
    fn versions(&self, vault: &VaultId, record: &RecordId) -> Result<Vec<Version>>;

    /// Current versions: of one collection, by its tag, or all.
    fn current(&self, vault: &VaultId, shelf: Option<&Shelf>) -> Result<Vec<Version>>;

    /// Changes that are in the log and cannot be read here, for now.
    fn aside(&self, vault: &VaultId) -> Result<Vec<Aside>> {
        self.aside_after(vault, None, usize::MAX)
    }

    /// So many of them at most, in the order of their names, after this one.
    fn aside_after(&self, vault: &VaultId, after: Option<&ChangeId>, most: usize) -> Result<Vec<Aside>>;

    /// Conflicts that this device has met, oldest first.
    fn settlements(&self, vault: &VaultId) -> Result<Vec<Settlement>>;

    /// Those of one record, in the same order.
    fn settlements_of(&self, vault: &VaultId, record: &RecordId) -> Result<Vec<Settlement>>;

    /// A person has decided a conflict.
    fn resolve(&self, vault: &VaultId, settlement: u64) -> Result<()>;

    /// Keeps something that can be made again from the rest, under a name. A later one takes its place.
    fn keep_note(&self, vault: &VaultId, name: &Shelf, sealed: &[u8]) -> Result<()>;

    /// What was kept under that name. It is forgotten when the records are replaced.
    fn note(&self, vault: &VaultId, name: &Shelf) -> Result<Option<Vec<u8>>>;

    /// Raw frames that are still kept of these positions, ascending.
    fn frames(&self, vault: &VaultId, from: u64, to: u64) -> Result<Vec<(u64, Vec<u8>)>>;

    /// How much there is of a vault.
    fn counts(&self, vault: &VaultId) -> Result<Counts>;

    /// How much room a vault takes.
    fn usage(&self, vault: &VaultId) -> Result<Usage>;

    /// How much room the store takes as a whole, in bytes; what was let go and is not given back yet is part of it.
    fn size(&self) -> Result<u64>;

    /// Forgets versions that are not current and whose author's clock showed less, but for those of records that are
    /// still to be sent or to be decided about. Returns what went.
    fn prune(&self, vault: &VaultId, before_ms: u64) -> Result<Usage>;

    /// Lets go of what records say, and have said; that there are these records stays known. One that was touched after
    /// the stamp `seen`, that is to be sent or decided about, or of which anything else is current, stays. Returns how
    /// many went, and the room they took.
    fn let_go(&self, vault: &VaultId, seen: u64, records: &[Elsewhere]) -> Result<(u64, Usage)>;

    /// What this device knows to be in the log, and not what it says; ascending by record.
    fn elsewhere(&self, vault: &VaultId) -> Result<Vec<Elsewhere>>;

    /// The same of one record.
    fn elsewhere_of(&self, vault: &VaultId, record: &RecordId) -> Result<Vec<Elsewhere>>;

    /// Gives back the room of what was let go.
    fn shrink(&self) -> Result<()>;

    /// What is wrong with the store itself, in words for a person; empty if it holds together. Reads all of it.
    fn damage(&self) -> Result<Vec<String>>;

    /// Makes the store anew from what can be read of it; whether that was all. What is in it otherwise than before,
    /// everybody who holds something of it has to read again. A store that cannot be repaired says so.
    fn rebuild(&self) -> Result<bool>;
}

/// The tag of a collection: says nothing of its name to whoever has no key.
pub type Shelf = [u8; 16];

/// What is needed to go on with a vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptVault {
    /// Grows with every step: for [`VaultStore::advance`].
    pub revision: u64,
    /// As it was last kept.
    pub state: Vec<u8>,
    /// Chain values, ascending, without gaps.
    pub trail: Vec<(u64, [u8; 32])>,
    /// Ascending.
    pub live: Vec<(RecordId, Vec<u8>)>,
    /// Sealed keys by epoch.
    pub keys: Vec<(u32, Vec<u8>)>,
    /// The one signed frame that is being sent.
    pub in_flight: Option<Vec<u8>>,
}

/// A vault without its chain and its live records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// See [`KeptVault::revision`].
    pub revision: u64,
    /// As it was last kept.
    pub state: Vec<u8>,
    /// Sealed keys by epoch.
    pub keys: Vec<(u32, Vec<u8>)>,
    /// The one signed frame that is being sent.
    pub in_flight: Option<Vec<u8>>,
}

/// A vault when it is first kept.
#[derive(Clone, Debug, Default)]
pub struct Begun {
    /// What is kept beside the log.
    pub state: Vec<u8>,
    /// Chain values, ascending, without gaps.
    pub trail: Vec<(u64, [u8; 32])>,
    /// Sealed keys by epoch.
    pub keys: Vec<(u32, Vec<u8>)>,
    /// The one signed frame that is being sent.
    pub in_flight: Option<Vec<u8>>,
    /// Frames as they came.
    pub frames: Vec<KeptFrame>,
    /// What is to be sent first, each alone: a vault that is made has a name, or it is not there.
    pub writes: Vec<NewWrite>,
}

/// One step of a vault. What is left empty stays as it is.
#[derive(Clone, Debug, Default)]
pub struct Advance {
    /// What is kept beside the log.
    pub state: Option<Vec<u8>>,
    /// The one signed frame that is being sent; `Some(None)` when it is no longer.
    pub in_flight: Option<Option<Vec<u8>>>,
    /// New chain values, and the position below which none is needed any more.
    pub trail: Vec<(u64, [u8; 32])>,
    /// Chain values before this position go.
    pub trail_from: u64,
    /// What is live of the records that were touched; `None` for one that is forgotten.
    pub live: Vec<(RecordId, Option<Vec<u8>>)>,
    /// Frames as they came, and the time before which received ones are dropped.
    pub frames: Vec<KeptFrame>,
    /// Frames that were received before this time go; 0 for none.
    pub frames_before_ms: u64,
    /// What was opened, sealed for this disk.
    pub versions: Vec<Version>,
    /// Which versions of a record are current from now on. Where none of them is kept, what was current stays so; and
    /// if nothing was, the newest that is kept is current.
    pub heads: Vec<(RecordId, Vec<ChangeId>)>,
    /// What cannot be read here.
    pub aside: Vec<Aside>,
    /// No longer set aside: opened, or superseded.
    pub no_longer_aside: Vec<ChangeId>,
    /// Writes that are in the log now, ascending, and as which change; or that are not to be sent any more. The next
    /// write of the same record is on top of that change from now on.
    pub sent: Vec<(u64, Option<ChangeId>)>,
    /// Conflicts that are settled with this step.
    pub settlements: Vec<Settlement>,
    /// Sealed keys by epoch; each replaces what was there.
    pub keys: Vec<(u32, Vec<u8>)>,
}

impl Advance {
    /// Records that say something else afterwards, or are kept otherwise; those of writes that were sent are in the
    /// store.
    fn touched(&self) -> impl Iterator<Item = RecordId> + '_ {
        let live = self.live.iter().map(|(record, _)| *record);
        let versions = self.versions.iter().map(|version| version.record);
        let heads = self.heads.iter().map(|(record, _)| *record);
        let settled = self.settlements.iter().map(|settlement| settlement.record);
        live.chain(versions).chain(heads).chain(settled)
    }
}

/// The log of a vault, all of it other than before.
#[derive(Clone, Debug, Default)]
pub struct Fresh {
    /// What is kept beside the log.
    pub state: Vec<u8>,
    /// Chain values, ascending, without gaps.
    pub trail: Vec<(u64, [u8; 32])>,
    /// What is live of each record, ascending.
    pub live: Vec<(RecordId, Vec<u8>)>,
    /// Which of the staged versions are current; of a record of which none of these is kept, the newest is.
    pub heads: Vec<(RecordId, Vec<ChangeId>)>,
    /// Sealed keys by epoch; each replaces what was there.
    pub keys: Vec<(u32, Vec<u8>)>,
    /// Writes that were lost with the old log and are to be sent again, before all others.
    pub again: Vec<Again>,
    /// Writes that are in the log, as in [`Advance::sent`].
    pub sent: Vec<(u64, Option<ChangeId>)>,
    /// Conflicts that were settled in it.
    pub settlements: Vec<Settlement>,
    /// What is still being sent.
    pub in_flight: Option<Vec<u8>>,
    /// What is live and was not fetched.
    pub elsewhere: Vec<Elsewhere>,
}

/// A write that was lost with the old log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Again {
    /// What was written.
    pub write: NewWrite,
    /// Somebody has written the record since, who could not know of it: it is on top of nothing, so that the two meet.
    pub collides: bool,
}

/// A frame of the log, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptFrame {
    /// Where it stands.
    pub n: u64,
    /// When it came, by this device's clock.
    pub received_ms: u64,
    /// The frame.
    pub frame: Vec<u8>,
}

/// One version of a record, as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Whose version it is.
    pub record: RecordId,
    /// The change that made it.
    pub change: ChangeId,
    /// Where its entry stands; where it is not known, the position of the checkpoint it came with.
    pub n: u64,
    /// Which of the entry's changes it is.
    pub index: u16,
    /// The tag of its collection.
    pub shelf: Shelf,
    /// Who wrote it.
    pub user: UserId,
    /// On which device.
    pub device: DeviceId,
    /// The author's clock: by the entry, or by the record's own stamp where that is not at hand.
    pub unix_ms: u64,
    /// Whether it is what the record says now.
    pub current: bool,
    /// What it says, sealed.
    pub sealed: Vec<u8>,
}

/// A change that cannot be read here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    /// The record it is of.
    pub record: RecordId,
    /// Its id.
    pub change: ChangeId,
    /// Where its entry stands.
    pub n: u64,
    /// The epoch whose key would open it.
    pub epoch: u32,
    /// The author's clock.
    pub unix_ms: u64,
    /// Why, as a word.
    pub reason: String,
    /// `selkie_protocol::log::PageItem`, and the payload.
    pub item: Vec<u8>,
    /// What is sealed in it.
    pub payload: Vec<u8>,
}

/// A head of a record in the log whose content this device does not keep. Where the record says something else by now
/// and that could not be read either, it is that instead; once it is read, or forgotten, this is no longer here,
/// whatever else a step says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// The record it is of.
    pub record: RecordId,
    /// Its id.
    pub change: ChangeId,
    /// It was read here and let go; so it was no deletion.
    pub was_here: bool,
}

/// What writes of one call are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Together {
    /// They are one change of the app: sent in one entry where they fit, taken back as one.
    AsOne,
    /// They only came at the same time: none waits for another.
    EachAlone,
}

/// A write of this device that is to be taken down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewWrite {
    /// The record it is of.
    pub record: RecordId,
    /// The tag of its collection.
    pub shelf: Shelf,
    /// What it says, sealed.
    pub sealed: Vec<u8>,
}

/// A write that is not in the log yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Its number; later ones have higher numbers.
    pub seq: u64,
    /// The number of the first of the writes it belongs together with.
    pub group: u64,
    /// The record it is of.
    pub record: RecordId,
    /// The tag of its collection.
    pub shelf: Shelf,
    /// The changes it was made on top of; `None`: on top of the device's own write before.
    pub base: Option<Vec<ChangeId>>,
    /// What it says, sealed.
    pub sealed: Vec<u8>,
}

/// A record as this device has it: its own last write if there is one that is not in the log, else what the log has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The last write that is not in the log.
    pub pending: Option<Pending>,
    /// Empty if there is a pending write; else what is current, of which there can be several.
    pub current: Vec<Version>,
    /// There is neither, and the record is in the log: what it says is not here.
    pub elsewhere: Option<Elsewhere>,
    /// There is none of these, the log has the record, and nothing of it is set aside: what it says has not come, or is
    /// lost here.
    pub unexplained: bool,
}

/// One record of a collection, gone through: a pending write, or one of its current versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Whose it is.
    pub record: RecordId,
    /// Missing for a write that is not in the log.
    pub change: Option<ChangeId>,
    /// What it says, sealed.
    pub sealed: Vec<u8>,
}

/// A conflict, and how it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Which it is among those of the vault; given by the store.
    pub id: u64,
    /// The record it was about.
    pub record: RecordId,
    /// The version that is no longer current and was not made in knowledge of the other.
    pub lost: ChangeId,
    /// The version that stands.
    pub won: ChangeId,
    /// When it was settled, by this device's clock.
    pub at_ms: u64,
    /// How it was settled, as a word.
    pub how: String,
    /// While a person is to decide: what they decide between, sealed.
    pub asked: Option<Vec<u8>>,
}

/// How much room something takes, in bytes of what is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Records as they are now.
    pub records: u64,
    /// What records said before.
    pub history: u64,
    /// What is still to be sent.
    pub pending: u64,
    /// Entries of the log as they came (of the last 30 days), and what cannot be read yet.
    pub log: u64,
    /// What is kept to find and to verify the rest. Indexes of queries are in memory alone.
    pub indexes: u64,
    /// How many versions the history has.
    pub versions: u64,
}

impl Usage {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.records + self.history + self.pending + self.log + self.indexes
    }
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records with a current version, deletions among them.
    pub records: u64,
    /// Writes that are not in the log.
    pub pending: u64,
    /// Changes that cannot be read here.
    pub aside: u64,
    /// Records of which only this is known, that they are there.
    pub elsewhere: u64,
}

/// Opens the store of an account. An app may bring its own; the default is a SQLite file beside the account, or memory
/// where the account is in memory too.
pub trait VaultStores: Send + Sync + Debug {
    /// The store of an account, made if there is none.
    fn open(&self, account: &Folder) -> Result<Arc<dyn VaultStore>>;

    /// Forgets everything of an account. To forget what is not there is no error.
    fn remove(&self, account: &Folder) -> Result<()>;

    /// Makes the store of an account anew from what can be read of it, where it does not open any more; whether that
    /// was all.
    fn rebuild(&self, account: &Folder) -> Result<bool> {
        Err(beyond_repair(account.as_str()))
    }
}

fn beyond_repair(what: &str) -> StoreError {
    let source = std::io::Error::new(std::io::ErrorKind::Unsupported, "this store cannot be repaired");
    StoreError { doing: format!("repairing {what}"), source }
}

/// A vault that was forgotten under whoever still held it.
fn gone(doing: &str) -> StoreError {
    let source = std::io::Error::new(std::io::ErrorKind::NotFound, "the vault is not kept on this device any more");
    StoreError { doing: doing.to_owned(), source }
}

/// Vaults lie where their account lies.
pub(crate) fn beside_accounts(accounts: Arc<dyn super::AccountStore>) -> Arc<dyn VaultStores> {
    Arc::new(BesideAccounts { accounts, memory: Mutex::default() })
}

#[derive(Debug)]
struct BesideAccounts {
    accounts: Arc<dyn super::AccountStore>,
    memory: Mutex<BTreeMap<Folder, Arc<MemoryVaults>>>,
}

impl VaultStores for BesideAccounts {
    fn open(&self, account: &Folder) -> Result<Arc<dyn VaultStore>> {
        #[cfg(feature = "sqlite")]
        if let Some(folder) = self.accounts.location(account) {
            return Ok(Arc::new(SqliteVaults::open(&folder)?));
        }
        #[cfg(not(feature = "sqlite"))]
        if self.accounts.location(account).is_some() {
            let source = std::io::Error::other("this app was built without a store for vaults");
            return Err(StoreError { doing: "opening the vaults".into(), source });
        }
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(memory.entry(account.clone()).or_default().clone())
    }

    fn remove(&self, account: &Folder) -> Result<()> {
        // A file goes with the account's folder.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).remove(account);
        Ok(())
    }

    fn rebuild(&self, account: &Folder) -> Result<bool> {
        #[cfg(feature = "sqlite")]
        if let Some(folder) = self.accounts.location(account) {
            return SqliteVaults::rebuild_in(&folder);
        }
        Err(beyond_repair(account.as_str()))
    }
}
