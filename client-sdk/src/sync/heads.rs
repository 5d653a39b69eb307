//! The server's word: heads it signed, and what it is held to by them.
//!
//! Owns the pinning of its key, the comparison with everything it said before, and what happens when it is caught: the
//! vault is set apart and what was seen is kept.

use super::driver::{MOST_OVERTAKEN, Round, Step, Trouble, keep_all};
use super::replica::Replica;
use super::room::{Crowd, Room};
use crate::error::{Error, Misbehaviour, Quarantine};
use crate::trust::{Acknowledged, Alarm, Exhibit, VERSION, VaultEvidence};
use selkie_protocol::id::{Incarnation, UserId};
use selkie_protocol::log::{Body, Control, Entry, Frame, Head, Refusal, SignedHead};
use selkie_protocol::vault::SignedHeadBytes;
use selkie_protocol::{Bytes, Fixed};
use std::collections::BTreeSet;

/// Frames of our own log that are put into evidence.
const SHOWN_FRAMES: u64 = 8;

impl Round<'_> {
    /// The server's word, if it is the server's.
    pub(crate) async fn signed(&self, bytes: &SignedHeadBytes) -> Step<SignedHead> {
        let forged = |found: &str| {
            Alarm::new(Misbehaviour::ForgedHead, "a head of this vault that the server has signed", found)
        };
        let head = SignedHead::parse(bytes.as_ref()).map_err(|_| forged("something else"))?;
        if head.vault != self.vault {
            return Err(forged("a head of another vault").into());
        }
        let key = match self.room.head_key() {
            Some(key) => key,
            None => self.pin_head_key().await?,
        };
        if !head.is_signed_by(&key) {
            return Err(forged("a head that is not signed with the key this account has known").into());
        }
        Ok(head)
    }

    pub(super) async fn pin_head_key(&self) -> Step<selkie_protocol::sign::PublicKey> {
        let key = self.account.context().capabilities().await?.head_key;
        let room = self.room.clone();
        // Another program may have seen one first.
        let pin = move || {
            let mut pinned = key;
            room.change_shared(|shared| pinned = *shared.head_key.get_or_insert(key))?;
            Ok::<_, Error>(pinned)
        };
        let pinned = self.account.context().edges.apart(pin).await??;
        Ok(selkie_protocol::sign::PublicKey(*pinned))
    }

    /// Another device of this person has seen this head: the server must show it here too.
    pub(crate) async fn heard(&mut self, head: Head, in_life: Incarnation, proof: Option<SignedHead>) -> Step<()> {
        self.load().await?;
        let key = self.room.head_key();
        let proof = proof.filter(|proof| key.is_some_and(|key| proof.is_signed_by(&key)));
        self.with_replica(move |replica, room| {
            // What was seen before an honest restore may be lost: that is dealt with where the heads are compared.
            if replica.state.incarnation != Some(in_life) {
                return Ok(());
            }
            let before = replica.state.promises.clone();
            let seen = replica.state.promises.seen(head, &replica.log);
            let heads = || replica.state.reached_head().into_iter().chain(proof.clone());
            seen.map_err(|refusal| Alarm::refused(head.n, &refusal).with_heads(heads()))?;
            if replica.state.promises != before {
                keep_all(replica, room)?;
            }
            Ok(())
        })
        .await
    }

    /// Another device of this person, which has been in the life that the server is in here, has met one after it: the
    /// server had said that this one is over.
    pub(crate) async fn heard_of_another_life(&mut self, proof: Option<SignedHead>) -> Step<()> {
        self.load().await?;
        let key = self.room.head_key();
        let proof = proof.filter(|proof| key.is_some_and(|key| proof.is_signed_by(&key)));
        // In which life it is now, over its signature.
        let bytes = self.head_of_server().await?;
        let now = self.signed(&bytes).await?;
        let expected = "the life that the server has told another device of";
        let alarm = Alarm::new(Misbehaviour::TwoLives, expected, "the one that was before it");
        let first = self.replica()?.state.first_in_life.as_ref();
        let first = first.and_then(|bytes| SignedHead::parse(bytes.as_ref()).ok());
        Err(alarm.with_heads(proof.into_iter().chain(first).chain([now])).into())
    }

    /// Sets the vault apart and says why. What is kept stays as it was before the lie.
    pub(super) async fn set_apart(&mut self, alarm: Alarm) -> Error {
        if let Err(Trouble::Error(error @ Error::Damaged { .. })) = self.load().await {
            return error;
        }
        // Nobody is accused on the word of a disk that is wrong itself.
        let (room, vault) = (self.room.clone(), self.vault);
        let check = self.account.context().edges.apart(move || crate::vault::check(&room, &vault)).await;
        if let Ok(Ok(check)) = &check
            && !check.is_sound()
        {
            tracing::warn!(kind = %alarm.kind, "it seemed so, but what is kept here is damaged");
            return Error::damaged(check.log.clone().unwrap_or_else(|| "records of a vault".into()));
        }
        tracing::warn!(kind = %alarm.kind, "a vault is set apart");
        let saved = self.save_evidence(&alarm).await;
        let Alarm { kind, expected, found, .. } = alarm;
        let quarantine = Quarantine { kind, expected, found, at_ms: saved.at_ms, evidence: saved.path };
        if let Err(trouble) = self.keep_apart(&quarantine, &saved.name).await {
            tracing::error!(?trouble, "that a vault is set apart could not be written down");
        }
        Error::Quarantined(Box::new(quarantine))
    }

    /// Also where another program goes on with the vault meanwhile.
    async fn keep_apart(&mut self, quarantine: &Quarantine, evidence: &str) -> Step<()> {
        for _ in 0..MOST_OVERTAKEN {
            self.load().await?;
            let (quarantine, evidence) = (quarantine.clone(), evidence.to_owned());
            let keep = move |replica: &mut Replica, room: &Room| {
                replica.state.quarantine = Some(quarantine);
                replica.state.evidence.push(evidence);
                keep_all(replica, room)
            };
            match self.with_replica(keep).await {
                Err(Trouble::Moved) => self.replica = None,
                kept => return kept,
            }
        }
        Err(Trouble::Moved)
    }

    /// When, where a person finds it, and under which name it is kept.
    pub(super) async fn save_evidence(&self, alarm: &Alarm) -> Saved {
        let (context, kept) = (self.account.context(), self.account.kept());
        let at_ms = context.now_ms();
        let states = self.replica.iter().map(|replica| &replica.state);
        let known = states.flat_map(|state| [state.reached, state.claimed]).flatten();
        let shown = alarm.heads.iter().filter_map(|head| Fixed::try_from_slice(&head.to_bytes()));
        let mut heads: Vec<SignedHeadBytes> = Vec::new();
        for head in known.chain(shown) {
            if !heads.contains(&head) {
                heads.push(head);
            }
        }
        let (base, ours) = self.our_frames_before(&heads).await;
        let in_flight = self.replica.as_ref().and_then(|replica| replica.in_flight.as_ref());
        let acknowledged = in_flight.and_then(|flight| {
            let entry = Frame::entry_bytes(&flight.frame).ok()?;
            flight.acknowledged.map(|n| Acknowledged { n, entry: entry.into() })
        });
        let evidence = VaultEvidence {
            version: VERSION,
            kind: alarm.kind,
            seen_at_ms: at_ms,
            server_name: kept.server_name.clone(),
            vid: self.vault,
            expected: alarm.expected.clone(),
            found: alarm.found.clone(),
            head_key: self.room.shared().head_key,
            heads,
            base_n: base.n,
            base_h: base.h.into(),
            people: authors_of(ours.iter().chain(&alarm.served), &self.room.crowd()),
            ours,
            served_after: alarm.served_after,
            served: alarm.served.clone(),
            acknowledged,
        };
        let exhibit = Exhibit::VaultEvidence(evidence);
        let (name, bytes) = (exhibit.file_name(), exhibit.to_bytes());
        let path = context.save_evidence(kept.folder(), name.clone(), bytes).await;
        Saved { at_ms, path, name }
    }

    /// The end of our log, from before all these heads on, as far as it is still here; without what is beside entries.
    async fn our_frames_before(&self, heads: &[SignedHeadBytes]) -> (Head, Vec<Bytes>) {
        let Some(replica) = &self.replica else { return (Head { n: 0, h: self.vault.0 }, Vec::new()) };
        let (trail, ours) = (replica.log.trail().clone(), replica.head());
        let named = heads.iter().filter_map(|head| SignedHead::parse(head.as_ref()).ok()).map(|head| head.head.n);
        let earliest = named.chain([ours.n.saturating_sub(SHOWN_FRAMES) + 1]).min().unwrap_or(ours.n);
        let from = earliest.max(trail.first() + 1);
        let (room, vault) = (self.room.clone(), self.vault);
        let load = move || room.store.frames(&vault, from, ours.n);
        let frames = self.account.context().edges.apart(load).await.ok().and_then(Result::ok).unwrap_or_default();
        // Only what leads to our head without a gap says anything.
        let gapless =
            frames.iter().rev().zip((0..=ours.n).rev()).take_while(|((n, _), expected)| n == expected).count();
        let kept: Vec<Bytes> = frames[frames.len() - gapless..].iter().map(|(_, frame)| bare(frame)).collect();
        let n = ours.n - gapless as u64;
        match trail.at(n) {
            Some(h) => (Head { n, h }, kept),
            None => (ours, Vec::new()),
        }
    }
}

/// A frame without what is beside its entry, except for a note.
pub(super) fn bare(frame: &[u8]) -> Bytes {
    match Frame::parse(frame) {
        Ok(parsed) => parsed.keeping(|_| false).into(),
        Err(_) => frame.into(),
    }
}

/// The account logs of those who wrote these frames, or were added by one.
pub(super) fn authors_of<'a>(frames: impl Iterator<Item = &'a Bytes>, crowd: &Crowd) -> Vec<Vec<Bytes>> {
    let mut named = BTreeSet::new();
    for entry in frames.filter_map(|frame| Frame::entry_bytes(frame).and_then(Entry::parse).ok()) {
        named.insert(entry.header.user);
        if let Body::Control(Control::AddMember { user, .. }) = &entry.body {
            named.insert(*user);
        }
    }
    named.iter().filter_map(|user| crowd.entries.get(user).cloned()).collect()
}

/// Evidence that was saved.
pub(super) struct Saved {
    at_ms: u64,
    pub(super) path: Option<std::path::PathBuf>,
    pub(super) name: String,
}

/// Holds what the server says of its head against everything it has said before. Whether there is anything to keep.
pub(crate) fn note_head(replica: &mut Replica, head: &SignedHead) -> Step<bool> {
    let bytes: SignedHeadBytes = Fixed::try_from_slice(&head.to_bytes()).ok_or(Trouble::Moved)?;
    let before: Vec<SignedHead> =
        replica.state.reached_head().into_iter().chain(replica.state.claimed_head()).collect();
    let twice = |known: &&SignedHead| {
        known.incarnation == head.incarnation && known.head.n == head.head.n && known.head.h != head.head.h
    };
    if let Some(known) = before.iter().find(twice) {
        let expected = format!("the head it has signed before at {}", head.head.n);
        let alarm = Alarm::new(Misbehaviour::TwoHeads, expected, "another one, signed too");
        return Err(alarm.with_heads([known.clone(), head.clone()]).into());
    }
    let ours = replica.head();
    let refused = |refusal: Refusal| {
        Alarm::refused(head.head.n, &refusal).with_heads(before.clone().into_iter().chain([head.clone()]))
    };
    if head.head.n < ours.n {
        return Err(refused(Refusal::Rollback { known: ours.n, offered: head.head.n }).into());
    }
    replica.state.promises.seen(head.head, &replica.log).map_err(refused)?;
    replica.state.incarnation = Some(head.incarnation);
    replica.state.behind = None;
    let known = replica.state.reached_head();
    let first = replica.state.first_in_life.as_ref().and_then(|bytes| SignedHead::parse(bytes.as_ref()).ok());
    let is_first = first.is_none_or(|first| first.incarnation != head.incarnation);
    if is_first {
        replica.state.first_in_life = Some(bytes);
    }
    if head.head.n > ours.n {
        replica.state.claimed = Some(bytes);
        return Ok(true);
    }
    let news = known.is_none_or(|known| known.head != head.head || known.incarnation != head.incarnation);
    if news {
        replica.state.reached = Some(bytes);
    }
    Ok(news || is_first)
}

/// At the end of what the server has: every promise was kept, and nothing was held back.
pub(super) fn check_the_end(replica: &Replica, me: &UserId) -> Step<()> {
    let n = replica.head().n;
    let heads = || replica.state.reached_head().into_iter().chain(replica.state.claimed_head());
    let refused = |refusal: Refusal| Alarm::refused(n, &refusal).with_heads(heads());
    replica.state.promises.all_kept(&replica.log).map_err(refused)?;
    // Who was removed reads the log when it has gone on without them: what was superseded since may be gone.
    if !replica.state.missing.is_empty() && replica.role(me).is_some() {
        let missing = replica.state.missing.iter().map(|(_, change)| *change).collect();
        return Err(refused(Refusal::Withheld(missing)).into());
    }
    Ok(())
}
