//! What is missing and can be fetched: keys of the vault, account logs of its people; and what they make readable.
//!
//! Owns the fetching. Which key counts is decided in `keys`, which log in `trust`.

use super::driver::{Round, Step, keep, keep_all};
use super::engine::Event;
use super::replica::{Me, Replica};
use super::room::Room;
use super::take::{Place, open_item};
use crate::account::Account;
use crate::error::{Error, Misbehaviour, Result};
use crate::keys::vault::Found;
use crate::store::vaults::Advance;
use crate::trust::Alarm;
use selkie_protocol::id::UserId;
use selkie_protocol::log::PageItem;
use std::collections::BTreeMap;
use std::sync::Arc;

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
        Ok(Event::KeysLearned { missing })
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
