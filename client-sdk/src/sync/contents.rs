//! What records say, apart from that they are there: letting go of it on this device, and having it again.
//!
//! Owns both ways. The log stays whole here in either case, so that what the server sends of a record is held against
//! what this device has verified before, and nothing needs to be believed.

use super::driver::{Round, Step, keep};
use super::heads::note_head;
use super::replica::Replica;
use super::room::Room;
use super::take::{FRAMES_KEPT_MS, Place, open_item};
use crate::error::Error;
use crate::store::vaults::{Advance, Elsewhere};
use crate::trust::Alarm;
use selkie_protocol::cipher::random_id;
use selkie_protocol::id::{ChangeId, RecordId};
use selkie_protocol::log::{PageItem, Refusal, SignedHead};
use selkie_protocol::record::RecordBody;
use selkie_protocol::vault::{LiveRecords, MAX_WANTED_RECORDS, WantedRecords};
use std::collections::{BTreeMap, BTreeSet};

/// How many records go in one step of the store.
const AT_A_TIME: usize = 1_000;
/// How often the same records are asked for while others write and nothing of them comes.
const TRIES: u32 = 8;

/// What was let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LetGo {
    /// How many records.
    pub records: u64,
    /// The room they took with their history, in bytes.
    pub bytes: u64,
}

/// Of which records it is to be known here what they say.
pub(crate) enum Wanted {
    These(Vec<RecordId>),
    All,
}

impl Round<'_> {
    /// Lets go of what records say that were last written before a time: of one collection, or of all that are an
    /// app's.
    pub(crate) async fn let_go(&mut self, collection: Option<String>, before_ms: u64) -> Step<LetGo> {
        self.load().await?;
        let replica = self.replica()?;
        let state = &replica.state;
        let why_not = match state {
            _ if !state.born => Some("the vault is not on a server yet"),
            _ if state.quarantine.is_some() => Some("the vault is set apart, because the server was caught"),
            _ if state.behind.is_some() || state.reset_offered.is_some() => Some("the server has lost some of it"),
            _ if replica.role(&self.me.user).is_none() => Some("this person is no member any more"),
            _ => None,
        };
        if let Some(why) = why_not {
            return Err(Error::NotPossible(format!("what is let go could not be had again: {why}")).into());
        }
        let now_ms = self.account.context().now_ms();
        self.with_replica(move |replica, room| {
            let frames_before_ms = now_ms.saturating_sub(FRAMES_KEPT_MS);
            keep(replica, room, &Advance { frames_before_ms, ..Advance::default() })?;
            let_go(replica, room, collection.as_deref(), before_ms)
        })
        .await
    }

    /// Has it known here again what records say. Returns of how many it was not, and is.
    pub(crate) async fn fetch_contents(&mut self, wanted: Wanted) -> Step<u64> {
        self.come_into_step(false).await?;
        let mut fetched = 0;
        let all = self.elsewhere_among(wanted).await?;
        for some in all.chunks(MAX_WANTED_RECORDS) {
            fetched += self.fetch_some(some.to_vec()).await?;
        }
        Ok(fetched)
    }

    /// Those of the records whose content is not here. What came and could not be read waits for its key instead.
    async fn elsewhere_among(&self, wanted: Wanted) -> Step<Vec<RecordId>> {
        let (room, vault) = (self.room.clone(), self.vault);
        let look = move || {
            let elsewhere = match wanted {
                Wanted::All => room.store.elsewhere(&vault)?,
                Wanted::These(records) => {
                    let of = records.iter().map(|record| room.store.elsewhere_of(&vault, record));
                    of.collect::<Result<Vec<_>, _>>()?.concat()
                }
            };
            let unread: BTreeSet<ChangeId> = room.store.aside(&vault)?.into_iter().map(|aside| aside.change).collect();
            let missing = elsewhere.into_iter().filter(|one| !unread.contains(&one.change));
            Ok::<_, Error>(missing.map(|one| one.record).collect::<BTreeSet<_>>().into_iter().collect())
        };
        Ok(self.account.context().edges.apart(look).await??)
    }

    /// Has what writes collide with that could not be sent, where that is elsewhere. Whether anything came.
    pub(super) async fn fetch_what_is_written_over(&mut self) -> Step<bool> {
        if self.report.waiting == 0 {
            return Ok(false);
        }
        let (room, vault) = (self.room.clone(), self.vault);
        let outbox = self.account.context().edges.apart(move || room.store.outbox(&vault, usize::MAX)).await??;
        let written = outbox.into_iter().map(|pending| pending.record).collect();
        let missing = self.elsewhere_among(Wanted::These(written)).await?;
        let mut fetched = 0;
        for some in missing.chunks(MAX_WANTED_RECORDS) {
            fetched += self.fetch_some(some.to_vec()).await?;
        }
        Ok(fetched > 0)
    }

    async fn fetch_some(&mut self, mut wanted: Vec<RecordId>) -> Step<u64> {
        let (mut fetched, mut in_vain) = (0, 0);
        while !wanted.is_empty() {
            let many = wanted.len();
            let asked = WantedRecords { records: wanted };
            let answer = self.ask_for(&asked).await?;
            let head = self.signed(&answer.head).await?;
            let lives_on = self.replica()?.state.incarnation == Some(head.incarnation);
            let (came, left) = match lives_on {
                true => {
                    let take = move |replica: &mut Replica, room: &Room| take(replica, room, &asked, &answer, &head);
                    self.with_replica(take).await?
                }
                // Our log is held against the new life first.
                false => (0, asked.records),
            };
            fetched += came;
            wanted = left;
            if wanted.len() < many {
                in_vain = 0;
            } else if !wanted.is_empty() {
                in_vain += 1;
                if in_vain == TRIES {
                    let why = "the server had no room, or others write the same records all the time".into();
                    return Err(Error::RetryLater { after: None, why }.into());
                }
                // What was written since comes with the log.
                self.come_into_step(false).await?;
                wanted = self.elsewhere_among(Wanted::These(wanted)).await?;
            }
        }
        Ok(fetched)
    }

    async fn ask_for(&mut self, asked: &WantedRecords) -> Step<LiveRecords> {
        let (context, vault) = (self.account.context(), self.vault);
        loop {
            let answer =
                self.account.call(|bearer| async move { context.api.live_records(&bearer, &vault, asked).await });
            let error = match answer.await {
                Ok(answer) => {
                    self.backoff.came_further();
                    return Ok(answer);
                }
                Err(error) => error,
            };
            match self.backoff.after(&error, u32::from_be_bytes(random_id())) {
                Some(wait) => context.edges.runtime.sleep(wait).await,
                None => return Err(error.into()),
            }
        }
    }
}

fn let_go(replica: &Replica, room: &Room, collection: Option<&str>, before_ms: u64) -> Step<LetGo> {
    let (vault, mut gone) = (replica.vault(), LetGo::default());
    let shelves = match collection {
        Some(name) => vec![room.at_rest.shelf(&vault, name)],
        None => room.store.shelves(&vault)?,
    };
    for shelf in shelves {
        let mut old = Vec::new();
        let seen = room.store.shelf(&vault, &shelf, &mut |shown| {
            let Some(change) = shown.change else { return };
            let live = replica.log.live().record(&shown.record);
            // What the log has is one whole write, and it is here.
            if !live.is_some_and(|live| live.len() == 1 && live.contains(&change)) {
                return;
            }
            let plain = room.at_rest.open_record(&vault, &shown.record, &shown.sealed).ok();
            let Some(body) = plain.and_then(|plain| RecordBody::from_bytes(&plain).ok()) else { return };
            // What a vault says of itself stays, and so do deletions: they are small, and others are held against them.
            if !body.deleted && body.hlc.ms < before_ms && !body.collection.starts_with(crate::archive::RESERVED) {
                old.push(Elsewhere { record: shown.record, change, was_here: true });
            }
        })?;
        for some in old.chunks(AT_A_TIME) {
            let (many, took) = room.store.let_go(&vault, seen, some)?;
            room.ring(&vault);
            gone.records += many;
            gone.bytes += took.records + took.history;
        }
    }
    if gone.records > 0
        && let Err(error) = room.store.shrink()
    {
        // It takes room itself. What went is free for what comes.
        tracing::warn!(%error, "the room of what was let go is not given back yet");
    }
    Ok(gone)
}

/// Keeps what came of the records that were asked for. Returns of how many it is here now, and which are to be asked
/// for again.
fn take(
    replica: &mut Replica,
    room: &Room,
    asked: &WantedRecords,
    answer: &LiveRecords,
    head: &SignedHead,
) -> Step<(u64, Vec<RecordId>)> {
    note_head(replica, head)?;
    let vault = replica.vault();
    let mut left: BTreeSet<RecordId> = answer.left.iter().copied().collect();
    left.retain(|record| asked.records.contains(record));
    // Only what our own log says is live, with the payload that it says.
    let mut came: BTreeMap<ChangeId, (PageItem<'_>, &[u8])> = BTreeMap::new();
    for (item, payload) in answer.items.iter().zip(&answer.payloads) {
        let Ok(item) = PageItem::parse(item) else { continue };
        let leaf = item.leaf(&vault);
        let live = replica.log.live().record(&leaf.record);
        let ours = live.and_then(|live| live.changes().find(|ours| ours.id == leaf.change));
        if ours.is_some_and(|ours| ours.payload == leaf.payload) && item.change.is_payload(payload) {
            came.insert(leaf.change, (item, payload));
        }
    }
    let (mut step, mut whole) = (Advance::default(), 0);
    for record in &asked.records {
        let Some(live) = replica.log.live().record(record).filter(|_| !left.contains(record)) else { continue };
        // What was let go could be read.
        let was_read = room.store.elsewhere_of(&vault, record)?.iter().any(|elsewhere| elsewhere.was_here);
        let (mut versions, mut aside, mut withheld) = (Vec::new(), Vec::new(), Vec::new());
        for ours in live.changes() {
            // Where the entry stands, only the log would tell.
            let place = Place { change: ours.id, n: live.whole_at(), unix_ms: 0 };
            let Some((item, payload)) = came.get(&ours.id) else {
                withheld.push(ours.id);
                continue;
            };
            let governance = replica.log.core().governance();
            let key_is_lost = governance.commitment(item.epoch).is_some() && !replica.keys.has(item.epoch);
            match open_item(&vault, &replica.keys, &room.at_rest, item, payload, place) {
                Ok((version, _)) => versions.push(version),
                Err(unread) if !was_read => aside.push(*unread),
                // No proof of anything: it is this device that cannot read what it could.
                Err(_) if key_is_lost => return Err(Error::damaged(format!("the key of epoch {}", item.epoch)).into()),
                Err(_) => withheld.push(ours.id),
            }
        }
        if !withheld.is_empty() {
            // Where the log went on, it may say something else by now.
            if head.head.n == replica.head().n {
                return Err(Alarm::refused(head.head.n, &Refusal::Withheld(withheld))
                    .with_heads([head.clone()])
                    .into());
            }
            left.insert(*record);
            continue;
        }
        whole += u64::from(aside.is_empty());
        step.versions.extend(versions);
        step.aside.extend(aside);
        step.heads.push((*record, live.heads()));
    }
    step.state = Some(replica.state_bytes(&room.at_rest));
    keep(replica, room, &step)?;
    Ok((whole, left.into_iter().collect()))
}
