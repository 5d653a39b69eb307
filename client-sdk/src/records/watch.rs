//! Queries that stay open.
//!
//! Owns when an answer is looked for again: when the store says that a record of it was touched, or one that fits.
//! Local writes and syncs ring; nothing is asked on a timer.

use super::difference::{Difference, between};
use super::query::{Found, Query};
use crate::account::DISK_PAUSE;
use crate::error::Result;
use crate::sync::room::Room;
use crate::vault::Vault;
use futures_util::future::select;
use futures_util::stream::{Stream, unfold};
use selkie_protocol::id::{RecordId, VaultId};
use selkie_protocol::record::RecordBody;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

/// Wakes whoever watches. Says only that something was written: what, the store knows.
#[derive(Debug, Default)]
pub(crate) struct Bell(Mutex<(u64, Vec<Waker>)>);

impl Bell {
    pub(crate) fn ring(&self) {
        let waiting = {
            let mut bell = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            bell.0 += 1;
            std::mem::take(&mut bell.1)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// How often it has rung.
    pub(crate) fn rung(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits until it has rung more often than so.
    pub(crate) async fn after(&self, heard: u64) {
        poll_fn(|context| {
            let mut bell = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if bell.0 > heard {
                return Poll::Ready(());
            }
            if !bell.1.iter().any(|waker| waker.will_wake(context.waker())) {
                bell.1.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

/// What was last shown.
struct Watched<T> {
    query: Query<T>,
    vault: Vault,
    stamp: u64,
    /// The vault is another one than at the last answer.
    moved: bool,
    shown: Option<Vec<Shown>>,
    /// The last look failed, and what had rung by then.
    failed: Option<u64>,
}

type Shown = (RecordId, Arc<RecordBody>);

impl<T: Serialize + DeserializeOwned> Query<T> {
    /// The answer now, and again whenever it is another: after a write of this app, after a sync. What touches no
    /// record of the answer, and none that would fit, costs next to nothing. Writes of another program are seen with
    /// the next write or sync of this one. An error does not end the stream: what could not be read is looked for again
    /// with the next write or sync, or after a minute. [`Query::changes`] tells the same in steps.
    pub fn watch(self) -> impl Stream<Item = Result<Vec<Found<T>>>> + Send + Unpin {
        Box::pin(unfold(Watched::new(self), async |mut watched| {
            let answer = match watched.next().await {
                Ok(shown) => shown.iter().map(|one| watched.query.typed(one)).collect(),
                Err(error) => Err(error),
            };
            Some((answer, watched))
        }))
    }

    /// The same as [`Query::watch`] in steps for a list on the screen: first the answer as what is added to an empty
    /// list, then what turns the list that was shown into the one to show now. An error does not end the stream, and
    /// leaves the list as it is: what comes next begins from there.
    ///
    /// ```no_run
    /// # use futures_util::StreamExt as _;
    /// # async fn example<T: serde::Serialize + serde::de::DeserializeOwned + Clone>(query: selkie_client::Query<T>)
    /// # -> selkie_client::Result<()> {
    /// let (mut list, mut changes) = (Vec::new(), query.changes());
    /// while let Some(difference) = changes.next().await {
    ///     difference?.apply(&mut list);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn changes(self) -> impl Stream<Item = Result<Difference<T>>> + Send + Unpin {
        let told: Vec<Shown> = Vec::new();
        Box::pin(unfold((Watched::new(self), told), async |(mut watched, mut told)| {
            let difference = match watched.next().await {
                Ok(shown) => {
                    let typed = |id, body| watched.query.typed(&(id, body)).map(|found| found.value);
                    let difference = between(&told, &shown).try_map(typed);
                    if difference.is_ok() {
                        told = shown;
                    }
                    difference
                }
                Err(error) => Err(error),
            };
            Some((difference, (watched, told)))
        }))
    }
}

impl<T: Serialize + DeserializeOwned> Watched<T> {
    fn new(query: Query<T>) -> Self {
        let vault = query.of.vault.clone();
        Watched { query, vault, stamp: 0, moved: false, shown: None, failed: None }
    }

    async fn next(&mut self) -> Result<Vec<Shown>> {
        if let Some(heard) = self.failed.take() {
            // A disk that could not be read is left alone until something is written, or for a while.
            let pause = self.vault.account.context().edges.runtime.sleep(DISK_PAUSE);
            select(pin!(self.vault.slot.bell.after(heard)), pause).await;
        }
        loop {
            let here = self.vault.here();
            if here.id() != self.vault.id_as_held() {
                // An account has taken it over: the stamps of the two have nothing to do with each other.
                self.stamp = 0;
                self.moved = true;
                self.vault = here;
            }
            let heard = self.vault.slot.bell.rung();
            match self.look().await {
                Ok(Some(shown)) => return Ok(shown),
                Ok(None) => self.vault.slot.bell.after(heard).await,
                Err(error) => {
                    self.failed = Some(heard);
                    return Err(error);
                }
            }
        }
    }

    /// The answer, if it is another.
    async fn look(&mut self) -> Result<Option<Vec<Shown>>> {
        if !self.moved && !self.is_stale().await? {
            return Ok(None);
        }
        let answer = self.query.answer().await?;
        self.stamp = answer.stamp;
        self.moved = false;
        if self.shown.as_ref() == Some(&answer.shown) {
            return Ok(None);
        }
        self.shown = Some(answer.shown.clone());
        Ok(Some(answer.shown))
    }

    /// Whether anything was touched that can make a difference.
    async fn is_stale(&mut self) -> Result<bool> {
        let Some(shown) = &self.shown else { return Ok(true) };
        let shown: BTreeSet<RecordId> = shown.iter().map(|(record, _)| *record).collect();
        let (since, concern) = (self.stamp, self.query.concern());
        // Records are opened for it, and a sync may have touched thousands.
        let look = move |room: &Room, vault: &VaultId| {
            let (stamp, touched) = room.store.touched(vault, since)?;
            let Some(touched) = touched else { return Ok(None) };
            for record in touched {
                if shown.contains(&record) || concern.holds_for(room, vault, &record)? {
                    return Ok(None);
                }
            }
            Ok(Some(stamp))
        };
        match self.vault.read(look).await? {
            Some(stamp) => {
                self.stamp = stamp;
                Ok(false)
            }
            None => Ok(true),
        }
    }
}
