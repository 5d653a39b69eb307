//! How far sync has come, in a form that an app can show: what waits, why, and what would help.
//!
//! Owns the words for it. What it tells is read from the store and from the pulse of the rounds; no request is made.

use super::Account;
use crate::error::{Error, Result};
use crate::store::vaults::Aside;
use crate::sync::pulse::{Beat, Failure};
use crate::sync::room::Room;
use crate::sync::take::waits_for_a_key;
use crate::vault::{Vault, VaultState};
use futures_util::stream::{Stream, unfold};
use selkie_protocol::id::{RecordId, VaultId};
use std::sync::Arc;
use std::time::Duration;

/// No list for people is longer.
const MOST_BLOCKED: usize = 100;
/// How long to leave a disk alone that could not be read.
pub(crate) const DISK_PAUSE: Duration = Duration::from_secs(60);

/// How far sync has come on this device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// All of it in a word.
    pub state: SyncState,
    /// Writes of this device that are not in a log yet, in all vaults.
    pub pending: u64,
    /// Changes of others that cannot be read here, for now.
    pub set_aside: u64,
    /// When this device was last in step with the server, by its own clock. After a start of the app, give or take a
    /// minute.
    pub last_success_ms: Option<u64>,
    /// When the background will try next; missing while a round runs, and where there is no background or nothing to
    /// wait for.
    pub next_attempt_ms: Option<u64>,
    /// How many vaults this device leaves out: see [`Account::left_out`].
    pub left_out: u64,
    /// The app's own [`Conditions`](crate::Conditions) hold rounds back.
    pub held_back: bool,
    /// What does not get on by itself, and what would help; at most a hundred.
    pub blocked: Vec<Blocked>,
    /// How many more there are.
    pub more_blocked: u64,
}

/// How far sync has come, in a word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SyncState {
    /// Nobody has signed up or in on this device: what is here is on this device alone.
    #[default]
    Alone,
    /// The last round did not reach the server. It is tried again.
    Offline,
    /// The last round was put off, by the server or by another program on this device, and the reason, for people. It
    /// is tried again.
    PutOff(String),
    /// A round runs.
    Syncing {
        /// How many vaults are done.
        done: usize,
        /// Of how many; 0 while that is being asked.
        of: usize,
        /// How much is still to be read in the vault that it is at, in records and entries of its log, as far as is
        /// known. What is still to be sent is in [`Status::pending`].
        to_read: u64,
    },
    /// So many writes wait for a round. With 0, there has been none yet.
    Pending(u64),
    /// All is in step, as of then.
    Synced {
        /// By this device's clock.
        at_ms: u64,
    },
    /// Something does not get on by itself, and the first reason: see [`Status::blocked`] for all of them.
    Blocked(String),
}

/// Something that does not get on by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// What it holds up.
    pub what: BlockedPlace,
    /// The reason in one stable word, such as `sign_in_again`; where there is an error, that of
    /// [`Error::word`].
    pub kind: &'static str,
    /// The reason, for people.
    pub reason: String,
    /// What would help, for people.
    pub unblock: String,
}

/// Where something is blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockedPlace {
    /// Everything: the session, the server, the disk.
    Account,
    /// One vault. The others go on.
    Vault {
        /// Which.
        id: VaultId,
        /// What it is called, if this device can read that.
        name: Option<String>,
    },
    /// One record.
    Record {
        /// The vault it is in.
        vault: VaultId,
        /// Which.
        id: RecordId,
    },
}

impl Account {
    /// How far sync has come: as it is now, and again whenever it is otherwise, whoever began the round. Whoever reads
    /// slowly gets the newest and misses what was between. No request is made, and it never ends.
    ///
    /// ```no_run
    /// # use selkie_client::{Account, SyncState};
    /// # use futures_util::StreamExt as _;
    /// # async fn example(account: Account) {
    /// let mut status = account.status();
    /// while let Some(now) = status.next().await {
    ///     match now.state {
    ///         SyncState::Pending(count) => println!("{count} changes are still on this device alone"),
    ///         SyncState::Blocked(why) => println!("{why} {}", now.blocked[0].unblock),
    ///         other => println!("{other:?}"),
    ///     }
    /// }
    /// # }
    /// ```
    pub fn status(&self) -> impl Stream<Item = Status> + Send + Unpin + use<> {
        let watched = (self.clone(), None);
        Box::pin(unfold(watched, async |(account, mut shown): (Account, Option<Status>)| {
            let status = account.status_after(shown.take()).await;
            Some((status.clone(), (account, Some(status))))
        }))
    }

    /// The status, as soon as it is another.
    pub(crate) async fn status_after(&self, shown: Option<Status>) -> Status {
        loop {
            let room = self.room().await;
            let rung = room.as_ref().map(|room| room.pulse.changed.rung()).unwrap_or_default();
            let status = match &room {
                Ok(room) => match self.look(room).await {
                    Ok(status) => status,
                    Err(error) => unreadable(&error),
                },
                Err(error) => unreadable(error),
            };
            if shown.as_ref() != Some(&status) {
                return status;
            }
            match room {
                Ok(room) => room.pulse.changed.after(rung).await,
                Err(_) => self.context().edges.runtime.sleep(DISK_PAUSE).await,
            }
        }
    }

    async fn look(&self, room: &Arc<Room>) -> Result<Status> {
        let beat = room.pulse.beat();
        let mut sum = Sum::default();
        let is_alone = self.is_alone();
        if !is_alone {
            sum.blocked.extend(self.blocked(&beat));
        }
        let kept = room.clone();
        for id in self.context().edges.apart(move || kept.store.vaults()).await?? {
            let vault = Vault::new(self.clone(), room.clone(), id);
            match vault.look_at(&beat, &mut sum).await {
                // Somebody has forgotten it under our hands.
                Err(Error::NotPossible(_)) => {}
                Err(error @ Error::Damaged { .. }) => {
                    sum.blocked.push(blocked(BlockedPlace::Vault { id, name: None }, Failure::from(&error)));
                }
                looked => looked?,
            }
        }
        let Sum { pending, set_aside, mut blocked } = sum;
        if self.kept().keys_superseded() {
            blocked.insert(0, self::blocked(BlockedPlace::Account, Failure::from(&Error::KeysSuperseded)));
        }
        let more_blocked = blocked.len().saturating_sub(MOST_BLOCKED) as u64;
        blocked.truncate(MOST_BLOCKED);
        let state = match (blocked.first(), beat.running, &beat.failure, beat.last_success_ms) {
            (None, None, None, _) if is_alone => SyncState::Alone,
            (Some(first), _, _, _) if first.what == BlockedPlace::Account => SyncState::Blocked(first.reason.clone()),
            (_, Some((done, of)), _, _) => SyncState::Syncing { done, of, to_read: beat.to_read },
            (_, None, Some(failure), _) if failure.kind == Error::OFFLINE => SyncState::Offline,
            (_, None, Some(failure), _) => SyncState::PutOff(failure.reason.clone()),
            (Some(first), None, None, _) => SyncState::Blocked(first.reason.clone()),
            (None, None, None, Some(at_ms)) if pending == 0 => SyncState::Synced { at_ms },
            (None, None, None, _) => SyncState::Pending(pending),
        };
        let Beat { last_success_ms, next_attempt_ms, held_back, .. } = beat;
        let left_out = room.shared().unwanted().count() as u64;
        Ok(Status {
            state,
            pending,
            set_aside,
            last_success_ms,
            next_attempt_ms,
            left_out,
            held_back,
            blocked,
            more_blocked,
        })
    }

    /// What holds up everything.
    fn blocked(&self, beat: &Beat) -> Option<Blocked> {
        let kept = self.kept();
        let over = match self.not_stopped() {
            Err(over) => Some(over),
            Ok(()) if kept.secrets.session.is_none() => {
                Some(Error::sign_in_again(kept.ended.unwrap_or(crate::SignInReason::SignedOut)))
            }
            Ok(()) => None,
        };
        let of_session = over.as_ref().map(Failure::from);
        let failure = of_session.or_else(|| beat.failure.clone()).filter(|failure| !failure.is_retryable);
        failure.map(|failure| blocked(BlockedPlace::Account, failure))
    }
}

#[derive(Default)]
struct Sum {
    pending: u64,
    set_aside: u64,
    blocked: Vec<Blocked>,
}

impl Vault {
    /// Adds what is to be said of this vault.
    async fn look_at(&self, beat: &Beat, sum: &mut Sum) -> Result<()> {
        let glance = self.glance().await?;
        let (counts, aside) = self
            .read(|room, vault| {
                let counts = room.store.counts(vault)?;
                Ok((counts, if counts.aside > 0 { room.store.aside(vault)? } else { Vec::new() }))
            })
            .await?;
        sum.pending += counts.pending;
        sum.set_aside += counts.aside;
        let may_write = glance.role(&self.account.user_id()).is_some_and(|role| role.may_write());
        let failure = match self.state_of(&glance) {
            VaultState::Quarantined(quarantine) => Some(Failure::from(&Error::Quarantined(Box::new(quarantine)))),
            VaultState::ServerBehind { missing } => Some(Failure::from(&Error::ServerBehind { missing })),
            VaultState::TailReset { lost } => Some(Failure::from(&Error::TailReset { lost })),
            VaultState::NotAMember if counts.pending > 0 => Some(held(
                "not_a_member",
                "this person was removed from the vault, and what was written since cannot be sent",
                "An owner or admin of the vault can let them in again. Until then it is kept here.",
            )),
            VaultState::NoKey if glance.waits_for_key => Some(held(
                "no_key",
                "the vault's present key is not here yet",
                "It comes by itself when another device that has it has been online.",
            )),
            VaultState::New | VaultState::Ready if counts.pending > 0 && !may_write => Some(held(
                "read_only",
                "this person may only read in the vault, and what was written before cannot be sent",
                "An owner or admin of the vault can let them write. Until then it is kept here.",
            )),
            _ => beat.of_vaults.get(&self.id()).filter(|failure| !failure.is_retryable).cloned(),
        };
        if let Some(failure) = failure {
            let name = self.name().await?;
            sum.blocked.push(blocked(BlockedPlace::Vault { id: self.id(), name }, failure));
        }
        let comes = |aside: &Aside| glance.key_comes_for(aside);
        let aside = aside.into_iter().filter(|aside| !comes(aside));
        sum.blocked.extend(aside.map(|aside| self.set_aside(aside)));
        Ok(())
    }

    fn set_aside(&self, aside: Aside) -> Blocked {
        let unblock = if waits_for_a_key(&aside) {
            "It is tried again with every round; the key comes when another device that has it has been online."
        } else {
            "Whoever wrote it can write the record again, perhaps with a newer version of the app."
        };
        let failure = held("cannot_be_read", &format!("a change cannot be read here: {}", aside.reason), unblock);
        blocked(BlockedPlace::Record { vault: self.id(), id: aside.record }, failure)
    }
}

fn held(kind: &'static str, reason: &str, unblock: &str) -> Failure {
    Failure { kind, reason: reason.to_owned(), unblock: unblock.to_owned(), is_retryable: false }
}

fn blocked(what: BlockedPlace, failure: Failure) -> Blocked {
    let Failure { kind, reason, unblock, .. } = failure;
    Blocked { what, kind, reason, unblock }
}

/// What this device keeps cannot be read: nothing can be counted.
pub(crate) fn unreadable(error: &Error) -> Status {
    let failure = Failure::from(error);
    Status {
        state: SyncState::Blocked(failure.reason.clone()),
        blocked: vec![blocked(BlockedPlace::Account, failure)],
        ..Status::default()
    }
}
