//! Going on without what a restored server has lost.
//!
//! Owns the reading of the whole log anew, beside what is kept, and the saving of this device's own writes that the new
//! log does not have: they are written once more. Nothing here happens before a person has agreed.

use super::driver::{Round, Step, Trouble};
use super::heads::note_head;
use super::replica::{Replica, State};
use super::room::{Recollection, Room};
use super::take::{Reading, Refused};
use crate::api::PageSize;
use crate::error::{Error, Misbehaviour};
use crate::keys::vault::Keyring;
use crate::store::vaults::{Again, NewWrite};
use crate::trust::Alarm;
use selkie_protocol::Bytes;
use selkie_protocol::id::{ChangeId, DeviceId, VaultId};
use selkie_protocol::log::{Frame, People, Refusal, VaultLog};
use std::collections::BTreeSet;

const PAGE: PageSize = PageSize { entries: 1_000, bytes: 4 << 20, live_only: false };

/// A log that is read anew.
#[derive(Default)]
struct Anew {
    replica: Option<Replica>,
    /// Changes of this device that it has.
    ours: BTreeSet<ChangeId>,
}

impl Round<'_> {
    /// Reads the log anew and puts it in the place of ours. Own writes that stood after `kept_to` and are not in it are
    /// written once more.
    pub(crate) async fn start_over(&mut self, kept_to: u64) -> Step<()> {
        self.load().await?;
        let (context, vault, me, now_ms) =
            (self.account.context(), self.vault, self.me, self.account.context().now_ms());
        let mut anew = Anew::default();
        let mut asked = BTreeSet::new();
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
                break;
            }
            let (crowd, room) = (self.room.crowd(), self.room.clone());
            let take = move || {
                let mut frames = page.frames.as_slice();
                let first = anew.replica.is_none();
                if let (None, Some((create, rest))) = (&anew.replica, frames.split_first()) {
                    anew.replica = Some(begin(&vault, create, &crowd.logs)?);
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
                room.store.stage(&vault, first, &taken.step.versions, &taken.step.aside)?;
                Ok((anew, taken.needs))
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
        let Anew { replica, ours } = anew;
        let Some(replica) = replica else { return Err(Trouble::Moved) };
        let room = self.room.clone();
        let lost = move || {
            let lost = lost_writes(&room, &vault, &me.device, kept_to, &ours)?;
            let again = lost.into_iter().map(|write| Ok(Again { collides: collides(&room, &replica, &write)?, write }));
            Ok::<_, Error>((again.collect::<Result<Vec<_>, Error>>()?, replica))
        };
        let (again, replica) = context.edges.apart(lost).await??;
        let Replica { log, state, .. } = replica;
        self.replace_by(log, state, Keyring::default(), again).await
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
    in_new: &BTreeSet<ChangeId>,
) -> Result<Vec<NewWrite>, Error> {
    let mut lost = room.store.current(vault, None)?;
    lost.retain(|version| version.device == *device && version.n > kept_to && !in_new.contains(&version.change));
    lost.sort_by_key(|version| (version.n, version.index));
    Ok(lost.into_iter().map(|one| NewWrite { record: one.record, shelf: one.shelf, sealed: one.sealed }).collect())
}
