//! DECIDES what a push means: order, idempotency, conflicts; and what a reader may be shown.
//!
//! Owns the way of an entry into a vault's log, and of a log to its members. The rules themselves are
//! `selkie_protocol::log`, which clients run, too. Knows nothing of HTTP and nothing of a database: messages come in,
//! what is to be remembered goes out through [`Vaults`].
//!
//! | module | what it owns |
//! |---|---|
//! | [`push`], `desk`, `group`, `ground` | the way in: looked at, queued, written together, judged one by one |
//! | [`create`], [`wraps`], [`pull`], [`poll`] | what members ask for |
//! | [`checkpoints`], `leaves`, `prepare`, [`begin`] | what is live, in pages, for who comes in new |
//! | [`restore`] | the way back of what a restored server has forgotten |
//! | [`events`], `hub`, `news`, `announcer` | hints to who listens |
//! | `known`, `people`, `heads`, `space` | memory, each with what makes it true |
//! | [`HeadKey`] | the server's word about its logs |

mod announcer;
mod author;
pub mod begin;
pub mod checkpoints;
pub mod create;
mod desk;
pub mod events;
mod ground;
mod group;
mod head_key;
mod heads;
mod hub;
mod known;
mod leaves;
mod news;
mod people;
pub mod poll;
mod prepare;
pub mod pull;
pub mod push;
pub mod records;
mod refusal;
pub mod restore;
mod retention;
mod space;
#[cfg(test)]
mod tests;
pub mod wraps;

pub use head_key::HeadKey;
pub use hub::{Hint, ListenerLimits, Listening};
pub use poll::PollKey;
pub use prepare::blob_prefix;
pub use refusal::{Refusal, Result};

use crate::auth::Caller;
use crate::blobs::BlobStore;
use crate::edges::Edges;
use crate::limits::{Action, Key, Limits};
use crate::shelf::Shelf;
use crate::store::{Millis, Place, Store, Tenant, TenantRow, Tenants, VaultNumber, Vaults};
use announcer::Announcer;
use author::Reader;
use desk::Desk;
use group::Office;
use heads::Heads;
use hub::Hub;
use known::Known;
use news::News;
use people::Acquaintances;
use poll::Census;
use selkie_protocol::id::{Incarnation, VaultId};
use selkie_protocol::log::{Head, Member};
use space::Spaces;
use std::sync::Arc;

/// What the people who run the server decided.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Vaults an account may make where its tenant's plan says nothing.
    pub max_vaults: i64,
    pub page_entries: u32,
    pub page_bytes: u64,
    pub listeners: ListenerLimits,
}

/// What this room is given.
pub struct Opening {
    pub store: Arc<dyn Store>,
    pub blobs: Arc<dyn BlobStore>,
    pub edges: Edges,
    pub limits: Arc<Limits>,
    pub head_key: Arc<HeadKey>,
    pub poll_key: PollKey,
    pub incarnation: Incarnation,
    /// When this life of the server began, if it is not its first.
    pub restored_at: Option<Millis>,
    pub policy: Policy,
    /// Nobody else writes in this database while we run.
    pub alone: bool,
}

/// The logs of all vaults.
pub struct Logs {
    room: Room,
    desk: Desk,
    limits: Arc<Limits>,
    poll_key: PollKey,
}

/// What is shared by everything in here.
struct Room {
    office: Arc<Office>,
    tenants: Arc<dyn Tenants>,
    blobs: Arc<dyn BlobStore>,
    policy: Policy,
    /// Names of vaults never change.
    names: Shelf<(Tenant, VaultId), VaultNumber>,
    spaces: Spaces,
    census: Option<Census>,
    /// What a checkpoint must say takes much reading: one at a time.
    counting: tokio::sync::Semaphore,
    evidence: Shelf<(Place, u64), Arc<[u64]>>,
}

const NAMES_ROOM: usize = 8 << 20;
const NAME_WEIGHT: usize = 96;
const EVIDENCE_ROOM: usize = 1 << 20;

impl Logs {
    /// Opens the room on the runtime of whoever opens it.
    pub fn open(opening: Opening) -> Self {
        let Opening { store, blobs, edges, limits, head_key, poll_key, incarnation, restored_at, policy, alone } =
            opening;
        let vaults: Arc<dyn Vaults> = store.clone();
        let hub = Arc::new(Hub::new(policy.listeners));
        let announcer = (!alone).then(|| Announcer::open(vaults.clone(), &hub));
        let news = News { heads: Heads::default(), hub, announcer };
        let people = Acquaintances::new(vaults.clone());
        let census = (!alone).then(|| Census::open(store.clone()));
        let cores = known::cores();
        let office = Arc::new(Office { vaults, edges, head_key, incarnation, restored_at, people, cores, news });
        let room = Room {
            office: office.clone(),
            tenants: store,
            blobs,
            policy,
            names: Shelf::new(NAMES_ROOM),
            spaces: Spaces::default(),
            census,
            counting: tokio::sync::Semaphore::new(1),
            evidence: Shelf::new(EVIDENCE_ROOM),
        };
        Logs { room, desk: Desk::open(office), limits, poll_key }
    }

    /// Ends everybody's listening, so that a server can stop.
    pub fn close(&self) {
        self.room.office.news.hub.close();
    }

    /// Within what the caller's plan allows.
    fn count(&self, caller: &Caller, action: Action, keys: &[Key<'_>]) -> Result<()> {
        match self.limits.check(action, keys, caller.plan()) {
            Ok(_) => Ok(()),
            Err(refused) => {
                refused.note();
                Err(Refusal::TooMany(refused))
            }
        }
    }
}

impl Room {
    /// Where a vault is kept. What is not there and what is none of the asker's business look alike.
    async fn place(&self, tenant: Tenant, vid: VaultId) -> Result<Place> {
        if let Some(vault) = self.names.get(&(tenant, vid)) {
            return Ok(Place { tenant, vault });
        }
        let row = self.office.vaults.vault(tenant, vid).await?.ok_or(Refusal::NotFound("vault"))?;
        self.names.put((tenant, vid), row.vault, NAME_WEIGHT);
        Ok(Place { tenant, vault: row.vault })
    }

    async fn tenant(&self, tenant: Tenant) -> Result<TenantRow> {
        self.tenants.tenant_by_number(tenant).await?.ok_or(Refusal::NotFound("tenant"))
    }

    /// The state of a vault now, for one of its members.
    async fn for_member(&self, caller: &Caller, vid: VaultId) -> Result<(Reader, Place, Arc<Known>)> {
        let reader = Reader::of(caller)?;
        let at = self.place(reader.tenant, vid).await?;
        let known = self.office.look_up(at).await?;
        member(&known, reader)?;
        Ok((reader, at, known))
    }

    /// What somebody may read who is a member or was one. Who was removed need not take the server's word for it: they
    /// are shown how it came to that. What is written since is none of their business, nor how much of it there is.
    async fn for_reader(&self, caller: &Caller, vid: VaultId) -> Result<(Reader, Place, Reach)> {
        let reader = Reader::of(caller)?;
        let at = self.place(reader.tenant, vid).await?;
        let reach = self.reach(at, reader, self.office.look_up(at).await?).await?;
        Ok((reader, at, reach))
    }

    /// The same, in a state of the vault that is known.
    async fn reach(&self, at: Place, reader: Reader, known: Arc<Known>) -> Result<Reach> {
        if member(&known, reader).is_ok() {
            return Ok(Reach::Whole(known));
        }
        if let Some((end, then)) = self.office.vaults.removal_of(at, reader.account).await? {
            return Ok(Reach::Until(end, then));
        }
        // A stranger, or somebody who was let in again between the two looks.
        let known = self.office.look_up(at).await?;
        member(&known, reader).map(|_| ())?;
        Ok(Reach::Whole(known))
    }
}

/// How much of a log somebody may read.
enum Reach {
    /// All of it: a member.
    Whole(Arc<Known>),
    /// Up to the entry that removed them, which came then.
    Until(Head, Millis),
}

/// Who is not a member is told what is told of vaults that do not exist.
fn member(known: &Known, reader: Reader) -> Result<&Member> {
    known.core.governance().member(&reader.user).ok_or(Refusal::NotFound("vault"))
}
