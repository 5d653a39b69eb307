//! The contract of what is remembered of vaults: their logs, what is live in them, their keys and people.
//!
//! Owns the trait and its types. Who may do what, and whether an entry may stand, is decided above, by the rules of
//! `selkie_protocol::log`; the store keeps the outcome and makes sure that it was decided from the newest state: an
//! append names the head it was decided at, and is refused if the log has moved.
//!
//! Frames are kept as they came. Beside them stands, for every change that is live or was until lately, one narrow row:
//! which record, where, what it is called, and from which entry on it no longer counts. That is what the next entry is
//! judged by, what tells which payloads may go, and what was live at any position that is not long past.

use super::{AccountNumber, Millis, Result, Tenant};
use async_trait::async_trait;
use selkie_protocol::id::{ChangeId, DeviceId, RecordId, UserId, VaultId};
use selkie_protocol::log::Head;

/// The database's own number of a vault, within its tenant. Never enters cryptography.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VaultNumber(pub i64);

/// A vault as the hot paths name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    pub tenant: Tenant,
    pub vault: VaultNumber,
}

#[async_trait]
pub trait Vaults: Send + Sync {
    /// Makes a vault with its CREATE entry. Refused with `IdTaken("vault")` if there is one of this name: it was sent
    /// twice. Refused with `LimitReached` beyond the plan's vaults of one account.
    async fn create_vault(&self, tenant: Tenant, vault: NewVault) -> Result<VaultNumber>;
    /// The vault of this name, if the tenant has it.
    async fn vault(&self, tenant: Tenant, vid: VaultId) -> Result<Option<VaultRow>>;
    /// The vaults an account is a member of, oldest first.
    async fn vaults_of(&self, tenant: Tenant, account: AccountNumber) -> Result<Vec<VaultRow>>;
    /// The same of many accounts, of any tenants, in the order asked: one round trip.
    async fn vaults_of_many(&self, accounts: Vec<(Tenant, AccountNumber)>) -> Result<Vec<Vec<VaultRow>>>;
    /// Vaults that nobody is left in once this account is gone, oldest first: [`delete_account`] removes them with
    /// everything. Their pages are removed before, by the caller.
    ///
    /// [`delete_account`]: super::Accounts::delete_account
    async fn vaults_left_empty_by(&self, tenant: Tenant, account: AccountNumber) -> Result<Vec<VaultRow>>;
    /// Removes some of what is in those vaults, in one bounded step, and returns whether there is more: a log of
    /// millions of entries does not go in one transaction. For an account that is about to be deleted, and no other:
    /// what is left of its vaults after this is no log any more.
    async fn empty_vaults_left_by(&self, tenant: Tenant, account: AccountNumber) -> Result<bool>;
    /// The head positions of many vaults, of any tenants, in the order asked: one round trip. 0 for one that is gone.
    async fn positions(&self, vaults: Vec<Place>) -> Result<Vec<u64>>;

    /// What the rules need to judge the next entries of some vaults, each seen in one snapshot, all in one round trip.
    /// `None` for a vault that is gone.
    async fn bearings(&self, questions: Vec<Question>) -> Result<Vec<Option<Bearings>>>;
    /// Appends to several vaults in one transaction. Each is taken whole or not at all and answered by itself: false
    /// if its log is no longer where it was decided from. Returns when what was taken is durable.
    async fn append(&self, appends: Vec<Append>) -> Result<Vec<bool>>;

    /// What stands after a position, as far as the limits go, and the head, in one snapshot. At least one entry if
    /// there is one, however long.
    async fn entries_after(&self, at: Place, after: u64, limits: PageLimits) -> Result<(Vec<StoredFrame>, Head)>;
    /// The entries alone of what stands after a position, without what travels beside them: that is not even read. As
    /// far as the limits go, of which `bytes` counts entries; at least one if there is one.
    async fn entries_alone_after(&self, at: Place, after: u64, limits: PageLimits) -> Result<Vec<(u64, Vec<u8>)>>;
    /// CONTROL entries after a position, without what travels beside them.
    async fn controls_after(&self, at: Place, after: u64, limits: PageLimits) -> Result<Vec<StoredFrame>>;
    /// Entry hashes of the positions `from..=to`, ascending.
    async fn entry_hashes(&self, at: Place, from: u64, to: u64) -> Result<Vec<[u8; 32]>>;
    /// The chain value at a position; `None` if nothing stands there. That of position 0 is the vault's name.
    async fn chain_value(&self, at: Place, n: u64) -> Result<Option<[u8; 32]>>;
    /// Where an entry of a device stands that is among the last `lookback` entries, and its hash.
    async fn entry_of(
        &self,
        at: Place,
        device: DeviceId,
        dev_seq: u64,
        lookback: u64,
    ) -> Result<Option<(u64, [u8; 32])>>;

    /// Keys sealed to one member, ascending by epoch and generation.
    async fn wraps(&self, at: Place, account: AccountNumber) -> Result<Vec<WrapRow>>;
    /// The entry that removed an account from a vault, and when it came. `None` for members and strangers.
    async fn removal_of(&self, at: Place, account: AccountNumber) -> Result<Option<(Head, Millis)>>;
    /// Adds keys; one that is there for the same member, epoch and generation is replaced. A member who has no account
    /// in this tenant is `NotFound("member")`.
    async fn add_wraps(&self, at: Place, wraps: Vec<WrapRow>) -> Result<()>;

    /// Entries of somebody's account log, by their public name, and the log's length; `None` if nobody here is called
    /// that.
    async fn log_of_user(
        &self,
        tenant: Tenant,
        user: UserId,
        from: u64,
        limit: u32,
    ) -> Result<Option<(Vec<Vec<u8>>, u64)>>;

    /// Changes that were live at a position, ascending by record and change, after a place in that order.
    async fn live_at(&self, at: Place, n: u64, after: Option<(RecordId, ChangeId)>, limit: u32)
    -> Result<Vec<LiveRow>>;
    /// Writes down a checkpoint that can be begun from, and forgets all but the newest `keep`. Returns those forgotten:
    /// their pages are the caller's to remove.
    async fn add_checkpoint(&self, at: Place, checkpoint: CheckpointRow, keep: u32) -> Result<Vec<u64>>;
    /// Checkpoints that can be begun from, newest first.
    async fn checkpoints(&self, at: Place) -> Result<Vec<CheckpointRow>>;
    /// The newest CHECKPOINT entries of vaults that cannot be begun from yet, a bounded number.
    async fn checkpoints_to_prepare(&self, limit: u32) -> Result<Vec<(Place, u64)>>;

    /// Drops payloads that were superseded by entries received before `before`, in one bounded step, and returns how
    /// many and whether there is more. Payloads of changes that were live at the positions in `keep_live_at` stay.
    async fn prune(&self, at: Place, before: Millis, keep_live_at: Vec<u64>) -> Result<(u64, bool)>;
    /// Vaults with something to prune, after a place in their order, a bounded number.
    async fn vaults_to_prune(&self, before: Millis, after: Option<Place>, limit: u32) -> Result<Vec<Place>>;
    /// The bytes all vaults of a tenant take, and how many the plan allows; `None` is unlimited.
    async fn space(&self, tenant: Tenant) -> Result<(u64, Option<u64>)>;

    /// Tells the other servers on this database that vaults have moved. Lossy and late, and never on the way of a push.
    async fn announce(&self, moved: Vec<(Place, u64)>) -> Result<()>;
    /// What other servers announce, and now and then that some of it may have been missed.
    fn announcements(&self) -> tokio::sync::broadcast::Receiver<Announcement>;
}

/// What another server said, or that it may have said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announcement {
    Moved(Place, u64),
    /// The line to the others was down: anything may have moved.
    Missed,
}

#[derive(Clone)]
pub struct NewVault {
    pub vid: VaultId,
    /// As CREATE says it.
    pub app: String,
    pub creator: AccountNumber,
    pub entry: NewEntry,
    /// [`selkie_protocol::log::Core`], right after CREATE.
    pub state: Vec<u8>,
    pub wraps: Vec<WrapRow>,
    /// How many vaults an account may have made; `None` is unlimited.
    pub max_vaults: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultRow {
    pub vault: VaultNumber,
    pub vid: VaultId,
    pub app: String,
    pub head: Head,
}

/// An entry that was judged and may stand.
#[derive(Clone)]
pub struct NewEntry {
    pub head: Head,
    /// The entry's hash.
    pub hash: [u8; 32],
    pub device: DeviceId,
    pub dev_seq: u64,
    pub is_control: bool,
    /// CHECKPOINT.
    pub is_checkpoint: bool,
    /// [`selkie_protocol::log::Frame`], as it came.
    pub frame: Vec<u8>,
    pub received_at: Millis,
    pub adds: Vec<NewChange>,
    /// Changes of a record that from this entry on are no longer live, and those that only are no heads any more.
    pub supersedes: Vec<(RecordId, ChangeId)>,
    pub no_longer_heads: Vec<(RecordId, ChangeId)>,
    /// Records that a checkpoint forgets: their rows go, whatever they say.
    pub forgets: Vec<RecordId>,
}

/// A change that is live from its entry on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewChange {
    pub record: RecordId,
    pub change: ChangeId,
    /// Its place in its entry.
    pub index: u16,
    pub full: bool,
    /// A later change of the same entry was made on top of it already, or replaced it.
    pub head: bool,
    pub live: bool,
}

/// What is asked about one vault.
#[derive(Clone, Debug)]
pub struct Question {
    pub at: Place,
    /// The position the asker's own state is of: it is left out of the answer if it is of the head.
    pub known: Option<u64>,
    /// Of which everything that is live is wanted.
    pub records: Vec<RecordId>,
    /// Of which only the heads are wanted, the whole write, and these changes: a document that is written in
    /// differences has very many that are live. None of them among `records`, and none twice.
    pub differences: Vec<(RecordId, Vec<ChangeId>)>,
    /// Chain values wanted.
    pub chain: Vec<u64>,
}

/// Where a vault stands.
#[derive(Clone, Debug)]
pub struct Bearings {
    pub head: Head,
    /// Unless the asker has it: the newest state that was kept, and the entries (without payloads) after it, oldest
    /// first, that bring it up to the head.
    pub state: Option<(Vec<u8>, Vec<Vec<u8>>)>,
    /// What is live of the records asked for, ascending by record and change.
    pub live: Vec<LiveRow>,
    /// The chain values asked for, where something stands.
    pub chain: Vec<(u64, [u8; 32])>,
}

/// A change that is, or was, live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveRow {
    pub record: RecordId,
    pub change: ChangeId,
    /// Where its entry stands, and its place in it.
    pub n: u64,
    pub index: u16,
    pub full: bool,
    pub head: bool,
}

/// What is to become of one vault's log.
#[derive(Clone)]
pub struct Append {
    pub at: Place,
    /// The head this was decided at.
    pub before: Head,
    /// At least one, each the next one.
    pub entries: Vec<NewEntry>,
    /// The state after them, if it is to be kept now: with every CONTROL entry, and now and then.
    pub state: Option<Vec<u8>>,
    /// Everybody who is a member afterwards, if that has changed; who has no account here is left out.
    pub members: Option<Vec<UserId>>,
    /// Whom these entries removed, and the position of the one that did.
    pub removed: Vec<(UserId, u64)>,
    pub wraps: Vec<WrapRow>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrapRow {
    pub user: UserId,
    pub epoch: u32,
    pub generation: u32,
    pub sealed: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimits {
    pub entries: u32,
    pub bytes: u64,
}

#[derive(Clone, PartialEq, Eq)]
pub struct StoredFrame {
    pub n: u64,
    pub frame: Vec<u8>,
}

/// A checkpoint whose pages lie in the blob store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointRow {
    /// Where the CHECKPOINT entry stands.
    pub n: u64,
    /// 32 bytes a page.
    pub page_hashes: Vec<u8>,
}
