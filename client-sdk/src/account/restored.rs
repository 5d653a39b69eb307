//! A server that begins a new life, restored from a backup or claiming to be, as far as people and their devices are
//! concerned.
//!
//! Owns what is done before anything else is believed in that life: the account logs that the server lost the end of
//! are given back to it, this account's own and those of everybody known here. Whoever signed an entry is in the entry,
//! so it does not matter who brings it. Where the server's log goes on in another way than ours, somebody signed in
//! before this device was there: a person decides. What vaults lost is dealt with in `sync::restore`.

use super::Account;
use super::kept::{Kept, Life};
use super::sign_in::MOST_CONFLICTS;
use crate::context::Context;
use crate::error::{Error, Misbehaviour, Result};
use crate::sync::room::{Room, Shared};
use crate::trust::{Evidence, Stands, grown, stands};
use selkie_protocol::account::RestoreLog;
use selkie_protocol::account_log::AccountLog;
use selkie_protocol::id::{Incarnation, UserId};
use selkie_protocol::{Bytes, ErrorCode, Private};
use std::sync::Arc;

/// Entries in one request: with the longest ones they fit by far.
const PORTION: usize = 100;
/// No server is restored so often; who says so wants to be forgotten for what it was before.
const MOST_LIVES: usize = 1_000;

/// What became of giving a log back.
pub(super) enum Given {
    /// All of ours is there, and this is the whole log.
    Whole(Vec<Bytes>),
    /// The server's goes on in another way, without so many of our entries.
    Parted { missing: u64 },
    /// The server does not take so many of our entries.
    Refused { missing: u64 },
    /// It does not even begin like ours.
    OtherPerson,
}

impl Context {
    /// The life that the server is in, if it is another than the one in which this account was last in step.
    pub(super) async fn another_life(&self, kept: &Kept) -> Result<Option<Incarnation>> {
        let life = self.capabilities().await?.incarnation;
        Ok(kept.life.is_none_or(|known| known.incarnation != life).then_some(life))
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
    pub(super) async fn give_back_own(&self, kept: &Kept, bearer: &Private) -> Result<Kept> {
        let served = self.fetch_log(bearer, 0).await?;
        let whole = match self.give_back(bearer, None, &kept.entries, served).await? {
            Given::Whole(whole) => whole,
            Given::Parted { missing } | Given::Refused { missing } => return Err(Error::AccountBehind { missing }),
            Given::OtherPerson => return Err(Error::misbehaved(Misbehaviour::Fork)),
        };
        let mut kept = kept.clone();
        let last = kept.entries.last().ok_or_else(|| Error::Corrupt("the account log".into()))?;
        let (log, new) = grown(&kept.log, last, &whole[kept.entries.len() - 1..]).map_err(Error::misbehaved)?;
        kept.log = log;
        kept.entries.extend(new);
        Ok(kept)
    }

    /// Gives back what a server lacks of a log: `served` is all that it has.
    pub(super) async fn give_back(
        &self,
        bearer: &Private,
        whose: Option<&UserId>,
        ours: &[Bytes],
        mut served: Vec<Bytes>,
    ) -> Result<Given> {
        let mut faster = 0;
        loop {
            let lost = match stands(ours, &served) {
                Stands::Whole => return Ok(Given::Whole(served)),
                Stands::Part { common } => &ours[common..],
                Stands::Parted { common: 0 } => return Ok(Given::OtherPerson),
                Stands::Parted { common } => return Ok(Given::Parted { missing: (ours.len() - common) as u64 }),
            };
            let from = served.len() as u64;
            let entries = lost[..lost.len().min(PORTION)].to_vec();
            let message = RestoreLog { from, entries: entries.clone() };
            match self.api.restore_log(bearer, whose, &message).await {
                Ok(_) => {
                    tracing::info!(count = entries.len(), "the end of an account log was put back");
                    served.extend(entries);
                }
                Err(error) if error.code() == Some(ErrorCode::LogConflict) && faster < MOST_CONFLICTS => {
                    // Other devices put back the same.
                    faster += 1;
                    served = self.fetch_log_of(bearer, whose, 0).await?;
                }
                // The session answers these, with a new token.
                Err(error) if matches!(error.code(), Some(ErrorCode::TokenExpired | ErrorCode::Unauthenticated)) => {
                    return Err(error);
                }
                Err(Error::Refused(refusal) | Error::LimitReached(refusal)) => {
                    tracing::warn!(%refusal, "the server does not take back the end of an account log");
                    return Ok(Given::Refused { missing: lost.len() as u64 });
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Account {
    /// The server is in this life, as it answers whoever knew of these when they asked. If it is a new one, it gets
    /// back what it lost of the logs that are known here before anything in it is judged by them.
    pub(crate) async fn meet_life(&self, room: &Arc<Room>, life: Incarnation, asked: &[Incarnation]) -> Result<()> {
        let kept = room.clone();
        self.context().edges.apart(move || kept.look_at_shared()).await??;
        let (lives, known) = (room.shared().lives.clone(), self.kept().life.map(|known| known.incarnation));
        if lives != asked && lives.last() != Some(&life) {
            return Err(met_by_another());
        }
        // A life that some other answer spoke of, and no round has met.
        let elsewhere = known.filter(|known| *known != life && !lives.contains(known));
        let is_present = lives.last() == Some(&life);
        if Shared::is_over(&lives, life)
            || is_present && elsewhere.is_some()
            || !is_present && lives.len() >= MOST_LIVES
        {
            return Err(self.two_lives().await);
        }
        if !is_present {
            if !lives.is_empty() {
                self.give_back_others(room).await?;
            }
            let kept = room.clone();
            let keep = move || {
                kept.change_shared(|shared| {
                    if shared.lives == lives {
                        // Whoever is cut off after this finds both.
                        shared.lives.extend(elsewhere);
                        shared.begin_life(life);
                    }
                })?;
                if kept.shared().lives.last() == Some(&life) { Ok(()) } else { Err(met_by_another()) }
            };
            self.context().edges.apart(keep).await??;
        }
        if known == Some(life) {
            return Ok(());
        }
        self.sync_log().await?;
        let context = self.context();
        let lost = self.call(|bearer| async move { context.api.account(&bearer).await }).await?.keys_superseded;
        let met = move |kept: &mut Kept| {
            let mut met = match known {
                None => Life::first(life),
                Some(_) => Life::after_a_restore(life),
            };
            if lost {
                met.lacks_keys_of(&kept.log);
            }
            kept.life = Some(met);
        };
        self.change(met).await?;
        room.pulse.changed.ring();
        Ok(())
    }

    async fn give_back_others(&self, room: &Arc<Room>) -> Result<()> {
        let (crowd, me) = (room.crowd(), self.user_id());
        for (user, ours) in crowd.entries.iter().filter(|(user, _)| **user != me) {
            let context = self.context();
            let given = self
                .call(|bearer| async move {
                    let served = context.fetch_log_of(&bearer, Some(user), 0).await?;
                    Ok((context.give_back(&bearer, Some(user), ours, served.clone()).await?, served))
                })
                .await;
            match given {
                Ok((Given::Parted { missing }, served)) => self.follow_fork(room, user, &served, missing).await?,
                Ok((Given::OtherPerson, _)) => return Err(Error::misbehaved(Misbehaviour::ForgedLog)),
                // What is known here stays. If the server hides it, that is noticed where it matters.
                Ok((Given::Whole(_) | Given::Refused { .. }, _)) => {}
                // They have no account there any more. Their device knows it, and says so.
                Err(error) if error.code() == Some(ErrorCode::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The server was caught living on in a life that it had ended.
    pub(super) async fn two_lives(&self) -> Error {
        let (context, kept) = (self.context(), self.kept());
        let evidence = Evidence::new(Misbehaviour::TwoLives, context.now_ms(), &kept.server_name)
            .ours(Some(&kept.log), &kept.entries);
        context.caught(Misbehaviour::TwoLives, evidence).await
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

/// Another program on this device has met a life of the server since this one asked. What is known there says how that
/// answer is to be taken, and it may be an old one by now.
fn met_by_another() -> Error {
    Error::RetryLater { after: None, why: "another program has just come into step with the server".into() }
}
