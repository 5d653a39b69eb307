//! A server that begins a new life, restored from a backup or claiming to be, as far as people and their devices are
//! concerned.
//!
//! Owns what is done before anything else is believed in that life: the account logs that the server lost the end of
//! are given back to it, this account's own and those of everybody known here. Whoever signed an entry is in the entry,
//! so it does not matter who brings it. Where the server's log goes on in another way than ours, somebody signed in
//! before this device was there: a person decides. What vaults lost is dealt with in `sync::restore`.

use super::Account;
use super::kept::{Kept, Life};
use crate::context::Context;
use crate::error::{Error, Misbehaviour, Result};
use crate::sync::room::{Room, Shared};
use crate::trust::{Evidence, Generations, Stands, grown, stands};
use selkie_protocol::account::RestoreLog;
use selkie_protocol::account_log::{AccountLog, Entry, Payload};
use selkie_protocol::id::{Incarnation, UserId};
use selkie_protocol::{Bytes, ErrorCode, Private};
use std::sync::Arc;

/// Entries in one request: with the longest ones they fit by far.
const PORTION: usize = 100;

impl Context {
    /// The life that the server is in, if it is another than the one in which this account was last in step.
    pub(super) async fn another_life(&self, kept: &Kept) -> Result<Option<Incarnation>> {
        let Some(known) = kept.life else { return Ok(None) };
        let life = self.capabilities().await?.incarnation;
        Ok((life != known.incarnation).then_some(life))
    }

    /// The same, for something that a restore could explain.
    pub(super) async fn another_life_explains(&self, kind: Misbehaviour, kept: &Kept) -> Result<Option<Incarnation>> {
        let explained = matches!(
            kind,
            Misbehaviour::Rollback | Misbehaviour::Fork | Misbehaviour::PasswordRollback | Misbehaviour::WrongKeybag
        );
        if explained { self.another_life(kept).await } else { Ok(None) }
    }

    /// Gives our own log back, as far as it is missing, and returns it with what the server has beyond it.
    pub(super) async fn give_back_own(&self, kept: &Kept, bearer: &Private, life: Incarnation) -> Result<Kept> {
        let served = self.fetch_log(bearer, 0).await?;
        let given = self.give_back(bearer, None, &kept.entries, &served).await?;
        let mut kept = kept.clone();
        if let (Some(last), true) = (kept.entries.last(), served.len() > kept.entries.len()) {
            let (log, new) = grown(&kept.log, last, &served[kept.entries.len() - 1..]).map_err(Error::misbehaved)?;
            kept.log = log;
            kept.entries.extend(new);
        }
        kept.life = Some(begun(life, &kept.log, &given));
        Ok(kept)
    }

    /// Gives back what a server lacks of a log, and returns that.
    pub(super) async fn give_back(
        &self,
        bearer: &Private,
        whose: Option<&UserId>,
        ours: &[Bytes],
        served: &[Bytes],
    ) -> Result<Vec<Bytes>> {
        let lost = match stands(ours, served) {
            Stands::Whole => return Ok(Vec::new()),
            Stands::Part { common } => &ours[common..],
            Stands::Parted { common } => return Err(behind(ours.len() - common)),
        };
        let mut from = ours.len() - lost.len();
        for entries in lost.chunks(PORTION) {
            let message = RestoreLog { from: from as u64, entries: entries.to_vec() };
            match self.api.restore_log(bearer, whose, &message).await {
                Ok(_) => from += entries.len(),
                Err(Error::Refused(refusal)) if refusal.code == ErrorCode::LogConflict => {
                    return Err(Error::RetryLater { after: None, why: "other devices put back the same".into() });
                }
                Err(Error::Refused(refusal)) => {
                    tracing::info!(%refusal, "the server does not take back the end of an account log");
                    return Err(behind(ours.len() - from));
                }
                Err(error) => return Err(error),
            }
        }
        tracing::info!(count = lost.len(), "the end of an account log was put back");
        Ok(lost.to_vec())
    }
}

impl Account {
    /// The server is in this life. If it is a new one, it gets back what it lost of the logs that are known here before
    /// anything in it is judged by them.
    pub(crate) async fn meet_life(&self, room: &Arc<Room>, life: Incarnation) -> Result<()> {
        let lives = room.shared().lives.clone();
        if Shared::is_over(&lives, life) {
            return Err(self.two_lives().await);
        }
        if lives.last() != Some(&life) {
            if !lives.is_empty() {
                self.give_back_others(room).await?;
            }
            let kept = room.clone();
            let keep = move || kept.change_shared(|shared| shared.begin_life(life));
            self.context().edges.apart(keep).await??;
        }
        match self.kept().life {
            Some(known) if known.incarnation == life => Ok(()),
            Some(_) => {
                self.sync_log().await?;
                // If nothing was lost, that has not told it of the new life.
                let met = move |kept: &mut Kept| {
                    if kept.life.is_none_or(|known| known.incarnation != life) {
                        kept.life = Some(Life::after(life, &kept.log));
                    }
                };
                self.change(met).await.map(drop)
            }
            None => self.change(move |kept| kept.life = Some(Life::unbroken(life))).await.map(drop),
        }
    }

    /// The server was caught living on in a life that it had ended.
    pub(super) async fn two_lives(&self) -> Error {
        let (context, kept) = (self.context(), self.kept());
        let evidence = Evidence::new(Misbehaviour::TwoLives, context.now_ms(), &kept.server_name)
            .ours(Some(&kept.log), &kept.entries);
        context.caught(Misbehaviour::TwoLives, evidence).await
    }

    async fn give_back_others(&self, room: &Arc<Room>) -> Result<()> {
        let (crowd, me) = (room.crowd(), self.user_id());
        for (user, ours) in crowd.entries.iter().filter(|(user, _)| **user != me) {
            let context = self.context();
            let fetched = self.call(|bearer| async move { context.fetch_log_of(&bearer, Some(user), 0).await }).await;
            let served = match fetched {
                Ok(served) => served,
                // They have no account there any more. Their device knows it, and says so.
                Err(error) if error.code() == Some(ErrorCode::NotFound) => continue,
                Err(error) => return Err(error),
            };
            let given = self
                .call(|bearer| {
                    let served = &served;
                    async move { context.give_back(&bearer, Some(user), ours, served).await }
                })
                .await;
            match given {
                Err(Error::AccountBehind { missing }) => self.follow_fork(room, user, &served, missing).await?,
                given => drop(given?),
            }
        }
        Ok(())
    }

    /// Somebody went on without the end of their log: they, or whoever has their identity key, and against who has that
    /// an entry in the old log would be no help either. What they do with it is theirs to decide, so it is followed.
    async fn follow_fork(&self, room: &Arc<Room>, user: &UserId, served: &[Bytes], missing: u64) -> Result<()> {
        let log = AccountLog::replay(served.iter().map(|entry| &**entry))
            .ok()
            .filter(|log| log.user() == *user)
            .ok_or_else(|| Error::misbehaved(Misbehaviour::ForgedLog))?;
        tracing::warn!(%user, missing, "after a restore of the server somebody's account went on without its end");
        let (room, served, user) = (room.clone(), served.to_vec(), *user);
        let keep = move || {
            room.store.keep_person(&user, &selkie_protocol::Face::Cbor.encode(&served))?;
            room.meet_anew(&log, &served);
            Ok(())
        };
        self.context().edges.apart(keep).await?
    }
}

fn behind(missing: usize) -> Error {
    Error::AccountBehind { missing: missing as u64 }
}

/// A life that began with the loss of these entries.
pub(super) fn begun(life: Incarnation, log: &AccountLog, lost: &[Bytes]) -> Life {
    let is_key = |bytes: &Bytes| {
        let payload = Entry::parse(bytes).map(|entry| entry.body.payload);
        matches!(payload, Ok(Payload::PasswordGeneration(_) | Payload::RecoveryKey { .. }))
    };
    Life { incarnation: life, began_with: Generations::of(log), keys_superseded: lost.iter().any(is_key) }
}
