//! Queries that stay open.
//!
//! Owns when an answer is looked for again: when the store says that a record of it was touched, or one that fits.
//! Local writes and syncs ring; nothing is asked on a timer.

use super::query::{Found, Query};
use crate::error::Result;
use crate::vault::Vault;
use futures_util::stream::{Stream, unfold};
use selkie_protocol::id::RecordId;
use selkie_protocol::record::RecordBody;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::future::poll_fn;
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
    shown: Option<Vec<(RecordId, Arc<RecordBody>)>>,
}

impl<T: Serialize + DeserializeOwned> Query<T> {
    /// The answer now, and again whenever it is another: after a write of this app, after a sync. What touches no
    /// record of the answer, and none that would fit, costs next to nothing. Writes of another program are seen with
    /// the next write or sync of this one. An error does not end the stream.
    pub fn watch(self) -> impl Stream<Item = Result<Vec<Found<T>>>> + Send + Unpin {
        let vault = self.of.vault.clone();
        let watched = Watched { query: self, vault, stamp: 0, shown: None };
        Box::pin(unfold(watched, async |mut watched| {
            let answer = watched.next().await;
            Some((answer, watched))
        }))
    }
}

impl<T: Serialize + DeserializeOwned> Watched<T> {
    async fn next(&mut self) -> Result<Vec<Found<T>>> {
        loop {
            let heard = self.vault.slot.bell.rung();
            if self.is_stale()? {
                let answer = self.query.answer().await?;
                self.stamp = answer.stamp;
                let same = self.shown.as_ref().is_some_and(|shown| *shown == answer.shown);
                if !same {
                    let found = answer.shown.iter().map(|one| self.query.typed(one)).collect();
                    self.shown = Some(answer.shown);
                    return found;
                }
            }
            self.vault.slot.bell.after(heard).await;
        }
    }

    /// Whether anything was touched that can make a difference.
    fn is_stale(&mut self) -> Result<bool> {
        let Some(shown) = &self.shown else { return Ok(true) };
        let (room, vault) = (&self.vault.room, self.vault.id());
        let (stamp, touched) = room.store.touched(&vault, self.stamp)?;
        let Some(touched) = touched else { return Ok(true) };
        let shown: BTreeSet<&RecordId> = shown.iter().map(|(record, _)| record).collect();
        for record in touched {
            if shown.contains(&record) || self.query.concerns(room, &vault, &record)? {
                return Ok(true);
            }
        }
        self.stamp = stamp;
        Ok(false)
    }
}
