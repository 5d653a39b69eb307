//! A vault as an app holds it.
//!
//! Owns the handle: reading and writing work without a server and wait for nobody; [`Vault::sync`] comes into step with
//! it. What a person may do with a vault has its own module beside this one. Decides nothing about logs: that
//! is `sync`.

mod check;
mod conflicts;
mod contents;
mod inspect;
mod members;
mod records;

pub use check::VaultCheck;
pub(crate) use check::check;
pub use conflicts::{Conflict, OpenConflict, Said, Stands};
pub use inspect::{LogEntry, Verified};
pub use members::{Member, Role};
pub(crate) use records::{INFO_RECORD, named};
pub use records::{Record, RecordVersion};

use crate::account::Account;
use crate::api::Contents;
use crate::error::{Error, Quarantine, Result};
use crate::sync::backoff::Backoff;
use crate::sync::driver::{Round, SyncReport, Trouble};
use crate::sync::replica::KeptTrust;
use crate::sync::room::{Glance, Room, Slot};
use selkie_protocol::bytes::to_base64url;
use selkie_protocol::id::{UserId, VaultId};
use std::sync::Arc;

/// One vault. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Vault {
    pub(crate) account: Account,
    pub(crate) room: Arc<Room>,
    pub(crate) slot: Arc<Slot>,
    id: VaultId,
}

/// What a list of vaults shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultSummary {
    /// For [`Account::vault_by_id`].
    pub id: VaultId,
    /// Missing while this device cannot read it.
    pub name: Option<String>,
    /// The app it belongs to.
    pub app: String,
    /// What the account's devices tell each other: the SDK's, and no place for records of an app.
    pub is_own: bool,
    /// Missing if this person is no member any more.
    pub role: Option<Role>,
    /// How many people are in it.
    pub members: usize,
    /// How many records are here, deleted ones among them.
    pub records: u64,
    /// Writes that are not in the log yet.
    pub pending: u64,
    /// How it is.
    pub state: VaultState,
}

/// How a vault is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VaultState {
    /// Made here; the server has not heard of it yet.
    New,
    /// In order.
    Ready,
    /// The vault's present key is not here: what was written with it cannot be read, and nothing is sent. It comes with
    /// a round, or with the first one after another device that has it has been online.
    NoKey,
    /// This person was removed. What is here stays readable.
    NotAMember,
    /// The server was caught: nothing is pushed or applied.
    Quarantined(Quarantine),
    /// The server was restored and has lost our last entries.
    ServerBehind {
        /// How many entries that is.
        missing: u64,
    },
    /// An owner goes on without our last entries: see [`Vault::accept_reset`].
    TailReset {
        /// How many entries of this device that costs.
        lost: u64,
    },
    /// What is kept of it here cannot be read: see [`Account::repair`].
    Damaged(String),
}

/// How a vault is, in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultStatus {
    /// How it is, in a word.
    pub state: VaultState,
    /// What two devices compare.
    pub digest: Digest,
    /// Which key is in use, counted from 1.
    pub epoch: u32,
    /// How many records are here, deleted ones among them.
    pub records: u64,
    /// How many there are of which this device does not keep what they say: see [`Vault::let_go`].
    pub elsewhere: u64,
    /// Writes that are not in the log yet.
    pub pending: u64,
    /// Changes that cannot be read here, for now, and why.
    pub set_aside: Vec<String>,
    /// Something signed is on its way, or its answer was lost.
    pub in_flight: bool,
    /// Whose word stands for what is older than this device's first look.
    pub trust: KeptTrust,
    /// Where the last checkpoint stands; 0 if there is none.
    pub last_checkpoint: u64,
}

/// What two devices compare: the same digest means the same history, change for change.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest {
    /// How many entries the log has.
    pub n: u64,
    /// The hash over all of them.
    pub h: [u8; 32],
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.n, &to_base64url(&self.h)[..12])
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Vault {
    pub(crate) fn new(account: Account, room: Arc<Room>, id: VaultId) -> Self {
        let slot = room.slot(&id);
        Vault { account, room, slot, id }
    }

    /// The vault's name for life: a hash that nobody could choose.
    pub fn id(&self) -> VaultId {
        self.here().id
    }

    /// The id under which this handle was made: it may have become another vault since.
    pub(crate) fn id_as_held(&self) -> VaultId {
        self.id
    }

    /// The vault that this one has become, if an account has taken it over since: every handle the app held goes on.
    pub(crate) fn here(&self) -> Vault {
        match self.slot.became() {
            Some(vault) => vault,
            None => self.clone(),
        }
    }

    /// Comes into step with the server: sends what was written here, takes what others wrote. Call it when the app
    /// starts, when something was written, and now and then. If the server is caught lying, this says so and the vault
    /// is set apart.
    pub async fn sync(&self) -> Result<SyncReport> {
        let here = self.here();
        here.round().run(&here.slot, false).await
    }

    /// The same when a poll has just said that nothing is new.
    pub(crate) async fn sync_known(&self, known_current: bool, server_at: u64, backoff: Backoff) -> Result<SyncReport> {
        let here = self.here();
        let round = Round { server_at, backoff, ..here.round() };
        round.run(&here.slot, known_current).await
    }

    /// The first time. With what is said left for later, from a checkpoint if there is one.
    pub(crate) async fn come_in(&self, contents: Contents) -> Result<SyncReport> {
        let here = self.here();
        let server_at = if contents == Contents::Later { u64::MAX } else { 0 };
        let round = Round { server_at, contents, ..here.round() };
        round.run(&here.slot, false).await
    }

    fn round(&self) -> Round<'_> {
        Round::new(&self.account, &self.room, self.id)
    }

    /// Does something with the vault while nobody else does.
    pub(crate) async fn alone<T>(&self, work: impl AsyncFnOnce(&mut Round<'_>) -> Result<T, Trouble>) -> Result<T> {
        let here = self.here();
        here.round().alone(&here.slot, work).await
    }

    /// How many entries the log has and the hash over all of them, to be compared with other devices.
    pub async fn digest(&self) -> Result<Digest> {
        let head = self.glance().await?.head;
        Ok(Digest { n: head.n, h: head.h })
    }

    /// How the vault is. No request is made.
    pub async fn status(&self) -> Result<VaultStatus> {
        let glance = self.glance().await?;
        let (counts, aside) =
            self.read(|room, vault| Ok((room.store.counts(vault)?, room.store.aside(vault)?))).await?;
        Ok(VaultStatus {
            state: self.state_of(&glance),
            digest: Digest { n: glance.head.n, h: glance.head.h },
            epoch: glance.epoch,
            records: counts.records,
            elsewhere: counts.elsewhere,
            pending: counts.pending,
            set_aside: aside.into_iter().map(|aside| aside.reason).collect(),
            in_flight: glance.in_flight,
            trust: glance.trust,
            last_checkpoint: glance.last_checkpoint,
        })
    }

    /// What a list shows of it. No request is made.
    pub async fn summary(&self) -> Result<VaultSummary> {
        let glance = match self.glance().await {
            Err(Error::Damaged { what, .. }) => {
                let (name, app, state) = (None, String::new(), VaultState::Damaged(what));
                let (id, is_own, role, members, records, pending) = (self.id(), false, None, 0, 0, 0);
                return Ok(VaultSummary { id, name, app, is_own, role, members, records, pending, state });
            }
            glance => glance?,
        };
        let counts = self.read(|room, vault| Ok(room.store.counts(vault)?)).await?;
        Ok(VaultSummary {
            id: self.id(),
            name: match self.name().await {
                Err(Error::Damaged { .. }) => None,
                name => name?,
            },
            is_own: glance.app == crate::account::OWN_APP,
            app: glance.app.clone(),
            role: glance.role(&self.me()).map(Role::from),
            members: glance.members.len(),
            records: counts.records,
            pending: counts.pending,
            state: self.state_of(&glance),
        })
    }

    pub(crate) fn state_of(&self, glance: &Glance) -> VaultState {
        match glance {
            Glance { quarantine: Some(quarantine), .. } => VaultState::Quarantined(quarantine.clone()),
            Glance { reset_offered: Some(lost), .. } => VaultState::TailReset { lost: *lost },
            Glance { behind: Some(missing), .. } => VaultState::ServerBehind { missing: *missing },
            glance if glance.role(&self.me()).is_none() => VaultState::NotAMember,
            Glance { has_key: false, .. } => VaultState::NoKey,
            Glance { born: false, .. } => VaultState::New,
            _ => VaultState::Ready,
        }
    }

    /// Forgets the vault on this device, with whatever was not sent. On the server it stays.
    pub async fn forget(&self) -> Result<()> {
        let here = self.here();
        let mut place = here.slot.replica.lock().await;
        *place = None;
        let forgotten = here.read_as_held(|room, vault| Ok(room.store.forget(vault)?)).await;
        here.slot.forget();
        here.room.ring(&here.id);
        forgotten
    }

    pub(crate) async fn glance(&self) -> Result<Glance> {
        let here = self.here();
        if let Some(glance) = here.slot.glance() {
            return Ok(glance);
        }
        let read = |room: &Room, vault: &VaultId| {
            let outline = room.store.outline(vault)?;
            outline.map(|outline| Glance::of_outline(vault, &outline, &room.at_rest)).transpose()
        };
        let glance = here.read(read).await?;
        let glance = glance.ok_or_else(|| Error::NotPossible("this device does not keep that vault".into()))?;
        Ok(here.slot.show_first(glance))
    }

    /// Who reads and writes here.
    pub(crate) fn me(&self) -> UserId {
        self.here().account.user_id()
    }

    /// Reads what lies in the vault under whose id this handle was made, whatever it has become.
    pub(crate) async fn read_as_held<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Room, &VaultId) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (room, id) = (self.room.clone(), self.id);
        self.account.context().edges.apart(move || read(&room, &id)).await?
    }

    /// Reads the store, away from the threads that drive futures.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Room, &VaultId) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.here().read_as_held(read).await
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vault({})", self.id())
    }
}
