//! A server that begins a new life: restored from a backup, or claiming to be.
//!
//! Owns the comparison that comes before anything else, and the putting back of what was lost. An honest restore is
//! healed here without an alarm; a server that shows something else than it showed before is caught as ever.

use super::driver::{Round, Step, Trouble, keep_all};
use super::engine::Event;
use super::replica::Replica;
use crate::error::Error;
use crate::trust::Alarm;
use selkie_protocol::Bytes;
use selkie_protocol::id::Incarnation;
use selkie_protocol::log::{Body, Entry, Extends, People, Promises, Refusal, chain};
use selkie_protocol::vault::RestoreTail;

impl Round<'_> {
    /// Holds the head of a new incarnation against ours.
    pub(super) async fn compare(&mut self) -> Step<Event> {
        self.look_for_a_reset().await?;
        let bytes = self.head_of_server().await?;
        let head = self.signed(&bytes).await?;
        self.with_replica(move |replica, room| {
            let ours = replica.head();
            if head.head.n >= ours.n {
                accept_new_life(replica, head.incarnation);
                keep_all(replica, room)?;
                return Ok(Event::NotBehind);
            }
            match replica.log.compare(&head.head) {
                Extends::Forked => {
                    let heads = replica.state.reached_head().into_iter().chain([head.clone()]);
                    let refusal = Refusal::Fork { n: head.head.n };
                    Err(Alarm::refused(head.head.n, &refusal).with_heads(heads).into())
                }
                Extends::Yes | Extends::Forgotten | Extends::Shorter => {
                    replica.state.behind = Some(ours.n - head.head.n);
                    keep_all(replica, room)?;
                    Ok(Event::Behind { from: head.head.n })
                }
            }
        })
        .await
    }

    /// Puts back what stands after a position, as far as this server once signed it.
    pub(super) async fn restore(&mut self, from: u64) -> Step<Event> {
        let (room, vault) = (self.room.clone(), self.vault);
        let replica = self.replica()?;
        let ours = replica.head().n;
        let behind = || Trouble::Error(Error::ServerBehind { missing: ours - from });
        let reached = replica.state.reached.filter(|_| replica.state.reached_head().is_some_and(|h| h.head.n > from));
        let (Some(head), Some(signed)) = (reached, replica.state.reached_head()) else { return Err(behind()) };
        let frames =
            self.account.context().edges.apart(move || room.store.frames(&vault, from + 1, signed.head.n)).await??;
        let whole = frames.iter().map(|(n, _)| *n).eq(from + 1..=signed.head.n);
        if !whole {
            return Err(behind());
        }
        let count = frames.len() as u64;
        let body = RestoreTail { frames: frames.into_iter().map(|(_, frame)| Bytes::from(frame)).collect(), head };
        let context = self.account.context();
        let answer = self
            .account
            .call(|bearer| {
                let body = &body;
                async move { context.api.restore_tail(&bearer, &vault, body).await }
            })
            .await;
        let restored = match answer {
            Ok(restored) => self.signed(&restored.head).await?,
            Err(Error::Refused(refusal)) => {
                tracing::info!(%refusal, "the server does not take its own tail back");
                return Err(behind());
            }
            Err(error) => return Err(error.into()),
        };
        self.report.restored += count;
        self.with_replica(move |replica, room| {
            if restored.head.n < replica.head().n {
                let missing = replica.head().n - restored.head.n;
                replica.state.behind = Some(missing);
                keep_all(replica, room)?;
                return Err(Error::ServerBehind { missing }.into());
            }
            accept_new_life(replica, restored.incarnation);
            keep_all(replica, room)
        })
        .await?;
        Ok(Event::Restored)
    }

    /// Whether an owner has decided to go on without entries that we have.
    async fn look_for_a_reset(&mut self) -> Step<()> {
        let (context, vault) = (self.account.context(), self.vault);
        let mut after = self.replica()?.log.trail().first().saturating_sub(1);
        loop {
            let page =
                self.account.call(|bearer| async move { context.api.controls(&bearer, &vault, after).await }).await?;
            let Some(last) = page.entries.last().map(|placed| placed.n) else { return Ok(()) };
            let more = page.more && last > after;
            after = last;
            let crowd = self.room.crowd();
            let lost = self
                .with_replica(move |replica, room| {
                    let resets =
                        page.entries.iter().filter_map(|placed| lost_by(replica, placed.n, &placed.entry, &crowd.logs));
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

/// How many of our entries are lost by this one, if it is a RESET_TAIL that an owner signed and that we do not have.
fn lost_by(replica: &Replica, n: u64, bytes: &[u8], people: &impl People) -> Option<u64> {
    let entry = Entry::parse(bytes).ok()?;
    if !matches!(entry.body, Body::Control(selkie_protocol::log::Control::ResetTail { .. })) {
        return None;
    }
    let seen = entry.header.seen;
    let ours = n.checked_sub(1) == Some(seen.n) && replica.log.trail().at(n) == Some(chain(&seen.h, n, &entry.hash()));
    let lost = replica.log.judge_reset(&entry, people).ok()?;
    (!ours && lost > 0).then_some(lost)
}

/// From here on the server's word counts in its new life. What it had promised in the old one and we have not seen may
/// have been lost with it: that is no lie, and what was acknowledged of ours is looked for again.
fn accept_new_life(replica: &mut Replica, incarnation: Incarnation) {
    replica.state.incarnation = Some(incarnation);
    replica.state.promises = Promises::default();
    replica.state.claimed = None;
    replica.state.behind = None;
    if let Some(flight) = &mut replica.in_flight {
        flight.acknowledged = None;
    }
}
