//! What is missing and can be fetched: keys of the vault, account logs of its people, payloads that a restored server
//! has once more; and what they make readable.
//!
//! Owns the fetching. Which key counts is decided in `keys`, which log in `trust`.

use super::driver::{Round, Step, keep, keep_all};
use super::engine::Event;
use super::heads::check_the_end;
use super::replica::{Me, Replica};
use super::room::Room;
use super::take::{Place, open_item};
use crate::account::Account;
use crate::api::PageSize;
use crate::error::{Error, Misbehaviour, Result};
use crate::keys::vault::Found;
use crate::store::vaults::Advance;
use crate::trust::Alarm;
use selkie_protocol::Bytes;
use selkie_protocol::id::UserId;
use selkie_protocol::log::{Body, Frame, PageItem, Refusal, payload_hash};
use std::collections::BTreeMap;
use std::sync::Arc;

const LIVE: PageSize = PageSize { entries: 1_000, bytes: 4 << 20, live_only: true };

impl Round<'_> {
    pub(super) async fn learn_keys(&mut self) -> Step<Event> {
        let kept = self.account.kept();
        let Some(master) = kept.secrets.master_key.clone() else { return Ok(Event::KeysLearned { missing: true }) };
        let (context, vault, me) = (self.account.context(), self.vault, self.me);
        let answer = self.account.call(|bearer| async move { context.api.wraps(&bearer, &vault).await });
        let wraps = answer.await?.wraps;
        let (found, readable) = self
            .with_replica(move |replica, room| {
                let governance = replica.log.core().governance();
                let links = &replica.state.links;
                let found = replica.keys.open_wraps(vault, &me.user, &master, &wraps, governance, links);
                if !matches!(found, Found::New(_)) {
                    return Ok((found, Readable::new()));
                }
                let epoch = replica.log.core().governance().epoch();
                if replica.keys.has(epoch) {
                    replica.state.sealed_to = Some((epoch, master.generation()));
                }
                let keys = replica.keys.epochs().map(|key| room.at_rest.seal_key(key)).collect();
                keep(
                    replica,
                    room,
                    &Advance { state: Some(replica.state_bytes(&room.at_rest)), keys, ..Advance::default() },
                )?;
                Ok((found, open_what_was_aside(replica, room, &me)?))
            })
            .await?;
        self.count_readable(&readable);
        if let Found::Wrong { epoch } = found {
            let expected = format!("the key of epoch {epoch} that the vault's log commits to");
            let alarm = Alarm::new(Misbehaviour::WrongVaultKey, expected, "another key, or none at all");
            // The log is right, so it is followed; without the key nothing is read or written.
            let saved = self.save_evidence(&alarm).await;
            self.with_replica(move |replica, room| {
                replica.state.evidence.push(saved.name);
                keep_all(replica, room)
            })
            .await?;
            self.complaint = Some(Error::ServerMisbehaved { kind: alarm.kind, evidence: saved.path });
        }
        let missing = self.keys_missing(self.replica()?);
        if missing {
            self.with_replica(keep_that_it_was_not_given).await?;
        }
        Ok(Event::KeysLearned { missing })
    }

    /// What is live and did not come in an earlier life of the server: a member must be shown it in this one.
    pub(super) async fn look_for_what_is_missing(&mut self) -> Step<()> {
        let (context, vault, me, head) = (self.account.context(), self.vault, self.me, self.replica()?.head().n);
        tracing::info!("payloads are looked for that did not come before the server was restored");
        let mut after = 0;
        while after < head && !self.replica()?.state.missing.is_empty() {
            let answer =
                self.account.call(|bearer| async move { context.api.vault_log(&bearer, &vault, after, LIVE).await });
            let page = answer.await?;
            // In yet another life it is looked for anew, once our log was held against that one.
            if self.replica()?.state.incarnation != Some(self.signed(&page.head).await?.incarnation) {
                return Ok(());
            }
            let frames = page.frames;
            if frames.is_empty() {
                break;
            }
            after += frames.len() as u64;
            self.with_replica(move |replica, room| take_what_was_missing(replica, room, after, &frames)).await?;
        }
        self.with_replica(move |replica, room| {
            check_the_end(replica, &me.user)?;
            replica.state.missing_from_before = false;
            keep_all(replica, room)
        })
        .await
    }

    /// What could not be read when the program was last started may be readable now.
    pub(super) async fn try_again_what_was_aside(&mut self) -> Step<()> {
        if self.replica()?.tried_aside {
            return Ok(());
        }
        let me = self.me;
        let readable = self
            .with_replica(move |replica, room| {
                replica.tried_aside = true;
                open_what_was_aside(replica, room, &me)
            })
            .await?;
        self.count_readable(&readable);
        Ok(())
    }

    /// What was taken without its key belongs to a collection from now on.
    fn count_readable(&mut self, readable: &Readable) {
        readable.iter().for_each(|(name, many)| self.report.of_collection(name).pulled += many);
    }
}

/// Whoever looks at the vault later knows that asking once more does not bring the key: somebody has to give it.
fn keep_that_it_was_not_given(replica: &mut Replica, room: &Room) -> Step<()> {
    let epoch = replica.log.core().governance().epoch();
    if replica.state.key_not_given == Some(epoch) {
        return Ok(());
    }
    replica.state.key_not_given = Some(epoch);
    keep_all(replica, room)
}

/// Keeps the payloads that are missing here and stand in these frames, the last of them at `last`. Which changes are
/// live, and the hashes of their payloads, our own log says.
fn take_what_was_missing(replica: &mut Replica, room: &Room, last: u64, frames: &[Bytes]) -> Step<()> {
    let (vault, mut step) = (replica.vault(), Advance::default());
    let first = last + 1 - frames.len() as u64;
    for (n, bytes) in (first..).zip(frames) {
        let frame = Frame::parse(bytes).map_err(|malformed| Alarm::refused(n, &Refusal::from(malformed)))?;
        let (header, Body::Data(data)) = (&frame.entry.header, &frame.entry.body) else { continue };
        let (user, device, dev_seq, epoch) = (header.user, header.device, header.dev_seq, header.epoch);
        for (index, change) in (0..).zip(data.changes()) {
            let item = PageItem { user, device, dev_seq, epoch, head: true, change };
            let leaf = item.leaf(&vault);
            let name = (leaf.record, leaf.change);
            let Some(payload) = frame.payload(index).filter(|_| replica.state.missing.contains(&name)) else {
                continue;
            };
            let Some(live) = replica.log.live().record(&leaf.record) else { continue };
            if !live.changes().any(|ours| ours.id == leaf.change && ours.payload == payload_hash(payload)) {
                continue;
            }
            replica.state.missing.remove(&name);
            let place = Place { change: leaf.change, n, unix_ms: header.unix_ms };
            match open_item(&vault, &replica.keys, &room.at_rest, &item, payload, place) {
                Ok((version, _)) => {
                    step.heads.push((leaf.record, live.heads()));
                    step.versions.push(version);
                }
                Err(aside) => step.aside.push(*aside),
            }
        }
    }
    if step.versions.is_empty() && step.aside.is_empty() {
        return Ok(());
    }
    step.state = Some(replica.state_bytes(&room.at_rest));
    keep(replica, room, &step)
}

/// How many changes of others became readable, by collection.
type Readable = BTreeMap<String, usize>;

/// How many changes are tried, and kept, at a time: a log may be longer than what fits into memory.
const AT_A_TIME: usize = 1_000;

/// Tries again what could not be read before.
fn open_what_was_aside(replica: &mut Replica, room: &Room, me: &Me) -> Step<Readable> {
    let (vault, mut readable, mut last) = (replica.vault(), Readable::new(), None);
    loop {
        let tried = room.store.aside_after(&vault, last.as_ref(), AT_A_TIME)?;
        last = tried.last().map(|aside| aside.change);
        if last.is_none() {
            return Ok(readable);
        }
        let mut step = Advance::default();
        for aside in tried {
            let Ok(item) = PageItem::parse(&aside.item) else { continue };
            let place = Place { change: aside.change, n: aside.n, unix_ms: aside.unix_ms };
            let opened = open_item(&vault, &replica.keys, &room.at_rest, &item, &aside.payload, place);
            let Ok((version, body)) = opened else { continue };
            if let Some(live) = replica.log.live().record(&aside.record) {
                step.heads.push((aside.record, live.heads()));
            }
            if version.device != me.device {
                *readable.entry(body.collection).or_default() += 1;
            }
            step.versions.push(version);
            step.no_longer_aside.push(aside.change);
        }
        if !step.versions.is_empty() {
            keep(replica, room, &step)?;
        }
    }
}

/// Fetches what is missing of somebody's account log and takes it, if it continues what is known.
pub(crate) async fn learn_person(account: &Account, room: &Arc<Room>, me: UserId, user: UserId) -> Result<()> {
    if user == me {
        let kept = account.sync_log().await?;
        room.meet_own(&kept.log, &kept.entries);
        return Ok(());
    }
    let crowd = room.crowd();
    let known = crowd.logs.get(&user);
    let from = known.map_or(0, |log| log.head().index);
    let context = account.context();
    let served = account.call(|bearer| async move { context.fetch_log_of(&bearer, Some(&user), from).await }).await?;
    match crate::trust::person(&user, known, crowd.entries.get(&user), &served) {
        Ok((log, entries)) => {
            let (room, log_bytes) = (room.clone(), selkie_protocol::Face::Cbor.encode(&entries));
            let keep = move || {
                room.store.keep_person(&user, &log_bytes)?;
                room.meet(&log, &entries);
                Ok(())
            };
            context.edges.apart(keep).await?
        }
        Err(kind) => {
            let kept = account.kept();
            let ours = crowd.entries.get(&user).map(Vec::as_slice).unwrap_or_default();
            let mut evidence = crate::trust::Evidence::new(kind, context.now_ms(), &kept.server_name)
                .ours(known, ours)
                .served(from, &served);
            evidence.uid = Some(me);
            Err(context.caught(kind, evidence).await)
        }
    }
}
