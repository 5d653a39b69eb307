//! A server that begins a new life: restored from a backup, or claiming to be.
//!
//! Owns the comparison that comes before anything else, and the putting back of what was lost. An honest restore is
//! healed here without an alarm, or told to the person where it cannot be; a server that shows something else than
//! before within one life is caught as ever.

use super::driver::{Round, Step, Trouble, keep_all};
use super::duties::wrap_for;
use super::engine::Event;
use super::replica::Replica;
use crate::api::PageSize;
use crate::error::Error;
use selkie_protocol::id::{Incarnation, UserId};
use selkie_protocol::log::{
    Body, Control, Entry, Extends, Frame, Head, People, Promises, Refusal, SignedHead, Trail, chain,
};
use selkie_protocol::vault::{CreateVault, RestoreTail, SignedHeadBytes};
use selkie_protocol::{Bytes, ErrorCode};

/// How far back it is looked at first where two logs part.
const LOOK_BACK: u64 = 1_000;
const PAGE: PageSize = PageSize { entries: 1_000, bytes: 4 << 20, live_only: true };
/// The one a vault is made with.
const FIRST_EPOCH: u32 = 1;

/// How much is put back in one request: below what a server takes, by its own word or by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Portion {
    entries: u64,
    bytes: usize,
}

const PORTION: Portion = Portion { entries: 1_000, bytes: 3 << 20 };

impl Portion {
    /// The server takes less than that.
    fn smaller(self) -> Option<Portion> {
        (self.entries > 1).then(|| Portion { entries: self.entries / 2, bytes: (self.bytes / 2).max(1) })
    }
}

impl Round<'_> {
    /// Holds the head of a new incarnation against ours.
    pub(super) async fn compare(&mut self) -> Step<Event> {
        let asked = self.room.shared().lives.clone();
        let bytes = self.head_of_server().await?;
        let head = self.signed(&bytes).await?;
        // Who wrote what is put back must be known there first.
        self.account.meet_life(self.room, head.incarnation, &asked).await?;
        let common = self.common_with(&head).await?;
        self.look_for_a_reset(common).await?;
        let missing = self.replica()?.head().n - common;
        self.with_replica(move |replica, room| {
            match missing {
                0 => accept_new_life(replica, head.incarnation),
                missing => replica.state.behind = Some(missing),
            }
            keep_all(replica, room)
        })
        .await?;
        match missing {
            0 => Ok(Event::NotBehind),
            // Somebody who lacks them has written since: there is no place to put them back to.
            missing if common < head.head.n => Err(behind(missing)),
            _ => Ok(Event::Behind { from: common }),
        }
    }

    /// Up to where the log that the server has in its new life is ours.
    async fn common_with(&mut self, theirs: &SignedHead) -> Step<u64> {
        let replica = self.replica()?;
        let (ours, trail, theirs) = (replica.head(), replica.log.trail().clone(), theirs.head);
        let end = ours.n.min(theirs.n);
        if theirs.n <= ours.n && matches!(trail.compare(&theirs), Extends::Yes | Extends::Forgotten) {
            return Ok(theirs.n);
        }
        let mut from = trail.first().max(end.saturating_sub(LOOK_BACK));
        loop {
            match self.walk(&trail, from, end, theirs).await? {
                Some(common) => return Ok(common),
                None if from > trail.first() => from = trail.first(),
                // They parted longer ago than this device remembers.
                None => return Ok(0),
            }
        }
    }

    /// The last position at which both logs have one value, if they had one where the walk begins.
    async fn walk(&self, trail: &Trail, from: u64, end: u64, theirs: Head) -> Step<Option<u64>> {
        let (context, vault) = (self.account.context(), self.vault);
        let Some(value) = trail.at(from) else { return Ok(None) };
        let (mut at, mut common) = (Head { n: from, h: value }, from);
        while at.n < end {
            let after = at.n;
            let page =
                self.account.call(|bearer| async move { context.api.vault_log(&bearer, &vault, after, PAGE).await });
            let frames = page.await?.frames;
            if frames.is_empty() {
                break;
            }
            for frame in &frames {
                let Ok(entry) = Frame::entry_bytes(frame).and_then(Entry::parse) else { return Ok(Some(common)) };
                at = Head { n: at.n + 1, h: chain(&at.h, at.n + 1, &entry.hash()) };
                if common + 1 == at.n && trail.at(at.n) == Some(at.h) {
                    common = at.n;
                }
            }
        }
        let parted_before = common == from && from > 0 && at.n >= theirs.n && at != theirs;
        Ok((!parted_before).then_some(common))
    }

    /// Puts back what stands after a position, as far as this server once signed it: portion by portion, each with the
    /// hashes of what follows up to the signed head. Whoever is cut off in between goes on from where the server is.
    pub(super) async fn restore(&mut self, from: u64) -> Step<Event> {
        let replica = self.replica()?;
        let ours = replica.head().n;
        let signed = replica.state.reached_head().filter(|signed| signed.head.n > from);
        let (Some(head), Some(signed)) = (replica.state.reached, signed) else { return Err(behind(ours - from)) };
        let end = signed.head.n;
        let Some(hashes) = self.hashes(from, end).await? else { return Err(behind(ours - from)) };
        let (mut at, mut portion) = (from, PORTION);
        let mut life = None;
        while at < end {
            let frames = self.portion(at, end, portion).await?;
            let last = at + frames.len() as u64;
            let rest: Vec<u8> = hashes[usize::try_from(last - from).unwrap_or(usize::MAX)..].concat();
            let rest = (!rest.is_empty()).then(|| Bytes::from(rest));
            match self.put_back(RestoreTail { frames, rest, head }).await {
                Ok(restored) => {
                    let restored = self.signed(&restored).await?;
                    self.report.restored += last - at;
                    at = last;
                    life = Some(restored);
                }
                Err(Error::Refused(refusal)) if refusal.code == ErrorCode::PayloadTooLarge => {
                    portion = portion.smaller().ok_or_else(|| behind(ours - at))?;
                }
                Err(Error::Refused(refusal)) => {
                    tracing::info!(%refusal, "the server does not take its own tail back");
                    return Err(behind(ours - at));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let Some(restored) = life else { return Err(behind(ours - from)) };
        let missing = ours.saturating_sub(restored.head.n);
        self.with_replica(move |replica, room| {
            match missing {
                0 => accept_new_life(replica, restored.incarnation),
                missing => replica.state.behind = Some(missing),
            }
            keep_all(replica, room)
        })
        .await?;
        if missing == 0 { Ok(Event::Restored) } else { Err(behind(missing)) }
    }

    /// The server does not have the vault. If it began a new life, the vault was made after its backup: the device that
    /// made it makes it again, from the same first entry, and the rest is put back like the end of any log.
    pub(super) async fn make_again(&mut self, not_found: Error) -> Step<Event> {
        let (context, vault, me) = (self.account.context(), self.vault, self.me);
        let life = context.capabilities().await?.incarnation;
        let replica = self.replica()?;
        let missing = replica.head().n;
        if replica.state.incarnation.is_none_or(|known| known == life) {
            return Err(not_found.into());
        }
        let log = self.account.kept().log;
        let room = self.room.clone();
        let first = context.edges.apart(move || room.store.frames(&vault, 1, 1)).await??.into_iter().next();
        let ours = first.filter(|(_, frame)| {
            let entry = Frame::entry_bytes(frame).and_then(Entry::parse);
            entry.is_ok_and(|entry| (entry.header.user, entry.header.device) == (me.user, me.device))
        });
        let wrap = self.replica()?.keys.epoch(FIRST_EPOCH).and_then(|key| wrap_for(key, &log).ok());
        let (Some((_, frame)), Some(wrap)) = (ours, wrap) else {
            self.with_replica(move |replica, room| {
                replica.state.behind = Some(missing);
                keep_all(replica, room)
            })
            .await?;
            return Err(behind(missing));
        };
        let body = CreateVault { frame: frame.into(), wraps: vec![wrap] };
        let answer = self.account.call(|bearer| {
            let body = &body;
            async move { context.api.create_vault(&bearer, body).await }
        });
        answer.await?;
        tracing::info!("a vault that the server had lost is there again");
        Ok(Event::Reborn(life))
    }

    async fn put_back(&self, body: RestoreTail) -> Result<SignedHeadBytes, Error> {
        let (context, vault) = (self.account.context(), self.vault);
        let answer = self.account.call(|bearer| {
            let body = &body;
            async move { context.api.restore_tail(&bearer, &vault, body).await }
        });
        Ok(answer.await?.head)
    }

    /// The hashes of our entries after a position, if all of them are still here.
    async fn hashes(&self, from: u64, end: u64) -> Step<Option<Vec<[u8; 32]>>> {
        let mut hashes = Vec::new();
        while from + (hashes.len() as u64) < end {
            let at = from + hashes.len() as u64;
            let (room, vault) = (self.room.clone(), self.vault);
            let to = end.min(at + LOOK_BACK);
            let load = move || room.store.frames(&vault, at + 1, to);
            let frames = self.account.context().edges.apart(load).await??;
            let whole = frames.iter().map(|(n, _)| *n).eq(at + 1..=to);
            for (_, frame) in &frames {
                let entry = Frame::entry_bytes(frame).and_then(Entry::parse);
                hashes.push(entry.map_err(|_| Error::damaged("a frame of a vault"))?.hash());
            }
            if !whole {
                return Ok(None);
            }
        }
        Ok(Some(hashes))
    }

    /// Our frames after a position, as many as fit; at least one.
    async fn portion(&self, at: u64, end: u64, portion: Portion) -> Step<Vec<Bytes>> {
        let (room, vault, to) = (self.room.clone(), self.vault, end.min(at + portion.entries));
        let frames = self.account.context().edges.apart(move || room.store.frames(&vault, at + 1, to)).await??;
        let mut bytes = 0;
        let fits = |(_, frame): &(u64, Vec<u8>)| {
            let first = bytes == 0;
            bytes += frame.len();
            first || bytes <= portion.bytes
        };
        Ok(frames.into_iter().take_while(fits).map(|(_, frame)| frame.into()).collect())
    }

    /// Whether an owner has decided to go on without entries that we have.
    async fn look_for_a_reset(&mut self, common: u64) -> Step<()> {
        let (context, vault) = (self.account.context(), self.vault);
        let mut after = common.min(self.replica()?.log.trail().first().saturating_sub(1));
        loop {
            let page =
                self.account.call(|bearer| async move { context.api.controls(&bearer, &vault, after).await }).await?;
            let Some(last) = page.entries.last().map(|placed| placed.n) else { return Ok(()) };
            let more = page.more && last > after;
            after = last;
            // An owner may have signed it on a device that nobody here has heard of yet.
            for user in page.entries.iter().filter_map(|placed| author_of_reset(&placed.entry)) {
                self.learn_person(user).await?;
            }
            let crowd = self.room.crowd();
            let lost = self
                .with_replica(move |replica, room| {
                    let resets = page
                        .entries
                        .iter()
                        .filter_map(|placed| lost_by(replica, placed.n, &placed.entry, common, &crowd.logs));
                    let lost = resets.max();
                    if lost.is_some() {
                        replica.state.reset_offered = lost;
                        keep_all(replica, room)?;
                    }
                    Ok(lost)
                })
                .await?;
            if let Some(lost) = lost {
                return Err(Error::TailReset { lost }.into());
            }
            if !more {
                return Ok(());
            }
        }
    }
}

fn behind(missing: u64) -> Trouble {
    Trouble::Error(Error::ServerBehind { missing })
}

fn author_of_reset(bytes: &[u8]) -> Option<UserId> {
    let entry = Entry::parse(bytes).ok()?;
    matches!(entry.body, Body::Control(Control::ResetTail { .. })).then_some(entry.header.user)
}

/// How many of our entries are lost by this one, if it is a RESET_TAIL that an owner signed and that we do not have.
/// Where others had written before the owner did, it stands in a log that is not ours: what counts then is where the
/// two parted.
fn lost_by(replica: &Replica, n: u64, bytes: &[u8], common: u64, people: &impl People) -> Option<u64> {
    let entry = Entry::parse(bytes).ok()?;
    if !matches!(entry.body, Body::Control(Control::ResetTail { .. })) {
        return None;
    }
    let seen = entry.header.seen;
    let ours = n.checked_sub(1) == Some(seen.n) && replica.log.trail().at(n) == Some(chain(&seen.h, n, &entry.hash()));
    let lost = match replica.log.judge_reset(&entry, people) {
        Ok(lost) => lost,
        // Who signed it, and as what, was found right before this.
        Err(Refusal::Fork { .. } | Refusal::BadSeen { .. }) if n > common => replica.head().n - common,
        Err(_) => return None,
    };
    (!ours && lost > 0).then_some(lost)
}

/// From here on the server's word counts in its new life. What it had promised in the old one and we have not seen may
/// have been lost with it: that is no lie, and what was acknowledged of ours is looked for again.
fn accept_new_life(replica: &mut Replica, incarnation: Incarnation) {
    replica.state.incarnation = Some(incarnation);
    replica.state.promises = Promises::default();
    replica.state.claimed = None;
    // What our key is sealed in may have been lost with it.
    replica.state.sealed_to = None;
    replica.state.behind = None;
    // What it had dropped, because something had taken its place, it may have once more and nothing in its place.
    replica.state.missing_from_before = !replica.state.missing.is_empty();
    if let Some(flight) = &mut replica.in_flight {
        flight.acknowledged = None;
    }
}
