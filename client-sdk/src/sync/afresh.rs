//! Going on without what a restored server has lost, and fetching once more what is damaged here.
//!
//! Owns the reading of the whole log anew, beside what is kept, and the saving of this device's own writes that the new
//! log does not have: they are written once more. Nothing here happens before a person has agreed.

use super::driver::{Round, Step, Trouble};
use super::heads::{check_the_end, note_head};
use super::replica::{InFlight, Replica, State};
use super::room::{Recollection, Room};
use super::take::{Place, Reading, Refused, open_item};
use crate::api::{Contents, PageSize};
use crate::error::{Error, Misbehaviour};
use crate::keys::vault::Keyring;
use crate::store::vaults::{Again, Fresh, NewWrite, Pending, Settlement, Version};
use crate::trust::Alarm;
use selkie_protocol::id::{ChangeId, DeviceId, RecordId, VaultId};
use selkie_protocol::log::{Body, Frame, Head, PageItem, People, Refusal, VaultLog};
use selkie_protocol::record::RecordBody;
use selkie_protocol::{Bytes, ErrorCode};
use std::collections::BTreeSet;

const PAGE: PageSize = PageSize { entries: 1_000, bytes: 4 << 20, live_only: false };

/// A log that is read anew.
#[derive(Default)]
struct Anew {
    replica: Option<Replica>,
    /// Changes of this device that it has.
    ours: BTreeSet<ChangeId>,
    /// What was being sent and is in it.
    sent: Vec<(u64, Option<ChangeId>)>,
    settlements: Vec<Settlement>,
}

/// What is known of a vault that is read anew, and holds for the new log as well: above all that the server must show
/// what it has shown before.
#[derive(Clone)]
struct Before {
    head: Head,
    state: State,
    in_flight: Option<InFlight>,
}

impl Before {
    fn holds_for(self, replica: &mut Replica) -> Result<(), Refusal> {
        let Before { head, state, in_flight } = self;
        replica.state.promises = state.promises;
        replica.state.promises.seen(head, &replica.log)?;
        replica.state.evidence = state.evidence;
        replica.state.sealed_to = state.sealed_to;
        replica.state.rotation_due = state.rotation_due;
        replica.in_flight = in_flight;
        Ok(())
    }
}

impl Round<'_> {
    /// Reads the log anew and puts it in the place of ours. Own writes that stood after `kept_to` and are not in it are
    /// written once more.
    pub(crate) async fn start_over(&mut self, kept_to: u64) -> Step<()> {
        self.load().await?;
        let (room, vault, me) = (self.room.clone(), self.vault, self.me);
        let let_go =
            self.with_replica(move |replica, room| Ok(let_go_since(replica, room, &me.device, kept_to)?)).await?;
        let Anew { replica, ours, .. } = self.read_anew(None, Keyring::default()).await?;
        let Some(replica) = replica else { return Err(Trouble::Moved) };
        let lost = move || {
            let lost = lost_writes(&room, &vault, &me.device, kept_to, let_go, &ours)?;
            let again = lost.into_iter().map(|write| Ok(Again { collides: collides(&room, &replica, &write)?, write }));
            Ok::<_, Error>((again.collect::<Result<Vec<_>, Error>>()?, replica))
        };
        let (again, mut replica) = self.account.context().edges.apart(lost).await??;
        replica.keys = Keyring::default();
        self.replace_by(replica, Fresh { again, ..Fresh::default() }).await
    }

    /// Fetches the vault once more, whole, and puts it in the place of what is kept: for what is damaged, and for a
    /// history that was let go. What is to be sent stays, but for writes that cannot be read any more: these are named.
    pub(crate) async fn fetch_again(&mut self) -> Step<Vec<RecordId>> {
        self.contents = Contents::Now;
        let before = match self.load().await {
            Ok(()) => self.replica.take(),
            Err(Trouble::Error(Error::Damaged { .. })) => None,
            Err(trouble) => return Err(trouble),
        };
        if let Some(quarantine) = before.as_ref().and_then(|before| before.state.quarantine.clone()) {
            return Err(Error::Quarantined(Box::new(quarantine)).into());
        }
        if before.as_ref().is_some_and(|before| !before.state.born) {
            let why = "the server has not heard of the vault yet, so there is nothing to fetch";
            return Err(Error::NotPossible(why.into()).into());
        }
        let (before, keys) = match before {
            Some(Replica { log, state, in_flight, keys, .. }) => {
                (Some(Before { head: log.head(), state, in_flight }), keys)
            }
            None => (None, Keyring::default()),
        };
        let head = self.head_of_server().await?;
        let life = self.signed(&head).await?.incarnation;
        if before.as_ref().and_then(|before| before.state.incarnation).is_some_and(|known| known != life) {
            let why = "the server was restored from a backup: sync first, so that nothing it has lost is lost here";
            return Err(Error::NotPossible(why.into()).into());
        }
        if before.is_none() {
            self.revision().await?;
        }
        match self.read_anew(before.clone(), keys).await {
            Ok(Anew { replica, sent, settlements, .. }) => {
                let replica = replica.ok_or(Trouble::Moved)?;
                check_the_end(&replica, &self.me.user)?;
                if !replica.state.missing.is_empty() {
                    let why = "you were removed from the vault, and the server no longer has all that is kept here";
                    return Err(Error::NotPossible(why.into()).into());
                }
                let fresh = Fresh { sent, settlements, ..Fresh::default() };
                self.replace_by(replica, fresh).await?;
            }
            // The server has let go of what is old.
            Err(Trouble::Error(error)) if error.code() == Some(ErrorCode::ResyncFromCheckpoint) => {
                let carry = move |replica: &mut Replica| before.map_or(Ok(()), |before| before.holds_for(replica));
                if !self.begin_after(0, true, carry).await? {
                    return Err(error.into());
                }
            }
            Err(trouble) => return Err(trouble),
        }
        // Only now that nothing else can fail: else they were gone and nobody had heard of it.
        let given_up = self.give_up_what_cannot_be_read().await?;
        match self.come_into_step(false).await {
            Err(Trouble::Error(error)) if error.is_retryable() => {
                tracing::info!(%error, "the vault is whole again, and comes into step with the next round");
            }
            Err(Trouble::Moved) => tracing::info!("the vault is whole again, and another program goes on with it"),
            outcome => outcome?,
        }
        Ok(given_up)
    }

    /// From which the vault is gone on with, whether what is kept can be read or not.
    async fn revision(&mut self) -> Step<u64> {
        let gone = || Error::NotPossible("this device does not keep that vault".into());
        self.revision = self.revision_kept().await?.ok_or_else(gone)?;
        Ok(self.revision)
    }

    /// Takes away writes that nobody can read any more: they would hold up all others. What can be read and lies in the
    /// wrong place is put where it belongs.
    pub(crate) async fn give_up_what_cannot_be_read(&mut self) -> Step<Vec<RecordId>> {
        let revision = self.revision().await?;
        let (room, vault) = (self.room.clone(), self.vault);
        self.replica = None;
        let look = move || {
            let shelf_of = |pending: &Pending| {
                let plain = room.at_rest.open_record(&vault, &pending.record, &pending.sealed).ok()?;
                let body = RecordBody::from_bytes(&plain).ok()?;
                Some(room.at_rest.shelf(&vault, &body.collection))
            };
            let outbox = room.store.outbox(&vault, usize::MAX)?;
            let (mut unreadable, mut misplaced) = (Vec::new(), Vec::new());
            for pending in outbox {
                match shelf_of(&pending) {
                    Some(shelf) if shelf == pending.shelf => {}
                    Some(shelf) => misplaced.push((pending.seq, shelf)),
                    None => unreadable.push((pending.seq, pending.record)),
                }
            }
            if !misplaced.is_empty() {
                room.store.put_on_shelves(&vault, &misplaced)?;
            }
            if !unreadable.is_empty() {
                tracing::warn!(writes = unreadable.len(), "writes that cannot be read any more are given up");
                let seqs: Vec<u64> = unreadable.iter().map(|(seq, _)| *seq).collect();
                room.store.take_back(&vault, revision, &seqs)?.ok_or(Trouble::Moved)?;
            }
            Ok(unreadable.into_iter().map(|(_, record)| record).collect())
        };
        self.account.context().edges.apart(look).await?
    }

    /// Reads the whole log, beside what is kept.
    async fn read_anew(&mut self, mut before: Option<Before>, mut keys: Keyring) -> Step<Anew> {
        let (context, vault, me, now_ms) =
            (self.account.context(), self.vault, self.me, self.account.context().now_ms());
        let mut anew = Anew::default();
        let mut asked = BTreeSet::new();
        let revision = self.stage_anew().await?;
        loop {
            let after = anew.replica.as_ref().map_or(0, |replica| replica.head().n);
            let page =
                self.account.call(|bearer| async move { context.api.vault_log(&bearer, &vault, after, PAGE).await });
            let page = page.await?;
            let head = self.signed(&page.head).await?;
            if page.frames.is_empty() {
                if after < head.head.n || anew.replica.is_none() {
                    let refusal = Refusal::Rollback { known: head.head.n, offered: after };
                    return Err(Alarm::refused(after + 1, &refusal).with_heads([head]).into());
                }
                return Ok(anew);
            }
            let (crowd, room) = (self.room.crowd(), self.room.clone());
            let (carried, ring) = (before.take(), std::mem::take(&mut keys));
            let take = move || {
                let mut frames = page.frames.as_slice();
                if let (None, Some((create, rest))) = (&anew.replica, frames.split_first()) {
                    let mut begun = begin(&vault, create, &crowd.logs)?;
                    begun.keys = ring;
                    if let Some(carried) = carried {
                        carried.holds_for(&mut begun).map_err(|refusal| Alarm::refused(1, &refusal))?;
                    }
                    anew.replica = Some(begun);
                    frames = rest;
                }
                let Some(replica) = &mut anew.replica else { return Err(Trouble::Moved) };
                note_head(replica, &head)?;
                let recall = Recollection { room: &room, vault };
                let reading = Reading { me, people: &crowd.logs, at_rest: &room.at_rest, recall: &recall, now_ms };
                let after = replica.head().n;
                let taken = reading.take(replica, frames).map_err(|Refused { n, refusal }| {
                    Alarm::refused(n, &refusal).with_heads([head]).with_served(after, frames)
                })?;
                let own = taken.step.versions.iter().filter(|version| version.device == me.device);
                anew.ours.extend(own.map(|version| version.change));
                let own = taken.step.aside.iter().map(|aside| aside.change);
                anew.ours.extend(own);
                anew.sent.extend(taken.step.sent);
                anew.settlements.extend(taken.step.settlements);
                match room.store.stage(&vault, revision, &taken.step.versions, &taken.step.aside)? {
                    true => Ok((anew, taken.needs)),
                    false => Err(Trouble::Moved),
                }
            };
            let (back, needs) = match context.edges.apart(take).await? {
                Ok(done) => done,
                Err(Trouble::Error(error)) => return Err(error.into()),
                Err(other) => return Err(other),
            };
            anew = back;
            if let Some((user, index)) = needs {
                if !asked.insert((user, index)) {
                    return Err(Alarm::refused(after + 1, &Refusal::AccountLogNeeded { user, index }).into());
                }
                self.learn_person(user).await?;
            }
        }
    }
}

fn begin(vault: &VaultId, create: &Bytes, people: &impl People) -> Step<Replica> {
    let alarm = |refusal: Refusal| Trouble::from(Alarm::refused(1, &refusal));
    let frame = Frame::parse(create).map_err(|malformed| alarm(malformed.into()))?;
    // Whoever made the vault is known here: this device has read its first entry before.
    let (log, _) = VaultLog::create(&frame.entry, people).map_err(alarm)?;
    if log.core().vault() != *vault {
        return Err(Alarm::new(Misbehaviour::ForgedEntry, "the first entry of this vault", "another").into());
    }
    Ok(Replica::new(log, State::new(true)))
}

/// Whether the new log has something of this record that this device has not seen: then the two were written apart, and
/// are settled like any conflict.
fn collides(room: &Room, new: &Replica, write: &NewWrite) -> Result<bool, Error> {
    let known = room.store.versions(&new.vault(), &write.record)?;
    let heads = new.log.live().record(&write.record).map(|live| live.heads()).unwrap_or_default();
    Ok(heads.iter().any(|head| !known.iter().any(|version| version.change == *head)))
}

/// What this device had written last of each record after a position, where the new log does not have it.
fn lost_writes(
    room: &Room,
    vault: &VaultId,
    device: &DeviceId,
    kept_to: u64,
    let_go: Vec<Version>,
    in_new: &BTreeSet<ChangeId>,
) -> Result<Vec<NewWrite>, Error> {
    let mut lost = room.store.current(vault, None)?;
    lost.extend(let_go);
    lost.retain(|version| version.device == *device && version.n > kept_to && !in_new.contains(&version.change));
    lost.sort_by_key(|version| (version.n, version.index));
    Ok(lost.into_iter().map(|one| NewWrite { record: one.record, shelf: one.shelf, sealed: one.sealed }).collect())
}

/// What this device has let go of its own writes after a position: the entries as they came are still here.
fn let_go_since(replica: &Replica, room: &Room, device: &DeviceId, kept_to: u64) -> Result<Vec<Version>, Error> {
    let (vault, mut found) = (replica.vault(), Vec::new());
    let elsewhere = room.store.elsewhere(&vault)?;
    let elsewhere: BTreeSet<ChangeId> = elsewhere.into_iter().map(|one| one.change).collect();
    if elsewhere.is_empty() {
        return Ok(found);
    }
    for (n, bytes) in room.store.frames(&vault, kept_to.saturating_add(1), replica.head().n)? {
        let Ok(frame) = Frame::parse(&bytes) else { continue };
        let (header, Body::Data(data)) = (&frame.entry.header, &frame.entry.body) else { continue };
        let (user, dev_seq, epoch) = (header.user, header.dev_seq, header.epoch);
        for change in data.changes().filter(|_| header.device == *device) {
            let item = PageItem { user, device: *device, dev_seq, epoch, head: true, change };
            let place = Place { change: item.leaf(&vault).change, n, unix_ms: header.unix_ms };
            let Some(payload) = frame.payload(change.index).filter(|_| elsewhere.contains(&place.change)) else {
                continue;
            };
            if let Ok((version, _)) = open_item(&vault, &replica.keys, &room.at_rest, &item, payload, place) {
                found.push(version);
            }
        }
    }
    Ok(found)
}
